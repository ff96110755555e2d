package sweep

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/inferprobe/inferprobe/internal/load"
	"github.com/inferprobe/inferprobe/internal/openai"
	"github.com/inferprobe/inferprobe/internal/probe"
	"github.com/inferprobe/inferprobe/internal/serverload"
)

const (
	lookEvery = 2 * time.Second // at the server's metrics, while a stage runs or users are waited for
	// lookSeldom is how many times more seldom a synchronous stage is looked at: its one request at a time is in nobody's
	// way, while a server may write its metrics in the thread that also writes the tokens.
	lookSeldom   = 5
	yieldWait    = time.Minute // for users to be done, before the rest of a cycle is given up
	yieldLooks   = 2           // in a row, that must find users in need before a stage ends
	cacheFull    = 0.9         // of the key-value cache, from which on requests are about to wait
	foreignLooks = 2           // that must find others' requests before a stage is said to hold their load
	silentLooks  = 2           // between stages, in a row, after which metrics that do not answer are given up
	ownSlack     = 50          // one in so many of our requests may be over here while the server still counts it

	drainWait  = 10 * time.Second       // for a server to let go of requests that were cut off
	drainTimes = 2                      // the longest duration of a completed request, in which those that run are done
	drainFirst = 50 * time.Millisecond  // between the first two looks, doubled up to …
	drainMost  = 500 * time.Millisecond // … this
)

// loadReader tells how busy a server is.
type loadReader interface {
	Read(ctx context.Context) (serverload.Load, error)
	Close()
}

// users looks for other users' requests at the server that is measured. It is used by one goroutine at a time, but for
// note.
type users struct {
	metrics loadReader // nil where the server does not tell
	yield   bool
	every   time.Duration // lookEvery
	wait    time.Duration // yieldWait
	log     *slog.Logger
	live    *load.Live

	highest atomic.Int64 // requests of ours in flight, since the last look
	past    []peak       // of before
	before  look         // the last one before a stage
	left    leftBehind   // of the last stage
	silent  int          // looks in a row, between stages, that got no answer
	idle    bool         // the server says that it is done with what the last stage left behind
}

// peak is the most requests that we had in flight in the time up to at.
type peak struct {
	at time.Time
	n  int
}

// look is one look at the server's metrics.
type look struct {
	serverload.Load
	known   bool
	foreign int // requests that are not ours
}

// leftBehind are the requests that the end of a stage cut off, which the server may still be at, and what tells them
// from other users'.
type leftBehind struct {
	n       int           // how many
	longest time.Duration // that a completed one took; 0 if none did
	others  int           // most requests of other users seen at once during the stage; 0 if hardly any were
}

// watchUsers begins to look at the server's metrics, where it has any.
func (c *cycle) watchUsers(ctx context.Context) {
	c.users = users{
		yield: c.target.Guards.YieldToUsers, every: lookEvery, wait: yieldWait, log: c.log, live: c.engine.Live(),
	}
	if c.ready.server.Dialect == openai.DialectOpenAI {
		return
	}
	reader, err := c.metrics()
	if err != nil {
		c.log.Debug("the server's metrics cannot be read", "error", err)
		return
	}
	c.users.metrics = reader
	c.users.look(ctx) // learns whether there are any
}

// metrics returns a reader of the server's metrics. It has a connection of its own: those that are kept for the load stay
// the load's.
func (c *cycle) metrics() (*serverload.Reader, error) {
	opts := c.target.Client
	opts.BaseURL, opts.MaxInFlight = c.ready.server.BaseURL, 1
	client, err := openai.New(opts)
	if err != nil {
		return nil, err
	}
	return serverload.New(client, opts.BaseURL, c.ready.server.Model.ID)
}

func (u *users) close() {
	if u.metrics != nil {
		u.metrics.Close()
	}
}

// note takes in that n of our requests are in flight.
func (u *users) note(n int64) {
	for {
		old := u.highest.Load()
		if n <= old || u.highest.CompareAndSwap(old, n) {
			return
		}
	}
}

// look reads the server's metrics. Its count and ours are not of the same instant, so the most that we had in flight
// since the last look is taken off, and for a server whose numbers may be old the most in that time.
func (u *users) look(ctx context.Context) look {
	if u.metrics == nil {
		return look{}
	}
	u.note(u.live.InFlight.Load())
	l, err := u.metrics.Read(ctx)
	u.note(u.live.InFlight.Load())
	if errors.Is(err, serverload.ErrAbsent) {
		u.log.Debug("the server's metrics do not tell its load; other users are not watched for")
		u.close()
		u.metrics = nil
	}
	if err != nil {
		return look{}
	}
	own := u.ours(l.Stale)
	return look{Load: l, known: true, foreign: int(l.Foreign(own + own/ownSlack))}
}

// ours returns the most requests of ours in flight since the last look, or within the last stale, and begins anew.
func (u *users) ours(stale time.Duration) int {
	now := time.Now()
	most := int(u.highest.Swap(u.live.InFlight.Load()))
	u.past = append(u.past, peak{now, most})
	oldest := len(u.past) - 1
	for i := oldest; i >= 0 && now.Sub(u.past[i].at) < stale; i-- {
		most, oldest = max(most, u.past[i].n), i
	}
	u.past = append(u.past[:0], u.past[oldest:]...)
	return most
}

// inNeed reports whether others' requests wait, or soon will.
func (l look) inNeed() bool { return l.foreign > 0 && (l.Waiting >= 1 || l.KVUse >= cacheFull) }

// String says what was seen.
func (l look) String() string {
	text := fmt.Sprintf("%d requests of other users at the server, where %.0f run and %.0f wait", l.foreign, l.Running,
		l.Waiting)
	if !math.IsNaN(l.KVUse) {
		text += fmt.Sprintf(", its KV cache %.0f %% full", 100*l.KVUse)
	}
	return text
}

// makeWay waits, before a stage, until requests that the last one left behind are gone and other users have what they
// need. It returns why the stage should not be run, nil if nothing is in its way.
func (u *users) makeWay(ctx context.Context, stage string) *obstacle {
	now := u.look(ctx)
	if u.silent++; now.known {
		u.silent = 0
	}
	if u.silent >= silentLooks && u.metrics != nil { // each has cost the cycle two seconds
		u.log.Warn("the server's metrics do not answer; other users are no longer watched for")
		u.close()
		u.metrics = nil
	}
	if u.idle = u.left.n == 0; !u.idle {
		now, u.idle = u.drain(ctx, now)
	}
	u.before = now
	if !u.yield || !now.inNeed() {
		return nil
	}
	u.log.Info("waiting for other users", "stage", stage, "seen", now.String())
	for started := time.Now(); time.Since(started) < u.wait; {
		if !load.Sleep(ctx, u.every) {
			return nil
		}
		if now = u.look(ctx); !now.inNeed() {
			u.before = now
			return nil
		}
	}
	return &obstacle{skipYielded, fmt.Sprintf("%s: after waiting for %s, %s", stage, u.wait, now)}
}

// drain waits for the server to let go of requests that were cut off, until it is as busy as before the stage that
// left them, and returns the last look and whether it is. It does not wait for what may well be other users': as many
// requests as they had there during the stage, or what goes on where ours, which only run, would be done. Of those, and
// of numbers that may be old, it cannot tell.
func (u *users) drain(ctx context.Context, now look) (last look, idle bool) {
	began, pause := time.Now(), drainFirst
	queued := began // when some were last seen to wait
	for now.known && now.Stale == 0 {
		there := now.Running + now.Waiting
		if there <= max(0, u.before.Running+u.before.Waiting) {
			return now, true
		}
		if now.Waiting > 0 {
			queued = time.Now()
		}
		if there <= float64(u.left.others) || u.left.longest > 0 && time.Since(queued) >= drainTimes*u.left.longest {
			break
		}
		if time.Since(began) >= drainWait {
			u.log.Info("by its metrics the server is busier than before the last stage: with requests that were cut off, or "+
				"with other users'", "running", now.Running, "waiting", now.Waiting, "cut_off", u.left.n)
			break
		}
		if !load.Sleep(ctx, pause) {
			break
		}
		pause = min(2*pause, drainMost)
		now = u.look(ctx)
	}
	return now, false
}

// crowd is what the looks during one stage have seen.
type crowd struct {
	mu            sync.Mutex
	looks, others int // looks, and those that found others' requests
	inNeed        int // looks in a row that found them in need
	most          int // requests of others
}

// add takes in a look and returns whether the stage should give way.
func (c *crowd) add(l look) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if l.known {
		c.looks++
	}
	if l.foreign > 0 {
		c.others++
		c.most = max(c.most, l.foreign)
	}
	c.inNeed++
	if !l.inNeed() {
		c.inNeed = 0
	}
	return c.inNeed >= yieldLooks
}

// finding returns what is to be said of a stage in which others took part, and whether they did.
func (c *crowd) finding() (probe.Finding, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return probe.Finding{
		Name: probe.FindingForeignLoad,
		Detail: fmt.Sprintf("%d of %d looks at the server's metrics found requests of other users, up to %d at once: "+
			"their load is in what was measured", c.others, c.looks, c.most),
	}, c.others >= foreignLooks
}

// lookOut looks for other users while a stage runs, until the returned function is called, and ends the stage where
// they are in need.
func (c *cycle) lookOut(ctx context.Context, s named, w *watcher) (stop func()) {
	if c.users.metrics == nil {
		return func() {}
	}
	every := c.users.every
	if s.Profile == probe.ProfileSynchronous {
		every *= lookSeldom
	}
	ctx, cancel := context.WithCancel(ctx)
	var looking sync.WaitGroup
	looking.Go(func() {
		defer w.contain()
		for load.Sleep(ctx, every) {
			now := c.users.look(ctx)
			if w.crowd.add(now) && c.users.yield {
				w.guard.trip(skipYielded, now.String())
			}
		}
	})
	return func() { cancel(); looking.Wait() }
}
