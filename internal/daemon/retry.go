package daemon

import (
	"time"

	"github.com/inferprobe/inferprobe/internal/probe"
)

const (
	// retryAfter is the distance from the end of a cycle that failed or was interrupted to the next; it doubles with
	// each that follows.
	retryAfter = time.Minute
	// killedAfter is the distance from the start of a cycle in which the process was killed to the next; it doubles
	// likewise. It is longer: such a cycle has put its load on the endpoint, and may be what got the process killed.
	killedAfter = 15 * time.Minute
)

// retry returns when to try again after a cycle that brought no result, the zero time if the last one brought one. A
// cycle that failed is not tried again for as long as it took, so that an endpoint that answers nothing is not under
// load for more than half of the time.
func (s *status) retry() time.Time {
	if s.unfinished > 0 {
		return s.lastStart.Add(double(killedAfter, s.unfinished))
	}
	failures := 0
	for failures < len(s.cycles) && s.cycles[failures].Failure != "" {
		failures++
	}
	if failures == 0 {
		return time.Time{}
	}
	last := s.cycles[0]
	wait := double(retryAfter, failures)
	if last.Failure != probe.CycleInterrupted {
		wait = max(wait, last.Ended.Sub(last.Started))
	}
	return last.Ended.Add(wait)
}

// double returns first for n = 1 and twice as much for each n more, up to some weeks.
func double(first time.Duration, n int) time.Duration { return first << min(n-1, 12) }

// sooner returns when the endpoint is to be tried again, where that is before due, when its next cycle is due by the
// schedule. Windows hold for that, too.
func (p *endpointProbe) sooner(due time.Time) time.Time {
	p.mu.Lock()
	at, paused := p.status.retry(), p.status.paused
	p.mu.Unlock()
	if _, open := p.plan.Open(at); at.IsZero() || paused || !open || !due.IsZero() && !at.Before(due) {
		return due
	}
	return at
}
