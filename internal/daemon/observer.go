package daemon

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/inferprobe/inferprobe/internal/probe"
	"github.com/inferprobe/inferprobe/internal/report"
	"github.com/inferprobe/inferprobe/internal/sweep"
)

// observer passes a running cycle's results to the metrics and its progress to whoever shows it.
type observer struct {
	daemon   *Daemon
	probe    *endpointProbe
	log      *slog.Logger
	inFlight int // as last told to the metrics
}

// Discovered renames the endpoint's series where its model was not configured.
func (o *observer) Discovered(e probe.Endpoint) {
	p := o.probe
	if e.Model == p.model() {
		return
	}
	o.log.Info("endpoint discovered", "url", e.URL, "model", e.Model)
	p.set(func(s *status) { s.model = e.Model })
	o.daemon.show(p, nil)
}

func (o *observer) Record(stage string, r *probe.Result) {
	if stage != probe.StageNone {
		o.probe.series().Record(stage, r)
	}
	o.daemon.spend(o.probe, r)
}

func (o *observer) Progress(p sweep.Progress) {
	o.probe.series().InFlight(p.InFlight - o.inFlight)
	o.inFlight = p.InFlight
	o.daemon.showBudget(o.probe)
	o.probe.set(func(s *status) { s.stage = p.Stage })
	if p.Done {
		o.log.Info("stage finished", "stage", p.Stage, "of", fmt.Sprintf("%d/%d", p.Index, p.Of),
			"took", p.Elapsed.Round(time.Millisecond), "completed", p.Completed, "failed", p.Failed)
	}
	if o.daemon.Progress == nil || p.Done {
		return
	}
	o.daemon.Progress(report.Progress{
		Endpoint: o.probe.config.Name, Stage: p.Stage, Index: p.Index, Of: p.Of,
		Elapsed: p.Elapsed, Limit: p.Limit,
		Completed: p.Completed, Failed: p.Failed, InFlight: p.InFlight, TokensPerSecond: p.TokensPerSecond,
	})
}
