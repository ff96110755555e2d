// Package schedule says when a probe is due. Its functions are pure: they take times and return times.
package schedule

import (
	"hash/fnv"
	"time"

	"github.com/robfig/cron/v3"
)

// Plan is when the cycles of one endpoint are due.
type Plan struct {
	Name     string        // whose hash is the phase of the interval
	Interval time.Duration // from start to start; of no meaning where Cron is set
	Cron     cron.Schedule // nil = by Interval. Its hours are UTC's unless it names a zone
	Windows  []Window      // when cycles may start; none = always
}

// Next returns the first time after t at which a cycle is due, the zero time if there is none: by Cron, or every Interval
// at a phase hashed from the name. So a restart keeps the times, and endpoints do not start together. What would be due
// outside of the windows is due as the next one opens.
func (p Plan) Next(t time.Time) time.Time {
	if p.Cron == nil {
		return p.allowed(every(p.Name, p.Interval, t))
	}
	next := p.Cron.Next(t.UTC())
	if next.IsZero() {
		return next
	}
	return p.allowed(next)
}

// After returns when the next cycle is due after one that began at started, which need not have been when it was due:
// the first one begins at once. By Interval at least half of it lies between the two.
func (p Plan) After(started time.Time) time.Time {
	if p.Cron == nil {
		started = started.Add(p.Interval / 2)
	}
	return p.Next(started)
}

// Open reports whether a cycle may run at t, and until when; the zero time is for ever.
func (p Plan) Open(t time.Time) (until time.Time, open bool) {
	if len(p.Windows) == 0 {
		return time.Time{}, true
	}
	at := t
	for until.Sub(t) <= week {
		end, ok := p.latestEnd(at)
		if !ok {
			return until, open
		}
		at, until, open = end, end, true
	}
	return time.Time{}, true // windows that touch each other all week long
}

// latestEnd returns the latest end of the windows that hold t.
func (p Plan) latestEnd(t time.Time) (end time.Time, ok bool) {
	for _, w := range p.Windows {
		if e, holds := w.holds(t); holds && e.After(end) {
			end, ok = e, true
		}
	}
	return end, ok
}

// allowed returns t if it lies in a window, else when the next one opens.
func (p Plan) allowed(t time.Time) time.Time {
	if _, open := p.Open(t); open {
		return t
	}
	var first time.Time
	for _, w := range p.Windows {
		if from := w.opens(t); !from.IsZero() && (first.IsZero() || from.Before(first)) {
			first = from
		}
	}
	return first
}

// every returns the first time after t of those that are interval apart, at a phase hashed from the name.
func every(name string, interval time.Duration, t time.Time) time.Time {
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
