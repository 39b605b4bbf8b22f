package main

import (
	"sync"
	"syscall"
	"time"
)

// pace gives every operation its latency, and lets all bytes through at one rate.
type pace struct {
	sync.Mutex
	read, write time.Duration
	rate        float64 // bytes a second; 0 for any
	next        time.Time
}

// passes returns when so many bytes have come through.
func (pace *pace) passes(size int, now time.Time) time.Time {
	if pace.rate == 0 || size == 0 {
		return now
	}
	pace.Lock()
	defer pace.Unlock()
	if pace.next.Before(now) {
		pace.next = now
	}
	pace.next = pace.next.Add(time.Duration(float64(size) / pace.rate * float64(time.Second)))
	return pace.next
}

// asks waits as an operation that changes nothing does.
func (pace *pace) asks() { sleepUntil(time.Now().Add(pace.read)) }

// changes waits as an operation that changes something does.
func (pace *pace) changes() { sleepUntil(time.Now().Add(pace.write)) }

// reads waits for bytes that were asked for at a time.
func (pace *pace) reads(size int, since time.Time) {
	sleepUntil(pace.passes(size, since).Add(pace.read))
}

func sleepUntil(when time.Time) {
	// The kernel's sleep ends some 60 microseconds late, which is taken off. That of Go's runtime ends up to a millisecond late.
	const late = 60 * time.Microsecond
	if wait := time.Until(when) - late; wait > 0 {
		left := syscall.NsecToTimespec(wait.Nanoseconds())
		for syscall.Nanosleep(&left, &left) == syscall.EINTR {
		}
	}
}

// behind keeps when the writes of open files have reached the server: as a client of NFS does, a write returns at once, and a
// flush, which every close is, or an fsync waits for all of the file's.
type behind struct {
	sync.Mutex
	files map[uint64]time.Time
}

// Ahead of the server a client keeps so much in its memory.
const longestBehind = 250 * time.Millisecond

func (behind *behind) wrote(file uint64, size int, pace *pace) {
	now := time.Now()
	done := pace.passes(size, now).Add(pace.write)
	behind.Lock()
	if behind.files[file].Before(done) {
		behind.files[file] = done
	}
	behind.Unlock()
	sleepUntil(done.Add(-longestBehind))
}

func (behind *behind) flushed(file uint64) {
	behind.Lock()
	done, some := behind.files[file]
	delete(behind.files, file)
	behind.Unlock()
	if some {
		sleepUntil(done)
	}
}
