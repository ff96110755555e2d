package sweep

import (
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/inferprobe/inferprobe/internal/load"
	"github.com/inferprobe/inferprobe/internal/openai"
	"github.com/inferprobe/inferprobe/internal/probe"
	"github.com/inferprobe/inferprobe/internal/sim"
	"github.com/inferprobe/inferprobe/internal/sim/simtest"
)

// TestBudgetHolds has a budget for a few of the hundreds of requests that would leave before the first has ended: by the
// simulator's own record the endpoint is asked for no more than that, and for all of it but less than one request.
func TestBudgetHolds(t *testing.T) {
	const (
		each  = 32 + sim.ChatTemplateTokens + 8 // tokens of a request
		whole = 20 * each
	)
	for name, plan := range map[string]Plan{
		"as many as possible": {Profile: probe.ProfileThroughput},
		"a constant rate":     {Profile: probe.ProfileConstant, RateList: []float64{1000, 1000}},
		"a random rate":       {Profile: probe.ProfilePoisson, RateList: []float64{1000, 1000}},
		"a sweep":             sweepOf(3),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, url := simtest.Start(t, sim.Options{
				Fixed: &sim.FixedTiming{TimeToFirstToken: 400 * milli, InterTokenLatency: 20 * milli},
			})
			p := &purse{}
			p.left.Store(whole)
			plan.MaxDuration, plan.MaxConcurrency, plan.MaxInFlight = 20*time.Second, 512, 512
			if plan.Profile == probe.ProfileSweep { // whose synchronous stage alone would use up the budget
				plan.MaxDuration = 3 * time.Second
			}
			target := targetAt(url, plan)
			target.Guards.Budget = p
			o := &observer{}
			c := Run(t.Context(), target, wordPools{}, spender{o, p}, discardLog())
			checkBooks(t, c, target, o)
			var asked, requests, cut int // cut: what the server added to prompts whose count did not come
			for _, r := range simtest.Truth(t, server) {
				asked += r.PromptTokens + r.OutputTokens
				requests++
				if r.Outcome != sim.OutcomeCompleted {
					cut += sim.ChatTemplateTokens
				}
			}
			t.Logf("%d requests, %d tokens of %d", requests, asked, whole)
			if asked > whole+cut || asked <= whole-each {
				t.Errorf("the endpoint was asked for %d tokens in %d requests, of %d that were left", asked, requests, whole)
			}
			last := c.Stages[len(c.Stages)-1]
			if last.Incomplete > 0 || !has(&last, probe.FindingEndedByGuard) {
				t.Errorf("the last stage: %d requests incomplete, %v", last.Incomplete, last.Findings)
			}
			checkSkipped(t, c, target.Plan.StageNames()[len(c.Stages):], skipBudget)
		})
	}
}

// TestAllowance has many ask at once for what the budget covers once.
func TestAllowance(t *testing.T) {
	p := &purse{}
	p.left.Store(1000)
	a := &allowance{budget: p, template: 2}
	req := &probe.Request{PromptTokens: 5, OutputTokens: 3}
	var asking sync.WaitGroup
	for range 64 {
		asking.Go(func() {
			for a.take(req) {
				runtime.Gosched()
				if left := p.left.Add(-7); left < 0 { // less than was promised
					t.Errorf("%d tokens are left", left)
				}
				a.settle(req)
			}
		})
	}
	asking.Wait()
	// Another was refused while up to 64 were in flight; whoever comes after it is, too.
	if a.promised != 0 || p.left.Load() >= 64*10 || a.refused() == "" || a.take(&probe.Request{}) {
		t.Errorf("%d tokens are promised and %d left, refused %q", a.promised, p.left.Load(), a.refused())
	}
	if without := new(allowance); !without.take(&probe.Request{PromptTokens: 1 << 40}) || without.refused() != "" {
		t.Error("refused without a budget")
	}
}

// TestCanaryBudget: a canary that the budget does not cover is not sent, be it the request that finds out about the
// server or one that comes later, and is sent when there are tokens again.
func TestCanaryBudget(t *testing.T) {
	const (
		calibrate = DefaultCanaryPromptTokens + sim.ChatTemplateTokens + 1
		each      = DefaultCanaryPromptTokens + sim.ChatTemplateTokens + DefaultCanaryOutputTokens
	)
	server, url := simtest.Start(t, steady())
	p, o := &purse{}, &observer{}
	target := &Target{Name: "sim", Client: openai.Options{BaseURL: url + "/v1"}, Workload: probe.Workload{API: "chat"}}
	target.Guards.Budget = p
	c := NewCanary(target, wordPools{}, spender{o, p}, discardLog())
	defer c.Close()
	for i, test := range []struct {
		left int64
		want probe.Outcome
		sent int // since the first
	}{
		{DefaultCanaryPromptTokens, probe.Incomplete, 0},
		{calibrate + each - 1, probe.Incomplete, 1},
		{each - 1, probe.Incomplete, 1},
		{each, probe.Completed, 2},
		{0, probe.Incomplete, 2},
		{each, probe.Completed, 3},
	} {
		p.left.Store(test.left)
		out := c.Probe(t.Context())
		if sent := len(simtest.Truth(t, server)); out.Outcome != test.want || out.Reason != "" || sent != test.sent {
			t.Errorf("probe %d with %d tokens: %+v, %d requests sent; want %s and %d", i, test.left, out, sent, test.want,
				test.sent)
		}
		if p.left.Load() < 0 {
			t.Errorf("probe %d with %d tokens: %d are left", i, test.left, p.left.Load())
		}
	}
}

// TestBudgetBetweenStages: a request that none of the stages sends needs tokens, too.
func TestBudgetBetweenStages(t *testing.T) {
	doer, o, p := &scriptedDoer{script: []scriptedAnswer{{first: milli}}}, &observer{}, &purse{}
	c := newCycle(&Target{Guards: Guards{Budget: p}}, spender{o, p}, discardLog())
	source := sourceFunc(func(r *probe.Request) { r.PromptTokens, r.OutputTokens = 30, 10 })
	c.engine = &load.Engine{Client: doer, Source: source}
	p.left.Store(119)
	for i := range 4 {
		c.sendAlone(t.Context())
		if want := min(i+1, 2); doer.asked != want || i < 2 && c.allowance.promised != 0 {
			t.Errorf("%d requests, %d tokens promised", doer.asked, c.allowance.promised)
		}
		p.left.Store(119 - 40*int64(doer.asked))
	}
	if !c.over(t.Context()) {
		t.Error("the cycle goes on")
	}
}

type sourceFunc func(*probe.Request)

func (f sourceFunc) Next(r *probe.Request) { f(r) }
