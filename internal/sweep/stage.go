package sweep

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/inferprobe/inferprobe/internal/load"
	"github.com/inferprobe/inferprobe/internal/openai"
	"github.com/inferprobe/inferprobe/internal/probe"
)

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

// goneAgain is how long an endpoint that seems to have gone away gets to answer after all.
const goneAgain = time.Second

// progressEvery is how often a running stage reports progress.
const progressEvery = time.Second

// run runs one stage, and returns what stands against those that ask more of the endpoint, nil if nothing does. Where
// something stands against this one already, it is skipped.
func (c *cycle) run(ctx context.Context, s named) (probe.Stage, *obstacle) {
	if stop := c.barred(ctx, s); stop != nil {
		c.skip(s, stop)
		return probe.Stage{}, stop
	}
	s.Seed = c.seed + uint64(len(c.Stages))
	watch := c.watch(s)
	c.engine.Recorder, c.engine.Stop = watch, watch.stop
	before := c.throttled()
	out := c.drive(ctx, s, watch)
	if short := c.allowance.refused(); short != "" {
		if c.engine.Live().Sent.Load() == 0 {
			stop := &obstacle{skipBudget, short}
			c.skip(s, stop)
			return probe.Stage{}, stop
		}
		watch.guard.trip(skipBudget, short)
	}

	stage := watch.collector.summarise(s, out, watch.settler)
	reason, detail := watch.guard.tripped()
	stage.Findings = watch.collector.judge(&stage, measurement{
		settled: watch.settler, throttled: c.throttled() - before, guard: detail,
		verify: c.ready.source.verify(), forced: c.ready.forced, overhead: c.ready.overhead,
	})
	f, crowded := watch.crowd.finding()
	if crowded && reason != skipYielded {
		stage.Findings = append(stage.Findings, f)
	}
	if c.carried != nil {
		stage.Findings = append(stage.Findings, *c.carried)
	}
	c.Stages = append(c.Stages, stage)
	c.carried = nil
	c.users.left = leftBehind{n: stage.Incomplete}
	if crowded {
		c.users.left.others = watch.crowd.most
	}
	if d := &stage.RequestDuration; d.Count > 0 {
		c.users.left.longest = seconds(d.Max)
	}
	if s.Profile == probe.ProfileSynchronous && stage.TimeToFirstToken.Count > 0 {
		c.alone = seconds(stage.TimeToFirstToken.P50)
	}
	if reason != "" {
		c.log.Warn("a guard ended the stage", "stage", s.name, "reason", reason, "detail", detail)
	}
	return stage, c.verdict(ctx, &stage, watch, out.Ending)
}

// barred returns what stands against a stage that has not begun.
func (c *cycle) barred(ctx context.Context, s named) *obstacle {
	var stop *obstacle
	if ctx.Err() == nil {
		stop = c.users.makeWay(ctx, s.name)
	}
	if c.users.left.n > 0 && stop == nil && ctx.Err() == nil && !c.users.idle {
		c.carried = c.awaitQuiet(ctx)
	}
	if ctx.Err() != nil {
		return c.interrupted()
	}
	if reason, detail := c.exhausted(); reason != "" {
		return &obstacle{reason, detail}
	}
	return stop
}

// exhausted returns why nothing more may be asked of the endpoint in this cycle, or "".
func (c *cycle) exhausted() (reason, detail string) {
	if reason, detail = c.target.Guards.closed(time.Now()); reason != "" {
		return reason, detail
	}
	return c.allowance.exhausted()
}

// drive runs a stage with everything that watches it. A panic leaves nothing of that running.
func (c *cycle) drive(ctx context.Context, s named, w *watcher) load.Outcome {
	defer func() {
		if fault := w.fault.Load(); fault != nil {
			panic(fault)
		}
	}()
	defer c.progress(s, w)()
	defer c.lookOut(ctx, s, w)()
	return c.engine.Run(ctx, s.Stage)
}

// contain, deferred by the goroutines that watch a stage, makes a panic the end of the stage instead of the process's.
func (w *watcher) contain() {
	if value := recover(); value != nil {
		w.fault.CompareAndSwap(nil, &load.Panic{Value: value, Stack: debug.Stack()})
		w.guard.trip(probe.CycleInternal, "a fault of inferprobe")
	}
}

// verdict returns what the stage that has ended means for those to come, and makes the cycle a failed one where the
// endpoint cannot be measured.
func (c *cycle) verdict(ctx context.Context, stage *probe.Stage, w *watcher, ending load.Ending) *obstacle {
	reason, detail := w.guard.tripped()
	switch {
	case ending == load.EndedByInterrupted:
		return c.interrupted()
	case stage.Completed == 0 && stage.Failed > 0 && len(c.Stages) == 1:
		worst, example := w.collector.worstFailure()
		c.Failure = &probe.CycleFailure{Reason: string(worst), Detail: example}
	case w.guard.unbroken() >= guardFailLeast:
		if c.Failure = c.gone(ctx, stage); c.Failure != nil {
			return &obstacle{skipFailed, c.Failure.Detail}
		}
	}
	switch {
	case reason != "":
		return &obstacle{reason, stage.Name + ": " + detail}
	case stage.Completed == 0 && stage.Profile == probe.ProfileSynchronous:
		return &obstacle{skipFailed, fmt.Sprintf("not one of the synchronous requests completed within %s",
			round(stage.Ended.Sub(stage.Started)))}
	}
	return nil
}

// gone asks an endpoint whose last requests have all failed for its models, twice, and returns a failure if it answers
// that no more: it has gone away in the middle, and is not just overloaded.
func (c *cycle) gone(ctx context.Context, stage *probe.Stage) *probe.CycleFailure {
	opts := c.target.Client
	opts.BaseURL = c.Endpoint.URL
	var e *openai.Error
	for again := range 2 {
		if again > 0 && !load.Sleep(ctx, goneAgain) {
			return nil
		}
		if _, err := openai.Discover(ctx, opts, c.Endpoint.Model); !errors.As(err, &e) {
			return nil
		}
		switch e.Reason {
		case probe.ReasonDNS, probe.ReasonConnect, probe.ReasonTLS, probe.ReasonReset, probe.ReasonHTTP5xx,
			probe.ReasonTimeoutTotal:
		default:
			return nil
		}
	}
	return &probe.CycleFailure{
		Reason: string(e.Reason),
		Detail: fmt.Sprintf("the endpoint went away in stage %s, after %d completed requests of it: %s", stage.Name,
			stage.Completed, e.Detail),
	}
}

// watcher stands behind one running stage: it collects, guards and, for a throughput stage, sees the rate settle.
type watcher struct {
	cycle      *cycle
	name       string
	collector  *collector
	guard      *guard
	crowd      crowd
	settler    *settler    // nil but for a throughput stage
	saturation *saturation // nil but for an open loop
	fault      atomic.Pointer[load.Panic]
}

func (c *cycle) watch(s named) *watcher {
	started := time.Now()
	w := &watcher{cycle: c, name: s.name, collector: newCollector(started, c.Objectives), guard: &guard{Guards: c.target.Guards}}
	live := c.engine.Live()
	w.guard.inFlight = live.InFlight.Load
	switch s.Profile {
	case probe.ProfileThroughput:
		w.settler = &settler{
			limit: s.MaxDuration, concurrency: s.MaxInFlight, started: started,
			turnover: w.collector.turnover, events: live.Events.Load,
		}
	case probe.ProfileConstant, probe.ProfilePoisson:
		w.saturation = newSaturation(s, started)
		w.saturation.inFlight, w.saturation.turnover = live.InFlight.Load, w.collector.turnover
	}
	return w
}

// Record takes one finished request.
func (w *watcher) Record(r *probe.Result) {
	w.cycle.users.note(w.cycle.engine.Live().InFlight.Load() + 1) // until just now
	w.collector.Record(r)
	w.guard.record(r)
	if w.saturation != nil {
		w.saturation.record(r)
	}
	w.cycle.observe.Record(w.name, r)
	if r.Reason != probe.ReasonClientOverload { // which was not sent
		w.cycle.allowance.settle(r.Request)
	}
}

func (w *watcher) stop() bool {
	now := time.Now()
	w.guard.trip(w.guard.closed(now))
	w.guard.look(now, w.cycle.engine.Flights)
	if w.saturation != nil {
		w.guard.trip(w.saturation.check(now))
	}
	if reason, _ := w.guard.tripped(); reason != "" {
		return true
	}
	return w.settler != nil && w.settler.check(now)
}

// progress reports on the stage until the returned function is called.
func (c *cycle) progress(s named, w *watcher) (stop func()) {
	done := make(chan struct{})
	var reporter sync.WaitGroup
	index, of, live := len(c.Stages)+1, len(c.target.Plan.StageNames()), c.engine.Live()
	started := time.Now()
	reporter.Go(func() {
		defer w.contain()
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
				Stage: s.name, Index: index, Of: of, Elapsed: now.Sub(started), Limit: s.MaxDuration,
				InFlight: int(live.InFlight.Load()), Done: over,
				TokensPerSecond: float64(total-events) / max(now.Sub(last), time.Millisecond).Seconds(),
			}
			p.Completed, p.Failed = w.collector.counts()
			c.observe.Progress(p)
			last, events = now, total
		}
	})
	return func() { close(done); reporter.Wait() }
}
