// Package load runs one stage: it sends requests by an arrival process or in a closed loop and hands every result to
// its recorder. It knows neither what a request contains nor what is done with a result.
package load

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/inferprobe/inferprobe/internal/probe"
)

// Doer sends one request and fills res; every outcome is a result.
type Doer interface {
	Do(ctx context.Context, req *probe.Request, res *probe.Result)
}

// Source fills in the next request's body and lengths, ahead of its due time. It is called by one goroutine at a time.
type Source interface {
	Next(req *probe.Request)
}

// Recorder takes one finished request. It is called from many goroutines at once and must not keep res.
type Recorder interface {
	Record(res *probe.Result)
}

// Stage says what to run.
type Stage struct {
	Profile     probe.Profile // synchronous, throughput, constant or poisson
	Rate        float64       // requests/s of constant and poisson
	MaxDuration time.Duration
	MaxRequests int // 0 = no limit
	// MaxInFlight bounds requests in flight. It is the concurrency of a throughput stage. In an open loop a request above
	// it fails as client_overload instead of waiting.
	MaxInFlight int
	Seed        uint64
}

// Engine runs stages, one at a time.
type Engine struct {
	Client   Doer
	Source   Source
	Recorder Recorder
	// Stop, where set, is asked after each recorded result and each tenth of a second whether the stage should end now:
	// a guard, or a rate that has settled. It is called from many goroutines at once.
	Stop func() bool
	// Admit, where set, is asked right before each send whether the request may be sent. One that may not is in no count,
	// and no more are sent: the stage ends with those in flight. It is called from many goroutines at once.
	Admit func(req *probe.Request) bool
	// Sleep waits until a due time; nil means SleepUntil.
	Sleep func(ctx context.Context, t time.Time) bool

	source sync.Mutex
	body   int // bytes of the longest body so far; guarded by source
	calls  sync.Pool
	live   Live

	flights  sync.Mutex
	inFlight []*call // in no order; guarded by flights
}

// Live counts a running stage's requests as they come and go.
type Live struct {
	Sent     atomic.Int64 // requests started, those that failed for our own limit included
	Finished atomic.Int64
	InFlight atomic.Int64
	Events   atomic.Int64 // token events
}

// Flights calls yield with each request in flight, until it returns false. Meanwhile none of them ends; yield must not
// keep what it is given.
func (e *Engine) Flights(yield func(*probe.Flight) bool) {
	e.flights.Lock()
	defer e.flights.Unlock()
	for _, c := range e.inFlight {
		if !yield(&c.flight) {
			return
		}
	}
}

// Live returns the counters of the running stage, or of the last one.
func (e *Engine) Live() *Live { return &e.live }

// Ending says what ended a stage.
type Ending string

// The endings of a stage.
const (
	EndedByDuration    Ending = "duration"
	EndedByRequests    Ending = "requests"    // as many as the stage wanted were sent, or Engine.Admit let through
	EndedByStop        Ending = "stop"        // Engine.Stop said so
	EndedByInterrupted Ending = "interrupted" // the context ended
)

// Outcome is when a stage ran and what ended it.
type Outcome struct {
	Started, Ended time.Time
	Ending         Ending
}

// mostArrivals is for how many arrivals there is room before the first. Most answers come token by token.
const mostArrivals = 256

// call is one request with its memory, reused from request to request.
type call struct {
	req    probe.Request
	res    probe.Result
	flight probe.Flight
	place  int // in Engine.inFlight
}

// run is the state of one stage.
type run struct {
	*Engine
	stage   Stage
	ctx     context.Context // ends with the stage; cancels what is in flight
	end     context.CancelCauseFunc
	started time.Time
	stopped atomic.Bool
	flying  sync.WaitGroup
	fault   atomic.Pointer[Panic] // the first of a goroutine of the stage

	refused     atomic.Bool     // Engine.Admit has refused a request
	sending     context.Context // ends with ctx, and before it where a request was refused
	stopSending context.CancelFunc
}

// Panic is what Run panics with when one of its goroutines did, so that the caller can recover from it.
type Panic struct {
	Value any    // what was panicked with
	Stack []byte // of the goroutine
}

// Error returns what was panicked with.
func (p *Panic) Error() string { return fmt.Sprint(p.Value) }

// Run runs one stage to its end and returns after the last result has been recorded. Requests still in flight at the
// end are cancelled with probe.ErrStageEnded and recorded as incomplete. A panic, in whichever goroutine, ends the
// stage and comes out of Run as a *Panic, with nothing left behind.
func (e *Engine) Run(ctx context.Context, s Stage) Outcome {
	inner, end := context.WithCancelCause(context.WithoutCancel(ctx))
	r := &run{Engine: e, stage: s, ctx: inner, end: end, started: time.Now()}
	r.sending, r.stopSending = context.WithCancel(inner)
	defer r.stopSending()
	e.live.Sent.Store(0)
	e.live.Finished.Store(0)
	e.live.Events.Store(0)

	stopWatching := r.watch(ctx)
	r.send()
	r.flying.Wait()
	end(probe.ErrStageEnded)
	stopWatching()
	if fault := r.fault.Load(); fault != nil {
		panic(fault)
	}
	return Outcome{Started: r.started, Ended: time.Now(), Ending: r.ending(ctx)}
}

// send sends the stage's requests.
func (r *run) send() {
	defer r.contain()
	switch s := r.stage; s.Profile {
	case probe.ProfileConstant:
		r.openLoop(Constant(s.Rate))
	case probe.ProfilePoisson:
		r.openLoop(Poisson(s.Rate, s.Seed))
	case probe.ProfileThroughput:
		r.closedLoop(s.MaxInFlight)
	default:
		r.closedLoop(1)
	}
}

// contain, deferred by each goroutine of a stage, makes a panic the end of the stage instead of the process's.
func (r *run) contain() {
	if value := recover(); value != nil {
		r.fault.CompareAndSwap(nil, &Panic{Value: value, Stack: debug.Stack()})
		r.end(probe.ErrStageEnded)
	}
}

// watch ends the stage when its time is over, when ctx ends or when Stop says so.
func (r *run) watch(ctx context.Context) (stop func()) {
	done := make(chan struct{})
	var watcher sync.WaitGroup
	watcher.Go(func() {
		defer r.contain()
		limit := time.NewTimer(r.stage.MaxDuration)
		defer limit.Stop()
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				r.ask()
			case <-limit.C:
				r.end(probe.ErrStageEnded)
			case <-ctx.Done():
				r.end(probe.ErrStageEnded)
				return
			}
		}
	})
	return func() { close(done); watcher.Wait() }
}

func (r *run) ask() {
	if r.Stop != nil && r.ctx.Err() == nil && r.Stop() {
		r.stopped.Store(true)
		r.end(probe.ErrStageEnded)
	}
}

func (r *run) ending(ctx context.Context) Ending {
	switch {
	case ctx.Err() != nil:
		return EndedByInterrupted
	case r.stopped.Load():
		return EndedByStop
	case r.refused.Load(), r.stage.MaxRequests > 0 && r.live.Sent.Load() >= int64(r.stage.MaxRequests):
		return EndedByRequests
	}
	return EndedByDuration
}

// openLoop sends each request at its due time, however many are still in flight.
func (r *run) openLoop(next Arrivals) {
	sleep := r.Sleep
	if sleep == nil {
		sleep = SleepUntil
	}
	for i := 0; r.stage.MaxRequests == 0 || i < r.stage.MaxRequests; i++ {
		at := next()
		if at >= r.stage.MaxDuration {
			break
		}
		c := r.prepare(uint64(i), r.started.Add(at))
		if !sleep(r.ctx, c.req.Due) {
			r.release(c)
			return
		}
		full := r.live.InFlight.Load() >= int64(r.stage.MaxInFlight)
		if !full && !r.admitted(c) {
			r.release(c)
			return
		}
		r.live.Sent.Add(1)
		if full {
			c.res.Request, c.res.Outcome, c.res.Reason = &c.req, probe.Failed, probe.ReasonClientOverload
			c.res.Detail = "not sent: as many requests are in flight as are allowed"
			r.finish(c)
			continue
		}
		r.live.InFlight.Add(1)
		r.flying.Go(func() {
			defer r.contain()
			r.fly(c)
		})
		runtime.Gosched() // let it write before the next body is prepared
	}
	if r.stage.MaxRequests == 0 {
		<-r.ctx.Done()
	}
}

// closedLoop keeps n requests in flight: each worker sends its next one when its last one has ended.
func (r *run) closedLoop(n int) {
	for range n {
		r.flying.Go(r.work)
	}
}

// work is one worker of a closed loop. After a failure it waits, so that an endpoint that refuses at once is not
// hammered: a tenth of a second, doubled up to five seconds, or what the server's Retry-After asks for.
func (r *run) work() {
	defer r.contain()
	const first, most = 100 * time.Millisecond, 5 * time.Second
	pause := first
	for r.sending.Err() == nil {
		n := r.live.Sent.Add(1)
		if r.stage.MaxRequests > 0 && n > int64(r.stage.MaxRequests) {
			r.live.Sent.Add(-1)
			return
		}
		c := r.prepare(uint64(n-1), time.Time{})
		if !r.admitted(c) {
			r.live.Sent.Add(-1)
			r.release(c)
			return
		}
		r.live.InFlight.Add(1)
		failed, wait := r.fly(c)
		if !failed {
			pause = first
			continue
		}
		if !Sleep(r.sending, max(pause, wait)) {
			return
		}
		pause = min(2*pause, most)
	}
}

// admitted reports whether the request may be sent. Where it may not, none is sent any more.
func (r *run) admitted(c *call) bool {
	if r.Admit == nil || !r.refused.Load() && r.Admit(&c.req) {
		return true
	}
	r.refused.Store(true)
	r.stopSending()
	return false
}

// prepare makes the next request, ahead of its due time.
func (r *run) prepare(seq uint64, due time.Time) *call {
	c, ok := r.calls.Get().(*call)
	if !ok {
		c = new(call)
	}
	c.res.Reset()
	c.req = probe.Request{Seq: seq, Due: due, Body: c.req.Body[:0], Flight: &c.flight, Events: &r.live.Events}
	r.source.Lock()
	defer r.source.Unlock()
	if !ok && r.body > 0 { // growing step by step would leave twice the memory behind
		c.req.Body = make([]byte, 0, r.body+r.body/8)
	}
	r.Source.Next(&c.req)
	r.body = max(r.body, len(c.req.Body))
	if !ok {
		c.res.Arrivals = make([]probe.Arrival, 0, min(c.req.OutputTokens+1, mostArrivals))
	}
	return c
}

// fly sends one request and records how it ended.
func (r *run) fly(c *call) (failed bool, retryAfter time.Duration) {
	r.do(c)
	failed, retryAfter = c.res.Outcome == probe.Failed, c.res.RetryTime
	r.finish(c)
	return failed, retryAfter
}

func (r *run) do(c *call) {
	r.takeOff(c)
	defer r.land(c)
	r.Client.Do(r.ctx, &c.req, &c.res)
}

func (e *Engine) takeOff(c *call) {
	c.flight.Begin(time.Now())
	e.flights.Lock()
	defer e.flights.Unlock()
	c.place = len(e.inFlight)
	e.inFlight = append(e.inFlight, c)
}

// land takes a request out of those in flight before its result is recorded, so that it is never both.
func (e *Engine) land(c *call) {
	e.live.InFlight.Add(-1)
	e.flights.Lock()
	defer e.flights.Unlock()
	last := len(e.inFlight) - 1
	e.inFlight[c.place] = e.inFlight[last]
	e.inFlight[c.place].place = c.place
	e.inFlight[last] = nil
	e.inFlight = e.inFlight[:last]
}

func (r *run) finish(c *call) {
	r.live.Finished.Add(1)
	r.Recorder.Record(&c.res)
	r.release(c)
	r.ask()
}

func (r *run) release(c *call) { r.calls.Put(c) }
