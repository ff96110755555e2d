package sweep

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/inferprobe/inferprobe/internal/load"
	"github.com/inferprobe/inferprobe/internal/openai"
	"github.com/inferprobe/inferprobe/internal/probe"
	"github.com/inferprobe/inferprobe/internal/sim"
	"github.com/inferprobe/inferprobe/internal/sim/simtest"
)

// purse is a budget.
type purse struct{ left atomic.Int64 }

func (p *purse) Left() int64 { return p.left.Load() }

// spend takes from the purse what each request costs, as a ledger does.
type spender struct {
	*observer
	purse *purse
}

func (s spender) Record(stage string, r *probe.Result) {
	s.purse.left.Add(-int64(r.Cost()))
	s.observer.Record(stage, r)
}

// TestBudget ends the stage in which the tokens are used up, and skips what follows.
func TestBudget(t *testing.T) {
	const (
		each      = 32 + sim.ChatTemplateTokens + 8 // tokens of a request
		calibrate = 32 + 16 + 2*sim.ChatTemplateTokens + 2
	)
	all := []string{"synchronous", "throughput", "constant-1", "constant-2"}
	for name, test := range map[string]struct {
		tokens   int64
		stages   int
		ended    bool // the last one, by the guard
		requests int  // at the server; 0 = none, or not checked where stages run
	}{
		"none":                        {tokens: 0, stages: 0},
		"less than for one":           {tokens: 32, stages: 0},
		"for half of the calibration": {tokens: 32 + 1, stages: 0, requests: 1},
		"to calibrate":                {tokens: calibrate + each - 1, stages: 0, requests: 2},
		"for one request":             {tokens: calibrate + each, stages: 1, ended: true, requests: 2 + 1},
		"for a few":                   {tokens: calibrate + 4*each - 1, stages: 1, ended: true, requests: 2 + 3},
		"for two stages":              {tokens: calibrate + 20*each, stages: 2, ended: true},
		"more than that":              {tokens: 1 << 40, stages: 4},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, url := simtest.Start(t, steady())
			p := &purse{}
			p.left.Store(test.tokens)
			target := targetAt(url, sweepOf(2))
			target.Guards.Budget = p
			o := &observer{}
			c := Run(t.Context(), target, wordPools{}, spender{o, p}, discardLog())
			checkBooks(t, c, target, o)
			if len(c.Stages) != test.stages || c.Failure != nil {
				t.Fatalf("%d stages, skipped %v, failure %v", len(c.Stages), c.Skipped, c.Failure)
			}
			checkSkipped(t, c, all[test.stages:], skipBudget)
			if n := test.stages; n > 0 && has(&c.Stages[n-1], probe.FindingEndedByGuard) != test.ended {
				t.Errorf("findings %v", c.Stages[n-1].Findings)
			}
			sent := len(simtest.Truth(t, server))
			if (test.stages == 0 || test.requests > 0) && sent != test.requests {
				t.Errorf("%d requests were sent, want %d", sent, test.requests)
			}
		})
	}
}

// checkSkipped checks that these stages were skipped for that reason.
func checkSkipped(t *testing.T, c *probe.Cycle, stages []string, reason string) {
	t.Helper()
	var want []string
	for _, s := range stages {
		want = append(want, s+" "+reason)
	}
	if !slices.Equal(skips(c), want) {
		t.Errorf("skipped %q, want %q", skips(c), want)
	}
	for _, s := range c.Skipped {
		if s.Detail == "" {
			t.Errorf("%s is skipped without a detail", s.Stage)
		}
	}
}

// TestWindow ends the running stage with the window.
func TestWindow(t *testing.T) {
	_, url := simtest.Start(t, steady())
	target := targetAt(url, sweepOf(2))
	target.Plan.MaxDuration = 300 * milli
	target.Guards.Until = time.Now().Add(time.Hour)
	o := &observer{onProgress: func(p Progress) {
		if p.Stage == probe.StageSynchronous && p.Done { // from here on, 150 ms
			target.Guards.Until = time.Now().Add(150 * milli)
		}
	}}
	c := run(t.Context(), t, target, o)
	if len(c.Stages) != 2 || c.Failure != nil {
		t.Fatalf("%d stages, failure %v", len(c.Stages), c.Failure)
	}
	checkSkipped(t, c, []string{"constant-1", "constant-2"}, skipWindow)
	s := &c.Stages[1]
	if !has(s, probe.FindingEndedByGuard) || s.Ended.Before(target.Guards.Until) {
		t.Errorf("ended at %s, the window at %s: %v", s.Ended, target.Guards.Until, s.Findings)
	}
	closed := targetAt(url, sweepOf(1))
	closed.Guards.Until = time.Now()
	c = run(t.Context(), t, closed, &observer{})
	checkSkipped(t, c, []string{"synchronous", "throughput", "constant-1"}, skipWindow)
	if len(c.Stages) > 0 || c.Failure != nil {
		t.Errorf("%d stages, failure %v", len(c.Stages), c.Failure)
	}
}

// TestPanicsBehindAStage: they come out of Run, and leave nothing behind.
func TestPanicsBehindAStage(t *testing.T) {
	_, url := simtest.Start(t, steady())
	if _, err := openai.Discover(t.Context(), openai.Options{BaseURL: url + "/v1"}, ""); err != nil { // it runs
		t.Fatal(err)
	}
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	for name, o := range map[string]*observer{
		"record":   {onRecord: func(string) { panic("a fault") }},
		"progress": {onProgress: func(Progress) { panic("a fault") }},
	} {
		for _, plan := range []Plan{sweepOf(1), {Profile: probe.ProfileConstant, RateList: []float64{50}}} {
			t.Run(name+"/"+string(plan.Profile), func(t *testing.T) {
				defer func() {
					if fault, ok := recover().(*load.Panic); !ok || fault.Value != "a fault" || len(fault.Stack) == 0 {
						t.Errorf("recovered %v", fault)
					}
				}()
				Run(t.Context(), targetAt(url, plan), wordPools{}, o, discardLog())
			})
		}
	}
}

// TestServerDiesInTheMiddle: a cycle that the endpoint did not live through has failed, whatever it measured before.
func TestServerDiesInTheMiddle(t *testing.T) {
	for name, test := range map[string]struct {
		plan    Plan
		guards  Guards
		stages  int
		skipped int
	}{
		"constant": {
			plan:   Plan{Profile: probe.ProfileConstant, RateList: []float64{100, 200}, MaxDuration: 2 * time.Second},
			guards: Guards{MaxErrorRate: 0.1}, stages: 1, skipped: 1,
		},
		"constant, without a guard": {
			plan:   Plan{Profile: probe.ProfileConstant, RateList: []float64{100}, MaxDuration: 500 * milli},
			stages: 1,
		},
		"synchronous": {
			plan:   Plan{Profile: probe.ProfileSynchronous, MaxDuration: 2 * time.Second},
			guards: Guards{MaxErrorRate: 0.1}, stages: 1,
		},
		"the synchronous stage of a sweep": {
			plan: sweepOf(2), guards: Guards{MaxErrorRate: 0.1}, stages: 1, skipped: 3,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := &restartable{t: t, address: "127.0.0.1:0"}
			r.start()
			var done atomic.Int64
			var stopping sync.WaitGroup
			o := &observer{onRecord: func(string) {
				if done.Add(1) == 4 {
					stopping.Go(r.stop)
				}
			}}
			target := targetAt("http://"+r.address, test.plan)
			target.Guards = test.guards
			if test.plan.Profile == probe.ProfileSweep {
				target.Plan.MaxDuration = 2 * time.Second
			}
			c := run(t.Context(), t, target, o)
			stopping.Wait()
			if c.Failure == nil || c.Failure.Reason != string(probe.ReasonConnect) ||
				!strings.Contains(c.Failure.Detail, "went away in stage") {
				t.Errorf("failure %+v", c.Failure)
			}
			if len(c.Stages) != test.stages || c.Stages[0].Completed == 0 || len(c.Skipped) != test.skipped {
				t.Errorf("%d stages, %d completed, skipped %v", len(c.Stages), c.Stages[0].Completed, c.Skipped)
			}
		})
	}
}

// TestAServerThatRefusesAtTheEndHasNotGone: it still answers for its models.
func TestAServerThatRefusesAtTheEndHasNotGone(t *testing.T) {
	server, url := simtest.Start(t, steady())
	var done atomic.Int64
	o := &observer{onRecord: func(string) {
		if done.Add(1) == 4 {
			if err := server.SetFaults([]sim.FaultRate{{Fault: "status=503", Probability: 1}}); err != nil {
				panic(err)
			}
		}
	}}
	target := targetAt(url, Plan{Profile: probe.ProfileConstant, RateList: []float64{100}, MaxDuration: 2 * time.Second})
	target.Guards.MaxErrorRate = 0.1
	if c := run(t.Context(), t, target, o); c.Failure != nil || c.Stages[0].Failures[probe.ReasonHTTP5xx] < 2 {
		t.Errorf("failure %v, %v", c.Failure, c.Stages[0].Failures)
	}
}

// TestAFirstRequestThatIsTooLong fails the cycle for what it is, where the server refuses it only with the template.
func TestAFirstRequestThatIsTooLong(t *testing.T) {
	_, url := simtest.Start(t, sim.Options{MaxModelLen: 40}) // 32 and 8 fit, but not with the template's 8
	c := Run(t.Context(), targetAt(url, sweepOf(1)), wordPools{}, &observer{}, discardLog())
	if c.Failure == nil || c.Failure.Reason != probe.CycleContext ||
		!strings.Contains(c.Failure.Detail, "maximum context length is 40 tokens") {
		t.Errorf("failure %+v", c.Failure)
	}
	for detail, want := range map[string]bool{
		"400: the request exceeds the available context size, try increasing it":         true,
		"400: The input (90 tokens) is longer than the model's context length (80).":     true,
		"422: Input validation error: `inputs` tokens + `max_new_tokens` must be <= 100": true,
		"400: no such field": false,
	} {
		r := &ready{source: &source{length: 32}}
		fail := &probe.CycleFailure{Reason: string(probe.ReasonHTTP4xx), Detail: detail}
		if r.tooLong(fail) != want {
			t.Errorf("%q: %v", detail, !want)
		}
		r.server.Model.MaxLength = 64 // hardly room for a template
		if !r.tooLong(fail) {
			t.Errorf("%q: the known length does not tell", detail)
		}
		if fail.Reason = string(probe.ReasonHTTP5xx); r.tooLong(fail) {
			t.Errorf("%q: trouble of the server is no length", detail)
		}
	}
}

// TestNothingIsWaitedForBetweenStages that cut nothing off.
func TestNothingIsWaitedForBetweenStages(t *testing.T) {
	_, url := simtest.Start(t, steady())
	target := targetAt(url, Plan{
		Profile: probe.ProfileConstant, RateList: []float64{50, 50, 50}, MaxRequests: 5, MaxDuration: time.Minute,
	})
	target.Guards.YieldToUsers = true
	c := run(t.Context(), t, target, &observer{})
	for i := 1; i < len(c.Stages); i++ {
		idle := c.Stages[i].Started.Sub(c.Stages[i-1].Ended)
		t.Logf("%s idle", idle)
		if idle > drainFirst+lookEvery/2 { // one wait would be longer, a slow machine is not
			t.Errorf("%s idle between stages", idle)
		}
	}
}
