package sweep

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/inferprobe/inferprobe/internal/load"
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

// progressEvery is how often a running stage reports progress.
const progressEvery = time.Second

// run runs one stage, and returns what stands against those that ask more of the endpoint, nil if nothing does. Where
// it is told to stop before it has begun, the stage itself is skipped.
func (c *cycle) run(ctx context.Context, s named) (probe.Stage, *obstacle) {
	if ctx.Err() != nil {
		stop := c.interrupted()
		c.skip(s, stop)
		return probe.Stage{}, stop
	}
	s.Seed = c.seed + uint64(len(c.Stages))
	watch := c.watch(s)
	c.engine.Recorder, c.engine.Stop = watch, watch.stop
	before := throttled()
	stopProgress := c.progress(s, watch)
	out := c.engine.Run(ctx, s.Stage)
	stopProgress()

	stage := watch.collector.summarise(s, out, watch.settler)
	reason, detail := watch.guard.tripped()
	stage.Findings = watch.collector.judge(&stage, measurement{
		settled: watch.settler, throttled: throttled() - before, guard: detail,
		verify: c.ready.source.verify(), forced: c.ready.forced, overhead: c.ready.overhead,
	})
	c.Stages = append(c.Stages, stage)
	switch {
	case out.Ending == load.EndedByInterrupted:
		return stage, c.interrupted()
	case stage.Completed == 0 && stage.Failed > 0 && len(c.Stages) == 1:
		worst, example := watch.collector.worstFailure()
		c.Failure = &probe.CycleFailure{Reason: string(worst), Detail: example}
	}
	switch {
	case reason != "":
		c.log.Warn("a guard ended the stage", "stage", s.name, "reason", reason, "detail", detail)
		return stage, &obstacle{reason, s.name + ": " + detail}
	case stage.Completed == 0 && s.Profile == probe.ProfileSynchronous:
		return stage, &obstacle{skipFailed, fmt.Sprintf("not one of the synchronous requests completed within %s",
			round(out.Ended.Sub(out.Started)))}
	}
	return stage, nil
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
			turnover: w.collector.turnover, events: c.engine.Live().Events.Load,
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
	index, of, live := len(c.Stages)+1, len(c.target.Plan.StageNames()), c.engine.Live()
	started := time.Now()
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
