package daemon

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/inferprobe/inferprobe/internal/config"
	"github.com/inferprobe/inferprobe/internal/probe"
	"github.com/inferprobe/inferprobe/internal/schedule"
	"github.com/inferprobe/inferprobe/internal/sweep"
)

// succeed stands in for a sweep: a cycle that ran to its end in no time.
func succeed(_ context.Context, t *sweep.Target, _ sweep.Pools, _ sweep.Observer, _ *slog.Logger) *probe.Cycle {
	now := time.Now()
	return &probe.Cycle{
		ID: sweep.CycleID(t.Name, now), Endpoint: probe.Endpoint{Name: t.Name, URL: t.Client.BaseURL},
		Started: now, Ended: now,
	}
}

// last lets a sweep take a time, unless it is interrupted; then it fails for the reason, "" for none.
func last(took time.Duration, reason string) func(context.Context, *sweep.Target, sweep.Pools, sweep.Observer,
	*slog.Logger) *probe.Cycle {
	return func(ctx context.Context, t *sweep.Target, p sweep.Pools, o sweep.Observer, l *slog.Logger) *probe.Cycle {
		c := succeed(ctx, t, p, o, l)
		whole := sleepUntil(ctx, time.Now().Add(took))
		switch {
		case !whole:
			c.Failure = &probe.CycleFailure{Reason: probe.CycleInterrupted}
		case reason != "":
			c.Failure = &probe.CycleFailure{Reason: reason}
		}
		c.Ended = time.Now()
		return c
	}
}

func daily(name string) config.Endpoint {
	e := endpoint(name, nobody)
	e.Sweep.Interval = 24 * time.Hour
	return e
}

// gaps returns the times from the start of one cycle to that of the next.
func (h *harness) gaps() (gaps []time.Duration) {
	for i := 1; i < len(h.cycles); i++ {
		gaps = append(gaps, h.cycles[i].Started.Sub(h.cycles[i-1].Started).Round(time.Second))
	}
	return gaps
}

// TestFailedCycleIsRetried: at distances that double, also when the endpoint takes its time to fail, and as scheduled
// once it is well again.
func TestFailedCycleIsRetried(t *testing.T) {
	for _, tt := range []struct {
		took time.Duration
		want []time.Duration // in minutes
	}{
		{time.Second, []time.Duration{1, 2, 4}},
		{2 * time.Minute, []time.Duration{4, 4, 6}},
	} {
		synctest.Test(t, func(t *testing.T) {
			h := start(t, daily("a"))
			h.sweep = last(tt.took, "connect")
			h.onCycle = func(*probe.Cycle) {
				if len(h.cycles) == len(tt.want) {
					h.sweep = succeed
				}
			}
			stop := h.serve(t)
			time.Sleep(6 * time.Hour)
			stop()
			gaps := h.gaps()
			if len(gaps) != len(tt.want) {
				t.Fatalf("%v between cycles that take %v", gaps, tt.took)
			}
			for i, want := range tt.want {
				if got := gaps[i].Round(time.Minute); got != want*time.Minute {
					t.Errorf("%v until cycle %d of those that take %v, want %d min", got, i+1, tt.took, want)
				}
			}
		})
	}
}

// TestInterruptedCycleIsRetried: SIGTERM in the middle of a cycle costs a minute and not a day.
func TestInterruptedCycleIsRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := configure(t, daily("a"))
		h := startWith(t, Options{Config: c})
		h.sweep = last(time.Hour, "")
		stop := h.serve(t)
		time.Sleep(5 * time.Second)
		stop()
		again := startWith(t, Options{Config: c})
		again.sweep = succeed
		began := time.Now()
		stop = again.serve(t)
		time.Sleep(2 * time.Hour)
		stop()
		if len(again.cycles) != 1 {
			t.Fatalf("%d cycles", len(again.cycles))
		}
		if in := again.cycles[0].Started.Sub(began).Round(time.Second); in != time.Minute {
			t.Errorf("the cycle was tried again after %v", in)
		}
	})
}

// TestKillsAreNotALoadTest restarts a daemon whose cycles get it killed after ten minutes, for a day.
func TestKillsAreNotALoadTest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := configure(t, daily("a"))
		var starts []time.Time
		for range 24 * 6 {
			h := startWith(t, Options{Config: c})
			p := h.probes[0]
			if due := p.first(time.Now()); !due.After(time.Now().Add(10 * time.Minute)) {
				time.Sleep(time.Until(due))
				if err := h.history.Begin("a", due); err != nil { // as a cycle does, before the kill
					t.Fatal(err)
				}
				starts = append(starts, due)
			}
			time.Sleep(10 * time.Minute)
		}
		if n := len(starts); n < 5 || n > 8 {
			t.Errorf("%d cycles in a day", n)
		}
		for i := 1; i < len(starts); i++ {
			if gap, least := starts[i].Sub(starts[i-1]), killedAfter<<(i-1); gap < min(least, 12*time.Hour) {
				t.Errorf("start %d followed after %v, want %v at least", i, gap, least)
			}
		}
		h := startWith(t, Options{Config: c})
		h.sweep = succeed
		h.RunOnce(t.Context())
		if _, n := h.history.Unfinished("a"); n != 0 {
			t.Errorf("%d starts count after a cycle that was finished", n)
		}
	})
}

// TestCycleIsKnownWhileItRuns: the start is on disk before the sweep begins.
func TestCycleIsKnownWhileItRuns(t *testing.T) {
	h := start(t, daily("a"))
	h.sweep = func(ctx context.Context, target *sweep.Target, p sweep.Pools, o sweep.Observer, l *slog.Logger) *probe.Cycle {
		if _, n := h.history.Unfinished("a"); n != 1 {
			t.Errorf("%d starts are known", n)
		}
		return succeed(ctx, target, p, o, l)
	}
	h.RunOnce(t.Context())
}

// TestRetryHoldsWindows: no cycle is tried again outside of its windows.
func TestRetryHoldsWindows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := daily("a")
		e.Sweep.Windows = []config.Window{{Window: schedule.Window{
			Days: []time.Weekday{time.Now().UTC().Weekday()}, From: 0, To: 5 * time.Minute, Location: time.UTC,
		}}}
		h := start(t, e) // at midnight
		h.sweep = last(time.Second, "connect")
		stop := h.serve(t)
		time.Sleep(20 * time.Hour)
		stop()
		if n := len(h.cycles); n != 3 { // after 0, 1 and 3 minutes
			t.Errorf("%d cycles, %v between them", n, h.gaps())
		}
	})
}
