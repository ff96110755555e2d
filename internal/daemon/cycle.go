package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/inferprobe/inferprobe/internal/probe"
	"github.com/inferprobe/inferprobe/internal/regress"
	"github.com/inferprobe/inferprobe/internal/sweep"
)

// cycle runs one cycle of an endpoint, alone in its group, and passes it on. It returns nil if the cycle could not begin.
// One that is asked for does not end with its window.
func (d *Daemon) cycle(ctx context.Context, p *endpointProbe, asked bool) *probe.Cycle {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	leave := d.admit(ctx, cancel, p, asked)
	if leave == nil {
		return nil
	}
	leave = sync.OnceFunc(leave)
	defer leave()
	log := d.Log.With("endpoint", p.config.Name)
	log.Info("cycle started", "url", p.config.URL, "profile", p.config.Sweep.Profile)
	p.series().CycleStarted()
	p.set(func(s *status) { s.state, s.next, s.lastStart = stateRunning, time.Time{}, time.Now() })
	_ = d.history.Begin(p.config.Name, time.Now()) // which logs what is in its way

	c := d.run(ctx, p, asked, log)
	d.judge(c)
	_ = d.history.Save(c) // which logs what is in its way once, and keeps c in memory meanwhile
	d.history.End(p.config.Name)
	p.series().CycleEnded(c)
	p.finished(c)
	d.logCycle(c, log)
	leave() // whoever takes the report may be slow
	d.report(c)
	return c
}

// notBegun reports that an endpoint's turn did not come. There is nothing that metrics and history would have to keep.
func (d *Daemon) notBegun(p *endpointProbe) *probe.Cycle {
	c := sweep.NotBegun(d.target(p))
	d.logCycle(c, d.Log.With("endpoint", p.config.Name))
	d.report(c)
	return c
}

// report passes a cycle to whoever takes its report.
func (d *Daemon) report(c *probe.Cycle) {
	d.done.enter(context.Background())
	defer d.done.leave()
	d.Finished(c)
}

// admit waits for a cycle's turn. A pause interrupts the waiting, and later the cycle. The waiting may have been long: a
// cycle that nobody asked for, and that must not start any more, is skipped. It returns nil where none is to begin.
func (d *Daemon) admit(ctx context.Context, interrupt func(), p *endpointProbe, asked bool) (leave func()) {
	var due time.Time
	p.set(func(s *status) { due, s.interrupt = s.next, interrupt })
	leave = d.enter(ctx, p)
	var reason string
	if !asked {
		reason = d.hindrance(p, time.Now())
	}
	if leave != nil && reason == "" {
		return leave
	}
	if leave != nil {
		leave()
	}
	p.set(func(s *status) { s.interrupt = nil })
	if reason != "" {
		d.skip(p, due, reason)
	}
	return nil
}

// enter waits until nothing else of the group is measured and a place for a cycle is free. The function that it returns
// leaves both; it is nil if ctx ended first.
func (d *Daemon) enter(ctx context.Context, p *endpointProbe) (leave func()) {
	d.mu.Lock()
	slots := d.slots // a reload may replace it meanwhile
	d.mu.Unlock()
	if !p.group.turn.enter(ctx) {
		return nil
	}
	defer p.group.turn.leave()
	if !slots.enter(ctx) {
		return nil
	}
	if !p.group.busy.enter(ctx) {
		slots.leave()
		return nil
	}
	return func() {
		p.group.busy.leave()
		slots.leave()
	}
}

func (d *Daemon) logCycle(c *probe.Cycle, log *slog.Logger) {
	attrs := []any{"took", c.Ended.Sub(c.Started).Round(time.Millisecond), "stages", len(c.Stages)}
	switch f := c.Failure; {
	case f == nil:
		if found := c.Capacity; found.RequestsPerSecond > 0 {
			attrs = append(attrs, "capacity_requests_per_second", round2(found.RequestsPerSecond),
				"capacity_output_tokens_per_second", round2(found.OutputTokensPerSecond))
		}
		log.Info("cycle finished", attrs...)
	case f.Reason == probe.CycleInterrupted: // as every restart does
		log.Warn("cycle interrupted", append(attrs, "detail", f.Detail)...)
	default:
		log.Error("cycle failed", append(attrs, "reason", f.Reason, "detail", f.Detail)...)
	}
	if r := c.Regression; r.Detected() {
		for _, change := range r.Changes {
			if change.Detected {
				log.Warn("regression: worse than the baseline in two cycles in a row", "signal", change.Signal,
					"ratio", round2(change.Ratio), "p_value", change.PValue)
			}
		}
	}
}

// judge holds a cycle against the earlier ones of its endpoint.
func (d *Daemon) judge(c *probe.Cycle) {
	if c.Failure != nil {
		return
	}
	// Cycles that cannot be compared or are not to be trusted may stand in between those of the baseline.
	const lookback = 60
	c.Fingerprint = regress.Fingerprint(c)
	earlier := d.history.Last(c.Endpoint.Name, lookback)
	if len(earlier) > 0 || d.Config.History.Dir != "" { // or nobody has asked for a comparison
		c.Regression = regress.Judge(c, earlier, regress.Options{})
	}
}

// run turns a panic of ours into a failed cycle: one endpoint's trouble must not end the measuring of the others.
func (d *Daemon) run(ctx context.Context, p *endpointProbe, asked bool, log *slog.Logger) (c *probe.Cycle) {
	started := time.Now()
	defer func() {
		if r := recover(); r != nil {
			log.Error("a fault of inferprobe ended the cycle; please report it", "panic", r, "stack", string(debug.Stack()))
			c = &probe.Cycle{
				ID: sweep.CycleID(p.config.Name, started), Endpoint: p.endpoint(),
				Profile: p.config.Sweep.Profile, Started: started, Ended: time.Now(),
				Failure: &probe.CycleFailure{Reason: probe.CycleInternal, Detail: fmt.Sprint(r)},
			}
		}
	}()
	t := d.target(p)
	d.guard(t, p, asked, started)
	c = d.sweep(ctx, t, d.pools, &observer{daemon: d, probe: p, log: log}, log)
	conclude(c, p.config)
	return c
}

// guard gives the cycle what it may use up: the tokens that are left of the day, and the time that its window is open.
func (d *Daemon) guard(t *sweep.Target, p *endpointProbe, asked bool, now time.Time) {
	t.Guards.Budget = d.budget(p)
	if until, open := p.plan.Open(now); open && !asked {
		t.Guards.Until = until
	}
}

func round2(v float64) float64 { return float64(int64(v*100+0.5)) / 100 }
