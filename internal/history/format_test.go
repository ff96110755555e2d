package history

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/inferprobe/inferprobe/internal/probe"
	"github.com/inferprobe/inferprobe/internal/report"
)

func mustEncode(t interface {
	Helper()
	Fatal(...any)
}, c *probe.Cycle) []byte {
	t.Helper()
	data, err := encode(c)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestFormatGolden(t *testing.T) {
	c := sweepCycle("llama", start, 3)
	c.Stages = c.Stages[:3]
	c.Regression = &probe.Regression{
		Baseline: probe.Baseline{Cycles: []string{"llama-20260228T020405.006Z"}, From: start.AddDate(0, 0, -1),
			To: start.Add(-time.Hour)},
		Changes: []probe.Change{{Signal: probe.SignalCapacity, Ratio: 0.7, PValue: 0.003, Samples: 1,
			BaselineSamples: 12, Worse: true}},
	}
	golden(t, "cycle.json", mustEncode(t, c))
	golden(t, "empty.json", mustEncode(t, &probe.Cycle{ID: "down-20260301T020405.006Z"}))
}

// TestFormatKeepsEveryField fails when a field is added to a cycle that the format does not know, and when two are
// mixed up.
func TestFormatKeepsEveryField(t *testing.T) {
	for name, c := range map[string]*probe.Cycle{
		"filled": filledCycle(), "sweep": sweepCycle("llama", start, 500), "zero": {},
		"zero parts": {Regression: &probe.Regression{}, Failure: &probe.CycleFailure{}, Stages: make([]probe.Stage, 1)},
	} {
		got, err := decode(mustEncode(t, c))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c, got); diff != "" {
			t.Errorf("%s: the cycle changed (-want +got):\n%s", name, diff)
		}
	}
}

func TestReportOfALoadedCycle(t *testing.T) {
	text := func(c *probe.Cycle) string {
		var b bytes.Buffer
		if err := report.Text(&b, c, 160); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	zone := time.FixedZone("CET", 3600)
	c := sweepCycle("llama", start.In(zone), 3) // a running daemon's times have a zone and a monotonic clock
	c.Started = time.Now()
	loaded, err := decode(mustEncode(t, c))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(text(c), text(loaded)); diff != "" {
		t.Errorf("the report changed (-want +got):\n%s", diff)
	}
}

func TestFormatOfStrangeNumbers(t *testing.T) {
	for _, v := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), math.MaxFloat64, math.SmallestNonzeroFloat64,
		math.Copysign(0, -1), 1.0 / 3} {
		c := &probe.Cycle{
			Capacity:   probe.Capacity{RequestsPerSecond: v},
			Regression: &probe.Regression{Changes: []probe.Change{{Ratio: v}}},
			Stages: []probe.Stage{{InFlight: v, ReceiveLag: probe.Distribution{Count: 1, Mean: v},
				Requests: []probe.RequestSample{{Duration: v}}}},
		}
		data := mustEncode(t, c)
		if !json.Valid(data) {
			t.Errorf("%v makes invalid JSON:\n%s", v, data)
		}
		got, err := decode(data)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c, got, cmpopts.EquateNaNs()); diff != "" {
			t.Errorf("the cycle changed (-want +got):\n%s", diff)
		}
	}
	for _, d := range []time.Duration{1, 999_999_999, time.Hour + 1, 40*24*time.Hour - 1, -time.Nanosecond} {
		got, err := decode(mustEncode(t, &probe.Cycle{MaxDuration: d}))
		if err != nil || got.MaxDuration != d {
			t.Errorf("a duration of %d ns became %d, %v", d, got.MaxDuration, err)
		}
	}
	if _, err := encode(&probe.Cycle{Started: time.Date(12026, 1, 1, 0, 0, 0, 0, time.UTC)}); err == nil {
		t.Error("a year of five digits can be encoded, but not read")
	}
}

func TestDecodeErrors(t *testing.T) {
	valid := string(mustEncode(t, sweepCycle("llama", start, 2)))
	for _, test := range []struct{ data, want string }{
		{"", "not JSON, or cut off: unexpected end of JSON input at byte 0 of 0"},
		{valid[:len(valid)/2], "not JSON, or cut off: unexpected end of JSON input"},
		{"\x00\x00\x00", "not JSON, or cut off: invalid character"},
		{valid + "{}", "after top-level value"},
		{"null", `schema is "", want "inferprobe/history/v1"`},
		{"[]", "not an object of inferprobe/history/v1"},
		{`{"schema":"inferprobe/history/v2","stages":7}`, `schema is "inferprobe/history/v2", want`},
		{`{"schema":"inferprobe/report/v1"}`, `schema is "inferprobe/report/v1", want`},
		{strings.Replace(valid, `"completed": 500`, `"completed": "many"`, 1), "completed"},
		{strings.Replace(valid, `"max_duration_seconds": 120`, `"max_duration_seconds": 1e12`, 1),
			"1e+12 seconds are more than a duration can hold"},
		{strings.Replace(valid, `"max_duration_seconds": 120`, `"max_duration_seconds": "2m"`, 1), "string"},
		{strings.Replace(valid, `"in_flight": `, `"in_flight": true, "x": `, 1), "true is not a number"},
		{strings.Replace(valid, `"in_flight": `, `"in_flight": "inf", "x": `, 1), `"inf" is not a number`},
		{strings.Replace(valid, `"in_flight": `, `"in_flight": 1e999, "x": `, 1), "1e999 is not a number"},
		{strings.Replace(valid, "2026-03-01T02:04:05.006Z", "9999-12-31T23:00:00-02:00", 1), "in the year 10000"},
		{strings.Replace(valid, "2026-03-01T02:04:05.006Z", "yesterday", 1), "yesterday"},
		{strings.Replace(valid, `"request_duration_seconds": [`, `"request_duration_seconds": [1, `, 1),
			`stage "synchronous": the lists of request_samples are of 2, 2 and 3 values`},
	} {
		if _, err := decode([]byte(test.data)); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("decode(%.40q…) = %v, want %q", test.data, err, test.want)
		}
	}
	more := strings.Replace(valid, `"profile"`, `"weather": {"sun": [1]}, "profile"`, 1)
	if c, err := decode([]byte(more)); err != nil || c.Profile != probe.ProfileSweep {
		t.Errorf("a key that is not known: %v", err)
	}
}

func TestDecodeOfACutOffFile(t *testing.T) {
	data := mustEncode(t, filledCycle())
	for n := 0; n < len(data)-len("\n"); n += 7 {
		if _, err := decode(data[:n]); err == nil {
			t.Fatalf("the first %d of %d bytes are taken for a cycle", n, len(data))
		}
	}
}

// TestLayOut: setting JSON out must change nothing but the space between its tokens.
func TestLayOut(t *testing.T) {
	if got, want := string(layOut([]byte(`{"a":[1,"]{,:\\\"",{}],"b":{},"c":{"d":null,"e":"x"}}`))), `{
  "a": [
    1,
    "]{,:\\\"",
    {}
  ],
  "b": {},
  "c": {"d": null, "e": "x"}
}
`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	value := rapid.Deferred(drawValue)
	rapid.Check(t, func(t *rapid.T) {
		compact, err := json.Marshal(value.Draw(t, "value"))
		if err != nil {
			t.Fatal(err)
		}
		var again bytes.Buffer
		if err := json.Compact(&again, layOut(compact)); err != nil || again.String() != string(compact) {
			t.Fatalf("%s became %s, %v", compact, again.String(), err)
		}
	})
}

func drawValue() *rapid.Generator[any] {
	return rapid.Custom(func(t *rapid.T) any {
		switch rapid.IntRange(0, 4).Draw(t, "kind") {
		case 0:
			return rapid.SliceOfN(rapid.Deferred(drawValue), 0, 3).Draw(t, "list")
		case 1:
			return rapid.MapOfN(rapid.String(), rapid.Deferred(drawValue), 0, 3).Draw(t, "object")
		case 2:
			return rapid.StringOf(rapid.SampledFrom([]rune(`a"\{}[],: `))).Draw(t, "text")
		case 3:
			return rapid.Float64Range(-1e9, 1e9).Draw(t, "number")
		}
		return nil
	})
}

// FuzzDecode: what can be decoded can be encoded, and is the same when it comes back.
func FuzzDecode(f *testing.F) {
	f.Add(mustEncode(f, cycleAt("llama", start)))
	f.Add([]byte(`{"schema":"inferprobe/history/v1","capacity":{"requests_per_second":"NaN"},"regression":{}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := decode(data)
		if err != nil {
			return
		}
		again, err := decode(mustEncode(t, c))
		if err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
		if diff := cmp.Diff(c, again, cmpopts.EquateNaNs(), cmpopts.EquateEmpty(), cmp.Comparer(nearly)); diff != "" {
			t.Errorf("the cycle changed (-want +got):\n%s", diff)
		}
	})
}

// nearly: a duration of more than forty days is not kept to the nanosecond.
func nearly(a, b time.Duration) bool {
	return math.Abs(float64(a-b)) <= math.Abs(float64(a))*1e-15
}
