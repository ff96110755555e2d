// Package daemon is the composition root: it turns a configuration into running probes, passes what they measure to the
// metrics, the history, the log and the web pages, follows changes of the configuration, and shuts down in order.
package daemon

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/inferprobe/inferprobe/internal/config"
	"github.com/inferprobe/inferprobe/internal/history"
	"github.com/inferprobe/inferprobe/internal/metrics"
	"github.com/inferprobe/inferprobe/internal/probe"
	"github.com/inferprobe/inferprobe/internal/report"
	"github.com/inferprobe/inferprobe/internal/sweep"
	"github.com/inferprobe/inferprobe/internal/tokenizer"
)

// Options of a daemon.
type Options struct {
	Config *config.Config
	// Load reads the configuration anew; nil where Reload is to fail.
	Load     func() (*config.Config, error)
	Version  string
	Registry prometheus.Registerer
	Hub      *tokenizer.Hub
	// Leases decide which endpoints are measured here; nil = all of them.
	Leases Leases
	Log    *slog.Logger
	// Finished is called with each cycle, one at a time.
	Finished func(*probe.Cycle)
	// Progress is called while stages run, from one goroutine an endpoint.
	Progress func(report.Progress)
}

// Leases make one of several replicas measure an endpoint, and all endpoints of a group the same one.
type Leases interface {
	// Hold calls run each time that the endpoint is this replica's to measure, and cancels its context before it could
	// be another's. handOver is closed when run should return as soon as it is idle. Hold returns when ctx has ended and
	// run has returned. The group is "" where the endpoint is in none.
	Hold(ctx context.Context, endpoint, group string, run func(ctx context.Context, handOver <-chan struct{}))
	// Holder returns the name of the replica that measures the endpoint; "" if it is not known.
	Holder(endpoint, group string) string
	// Paused reports whether an operator has paused the endpoint that this replica measures, on whatever replica.
	Paused(endpoint, group string) bool
	// SetPaused lets the replica that measures the endpoint next know of a pause or of its end. It reports false, and does
	// nothing, if that is not for this replica to say, which does not measure the endpoint.
	SetPaused(endpoint, group string, paused bool) bool
	// Move lets the replica that measures the endpoint next know of a pause when the endpoint's group has changed.
	Move(endpoint, from, to string)
}

// Daemon measures the configured endpoints.
type Daemon struct {
	Options
	metrics *metrics.Metrics
	pools   *pools
	history *history.Store
	ledger  *history.Ledger
	groups  groups
	done    gate // one Finished at a time
	sweep   func(context.Context, *sweep.Target, sweep.Pools, sweep.Observer, *slog.Logger) *probe.Cycle

	reloading sync.Mutex // one Reload at a time
	// pausing makes what is known of a pause here, in the history and in the Lease change together, and not while a reload
	// hands it from one probe to the next.
	pausing sync.Mutex

	mu       sync.Mutex
	config   *config.Config
	failedAt time.Time            // when the last Reload failed; zero if it did not
	probes   []*endpointProbe     // in the order of the configuration
	slots    gate                 // cycles that run at the same time
	serving  func(*endpointProbe) // starts the life of a probe; nil while none may begin
}

// New builds a daemon, reads what it is to remember of earlier days, and creates every series of every endpoint.
func New(o Options) *Daemon {
	kept := o.Config.History
	d := &Daemon{
		Options: o,
		metrics: metrics.New(o.Registry, metrics.Mode(o.Config.Metrics.Histograms)),
		pools:   newPools(o.Hub, o.Log),
		history: history.Open(kept.Dir, history.Limits{Cycles: kept.Cycles, Age: kept.MaxAge}, o.Log),
		ledger:  history.OpenLedger(kept.Dir, o.Log),
		done:    newGate(1),
		sweep:   sweep.Run,
		config:  o.Config,
		slots:   newGate(o.Config.Limits.ConcurrentSweeps),
	}
	if d.history.Healthy() != nil {
		d.Log.Warn("set history.dir (--history.dir) to a folder that can be written: restarts forget what is kept in memory, "+
			"and regressions are judged against it", "dir", kept.Dir)
	}
	for i := range o.Config.Endpoints {
		d.probes = append(d.probes, d.newProbe(&o.Config.Endpoints[i], nil))
	}
	d.metrics.Reloaded(true, time.Now())
	return d
}

// HostTrusted shows whether the host let us send and read in time when we started.
func (d *Daemon) HostTrusted(ok bool) { d.metrics.HostTrusted(ok) }

// RunOnce measures every endpoint once, one after another, so that they do not disturb each other, and returns a cycle of
// each. When ctx ends, those of the endpoints not yet measured say so.
func (d *Daemon) RunOnce(ctx context.Context) []*probe.Cycle {
	cycles := make([]*probe.Cycle, len(d.probes))
	for i, p := range d.probes {
		if cycles[i] = d.cycle(ctx, p, true); cycles[i] == nil {
			cycles[i] = d.notBegun(p)
		}
	}
	d.ledger.Flush()
	return cycles
}

// Serve measures every endpoint on its schedule until ctx ends, then ends running cycles in order. With cycles > 0 each
// endpoint is measured that many times, without waiting for its schedule, and Serve returns.
func (d *Daemon) Serve(ctx context.Context, cycles int) {
	var running sync.WaitGroup
	if cycles == 0 { // a reload may end every probe before it starts the first new one
		running.Go(func() {
			<-ctx.Done()
			d.mu.Lock()
			d.serving = nil
			d.mu.Unlock()
		})
	}
	d.mu.Lock()
	d.serving = func(p *endpointProbe) {
		p.started = true
		running.Go(func() {
			defer close(p.ended)
			defer context.AfterFunc(ctx, p.cancel)()
			d.live(p, cycles)
		})
	}
	for _, p := range d.probes {
		d.serving(p)
	}
	d.mu.Unlock()

	keeping, stop := context.WithCancel(context.WithoutCancel(ctx))
	var house sync.WaitGroup
	house.Go(func() { d.keepHouse(keeping) })
	house.Go(func() { d.readBack(keeping) })
	running.Wait()
	stop()
	house.Wait()
	d.ledger.Flush()
}

// readBack reads the history of endpoints that are new here, for their pages.
func (d *Daemon) readBack(ctx context.Context) {
	const period = 5 * time.Second
	tick := time.NewTicker(period)
	defer tick.Stop()
	for ctx.Err() == nil {
		d.recall(ctx)
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// keepHouse writes down every few seconds what has been spent, and says whether that and cycles can be kept on disk.
func (d *Daemon) keepHouse(ctx context.Context) {
	const period = 5 * time.Second
	tick := time.NewTicker(period)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			spent := d.ledger.Flush()
			d.metrics.HistoryWritable(spent == nil && d.history.Healthy() == nil)
		}
	}
}
