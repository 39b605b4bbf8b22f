package main

import (
	"io"
	"sync"
	"time"
)

const (
	piece = 64 << 10
	burst = 5 * time.Millisecond
)

// pace lets bytes through at a rate, in the order in which they are asked for.
type pace struct {
	sync.Mutex
	rate float64 // bytes a second; 0 for any
	next time.Time
}

// turn returns when the next bytes may pass.
func (pace *pace) turn(size int, now time.Time) time.Time {
	if pace.rate == 0 {
		return now
	}
	pace.Lock()
	defer pace.Unlock()
	if earliest := now.Add(-burst); pace.next.Before(earliest) {
		pace.next = earliest
	}
	pace.next = pace.next.Add(time.Duration(float64(size) / pace.rate * float64(time.Second)))
	return pace.next
}

// paced is a body that comes through several paces at once.
type paced struct {
	io.ReadCloser
	paces []*pace
	seen  func(int)
}

func (body *paced) Read(buffer []byte) (int, error) {
	if len(body.paces) > 0 && len(buffer) > piece {
		buffer = buffer[:piece]
	}
	size, err := body.ReadCloser.Read(buffer)
	body.seen(size)
	now := time.Now()
	latest := now
	for _, one := range body.paces {
		if turn := one.turn(size, now); turn.After(latest) {
			latest = turn
		}
	}
	if wait := latest.Sub(now); wait > time.Millisecond {
		time.Sleep(wait)
	}
	return size, err
}
