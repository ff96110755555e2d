package load

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/inferprobe/inferprobe/internal/probe"
)

type recorderFunc func(*probe.Result)

func (f recorderFunc) Record(r *probe.Result) { f(r) }

type sourceFunc func(*probe.Request)

func (f sourceFunc) Next(r *probe.Request) { f(r) }

type doerFunc func(context.Context, *probe.Request, *probe.Result)

func (f doerFunc) Do(ctx context.Context, req *probe.Request, res *probe.Result) { f(ctx, req, res) }

// TestPanics has each of the engine's collaborators panic in the middle of each kind of stage. The caller gets to see
// it, nothing is left in flight, and the engine can be used again. That no goroutine is left, the bubble checks.
func TestPanics(t *testing.T) {
	// third panics at its third call.
	third := func() func() {
		var calls atomic.Int64
		return func() {
			if calls.Add(1) == 3 {
				panic("a fault")
			}
		}
	}
	for name, arrange := range map[string]func(*Engine, *server){
		"recorder": func(e *Engine, _ *server) {
			fault, seen := third(), e.Recorder
			e.Recorder = recorderFunc(func(r *probe.Result) { fault(); seen.Record(r) })
		},
		"source": func(e *Engine, _ *server) {
			fault, bodies := third(), e.Source
			e.Source = sourceFunc(func(r *probe.Request) { fault(); bodies.Next(r) })
		},
		"client": func(e *Engine, s *server) {
			fault := third()
			e.Client = doerFunc(func(ctx context.Context, req *probe.Request, res *probe.Result) {
				s.Do(ctx, req, res)
				fault()
			})
		},
		"stop": func(e *Engine, _ *server) {
			fault := third()
			e.Stop = func() bool { fault(); return false }
		},
		"stop, asked by the clock": func(e *Engine, s *server) {
			s.latency = time.Hour
			fault := third()
			e.Stop = func() bool { fault(); return false }
		},
	} {
		for _, profile := range []probe.Profile{
			probe.ProfileSynchronous, probe.ProfileThroughput, probe.ProfileConstant, probe.ProfilePoisson,
		} {
			t.Run(name+"/"+string(profile), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := &server{latency: time.Second}
					e, _ := newEngine(s)
					arrange(e, s)
					stage := Stage{Profile: profile, Rate: 10, MaxDuration: time.Minute, MaxInFlight: 8}
					checkPanic(t, func() { e.Run(t.Context(), stage) })
					if n := e.Live().InFlight.Load(); n != 0 {
						t.Errorf("%d requests in flight", n)
					}
					s.latency = time.Second
					e.Recorder, e.Stop = &tally{}, nil
					if out := e.Run(t.Context(), stage); out.Ending != EndedByDuration {
						t.Errorf("the next stage ended by %s", out.Ending)
					}
				})
			})
		}
	}
}

// checkPanic runs run, which must panic with what a goroutine of it did.
func checkPanic(t *testing.T, run func()) {
	t.Helper()
	started := time.Now()
	defer func() {
		fault, ok := recover().(*Panic)
		if !ok {
			t.Fatalf("recovered %v", fault)
		}
		if fault.Error() != "a fault" || !strings.Contains(string(fault.Stack), "panic_test.go") {
			t.Errorf("%s at %s", fault, fault.Stack)
		}
		if took := time.Since(started); took > 10*time.Second {
			t.Errorf("it took %s to come out", took)
		}
	}()
	run()
}
