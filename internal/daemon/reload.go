package daemon

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/inferprobe/inferprobe/internal/config"
)

// Reload reads the configuration anew and applies it: endpoints that are gone end and vanish from the metrics, changed
// ones start anew and go on counting, and the others do not notice. Secrets are taken over by all. An error says what is
// wrong with the configuration; nothing has changed then. It implements web.Control.
func (d *Daemon) Reload(context.Context) error {
	d.reloading.Lock()
	defer d.reloading.Unlock()
	err := d.reload()
	now := time.Now()
	d.metrics.Reloaded(err == nil, now)
	d.mu.Lock()
	d.failedAt = time.Time{}
	if err != nil {
		d.failedAt = now
	}
	d.mu.Unlock()
	if err != nil {
		d.Log.Error("the configuration could not be reloaded; the old one stays", "error", err)
	}
	return err
}

func (d *Daemon) reload() error {
	if d.Load == nil {
		return errors.New("this command does not read its configuration again")
	}
	c, err := d.Load()
	if err != nil {
		return err
	}
	d.mu.Lock()
	old := d.config
	d.mu.Unlock()
	if c.History != old.History || c.Metrics != old.Metrics {
		d.Log.Warn("changes of history and metrics take effect with the next start")
	}
	d.apply(c)
	return nil
}

// apply makes the difference between the running probes and c.
func (d *Daemon) apply(c *config.Config) {
	d.pausing.Lock()
	defer d.pausing.Unlock()
	d.mu.Lock()
	old := d.probes
	d.mu.Unlock()
	var probes, ending []*endpointProbe
	var added, changed, removed []string
	for _, p := range old {
		i := slices.IndexFunc(c.Endpoints, func(e config.Endpoint) bool { return e.Name == p.config.Name })
		switch {
		case i < 0:
			removed = append(removed, p.config.Name)
			ending = append(ending, p)
			d.keepPaused(p, false) // before its end, while its Lease is held
		case c.Endpoints[i].Fingerprint() != p.config.Fingerprint():
			ending = append(ending, p)
		default:
			d.rotate(p, &c.Endpoints[i])
		}
	}
	d.endAll(ending)
	for i := range c.Endpoints {
		e := &c.Endpoints[i]
		at := slices.IndexFunc(old, func(p *endpointProbe) bool { return p.config.Name == e.Name })
		switch {
		case at < 0:
			added = append(added, e.Name)
			probes = append(probes, d.newProbe(e, nil))
		case slices.Contains(ending, old[at]):
			changed = append(changed, e.Name)
			probes = append(probes, d.newProbe(e, old[at]))
		default:
			probes = append(probes, old[at])
		}
	}
	for _, name := range removed {
		d.metrics.Remove(name)
	}
	d.replace(c, probes)
	d.Log.Info("configuration reloaded", "endpoints", len(probes), "added", added, "changed", changed, "removed", removed)
}

// replace makes probes the running ones, and starts those that do not run yet.
func (d *Daemon) replace(c *config.Config, probes []*endpointProbe) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if c.Limits != d.config.Limits {
		d.slots = newGate(c.Limits.ConcurrentSweeps) // cycles that run hold places of the old one
	}
	d.config, d.probes = c, probes
	for _, p := range probes {
		if !p.started && d.serving != nil {
			d.serving(p)
		}
	}
}

// endAll ends the lives of probes and waits for their ends.
func (d *Daemon) endAll(probes []*endpointProbe) {
	for _, p := range probes {
		p.cancel()
	}
	d.mu.Lock()
	begun := slices.Clone(probes)
	begun = slices.DeleteFunc(begun, func(p *endpointProbe) bool { return !p.started })
	d.mu.Unlock()
	for _, p := range begun {
		<-p.ended
	}
}

// rotate gives a running probe the secrets as they are now, in a configuration that is else the same. The next cycle uses
// them.
func (d *Daemon) rotate(p *endpointProbe, now *config.Endpoint) {
	p.mu.Lock()
	changed := !p.loaded.SameSecrets(now)
	if changed {
		p.loaded = now
	}
	p.mu.Unlock()
	if changed {
		d.Log.Info("the endpoint's secrets have changed", "endpoint", p.config.Name)
	}
}
