package daemon

import (
	"fmt"
	"time"

	"github.com/inferprobe/inferprobe/internal/web"
)

// probe returns the endpoint of that name.
func (d *Daemon) probe(name string) (*endpointProbe, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, p := range d.probes {
		if p.config.Name == name {
			return p, nil
		}
	}
	return nil, fmt.Errorf("%w: %s", web.ErrUnknownEndpoint, name)
}

// RunNow starts a cycle of the endpoint that is not due yet, also outside of its windows and while it is paused. It does
// not wait for its end. It implements web.Control.
func (d *Daemon) RunNow(name string) error {
	p, err := d.probe(name)
	if err != nil {
		return err
	}
	p.mu.Lock()
	state := p.status.state
	p.mu.Unlock()
	if state == stateStandby {
		return d.elsewhere(p)
	}
	if state != stateWaiting {
		return fmt.Errorf("%w: %s is %s", web.ErrConflict, name, state)
	}
	if !d.affordable(p, cycleTokens(p.config)) {
		return fmt.Errorf("%w: the tokens that guards.tokens_per_day allows %s are used up", web.ErrConflict, name)
	}
	select {
	case p.now <- struct{}{}:
		d.Log.Info("a cycle was asked for", "endpoint", name)
		return nil
	default:
		return fmt.Errorf("%w: a cycle of %s has been asked for already", web.ErrConflict, name)
	}
}

// Pause ends what runs on the endpoint, and lets nothing start by itself until Resume, also after a restart and on the
// replica that measures the endpoint then. Only the one that does now takes it. It implements web.Control.
func (d *Daemon) Pause(name string) error { return d.setPaused(name, true) }

// Resume ends a pause. It implements web.Control.
func (d *Daemon) Resume(name string) error { return d.setPaused(name, false) }

func (d *Daemon) setPaused(name string, paused bool) error {
	d.pausing.Lock()
	defer d.pausing.Unlock()
	p, err := d.probe(name)
	if err != nil {
		return err
	}
	if !d.keepPaused(p, paused) {
		return d.elsewhere(p)
	}
	d.Log.Info("the operator changed the endpoint's state", "endpoint", name, "paused", paused)
	p.set(func(s *status) {
		if s.state == stateStandby { // about to be measured here, or lost just now: the Lease says so to whoever is next
			return
		}
		s.paused = paused
		if p.metrics != nil {
			p.metrics.Paused(paused)
		}
		if !paused {
			return
		}
		select {
		case <-p.now: // a cycle that was asked for before
		default:
		}
		if s.interrupt != nil {
			s.interrupt()
		}
	})
	return nil
}

// keepPaused lets a pause, or its end, outlast this process. It reports false where another replica measures the
// endpoint. What else is in the way is in the log, and ends neither.
func (d *Daemon) keepPaused(p *endpointProbe, paused bool) bool {
	switch name := p.config.Name; {
	case d.Leases != nil:
		return d.Leases.SetPaused(name, p.config.Group, paused)
	case paused:
		_ = d.history.Pause(name, time.Now())
	default:
		_ = d.history.Resume(name)
	}
	return true
}

// elsewhere is the answer to what only the replica that measures the endpoint can do.
func (d *Daemon) elsewhere(p *endpointProbe) error {
	holder := d.Leases.Holder(p.config.Name, p.config.Group)
	if holder == "" {
		return fmt.Errorf("%w: %s is not measured by this replica, and by no other yet", web.ErrConflict, p.config.Name)
	}
	return fmt.Errorf("%w: %s is measured by another replica, %s", web.ErrConflict, p.config.Name, holder)
}
