package regress

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/inferprobe/inferprobe/internal/probe"
)

// sweepOf is cycle number n of a sweep whose median latencies are the factor latency of 100 ms, 10 ms and 1 s, and
// whose capacity is rate.
func sweepOf(n int, latency, rate float64) *probe.Cycle {
	requests := make([]probe.RequestSample, 60)
	for i := range requests {
		f := latency * (1 + 0.002*(float64(i)-29.5)) // ± 6 %
		requests[i] = probe.RequestSample{TimeToFirstToken: 0.1 * f, TimePerOutputToken: 0.01 * f, Duration: f}
	}
	return &probe.Cycle{
		ID: fmt.Sprintf("c%d", n), Endpoint: probe.Endpoint{Name: "llama", Model: "llama-3"}, Server: "vllm 0.32.0",
		Profile: probe.ProfileSweep, Started: began.AddDate(0, 0, n),
		Stages: []probe.Stage{
			synchronous(requests),
			{Name: probe.StageThroughput, Profile: probe.ProfileThroughput, RequestsPerSecond: rate},
		},
	}
}

// wobble is what differs from cycle to cycle: 2 % at most.
func wobble(n int) float64 { return 1 + 0.01*float64(n*7%5-2) }

// run judges one cycle after another, of the latencies given as factors; capacity falls as latency rises.
func run(factors ...float64) []*probe.Cycle {
	var cycles []*probe.Cycle
	for n, f := range factors {
		c := sweepOf(n, f*wobble(n), 20/(f*wobble(n)))
		c.Regression = Judge(c, cycles, Options{})
		cycles = append(cycles, c)
	}
	return cycles
}

// times is n times the same factor.
func times(n int, factor float64) []float64 { return slices.Repeat([]float64{factor}, n) }

func TestVerdicts(t *testing.T) {
	quiet := times(12, 1)
	for name, test := range map[string]struct {
		factors []float64
		want    string // the newest cycles: . nothing, w worse alone, D detected
	}{
		"nothing changes":                    {quiet, "............"},
		"slower once":                        {slices.Concat(quiet, []float64{1.3, 1, 1}), ".w.."},
		"slower":                             {slices.Concat(quiet, times(4, 1.15)), ".wDDD"},
		"slower by less than matters":        {slices.Concat(quiet, times(4, 1.03)), "....."},
		"slower, and as before again":        {slices.Concat(quiet, times(3, 1.15), times(3, 1)), "wDD..."},
		"slower twice, not in a row":         {slices.Concat(quiet, []float64{1.15, 1, 1.15, 1}), "w.w."},
		"slower for so long that it is new":  {slices.Concat(quiet, times(13, 1.15)), "wDDDDDDDDD..."},
		"slower yet after that":              {slices.Concat(quiet, times(13, 1.15), times(2, 1.4)), "...wD"},
		"faster, and as before again":        {slices.Concat(quiet, times(6, 0.7), times(2, 1)), "......wD"},
		"a new baseline after faster cycles": {slices.Concat(quiet, times(3, 0.7), times(2, 1)), "...wD"},
	} {
		var got strings.Builder
		cycles := run(test.factors...)
		for _, c := range cycles[len(cycles)-len(test.want):] {
			switch {
			case c.Regression.Detected():
				got.WriteByte('D')
			case slices.ContainsFunc(c.Regression.Changes, func(c probe.Change) bool { return c.Worse }):
				got.WriteByte('w')
			default:
				got.WriteByte('.')
			}
		}
		if got.String() != test.want {
			t.Errorf("%s: %s, want %s", name, got.String(), test.want)
		}
	}
}

func TestChange(t *testing.T) {
	cycles := run(slices.Concat(times(20, 1), times(2, 1.2))...)
	last := cycles[len(cycles)-1].Regression
	for i, signal := range probe.Signals() {
		want := probe.Change{Signal: signal, Ratio: 1.2, Samples: 60, BaselineSamples: 15 * 60, Worse: true, Detected: true}
		if signal == probe.SignalCapacity {
			want.Ratio, want.Samples, want.BaselineSamples = 1/1.2, 1, 15
		}
		got := last.Changes[i]
		if got.PValue <= 0 || got.PValue > 0.001 {
			t.Errorf("%s: p is %v", got.Signal, got.PValue)
		}
		got.PValue = 0
		if diff := cmp.Diff(want, got, cmpopts.EquateApprox(0.03, 0)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	b := last.Baseline
	if len(b.Cycles) != 15 || b.Cycles[0] != "c4" || b.Cycles[14] != "c18" ||
		!b.From.Equal(cycles[4].Started) || !b.To.Equal(cycles[18].Started) {
		t.Errorf("the baseline is %v", b)
	}
}

func TestNotes(t *testing.T) {
	invalid := func(stage int) func(*probe.Cycle) {
		return func(c *probe.Cycle) {
			c.Stages[stage].Findings = []probe.Finding{{Name: probe.FindingCPUThrottled, Invalidates: true}}
		}
	}
	for name, test := range map[string]struct {
		earlier int
		change  func(*probe.Cycle)
		want    string
		changes int
	}{
		"all is well":     {4, func(*probe.Cycle) {}, "", 4},
		"the first cycle": {0, func(*probe.Cycle) {}, "no verdict: the baseline still lacks 4 comparable cycles", 0},
		"too few cycles":  {3, func(*probe.Cycle) {}, "no verdict: the baseline still lacks 1 comparable cycles", 0},
		"the cycle failed": {4, func(c *probe.Cycle) { c.Failure = new(probe.CycleFailure) },
			"no verdict: the cycle failed", 0},
		"another model": {4, func(c *probe.Cycle) { c.Endpoint.Model = "m" },
			"no verdict: the baseline still lacks 4 comparable cycles", 0},
		"too few cycles, and one stage is not valid": {2, invalid(1), "no verdict on time_to_first_token, " +
			"time_per_output_token, request_duration: the baseline still lacks 2 comparable cycles; no verdict on capacity: " +
			"the throughput stage is not valid", 0},
		"another version": {4, func(c *probe.Cycle) { c.Server = "vllm 0.33.0" }, "", 4},
		"nothing to compare": {4, func(c *probe.Cycle) { c.Profile = probe.ProfileConstant },
			"no verdict: a constant cycle has no stage that is compared", 0},
		"throughput is not valid": {4, invalid(1), "no verdict on capacity: the throughput stage is not valid", 3},
		"one at a time is not valid": {4, invalid(0), "no verdict on time_to_first_token, time_per_output_token, " +
			"request_duration: the synchronous stage is not valid", 1},
		"a guard skipped the rest": {4, func(c *probe.Cycle) { c.Stages = c.Stages[:1] },
			"no verdict on capacity: the throughput stage was not run", 3},
		"answers of one token": {4, func(c *probe.Cycle) {
			for i := range c.Stages[0].Requests {
				c.Stages[0].Requests[i].TimePerOutputToken = 0
			}
			c.Stages[0].TimePerOutputToken = probe.Distribution{}
		}, "no verdict on time_per_output_token: the synchronous stage has too few values", 3},
	} {
		earlier := run(times(test.earlier, 1)...)
		c := sweepOf(100, 1, 20)
		test.change(c)
		got := Judge(c, earlier, Options{})
		if got.Note != test.want || len(got.Changes) != test.changes {
			t.Errorf("%s: %q on %d signals, want %q on %d", name, got.Note, len(got.Changes), test.want, test.changes)
		}
		if starting := strings.Contains(test.want, "lacks"); Starting(got) != starting {
			t.Errorf("%s: starting %v, want %v", name, !starting, starting)
		}
	}
	cycles := run(slices.Concat(times(12, 1), times(11, 1.2))...)
	if note := cycles[22].Regression.Note; !strings.Contains(note, "capacity: what has changed has lasted for 10 cycles") {
		t.Errorf("a new baseline is not told: %q", note)
	}
}

// TestBadCyclesStayOut: failed, invalid and different cycles between good ones change no verdict, however fast they
// are.
func TestBadCyclesStayOut(t *testing.T) {
	good := run(times(8, 1)...)
	mixed := slices.Clone(good)
	for n, spoil := range []func(*probe.Cycle){
		func(c *probe.Cycle) { c.Failure = &probe.CycleFailure{Reason: probe.CycleInterrupted} },
		func(c *probe.Cycle) { c.Workload.PromptTokens.Mean = 9 },
		func(c *probe.Cycle) { c.Stages[0].Requests, c.Stages[1].RequestsPerSecond = nil, 0 },
		func(c *probe.Cycle) {
			for i := range c.Stages {
				c.Stages[i].Findings = []probe.Finding{{Name: probe.FindingReceiveLag, Invalidates: true}}
			}
		},
	} {
		bad := sweepOf(50+n, 0.1, 900)
		spoil(bad)
		mixed = slices.Insert(mixed, 2*n+1, bad)
	}
	c := sweepOf(100, 1.02, 20)
	if diff := cmp.Diff(Judge(c, good, Options{}), Judge(c, mixed, Options{})); diff != "" {
		t.Errorf("(-without +with bad cycles):\n%s", diff)
	}
}

func TestOptions(t *testing.T) {
	cycles := run(times(30, 1)...)
	c := sweepOf(100, 1.08, 20)
	if r := Judge(c, cycles, Options{Baseline: 5}); len(r.Baseline.Cycles) != 5 {
		t.Errorf("%d cycles are the baseline, want 5", len(r.Baseline.Cycles))
	}
	if r := Judge(c, cycles, Options{Effect: 0.2}); r.Changes[0].Worse {
		t.Error("8 % are worse where 20 % matter")
	}
	if r := Judge(c, cycles, Options{}); !r.Changes[0].Worse || r.Changes[3].Worse {
		t.Errorf("8 %% slower is not worse: %+v", r.Changes)
	}
	if r := Judge(c, cycles[:6], Options{Least: 8}); !strings.Contains(r.Note, "lacks 3 ") {
		t.Errorf("the note is %q", r.Note)
	}
}

// TestFewRequests: where only some requests completed, their median is off by chance, however much alike the baseline's
// cycles are.
func TestFewRequests(t *testing.T) {
	earlier := run(times(12, 1)...)
	spread := func(n int) *probe.Cycle {
		c := sweepOf(100, 1, 20)
		var requests []probe.RequestSample
		for i := range n { // half of them are as fast as ever, the others by a fifth slower: so is the median, by a tenth
			f := 0.98 + 0.22*float64(i%2)
			r := probe.RequestSample{TimeToFirstToken: 0.1 * f, TimePerOutputToken: 0.01 * f, Duration: f}
			requests = append(requests, r)
		}
		c.Stages[0] = synchronous(requests)
		return c
	}
	for n, want := range map[int]bool{6: false, 60: true} {
		for _, change := range Judge(spread(n), earlier, Options{}).Changes[:3] {
			if change.Worse != want {
				t.Errorf("%s of %d requests: worse %v, want %v (%+v)", change.Signal, n, change.Worse, want, change)
			}
		}
	}
}

// TestSlowerCompletesLess: a stage lasts as long as ever, so that a slower endpoint completes fewer requests: too few for
// a 90th percentile. It is found all the same, and not by what is too little for a median.
func TestSlowerCompletesLess(t *testing.T) {
	within := func(latency float64, n, completed int) *probe.Cycle {
		c := sweepOf(n, latency*wobble(n), 20)
		all := c.Stages[0].Requests
		requests := make([]probe.RequestSample, completed)
		for i := range requests {
			requests[i] = all[i*len(all)/completed]
		}
		c.Stages[0] = synchronous(requests)
		return c
	}
	for name, test := range map[string]struct {
		usual, slow int // requests that a stage completes
		spoilt      probe.FindingName
		want        bool
	}{
		"enough as long as it was fast": {usual: 40, slow: 30, want: true},
		"never enough":                  {usual: 12, slow: 8, want: true},
		"too few for a median":          {usual: 40, slow: 5},
		"our own trouble, too":          {usual: 40, slow: 30, spoilt: probe.FindingCPUThrottled},
	} {
		var cycles []*probe.Cycle
		for n := range 14 {
			c := within(1, n, test.usual)
			if n >= 12 {
				c = within(1.3, n, test.slow)
			}
			if s := &c.Stages[0]; n >= 12 && test.spoilt != "" {
				s.Findings = append(s.Findings, probe.Finding{Name: test.spoilt, Invalidates: true})
			}
			c.Regression = Judge(c, cycles, Options{})
			cycles = append(cycles, c)
		}
		if r := cycles[13].Regression; r.Detected() != test.want || cycles[11].Regression.Detected() {
			t.Errorf("%s: detected %v, want %v (%+v)", name, r.Detected(), test.want, r)
		}
	}
}

// TestScale: what unit time is measured in changes nothing.
func TestScale(t *testing.T) {
	near := cmp.Options{cmpopts.EquateApprox(1e-6, 1e-9)}
	rapid.Check(t, func(t *rapid.T) {
		unit := math.Pow(10, rapid.Float64Range(-3, 3).Draw(t, "unit"))
		seed := rapid.Uint64().Draw(t, "seed")
		judge := func(unit float64) []*probe.Regression {
			e := newEndpoint(seed, 0.02)
			var verdicts []*probe.Regression
			for range 8 {
				e.latency, e.rate = unit, 1/unit
				verdicts = append(verdicts, e.next().Regression)
			}
			return verdicts
		}
		if diff := cmp.Diff(judge(1), judge(unit), near); diff != "" {
			t.Fatalf("in units of %v (-want +got):\n%s", unit, diff)
		}
	})
}

// TestOrderOfRequests: in what order requests completed changes nothing.
func TestOrderOfRequests(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := newEndpoint(rapid.Uint64().Draw(t, "seed"), 0.02)
		for range 6 {
			e.next()
		}
		last := e.next()
		earlier := e.cycles[:6]
		want := Judge(last, earlier, Options{})
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "order"), 0))
		for _, c := range e.cycles {
			r := c.Stages[0].Requests
			random.Shuffle(len(r), func(i, k int) { r[i], r[k] = r[k], r[i] })
		}
		if diff := cmp.Diff(want, Judge(last, earlier, Options{})); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	})
}

// TestStrangeCycles: nothing that a cycle can hold panics or gives a number that is none.
func TestStrangeCycles(t *testing.T) {
	value := rapid.SampledFrom([]float64{0, -1, 1e-300, 1, 1e300, math.NaN(), math.Inf(1), math.Inf(-1)})
	rapid.Check(t, func(t *rapid.T) {
		var cycles []*probe.Cycle
		for n := range rapid.IntRange(1, 9).Draw(t, "cycles") {
			c := sweepOf(n, 1, value.Draw(t, "rate"))
			if rapid.Bool().Draw(t, "empty") {
				c.Stages = nil
			} else if rapid.Bool().Draw(t, "strange") {
				v := value.Draw(t, "latency")
				c.Stages[0].TimeToFirstToken.P50 = v
				for i := range c.Stages[0].Requests {
					c.Stages[0].Requests[i].TimeToFirstToken = v
				}
			}
			c.Regression = Judge(c, cycles, Options{})
			cycles = append(cycles, c)
			for _, change := range c.Regression.Changes {
				if !usable(change.Ratio) || !(change.PValue >= 0 && change.PValue <= 1) {
					t.Fatalf("%+v", change)
				}
			}
		}
	})
}

func TestFingerprint(t *testing.T) {
	base := func() *probe.Cycle {
		return &probe.Cycle{
			ID: "a", Endpoint: probe.Endpoint{Name: "e", Model: "m", URL: "http://a/v1"}, Server: "vllm 0.32.0",
			Workload: probe.Workload{API: "chat", Tokenizer: "t", PromptTokens: probe.Length{Mean: 512},
				OutputTokens: probe.Length{Mean: 128}},
			Profile: probe.ProfileSweep, MaxConcurrency: 512,
		}
	}
	want := Fingerprint(base())
	if want != "68e5974a73d708d5" {
		t.Errorf("the fingerprint of the same cycle is %s: histories of older versions no longer compare", want)
	}
	for name, test := range map[string]struct {
		change func(*probe.Cycle)
		same   bool
	}{
		"endpoint":       {func(c *probe.Cycle) { c.Endpoint.Name = "x" }, false},
		"model":          {func(c *probe.Cycle) { c.Endpoint.Model = "x" }, false},
		"API":            {func(c *probe.Cycle) { c.Workload.API = "completions" }, false},
		"tokenizer":      {func(c *probe.Cycle) { c.Workload.Tokenizer = "x" }, false},
		"prompt length":  {func(c *probe.Cycle) { c.Workload.PromptTokens.Mean++ }, false},
		"shared prefix":  {func(c *probe.Cycle) { c.Workload.SharedPrefixTokens++ }, false},
		"extra body":     {func(c *probe.Cycle) { c.Workload.ExtraBody = `{"top_k":1}` }, false},
		"prompt spread":  {func(c *probe.Cycle) { c.Workload.PromptTokens.Variance++ }, false},
		"output length":  {func(c *probe.Cycle) { c.Workload.OutputTokens.Max++ }, false},
		"concurrency":    {func(c *probe.Cycle) { c.MaxConcurrency = 4 }, false},
		"profile":        {func(c *probe.Cycle) { c.Profile = probe.ProfileSynchronous }, false},
		"kind of server": {func(c *probe.Cycle) { c.Server = "sglang 0.32.0" }, false},
		"server version": {func(c *probe.Cycle) { c.Server = "vllm 0.33.0" }, true},
		"no version":     {func(c *probe.Cycle) { c.Server = "vllm" }, true},
		"URL":            {func(c *probe.Cycle) { c.Endpoint.URL = "http://b/v1" }, true},
		"time":           {func(c *probe.Cycle) { c.ID, c.Started = "b", began }, true},
		"objectives":     {func(c *probe.Cycle) { c.Objectives.ErrorRate = 0.1 }, true},
		"limits":         {func(c *probe.Cycle) { c.MaxDuration, c.MaxRequests = 1, 1 }, true},
	} {
		c := base()
		test.change(c)
		if got := Fingerprint(c) == want; got != test.same {
			t.Errorf("%s: the same fingerprint: %v, want %v", name, got, test.same)
		}
	}
	versions := base()
	versions.Server = "1.2.3"
	other := base()
	other.Server = "1.2.4"
	if Fingerprint(versions) != Fingerprint(other) {
		t.Error("versions of an unknown server do not compare")
	}
}
