package sweep

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/inferprobe/inferprobe/internal/load"
	"github.com/inferprobe/inferprobe/internal/probe"
	"github.com/inferprobe/inferprobe/internal/serverload"
	"github.com/inferprobe/inferprobe/internal/sim"
	"github.com/inferprobe/inferprobe/internal/sim/simtest"
)

// loads is a server's load as a function of how often it was asked.
type loads func(asked int) (serverload.Load, error)

type scriptedReader struct {
	loads
	asked int
}

func (r *scriptedReader) Read(context.Context) (serverload.Load, error) {
	r.asked++
	return r.loads(r.asked)
}

func (r *scriptedReader) Close() {}

// scripted returns users with a server's load that a script tells.
func scripted(yield bool, script loads) (*users, *scriptedReader) {
	r := &scriptedReader{loads: script}
	return &users{
		metrics: r, yield: yield, every: lookEvery, wait: yieldWait, log: discardLog(), live: new(load.Live),
	}, r
}

func busy(running, waiting, kv float64) (serverload.Load, error) {
	return serverload.Load{Running: running, Waiting: waiting, KVUse: kv}, nil
}

func always(running, waiting, kv float64) loads {
	return func(int) (serverload.Load, error) { return busy(running, waiting, kv) }
}

func TestMakeWay(t *testing.T) {
	unknown := math.NaN()
	for name, test := range map[string]struct {
		stubborn bool // does not yield
		script   loads
		waited   time.Duration
		detail   string // of the skip, "" if the stage may run
	}{
		"nobody":                    {script: always(0, 0, 0)},
		"some run":                  {script: always(9, 0, 0.5)},
		"some run, cache not known": {script: always(9, 0, unknown)},
		"some wait":                 {script: always(9, 2, 0.5), waited: time.Minute, detail: "11 requests of other users"},
		"the cache is full":         {script: always(9, 0, 0.9), waited: time.Minute, detail: "KV cache 90 % full"},
		"a full cache of nobody's":  {script: always(0, 0, 1)},
		"never yields":              {script: always(9, 9, 1), stubborn: true},
		"they go": {script: func(asked int) (serverload.Load, error) {
			if asked > 5 {
				return busy(9, 0, 0.5)
			}
			return busy(9, 1, 0.5)
		}, waited: 5 * lookEvery},
		"no answer": {script: func(int) (serverload.Load, error) {
			return serverload.Load{}, errors.New("timeout")
		}},
		"no metrics": {script: func(int) (serverload.Load, error) { return serverload.Load{}, serverload.ErrAbsent }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				u, _ := scripted(!test.stubborn, test.script)
				started := time.Now()
				stop := u.makeWay(t.Context(), "constant-1")
				if waited := time.Since(started); waited != test.waited {
					t.Errorf("waited for %s, want %s", waited, test.waited)
				}
				if (stop != nil) != (test.detail != "") {
					t.Fatalf("obstacle %+v", stop)
				}
				if stop != nil && (stop.reason != skipYielded || !strings.HasPrefix(stop.detail, "constant-1: ") ||
					!strings.Contains(stop.detail, test.detail)) {
					t.Errorf("%s: %s", stop.reason, stop.detail)
				}
			})
		})
	}
}

func TestAbsentMetricsAreNotAskedForAgain(t *testing.T) {
	u, r := scripted(true, func(int) (serverload.Load, error) { return serverload.Load{}, serverload.ErrAbsent })
	u.left.n = 1
	for range 3 {
		u.makeWay(t.Context(), "constant-1")
	}
	if r.asked != 1 {
		t.Errorf("asked %d times", r.asked)
	}
}

func TestSilentMetricsAreGivenUp(t *testing.T) {
	u, r := scripted(true, func(asked int) (serverload.Load, error) {
		if asked == 2 {
			return busy(0, 0, 0)
		}
		return serverload.Load{}, errors.New("timeout")
	})
	for range 6 {
		u.makeWay(t.Context(), "constant-1")
	}
	if r.asked != 4 { // the second has answered
		t.Errorf("asked %d times", r.asked)
	}
}

func TestMakeWayEndsWithTheCycle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u, _ := scripted(true, always(9, 9, 1))
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		started := time.Now()
		u.makeWay(ctx, "constant-1")
		if took := time.Since(started); took != 3*time.Second {
			t.Errorf("took %s", took)
		}
	})
}

// TestDrain waits for what a stage has left behind, no longer than need be.
func TestDrain(t *testing.T) {
	nine := func(time.Duration) float64 { return 9 }
	for name, test := range map[string]struct {
		left     leftBehind
		before   float64
		stale    time.Duration
		running  func(since time.Duration) float64
		waiting  time.Duration // for so long one more waits
		at, most time.Duration // bounds of the wait
		idle     bool
	}{
		"nothing was cut off": {running: nine, idle: true},
		"gone at once":        {left: leftBehind{n: 9}, running: func(time.Duration) float64 { return 0 }, idle: true},
		"gone after a second": {
			left: leftBehind{n: 9, others: 3, longest: time.Second}, at: time.Second, most: 1500 * milli, idle: true,
			running: func(since time.Duration) float64 {
				if since >= time.Second {
					return 0
				}
				return 9
			},
		},
		"never gone":                 {left: leftBehind{n: 9}, at: drainWait, most: drainWait + drainMost, running: nine},
		"as many as before":          {left: leftBehind{n: 9}, before: 9, running: nine, idle: true},
		"numbers may be old":         {left: leftBehind{n: 9}, stale: time.Minute, running: nine},
		"as many as other users had": {left: leftBehind{n: 9, others: 9}, running: nine},
		"more than other users had": {
			left: leftBehind{n: 9, others: 8}, at: drainWait, most: drainWait + drainMost, running: nine,
		},
		"ours would be done": {
			left: leftBehind{n: 9, longest: time.Second}, at: 2 * time.Second, most: 2*time.Second + drainMost, running: nine,
		},
		"ours have waited": {
			left: leftBehind{n: 9, longest: time.Second}, waiting: 3 * time.Second, at: 4 * time.Second,
			most: 5*time.Second + drainMost, running: nine,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				started := time.Now()
				u, _ := scripted(false, func(int) (serverload.Load, error) {
					l := serverload.Load{Running: test.running(time.Since(started)), Stale: test.stale}
					if time.Since(started) < test.waiting {
						l.Waiting = 1
					}
					return l, nil
				})
				u.before, u.left = look{Load: serverload.Load{Running: test.before}, known: true}, test.left
				u.makeWay(t.Context(), "constant-1")
				if took := time.Since(started); took < test.at || took > test.most || u.idle != test.idle {
					t.Errorf("took %s, want %s to %s; idle: %v", took, test.at, test.most, u.idle)
				}
			})
		})
	}
}

// TestOurOwnRequestsAreNotForeign: whenever the server counts, it counts no more of ours than we had in flight since
// the last look.
func TestOurOwnRequestsAreNotForeign(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var counted float64
		var stale time.Duration
		u, _ := scripted(true, func(int) (serverload.Load, error) {
			return serverload.Load{Running: counted, Stale: stale}, nil
		})
		want := func(what string, foreign int) {
			t.Helper()
			if got := u.look(t.Context()).foreign; got != foreign {
				t.Errorf("%s: %d foreign requests, want %d", what, got, foreign)
			}
		}
		want("nothing", 0)
		u.live.InFlight.Store(8)
		counted = 8
		want("in flight", 0)
		u.live.InFlight.Store(2)
		want("fewer now, the server is behind", 0)
		want("it is not so far behind", 6)
		u.note(8)
		want("more in between", 0)
		counted = 100
		u.live.InFlight.Store(98)
		want("two of a hundred are on their way", 1)
		u.live.InFlight.Store(0)
		want("the last of it", 1)
		stale = 30 * time.Second
		counted = 98
		time.Sleep(10 * time.Second)
		want("a count that may be old", 0)
		time.Sleep(25 * time.Second)
		want("too old", 98)
	})
}

func TestCrowd(t *testing.T) {
	at := func(foreign int, waiting, kv float64) look {
		return look{known: true, foreign: foreign, Load: serverload.Load{Waiting: waiting, KVUse: kv}}
	}
	need, there, none, blind := at(2, 1, 0.5), at(3, 0, 0.5), at(0, 64, 1), look{}
	for name, test := range map[string]struct {
		looks   []look
		yield   bool
		finding bool
	}{
		"none, in a throughput stage": {looks: []look{none, none, none}},
		"once in need":                {looks: []look{none, need, none}},
		"twice":                       {looks: []look{none, need, need}, yield: true, finding: true},
		"not in a row":                {looks: []look{need, none, need}, finding: true},
		"not seen in between":         {looks: []look{need, blind, need}, finding: true},
		"a full cache":                {looks: []look{at(1, 0, 0.95), at(1, 0, 0.9)}, yield: true, finding: true},
		"only there":                  {looks: []look{there, there, there}, finding: true},
		"there once":                  {looks: []look{there, none, none}},
	} {
		t.Run(name, func(t *testing.T) {
			var c crowd
			var yield bool
			for _, l := range test.looks {
				yield = c.add(l) || yield
			}
			if _, finding := c.finding(); yield != test.yield || finding != test.finding {
				t.Errorf("yields: %v, finding: %v", yield, finding)
			}
		})
	}
}

// cycleWithUsers runs a cycle that looks at the server often.
func cycleWithUsers(t *testing.T, target *Target, o *observer) *probe.Cycle {
	t.Helper()
	c := newCycle(target, o, discardLog())
	defer c.close()
	if !c.prepare(t.Context(), wordPools{}) {
		t.Fatal(c.Failure)
	}
	if c.users.metrics == nil {
		t.Fatal("the simulator's metrics were not found")
	}
	c.users.every, c.users.wait = 20*milli, 100*milli
	c.runStages(t.Context())
	checkBooks(t, c.Cycle, target, o)
	return c.Cycle
}

// TestYield has users come at various times to a server of four slots, of which a sweep takes up to eight.
func TestYield(t *testing.T) {
	for name, test := range map[string]struct {
		users    int
		at       string // when this stage has got its first answer; "" before the first
		stubborn bool
		stages   []string
		skip     []string
		ended    bool // the last stage, by the guard
		foreign  []string
	}{
		"nobody comes": {stages: []string{"synchronous", "throughput", "constant-1", "constant-2"}},
		"they wait from the first": {
			users: 8, skip: []string{"synchronous", "throughput", "constant-1", "constant-2"},
		},
		"they come to the synchronous stage": {
			users: 8, at: "synchronous", stages: []string{"synchronous"}, ended: true,
			skip: []string{"throughput", "constant-1", "constant-2"},
		},
		"they come to the throughput stage": {
			users: 8, at: "throughput", stages: []string{"synchronous", "throughput"}, ended: true,
			skip: []string{"constant-1", "constant-2"},
		},
		"they come to a constant stage": {
			users: 8, at: "constant-1", stages: []string{"synchronous", "throughput", "constant-1"}, ended: true,
			skip: []string{"constant-2"},
		},
		"they wait in vain": {
			users: 8, stubborn: true, stages: []string{"synchronous", "throughput", "constant-1", "constant-2"},
			foreign: []string{"synchronous", "throughput", "constant-1", "constant-2"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, url := simtest.Start(t, sim.Options{Slots: 4, DecodeStep: milli, PrefillTokensPerSecond: 1e6})
			target := targetAt(url, sweepOf(2))
			target.Plan.MaxDuration, target.Guards.YieldToUsers = 1200*milli, !test.stubborn
			come := func() {
				if err := server.SetUsers(test.users); err != nil {
					panic(err)
				}
			}
			var came atomic.Bool
			o := &observer{onRecord: func(stage string) {
				if stage == test.at && came.CompareAndSwap(false, true) {
					come()
				}
			}}
			if test.at == "" {
				o.onDiscovered = come
			}
			c := cycleWithUsers(t, target, o)
			var ran []string
			for i := range c.Stages {
				s := &c.Stages[i]
				ran = append(ran, s.Name)
				if got, want := has(s, probe.FindingEndedByGuard), test.ended && i == len(c.Stages)-1; got != want {
					t.Errorf("%s: ended by a guard: %v, %v", s.Name, got, s.Findings)
				}
				if got, want := has(s, probe.FindingForeignLoad), slices.Contains(test.foreign, s.Name); got != want {
					t.Errorf("%s: foreign load: %v, %v", s.Name, got, s.Findings)
				}
			}
			var skipped []string
			for _, s := range c.Skipped {
				skipped = append(skipped, s.Stage)
				if s.Reason != skipYielded || !strings.Contains(s.Detail, "requests of other users") {
					t.Errorf("skipped: %+v", s)
				}
			}
			if !slices.Equal(ran, test.stages) || !slices.Equal(skipped, test.skip) || c.Failure != nil {
				t.Errorf("ran %v and skipped %v, failure %v", ran, skipped, c.Failure)
			}
		})
	}
}
