package daemon

import (
	"fmt"

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
	if !d.affordable(p) {
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

// Pause ends what runs on the endpoint, and lets nothing start by itself until Resume. A restart of the daemon ends it,
// too. On a replica that does not measure the endpoint it would have no effect and is refused. It implements web.Control.
func (d *Daemon) Pause(name string) error { return d.setPaused(name, true) }

// Resume ends a pause, on a replica that does not measure the endpoint any more its own. It implements web.Control.
func (d *Daemon) Resume(name string) error { return d.setPaused(name, false) }

func (d *Daemon) setPaused(name string, paused bool) error {
	p, err := d.probe(name)
	if err != nil {
		return err
	}
	standby := false
	p.set(func(s *status) {
		if standby = s.state == stateStandby && (paused || !s.paused); standby {
			return
		}
		s.paused = paused
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
	if standby {
		return d.elsewhere(p)
	}
	if m := p.series(); m != nil {
		m.Paused(paused)
	}
	d.Log.Info("the operator changed the endpoint's state", "endpoint", name, "paused", paused)
	return nil
}

// elsewhere is the answer to what only the replica that measures the endpoint can do.
func (d *Daemon) elsewhere(p *endpointProbe) error {
	holder := d.Leases.Holder(p.config.Name, p.config.Group)
	if holder == "" {
		return fmt.Errorf("%w: %s is not measured by this replica, and by no other yet", web.ErrConflict, p.config.Name)
	}
	return fmt.Errorf("%w: %s is measured by another replica, %s", web.ErrConflict, p.config.Name, holder)
}
