package main

import (
	"math"
	"sync"
	"time"
)

// limits is what the front is told: seconds, and bytes a second. 0 is none.
type limits struct {
	Connection   float64 `json:"connection"`
	Total        float64 `json:"total"`
	FirstByte    float64 `json:"first_byte"`
	FirstByteP99 float64 `json:"first_byte_p99"`
	Put          float64 `json:"put"`
	PutP99       float64 `json:"put_p99"`
	List         float64 `json:"list"`
	ListP99      float64 `json:"list_p99"`
	Gets         int64   `json:"gets"`
	Puts         int64   `json:"puts"`
	PrefixDepth  int     `json:"prefix_depth"`
	Stalls       float64 `json:"stalls"`
	Stall        float64 `json:"stall"`
	StormEvery   float64 `json:"storm_every"`
	Storm        float64 `json:"storm"`
	Seed         uint64  `json:"seed"`
}

// The 99th percentile of the standard normal distribution.
const z99 = 2.3263478740408408

// dice gives the n-th request of a kind the same numbers in every run with the same seed.
type dice struct {
	sync.Mutex
	seed  uint64
	drawn map[string]uint64
}

// begin starts the sequences of a seed anew, so that who comes next meets the same delays.
func (dice *dice) begin(seed uint64) {
	dice.Lock()
	defer dice.Unlock()
	dice.seed = seed
	dice.drawn = map[string]uint64{}
}

// throw returns a number between 0 and 1, both excluded.
func (dice *dice) throw(kind string) float64 {
	dice.Lock()
	defer dice.Unlock()
	mixed := dice.seed
	for _, letter := range []byte(kind) {
		mixed = mix(mixed ^ uint64(letter))
	}
	mixed = mix(mixed + dice.drawn[kind])
	dice.drawn[kind]++
	return (float64(mixed>>11) + 0.5) / (1 << 53)
}

// mix is the finalizer of splitmix64.
func mix(state uint64) uint64 {
	state += 0x9e3779b97f4a7c15
	state = (state ^ state>>30) * 0xbf58476d1ce4e5b9
	state = (state ^ state>>27) * 0x94d049bb133111eb
	return state ^ state>>31
}

// delay is lognormal, as answers of S3 are: a median, and a 99th percentile; or constant where there is none.
func delay(median, p99, thrown float64) time.Duration {
	if p99 > median && median > 0 {
		median *= math.Exp(math.Log(p99/median) / z99 * math.Sqrt2 * math.Erfinv(2*thrown-1))
	}
	return time.Duration(median * float64(time.Second))
}

// wait returns how long a request of a kind waits for its first byte.
func (limits *limits) wait(kind string, dice *dice) time.Duration {
	switch kind {
	case "GET", "HEAD":
		// HEAD has numbers of its own, so that a reader's delays do not depend on who else asked.
		wait := delay(limits.FirstByte, limits.FirstByteP99, dice.throw(kind))
		if limits.Stalls > 0 && dice.throw(kind+" stall") < limits.Stalls {
			wait += time.Duration(limits.Stall * float64(time.Second))
		}
		return wait
	case "LIST":
		return delay(limits.List, limits.ListP99, dice.throw(kind))
	default:
		return delay(limits.Put, limits.PutP99, dice.throw("PUT"))
	}
}
