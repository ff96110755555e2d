package daemon

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/inferprobe/inferprobe/internal/config"
	"github.com/inferprobe/inferprobe/internal/metrics"
	"github.com/inferprobe/inferprobe/internal/probe"
	"github.com/inferprobe/inferprobe/internal/schedule"
)

// nobody is where no server listens: its cycles fail at once.
const nobody = "http://127.0.0.1:1"

// serve runs the daemon until the test ends.
func (h *harness) serve(t *testing.T) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		h.Serve(ctx, 0)
		close(done)
	}()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return stop
}

// TestFollowsTheSchedule: the first cycle begins at once, the others an interval apart.
func TestFollowsTheSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, endpoint("a", nobody))
		h.sweep = succeed
		began := time.Now()
		stop := h.serve(t)
		time.Sleep(4*time.Hour + 30*time.Minute)
		stop()
		for i, c := range h.cycles {
			switch since := c.Started.Sub(began); {
			case i == 0 && since > time.Second:
				t.Errorf("the first cycle began after %s", since)
			case i == 1 && (since < 30*time.Minute || since > 90*time.Minute):
				t.Errorf("the second cycle began after %s", since)
			case i > 1 && c.Started.Sub(h.cycles[i-1].Started).Round(time.Second) != time.Hour:
				t.Errorf("%s between two cycles, want 1h", c.Started.Sub(h.cycles[i-1].Started))
			}
		}
		if n := len(h.cycles); n < 4 || n > 5 {
			t.Errorf("%d cycles", n)
		}
		for _, reason := range []string{metrics.SkipOverrun, metrics.SkipPaused, metrics.SkipTokenBudget, metrics.SkipWindow} {
			if n, ok := h.value(t, "runs_skipped_total", "endpoint", "a", "reason", reason); n != 0 || !ok {
				t.Errorf("%v skipped by %s (%v)", n, reason, ok)
			}
		}
	})
}

// TestOverrun lets an hourly cycle last for three and a half hours: three were due meanwhile, and are not caught up
// with.
func TestOverrun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, endpoint("a", nobody))
		started := time.Now()
		time.Sleep(3*time.Hour + 30*time.Minute)
		due := h.afterwards(h.probes[0], started)
		if n, _ := h.value(t, "runs_skipped_total", "endpoint", "a", "reason", "overrun"); n != 3 {
			t.Errorf("%v skipped, want 3", n)
		}
		if in := time.Until(due); in < 0 || in > time.Hour {
			t.Errorf("the next is due in %s", in)
		}
	})
}

// TestRestart: what has just been measured is not measured again, and what was missed is.
func TestRestart(t *testing.T) {
	for _, tt := range []struct {
		name         string
		down         time.Duration
		least, most  time.Duration // until the next cycle begins
		changeLength bool
	}{
		{name: "soon", down: time.Minute, least: 28 * time.Minute, most: 90 * time.Minute},
		{name: "after a day", down: 24 * time.Hour, most: time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := configure(t, endpoint("a", nobody))
				h := startWith(t, Options{Config: c})
				h.sweep = succeed
				stop := h.serve(t)
				time.Sleep(time.Minute)
				stop()
				if len(h.cycles) != 1 {
					t.Fatalf("%d cycles", len(h.cycles))
				}

				time.Sleep(tt.down)
				again := startWith(t, Options{Config: c})
				if e := again.Endpoints()[0]; e.LastCycle == nil || e.LastCycle.ID != h.cycles[0].ID {
					t.Errorf("the last cycle is forgotten: %+v", e)
				}
				again.sweep = succeed
				began := time.Now()
				stop = again.serve(t)
				time.Sleep(2 * time.Hour)
				stop()
				if len(again.cycles) == 0 {
					t.Fatal("no cycle")
				}
				if in := again.cycles[0].Started.Sub(began); in < tt.least || in > tt.most {
					t.Errorf("the next cycle began after %s", in)
				}
			})
		})
	}
}

// TestRestartAfterAFailure: a cycle that failed is known after a restart, and has no values to show.
func TestRestartAfterAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := configure(t, endpoint("a", nobody))
		h := startWith(t, Options{Config: c})
		stop := h.serve(t)
		time.Sleep(30 * time.Second)
		stop()
		if len(h.cycles) != 1 || h.cycles[0].Failure == nil {
			t.Fatalf("%d cycles, not one that failed", len(h.cycles))
		}
		again := startWith(t, Options{Config: c})
		if e := again.Endpoints()[0]; e.LastCycle == nil || e.LastCycle.ID != h.cycles[0].ID {
			t.Errorf("the last cycle is forgotten: %+v", e)
		}
		if at, _ := again.value(t, "cycle_last_end_timestamp_seconds"); at != 0 {
			t.Errorf("a failed cycle's values are shown: it ended at %v", at)
		}
	})
}

// TestWindows: cycles begin in their windows only.
func TestWindows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := endpoint("a", nobody)
		e.Sweep.Windows = []config.Window{{Window: schedule.Window{
			Days: []time.Weekday{time.Monday, time.Tuesday}, From: 22 * time.Hour, To: 2 * time.Hour, Location: time.UTC,
		}}}
		h := start(t, e)
		h.sweep = succeed
		stop := h.serve(t)
		time.Sleep(14 * 24 * time.Hour)
		stop()
		for _, c := range h.cycles {
			at := c.Started.UTC()
			night := at.Add(-2 * time.Hour).Weekday()
			if at.Hour() >= 2 && at.Hour() < 22 || night != time.Monday && night != time.Tuesday {
				t.Errorf("a cycle began at %s", at.Format(time.RFC1123))
			}
		}
		if n := len(h.cycles); n < 4*4 || n > 4*5 {
			t.Errorf("%d cycles in four nights of four hours", n)
		}
	})
}

// TestWindowClosesWhileWaiting: a cycle whose turn comes when its window has closed is skipped.
func TestWindowClosesWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := endpoint("a", nobody)
		e.Group = "shared"
		from := time.Now().UTC().Sub(time.Now().UTC().Truncate(24 * time.Hour))
		e.Sweep.Windows = []config.Window{{Window: schedule.Window{
			Days: []time.Weekday{time.Now().UTC().Weekday()}, From: from, To: from + 2*time.Hour, Location: time.UTC,
		}}}
		h := start(t, e)
		busy := h.groups.of("shared").busy
		busy.enter(t.Context())
		stop := h.serve(t)
		time.Sleep(3 * time.Hour)
		busy.leave()
		time.Sleep(time.Hour)
		stop()
		skipped, _ := h.value(t, "runs_skipped_total", "endpoint", "a", "reason", metrics.SkipWindow)
		if n := len(h.names()); n != 0 || skipped != 1 {
			t.Errorf("%d cycles, %v skipped", n, skipped)
		}
	})
}

// TestNoSchedule: without an interval nothing is measured unless an operator asks for it.
func TestNoSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := endpoint("a", nobody)
		e.Sweep.Interval = 0
		h := start(t, e)
		stop := h.serve(t)
		time.Sleep(100 * time.Hour)
		if n := len(h.names()); n != 0 {
			t.Errorf("%d cycles", n)
		}
		if err := h.RunNow("a"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		stop()
		if n := len(h.names()); n != 1 {
			t.Errorf("%d cycles, one was asked for", n)
		}
	})
}

// TestRegressionIsJudged: cycles carry what they are compared by, and are compared with those of the history.
func TestRegressionIsJudged(t *testing.T) {
	h := start(t, endpoint("a", nobody))
	c := &probe.Cycle{
		ID: "a-20260101T000000.000Z", Endpoint: probe.Endpoint{Name: "a"},
		Started: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	h.judge(c)
	if c.Fingerprint == "" || c.Regression == nil {
		t.Errorf("%q, %+v", c.Fingerprint, c.Regression)
	}
}
