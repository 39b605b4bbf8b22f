package main

import (
	"strings"
	"sync"
	"time"
)

// prefixes counts the requests of each second and prefix, and refuses what is too much, as S3 does with 503.
type prefixes struct {
	sync.Mutex
	limits *limits
	began  time.Time
	second int64
	seen   map[string]int64
}

// admits says whether a request may pass.
func (prefixes *prefixes) admits(kind, path string, now time.Time) bool {
	limits := prefixes.limits
	prefixes.Lock()
	defer prefixes.Unlock()
	since := now.Sub(prefixes.began).Seconds()
	if limits.StormEvery > 0 {
		// In the middle, so that what begins with a storm or waits for one is not special.
		if at := since - limits.StormEvery*float64(int64(since/limits.StormEvery)); at >= limits.StormEvery/2 && at < limits.StormEvery/2+limits.Storm {
			return false
		}
	}
	most, what := limits.Puts, "puts "
	if kind == "GET" || kind == "HEAD" || kind == "LIST" {
		most, what = limits.Gets, "gets "
	}
	if most <= 0 {
		return true
	}
	if second := int64(since); second != prefixes.second {
		prefixes.second, prefixes.seen = second, map[string]int64{}
	}
	name := what + prefix(path, limits.PrefixDepth)
	prefixes.seen[name]++
	return prefixes.seen[name] <= most
}

// prefix is the bucket and the first parts of the key, but not the object's own name.
func prefix(path string, depth int) string {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	return strings.Join(parts[:min(len(parts), 1+depth)], "/")
}
