// Package schedule says when a probe is due. Its functions are pure: they take times and return times.
package schedule

import (
	"hash/fnv"
	"time"
)

// Next returns the first time after t at which the probe of that name is due: every interval, at a phase hashed from the
// name. So a restart keeps the times, and endpoints do not start together.
func Next(name string, interval time.Duration, t time.Time) time.Time {
	slot := t.Truncate(interval).Add(phase(name, interval))
	for !slot.After(t) {
		slot = slot.Add(interval)
	}
	for prev := slot.Add(-interval); prev.After(t); prev = prev.Add(-interval) {
		slot = prev
	}
	return slot
}

func phase(name string, interval time.Duration) time.Duration {
	h := fnv.New64a()
	h.Write([]byte(name))
	return time.Duration(h.Sum64() % uint64(interval))
}
