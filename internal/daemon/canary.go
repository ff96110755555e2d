package daemon

import (
	"context"
	"log/slog"
	"time"

	"github.com/inferprobe/inferprobe/internal/metrics"
	"github.com/inferprobe/inferprobe/internal/probe"
	"github.com/inferprobe/inferprobe/internal/schedule"
	"github.com/inferprobe/inferprobe/internal/sweep"
	"github.com/inferprobe/inferprobe/internal/web"
)

// canaries sends the endpoint's canary at its interval until ctx ends. What cannot be sent before the next one is due,
// because the endpoint's group is being measured, is left out.
func (d *Daemon) canaries(ctx context.Context, p *endpointProbe) {
	plan := schedule.Plan{Name: p.config.Name + " canary", Interval: p.config.Canary.Interval}
	log := d.Log.With("endpoint", p.config.Name)
	with := p.latest()
	canary := d.newCanary(p, log)
	defer func() { canary.Close() }()
	for {
		due := plan.Next(time.Now())
		if !sleepUntil(ctx, due) {
			return
		}
		if p.paused() || !d.affordable(p, canaryTokens(p.config)) {
			continue
		}
		if now := p.latest(); now != with {
			with = now
			canary.Close()
			canary = d.newCanary(p, log)
		}
		d.canary(ctx, p, canary, plan.Next(due), log)
	}
}

func (d *Daemon) newCanary(p *endpointProbe, log *slog.Logger) *sweep.Canary {
	t := d.target(p)
	t.Workload.PromptTokens = probe.Length(p.config.Canary.PromptTokens)
	t.Workload.OutputTokens = probe.Length(p.config.Canary.OutputTokens)
	t.Guards.Budget = d.budget(p)
	t.Workload.SharedPrefixTokens = 0
	return sweep.NewCanary(t, d.pools, &observer{daemon: d, probe: p, log: log}, log)
}

// canary sends one request, unless the endpoint's group stays busy until then.
func (d *Daemon) canary(ctx context.Context, p *endpointProbe, canary *sweep.Canary, until time.Time, log *slog.Logger) {
	waiting, stop := context.WithDeadline(ctx, until)
	entered := p.group.busy.enter(waiting)
	stop()
	if !entered {
		return
	}
	defer p.group.busy.leave()
	if p.paused() { // since it began to wait
		return
	}
	out := canary.Probe(ctx)
	if out.Outcome == probe.Incomplete {
		return
	}
	success, now := out.Outcome == probe.Completed, time.Now()
	if success || metrics.OfEndpoint(out.Reason) {
		p.series().CanaryEnded(success, now)
	}
	d.showBudget(p)
	var changed bool
	p.set(func(s *status) {
		changed = s.canary == nil || s.canary.Success != success || s.canary.Reason != out.Reason
		s.canary = &web.CanaryStatus{
			At: now, Success: success, Reason: out.Reason, TimeToFirstToken: out.TimeToFirstToken.Seconds(),
		}
	})
	switch { // what goes on as it was is in the metrics
	case !changed:
	case success:
		log.Info("the canary is answered", "time_to_first_token", out.TimeToFirstToken.Round(100*time.Microsecond))
	default:
		log.Warn("the canary fails", "reason", out.Reason, "detail", out.Detail)
	}
}

// sleepUntil reports false if ctx ended first.
func sleepUntil(ctx context.Context, t time.Time) bool {
	timer := time.NewTimer(time.Until(t))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
