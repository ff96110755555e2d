package sweep

import (
	"cmp"
	"math"
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
	const limit = 120 * time.Second
	// Requests complete from the end of the ramp on, after 2 s from their first token unless the test says otherwise.
	served := func(s *settler, ramp, service time.Duration) func() (int, time.Duration) {
		return func() (int, time.Duration) {
			if s.marks[len(s.marks)-1].at < ramp {
				return 0, 0
			}
			return 100, cmp.Or(service, 2*time.Second)
		}
	}
	steady := func(time.Duration) float64 { return 1000 }
	waves := func(at time.Duration) float64 { // a batch of 6 s: prefill, then decode
		if at%(6*time.Second) < 2*time.Second {
			return 0
		}
		return 3000
	}
	dying := func(at time.Duration) float64 { return 1000 * math.Exp(-at.Seconds()/8) }

	for name, test := range map[string]struct {
		rate    func(time.Duration) float64
		ramp    time.Duration
		service time.Duration

		concurrency      int           // 100 requests are the first to complete
		earliest, latest time.Duration // latest 0 = must not settle
	}{
		"a steady rate settles after three windows":     {rate: steady, earliest: 18 * time.Second, latest: 20 * time.Second},
		"windows begin after the first completion":      {rate: steady, ramp: 10 * time.Second, earliest: 27 * time.Second, latest: 30 * time.Second},
		"a window holds a whole wave":                   {rate: waves, service: 6 * time.Second, earliest: 18 * time.Second, latest: 30 * time.Second},
		"a slow turnover is waited for until half time": {rate: steady, concurrency: 512, earliest: 77 * time.Second, latest: 80 * time.Second},
		"a rate that still falls does not settle":       {rate: dying},
		"nothing completes, nothing settles":            {rate: steady, ramp: time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			s := &settler{concurrency: cmp.Or(test.concurrency, 10)}
			s.served = served(s, test.ramp, test.service)
			at := drive(s, limit, test.rate)
			if at < test.earliest || at > test.latest {
				t.Errorf("settled after %s, want between %s and %s", at, test.earliest, test.latest)
			}
			if w := s.window[1] - s.window[0]; at != 0 && (w < 17*time.Second || w > 19*time.Second) {
				t.Errorf("window %v is not three windows of 6 s", s.window)
			}
		})
	}
}

func TestTimeline(t *testing.T) {
	var line timeline
	// Ten requests a second of half a second each, from 0 to 10 s: five in flight.
	for i := range 100 {
		at := time.Duration(i) * 100 * time.Millisecond
		line.at(at).began++
		line.at(at+500*time.Millisecond).closed++
		line.at(at + 250*time.Millisecond).tokens += 8
	}
	if got := line.tokens(time.Second, 9*time.Second); math.Abs(got-8*80) > 8 {
		t.Errorf("%.0f tokens in [1 s, 9 s), want 640", got)
	}
	if got := line.inFlight(time.Second, 9*time.Second); math.Abs(got-5) > 0.2 {
		t.Errorf("%.2f in flight, want 5", got)
	}
	if got := line.inFlight(3*time.Hour, 4*time.Hour); got != 0 {
		t.Errorf("%.2f in flight after the end", got)
	}
}
