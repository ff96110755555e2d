// Package sweep plans and runs the stages of one cycle, guards the endpoint while it does, and judges the validity of
// what it measured.
package sweep

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/inferprobe/inferprobe/internal/load"
	"github.com/inferprobe/inferprobe/internal/probe"
)

// Observer is told of a cycle as it runs. Record is called from many goroutines and must not keep its argument.
type Observer interface {
	// Discovered is called once, before the first stage, when the endpoint's model is known; not at all if it cannot be
	// found out.
	Discovered(probe.Endpoint)
	Record(stage string, r *probe.Result) // probe.StageNone for a request before the first stage or between two
	Progress(Progress)
}

// cycle is the state of one run.
type cycle struct {
	*probe.Cycle
	target  *Target
	ready   ready
	observe Observer
	engine  *load.Engine
	users   users
	seed    uint64
	log     *slog.Logger

	allowance *allowance
	carried   *probe.Finding // on the next stage: the server is still at requests that the last one cut off
	alone     time.Duration  // that a request alone waits for its first token; 0 = not known
	quiet     time.Duration  // quietWait

	throttled func() time.Duration // for how long the CPU quota has stopped this process so far
}

// Run measures the target once and returns everything it found; a cycle that could not be run says why in Failure. When
// ctx ends, the running stage is ended in order and the cycle returns with what was measured until then.
func Run(ctx context.Context, t *Target, pools Pools, observe Observer, log *slog.Logger) *probe.Cycle {
	c := newCycle(t, observe, log)
	defer c.close()
	defer c.logPanic()
	if c.prepare(ctx, pools) {
		c.runStages(ctx)
	}
	c.Capacity = capacityOf(c.Cycle)
	c.Ended = time.Now()
	return c.Cycle
}

// NotBegun returns the cycle of a target whose turn did not come before all was told to stop.
func NotBegun(t *Target) *probe.Cycle {
	c := describe(t)
	c.Ended = c.Started
	c.Failure = &probe.CycleFailure{Reason: probe.CycleInterrupted, Detail: "told to stop before the cycle began"}
	return c
}

func newCycle(t *Target, observe Observer, log *slog.Logger) *cycle {
	allowed := &allowance{budget: t.Guards.Budget}
	return &cycle{
		Cycle: describe(t), target: t, observe: observe, seed: rand.Uint64(), log: log, quiet: quietWait,
		allowance: allowed, ready: ready{allowance: allowed, observe: observe}, throttled: throttled,
	}
}

// describe returns a cycle that begins now, with what the target asks for.
func describe(t *Target) *probe.Cycle {
	started := time.Now()
	workload := t.Workload
	workload.Tokenizer = cmp.Or(t.Tokenizer, t.Model)
	return &probe.Cycle{
		ID:       CycleID(t.Name, started),
		Endpoint: probe.Endpoint{Name: t.Name, Model: t.Model, URL: t.Client.BaseURL},
		Workload: workload, Profile: t.Plan.Profile,
		MaxDuration: t.Plan.MaxDuration, MaxRequests: t.Plan.MaxRequests, MaxConcurrency: t.Plan.concurrency(),
		Started: started, Objectives: t.Objectives,
	}
}

// CycleID returns the ID of the cycle that began on the endpoint of that name at that time.
func CycleID(endpoint string, started time.Time) string {
	return endpoint + "-" + started.UTC().Format("20060102T150405.000Z")
}

// prepare finds out what is to be measured, and reports whether it can be.
func (c *cycle) prepare(ctx context.Context, pools Pools) bool {
	const lengths = 2 // of prompts, which tells the chat template from a tokenizer that is not the model's
	c.Failure = c.ready.prepare(ctx, c.target, pools, c.seed, lengths, c.log)
	if model := c.ready.server.Model.ID; model != "" {
		c.Server, c.Workload = c.ready.server.String(), c.ready.workload
		c.Endpoint.Model, c.Endpoint.URL = model, c.ready.server.BaseURL
		c.observe.Discovered(c.Endpoint)
	}
	if c.Failure != nil {
		return false
	}
	c.engine = &load.Engine{Client: c.ready.client, Source: c.ready.source, Admit: c.allowance.take}
	c.watchUsers(ctx)
	return true
}

// logPanic logs where in a goroutine of the cycle a panic came from, which whoever recovers from it cannot see.
func (c *cycle) logPanic() {
	fault := recover()
	if fault == nil {
		return
	}
	if p, ok := fault.(*load.Panic); ok {
		c.log.Error("a goroutine of the cycle panicked", "panic", p.Error(), "stack", string(p.Stack))
	}
	panic(fault)
}

func (c *cycle) close() {
	c.users.close()
	c.ready.close()
}

func (c *cycle) runStages(ctx context.Context) {
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
		stages := plan.openLoop(plan.Profile, plan.RateList)
		if len(stages) > 1 {
			c.learnAlone(ctx)
		}
		c.openLoops(ctx, stages)
	}
}

// sweep runs synchronous, throughput, then the rates between the two. The throughput stage overloads the endpoint on
// purpose: a guard that ends it says nothing about lower rates.
func (c *cycle) sweep(ctx context.Context) {
	plan := c.target.Plan
	low, stop := c.run(ctx, plan.synchronous())
	if stop != nil {
		c.skip(plan.throughput(), stop)
		c.skipAll(plan.openLoop(plan.Arrival, make([]float64, plan.Rates)), stop)
		return
	}
	high, stop := c.run(ctx, plan.throughput())
	if stop != nil && stop.reason == skipYielded { // it has not found the rates
		c.skipAll(plan.openLoop(plan.Arrival, make([]float64, plan.Rates)), stop)
		return
	}
	stages := plan.openLoop(plan.Arrival, between(low.RequestsPerSecond, high.RequestsPerSecond, plan.Rates))
	if high.RequestsPerSecond <= low.RequestsPerSecond {
		if stop == nil {
			stop = &obstacle{skipNoRate, fmt.Sprintf("throughput of %.2f req/sec is not above the synchronous %.2f",
				high.RequestsPerSecond, low.RequestsPerSecond)}
		}
		c.skipAll(stages, stop)
		return
	}
	c.openLoops(ctx, stages)
}

// openLoops runs open loops in their order. When one asked too much of the endpoint, those of rates that are not lower
// are skipped; when anything else ended one before its time, all that are left.
func (c *cycle) openLoops(ctx context.Context, stages []named) {
	var tooMuch *obstacle
	var limit float64 // requests/s that were too much
	for i, s := range stages {
		if tooMuch != nil && s.Rate >= limit {
			c.skip(s, tooMuch)
			continue
		}
		_, stop := c.run(ctx, s)
		switch {
		case stop == nil:
		case c.Failure != nil || !stop.byRate():
			c.skipAll(stages[i+1:], stop)
			return
		default:
			tooMuch, limit = stop, s.Rate
		}
	}
}

// obstacle is why stages are skipped.
type obstacle struct{ reason, detail string }

// byRate reports whether it may not stand against a lower rate.
func (o *obstacle) byRate() bool {
	return o.reason == skipErrorRate || o.reason == skipTTFT || o.reason == skipSaturated
}

func (c *cycle) skip(s named, o *obstacle) {
	c.Skipped = append(c.Skipped, probe.Skip{Stage: s.name, Reason: o.reason, Detail: o.detail})
}

func (c *cycle) skipAll(stages []named, o *obstacle) {
	for _, s := range stages {
		c.skip(s, o)
	}
}

// interrupted is the obstacle of a cycle that was told to stop, which fails by it.
func (c *cycle) interrupted() *obstacle {
	c.Failure = toldToStop()
	return &obstacle{reason: skipInterrupted}
}

func toldToStop() *probe.CycleFailure {
	return &probe.CycleFailure{Reason: probe.CycleInterrupted, Detail: "told to stop before the cycle was done"}
}
