// Package daemon is the composition root: it turns a configuration into running probes, passes what they measure to the
// metrics, the log and the web pages, and shuts down in order.
package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/inferprobe/inferprobe/internal/config"
	"github.com/inferprobe/inferprobe/internal/metrics"
	"github.com/inferprobe/inferprobe/internal/probe"
	"github.com/inferprobe/inferprobe/internal/report"
	"github.com/inferprobe/inferprobe/internal/schedule"
	"github.com/inferprobe/inferprobe/internal/sweep"
	"github.com/inferprobe/inferprobe/internal/tokenizer"
)

// Options of a daemon.
type Options struct {
	Config   *config.Config
	Version  string
	Registry prometheus.Registerer
	Hub      *tokenizer.Hub
	Log      *slog.Logger
	// Finished is called with each cycle, one at a time.
	Finished func(*probe.Cycle)
	// Progress is called while stages run, from one goroutine an endpoint.
	Progress func(report.Progress)
}

// Daemon measures the configured endpoints.
type Daemon struct {
	Options
	metrics *metrics.Metrics
	pools   *pools
	probes  []*endpointProbe
	groups  map[string]*sync.Mutex
	done    sync.Mutex // one Finished at a time
}

// endpointProbe is one endpoint's probe and what is known of it.
type endpointProbe struct {
	config  *config.Endpoint
	target  *sweep.Target
	metrics *metrics.Endpoint
	group   *sync.Mutex // held while a cycle runs: endpoints of one group share hardware

	mu     sync.Mutex
	status status
}

// New builds a daemon and creates every series of every endpoint.
func New(o Options) *Daemon {
	d := &Daemon{
		Options: o,
		metrics: metrics.New(o.Registry, metrics.Mode(o.Config.Metrics.Histograms)),
		pools:   newPools(o.Hub, o.Log),
		groups:  make(map[string]*sync.Mutex),
	}
	for i := range o.Config.Endpoints {
		d.add(&o.Config.Endpoints[i])
	}
	d.metrics.Reloaded(true, time.Now())
	return d
}

func (d *Daemon) add(e *config.Endpoint) {
	group, ok := d.groups[e.Group]
	if !ok || e.Group == "" {
		group = new(sync.Mutex)
		d.groups[e.Group] = group
	}
	t := target(e, d.Version)
	d.probes = append(d.probes, &endpointProbe{
		config: e, target: t, group: group,
		metrics: d.metrics.Add(probe.Endpoint{Name: e.Name, Model: e.Model, URL: e.URL}, labels(e), t.Plan.StageNames()),
		status:  status{state: stateWaiting},
	})
}

// RunOnce measures every endpoint once, one after another, so that they do not disturb each other, and returns the
// cycles. When ctx ends, the endpoints not yet measured are left out.
func (d *Daemon) RunOnce(ctx context.Context) []*probe.Cycle {
	var cycles []*probe.Cycle
	for _, p := range d.probes {
		if c := d.cycle(ctx, p); c != nil {
			cycles = append(cycles, c)
		}
	}
	return cycles
}

// Serve measures every endpoint on its schedule until ctx ends, then ends running cycles in order. Each endpoint's first
// cycle starts at once. With cycles > 0 each endpoint is measured that many times, without waiting for its schedule, and
// Serve returns.
func (d *Daemon) Serve(ctx context.Context, cycles int) {
	var running sync.WaitGroup
	for _, p := range d.probes {
		running.Go(func() { d.loop(ctx, p, cycles) })
	}
	running.Wait()
}

func (d *Daemon) loop(ctx context.Context, p *endpointProbe, cycles int) {
	defer p.set(func(s *status) { s.state, s.next = stateStopped, time.Time{} })
	for n := 1; ctx.Err() == nil; n++ {
		started := time.Now()
		p.metrics.NextStart(started)
		d.cycle(ctx, p)
		if n == cycles {
			return
		}
		if cycles == 0 && !d.wait(ctx, p, started) {
			return
		}
	}
}

// wait sleeps until the endpoint's next cycle is due. A slot that came while the last cycle ran, or less than half an
// interval after it began, is not caught up with.
func (d *Daemon) wait(ctx context.Context, p *endpointProbe, started time.Time) bool {
	interval := p.config.Sweep.Interval
	now := time.Now()
	next := schedule.Next(p.config.Name, interval, started.Add(interval/2))
	for ; next.Before(now); next = next.Add(interval) {
		p.metrics.Skipped(metrics.SkipOverrun)
		d.Log.Warn("a cycle took longer than the interval; the next one is skipped", "endpoint", p.config.Name,
			"interval", interval, "skipped", next)
	}
	p.metrics.NextStart(next)
	p.set(func(s *status) { s.next = next })
	d.Log.Info("next cycle", "endpoint", p.config.Name, "at", next.Format(time.RFC3339))
	timer := time.NewTimer(time.Until(next))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// cycle runs one cycle of an endpoint, alone in its group, and passes it on. It returns nil if ctx ended before the
// cycle could begin.
func (d *Daemon) cycle(ctx context.Context, p *endpointProbe) *probe.Cycle {
	p.group.Lock()
	defer p.group.Unlock()
	if ctx.Err() != nil {
		return nil
	}
	log := d.Log.With("endpoint", p.config.Name)
	log.Info("cycle started", "url", p.config.URL, "profile", p.target.Plan.Profile)
	p.metrics.CycleStarted()
	p.set(func(s *status) { s.state, s.next = stateRunning, time.Time{} })

	c := d.run(ctx, p, log)
	p.metrics.CycleEnded(c)
	p.finished(c)
	attrs := []any{"took", c.Ended.Sub(c.Started).Round(time.Millisecond), "stages", len(c.Stages)}
	switch f := c.Failure; {
	case f == nil:
		log.Info("cycle finished", append(attrs, "capacity_requests_per_second", round2(c.Capacity.RequestsPerSecond),
			"capacity_output_tokens_per_second", round2(c.Capacity.OutputTokensPerSecond))...)
	case f.Reason == probe.CycleInterrupted: // as every restart does
		log.Warn("cycle interrupted", append(attrs, "detail", f.Detail)...)
	default:
		log.Error("cycle failed", append(attrs, "reason", f.Reason, "detail", f.Detail)...)
	}
	d.done.Lock()
	defer d.done.Unlock()
	d.Finished(c)
	return c
}

// run turns a panic of ours into a failed cycle: one endpoint's trouble must not end the measuring of the others.
func (d *Daemon) run(ctx context.Context, p *endpointProbe, log *slog.Logger) (c *probe.Cycle) {
	started := time.Now()
	defer func() {
		if r := recover(); r != nil {
			log.Error("a fault of inferprobe ended the cycle; please report it", "panic", r, "stack", string(debug.Stack()))
			c = &probe.Cycle{
				ID:       sweep.CycleID(p.config.Name, started),
				Endpoint: probe.Endpoint{Name: p.config.Name, Model: p.config.Model, URL: p.config.URL},
				Profile:  p.target.Plan.Profile, Started: started, Ended: time.Now(),
				Failure: &probe.CycleFailure{Reason: probe.CycleInternal, Detail: fmt.Sprint(r)},
			}
		}
	}()
	c = sweep.Run(ctx, p.target, d.pools, &observer{daemon: d, probe: p, log: log}, log)
	conclude(c, p.config)
	return c
}

func round2(v float64) float64 { return float64(int64(v*100+0.5)) / 100 }
