package sweep

import (
	"sync"
	"testing"
	"time"

	"github.com/inferprobe/inferprobe/internal/probe"
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
		"two of ten":                       {limits, both(times(8, ok), times(2, bad)), skipErrorRate},
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
