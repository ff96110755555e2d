package daemon

import (
	"bytes"
	"cmp"
	"slices"
	"time"

	"github.com/inferprobe/inferprobe/internal/metrics"
	"github.com/inferprobe/inferprobe/internal/probe"
	"github.com/inferprobe/inferprobe/internal/report"
	"github.com/inferprobe/inferprobe/internal/web"
)

// kept is how many cycles an endpoint's pages can show.
const kept = 20

const (
	stateWaiting = "waiting"
	stateRunning = "running"
	stateStandby = "standby" // another replica measures it
	stateStopped = "stopped"
)

// status is what the web pages show of an endpoint.
type status struct {
	state     string
	paused    bool
	stage     string // the running one
	model     string // as discovered
	next      time.Time
	lastStart time.Time // of a cycle
	// unfinished is how many cycles in a row, up to the last one, were not seen to end by the processes before this one.
	unfinished int
	interrupt  func() // ends the cycle that runs or waits for its turn; nil while there is none
	canary     *web.CanaryStatus
	cycles     []web.CycleStatus // newest first
	recalled   bool              // cycles has all that the history has of them
}

func (p *endpointProbe) set(change func(*status)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(&p.status)
}

func (p *endpointProbe) finished(c *probe.Cycle) {
	p.set(func(s *status) {
		s.state, s.stage, s.interrupt, s.unfinished = stateWaiting, "", nil, 0
		s.cycles = append([]web.CycleStatus{cycleStatus(c)}, s.cycles[:min(len(s.cycles), kept-1)]...)
	})
}

// next shows when the next cycle is due, the zero time if none is.
func (p *endpointProbe) next(due time.Time) {
	p.series().NextStart(due)
	p.set(func(s *status) { s.next = due })
}

// series returns what fills the endpoint's series.
func (p *endpointProbe) series() *metrics.Endpoint {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.metrics
}

func (p *endpointProbe) paused() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.status.paused
}

// endpoint returns what names the endpoint, its model as discovered.
func (p *endpointProbe) endpoint() probe.Endpoint {
	return probe.Endpoint{Name: p.config.Name, Model: p.model(), URL: p.config.URL}
}

// model returns the model's name as discovered, or as configured.
func (p *endpointProbe) model() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return cmp.Or(p.status.model, p.config.Model)
}

// Endpoints returns the state of every endpoint. It implements web.State.
func (d *Daemon) Endpoints() []web.EndpointStatus {
	d.mu.Lock()
	probes := d.probes
	d.mu.Unlock()
	now := time.Now()
	out := make([]web.EndpointStatus, len(probes))
	for i, p := range probes {
		model := p.model()
		p.mu.Lock()
		out[i] = web.EndpointStatus{
			Name: p.config.Name, Model: model, URL: p.config.URL,
			State: p.status.state, Paused: p.status.paused, Stage: p.status.stage, NextStart: p.status.next,
			Canary: p.status.canary, Cycles: slices.Clone(p.status.cycles),
		}
		p.mu.Unlock()
		if out[i].State != stateStandby {
			out[i].Tokens = d.tokens(p, now)
		}
		if len(out[i].Cycles) > 0 {
			out[i].LastCycle = &out[i].Cycles[0]
		}
	}
	return out
}

// tokens returns what is left of the endpoint's tokens of the day, nil without a limit.
func (d *Daemon) tokens(p *endpointProbe, now time.Time) *web.TokenBudget {
	limit := int64(p.config.Guards.TokensPerDay)
	if limit == 0 {
		return nil
	}
	year, month, day := now.UTC().Date()
	remaining := budget{d, p}.remaining()
	return &web.TokenBudget{
		PerDay: limit, Remaining: remaining, CoversCycle: remaining >= cycleTokens(p.config),
		Renewed: time.Date(year, month, day+1, 0, 0, 0, 0, time.UTC),
	}
}

func cycleStatus(c *probe.Cycle) web.CycleStatus {
	s := web.CycleStatus{
		ID: c.ID, Started: c.Started, Ended: c.Ended, Valid: c.Failure == nil,
		RequestsPerSecond:     c.Capacity.RequestsPerSecond,
		OutputTokensPerSecond: c.Capacity.OutputTokensPerSecond,
	}
	if c.Failure != nil {
		s.Failure = c.Failure.Reason
	}
	if c.Regression.Detected() {
		for _, change := range c.Regression.Changes {
			if change.Detected {
				s.Regressions = append(s.Regressions, string(change.Signal))
			}
		}
	}
	for i := range c.Stages {
		s.Valid = s.Valid && c.Stages[i].Valid()
	}
	return s
}

// Report returns a cycle's report as JSON. It implements web.State.
func (d *Daemon) Report(id string) ([]byte, bool) {
	c := d.history.Cycle(id)
	if c == nil {
		return nil, false
	}
	var b bytes.Buffer
	if err := report.WriteJSON(&b, c); err != nil {
		return nil, false
	}
	return b.Bytes(), true
}
