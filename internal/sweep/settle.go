package sweep

import (
	"fmt"
	"sync"
	"time"

	"github.com/inferprobe/inferprobe/internal/probe"
)

const (
	settleWindows = 3    // windows that must agree
	settleSpread  = 0.05 // (highest − lowest) / mean of their rates
	settleShare   = 20   // a window is at least this fraction of the stage's limit
	settleMarks   = 40   // in a window of that length
)

// settler decides when the rate of a throughput stage has settled: three windows in a row, each as long as a batch
// takes to renew itself and at least a twentieth of the stage, whose token rates lie within 5 % of their mean. A batch
// of equal requests begins and ends in waves of that period, so that shorter windows would see the waves.
//
// Before it the ramp is over: as many requests have completed as are in flight, so that each of those met the full
// queue, or half the stage has passed. And enough have completed for the stage to be valid, as long as there is time.
type settler struct {
	limit       time.Duration // of the stage
	concurrency int           // requests in flight
	started     time.Time
	turnover    func() (completed int, period time.Duration)
	events      func() int64 // token events so far

	mu      sync.Mutex
	marks   []mark
	settled bool
	window  [2]time.Duration // since started
}

// mark is how many token events there had been at a time since the start.
type mark struct {
	at     time.Duration
	events int64
}

// check samples the counter and reports whether the rate has settled. It may be called from many goroutines, as often
// as one likes.
func (s *settler) check(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, shortest := now.Sub(s.started), s.limit/settleShare
	if n := len(s.marks); s.settled || n > 0 && at-s.marks[n-1].at < shortest/settleMarks {
		return s.settled
	}
	s.marks = append(s.marks, mark{at, s.events()})
	completed, period := s.turnover()
	if completed == 0 || completed < s.concurrency && at < s.limit/2 {
		s.marks = s.marks[len(s.marks)-1:]
		return false
	}
	if completed >= probe.MinSamples(0.90) {
		s.settled = s.agree(max(period, shortest), at)
	}
	return s.settled
}

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

// rampOver returns from when on the rate was looked at; nothing that is older is kept.
func (s *settler) rampOver() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.marks) == 0 {
		return s.window[0]
	}
	return s.marks[0].at
}

// unsettled says why the rate of a stage that lasted for so long has not settled.
func (s *settler) unsettled(lasted time.Duration) string {
	completed, period := s.turnover()
	switch need := settleWindows * max(period, s.limit/settleShare); {
	case lasted < s.limit:
		return fmt.Sprintf("the stage ended after %s, before its rate had settled", round(lasted))
	case completed < probe.MinSamples(0.90):
		return fmt.Sprintf("only %d requests completed within %s; longer stages would do", completed, round(lasted))
	case 2*need > s.limit:
		return fmt.Sprintf("requests take so long that %s would have to be watched after the ramp; stages of %s are too "+
			"short for that", round(need), round(s.limit))
	default:
		return fmt.Sprintf("the rate still changed by more than %.0f %% at the end of %s", 100*settleSpread, round(lasted))
	}
}
