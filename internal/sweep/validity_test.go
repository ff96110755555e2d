package sweep

import (
	"bytes"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/inferprobe/inferprobe/internal/metrics"
	"github.com/inferprobe/inferprobe/internal/openai"
	"github.com/inferprobe/inferprobe/internal/probe"
	"github.com/inferprobe/inferprobe/internal/report"
	"github.com/inferprobe/inferprobe/internal/sim"
	"github.com/inferprobe/inferprobe/internal/sim/simtest"
)

// fixedFault is a simulator that answers every request after the same times and with the same fault, "" for none.
func fixedFault(fault string) sim.Options {
	o := steady()
	if fault != "" {
		o.Faults = []sim.FaultRate{{Fault: fault, Probability: 1}}
	}
	return o
}

// TestProvokedFindings provokes every finding that the other side can bring about, and looks for it where operators do.
// Each stage is 40 requests at 100 a second.
func TestProvokedFindings(t *testing.T) {
	counting := func(count func(words []string) int) sim.Options {
		o := steady()
		o.CountTokens = func(text string) int { return count(strings.Fields(text)) }
		return o
	}
	hanging := steady()
	hanging.Faults = []sim.FaultRate{{Fault: "hang", Probability: 0.2}}
	inFours := steady()
	inFours.TokensPerEvent = 4
	inFoursWithoutUsage := fixedFault("usage_missing")
	inFoursWithoutUsage.TokensPerEvent = 4
	for name, test := range map[string]struct {
		server  sim.Options
		dialect openai.Dialect
		change  func(*Target)
		want    probe.FindingName // "" if nothing is to be found
		note    bool              // it does not invalidate
		not     probe.FindingName
	}{
		"the tokenizer of another model, two tokens a word": {
			server: counting(func(words []string) int { return 2 * len(words) }), want: probe.FindingTokenMismatch,
		},
		"the tokenizer of another model, some words in two": {
			server: counting(func(words []string) int {
				n := len(words)
				for _, w := range words {
					n += strings.Count(w, "a")
				}
				return n
			}), want: probe.FindingTokenMismatch,
		},
		"a long chat template": {
			server: counting(func(words []string) int { return len(words) + 1500 }), not: probe.FindingTokenMismatch,
		},
		"max_tokens is ignored": {
			server: fixedFault("ignore_max_tokens"), dialect: openai.DialectVLLM, want: probe.FindingOutputLength,
		},
		"answers are short": {server: fixedFault("short"), dialect: openai.DialectVLLM, want: probe.FindingOutputLength},
		"ignore_eos is ignored": {
			server: fixedFault("ignore_eos_ignored"), dialect: openai.DialectVLLM, want: probe.FindingOutputLength,
		},
		"answers are short where that cannot be helped": {
			server: fixedFault("short"), dialect: openai.DialectOllama, want: probe.FindingOutputLength, note: true,
		},
		"prompts come from a cache": {server: fixedFault("cached_tokens=32"), want: probe.FindingCachedPrompts},
		"a cache serves more than prompts share": {
			server: fixedFault("cached_tokens=40"), change: sharing(8, 64), want: probe.FindingCachedPrompts,
		},
		"a cache serves what prompts share": {
			server: fixedFault("cached_tokens=40"), change: sharing(32, 64), not: probe.FindingCachedPrompts,
		},
		"the template comes from a cache": {server: fixedFault("cached_tokens=8"), not: probe.FindingCachedPrompts},
		"no usage":                        {server: fixedFault("usage_missing"), note: true, want: "no_server_usage"},
		"several tokens an event":         {server: inFours, want: probe.FindingTokensPerEvent, note: true},
		"several tokens an event, no usage": {
			server: inFoursWithoutUsage, want: probe.FindingTokensPerEvent, note: true, not: probe.FindingTokenMismatch,
		},
		"several tokens an event, each counted": {
			server: inFours, dialect: openai.DialectVLLM, not: probe.FindingTokensPerEvent,
		},
		"more requests in flight than allowed": {
			server: fixedFault("slow_headers=300ms"), want: probe.FindingClientOverload,
			change: func(target *Target) { target.Plan.MaxInFlight = 4 },
		},
		"few requests": {
			server: steady(), want: probe.FindingTooFewSamples, change: func(target *Target) { target.Plan.MaxRequests = 35 },
		},
		"enough requests": {server: steady(), not: probe.FindingTooFewSamples},
		"a rate that has not settled": {
			server: steady(), want: probe.FindingNotSettled,
			change: func(target *Target) { target.Plan.Profile = probe.ProfileThroughput },
		},
		"requests that hang": {
			server: hanging, want: probe.FindingCensored, change: func(target *Target) {
				target.Plan.MaxRequests, target.Plan.MaxDuration = 0, 1500*milli
			},
		},
		"none that hangs": {
			server: steady(), not: probe.FindingCensored, change: func(target *Target) {
				target.Plan.MaxRequests, target.Plan.MaxDuration = 0, 1500*milli
			},
		},
		"errors that a guard minds": {
			server: fixedFault("error_event"), want: probe.FindingEndedByGuard, note: true,
			change: func(target *Target) { target.Guards.MaxErrorRate = 0.1 },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			faults := test.server.Faults
			test.server.Faults = nil
			server, url := simtest.Start(t, test.server)
			o := &observer{onDiscovered: func() {
				if err := server.SetFaults(faults); err != nil {
					t.Error(err)
				}
			}}
			target := targetAt(url, Plan{
				Profile: probe.ProfileConstant, RateList: []float64{100}, MaxRequests: 40, MaxDuration: 30 * time.Second,
			})
			target.Dialect = test.dialect
			if test.change != nil {
				test.change(target)
			}
			c := run(t.Context(), t, target, o)
			if len(c.Stages) != 1 {
				t.Fatalf("%d stages, failure %+v", len(c.Stages), c.Failure)
			}
			if s := &c.Stages[0]; test.not != "" && has(s, test.not) {
				t.Errorf("found %v", s.Findings)
			}
			if test.want != "" {
				checkVisible(t, c, test.want, !test.note)
			}
		})
	}
}

// sharing makes prompts of so many tokens share their first ones.
func sharing(shared, prompt int) func(*Target) {
	return func(target *Target) {
		target.Workload.PromptTokens.Mean, target.Workload.SharedPrefixTokens = prompt, shared
	}
}

// checkVisible checks that a finding on the only stage of a cycle can be seen wherever operators look.
func checkVisible(t *testing.T, c *probe.Cycle, name probe.FindingName, invalidates bool) {
	t.Helper()
	s := &c.Stages[0]
	var found *probe.Finding
	for i := range s.Findings {
		if s.Findings[i].Name == name {
			found = &s.Findings[i]
		}
	}
	if found == nil || found.Invalidates != invalidates || found.Detail == "" {
		t.Fatalf("%s, invalidating: %v, is not among %v", name, invalidates, s.Findings)
	}
	if s.Valid() && invalidates {
		t.Error("the stage is valid nevertheless")
	}
	var text, json bytes.Buffer
	const wide = 4000 // so that no line is wrapped
	if err := report.Text(&text, c, wide); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(text.String(), found.Detail) {
		t.Errorf("the report does not say %q:\n%s", found.Detail, text.String())
	}
	if err := report.WriteJSON(&json, c); err != nil {
		t.Fatal(err)
	}
	parsed, err := report.ParseJSON(json.Bytes())
	if err != nil || !has(&parsed[0].Stages[0], name) || parsed[0].Stages[0].Valid() != s.Valid() {
		t.Errorf("the JSON report does not say %s (%v)", name, err)
	}
	checkMetrics(t, c, name)
}

// checkMetrics checks that the metrics of a cycle that ran to its end say what the report does.
func checkMetrics(t *testing.T, c *probe.Cycle, name probe.FindingName) {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	ended := *c
	ended.Failure = nil
	metrics.New(registry, metrics.Classic).Add(c.Endpoint, nil, []string{c.Stages[0].Name}).CycleEnded(&ended)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	valid, found := math.NaN(), math.NaN()
	for _, f := range families {
		for _, m := range f.GetMetric() {
			switch f.GetName() {
			case "inferprobe_stage_valid":
				valid = m.GetGauge().GetValue()
			case "inferprobe_cycle_findings":
				if slices.ContainsFunc(m.GetLabel(), func(l *dto.LabelPair) bool { return l.GetValue() == string(name) }) {
					found = m.GetGauge().GetValue()
				}
			}
		}
	}
	if want := map[bool]float64{true: 1}[c.Stages[0].Valid()]; valid != want || found != 1 {
		t.Errorf("stage_valid is %v, want %v; cycle_findings of %s is %v, want 1", valid, want, name, found)
	}
}

// slowSource takes its time for each request.
type slowSource struct {
	*source
	each time.Duration
}

func (s slowSource) Next(req *probe.Request) {
	time.Sleep(s.each)
	s.source.Next(req)
}

// TestScheduleDelayIsFound has requests take longer to make than they are apart, so that they leave ever later.
func TestScheduleDelayIsFound(t *testing.T) {
	_, url := simtest.Start(t, steady())
	c := prepared(t, targetAt(url, Plan{
		Profile: probe.ProfileConstant, RateList: []float64{200}, MaxRequests: 40, MaxDuration: 30 * time.Second,
	}))
	c.engine.Source = slowSource{c.ready.source, 10 * milli} // the last one is 40 × (10 − 5) = 200 ms late
	c.runStages(t.Context())
	checkVisible(t, c.Cycle, probe.FindingScheduleDelay, true)
}

// prepared returns a cycle that is about to run its stages.
func prepared(t *testing.T, target *Target) *cycle {
	t.Helper()
	c := newCycle(target, &observer{}, discardLog())
	t.Cleanup(c.ready.close)
	if !c.prepare(t.Context(), wordPools{}) {
		t.Fatal(c.Failure)
	}
	return c
}

// TestReceiveLagIsFound leaves the readers one processor, which they share with busy neighbours: each of these has it
// for 10 ms at a time, in which ten tokens come. The simulator suffers, too, but the kernel's times are of what it
// does.
func TestReceiveLagIsFound(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells the kernel's receive times")
	}
	_, url := simtest.Start(t, sim.Options{
		Fixed: &sim.FixedTiming{TimeToFirstToken: 30 * milli, InterTokenLatency: milli},
	})
	target := targetAt(url, Plan{
		Profile: probe.ProfileConstant, RateList: []float64{50}, MaxRequests: 20, MaxDuration: 30 * time.Second,
	})
	target.Workload.OutputTokens.Mean = 32
	c := prepared(t, target)
	before := runtime.GOMAXPROCS(1)
	stop := keepBusy(3)
	c.runStages(t.Context())
	stop()
	runtime.GOMAXPROCS(before)
	checkVisible(t, c.Cycle, probe.FindingReceiveLag, true)
}

// keepBusy has so many goroutines ask for a processor without a pause, until stop is called.
func keepBusy(goroutines int) (stop func()) {
	done := make(chan struct{})
	var busy sync.WaitGroup
	for range goroutines {
		busy.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	return func() {
		close(done)
		busy.Wait()
	}
}

// TestFindingsAreDocumented: docs/validity.md has a row for each finding, and none besides.
func TestFindingsAreDocumented(t *testing.T) {
	document, err := os.ReadFile("../../docs/validity.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := make(map[probe.FindingName]bool)
	for line := range strings.Lines(string(document)) {
		if name, ok := strings.CutPrefix(line, "| `"); ok {
			name, _, _ = strings.Cut(name, "`")
			rows[probe.FindingName(name)] = true
		}
	}
	for _, name := range probe.FindingNames() {
		if !rows[name] {
			t.Errorf("docs/validity.md does not have %s", name)
		}
		delete(rows, name)
	}
	if len(rows) > 0 {
		t.Errorf("docs/validity.md has findings that do not exist: %v", rows)
	}
}
