package sweep

import (
	"sync"
	"time"
)

const (
	settleWindows = 3    // windows that must agree
	settleSpread  = 0.05 // (highest − lowest) / mean of their rates
	settleShare   = 20   // a window is at least this fraction of the stage's limit
)

// settler decides when the rate of a throughput stage has settled: three windows in a row, each as long as a request's
// service time and at least a twentieth of the stage, whose token rates lie within 5 % of their mean. A batch of equal
// requests begins and ends in waves with the period of the service time, so that shorter windows would see the waves.
// Before it the ramp is over: as many requests have completed as are in flight, so that each of those met the full queue,
// or half the stage has passed.
type settler struct {
	limit       time.Duration // of the stage
	concurrency int           // requests in flight
	started     time.Time
	served      func() (completed int, service time.Duration)
	events      func() int64 // token events so far

	mu      sync.Mutex
	marks   []mark
	settled bool
	window  [2]time.Duration // since started
}

type mark struct {
	at     time.Duration
	events int64
}

// check samples the counter and reports whether the rate has settled.
func (s *settler) check(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := now.Sub(s.started)
	if n := len(s.marks); s.settled || n > 0 && at-s.marks[n-1].at < s.period()/4 {
		return s.settled
	}
	s.marks = append(s.marks, mark{at, s.events()})
	completed, service := s.served()
	if completed == 0 || completed < s.concurrency && at < s.limit/2 {
		s.marks = s.marks[len(s.marks)-1:]
		return false
	}
	s.settled = s.agree(max(service, s.limit/settleShare), at)
	return s.settled
}

// period is how often the counter is looked at.
func (s *settler) period() time.Duration { return s.limit / settleShare / 10 }

// agree compares the rates of the last windows of length w.
func (s *settler) agree(w, now time.Duration) bool {
	edges := make([]mark, 0, settleWindows+1)
	for i := range settleWindows + 1 {
		m, ok := s.nearest(now - time.Duration(i)*w)
		if !ok {
			return false
		}
		edges = append(edges, m)
	}
	var lowest, highest, sum float64
	for i := range settleWindows {
		newer, older := edges[i], edges[i+1]
		span := newer.at - older.at
		if span <= 0 {
			return false
		}
		rate := float64(newer.events-older.events) / span.Seconds()
		if i == 0 {
			lowest, highest = rate, rate
		}
		lowest, highest, sum = min(lowest, rate), max(highest, rate), sum+rate
	}
	if sum == 0 || highest-lowest > settleSpread*sum/settleWindows {
		return false
	}
	s.window = [2]time.Duration{edges[settleWindows].at, edges[0].at}
	return true
}

// nearest returns the latest mark not after the offset.
func (s *settler) nearest(offset time.Duration) (mark, bool) {
	for i := len(s.marks) - 1; i >= 0; i-- {
		if s.marks[i].at <= offset {
			return s.marks[i], true
		}
	}
	return mark{}, false
}
