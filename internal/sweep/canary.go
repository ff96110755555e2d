package sweep

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/inferprobe/inferprobe/internal/probe"
)

// Lengths of a canary's request where its target leaves them at zero.
const (
	DefaultCanaryPromptTokens = 128
	DefaultCanaryOutputTokens = 32
)

const (
	// canaryAge is how long a canary trusts what it has found out about its server.
	canaryAge = time.Hour
	// canaryRetry is how long at least it goes on with what it knows, whatever happens.
	canaryRetry = 5 * time.Minute
)

// Canary keeps a continuous signal of one endpoint between sweeps, by one light request at a time. What it needs to
// know of the server, its model and the tokenizer is found out with the first request and kept, so that each later one
// costs the endpoint one request. It is found out anew after an hour, and after a failure that may come from a server
// that is another than before.
//
// At rest a Canary holds 7 kB. Its connection is kept for four seconds, as all are: more often than that a
// canary reuses it, less often it opens a new one, which does not count as time to first token.
type Canary struct {
	target  Target
	pools   Pools
	observe Observer
	log     *slog.Logger

	mu    sync.Mutex
	ready *ready         // nil until the server is known
	told  probe.Endpoint // as last told to the observer
	tried time.Time      // when the server was last looked at
	stale bool           // it may be another by now
}

// CanaryOutcome is how one probe ended.
type CanaryOutcome struct {
	// Outcome is Completed or Failed; Incomplete where the context ended first, or the budget does not cover the request,
	// which says nothing about the endpoint.
	Outcome probe.Outcome
	// Reason of a failure is a probe.Reason, as that of a request, or one of the cycle's own where no request could be
	// made: CycleTokenizer, CycleContext and CycleInternal, for which the endpoint is not to blame.
	Reason string
	Detail string // of a failure, one line
	Sent   time.Time
	// TimeToFirstToken and Duration are zero where there is none.
	TimeToFirstToken time.Duration
	Duration         time.Duration
}

// NewCanary returns a canary of t, which sends nothing before its first Probe. Of t it uses no Plan, and of the Guards
// the Budget; lengths that are zero are DefaultCanaryPromptTokens and DefaultCanaryOutputTokens. Of observe it calls
// Discovered when the endpoint's model or URL has become known or is another, and Record with the stage
// probe.StageCanary, or probe.StageNone where the request is for finding out about the server.
func NewCanary(t *Target, pools Pools, observe Observer, log *slog.Logger) *Canary {
	c := &Canary{target: *t, pools: pools, observe: observe, log: log}
	w := &c.target.Workload
	w.PromptTokens = cmp.Or(w.PromptTokens, probe.Length{Mean: DefaultCanaryPromptTokens})
	w.OutputTokens = cmp.Or(w.OutputTokens, probe.Length{Mean: DefaultCanaryOutputTokens})
	c.target.Client.MaxInFlight = 1
	return c
}

// Probe sends one request, records its result and says how it ended. Where not even the server's model can be found
// out, it records a failed request of that reason, so that a dead server is seen in the same metric as a failing one.
// Every wait is bounded by the timeouts of the target's client. It does not panic; a fault of our own is an outcome.
// Calls wait for each other.
func (c *Canary) Probe(ctx context.Context) (out CanaryOutcome) {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer func() {
		if fault := recover(); fault != nil {
			c.log.Error("a fault of inferprobe ended the canary; please report it", "panic", fault,
				"stack", string(debug.Stack()))
			c.forget()
			out = CanaryOutcome{Outcome: probe.Failed, Reason: probe.CycleInternal, Detail: fmt.Sprint(fault)}
		}
	}()
	ctx, stop := untilStopped(ctx)
	defer stop()
	if fail := c.prepare(ctx); fail != nil {
		return c.unprepared(fail)
	}
	return c.send(ctx)
}

// Close frees what the canary holds. It may be probed again, as if it were new.
func (c *Canary) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forget()
}

func (c *Canary) forget() {
	if c.ready != nil {
		c.ready.close()
	}
	c.ready = nil
}

// untilStopped returns a context that ends with ctx, as the end of a stage does: what is in flight then is incomplete,
// not failed.
func untilStopped(ctx context.Context) (context.Context, func()) {
	inner, end := context.WithCancelCause(context.WithoutCancel(ctx))
	detach := context.AfterFunc(ctx, func() { end(probe.ErrStageEnded) })
	return inner, func() { detach(); end(nil) }
}

// prepare finds out about the server where that is due. It fails only if nothing is known of it: with what is known a
// request will tell more.
func (c *Canary) prepare(ctx context.Context) *probe.CycleFailure {
	age := canaryAge
	if c.stale {
		age = canaryRetry
	}
	if c.ready != nil && time.Since(c.tried) < age {
		return nil
	}
	c.tried = time.Now()
	next := &ready{allowance: &allowance{budget: c.target.Guards.Budget}, observe: c.observe}
	fail := next.prepare(ctx, &c.target, c.pools, rand.Uint64(), 1, c.log)
	if model := next.server.Model.ID; model != "" {
		if e := (probe.Endpoint{Name: c.target.Name, Model: model, URL: next.server.BaseURL}); e != c.told {
			c.told = e
			c.observe.Discovered(e)
		}
	}
	if next.allowance.refused() != "" {
		fail = &probe.CycleFailure{Reason: probe.CycleInterrupted}
	}
	if fail != nil {
		next.close()
		c.stale = true
		if c.ready != nil {
			return nil
		}
		return fail
	}
	c.forget()
	next.server.Models = nil // gateways list hundreds
	next.source.keeps = 0    // calibration has verified one
	next.source.sample = nil
	c.ready, c.stale = next, false
	return nil
}

// unprepared is the outcome where no request could be made. It is recorded as one if the endpoint is the reason.
func (c *Canary) unprepared(fail *probe.CycleFailure) CanaryOutcome {
	if fail.Reason == probe.CycleInterrupted {
		return CanaryOutcome{Outcome: probe.Incomplete}
	}
	reason := probe.Reason(fail.Reason)
	if fail.Reason == probe.CycleDiscovery { // no such model there: what a request for it would be answered with
		reason = probe.ReasonNotFound
	}
	if slices.Contains(probe.Reasons(), reason) {
		c.observe.Record(probe.StageCanary, &probe.Result{
			Request: new(probe.Request), Outcome: probe.Failed, Reason: reason, Detail: fail.Detail,
		})
		fail.Reason = string(reason)
	}
	return CanaryOutcome{Outcome: probe.Failed, Reason: fail.Reason, Detail: fail.Detail}
}

// send sends one request.
func (c *Canary) send(ctx context.Context) CanaryOutcome {
	var req probe.Request
	var res probe.Result
	c.ready.source.Next(&req)
	// There is nothing else in flight, and what was refused once may be covered on the next day.
	allowed := allowance{budget: c.target.Guards.Budget, template: c.ready.allowance.template}
	if !allowed.take(&req) {
		return CanaryOutcome{Outcome: probe.Incomplete}
	}
	c.ready.client.Do(ctx, &req, &res)
	c.observe.Record(probe.StageCanary, &res)
	c.stale = c.stale || mayBeAnother(&res)
	return CanaryOutcome{
		Outcome: res.Outcome, Reason: string(res.Reason), Detail: res.Detail, Sent: res.Sent,
		TimeToFirstToken: res.FirstToken, Duration: res.End,
	}
}

// mayBeAnother reports whether a failure may come from a server that is not the one that was found: another model, an
// address that has moved, another version with another idea of the request.
func mayBeAnother(r *probe.Result) bool {
	switch r.Reason {
	case probe.ReasonDNS, probe.ReasonConnect, probe.ReasonNotFound, probe.ReasonHTTP4xx, probe.ReasonNotAStream,
		probe.ReasonErrorEvent, probe.ReasonAborted:
		return true
	}
	return false
}
