package report

import (
	"bytes"
	"encoding/json"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/inferprobe/inferprobe/internal/probe"
)

func toJSON(t interface{ Fatal(...any) }, cycles ...*probe.Cycle) []byte {
	var b bytes.Buffer
	if err := WriteJSON(&b, cycles...); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestJSONGolden(t *testing.T) {
	golden(t, "troubled.json", toJSON(t, troubledCycle(t)))
	golden(t, "unreachable.json", toJSON(t, unreachableCycle(t)))
}

func TestJSONShape(t *testing.T) {
	for n, want := range []string{"[]\n", "{", "["} {
		cycles := []*probe.Cycle{seedCycle(t), seedCycle(t)}[:n]
		if got := string(toJSON(t, cycles...)); !strings.HasPrefix(got, want) {
			t.Errorf("%d cycles begin with %.10q, want %q", n, got, want)
		}
		parsed, err := ParseJSON(toJSON(t, cycles...))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(cycles, parsed); diff != "" {
			t.Errorf("%d cycles (-want +got):\n%s", n, diff)
		}
	}
}

// TestJSONKeys holds the output to the keys that are promised to users.
func TestJSONKeys(t *testing.T) {
	var cycle map[string]any
	if err := json.Unmarshal(toJSON(t, troubledCycle(t)), &cycle); err != nil {
		t.Fatal(err)
	}
	has := func(where string, object any, keys string) {
		t.Helper()
		for key := range strings.FieldsSeq(keys) {
			if _, ok := object.(map[string]any)[key]; !ok {
				t.Errorf("%s has no %s", where, key)
			}
		}
	}
	has("the cycle", cycle, `schema id endpoint model server url workload profile started_at ended_at stages capacity
		regression skipped failure objectives`)
	stage := cycle["stages"].([]any)[1].(map[string]any)
	has("a stage", stage, `name target_requests_per_second valid invalid_reasons started_at duration_seconds requests
		requests_per_second output_tokens_per_second uncertain_percentiles new_connections`)
	has("requests", stage["requests"], "completed failed incomplete failures")
	for key := range strings.FieldsSeq(`prompt_tokens output_tokens request_duration_seconds time_to_first_token_seconds
		time_to_first_answer_token_seconds inter_token_latency_seconds time_per_output_token_seconds
		stream_stall_seconds schedule_delay_seconds receive_lag_seconds dns_seconds connect_seconds tls_seconds`) {
		has("a stage", stage, key)
		has(key, stage[key], "count mean min p01 p05 p10 p25 p50 p75 p90 p95 p99 max")
		for name, v := range stage[key].(map[string]any) {
			if name != "count" && v != nil {
				t.Errorf("%s of nothing is %v, want null", name, v)
			}
		}
	}
}

func TestJSONRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawCycle(t)
		parsed, err := ParseJSON(toJSON(t, c))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]*probe.Cycle{c}, parsed); diff != "" {
			t.Fatalf("the cycle changed (-want +got):\n%s", diff)
		}
	})
}

// TestJSONCarriesEveryField fails when a field is added to a cycle that JSON does not know.
func TestJSONCarriesEveryField(t *testing.T) {
	c := new(probe.Cycle)
	fill(reflect.ValueOf(c).Elem())
	parsed, err := ParseJSON(toJSON(t, c))
	if err != nil {
		t.Fatal(err)
	}
	c.Stages[0].Requests = nil // the history keeps them, reports do not show single requests
	if diff := cmp.Diff([]*probe.Cycle{c}, parsed); diff != "" {
		t.Errorf("the cycle changed (-want +got):\n%s", diff)
	}
}

// fill sets everything in v to something other than zero.
func fill(v reflect.Value) {
	if v.Type() == reflect.TypeFor[time.Time]() {
		v.Set(reflect.ValueOf(time.Unix(1e9, 0).UTC()))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i))
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key)
		fill(value)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.Int, reflect.Int64:
		v.SetInt(7)
	case reflect.Float64:
		v.SetFloat(1.5)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.String:
		v.SetString("x")
	default:
		panic("fill knows no " + v.Kind().String())
	}
}

// TestJSONHasNoStrangeNumbers: what is no number must neither fail the report nor reach it.
func TestJSONHasNoStrangeNumbers(t *testing.T) {
	for _, v := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		c := &probe.Cycle{
			Objectives: probe.Objectives{ErrorRate: v},
			Capacity:   probe.Capacity{RequestsPerSecond: v, OutputTokensPerSecond: v, ObjectiveRequestsPerSecond: v},
			Stages: []probe.Stage{{Name: "constant-1", TargetRate: v, RequestsPerSecond: v, OutputTokensPerSecond: v,
				InFlight: v, ReceiveLag: probe.Distribution{Count: 1, Mean: v, Min: v, P01: v, P05: v, P10: v, P25: v,
					P50: v, P75: v, P90: v, P95: v, P99: v, Max: v}}},
		}
		data := toJSON(t, c)
		if _, err := ParseJSON(data); err != nil {
			t.Error(err)
		}
		var b bytes.Buffer
		err := WriteCSV(&b, c)
		if err != nil || strings.Contains(b.String(), "Inf") || strings.Contains(b.String(), "NaN") {
			t.Errorf("CSV: %v, %s", err, b.String())
		}
		checkLayout(t, "strange numbers", c, 130)
	}
}

func TestParseJSONErrors(t *testing.T) {
	valid := string(toJSON(t, seedCycle(t)))
	for _, test := range []struct{ data, want string }{
		{"", "report: want an inferprobe/report/v1 object: unexpected end of JSON input"},
		{"null", `report: cycle 1: schema is "", want "inferprobe/report/v1"`},
		{"[1]", "array of inferprobe/report/v1 objects"},
		{valid + "{}", "invalid character '{' after top-level value"},
		{"[" + valid + `,{"schema":"other/v9"}]`, `report: cycle 2: schema is "other/v9"`},
		{strings.Replace(valid, `"completed": 101`, `"completed": "many"`, 1), "completed"},
		{strings.Replace(valid, `"duration_seconds": 119,`, `"duration_seconds": 1e12,`, 1),
			`stage "synchronous": duration_seconds is 1e+12, more than a duration can hold`},
		{strings.Replace(valid, "2025-04-15T08:21:17Z", "9999-12-31T23:00:00-02:00", 1),
			"started_at is in the year 10000"},
		{strings.Replace(valid, "2025-04-15T08:21:17Z", "yesterday", 1), "yesterday"},
	} {
		if _, err := ParseJSON([]byte(test.data)); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("ParseJSON(%.40q…) = %v, want %q", test.data, err, test.want)
		}
	}
}

// FuzzParseJSON: whatever can be parsed can be written and shown.
func FuzzParseJSON(f *testing.F) {
	f.Add([]byte(`{"schema":"inferprobe/report/v1"}`))
	f.Add([]byte(`[{"schema":"inferprobe/report/v1","stages":[{"name":"x","requests":{"failures":{"dns":-1}}}]}]`))
	f.Add([]byte(`{"schema":"inferprobe/report/v1","started_at":"0000-01-01T00:00:00+01:00"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		cycles, err := ParseJSON(data)
		if err != nil {
			return
		}
		if _, err := ParseJSON(toJSON(t, cycles...)); err != nil {
			t.Errorf("what was written cannot be read: %v", err)
		}
		if err := WriteCSV(&bytes.Buffer{}, cycles...); err != nil {
			t.Error(err)
		}
		for _, c := range cycles {
			checkLayout(t, "parsed", c, 100)
		}
	})
}

// drawCycle draws a cycle that JSON can hold: times in UTC, empty slices and maps nil.
func drawCycle(t *rapid.T) *probe.Cycle {
	start := time.Unix(rapid.Int64Range(0, 4e9).Draw(t, "start"), rapid.Int64Range(0, 999_999_999).Draw(t, "ns")).UTC()
	word, n := rapid.String(), rapid.IntRange(0, 1e7)
	c := &probe.Cycle{
		ID:       word.Draw(t, "id"),
		Endpoint: probe.Endpoint{Name: word.Draw(t, "name"), Model: word.Draw(t, "model"), URL: word.Draw(t, "url")},
		Server:   word.Draw(t, "server"),
		Workload: probe.Workload{API: word.Draw(t, "api"), Tokenizer: word.Draw(t, "tokenizer"),
			SharedPrefixTokens: n.Draw(t, "shared prefix"), ExtraBody: word.Draw(t, "extra body"),
			PromptTokens: probe.Length{Mean: n.Draw(t, "mean"), Variance: n.Draw(t, "variance"), Min: n.Draw(t, "min"),
				Max: n.Draw(t, "max")}},
		Profile:     rapid.SampledFrom(probe.Profiles()).Draw(t, "profile"),
		MaxDuration: drawDuration(t), MaxRequests: n.Draw(t, "max requests"),
		MaxConcurrency: n.Draw(t, "max concurrency"),
		Started:        start, Ended: start.Add(drawDuration(t)),
		Objectives: probe.Objectives{TimeToFirstTokenP90: drawDuration(t), InterTokenLatencyP90: drawDuration(t),
			RequestDurationP90: drawDuration(t), ErrorRate: drawNumber(t)},
		Capacity: probe.Capacity{RequestsPerSecond: drawNumber(t), OutputTokensPerSecond: drawNumber(t),
			ObjectiveRequestsPerSecond: drawNumber(t), RequestsInterval: drawInterval(t)},
		Fingerprint: word.Draw(t, "fingerprint"),
	}
	if rapid.Bool().Draw(t, "compared") {
		c.Regression = drawRegression(t, start)
	}
	for range rapid.IntRange(0, 3).Draw(t, "stages") {
		c.Stages = append(c.Stages, drawStage(t, start))
	}
	for range rapid.IntRange(0, 2).Draw(t, "skipped") {
		c.Skipped = append(c.Skipped, probe.Skip{Stage: word.Draw(t, "stage"), Reason: word.Draw(t, "reason"),
			Detail: word.Draw(t, "detail")})
	}
	if rapid.Bool().Draw(t, "failed") {
		c.Failure = &probe.CycleFailure{Reason: word.Draw(t, "reason"), Detail: word.Draw(t, "detail")}
	}
	return c
}

func drawStage(t *rapid.T, start time.Time) probe.Stage {
	word, n := rapid.String(), rapid.IntRange(0, 1e7)
	s := probe.Stage{
		Name:       rapid.SampledFrom([]string{probe.StageCanary, probe.StageThroughput, "constant-1"}).Draw(t, "name"),
		Profile:    rapid.SampledFrom(probe.Profiles()).Draw(t, "profile"),
		TargetRate: drawNumber(t),
		Completed:  n.Draw(t, "completed"), Failed: n.Draw(t, "failed"), Incomplete: n.Draw(t, "incomplete"),
		Retries: n.Draw(t, "retries"), RequestsPerSecond: drawNumber(t), OutputTokensPerSecond: drawNumber(t),
		WindowStart: drawDuration(t), WindowEnd: drawDuration(t), InFlight: drawNumber(t),
		RequestsInterval:       drawInterval(t),
		IncompleteOutputTokens: n.Draw(t, "tokens"), CachedTokens: n.Draw(t, "cached"),
		TokensByEvents: n.Draw(t, "events"), TokensByTokenizer: n.Draw(t, "by tokenizer"),
		PromptTokens: drawDistribution(t), OutputTokens: drawDistribution(t), RequestDuration: drawDistribution(t),
		TimeToFirstToken: drawDistribution(t), TimeToFirstAnswerToken: drawDistribution(t),
		InterTokenLatency: drawDistribution(t), TimePerOutputToken: drawDistribution(t),
		StreamStall: drawDistribution(t), ScheduleDelay: drawDistribution(t), ReceiveLag: drawDistribution(t),
		TimeToFirstTokenExcess: drawExcess(t), InterTokenLatencyExcess: drawExcess(t), RequestDurationExcess: drawExcess(t),
		ServerPromptTokens: drawDistribution(t), NewConnections: n.Draw(t, "connections"),
		DNS: drawDistribution(t), Connect: drawDistribution(t), TLS: drawDistribution(t),
	}
	if rapid.Bool().Draw(t, "ran") {
		s.Started, s.Ended = start, start.Add(drawDuration(t))
	}
	for range rapid.IntRange(0, 2).Draw(t, "findings") {
		s.Findings = append(s.Findings, probe.Finding{Name: probe.FindingName(word.Draw(t, "finding")),
			Detail: word.Draw(t, "detail"), Invalidates: rapid.Bool().Draw(t, "invalidates")})
	}
	if failures := rapid.MapOfN(rapid.SampledFrom(probe.Reasons()), n, 0, 3).Draw(t, "failures"); len(failures) > 0 {
		s.Failures, s.FailureDetails = failures, map[probe.Reason]string{}
		for reason := range failures {
			s.FailureDetails[reason] = word.Draw(t, "example")
		}
	}
	return s
}

func drawExcess(t *rapid.T) probe.Excess {
	return probe.Excess{Share: drawNumber(t), Samples: rapid.IntRange(0, 1000).Draw(t, "samples")}
}

func drawInterval(t *rapid.T) probe.Interval {
	return probe.Interval{Low: drawNumber(t), High: drawNumber(t)}
}

func drawRegression(t *rapid.T, start time.Time) *probe.Regression {
	word, n := rapid.String(), rapid.IntRange(0, 1e7)
	r := &probe.Regression{Note: word.Draw(t, "note")}
	for range rapid.IntRange(0, 4).Draw(t, "changes") {
		r.Changes = append(r.Changes, probe.Change{Signal: probe.Signal(word.Draw(t, "signal")), Ratio: drawNumber(t),
			PValue: drawNumber(t), Samples: n.Draw(t, "samples"), BaselineSamples: n.Draw(t, "samples"),
			Worse: rapid.Bool().Draw(t, "worse"), Detected: rapid.Bool().Draw(t, "detected")})
	}
	if ids := rapid.SliceOfN(word, 0, 3).Draw(t, "baseline"); len(ids) > 0 {
		r.Baseline = probe.Baseline{Cycles: ids, From: start, To: start.Add(drawDuration(t))}
	}
	return r
}

func drawDuration(t *rapid.T) time.Duration {
	return time.Duration(rapid.Int64Range(0, int64(30*24*time.Hour)).Draw(t, "duration"))
}

func drawNumber(t *rapid.T) float64 {
	return rapid.OneOf(rapid.Just(0.0), rapid.Float64Range(0, 1e7)).Draw(t, "number")
}

func drawDistribution(t *rapid.T) probe.Distribution {
	count := rapid.IntRange(0, 500).Draw(t, "count")
	if count == 0 {
		return probe.Distribution{}
	}
	v := rapid.Float64Range(-1, 1e5)
	return probe.Distribution{Count: count, Mean: v.Draw(t, "mean"), Min: v.Draw(t, "min"), P01: v.Draw(t, "p01"),
		P05: v.Draw(t, "p05"), P10: v.Draw(t, "p10"), P25: v.Draw(t, "p25"), P50: v.Draw(t, "p50"),
		P75: v.Draw(t, "p75"), P90: v.Draw(t, "p90"), P95: v.Draw(t, "p95"), P99: v.Draw(t, "p99"),
		Max: v.Draw(t, "max")}
}
