package sweep

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/inferprobe/inferprobe/internal/openai"
	"github.com/inferprobe/inferprobe/internal/probe"
	"github.com/inferprobe/inferprobe/internal/prompt"
	"github.com/inferprobe/inferprobe/internal/prompt/prompttest"
	"github.com/inferprobe/inferprobe/internal/sim"
	"github.com/inferprobe/inferprobe/internal/sim/simtest"
)

// recorded is what an observer keeps of a request.
type recorded struct {
	stage                 string
	outcome               probe.Outcome
	reason                probe.Reason
	sent                  bool
	prompt, output, asked int
}

// observer keeps everything it is told, and calls back.
type observer struct {
	onDiscovered func()
	onRecord     func(stage string) // of a stage's requests
	onProgress   func(Progress)

	mu         sync.Mutex
	discovered []probe.Endpoint
	results    map[string]recorded // by request id
	all        []recorded
	unsent     int
	progress   []Progress
}

func (o *observer) Discovered(e probe.Endpoint) {
	o.discovered = append(o.discovered, e)
	if o.onDiscovered != nil {
		o.onDiscovered()
	}
}

func (o *observer) Record(stage string, r *probe.Result) {
	o.mu.Lock()
	if o.results == nil {
		o.results = make(map[string]recorded)
	}
	kept := recorded{
		stage, r.Outcome, r.Reason, !r.Sent.IsZero(), r.PromptTokens, r.OutputTokens, r.Request.OutputTokens,
	}
	o.all = append(o.all, kept)
	if r.ID == "" {
		o.unsent++
	} else {
		o.results[r.ID] = kept
	}
	o.mu.Unlock()
	if o.onRecord != nil && stage != probe.StageNone {
		o.onRecord(stage)
	}
}

func (o *observer) Progress(p Progress) {
	o.progress = append(o.progress, p)
	if o.onProgress != nil {
		o.onProgress(p)
	}
}

// count returns how many requests of a stage ended so.
func (o *observer) count(stage string, outcome probe.Outcome) (n int) {
	for _, r := range o.results {
		if r.stage == stage && r.outcome == outcome {
			n++
		}
	}
	return n
}

// steady is a simulator whose answers of 8 tokens take 38 ms whatever the load.
func steady() sim.Options {
	return sim.Options{Fixed: &sim.FixedTiming{TimeToFirstToken: 10 * milli, InterTokenLatency: 4 * milli}}
}

// targetAt is a target with prompts of 32 tokens and answers of 8.
func targetAt(url string, plan Plan) *Target {
	plan.MaxDuration = cmp.Or(plan.MaxDuration, 300*milli)
	plan.MaxInFlight = cmp.Or(plan.MaxInFlight, 64)
	plan.MaxConcurrency = cmp.Or(plan.MaxConcurrency, 8)
	return &Target{
		Name:   "sim",
		Client: openai.Options{BaseURL: url + "/v1", MaxInFlight: plan.MaxInFlight},
		Workload: probe.Workload{
			API: "chat", PromptTokens: probe.Length{Mean: 32}, OutputTokens: probe.Length{Mean: 8},
		},
		Plan: plan,
	}
}

func sweepOf(rates int) Plan {
	return Plan{Profile: probe.ProfileSweep, Rates: rates, Arrival: probe.ProfileConstant}
}

func discardLog() *slog.Logger { return slog.New(slog.DiscardHandler) }

func run(ctx context.Context, t *testing.T, target *Target, o *observer) *probe.Cycle {
	t.Helper()
	c := Run(ctx, target, wordPools{}, o, discardLog())
	checkBooks(t, c, target, o)
	return c
}

// checkBooks checks what must hold for every cycle: each planned stage ran or was skipped, and each result is in the
// counts of its stage.
func checkBooks(t *testing.T, c *probe.Cycle, target *Target, o *observer) {
	t.Helper()
	var names []string
	unsent := o.unsent
	for i := range c.Stages {
		s := &c.Stages[i]
		names = append(names, s.Name)
		overload := s.Failures[probe.ReasonClientOverload]
		unsent -= overload
		if done, failed, cut := o.count(s.Name, probe.Completed), o.count(s.Name, probe.Failed),
			o.count(s.Name, probe.Incomplete); s.Completed != done || s.Failed != failed+overload || s.Incomplete != cut {
			t.Errorf("%s: %d completed, %d failed, %d incomplete; observed %d, %d, %d", s.Name,
				s.Completed, s.Failed, s.Incomplete, done, failed+overload, cut)
		}
		var byReason int
		for _, n := range s.Failures {
			byReason += n
		}
		if byReason != s.Failed {
			t.Errorf("%s: %d failures by reason, %d in all", s.Name, byReason, s.Failed)
		}
	}
	if unsent != 0 {
		t.Errorf("%d results without an id are in no count", unsent)
	}
	for _, s := range c.Skipped {
		names = append(names, s.Stage)
	}
	if planned := target.Plan.StageNames(); len(names) > 0 && !slices.Equal(names, planned) {
		t.Errorf("ran and skipped %v of %v", names, planned)
	}
}

// calibrations is how many requests a cycle sends before its stages.
const calibrations = 2

// TestCycleAgainstTheTruth runs a whole sweep and compares it with what the simulator knows of every request.
func TestCycleAgainstTheTruth(t *testing.T) {
	server, url := simtest.Start(t, steady())
	o := &observer{}
	target := targetAt(url, sweepOf(3))
	c := run(t.Context(), t, target, o)
	if c.Failure != nil || len(c.Skipped) > 0 || len(c.Stages) != 5 {
		t.Fatalf("%d stages, skipped %v, failure %v", len(c.Stages), c.Skipped, c.Failure)
	}
	var between int
	var tokens, incompleteTokens, stageTokens float64
	for _, truth := range simtest.Truth(t, server) {
		r, ok := o.results[truth.RequestID]
		delete(o.results, truth.RequestID)
		switch {
		case !ok:
			t.Errorf("%s of %d and %d tokens is in no count", truth.RequestID, truth.PromptTokens, truth.OutputTokens)
		case r.stage == probe.StageNone:
			between++
		case r.outcome == probe.Completed:
			tokens += float64(truth.OutputTokens)
			prompt := cmp.Or(r.prompt, truth.PromptTokens) // 0: the end of the stage cut usage off
			if truth.Outcome != sim.OutcomeCompleted || r.output != truth.OutputTokens || prompt != truth.PromptTokens {
				t.Errorf("%s: a completed request of %d and %d tokens is %s, with %d and %d", r.stage, r.prompt, r.output,
					truth.Outcome, truth.PromptTokens, truth.OutputTokens)
			}
		case r.outcome == probe.Incomplete:
			incompleteTokens += float64(r.output)
			if r.output > truth.OutputTokens {
				t.Errorf("%s: %d tokens came of %d that left", r.stage, r.output, truth.OutputTokens)
			}
		default:
			t.Errorf("%s: failed with %s; the server says %s", r.stage, r.reason, truth.Outcome)
		}
	}
	if between != calibrations {
		t.Errorf("%d requests of no stage, want %d to calibrate", between, calibrations)
	}
	for id, r := range o.results { // cut off before the server had read them
		if r.outcome != probe.Incomplete {
			t.Errorf("%s: %s is %s, but the server never saw it", r.stage, id, r.outcome)
		}
	}
	for i := range c.Stages {
		s := &c.Stages[i]
		stageTokens += s.OutputTokens.Mean*float64(s.OutputTokens.Count) + 1e-6
		incompleteTokens -= float64(s.IncompleteOutputTokens)
		if s.Completed != s.OutputTokens.Count || s.Retries != 0 || s.RequestsPerSecond <= 0 || s.InFlight <= 0 {
			t.Errorf("%s: %+v", s.Name, *s)
		}
	}
	if int(stageTokens) != int(tokens) || incompleteTokens != 0 {
		t.Errorf("%d tokens of completed requests, the server says %d; %v of incomplete ones are missing", int(stageTokens),
			int(tokens), incompleteTokens)
	}
	checkSweep(t, c, o)
}

// checkSweep checks what a whole sweep tells beside its counts.
func checkSweep(t *testing.T, c *probe.Cycle, o *observer) {
	t.Helper()
	want := []probe.Endpoint{{Name: "sim", Model: sim.DefaultModel, URL: c.Endpoint.URL}}
	if !slices.Equal(o.discovered, want) {
		t.Errorf("discovered %v, want %v", o.discovered, want)
	}
	low, high := c.Stages[0].RequestsPerSecond, c.Stages[1].RequestsPerSecond
	for i, rate := range between(low, high, 3) {
		if got := c.Stages[2+i].TargetRate; !near(got, rate) {
			t.Errorf("%s: target %v, want %v", c.Stages[2+i].Name, got, rate)
		}
	}
	if c.Capacity.RequestsPerSecond != high || c.Workload.Tokenizer != sim.DefaultModel || c.Ended.Before(c.Started) {
		t.Errorf("capacity %v, workload %+v, from %s to %s", c.Capacity, c.Workload, c.Started, c.Ended)
	}
	var over int
	for _, p := range o.progress {
		if p.Done {
			if over++; p.Index != over || p.Of != 5 || p.Stage != c.Stages[over-1].Name || p.InFlight != 0 ||
				p.Completed != c.Stages[over-1].Completed {
				t.Errorf("end of stage %d: %+v", over, p)
			}
		}
	}
	if over != 5 {
		t.Errorf("the end of %d stages was told, want 5", over)
	}
}

func TestProfiles(t *testing.T) {
	_, url := simtest.Start(t, steady())
	for profile, want := range map[probe.Profile][]string{
		probe.ProfileSynchronous: {"synchronous"},
		probe.ProfileThroughput:  {"throughput"},
		probe.ProfileConstant:    {"constant-1", "constant-2"},
		probe.ProfilePoisson:     {"constant-1", "constant-2"},
	} {
		t.Run(string(profile), func(t *testing.T) {
			c := run(t.Context(), t, targetAt(url, Plan{
				Profile: profile, RateList: []float64{20, 40}, MaxRequests: 10, MaxDuration: time.Minute,
			}), &observer{})
			var names []string
			for i := range c.Stages {
				s := &c.Stages[i]
				names = append(names, s.Name)
				if s.Profile != profile || s.Completed != 10 {
					t.Errorf("%s: %s, %d completed", s.Name, s.Profile, s.Completed)
				}
			}
			if !slices.Equal(names, want) || c.Failure != nil {
				t.Errorf("stages %v, want %v; failure %v", names, want, c.Failure)
			}
		})
	}
}

// TestMaxConcurrency: a cycle says how many requests its throughput stage has in flight, if it has one.
func TestMaxConcurrency(t *testing.T) {
	for name, test := range map[string]struct {
		plan Plan
		want int
	}{
		"a sweep":             {Plan{Profile: probe.ProfileSweep, MaxConcurrency: 8, MaxInFlight: 64}, 8},
		"a guard allows less": {Plan{Profile: probe.ProfileThroughput, MaxConcurrency: 64, MaxInFlight: 8}, 8},
		"none at once":        {Plan{Profile: probe.ProfileSynchronous, MaxConcurrency: 8, MaxInFlight: 64}, 0},
		"an open loop":        {Plan{Profile: probe.ProfilePoisson, MaxConcurrency: 8, MaxInFlight: 64}, 0},
	} {
		if got := NotBegun(&Target{Plan: test.plan}).MaxConcurrency; got != test.want {
			t.Errorf("%s: %d, want %d", name, got, test.want)
		}
	}
}

// TestCycleLeavesNothingBehind: not a connection, not a goroutine, while the server goes on.
func TestCycleLeavesNothingBehind(t *testing.T) {
	_, url := simtest.Start(t, steady())
	if _, err := openai.Discover(t.Context(), openai.Options{BaseURL: url + "/v1"}, ""); err != nil { // it runs
		t.Fatal(err)
	}
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	run(t.Context(), t, targetAt(url, Plan{Profile: probe.ProfileSynchronous, MaxRequests: 3}), &observer{})
	failing := poolsFunc(func(context.Context, string) (*prompt.Pool, error) { panic("a fault") })
	defer func() {
		if recover() == nil {
			t.Error("the fault was hidden")
		}
	}()
	Run(t.Context(), targetAt(url, sweepOf(1)), failing, &observer{}, discardLog())
}

func skips(c *probe.Cycle) []string {
	var out []string
	for _, s := range c.Skipped {
		out = append(out, s.Stage+" "+s.Reason)
	}
	return out
}

// poolsFunc makes Pools of a function.
type poolsFunc func(context.Context, string) (*prompt.Pool, error)

func (f poolsFunc) Pool(ctx context.Context, ref string) (*prompt.Pool, error) { return f(ctx, ref) }

// TestInterruption stops a cycle in each of its phases. What it measured until then stays, and all else is skipped.
func TestInterruption(t *testing.T) {
	for name, test := range map[string]struct {
		stop func(cancel func(), o *observer) Pools // arranges for it, and returns other pools if need be
		ran  []string
		skip []string
	}{
		"before it begins": {
			stop: func(cancel func(), _ *observer) Pools { cancel(); return nil },
		},
		"while the tokenizer loads": {
			stop: func(cancel func(), _ *observer) Pools {
				return poolsFunc(func(ctx context.Context, _ string) (*prompt.Pool, error) { cancel(); return nil, ctx.Err() })
			},
		},
		"while it calibrates": {
			stop: func(cancel func(), _ *observer) Pools {
				return poolsFunc(func(context.Context, string) (*prompt.Pool, error) { cancel(); return words() })
			},
		},
		"between preparation and the first stage": {
			stop: func(cancel func(), o *observer) Pools { o.onDiscovered = cancel; return nil },
			skip: []string{
				"synchronous interrupted", "throughput interrupted", "constant-1 interrupted", "constant-2 interrupted",
			},
		},
		"in the synchronous stage": {
			stop: inStage("synchronous"), ran: []string{"synchronous"},
			skip: []string{"throughput interrupted", "constant-1 interrupted", "constant-2 interrupted"},
		},
		"in the throughput stage": {
			stop: inStage("throughput"), ran: []string{"synchronous", "throughput"},
			skip: []string{"constant-1 interrupted", "constant-2 interrupted"},
		},
		"between two stages": {
			stop: func(cancel func(), o *observer) Pools {
				o.onProgress = func(p Progress) {
					if p.Stage == "constant-1" && p.Done {
						cancel()
					}
				}
				return nil
			}, ran: []string{"synchronous", "throughput", "constant-1"}, skip: []string{"constant-2 interrupted"},
		},
		"in the last stage": {
			stop: inStage("constant-2"), ran: []string{"synchronous", "throughput", "constant-1", "constant-2"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, url := simtest.Start(t, steady())
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			o, target := &observer{}, targetAt(url, sweepOf(2))
			pools := test.stop(cancel, o)
			if pools == nil {
				pools = wordPools{}
			}
			c := Run(ctx, target, pools, o, discardLog())
			checkBooks(t, c, target, o)
			var ran []string
			for _, s := range c.Stages {
				ran = append(ran, s.Name)
			}
			if !slices.Equal(ran, test.ran) || !slices.Equal(skips(c), test.skip) {
				t.Errorf("ran %v and skipped %q, want %v and %q", ran, skips(c), test.ran, test.skip)
			}
			want := probe.CycleFailure{Reason: probe.CycleInterrupted, Detail: "told to stop before the cycle was done"}
			if c.Failure == nil || *c.Failure != want {
				t.Errorf("failure %+v, want %+v", c.Failure, want)
			}
		})
	}
}

// inStage stops at the first result of a stage.
func inStage(stage string) func(func(), *observer) Pools {
	return func(cancel func(), o *observer) Pools {
		o.onRecord = func(s string) {
			if s == stage {
				cancel()
			}
		}
		return nil
	}
}

func TestStopAfterTheLastStageIsNoInterruption(t *testing.T) {
	_, url := simtest.Start(t, steady())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c := newCycle(targetAt(url, Plan{Profile: probe.ProfileSynchronous, MaxRequests: 3}), &observer{}, discardLog())
	defer c.close()
	if !c.prepare(ctx, wordPools{}) {
		t.Fatal(c.Failure)
	}
	c.runStages(ctx)
	cancel()
	if c.Failure != nil || len(c.Stages) != 1 {
		t.Errorf("failure %v after %d stages", c.Failure, len(c.Stages))
	}
}

// TestObstacles has something come in the way of each stage of a sweep.
func TestObstacles(t *testing.T) {
	// faultAfter gives every request a fault once a stage is over; "" is before the first.
	faultAfter := func(stage, fault string) func(*sim.Server, *observer) {
		return func(server *sim.Server, o *observer) {
			set := func() {
				if err := server.SetFaults([]sim.FaultRate{{Fault: fault, Probability: 1}}); err != nil {
					panic(err)
				}
			}
			if stage == "" {
				o.onDiscovered = set
				return
			}
			o.onProgress = func(p Progress) {
				if p.Stage == stage && p.Done {
					set()
				}
			}
		}
	}
	errors10 := Guards{MaxErrorRate: 0.1}
	rest := func(reason string, stages ...string) []string {
		var out []string
		for _, s := range stages {
			out = append(out, s+" "+reason)
		}
		return out
	}
	for name, test := range map[string]struct {
		arrange func(*sim.Server, *observer)
		guards  Guards
		stages  int
		skip    []string
		detail  string // of the first skip
		failure probe.Reason
		guarded string // the stage that a guard ended
	}{
		"errors in the synchronous stage": {
			arrange: faultAfter("", "status=500"), guards: errors10, stages: 1,
			skip:   rest("error_rate", "throughput", "constant-1", "constant-2"),
			detail: "synchronous: 3 of 3 requests failed, more than 10 %", failure: probe.ReasonHTTP5xx, guarded: "synchronous",
		},
		"slow first tokens in the synchronous stage": {
			guards: Guards{TimeToFirstToken: milli}, stages: 1,
			skip:   rest("time_to_first_token", "throughput", "constant-1", "constant-2"),
			detail: "synchronous: 3 of 3 first tokens took longer than 1ms", guarded: "synchronous",
		},
		"nothing completes in the synchronous stage": {
			arrange: faultAfter("", "hang"), guards: errors10, stages: 1,
			skip:   rest("failed", "throughput", "constant-1", "constant-2"),
			detail: "not one of the synchronous requests completed within",
		},
		"errors in the throughput stage, which has no rate": {
			arrange: faultAfter("synchronous", "status=429"), guards: errors10, stages: 2,
			skip:   rest("error_rate", "constant-1", "constant-2"),
			detail: "throughput: ", guarded: "throughput",
		},
		"nothing completes in the throughput stage": {
			arrange: faultAfter("synchronous", "hang"), stages: 2,
			skip: rest("no_rate", "constant-1", "constant-2"), detail: "throughput of 0.00 req/sec is not above the synchronous",
		},
		"errors at the first rate": {
			arrange: faultAfter("throughput", "fin"), guards: errors10, stages: 3,
			skip: rest("error_rate", "constant-2"), detail: "constant-1: ", guarded: "constant-1",
		},
		"errors at the last rate": {
			arrange: faultAfter("constant-1", "fin"), guards: errors10, stages: 4, guarded: "constant-2",
		},
		"errors that no guard minds": {arrange: faultAfter("throughput", "fin"), stages: 4},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, url := simtest.Start(t, steady())
			o, target := &observer{}, targetAt(url, sweepOf(2))
			target.Guards, target.Plan.MaxDuration = test.guards, 500*milli
			if test.arrange != nil {
				test.arrange(server, o)
			}
			c := run(t.Context(), t, target, o)
			if len(c.Stages) != test.stages || !slices.Equal(skips(c), test.skip) {
				t.Errorf("%d stages and skipped %q, want %d and %q", len(c.Stages), skips(c), test.stages, test.skip)
			}
			if len(c.Skipped) > 0 && !strings.HasPrefix(c.Skipped[0].Detail, test.detail) {
				t.Errorf("skipped since %q, want %q", c.Skipped[0].Detail, test.detail)
			}
			if got := cmp.Or(c.Failure, &probe.CycleFailure{}); got.Reason != string(test.failure) {
				t.Errorf("failure %+v, want %q", got, test.failure)
			}
			for i := range c.Stages {
				s := &c.Stages[i]
				if got := has(s, probe.FindingEndedByGuard); got != (s.Name == test.guarded) {
					t.Errorf("%s: ended by a guard: %v", s.Name, got)
				}
			}
		})
	}
}

func has(s *probe.Stage, name probe.FindingName) bool {
	return slices.ContainsFunc(s.Findings, func(f probe.Finding) bool { return f.Name == name })
}

// TestCyclesThatCannotBegin is about everything before the first stage.
func TestCyclesThatCannotBegin(t *testing.T) {
	noTokenizer := poolsFunc(func(context.Context, string) (*prompt.Pool, error) {
		return nil, errors.New("no such tokenizer")
	})
	for name, test := range map[string]struct {
		change     func(*Target)
		server     sim.Options
		pools      Pools
		reason     string
		detail     string
		discovered bool
	}{
		"nobody listens": {
			change: func(target *Target) { target.Client.BaseURL = closedAddress(t) },
			reason: "connect", detail: "refused",
		},
		"a URL that is none": {
			change: func(target *Target) { target.Client.BaseURL = "localhost:8000" },
			reason: probe.CycleDiscovery, detail: "must begin with http",
		},
		"a key is missing": {server: sim.Options{APIKey: "secret"}, reason: "unauthorized"},
		"the model is not served": {
			change: func(target *Target) { target.Model = "other" },
			reason: probe.CycleDiscovery, detail: `"other" is not served`,
		},
		"no tokenizer": {pools: noTokenizer, reason: probe.CycleTokenizer, detail: "no such tokenizer", discovered: true},
		"too long for the context": {
			server: sim.Options{MaxModelLen: 39}, reason: probe.CycleContext, discovered: true,
			detail: "32 prompt tokens, 0 of the chat template and 8 output tokens do not fit the 39 tokens that sim allows",
		},
		"too long with the chat template": {
			server: sim.Options{MaxModelLen: 47}, reason: probe.CycleContext, discovered: true,
			detail: "32 prompt tokens, 8 of the chat template and 8 output tokens do not fit the 47 tokens",
		},
		"the first request fails": {
			server: sim.Options{Faults: []sim.FaultRate{{Fault: "status=404", Probability: 1}}},
			reason: "not_found", detail: "a first short request failed", discovered: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			server, url := simtest.Start(t, test.server)
			o, target := &observer{}, targetAt(url, sweepOf(2))
			if test.change != nil {
				test.change(target)
			}
			pools := test.pools
			if pools == nil {
				pools = wordPools{}
			}
			c := Run(t.Context(), target, pools, o, discardLog())
			if f := c.Failure; f == nil || f.Reason != test.reason || !strings.Contains(f.Detail, test.detail) {
				t.Errorf("failure %+v, want %s (%s)", f, test.reason, test.detail)
			}
			if len(c.Stages)+len(c.Skipped)+len(o.progress) > 0 || o.recorded(probe.StageNone) != len(o.all) {
				t.Errorf("something ran: %+v", c)
			}
			if got := len(o.discovered); got != map[bool]int{true: 1}[test.discovered] {
				t.Errorf("discovered %v", o.discovered)
			}
			if test.discovered && c.Endpoint.Model != sim.DefaultModel {
				t.Errorf("model %q", c.Endpoint.Model)
			}
			if !test.discovered && (c.Endpoint.Model != target.Model || c.Workload.Tokenizer != target.Model) {
				t.Errorf("model %q and tokenizer %q, configured was %q", c.Endpoint.Model, c.Workload.Tokenizer, target.Model)
			}
			if n := len(simtest.Truth(t, server)); n > 2 {
				t.Errorf("%d requests were sent", n)
			}
		})
	}
}

// closedAddress returns the URL of a port where nobody listens.
func closedAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return fmt.Sprintf("http://%s/v1", l.Addr())
}

func TestContextLength(t *testing.T) {
	for name, test := range map[string]struct {
		prompts, outputs probe.Length
		overhead         spread
		limit            int
		fits             bool
	}{
		"the server does not say": {probe.Length{Mean: 1 << 20}, probe.Length{Mean: 1 << 20}, spread{}, 0, true},
		"just":                    {probe.Length{Mean: 60}, probe.Length{Mean: 30}, spread{2, 10, 11}, 100, true},
		"not":                     {probe.Length{Mean: 60}, probe.Length{Mean: 30}, spread{2, 11, 11}, 100, false},
		"the longest counts":      {probe.Length{Mean: 60, Min: 10, Max: 71}, probe.Length{Mean: 30}, spread{}, 100, false},
		// √9 × 5 = 15
		"five deviations":        {probe.Length{Mean: 55, Variance: 9}, probe.Length{Mean: 30}, spread{}, 100, true},
		"six are not waited for": {probe.Length{Mean: 56, Variance: 9}, probe.Length{Mean: 30}, spread{}, 100, false},
		"cut to a maximum": {
			probe.Length{Mean: 60, Variance: 100, Max: 70}, probe.Length{Mean: 30}, spread{}, 100, true,
		},
		"a negative difference": {probe.Length{Mean: 70}, probe.Length{Mean: 30}, spread{2, -5, 0}, 100, true},
	} {
		r := &ready{
			server:   openai.Server{Model: openai.Model{ID: "m", MaxLength: test.limit}},
			workload: probe.Workload{PromptTokens: test.prompts, OutputTokens: test.outputs}, overhead: test.overhead,
		}
		if fail := r.fits(); (fail == nil) != test.fits {
			t.Errorf("%s: %+v", name, fail)
		}
	}
}

// TestPromptsAreVerified: the words of a pool may turn out not to be one token each after all.
func TestPromptsAreVerified(t *testing.T) {
	broken := prompttest.NewWords()
	pool := prompttest.Pool(t, broken)
	_, url := simtest.Start(t, steady())
	o := &observer{onDiscovered: broken.Forget} // from now on every word is spelled out
	c := Run(t.Context(), targetAt(url, Plan{Profile: probe.ProfileSynchronous, MaxRequests: 3}),
		poolsFunc(func(context.Context, string) (*prompt.Pool, error) { return pool, nil }), o, discardLog())
	if len(c.Stages) != 1 || !has(&c.Stages[0], probe.FindingTokenMismatch) {
		t.Errorf("stages %+v, failure %v", c.Stages, c.Failure)
	}
}

func TestCycleIDs(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6_700_000, time.FixedZone("", 3600))
	if got, want := CycleID("llama", at), "llama-20260102T020405.006Z"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
