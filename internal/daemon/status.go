package daemon

import (
	"bytes"
	"time"

	"github.com/inferprobe/inferprobe/internal/probe"
	"github.com/inferprobe/inferprobe/internal/report"
	"github.com/inferprobe/inferprobe/internal/web"
)

// kept is how many cycles an endpoint's pages can show.
const kept = 20

const (
	stateWaiting = "waiting"
	stateRunning = "running"
	stateStopped = "stopped"
)

// status is what the web pages show of an endpoint.
type status struct {
	state  string
	stage  string // the running one
	model  string // as discovered
	next   time.Time
	cycles []*probe.Cycle // newest first
}

func (p *endpointProbe) set(change func(*status)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(&p.status)
}

func (p *endpointProbe) finished(c *probe.Cycle) {
	p.set(func(s *status) {
		s.state, s.stage = stateWaiting, ""
		s.cycles = append([]*probe.Cycle{c}, s.cycles[:min(len(s.cycles), kept-1)]...)
	})
}

// model returns the model's name as discovered, or as configured.
func (p *endpointProbe) model() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.status.model != "" {
		return p.status.model
	}
	return p.config.Model
}

// Endpoints returns the state of every endpoint.
func (d *Daemon) Endpoints() []web.EndpointStatus {
	out := make([]web.EndpointStatus, len(d.probes))
	for i, p := range d.probes {
		model := p.model()
		p.mu.Lock()
		out[i] = web.EndpointStatus{
			Name: p.config.Name, Model: model, URL: p.config.URL,
			State: p.status.state, Stage: p.status.stage, NextStart: p.status.next,
		}
		for _, c := range p.status.cycles {
			out[i].Cycles = append(out[i].Cycles, cycleStatus(c))
		}
		p.mu.Unlock()
		if len(out[i].Cycles) > 0 {
			out[i].LastCycle = &out[i].Cycles[0]
		}
	}
	return out
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
	for i := range c.Stages {
		s.Valid = s.Valid && c.Stages[i].Valid()
	}
	return s
}

// Report returns a cycle's report as JSON.
func (d *Daemon) Report(id string) ([]byte, bool) {
	for _, p := range d.probes {
		p.mu.Lock()
		cycles := p.status.cycles
		p.mu.Unlock()
		for _, c := range cycles {
			if c.ID != id {
				continue
			}
			var b bytes.Buffer
			if err := report.WriteJSON(&b, c); err != nil {
				return nil, false
			}
			return b.Bytes(), true
		}
	}
	return nil, false
}
