package sweep

import (
	"cmp"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// drive feeds a settler with a token rate over time and returns when it settled, 0 if never.
func drive(s *settler, limit time.Duration, rate func(at time.Duration) float64) time.Duration {
	var tokens float64
	s.events = func() int64 { return int64(tokens) }
	s.limit, s.started = limit, time.Unix(0, 0)
	const step = 10 * time.Millisecond
	for at := time.Duration(0); at < limit; at += step {
		tokens += rate(at) * step.Seconds()
		if s.check(s.started.Add(at)) {
			return at
		}
	}
	return 0
}

func TestSettler(t *testing.T) {
	const second, limit = time.Second, 120 * time.Second
	// Requests complete from the end of the ramp on, in batches of 2 s unless the test says otherwise.
	turnover := func(s *settler, ramp, period time.Duration, completed int) func() (int, time.Duration) {
		return func() (int, time.Duration) {
			if s.marks[len(s.marks)-1].at < ramp {
				return 0, 0
			}
			return cmp.Or(completed, 100), cmp.Or(period, 2*time.Second)
		}
	}
	steady := func(time.Duration) float64 { return 1000 }
	waves := func(at time.Duration) float64 { // a batch of 6 s: prefill, then decode
		if at%(6*time.Second) < 2*time.Second {
			return 0
		}
		return 3000
	}
	falling := func(share float64) func(time.Duration) float64 { // in each window of 6 s
		return func(at time.Duration) float64 { return 1000 * math.Pow(1-share, at.Seconds()/6) }
	}
	dying := func(at time.Duration) float64 { return 1000 * math.Exp(-at.Seconds()/8) }

	for name, test := range map[string]struct {
		rate   func(time.Duration) float64
		ramp   time.Duration
		period time.Duration

		concurrency      int           // 100 requests are the first to complete
		completed        int           // …or so many
		earliest, latest time.Duration // latest 0 = must not settle
	}{
		"a steady rate":                      {rate: steady, earliest: 18 * second, latest: 20 * second},
		"windows begin with completions":     {rate: steady, ramp: 10 * second, earliest: 27 * second, latest: 30 * second},
		"a window holds a whole wave":        {rate: waves, period: 6 * second, earliest: 18 * second, latest: 30 * second},
		"a slow turnover has half the time":  {rate: steady, concurrency: 512, earliest: 77 * second, latest: 80 * second},
		"a rate that dies":                   {rate: dying},
		"one that falls by 3 % a window":     {rate: falling(0.03)},
		"one that falls by 2 % a window":     {rate: falling(0.02), earliest: 18 * second, latest: 20 * second},
		"nothing completes, nothing settles": {rate: steady, ramp: time.Hour},
		"nothing arrives, nothing settles":   {rate: func(time.Duration) float64 { return 0 }},
		"as many as p90 needs":               {rate: steady, completed: 36, earliest: 18 * second, latest: 20 * second},
		"too few to say something with":      {rate: steady, completed: 35},
		"a quarter of the stage is a wave":   {rate: steady, period: 30 * second, earliest: 90 * second, latest: 93 * second},
	} {
		t.Run(name, func(t *testing.T) {
			s := &settler{concurrency: cmp.Or(test.concurrency, 10)}
			s.turnover = turnover(s, test.ramp, test.period, test.completed)
			at := drive(s, limit, test.rate)
			if at < test.earliest || at > test.latest {
				t.Errorf("settled after %s, want between %s and %s", at, test.earliest, test.latest)
			}
			want := settleWindows * max(6*time.Second, test.period)
			if w := s.window[1] - s.window[0]; at != 0 && (w < want-time.Second || w > want+time.Second) {
				t.Errorf("window %v is not %s, three times the period or the twentieth of the stage", s.window, want)
			}
		})
	}
}

func TestUnsettled(t *testing.T) {
	for name, test := range map[string]struct {
		completed int
		period    time.Duration
		lasted    time.Duration
		want      string
	}{
		"ended early": {100, time.Second, 3 * time.Second, "the stage ended after 3s, before its rate had settled"},
		"too few":     {35, time.Second, time.Minute, "only 35 requests completed within 1m0s; longer stages would do"},
		"too slow": {100, 11 * time.Second, time.Minute, "requests take so long that 33s would have to be watched after " +
			"the ramp; stages of 1m0s are too short for that"},
		"not steady": {100, time.Second, time.Minute, "the rate still changed by more than 5 % at the end of 1m0s"},
	} {
		s := &settler{limit: time.Minute, turnover: func() (int, time.Duration) { return test.completed, test.period }}
		if got := s.unsettled(test.lasted); got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}

func TestSettlerConcurrently(t *testing.T) {
	var events atomic.Int64
	s := &settler{
		limit: 20 * time.Second, started: epoch, events: events.Load,
		turnover: func() (int, time.Duration) { return 1000, time.Second },
	}
	var checking sync.WaitGroup
	for range 8 {
		checking.Go(func() {
			for range 1000 {
				at := events.Add(1)
				s.check(epoch.Add(time.Duration(at) * time.Millisecond))
			}
		})
	}
	checking.Wait()
	for i := 1; i < len(s.marks); i++ {
		if s.marks[i].at <= s.marks[i-1].at {
			t.Fatalf("mark %d is at %s, after one at %s", i, s.marks[i].at, s.marks[i-1].at)
		}
	}
	if !s.settled {
		t.Error("a steady rate has not settled within eight windows")
	}
}
