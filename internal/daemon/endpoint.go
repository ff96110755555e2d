package daemon

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/inferprobe/inferprobe/internal/config"
	"github.com/inferprobe/inferprobe/internal/metrics"
	"github.com/inferprobe/inferprobe/internal/probe"
	"github.com/inferprobe/inferprobe/internal/schedule"
	"github.com/inferprobe/inferprobe/internal/sweep"
	"github.com/inferprobe/inferprobe/internal/web"
)

// endpointProbe is one endpoint, how and when it is measured, and what is known of it.
type endpointProbe struct {
	config *config.Endpoint
	plan   schedule.Plan
	group  *group
	now    chan struct{} // asks for a cycle at once

	life    context.Context
	cancel  context.CancelFunc // ends life
	started bool               // its life has begun; guarded by Daemon.mu
	ended   chan struct{}      // closed when its life is over

	mu      sync.Mutex
	loaded  *config.Endpoint  // config with the secrets as they are now
	metrics *metrics.Endpoint // nil while another replica measures the endpoint, from the start
	status  status
}

// newProbe makes the probe of an endpoint and its series. It takes over what is known of the endpoint from before, the
// probe of the same name, if there was one, and else from the history.
func (d *Daemon) newProbe(e *config.Endpoint, before *endpointProbe) *endpointProbe {
	p := &endpointProbe{
		config: e, plan: e.Sweep.Plan(e.Name), group: d.groups.of(e.Group), loaded: e,
		now: make(chan struct{}, 1), ended: make(chan struct{}),
		status: status{state: stateWaiting},
	}
	p.life, p.cancel = context.WithCancel(context.Background())
	if before != nil {
		before.mu.Lock()
		p.status.paused = before.status.paused
		p.status.cycles, p.status.recalled = before.status.cycles, before.status.recalled
		if sameMeasurement(e, before.config) {
			p.status.lastStart, p.status.unfinished = before.status.lastStart, before.status.unfinished
		}
		if e.URL == before.config.URL {
			p.status.model = before.status.model
		}
		before.mu.Unlock()
	}
	var last []*probe.Cycle
	if before == nil {
		last = d.remember(p)
	}
	if d.Leases == nil {
		d.show(p, last)
		return p
	}
	p.status.state, p.status.paused = stateStandby, false // until the Lease is held, which tells
	if before != nil && before.config.Group != e.Group {
		d.Leases.Move(e.Name, before.config.Group, e.Group)
	}
	return p
}

// recallPause begins the endpoint's waiting here, with a pause of an operator's at the process before or, with Leases, at
// whichever replica measured the endpoint before. A pause that a replica remembers is nothing beside the Lease's word:
// another one may have ended it.
func (d *Daemon) recallPause(p *endpointProbe) {
	var paused bool
	p.set(func(s *status) { // in one: setPaused tells the history or the Lease before it looks at the state
		if d.Leases != nil {
			s.paused = d.Leases.Paused(p.config.Name, p.config.Group)
		} else {
			s.paused = s.paused || d.history.Paused(p.config.Name)
		}
		s.state = stateWaiting
		p.metrics.Paused(s.paused)
		paused = s.paused
	})
	if paused {
		d.Log.Warn("the endpoint is not measured: an operator paused it; POST /api/v1/endpoints/NAME/resume ends that",
			"endpoint", p.config.Name)
	}
}

// remember takes what is known of the endpoint from the history, and returns the newest cycles that ran to their end,
// oldest first: the last one, and where that could not judge every signal those before it, whose verdicts still hold. It
// reads no more than it takes to find these: a daemon of many endpoints would not be ready for a minute. recall reads the
// rest.
func (d *Daemon) remember(p *endpointProbe) (last []*probe.Cycle) {
	var cycles []*probe.Cycle
	for n := 1; n <= kept && !judged(last); n *= 4 {
		if cycles = d.history.Last(p.config.Name, n); len(cycles) < n {
			n = kept // there are no more
		}
		last = slices.DeleteFunc(slices.Clone(cycles), func(c *probe.Cycle) bool { return c.Failure != nil })
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status.cycles, p.status.recalled = nil, false
	for _, c := range cycles {
		p.status.cycles = append([]web.CycleStatus{cycleStatus(c)}, p.status.cycles...)
		p.status.lastStart = c.Started
		if c.Endpoint.Model != "" && c.Endpoint.URL == p.config.URL {
			p.status.model = c.Endpoint.Model
		}
	}
	p.status.unfinished = 0
	if started, n := d.history.Unfinished(p.config.Name); n > 0 && started.After(p.status.lastStart) {
		p.status.lastStart, p.status.unfinished = started, n
	}
	return last
}

// judged reports whether the cycles, or one of them, have all that is to be known of an endpoint when it is shown: the
// values of a cycle that ran to its end, and a verdict on each of its signals.
func judged(cycles []*probe.Cycle) bool {
	if len(cycles) == 0 {
		return false
	}
	r := cycles[len(cycles)-1].Regression
	return r == nil || r.Note == "" || slices.ContainsFunc(cycles, func(c *probe.Cycle) bool {
		return c.Regression != nil && c.Regression.Note == ""
	})
}

// recall reads of every endpoint the cycles that its page shows and remember has not read, one endpoint after another,
// until ctx ends.
func (d *Daemon) recall(ctx context.Context) {
	const pause = 50 * time.Millisecond // a third of a CPU at most
	d.mu.Lock()
	probes := d.probes
	d.mu.Unlock()
	for _, p := range probes {
		p.mu.Lock()
		recalled := p.status.recalled
		p.mu.Unlock()
		if recalled {
			continue
		}
		cycles := d.history.Last(p.config.Name, kept)
		p.set(func(s *status) {
			for _, c := range slices.Backward(cycles) {
				if n := len(s.cycles); n < kept && (n == 0 || c.Started.Before(s.cycles[n-1].Started)) {
					s.cycles = append(s.cycles, cycleStatus(c))
				}
			}
			s.recalled = true
		})
		if !sleepUntil(ctx, time.Now().Add(pause)) {
			return
		}
	}
}

// show makes the endpoint's series, with the values of its last cycles.
func (d *Daemon) show(p *endpointProbe, last []*probe.Cycle) {
	m := d.metrics.Add(p.endpoint(), labels(p.config), stages(p.config))
	for _, c := range last {
		m.Restore(c)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	m.Objectives(p.config.Objectives.Probe())
	m.CanaryInterval(p.config.Canary.Interval)
	m.Paused(p.status.paused)
	p.metrics = m
}

// stages returns the names of all the endpoint's stages.
func stages(e *config.Endpoint) []string {
	var names []string
	if e.Sweep.Scheduled() {
		names = target(e, "").Plan.StageNames()
	}
	if e.Canary.Interval > 0 {
		names = append(names, probe.StageCanary)
	}
	return names
}

// sameMeasurement reports whether two configurations of an endpoint measure the same, whatever else they change.
func sameMeasurement(a, b *config.Endpoint) bool {
	measured := func(e *config.Endpoint) string {
		sweep := e.Sweep
		sweep.Interval, sweep.Cron, sweep.Windows = 0, "", nil // when, not what
		return (&config.Endpoint{
			URL: e.URL, Headers: e.Headers, TLS: e.TLS, Model: e.Model, Tokenizer: e.Tokenizer, API: e.API,
			Dialect: e.Dialect, ExtraBody: e.ExtraBody, Sweep: sweep,
		}).Fingerprint()
	}
	return measured(a) == measured(b)
}

// target is what a cycle measures now, with the secrets as they are now.
func (d *Daemon) target(p *endpointProbe) *sweep.Target { return target(p.latest(), d.Version) }

// latest returns the endpoint's configuration with the secrets as they are now. When they change it is another one.
func (p *endpointProbe) latest() *config.Endpoint {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.loaded
}

// live measures the endpoint until its life ends; where replicas share the endpoints, while it is this one's.
func (d *Daemon) live(p *endpointProbe, cycles int) {
	defer p.set(func(s *status) { s.state, s.next = stateStopped, time.Time{} })
	if d.Leases == nil {
		if cycles == 0 {
			d.recallPause(p)
		}
		d.measure(p.life, p, cycles, nil)
		return
	}
	d.Leases.Hold(p.life, p.config.Name, p.config.Group, func(held context.Context, handOver <-chan struct{}) {
		d.show(p, d.remember(p)) // what another replica has found meanwhile, where they share a folder
		d.recallPause(p)
		d.measure(held, p, cycles, handOver)
		if p.life.Err() == nil { // lost; at the end of the daemon the last values stay
			d.metrics.Remove(p.config.Name)
			p.set(func(s *status) { s.state, s.next, s.paused = stateStandby, time.Time{}, false })
		}
	})
}

// measure runs cycles and canary until ctx ends or handOver is closed, or as many cycles as are asked for.
func (d *Daemon) measure(ctx context.Context, p *endpointProbe, cycles int, handOver <-chan struct{}) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var canary sync.WaitGroup
	if p.config.Canary.Interval > 0 {
		canary.Go(func() { d.canaries(ctx, p) })
	}
	switch {
	case cycles > 0:
		for range cycles {
			d.cycle(ctx, p, true)
		}
	default:
		d.cycles(ctx, p, handOver)
	}
	cancel()
	canary.Wait()
}

// cycles runs cycles as the schedule and the operator want them, until ctx ends or, between two cycles, handOver is
// closed.
func (d *Daemon) cycles(ctx context.Context, p *endpointProbe, handOver <-chan struct{}) {
	due := p.first(time.Now())
	for ctx.Err() == nil {
		p.next(due)
		if !due.IsZero() && due.After(time.Now()) {
			d.Log.Info("next cycle", "endpoint", p.config.Name, "at", due.Format(time.RFC3339))
		}
		asked, ok := p.wait(ctx, due, handOver)
		if !ok {
			return
		}
		started := time.Now()
		if !asked {
			if reason := d.hindrance(p, started); reason != "" {
				d.skip(p, due, reason)
				due = p.plan.Next(started)
				continue
			}
		}
		ran := d.cycle(ctx, p, asked) != nil
		if due = (time.Time{}); p.config.Sweep.Scheduled() {
			due = d.afterwards(p, started)
			if ran {
				due = p.sooner(due)
			}
		}
	}
}

// first returns when the first cycle is due: at once, unless the last one was begun less than an interval ago, and where
// that brought no result, when it is to be tried again. A restart thus neither measures again what has just been measured
// nor waits for hours.
func (p *endpointProbe) first(now time.Time) time.Time {
	if !p.config.Sweep.Scheduled() {
		return time.Time{}
	}
	p.mu.Lock()
	last := p.status.lastStart
	p.mu.Unlock()
	if !last.IsZero() && !last.After(now) {
		if due := p.sooner(p.plan.After(last)); due.After(now) {
			return due
		}
	}
	if _, open := p.plan.Open(now); !open {
		return p.plan.Next(now)
	}
	return now
}

// afterwards returns when the next cycle is due after one that began at started. What came due while it ran is skipped:
// it is not caught up with.
func (d *Daemon) afterwards(p *endpointProbe, started time.Time) time.Time {
	now := time.Now()
	due := p.plan.After(started)
	for ; !due.IsZero() && due.Before(now); due = p.plan.Next(due) {
		d.skip(p, due, metrics.SkipOverrun)
	}
	return due
}

func (d *Daemon) skip(p *endpointProbe, due time.Time, reason string) {
	p.series().Skipped(reason)
	d.Log.Warn("a cycle was due and is skipped", "endpoint", p.config.Name, "reason", reason,
		"due", due.Format(time.RFC3339))
}

// hindrance returns why a cycle that is due at now must not start, "" if it may.
func (d *Daemon) hindrance(p *endpointProbe, now time.Time) string {
	_, open := p.plan.Open(now)
	switch {
	case p.paused():
		return metrics.SkipPaused
	case !d.affordable(p, cycleTokens(p.config)):
		return metrics.SkipTokenBudget
	case !open:
		return metrics.SkipWindow
	}
	return ""
}

// wait sleeps until a cycle is due, at the zero time never, or is asked for. It reports false if ctx ended or handOver
// was closed first.
func (p *endpointProbe) wait(ctx context.Context, due time.Time, handOver <-chan struct{}) (asked, ok bool) {
	var timer <-chan time.Time
	if !due.IsZero() {
		t := time.NewTimer(time.Until(due))
		defer t.Stop()
		timer = t.C
	}
	select {
	case <-timer:
		return false, ctx.Err() == nil
	case <-p.now:
		return true, ctx.Err() == nil
	case <-handOver:
		return false, false
	case <-ctx.Done():
		return false, false
	}
}
