package report

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/inferprobe/inferprobe/internal/probe"
)

// regressedCycle has become slower in one cycle after another, and has lost capacity in this one.
func regressedCycle(t *testing.T) *probe.Cycle {
	t.Helper()
	c := seedCycle(t)
	c.Stages = c.Stages[:2] // one at a time, and all at once
	c.Stages[1].RequestsInterval = probe.Interval{Low: 19.31, High: 20.87}
	c.Capacity.RequestsInterval = c.Stages[1].RequestsInterval
	c.Fingerprint = "0123456789abcdef"
	c.Regression = &probe.Regression{
		Changes: []probe.Change{
			{Signal: probe.SignalTimeToFirstToken, Ratio: 1.1234, PValue: 0.00002, Samples: 101, BaselineSamples: 1009,
				Worse: true, Detected: true},
			{Signal: probe.SignalTimePerOutputToken, Ratio: 1.07, PValue: 0.03, Samples: 101, BaselineSamples: 1009,
				Detected: true},
			{Signal: probe.SignalRequestDuration, Ratio: 0.996, PValue: 1, Samples: 101, BaselineSamples: 1009},
			{Signal: probe.SignalCapacity, Ratio: 0.87, PValue: 0.004, Samples: 1, BaselineSamples: 9, Worse: true},
		},
		Note: "capacity: what has changed has lasted for 10 cycles, which are the baseline from now on",
	}
	for i := range 10 {
		started := c.Started.Add(time.Duration(i-10) * 6 * time.Hour)
		if i == 0 {
			c.Regression.Baseline.From = started
		}
		c.Regression.Baseline.Cycles = append(c.Regression.Baseline.Cycles, fmt.Sprintf("llama-4-maverick-%d", i))
		c.Regression.Baseline.To = started
	}
	return c
}

func TestRegressionGolden(t *testing.T) {
	c := regressedCycle(t)
	for _, width := range []int{20, 80, 130} {
		golden(t, fmt.Sprintf("regressed-%d.txt", width), []byte(text(t, c, width)))
		checkLayout(t, "regressed", c, width)
	}
	golden(t, "regressed.json", toJSON(t, c))
}

// TestRegressionText tests what the closing block says of verdicts that find less.
func TestRegressionText(t *testing.T) {
	steady := probe.Change{Signal: probe.SignalCapacity, Ratio: 1.02, PValue: 0.4, Samples: 1, BaselineSamples: 3}
	for name, test := range map[string]struct {
		regression *probe.Regression
		want       string // "" = nothing
	}{
		"none was sought": {nil, ""},
		"no verdict": {&probe.Regression{Note: "no verdict: the cycle failed"},
			"Against the Baseline | Note: no verdict: the cycle failed"},
		"nothing changed": {
			&probe.Regression{
				Changes:  []probe.Change{steady},
				Baseline: probe.Baseline{Cycles: []string{"a"}, From: day(t, "08:00:00"), To: day(t, "08:00:00")},
			},
			"Against the Baseline of 1 cycle from 2025-04-15 08:00 to 2025-04-15 08:00 | " +
				"Capacity: +2.0 % (p 0.400, 1 cycle against 3) | Regression: none",
		},
		"a signal of another version": {
			&probe.Regression{Changes: []probe.Change{{Signal: "new\x1b[m", Ratio: 1, PValue: 1}}},
			"Against the Baseline | new: +0.0 % (p 1.000, 0 requests against 0) | Regression: none",
		},
	} {
		s := regression(test.regression)
		parts := []string{s.title}
		for _, r := range s.rows {
			parts = append(parts, r.key+": "+r.text)
		}
		if got := strings.Join(parts, " | "); got != test.want {
			t.Errorf("%s:\n%q, want\n%q", name, got, test.want)
		}
	}
}

// TestRegressionJSON: the object is there in any case, and empty where no regression was sought.
func TestRegressionJSON(t *testing.T) {
	for name, test := range map[string]struct {
		regression *probe.Regression
		want       string
	}{
		"none was sought": {nil, `{}`},
		"no verdict": {&probe.Regression{Note: "too few"},
			`{"detected":false,"baseline":{"cycles":[],"from":null,"to":null},"signals":[],"note":"too few"}`},
	} {
		var j struct{ Regression json.RawMessage }
		if err := json.Unmarshal(toJSON(t, &probe.Cycle{Regression: test.regression}), &j); err != nil {
			t.Fatal(err)
		}
		got, err := json.Marshal(j.Regression)
		if err != nil || string(got) != test.want {
			t.Errorf("%s: %s, %v, want %s", name, got, err, test.want)
		}
	}
}
