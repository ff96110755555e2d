package report

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/inferprobe/inferprobe/internal/probe"
)

func guide(t *testing.T, c *probe.Cycle) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := WriteGuideLLM(&b, c); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// guideCycles are those that GuideLLM's own loader reads in an end-to-end test.
func guideCycles(t *testing.T) map[string]*probe.Cycle {
	t.Helper()
	whole := seedCycle(t)
	for i := range whole.Stages { // without doubt about what is meant
		s := &whole.Stages[i]
		s.TimePerOutputToken, s.TimeToFirstAnswerToken = s.InterTokenLatency, s.TimeToFirstToken
		s.TimePerOutputToken.Count = s.Completed
		s.InFlight = s.RequestsPerSecond * s.RequestDuration.Mean
	}
	return map[string]*probe.Cycle{"seed": whole, "troubled": troubledCycle(t), "unreachable": unreachableCycle(t)}
}

func TestGuideLLMGolden(t *testing.T) {
	c := guideCycles(t)["seed"]
	c.Stages = c.Stages[1:3] // throughput and the first rate: each benchmark takes a thousand lines
	var b bytes.Buffer
	if err := json.Indent(&b, guide(t, c), "", " "); err != nil { // the file itself is one line, as GuideLLM's is
		t.Fatal(err)
	}
	golden(t, "guidellm.json", b.Bytes())
}

// TestGuideLLMInventsNothing: a figure that the stage does not have is "NaN", none observed a count of zero.
func TestGuideLLMInventsNothing(t *testing.T) {
	var got struct {
		Benchmarks []struct {
			Metrics map[string]map[string]struct {
				Mean, Median, Mode, Variance any
				Count                        int
				Percentiles                  map[string]any
			}
		}
	}
	c := &probe.Cycle{Stages: []probe.Stage{{Completed: 2, Failed: 1,
		TimeToFirstToken: probe.Distribution{Count: 2, Mean: 0.5, P50: 0.25}}}}
	text := guide(t, c)
	text = bytes.ReplaceAll(text, []byte(`"request_totals":{"successful":2,"errored":1,"incomplete":0,"total":3},`), nil)
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	ttft := got.Benchmarks[0].Metrics["time_to_first_token_ms"]
	if d := ttft["successful"]; d.Mean != 500.0 || d.Median != 250.0 || d.Mode != "NaN" || d.Variance != "NaN" ||
		d.Count != 2 || d.Percentiles["p50"] != 250.0 || d.Percentiles["p999"] != "NaN" {
		t.Errorf("completed: %+v", d)
	}
	if d := ttft["errored"]; d.Mean != "NaN" || d.Count != 1 {
		t.Errorf("failed: %+v", d)
	}
	if d := ttft["incomplete"]; d.Mean != 0.0 || d.Count != 0 {
		t.Errorf("incomplete: %+v", d)
	}
	if d := ttft["total"]; d.Mean != "NaN" || d.Count != 3 {
		t.Errorf("all: %+v", d)
	}
	if d := got.Benchmarks[0].Metrics["time_per_output_token_ms"]["successful"]; d.Mean != "NaN" {
		t.Errorf("GuideLLM's time per output token: %+v", d)
	}
}
