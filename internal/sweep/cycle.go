// Package sweep plans and runs the stages of one cycle, guards the endpoint while it does, and judges the validity of
// what it measured.
package sweep

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/inferprobe/inferprobe/internal/load"
	"github.com/inferprobe/inferprobe/internal/probe"
)

// Observer is told of a cycle as it runs. Record is called from many goroutines and must not keep its argument.
type Observer interface {
	// Discovered is called once, before the first stage, when the endpoint's model is known.
	Discovered(probe.Endpoint)
	Record(stage string, r *probe.Result)
	Progress(Progress)
}

// Progress is a running stage as of now.
type Progress struct {
	Stage             string
	Index, Of         int // this stage is number Index, from 1, of Of
	Elapsed, Limit    time.Duration
	Completed, Failed int
	InFlight          int
	TokensPerSecond   float64 // token events since the last progress
	Done              bool    // the stage is over
}

// progressEvery is how often a running stage reports progress.
const progressEvery = time.Second

// cycle is the state of one run.
type cycle struct {
	*probe.Cycle
	target  *Target
	ready   *ready
	observe Observer
	engine  *load.Engine
	seed    uint64
	total   int    // stages planned
	last    *guard // of the last stage that ran
	log     *slog.Logger
}

// Run measures the target once and returns everything it found; a cycle that could not be run says why in Failure. When
// ctx ends, the running stage is ended in order and the cycle returns with what was measured until then.
func Run(ctx context.Context, t *Target, pools Pools, observe Observer, log *slog.Logger) *probe.Cycle {
	started := time.Now()
	c := &cycle{
		target: t, observe: observe, seed: rand.Uint64(), total: len(t.Plan.StageNames()), log: log,
		Cycle: &probe.Cycle{
			ID:       t.Name + "-" + started.UTC().Format("20060102T150405Z"),
			Endpoint: probe.Endpoint{Name: t.Name, Model: t.Model, URL: t.Client.BaseURL},
			Workload: t.Workload, Profile: t.Plan.Profile,
			MaxDuration: t.Plan.MaxDuration, MaxRequests: t.Plan.MaxRequests,
			Started: started, Objectives: t.Objectives,
		},
	}
	var fail *probe.CycleFailure
	c.ready, fail = prepare(ctx, t, pools, c.seed, log)
	if c.ready != nil {
		c.Server, c.Workload = c.ready.server.String(), c.ready.workload
		c.Endpoint.Model, c.Endpoint.URL = c.ready.server.Model.ID, c.ready.server.BaseURL
	}
	observe.Discovered(c.Endpoint)
	if c.Failure = fail; fail == nil {
		defer c.ready.client.Close()
		c.runStages(ctx)
	}
	c.Capacity = capacityOf(c.Cycle)
	c.Ended = time.Now()
	return c.Cycle
}

func (c *cycle) runStages(ctx context.Context) {
	c.engine = &load.Engine{Client: c.ready.client, Source: c.ready.source}
	c.ready.client.Warm(ctx, 1)
	plan := c.target.Plan
	switch plan.Profile {
	case probe.ProfileSweep:
		c.sweep(ctx)
	case probe.ProfileSynchronous:
		c.run(ctx, plan.synchronous())
	case probe.ProfileThroughput:
		c.run(ctx, plan.throughput())
	default:
		c.rising(ctx, plan.openLoop(plan.Profile, plan.RateList))
	}
	if ctx.Err() != nil {
		c.Failure = &probe.CycleFailure{Reason: probe.CycleInterrupted, Detail: "told to stop before the cycle was done"}
	}
}

// sweep runs synchronous, throughput, then the rates between the two.
func (c *cycle) sweep(ctx context.Context) {
	plan := c.target.Plan
	low, ok := c.run(ctx, plan.synchronous())
	if !ok {
		c.skip(append([]named{plan.throughput()}, plan.openLoop(plan.Arrival, make([]float64, plan.Rates))...))
		return
	}
	high, _ := c.run(ctx, plan.throughput())
	stages := plan.openLoop(plan.Arrival, between(low.RequestsPerSecond, high.RequestsPerSecond, plan.Rates))
	if high.RequestsPerSecond <= low.RequestsPerSecond {
		// Already more than the endpoint bears at once, or the guard ended the stage before a rate was known.
		reason, detail := skipNoRate, fmt.Sprintf("throughput of %.2f req/sec is not above the synchronous %.2f",
			high.RequestsPerSecond, low.RequestsPerSecond)
		if ctx.Err() != nil {
			reason, detail = skipInterrupted, ""
		}
		c.skipFor(stages, reason, detail)
		return
	}
	c.rising(ctx, stages)
}

// rising runs stages of rising rates; when one is ended by its guard, the higher ones are skipped.
func (c *cycle) rising(ctx context.Context, stages []named) {
	for i, s := range stages {
		if _, ok := c.run(ctx, s); !ok {
			c.skip(stages[i+1:])
			return
		}
	}
}

// run runs one stage and reports whether those that ask more of the endpoint may follow.
func (c *cycle) run(ctx context.Context, s named) (probe.Stage, bool) {
	if ctx.Err() != nil {
		c.skipFor([]named{s}, skipInterrupted, "")
		return probe.Stage{}, false
	}
	s.Seed = c.seed + uint64(len(c.Stages))
	watch := c.watch(s)
	c.engine.Recorder, c.engine.Stop = watch, watch.stop
	before := throttled()
	stopProgress := c.progress(s, watch)
	out := c.engine.Run(ctx, s.Stage)
	stopProgress()

	stage := watch.collector.summarise(s, out, watch.settler)
	stage.Findings = watch.collector.judge(&stage, measurement{
		settled: watch.settler, throttled: throttled() - before, verify: c.ready.source.verify(), forced: c.ready.forced,
	})
	c.Stages = append(c.Stages, stage)
	c.last = watch.guard
	reason, _ := watch.guard.tripped()
	if stage.Completed == 0 && stage.Failed > 0 && c.Failure == nil && len(c.Stages) == 1 {
		worst, detail := watch.collector.worstFailure()
		c.Failure = &probe.CycleFailure{Reason: string(worst), Detail: detail}
	}
	return stage, reason == "" && ctx.Err() == nil && (stage.Completed > 0 || s.Profile != probe.ProfileSynchronous)
}

// skip records that stages were not run, for the reason that ended the last one.
func (c *cycle) skip(stages []named) {
	reason, detail := skipFailed, "no request succeeded"
	if c.last != nil {
		if r, d := c.last.tripped(); r != "" {
			reason, detail = r, d
		}
	}
	c.skipFor(stages, reason, detail)
}

func (c *cycle) skipFor(stages []named, reason, detail string) {
	for _, s := range stages {
		c.Skipped = append(c.Skipped, probe.Skip{Stage: s.name, Reason: reason, Detail: detail})
	}
}

// watcher stands behind one running stage: it collects, guards and, for a throughput stage, sees the rate settle.
type watcher struct {
	cycle     *cycle
	name      string
	collector *collector
	guard     *guard
	settler   *settler // nil but for a throughput stage
}

func (c *cycle) watch(s named) *watcher {
	started := time.Now()
	w := &watcher{cycle: c, name: s.name, collector: newCollector(started), guard: &guard{Guards: c.target.Guards}}
	if s.Profile == probe.ProfileThroughput {
		w.settler = &settler{
			limit: s.MaxDuration, concurrency: s.MaxInFlight, started: started,
			served: w.collector.served, events: c.engine.Live().Events.Load,
		}
	}
	return w
}

// Record takes one finished request.
func (w *watcher) Record(r *probe.Result) {
	w.collector.Record(r)
	w.guard.record(r)
	w.cycle.observe.Record(w.name, r)
}

func (w *watcher) stop() bool {
	if reason, _ := w.guard.tripped(); reason != "" {
		return true
	}
	return w.settler != nil && w.settler.check(time.Now())
}

// progress reports on the stage until the returned function is called.
func (c *cycle) progress(s named, w *watcher) (stop func()) {
	done := make(chan struct{})
	var reporter sync.WaitGroup
	index, started, live := len(c.Stages)+1, time.Now(), c.engine.Live()
	reporter.Go(func() {
		tick := time.NewTicker(progressEvery)
		defer tick.Stop()
		last, events := started, int64(0)
		for over := false; !over; {
			select {
			case <-tick.C:
			case <-done:
				over = true
			}
			now, total := time.Now(), live.Events.Load()
			p := Progress{
				Stage: s.name, Index: index, Of: c.total, Elapsed: now.Sub(started), Limit: s.MaxDuration,
				InFlight: int(live.InFlight.Load()), Done: over,
				TokensPerSecond: float64(total-events) / now.Sub(last).Seconds(),
			}
			p.Completed, p.Failed = w.collector.counts()
			c.observe.Progress(p)
			last, events = now, total
		}
	})
	return func() { close(done); reporter.Wait() }
}
