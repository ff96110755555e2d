package daemon

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/inferprobe/inferprobe/internal/probe"
	"github.com/inferprobe/inferprobe/internal/sweep"
	"github.com/inferprobe/inferprobe/internal/web"
)

// TestStatusNamesRegressions: those that were found twice, and no others.
func TestStatusNamesRegressions(t *testing.T) {
	c := &probe.Cycle{Regression: &probe.Regression{Changes: []probe.Change{
		{Signal: probe.SignalTimeToFirstToken, Worse: true},
		{Signal: probe.SignalCapacity, Worse: true, Detected: true},
	}}}
	if got := cycleStatus(c).Regressions; !slices.Equal(got, []string{"capacity"}) {
		t.Errorf("regressions %q", got)
	}
	if got := cycleStatus(&probe.Cycle{}).Regressions; got != nil {
		t.Errorf("without a verdict: %q", got)
	}
}

// TestStatusTellsTheBudget: what is left of it on the day of UTC, and when that ends.
func TestStatusTellsTheBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // from a midnight of UTC on
		limited, unlimited := endpoint("limited", nobody), endpoint("unlimited", nobody)
		limited.Guards.TokensPerDay = 1000
		limited.Canary = withCanary("", "", time.Hour).Canary // whose requests are smaller than a cycle's
		h := start(t, limited, unlimited)
		midnight := time.Now().UTC().Add(24 * time.Hour)
		check := func(when string, want web.TokenBudget) {
			t.Helper()
			if got := h.Endpoints()[0].Tokens; got == nil || *got != want {
				t.Errorf("%s: %+v, want %+v", when, got, want)
			}
		}
		check("at midnight", web.TokenBudget{PerDay: 1000, Remaining: 1000, CoversCycle: true, Renewed: midnight})
		time.Sleep(24*time.Hour - time.Nanosecond)
		h.ledger.Spend("limited", 400, time.Now())
		check("with 400 spent", web.TokenBudget{PerDay: 1000, Remaining: 600, CoversCycle: true, Renewed: midnight})
		h.ledger.Spend("limited", 550, time.Now())
		check("with enough for a canary only", web.TokenBudget{PerDay: 1000, Remaining: 50, Renewed: midnight})
		h.ledger.Spend("limited", 40, time.Now())
		check("with too few for anything", web.TokenBudget{PerDay: 1000, Renewed: midnight})
		h.ledger.Spend("limited", 700, time.Now())
		check("with more than all spent", web.TokenBudget{PerDay: 1000, Renewed: midnight})
		time.Sleep(time.Nanosecond)
		check("on the next day", web.TokenBudget{
			PerDay: 1000, Remaining: 1000, CoversCycle: true, Renewed: midnight.Add(24 * time.Hour),
		})
		if got := h.Endpoints()[1].Tokens; got != nil {
			t.Errorf("without a limit: %+v", got)
		}
	})
}

// TestPagesShowOlderCycles: what a start does not wait for is read after it, and joins what has happened since.
func TestPagesShowOlderCycles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := endpoint("a", nobody)
		e.Sweep.Interval = 0
		config := configure(t, e)
		before := startWith(t, Options{Config: config})
		const earlier = 12
		for i := range earlier {
			at := time.Now().Add(time.Duration(i-earlier) * time.Hour)
			c := &probe.Cycle{
				ID: sweep.CycleID("a", at), Endpoint: probe.Endpoint{Name: "a"}, Started: at, Ended: at.Add(time.Minute),
			}
			if i == earlier-1 { // as the end of a daemon leaves one
				c.Failure = &probe.CycleFailure{Reason: probe.CycleInterrupted}
			}
			if err := before.history.Save(c); err != nil {
				t.Fatal(err)
			}
		}
		h := startWith(t, Options{Config: config})
		if n := len(h.Endpoints()[0].Cycles); n == 0 || n > 4 {
			t.Errorf("%d cycles were read before the start", n)
		}
		if at, _ := h.value(t, "cycle_last_end_timestamp_seconds"); at == 0 {
			t.Error("the last good cycle is not shown")
		}
		stop := h.serve(t)
		if err := h.RunNow("a"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		stop()
		cycles := h.Endpoints()[0].Cycles
		newestFirst := func(a, b web.CycleStatus) int { return b.Started.Compare(a.Started) }
		if len(cycles) != earlier+1 || !slices.IsSortedFunc(cycles, newestFirst) {
			t.Errorf("%d cycles, want %d: %+v", len(cycles), earlier+1, cycles)
		}
	})
}

// TestVerdictsSurviveARestart: an alert on a regression does not end because the last cycles could not be judged, and the
// daemon was started anew.
func TestVerdictsSurviveARestart(t *testing.T) {
	config := configure(t, endpoint("a", nobody))
	before := startWith(t, Options{Config: config})
	for i, r := range []*probe.Regression{
		{Changes: []probe.Change{{Signal: probe.SignalCapacity, Ratio: 0.8, Detected: true}}},
		{Changes: []probe.Change{{Signal: probe.SignalCapacity, Ratio: 0.7, Detected: true},
			{Signal: probe.SignalTimeToFirstToken, Ratio: 1}}},
		{Changes: []probe.Change{{Signal: probe.SignalTimeToFirstToken, Ratio: 1.2}}, Note: "no verdict on capacity: …"},
		{Note: "no verdict: …"},
	} {
		at := time.Now().Add(time.Duration(i-10) * time.Hour)
		c := &probe.Cycle{
			ID: sweep.CycleID("a", at), Endpoint: probe.Endpoint{Name: "a"}, Started: at, Ended: at.Add(time.Minute),
			Regression: r,
		}
		if err := before.history.Save(c); err != nil {
			t.Fatal(err)
		}
	}
	h := startWith(t, Options{Config: config})
	for signal, want := range map[probe.Signal][2]float64{
		probe.SignalCapacity: {0.7, 1}, probe.SignalTimeToFirstToken: {1.2, 0},
	} {
		ratio, _ := h.value(t, "regression_ratio", "signal", string(signal))
		detected, _ := h.value(t, "regression_detected", "signal", string(signal))
		if ratio != want[0] || detected != want[1] {
			t.Errorf("%s: ratio %v, detected %v; want %v", signal, ratio, detected, want)
		}
	}
}
