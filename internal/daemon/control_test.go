package daemon

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/inferprobe/inferprobe/internal/config"
	"github.com/inferprobe/inferprobe/internal/metrics"
	"github.com/inferprobe/inferprobe/internal/probe"
	"github.com/inferprobe/inferprobe/internal/sim"
	"github.com/inferprobe/inferprobe/internal/sim/simtest"
	"github.com/inferprobe/inferprobe/internal/web"
)

func TestPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, endpoint("a", nobody), endpoint("b", nobody))
		h.sweep = succeed
		stop := h.serve(t)
		time.Sleep(time.Minute)
		if err := h.Pause("a"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Hour)
		skipped, _ := h.value(t, "runs_skipped_total", "endpoint", "a", "reason", metrics.SkipPaused)
		paused, _ := h.value(t, "probe_paused", "endpoint", "a")
		other, _ := h.value(t, "probe_paused", "endpoint", "b")
		if e := h.Endpoints()[0]; skipped < 4 || skipped > 5 || paused != 1 || other != 0 || !e.Paused {
			t.Errorf("%v skipped, paused %v and %v, status %+v", skipped, paused, other, e)
		}
		before := count(h.names(), "a")
		if err := h.Resume("a"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		stop()
		if n := count(h.names(), "a"); before != 1 || n != 2 {
			t.Errorf("%d cycles until the end of the pause, then %d", before, n)
		}
		if n := count(h.names(), "b"); n < 6 {
			t.Errorf("%d cycles of the other endpoint", n)
		}
	})
}

// TestPauseOutlastsTheProcess: a restart is no reason to load what an operator paused.
func TestPauseOutlastsTheProcess(t *testing.T) {
	dir := t.TempDir()
	serve := func(endpoints []config.Endpoint, act func(*harness)) {
		synctest.Test(t, func(t *testing.T) {
			c := configure(t, endpoints...)
			c.History.Dir = dir
			h := startWith(t, Options{Config: c})
			h.sweep = succeed
			stop := h.serve(t)
			time.Sleep(time.Minute)
			act(h)
			stop()
		})
	}
	a, b := endpoint("a", nobody), endpoint("b", nobody)
	both := []config.Endpoint{a, b}
	paused := func(h *harness, want bool) {
		t.Helper()
		if value, _ := h.value(t, "probe_paused", "endpoint", "a"); h.Endpoints()[0].Paused != want || value == 1 != want {
			t.Errorf("paused: %v, in the metrics %v; want %v", h.Endpoints()[0].Paused, value, want)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Error(err)
		}
	}
	serve(both, func(h *harness) { paused(h, false); must(h.Pause("a")) })
	serve(both, func(h *harness) {
		paused(h, true)
		time.Sleep(24 * time.Hour)
		if n := count(h.names(), "a"); n != 0 || count(h.names(), "b") == 0 {
			t.Errorf("%d cycles while paused, of %v", n, h.names())
		}
		must(h.Resume("a"))
	})
	serve(both, func(h *harness) { paused(h, false); must(h.Pause("a")) })
	serve(both, func(h *harness) { // an endpoint that is removed is forgotten
		c := configure(t, b)
		c.History.Dir = dir
		h.apply(c)
	})
	serve(both, func(h *harness) { paused(h, false) })
}

// slowly makes operators who act at once overtake each other wherever they can.
type slowly struct{ slog.Handler }

func (s slowly) Handle(context.Context, slog.Record) error {
	time.Sleep(rand.N(100 * time.Microsecond))
	return nil
}

func (s slowly) Enabled(context.Context, slog.Level) bool { return true }

// TestPauseAndResumeAtOnce: whoever comes last, what is shown, the metric and what outlasts the process agree.
func TestPauseAndResumeAtOnce(t *testing.T) {
	for name, l := range map[string]*leases{"alone": nil, "with leases": newLeases()} {
		t.Run(name, func(t *testing.T) {
			o := Options{Config: configure(t, endpoint("a", nobody)), Log: slog.New(slowly{slog.DiscardHandler})}
			if l != nil {
				o.Leases = l
			}
			h := startWith(t, o)
			h.sweep = succeed
			stop := h.serve(t)
			kept := func() bool { return h.history.Paused("a") }
			if l != nil {
				h.measureHere(t, l)
				kept = func() bool { return l.Paused("a", "") }
			}
			for range 100 {
				var operators sync.WaitGroup
				for _, act := range []func(string) error{h.Pause, h.Resume} {
					operators.Go(func() {
						if err := act("a"); err != nil {
							t.Error(err)
						}
					})
				}
				operators.Wait()
				gauge, _ := h.value(t, "probe_paused", "endpoint", "a")
				if shown := h.Endpoints()[0].Paused; shown != kept() || shown != (gauge == 1) {
					t.Fatalf("paused: shown %v, kept %v, in the metrics %v", shown, kept(), gauge)
				}
			}
			stop()
		})
	}
}

func count(names []string, name string) (n int) {
	for _, s := range names {
		if s == name {
			n++
		}
	}
	return n
}

// TestPauseEndsTheCycle: an operator who pauses wants the load to go.
func TestPauseEndsTheCycle(t *testing.T) {
	server, url := simtest.Start(t, quick())
	e := endpoint("a", url)
	e.Sweep.MaxRequests, e.Sweep.MaxDuration = 0, time.Hour
	h := start(t, e)
	stop := h.serve(t)
	for !measuring(server, 1) {
		time.Sleep(time.Millisecond)
	}
	if err := h.RunNow("a"); !errors.Is(err, web.ErrConflict) {
		t.Errorf("a cycle more while one runs: %v", err)
	}
	if err := h.Pause("a"); err != nil {
		t.Fatal(err)
	}
	for len(h.names()) == 0 {
		time.Sleep(time.Millisecond)
	}
	stop()
	if f := h.cycles[0].Failure; f == nil || f.Reason != probe.CycleInterrupted {
		t.Errorf("the cycle: %+v", f)
	}
}

// TestPauseEndsTheWaiting: what waits for its group when the operator pauses does not start any more.
func TestPauseEndsTheWaiting(t *testing.T) {
	for _, asked := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			e := endpoint("a", nobody)
			e.Group = "shared"
			e.Canary.Interval = 7 * time.Hour
			h := start(t, e)
			busy := h.groups.of("shared").busy
			busy.enter(t.Context())
			if asked {
				if err := h.RunNow("a"); err != nil {
					t.Fatal(err)
				}
			}
			stop := h.serve(t)
			time.Sleep(6 * time.Hour) // the canary waits, too
			if err := h.Pause("a"); err != nil {
				t.Fatal(err)
			}
			busy.leave()
			time.Sleep(time.Hour)
			requests, _ := h.value(t, "requests_total", "endpoint", "a", "stage", probe.StageCanary)
			skipped, _ := h.value(t, "runs_skipped_total", "endpoint", "a", "reason", metrics.SkipPaused)
			if n := len(h.names()); n != 0 || requests != 0 || !asked && skipped == 0 {
				t.Errorf("asked %v: %d cycles and %v requests of the canary, %v skipped", asked, n, requests, skipped)
			}
			if err := h.Resume("a"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * time.Hour)
			stop()
			if n := len(h.names()); n == 0 {
				t.Errorf("asked %v: no cycle after the pause", asked)
			}
		})
	}
}

func TestRunNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, endpoint("a", nobody))
		h.sweep = succeed
		if err := h.RunNow("other"); !errors.Is(err, web.ErrUnknownEndpoint) {
			t.Errorf("unknown: %v", err)
		}
		stop := h.serve(t)
		time.Sleep(time.Minute)
		if err := h.Pause("a"); err != nil { // a pause holds back what comes by itself
			t.Fatal(err)
		}
		if err := h.RunNow("a"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if n := len(h.names()); n != 2 {
			t.Errorf("%d cycles, want the first and the one that was asked for", n)
		}
		stop()
		if err := h.RunNow("a"); !errors.Is(err, web.ErrConflict) {
			t.Errorf("after the end: %v", err)
		}
	})
}

// TestBudget: an endpoint whose tokens of the day are used up is measured again on the next day.
func TestBudget(t *testing.T) {
	_, url := simtest.Start(t, quick())
	e := endpoint("a", url)
	e.Guards.TokensPerDay = 1000
	c := configure(t, e)
	h := startWith(t, Options{Config: c})
	if left, _ := h.value(t, "token_budget_remaining", "endpoint", "a"); left == left {
		t.Errorf("%v tokens are left before anything is known", left)
	}
	h.RunOnce(t.Context())
	left, _ := h.value(t, "token_budget_remaining", "endpoint", "a")
	const (
		calibrate = 32 + 16 + 2*sim.ChatTemplateTokens + 2
		measure   = 5 * (32 + sim.ChatTemplateTokens + 8)
	)
	if left != 1000-calibrate-measure {
		t.Errorf("%v tokens are left of 1000, want %d", left, 1000-calibrate-measure)
	}

	again := startWith(t, Options{Config: c})
	again.RunOnce(t.Context())
	if less, _ := again.value(t, "token_budget_remaining", "endpoint", "a"); less != left-calibrate-measure {
		t.Errorf("%v tokens are left after a restart and another cycle, %v before", less, left)
	}
	again.spend(again.probes[0], &probe.Result{PromptTokens: 1000})
	if err := again.RunNow("a"); !errors.Is(err, web.ErrConflict) {
		t.Errorf("a cycle without tokens: %v", err)
	}
	if reason := again.hindrance(again.probes[0], time.Now()); reason != metrics.SkipTokenBudget {
		t.Errorf("hindrance %q", reason)
	}
}

// TestBudgetIsKept: hundreds of requests at once spend no more than is left of the day, and when what is left is too
// little for another cycle and for a canary none is shown.
func TestBudgetIsKept(t *testing.T) {
	const limit, each = 2000, 32 + sim.ChatTemplateTokens + 8
	server, url := simtest.Start(t, sim.Options{
		Fixed: &sim.FixedTiming{TimeToFirstToken: 300 * time.Millisecond, InterTokenLatency: 4 * time.Millisecond},
	})
	e := endpoint("a", url)
	e.Guards = config.Guards{MaxInFlight: 512, TokensPerDay: limit}
	e.Sweep.Profile, e.Sweep.MaxConcurrency, e.Sweep.MaxRequests = probe.ProfileThroughput, 512, 0
	h := start(t, e)
	cycles := h.RunOnce(t.Context())
	var asked int
	for _, r := range simtest.Truth(t, server) {
		asked += r.PromptTokens + r.OutputTokens
	}
	if spent := h.ledger.Spent("a", time.Now()); asked != spent || spent > limit || spent <= limit-each {
		t.Errorf("asked for %d tokens and spent %d of %d", asked, spent, limit)
	}
	if s := &cycles[0].Stages[0]; s.Failed+s.Incomplete > 0 || s.Completed == 0 {
		t.Errorf("%d completed, %d failed, %d incomplete", s.Completed, s.Failed, s.Incomplete)
	}
	if reason := h.hindrance(h.probes[0], time.Now()); reason != metrics.SkipTokenBudget {
		t.Errorf("hindrance %q", reason)
	}
	if left, _ := h.value(t, "token_budget_remaining", "endpoint", "a"); left != 0 {
		t.Errorf("%v tokens are left, with which nothing can begin", left)
	}
}
