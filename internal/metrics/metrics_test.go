package metrics_test

import (
	"bytes"
	"flag"
	"fmt"
	"math"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"go.uber.org/goleak"

	"github.com/inferprobe/inferprobe/internal/metrics"
	"github.com/inferprobe/inferprobe/internal/probe"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	start = time.Date(2026, 8, 22, 12, 0, 0, 0, time.UTC)
	llama = probe.Endpoint{Name: "llama", Model: "llama-3", URL: "http://host/v1"}
)

// sweepStages are those of a whole sweep.
func sweepStages() []string {
	return []string{"synchronous", "throughput", "constant-1", "constant-2", "constant-3", "constant-4", "constant-5",
		"constant-6", "constant-7", "constant-8", "constant-9"}
}

func newMetrics(mode metrics.Mode) (*prometheus.Registry, *metrics.Metrics) {
	reg := prometheus.NewPedanticRegistry()
	return reg, metrics.New(reg, mode)
}

// gather returns our families by name, without the one that says how the test was built.
func gather(t *testing.T, reg prometheus.Gatherer) map[string]*dto.MetricFamily {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	ours := make(map[string]*dto.MetricFamily)
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), "inferprobe_") && f.GetName() != "inferprobe_build_info" {
			ours[f.GetName()] = f
		}
	}
	return ours
}

func label(m *dto.Metric, name string) string {
	for _, l := range m.GetLabel() {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}

// find returns the one series of a family that has all these labels, given as name, value, name, value.
func find(t *testing.T, reg prometheus.Gatherer, family string, labels ...string) *dto.Metric {
	t.Helper()
	var found []*dto.Metric
	for _, m := range gather(t, reg)["inferprobe_"+family].GetMetric() {
		matches := true
		for i := 0; i < len(labels); i += 2 {
			matches = matches && label(m, labels[i]) == labels[i+1]
		}
		if matches {
			found = append(found, m)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%s%v: %d series, want 1", family, labels, len(found))
	}
	return found[0]
}

// answer is a completed request of three arrivals: 100 ms, 110 ms with two tokens, 150 ms. Its connection took 3 ms to
// open, and it left 2 ms late for no such reason.
func answer() *probe.Result {
	sent := start.Add(5 * time.Millisecond)
	return &probe.Result{
		Request: &probe.Request{Due: start, PromptTokens: 10}, Sent: sent, NewConn: true,
		Phases: probe.Phases{DNS: time.Millisecond, Connect: 2 * time.Millisecond}, Outcome: probe.Completed,
		FirstToken: 100 * time.Millisecond, FirstAnswer: 110 * time.Millisecond, LastToken: 150 * time.Millisecond,
		End: 151 * time.Millisecond,
		Arrivals: []probe.Arrival{
			{At: 100 * time.Millisecond, Lag: 20 * time.Microsecond, Events: 1},
			{At: 110 * time.Millisecond, Lag: 30 * time.Microsecond, Events: 2},
			{At: 150 * time.Millisecond, Events: 1},
		},
		PromptTokens: 12, CachedTokens: 3, OutputTokens: 4, TokenSource: probe.TokensFromServer,
	}
}

func cycle() *probe.Cycle {
	d := probe.Distribution{Count: 40, Mean: 0.2, P50: 0.15, P90: 0.3, P95: 0.35, P99: 0.4}
	return &probe.Cycle{
		Endpoint: llama, Server: "vllm 0.32.0", Started: start, Ended: start.Add(time.Minute),
		Stages: []probe.Stage{{
			Name: "constant-1", Started: start, TargetRate: 2, RequestsPerSecond: 1.9, OutputTokensPerSecond: 240,
			Completed: 40, TimeToFirstToken: d, InterTokenLatency: d, RequestDuration: d,
			Failed: 5, Failures: map[probe.Reason]int{probe.ReasonHTTP5xx: 2, probe.ReasonClientOverload: 3},
		}},
		Objectives: probe.Objectives{TimeToFirstTokenP90: 500 * time.Millisecond, ErrorRate: 0.01},
		Capacity: probe.Capacity{RequestsPerSecond: 8, RequestsInterval: probe.Interval{Low: 7.5, High: 8.5},
			OutputTokensPerSecond: 1000, ObjectiveRequestsPerSecond: 1.9},
		Regression: &probe.Regression{
			Baseline: probe.Baseline{Cycles: []string{"a", "b", "c"}},
			Changes: []probe.Change{{Signal: probe.SignalTimeToFirstToken, Ratio: 1.2, PValue: 0.001, Worse: true,
				Detected: true}, {Signal: probe.SignalCapacity, Ratio: 0.99, PValue: 0.5}},
		},
	}
}

// fill brings every family to life.
func fill(m *metrics.Metrics, stages ...string) *metrics.Endpoint {
	e := m.Add(llama, []metrics.Label{{Name: "team", Value: "search"}}, stages)
	e.CycleStarted()
	e.InFlight(3)
	e.InFlight(-1)
	for range 2 {
		e.Record(stages[0], answer())
	}
	failed := answer()
	failed.Outcome, failed.Reason, failed.NewConn = probe.Failed, probe.ReasonTruncated, false
	e.Record(stages[0], failed)
	e.Record(stages[0], &probe.Result{Request: &probe.Request{PromptTokens: 10}, Outcome: probe.Failed,
		Reason: probe.ReasonConnect})
	incomplete := answer()
	incomplete.Outcome, incomplete.PromptTokens, incomplete.CachedTokens = probe.Incomplete, 0, 0
	incomplete.Retries = 1
	e.Record(stages[0], incomplete)
	e.CycleEnded(cycle())
	e.NextStart(start.Add(6 * time.Hour))
	e.CanaryInterval(time.Minute)
	e.Objectives(cycle().Objectives)
	e.Skipped(metrics.SkipOverrun)
	m.Reloaded(true, start)
	return e
}

func TestExposition(t *testing.T) {
	reg, m := newMetrics(metrics.Classic)
	fill(m, "constant-1")
	families := gather(t, reg)
	var text bytes.Buffer
	for _, name := range slices.Sorted(mapKeys(families)) {
		if _, err := expfmt.MetricFamilyToText(&text, families[name]); err != nil {
			t.Fatal(err)
		}
	}
	const golden = "testdata/exposition.txt"
	if *update {
		if err := os.WriteFile(golden, text.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), text.String()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func mapKeys[V any](m map[string]V) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

func TestLint(t *testing.T) {
	word := regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
	timely := regexp.MustCompile(`time|duration|latency|delay|lag|stall|_at$`)
	for _, mode := range []metrics.Mode{metrics.Both, metrics.Native, metrics.Classic} {
		t.Run(string(mode), func(t *testing.T) {
			reg, m := newMetrics(mode)
			fill(m, sweepStages()...)
			problems, err := testutil.GatherAndLint(reg)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range problems {
				t.Errorf("%s: %s", p.Metric, p.Text)
			}
			for name, f := range gather(t, reg) {
				if !word.MatchString(name) {
					t.Errorf("%s: not a plain name", name)
				}
				base := strings.TrimSuffix(name, "_total")
				if timely.MatchString(base) && !strings.HasSuffix(base, "_seconds") {
					t.Errorf("%s: a time that is not in seconds", name)
				}
				u := f.GetUnit()
				if !strings.HasSuffix(name, u) || strings.HasSuffix(base, "_seconds") && u != "seconds" {
					t.Errorf("%s: the unit is %q", name, u)
				}
				if f.GetHelp() == "" || !strings.HasSuffix(f.GetHelp(), ".") {
					t.Errorf("%s: the help is no sentence: %q", name, f.GetHelp())
				}
				for _, l := range f.GetMetric()[0].GetLabel() {
					if !word.MatchString(l.GetName()) {
						t.Errorf("%s: the label %q is not a plain name", name, l.GetName())
					}
				}
			}
		})
	}
}

// countSeries counts as Prometheus does when it scrapes all that a mode offers.
func countSeries(families map[string]*dto.MetricFamily) (n int) {
	for _, f := range families {
		for _, m := range f.GetMetric() {
			switch f.GetType() {
			case dto.MetricType_HISTOGRAM:
				if b := m.GetHistogram().GetBucket(); len(b) > 0 {
					n += len(b) + 3 // +Inf, sum, count
				}
				if m.GetHistogram().Schema != nil {
					n++
				}
			case dto.MetricType_SUMMARY:
				n += len(m.GetSummary().GetQuantile()) + 2
			default:
				n++
			}
		}
	}
	return n
}

// TestSeriesBudget: what the README and docs/monitoring.md say that an endpoint costs.
func TestSeriesBudget(t *testing.T) {
	stages := append(sweepStages(), probe.StageCanary)
	for mode, want := range map[metrics.Mode]int{metrics.Classic: 2780, metrics.Native: 830, metrics.Both: 2869} {
		reg, m := newMetrics(mode)
		before := countSeries(gather(t, reg))
		m.Add(llama, nil, stages)
		created := countSeries(gather(t, reg)) - before
		if created != want || metrics.Series(mode, len(stages)) != want {
			t.Errorf("%s: %d series, Series says %d, the README %d", mode, created, metrics.Series(mode, len(stages)), want)
		}
		fill(m, stages...)
		if got := countSeries(gather(t, reg)) - before; got != created {
			t.Errorf("%s: %d series at first, %d after some requests", mode, created, got)
		}
	}
}

// TestBoundsOfVLLM: the buckets of what vLLM measures too are its own, and finer ones in front.
func TestBoundsOfVLLM(t *testing.T) {
	gaps := []float64{.01, .025, .05, .075, .1, .15, .2, .3, .4, .5, .75, 1, 2.5, 5, 7.5, 10, 20, 40, 80}
	reg, m := newMetrics(metrics.Classic)
	fill(m, "constant-1")
	for name, theirs := range map[string][]float64{ // vLLM 0.32.0
		"time_to_first_token_seconds": {.001, .005, .01, .02, .04, .06, .08, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10, 20, 40, 80,
			160, 640, 2560},
		"inter_token_latency_seconds":   gaps,
		"time_per_output_token_seconds": gaps,
		"request_duration_seconds": {.3, .5, .8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920,
			7680},
	} {
		var ours []float64
		for _, b := range find(t, reg, name, "stage", "constant-1").GetHistogram().GetBucket() {
			ours = append(ours, b.GetUpperBound())
		}
		own := slices.Index(ours, theirs[0])
		if own < 0 || !slices.Equal(ours[own:], theirs) {
			t.Errorf("%s: the bounds %v do not end in vLLM's %v", name, ours, theirs)
		}
	}
}

func TestNativeBuckets(t *testing.T) {
	for mode, want := range map[metrics.Mode]struct{ native, classic bool }{
		metrics.Both: {true, true}, metrics.Native: {true, false}, metrics.Classic: {false, true},
	} {
		reg, m := newMetrics(mode)
		fill(m, "constant-1")
		h := find(t, reg, "time_to_first_token_seconds", "stage", "constant-1").GetHistogram()
		if got := len(h.GetPositiveSpan()) > 0; got != want.native {
			t.Errorf("%s: native buckets: %v", mode, got)
		}
		if got := len(h.GetBucket()) > 0; got != want.classic {
			t.Errorf("%s: classic buckets: %v", mode, got)
		}
		if want.native && h.GetSchema() != 3 {
			t.Errorf("%s: schema %d, want 3: 8 buckets a power of two", mode, h.GetSchema())
		}
	}
}

// TestUnknownIsNaN: before the first cycle nothing is claimed, and a stage that the last one did not run has no value.
func TestUnknownIsNaN(t *testing.T) {
	reg, m := newMetrics(metrics.Classic)
	e := m.Add(llama, nil, []string{"constant-1", "constant-2"})
	values := func(stage string) map[string]float64 {
		return map[string]float64{
			"probe_success":                find(t, reg, "probe_success").GetGauge().GetValue(),
			"cycle_duration_seconds":       find(t, reg, "cycle_duration_seconds").GetGauge().GetValue(),
			"capacity_requests_per_second": find(t, reg, "capacity_requests_per_second").GetGauge().GetValue(),
			"lower bound":                  find(t, reg, "capacity_lower_bound_requests_per_second").GetGauge().GetValue(),
			"upper bound":                  find(t, reg, "capacity_upper_bound_requests_per_second").GetGauge().GetValue(),
			"stage_valid":                  find(t, reg, "stage_valid", "stage", stage).GetGauge().GetValue(),
			"stage_samples":                find(t, reg, "stage_samples", "stage", stage).GetGauge().GetValue(),
			"stage_failures":               find(t, reg, "stage_failures", "stage", stage).GetGauge().GetValue(),
			"quantile": find(t, reg, "stage_time_to_first_token_seconds", "stage", stage).
				GetSummary().GetQuantile()[1].GetValue(),
		}
	}
	for name, v := range values("constant-1") {
		if !math.IsNaN(v) {
			t.Errorf("before the first cycle: %s is %v", name, v)
		}
	}
	for _, name := range []string{"last_success_timestamp_seconds", "cycle_last_completed_timestamp_seconds"} {
		if v := find(t, reg, name).GetGauge().GetValue(); v != 0 {
			t.Errorf("before the first cycle: %s is %v", name, v)
		}
	}
	e.CycleEnded(cycle())
	want := map[string]float64{"probe_success": 1, "cycle_duration_seconds": 60, "capacity_requests_per_second": 8,
		"lower bound": 7.5, "upper bound": 8.5, "stage_valid": 1, "stage_failures": 2, "stage_samples": 40, "quantile": 0.3}
	if diff := cmp.Diff(want, values("constant-1")); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if v := values("constant-2")["stage_valid"]; !math.IsNaN(v) {
		t.Errorf("a stage that was not run is valid: %v", v)
	}
	unsettled := cycle()
	unsettled.Capacity.RequestsInterval = probe.Interval{}
	e.CycleEnded(unsettled)
	if v := values("constant-1"); v["capacity_requests_per_second"] != 8 || !math.IsNaN(v["lower bound"]) ||
		!math.IsNaN(v["upper bound"]) {
		t.Errorf("a rate that has not settled has an interval: %v", v)
	}
}

// TestCreated: the quantiles of a stage count from its start, and those of one that has not run from no time.
func TestCreated(t *testing.T) {
	reg, m := newMetrics(metrics.Classic)
	m.Add(llama, nil, []string{"constant-1", "constant-2"}).CycleEnded(cycle())
	for _, family := range []string{
		"stage_time_to_first_token_seconds", "stage_inter_token_latency_seconds", "stage_time_per_output_token_seconds",
		"stage_request_duration_seconds",
	} {
		ran := find(t, reg, family, "stage", "constant-1").GetSummary().GetCreatedTimestamp()
		if !ran.AsTime().Equal(start) {
			t.Errorf("%s of a stage that began at %s counts from %s", family, start, ran.AsTime())
		}
		if not := find(t, reg, family, "stage", "constant-2").GetSummary().GetCreatedTimestamp(); not != nil {
			t.Errorf("%s of a stage that has not run counts from %s", family, not.AsTime())
		}
	}
}

// TestRegression: every signal has its series from the start, and detected is 0 before the first verdict. A cycle without
// a verdict does not end an alert; one that was asked for something else does.
func TestRegression(t *testing.T) {
	reg, m := newMetrics(metrics.Classic)
	e := m.Add(llama, nil, []string{"constant-1"})
	check := func(when string, baseline float64, want map[probe.Signal][3]float64) {
		t.Helper()
		if got := find(t, reg, "regression_baseline_cycles").GetGauge().GetValue(); got != baseline {
			t.Errorf("%s: %v cycles in the baseline, want %v", when, got, baseline)
		}
		for _, signal := range probe.Signals() {
			var got [3]float64
			for i, name := range []string{"regression_ratio", "regression_p_value", "regression_detected"} {
				got[i] = find(t, reg, name, "signal", string(signal)).GetGauge().GetValue()
			}
			expected, ok := want[signal]
			if !ok {
				expected = [3]float64{math.NaN(), math.NaN(), 0}
			}
			if diff := cmp.Diff(expected, got, cmpopts.EquateNaNs()); diff != "" {
				t.Errorf("%s: %s (-want +got):\n%s", when, signal, diff)
			}
		}
	}
	check("before the first cycle", 0, nil)
	e.CycleEnded(cycle())
	judged := map[probe.Signal][3]float64{
		probe.SignalTimeToFirstToken: {1.2, 0.001, 1}, probe.SignalCapacity: {0.99, 0.5, 0}}
	check("after a regression", 3, judged)
	ended := func(r *probe.Regression) {
		c := cycle()
		c.Regression = r
		e.CycleEnded(c)
	}
	ended(&probe.Regression{Note: "no verdict"})
	check("without a verdict", 0, judged)
	ended(&probe.Regression{Changes: []probe.Change{{Signal: probe.SignalCapacity, Ratio: 0.9, PValue: 0.01}}})
	judged[probe.SignalCapacity] = [3]float64{0.9, 0.01, 0}
	check("with a verdict on another signal", 0, judged)
	e = m.Add(llama, nil, []string{"constant-1", "constant-2"})
	check("after a reload", 0, judged)
	ended(&probe.Regression{Changes: []probe.Change{{Signal: probe.SignalTimeToFirstToken, Ratio: 1, PValue: 1}}})
	judged[probe.SignalTimeToFirstToken] = [3]float64{1, 1, 0}
	check("after its end", 0, judged)
	c := cycle()
	c.Fingerprint, c.Regression = "another", &probe.Regression{Note: "no verdict"}
	e.CycleEnded(c)
	check("of another measurement", 0, nil)
	ended(nil)
	check("not sought", 0, nil)
}

func TestCycleEnded(t *testing.T) {
	failure := func(reason string) *probe.CycleFailure { return &probe.CycleFailure{Reason: reason} }
	for _, tt := range []struct {
		name    string
		change  func(c *probe.Cycle)
		success float64 // NaN: nothing is said about the endpoint
		shown   bool
	}{
		{"good", func(*probe.Cycle) {}, 1, true},
		{"nothing completed", func(c *probe.Cycle) { c.Stages[0].Completed = 0 }, 0, true},
		{"refused", func(c *probe.Cycle) { c.Failure = failure("connect") }, 0, false},
		{"no model", func(c *probe.Cycle) { c.Failure = failure(probe.CycleDiscovery) }, 0, false},
		{"no tokenizer", func(c *probe.Cycle) { c.Failure = failure(probe.CycleTokenizer) }, math.NaN(), false},
		{"interrupted", func(c *probe.Cycle) { c.Failure = failure(probe.CycleInterrupted) }, math.NaN(), false},
		{"our own fault", func(c *probe.Cycle) { c.Failure = failure(probe.CycleInternal) }, math.NaN(), false},
		{"cancelled", func(c *probe.Cycle) { c.Failure = failure("cancelled") }, math.NaN(), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			reg, m := newMetrics(metrics.Classic)
			e := m.Add(llama, nil, []string{"constant-1"})
			c := cycle()
			tt.change(c)
			e.CycleStarted()
			e.CycleEnded(c)
			gauge := func(name string) float64 { return find(t, reg, name).GetGauge().GetValue() }
			if got := gauge("probe_success"); got != tt.success && !(math.IsNaN(got) && math.IsNaN(tt.success)) {
				t.Errorf("success %v, want %v", got, tt.success)
			}
			ended := float64(c.Ended.Unix())
			if got := gauge("last_probe_timestamp_seconds"); (got == ended) == math.IsNaN(tt.success) {
				t.Errorf("last probe at %v", got)
			}
			if got := gauge("last_success_timestamp_seconds"); (got == ended) != (tt.success == 1) {
				t.Errorf("last success at %v", got)
			}
			if gauge("cycle_last_end_timestamp_seconds") != ended || gauge("cycle_in_progress") != 0 {
				t.Error("the cycle has not ended")
			}
			if shown := !math.IsNaN(gauge("capacity_requests_per_second")); shown != tt.shown {
				t.Errorf("its values are shown: %v", shown)
			}
			if got := gauge("cycle_last_completed_timestamp_seconds"); (got == ended) != tt.shown {
				t.Errorf("the last whole cycle ended at %v", got)
			}
			if c.Failure != nil {
				n := find(t, reg, "cycle_failures_total", "reason", c.Failure.Reason).GetCounter().GetValue()
				if n != 1 {
					t.Errorf("%v failures", n)
				}
			}
		})
	}
}

func TestFailedCycleKeepsTheLastValues(t *testing.T) {
	reg, m := newMetrics(metrics.Classic)
	e := m.Add(llama, nil, []string{"constant-1"})
	e.CycleEnded(cycle())
	down := &probe.Cycle{Ended: start.Add(time.Hour), Failure: &probe.CycleFailure{Reason: "connect"}}
	e.CycleEnded(down)
	if v := find(t, reg, "capacity_requests_per_second").GetGauge().GetValue(); v != 8 {
		t.Errorf("the capacity is %v", v)
	}
	failed := find(t, reg, "cycle_last_end_timestamp_seconds").GetGauge().GetValue()
	whole := find(t, reg, "cycle_last_completed_timestamp_seconds").GetGauge().GetValue()
	if whole != float64(cycle().Ended.Unix()) || failed != float64(down.Ended.Unix()) {
		t.Errorf("the last cycle ended at %v, the last whole one at %v", failed, whole)
	}
	if find(t, reg, "endpoint_info", "server", "vllm 0.32.0").GetGauge().GetValue() != 1 {
		t.Error("the server is forgotten")
	}
}

// TestRestore: after a restart all values of the last whole cycle are there again, and nothing is counted.
func TestRestore(t *testing.T) {
	values := func(show func(*metrics.Endpoint, *probe.Cycle)) map[string]string {
		reg, m := newMetrics(metrics.Classic)
		show(m.Add(llama, nil, []string{"constant-1"}), cycle())
		list := make(map[string]string)
		for name, f := range gather(t, reg) {
			if f.GetType() == dto.MetricType_GAUGE || f.GetType() == dto.MetricType_SUMMARY {
				list[name] = fmt.Sprint(f.GetMetric())
			}
		}
		list["cycles"] = fmt.Sprint(find(t, reg, "cycles_total").GetCounter().GetValue())
		return list
	}
	ended, restored := values((*metrics.Endpoint).CycleEnded), values((*metrics.Endpoint).Restore)
	if ended["cycles"] != "1" || restored["cycles"] != "0" {
		t.Errorf("%s cycles are counted after one, %s after a restart", ended["cycles"], restored["cycles"])
	}
	delete(ended, "cycles")
	delete(restored, "cycles")
	if diff := cmp.Diff(ended, restored); diff != "" {
		t.Errorf("-before +after the restart:\n%s", diff)
	}
}

func TestRemovedEndpointsStayAway(t *testing.T) {
	reg, m := newMetrics(metrics.Both)
	other := m.Add(probe.Endpoint{Name: "other", Model: "m"}, nil, []string{"constant-1"})
	before := countSeries(gather(t, reg))
	e := fill(m, "constant-1")
	e.Record("unannounced", answer())
	e.Record("constant-1", &probe.Result{Outcome: probe.Failed, Reason: "made up before"})
	m.Remove("llama")
	m.Remove("llama")
	e.Record("constant-1", answer())
	e.Record("constant-2", answer())
	e.Record("constant-1", &probe.Result{Outcome: probe.Failed, Reason: "made up"})
	e.CycleStarted()
	e.CycleEnded(cycle())
	e.NextStart(start)
	e.Skipped("made up")
	e.InFlight(1)
	for name, f := range gather(t, reg) {
		for _, s := range f.GetMetric() {
			if label(s, "endpoint") == "llama" {
				t.Errorf("%s has a series of it", name)
			}
		}
	}
	other.Record("constant-1", answer())
	if after := countSeries(gather(t, reg)); after != before {
		t.Errorf("%d series before, %d after", before, after)
	}
}

func TestReplacedEndpoints(t *testing.T) {
	reg, m := newMetrics(metrics.Classic)
	requests := func(stage string) float64 {
		return find(t, reg, "requests_total", "stage", stage).GetCounter().GetValue()
	}
	unknown := m.Add(probe.Endpoint{Name: "llama"}, nil, []string{"constant-1"})
	unknown.NextStart(start)
	unknown.CycleStarted()

	// The model becomes known in the middle of a cycle.
	first := m.Add(llama, nil, []string{"constant-1", "constant-2"})
	unknown.Record("constant-1", answer())
	first.Record("constant-1", answer())
	if got := requests("constant-1"); got != 1 {
		t.Errorf("%v requests, want 1", got)
	}
	if find(t, reg, "cycle_in_progress").GetGauge().GetValue() != 1 ||
		find(t, reg, "cycle_next_start_timestamp_seconds").GetGauge().GetValue() == 0 {
		t.Error("the running cycle is forgotten")
	}
	first.CycleEnded(cycle())

	// The configuration changes and the model does not: counters go on, a stage that is gone is gone, with reasons that
	// should not be.
	first.Record("constant-2", &probe.Result{Outcome: probe.Failed, Reason: "made up"})
	first.Record("constant-1", &probe.Result{Outcome: probe.Failed, Reason: probe.ReasonDNS})
	second := m.Add(llama, nil, []string{"constant-1", "constant-3"})
	first.Record("constant-1", answer())
	second.Record("constant-1", &probe.Result{Outcome: probe.Failed, Reason: probe.ReasonDNS})
	if n := find(t, reg, "request_failures_total", "stage", "constant-1", "reason", "dns").GetCounter().GetValue(); n != 2 {
		t.Errorf("%v failures, want 2", n)
	}
	if got := requests("constant-1"); got != 3 {
		t.Errorf("%v requests, want 3", got)
	}
	for _, name := range []string{"inferprobe_requests_total", "inferprobe_request_failures_total"} {
		stages := map[string]bool{}
		for _, s := range gather(t, reg)[name].GetMetric() {
			stages[label(s, "stage")] = true
		}
		if len(stages) != 2 || stages["constant-2"] {
			t.Errorf("%s has stages %v", name, stages)
		}
	}
	if v := find(t, reg, "capacity_requests_per_second").GetGauge().GetValue(); v != 8 {
		t.Errorf("the capacity is %v", v)
	}
	if v := find(t, reg, "probe_success").GetGauge().GetValue(); v != 1 {
		t.Errorf("the success is %v", v)
	}
}

// TestStrangeResults: nothing that a result can hold panics or spoils a sum for ever.
func TestStrangeResults(t *testing.T) {
	reg, m := newMetrics(metrics.Both)
	e := m.Add(probe.Endpoint{Name: "bad \xff", Model: "\xff"}, nil, []string{"a"})
	backwards := answer()
	backwards.Sent = start.Add(-time.Second)
	backwards.Arrivals[1].At, backwards.Arrivals[2].At = -time.Second, -time.Minute
	backwards.FirstToken, backwards.FirstAnswer, backwards.End = -1, -1, -1
	backwards.PromptTokens, backwards.OutputTokens, backwards.CachedTokens = -5, -5, -5
	backwards.Request.PromptTokens = -1
	for _, r := range []*probe.Result{backwards, {}, {Outcome: probe.Completed},
		{Outcome: probe.Failed}, {Outcome: probe.Failed, Reason: "made up"}} {
		e.Record("a", r)
		e.Record("not announced", r)
	}
	e.CycleEnded(&probe.Cycle{})
	for name, f := range gather(t, reg) {
		for _, s := range f.GetMetric() {
			if sum := s.GetHistogram().GetSampleSum(); sum < 0 || math.IsNaN(sum) || math.IsInf(sum, 0) {
				t.Errorf("%s: the sum is %v", name, sum)
			}
		}
	}
	if n := find(t, reg, "request_failures_total", "stage", "a", "reason", "made up").GetCounter().GetValue(); n != 1 {
		t.Errorf("a failure of no known reason counts %v", n)
	}
}

func TestRecordDoesNotAllocate(t *testing.T) {
	_, m := newMetrics(metrics.Both)
	e := m.Add(llama, nil, []string{"constant-1"})
	r := answer()
	if n := testing.AllocsPerRun(100, func() { e.Record("constant-1", r) }); n != 0 {
		t.Errorf("%v allocations a request", n)
	}
}

func TestConcurrency(t *testing.T) {
	reg, m := newMetrics(metrics.Both)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 50 {
				e := fill(m, "constant-1", "constant-2")
				e.Record("constant-3", answer())
				if _, err := reg.Gather(); err != nil {
					t.Error(err)
				}
				m.Remove("llama")
			}
		})
	}
	wg.Wait()
	if f := gather(t, reg)["inferprobe_requests_total"]; f != nil {
		t.Errorf("%d series are left", len(f.GetMetric()))
	}
}

// longAnswer has 128 tokens, one an arrival.
func longAnswer() *probe.Result {
	r := answer()
	r.Arrivals = r.Arrivals[:0]
	for i := range 128 {
		r.Arrivals = append(r.Arrivals, probe.Arrival{
			At: time.Duration(100+20*i) * time.Millisecond, Lag: 20 * time.Microsecond, Events: 1})
	}
	r.OutputTokens = 128
	return r
}

func BenchmarkRecord(b *testing.B) {
	_, m := newMetrics(metrics.Both)
	e := m.Add(llama, nil, []string{"constant-1"})
	r := longAnswer()
	b.ReportAllocs()
	for b.Loop() {
		e.Record("constant-1", r)
	}
}

// BenchmarkReplace: what one more endpoint and one less cost beside a thousand others.
func BenchmarkReplace(b *testing.B) {
	_, m := newMetrics(metrics.Both)
	for i := range 1000 {
		m.Add(probe.Endpoint{Name: fmt.Sprintf("endpoint-%d", i), Model: "llama-3"}, nil, sweepStages())
	}
	for b.Loop() {
		m.Add(llama, nil, sweepStages())
		m.Remove(llama.Name)
	}
}

func BenchmarkScrape50Endpoints(b *testing.B) {
	for _, mode := range []metrics.Mode{metrics.Both, metrics.Native, metrics.Classic} {
		b.Run(string(mode), func(b *testing.B) {
			reg := prometheus.NewRegistry()
			m := metrics.New(reg, mode)
			r := longAnswer()
			for i := range 50 {
				name := fmt.Sprintf("endpoint-%d", i)
				e := m.Add(probe.Endpoint{Name: name, Model: "llama-3"}, nil, sweepStages())
				for _, stage := range sweepStages() {
					e.Record(stage, r)
				}
			}
			b.ReportAllocs()
			for b.Loop() {
				families, err := reg.Gather()
				if err != nil {
					b.Fatal(err)
				}
				var buf bytes.Buffer
				enc := expfmt.NewEncoder(&buf, expfmt.NewFormat(expfmt.TypeProtoDelim))
				for _, f := range families {
					if err := enc.Encode(f); err != nil {
						b.Fatal(err)
					}
				}
				b.SetBytes(int64(buf.Len()))
			}
		})
	}
}
