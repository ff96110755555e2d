package sweep

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/inferprobe/inferprobe/internal/probe"
	"github.com/inferprobe/inferprobe/internal/sim"
	"github.com/inferprobe/inferprobe/internal/sim/simtest"
)

func TestGuard(t *testing.T) {
	arrival := []probe.Arrival{{Events: 1}}
	ok := probe.Result{Outcome: probe.Completed, FirstToken: time.Second, Arrivals: arrival}
	slow := probe.Result{Outcome: probe.Completed, FirstToken: time.Minute, Arrivals: arrival}
	late := probe.Result{Outcome: probe.Failed, Reason: probe.ReasonTimeoutFirstToken}
	bad := probe.Result{Outcome: probe.Failed, Reason: probe.ReasonHTTP5xx}
	ours := probe.Result{Outcome: probe.Failed, Reason: probe.ReasonClientOverload}
	cut := probe.Result{Outcome: probe.Incomplete}
	times := func(n int, r probe.Result) []probe.Result {
		out := make([]probe.Result, n)
		for i := range out {
			out[i] = r
		}
		return out
	}
	both := func(a, b []probe.Result) []probe.Result { return append(a, b...) }
	limits := Guards{MaxErrorRate: 0.1, TimeToFirstToken: 30 * time.Second}

	for name, test := range map[string]struct {
		guards  Guards
		results []probe.Result
		want    string
	}{
		"all good":                         {limits, times(1000, ok), ""},
		"two failures say nothing":         {limits, times(2, bad), ""},
		"three failures and no success":    {limits, times(3, bad), skipErrorRate},
		"one failure among few":            {limits, both(times(2, ok), times(1, bad)), ""},
		"three of ten may be chance":       {limits, both(times(7, ok), times(3, bad)), ""},
		"four of ten":                      {limits, both(times(6, ok), times(4, bad)), skipErrorRate},
		"one in seven of hundreds":         {limits, both(times(300, ok), times(50, bad)), skipErrorRate},
		"one of ten is the limit":          {limits, both(times(9, ok), times(1, bad)), ""},
		"our own limit is not their error": {limits, both(times(1, ok), times(99, ours)), ""},
		"cut requests are not errors":      {limits, both(times(9, ok), times(99, cut)), ""},
		"slow first tokens":                {limits, both(times(10, ok), times(3, slow)), skipTTFT},
		"a few slow first tokens":          {limits, both(times(100, ok), times(3, slow)), ""},
		"two of two is not yet much":       {limits, times(2, slow), ""},
		"a tenth is the limit":             {limits, both(times(27, ok), times(3, slow)), ""},
		"more than a tenth":                {limits, both(times(26, ok), times(3, slow)), skipTTFT},
		"first tokens that never come":     {Guards{TimeToFirstToken: time.Second}, times(3, late), skipTTFT},
		"errors come before slowness":      {limits, times(3, late), skipErrorRate},
		"the first reason stays":           {limits, both(times(3, bad), times(97, ok)), skipErrorRate},
		"switched off":                     {Guards{}, both(times(99, bad), times(99, slow)), ""},
	} {
		t.Run(name, func(t *testing.T) {
			g := &guard{Guards: test.guards}
			for i := range test.results {
				g.record(&test.results[i])
			}
			if got, detail := g.tripped(); got != test.want || (got != "" && detail == "") {
				t.Errorf("tripped %q (%s), want %q", got, detail, test.want)
			}
		})
	}
}

// TestGuardWaitsForSuccesses: of 512 requests that leave at once those that are refused are back first.
func TestGuardWaitsForSuccesses(t *testing.T) {
	bad := probe.Result{Outcome: probe.Failed, Reason: probe.ReasonHTTP5xx}
	for failures, want := range map[int]string{3: "", 51: "", 70: skipErrorRate} {
		inFlight := int64(512)
		g := &guard{Guards: Guards{MaxErrorRate: 0.1}, inFlight: func() int64 { return inFlight }}
		for range failures {
			inFlight--
			g.record(&bad)
		}
		if got, detail := g.tripped(); got != want {
			t.Errorf("after %d failures: %q (%s), want %q", failures, got, detail, want)
		}
	}
}

// TestGuardLooksAtRequestsInFlight with a limit of 30 s on first tokens.
func TestGuardLooksAtRequestsInFlight(t *testing.T) {
	const limit = 30 * time.Second
	now := time.Now()
	flight := func(sent, first time.Duration) *probe.Flight { // so long ago; 0 = not yet
		f := new(probe.Flight)
		f.Begin(now.Add(-time.Hour))
		if sent > 0 {
			f.SentAt(now.Add(-sent))
		}
		if first > 0 {
			f.FirstTokenAt(now.Add(-first))
		}
		return f
	}
	times := func(n int, f *probe.Flight, others ...*probe.Flight) []*probe.Flight {
		return append(others, slices.Repeat([]*probe.Flight{f}, n)...)
	}
	unsent, fresh := flight(0, 0), flight(limit, 0)
	waiting, quick := flight(limit+1, 0), flight(time.Minute, 59*time.Second)
	late := flight(time.Minute, time.Minute-limit-1)
	done := func(ttft time.Duration) *probe.Result {
		return &probe.Result{Outcome: probe.Completed, FirstToken: ttft, Arrivals: []probe.Arrival{{Events: 1}}}
	}
	for name, test := range map[string]struct {
		fast, slow int // that have ended
		flights    []*probe.Flight
		want       string
	}{
		"nothing in flight":                   {},
		"not sent yet":                        {flights: times(9, unsent)},
		"they wait, but not for long":         {flights: times(9, fresh)},
		"two wait for too long":               {flights: []*probe.Flight{waiting, waiting}},
		"three do":                            {flights: []*probe.Flight{waiting, waiting, waiting}, want: skipTTFT},
		"three go on after a late token":      {flights: []*probe.Flight{late, late, late}, want: skipTTFT},
		"one has ended, one goes on":          {slow: 1, flights: []*probe.Flight{late, waiting}, want: skipTTFT},
		"a tenth of all":                      {fast: 27, flights: []*probe.Flight{waiting, late, waiting}},
		"more than a tenth":                   {fast: 26, flights: []*probe.Flight{waiting, late, waiting}, want: skipTTFT},
		"a tenth with those that are quick":   {fast: 20, flights: times(7, quick, waiting, late, waiting)},
		"who waits is not among the answered": {fast: 20, flights: times(99, fresh, waiting, late, waiting), want: skipTTFT},
	} {
		t.Run(name, func(t *testing.T) {
			g := &guard{Guards: Guards{TimeToFirstToken: limit}}
			for range test.fast {
				g.record(done(time.Second))
			}
			for range test.slow {
				g.record(done(limit + 1))
			}
			g.look(now, slices.Values(test.flights))
			if got, detail := g.tripped(); got != test.want || (got != "") != strings.Contains(detail, "longer than 30s") {
				t.Errorf("tripped %q (%s), want %q", got, detail, test.want)
			}
			off := new(guard)
			if off.look(now, slices.Values(test.flights)); off.reason != "" {
				t.Errorf("the guard is off, and trips %q", off.reason)
			}
		})
	}
}

// TestSlowFirstTokensEndTheStage while not one of its requests has ended.
func TestSlowFirstTokensEndTheStage(t *testing.T) {
	late := sim.Options{Fixed: &sim.FixedTiming{TimeToFirstToken: 300 * milli, InterTokenLatency: time.Second}}
	for name, test := range map[string]struct {
		server sim.Options
		fault  string
		plan   Plan
	}{
		"throughput, requests hang": {steady(), "hang", Plan{Profile: probe.ProfileThroughput}},
		"a rate, requests hang":     {steady(), "hang", Plan{Profile: probe.ProfileConstant, RateList: []float64{20}}},
		"throughput, late tokens":   {late, "", Plan{Profile: probe.ProfileThroughput}},
		"a rate, late tokens":       {late, "", Plan{Profile: probe.ProfileConstant, RateList: []float64{20}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, url := simtest.Start(t, test.server)
			test.plan.MaxDuration = 6 * time.Second // less than an answer takes
			target := targetAt(url, test.plan)
			target.Guards.TimeToFirstToken = 200 * milli
			c := newCycle(target, &observer{}, discardLog())
			defer c.close()
			if !c.prepare(t.Context(), wordPools{}) {
				t.Fatal(c.Failure)
			}
			if test.fault != "" {
				if err := server.SetFaults([]sim.FaultRate{{Fault: test.fault, Probability: 1}}); err != nil {
					t.Fatal(err)
				}
			}
			c.runStages(t.Context())
			s := &c.Stages[0]
			if lasted := s.Ended.Sub(s.Started); s.Completed+s.Failed > 0 || lasted >= test.plan.MaxDuration ||
				!has(s, probe.FindingEndedByGuard) {
				t.Errorf("after %s %d completed, %d failed, findings %v", lasted, s.Completed, s.Failed, s.Findings)
			}
		})
	}
}

func TestGuardConcurrently(t *testing.T) {
	g := &guard{Guards: Guards{MaxErrorRate: 0.5}}
	var recording sync.WaitGroup
	for w := range 8 {
		recording.Go(func() {
			for range 100 {
				r := &probe.Result{Outcome: probe.Completed}
				if w%4 > 0 { // three quarters
					r = &probe.Result{Outcome: probe.Failed, Reason: probe.ReasonReset}
				}
				g.record(r)
				g.tripped()
			}
		})
	}
	recording.Wait()
	if g.completed != 200 || g.failed != 600 {
		t.Errorf("%d completed and %d failed, want 200 and 600", g.completed, g.failed)
	}
	if reason, _ := g.tripped(); reason != skipErrorRate {
		t.Errorf("tripped %q", reason)
	}
}

func TestUnbrokenFailures(t *testing.T) {
	g := &guard{}
	for i, r := range []probe.Result{
		{Outcome: probe.Failed, Reason: probe.ReasonReset}, {Outcome: probe.Failed, Reason: probe.ReasonConnect},
		{Outcome: probe.Incomplete}, {Outcome: probe.Failed, Reason: probe.ReasonClientOverload}, {Outcome: probe.Completed},
		{Outcome: probe.Failed, Reason: probe.ReasonConnect},
	} {
		g.record(&r)
		if got, want := g.unbroken(), []int{1, 2, 2, 2, 0, 1}[i]; got != want {
			t.Errorf("after result %d: %d failures unbroken, want %d", i, got, want)
		}
	}
}
