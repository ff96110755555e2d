package load

import (
	"context"
	"math"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/inferprobe/inferprobe/internal/probe"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server answers after a latency, or fails; it stands for client and endpoint together, in the bubble's virtual time.
type server struct {
	latency time.Duration
	fail    bool
	retry   time.Duration

	mu       sync.Mutex
	inFlight int
	highest  int
	sent     []time.Time
}

func (s *server) Do(ctx context.Context, req *probe.Request, res *probe.Result) {
	s.mu.Lock()
	s.inFlight++
	s.highest = max(s.highest, s.inFlight)
	s.sent = append(s.sent, time.Now())
	s.mu.Unlock()
	defer func() { s.mu.Lock(); s.inFlight--; s.mu.Unlock() }()

	res.Request, res.Sent = req, time.Now()
	if s.fail {
		res.Outcome, res.Reason, res.RetryTime = probe.Failed, probe.ReasonConnect, s.retry
		return
	}
	select {
	case <-time.After(s.latency):
		res.Outcome, res.End = probe.Completed, s.latency
		req.Events.Add(1)
	case <-ctx.Done():
		if context.Cause(ctx) == probe.ErrStageEnded {
			res.Outcome = probe.Incomplete
		} else {
			res.Outcome, res.Reason = probe.Failed, probe.ReasonCancelled
		}
	}
}

type bodies struct{ n int }

func (b *bodies) Next(req *probe.Request) {
	b.n++
	req.Body = append(req.Body, "body"...)
}

type tally struct {
	mu      sync.Mutex
	results []probe.Result
}

func (t *tally) Record(r *probe.Result) {
	t.mu.Lock()
	defer t.mu.Unlock()
	kept := *r
	kept.Request = &probe.Request{Seq: r.Request.Seq, Due: r.Request.Due}
	t.results = append(t.results, kept)
}

// untilTimer sleeps by the runtime's timers alone, which a synctest bubble knows.
func untilTimer(ctx context.Context, t time.Time) bool { return Sleep(ctx, time.Until(t)) }

func (t *tally) count(o probe.Outcome) (n int) {
	for i := range t.results {
		if t.results[i].Outcome == o {
			n++
		}
	}
	return n
}

func newEngine(s *server) (*Engine, *tally) {
	seen := &tally{}
	return &Engine{Client: s, Source: &bodies{}, Recorder: seen, Sleep: untilTimer}, seen
}

func TestConstantKeepsItsScheduleWhateverTheServerDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{latency: 3 * time.Second}
		e, seen := newEngine(s)
		start := time.Now()
		out := e.Run(t.Context(), Stage{Profile: probe.ProfileConstant, Rate: 10, MaxDuration: 10 * time.Second, MaxInFlight: 512})

		if out.Ending != EndedByDuration || out.Ended.Sub(start) != 10*time.Second {
			t.Errorf("ended by %s after %s, want duration after 10s", out.Ending, out.Ended.Sub(start))
		}
		if len(s.sent) != 100 {
			t.Fatalf("sent %d requests, want 100", len(s.sent))
		}
		for i, at := range s.sent {
			if want := time.Duration(i) * 100 * time.Millisecond; at.Sub(start) != want {
				t.Fatalf("request %d left at %s, want %s", i, at.Sub(start), want)
			}
		}
		// The last one to complete leaves at 7 s; its answer and the end of the stage fall on the same instant.
		if c, i := seen.count(probe.Completed), seen.count(probe.Incomplete); c+i != 100 || c < 70 || c > 71 {
			t.Errorf("%d completed, %d incomplete", c, i)
		}
		if e.Live().InFlight.Load() != 0 {
			t.Error("requests were carried over the end of the stage")
		}
	})
}

func TestOpenLoopFailsRequestsAboveItsLimitAndNeverWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{latency: time.Hour}
		e, seen := newEngine(s)
		e.Run(t.Context(), Stage{Profile: probe.ProfileConstant, Rate: 100, MaxDuration: time.Second, MaxInFlight: 30})
		if s.highest != 30 || seen.count(probe.Incomplete) != 30 {
			t.Errorf("%d in flight at most, %d incomplete, want 30 and 30", s.highest, seen.count(probe.Incomplete))
		}
		var overload int
		for _, r := range seen.results {
			if r.Reason == probe.ReasonClientOverload && r.Detail != "" {
				overload++
			}
		}
		if overload != 70 {
			t.Errorf("%d requests failed as client_overload, want 70", overload)
		}
	})
}

func TestClosedLoop(t *testing.T) {
	for name, test := range map[string]struct {
		stage    Stage
		sent     int
		inFlight int
		ending   Ending
	}{
		"synchronous by time":  {Stage{Profile: probe.ProfileSynchronous, MaxDuration: 10 * time.Second}, 11, 1, EndedByDuration},
		"synchronous by count": {Stage{Profile: probe.ProfileSynchronous, MaxDuration: time.Minute, MaxRequests: 5}, 5, 1, EndedByRequests},
		"throughput by count":  {Stage{Profile: probe.ProfileThroughput, MaxDuration: time.Minute, MaxRequests: 50, MaxInFlight: 8}, 50, 8, EndedByRequests},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &server{latency: 999 * time.Millisecond}
				e, seen := newEngine(s)
				out := e.Run(t.Context(), test.stage)
				if len(s.sent) != test.sent || s.highest != test.inFlight || out.Ending != test.ending {
					t.Errorf("sent %d with %d in flight, ended by %s; want %d, %d, %s",
						len(s.sent), s.highest, out.Ending, test.sent, test.inFlight, test.ending)
				}
				if len(seen.results) != test.sent {
					t.Errorf("%d results for %d requests", len(seen.results), test.sent)
				}
			})
		})
	}
}

func TestClosedLoopBacksOffFromARefusingServer(t *testing.T) {
	for name, test := range map[string]struct {
		retry time.Duration
		sent  int
	}{
		"doubling pauses":         {0, 10}, // 0.1+0.2+…+3.2 = 6.3 s for 7 requests, then one every 5 s
		"Retry-After is honoured": {8 * time.Second, 3},
		"but ends with the stage": {24 * time.Hour, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &server{fail: true, retry: test.retry}
				e, _ := newEngine(s)
				start := time.Now()
				e.Run(t.Context(), Stage{Profile: probe.ProfileSynchronous, MaxDuration: 20 * time.Second})
				if took := time.Since(start); took > 21*time.Second {
					t.Errorf("the stage took %v", took)
				}
				if got := len(s.sent); got < test.sent-1 || got > test.sent {
					t.Errorf("sent %d requests in 20 s, want about %d", got, test.sent)
				}
			})
		})
	}
}

func TestInterruptionEndsTheStageInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{latency: 5 * time.Second}
		e, seen := newEngine(s)
		ctx, cancel := context.WithTimeout(t.Context(), 2500*time.Millisecond)
		defer cancel()
		out := e.Run(ctx, Stage{Profile: probe.ProfileConstant, Rate: 1, MaxDuration: time.Minute, MaxInFlight: 10})
		if out.Ending != EndedByInterrupted || out.Ended.Sub(out.Started) != 2500*time.Millisecond {
			t.Errorf("ended by %s after %s", out.Ending, out.Ended.Sub(out.Started))
		}
		if seen.count(probe.Incomplete) != 3 || len(seen.results) != 3 {
			t.Errorf("%d of %d results incomplete, want 3 of 3", seen.count(probe.Incomplete), len(seen.results))
		}
	})
}

func TestStopEndsTheStage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, _ := newEngine(&server{latency: 100 * time.Millisecond})
		e.Stop = func() bool { return e.Live().Finished.Load() >= 20 }
		out := e.Run(t.Context(), Stage{Profile: probe.ProfileThroughput, MaxDuration: time.Minute, MaxInFlight: 10})
		if out.Ending != EndedByStop || out.Ended.Sub(out.Started) > time.Second {
			t.Errorf("ended by %s after %s", out.Ending, out.Ended.Sub(out.Started))
		}
	})
}

func TestConstantArrivalsDoNotDrift(t *testing.T) {
	next := Constant(3)
	var at time.Duration
	for range 3_000_001 {
		at = next()
	}
	if want := 1_000_000 * time.Second; at != want {
		t.Errorf("arrival 3,000,000 at %s, want %s", at, want)
	}
}

func TestPoissonArrivals(t *testing.T) {
	const rate, n = 50, 200_000
	next, again := Poisson(rate, 7), Poisson(rate, 7)
	gaps := make([]float64, n)
	var last time.Duration
	for i := range gaps {
		at := next()
		if at != again() {
			t.Fatal("the same seed gave another process")
		}
		gaps[i] = (at - last).Seconds()
		last = at
	}
	var mean, square float64
	for _, g := range gaps {
		mean += g / n
		square += g * g / n
	}
	if cv := math.Sqrt(square-mean*mean) / mean; math.Abs(mean*rate-1) > 0.01 || math.Abs(cv-1) > 0.02 {
		t.Errorf("mean gap × rate = %.3f and coefficient of variation %.3f, want 1 and 1", mean*rate, cv)
	}
	slices.Sort(gaps)
	if median := gaps[n/2] * rate; math.Abs(median-math.Ln2) > 0.01 {
		t.Errorf("median gap × rate = %.3f, want ln 2", median)
	}
}

func TestRatesNearZeroPutTheNextRequestBeyondAnyStage(t *testing.T) {
	next := Constant(1e-300)
	next()
	if at := next(); at < 100*365*24*time.Hour {
		t.Errorf("second request due after %s", at)
	}
}
