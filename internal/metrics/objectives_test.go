package metrics_test

import (
	"math"
	"testing"
	"time"

	"github.com/inferprobe/inferprobe/internal/metrics"
	"github.com/inferprobe/inferprobe/internal/probe"
)

// TestObjectiveCapacity: 0 says that no rate keeps the objectives, NaN that this is not known.
func TestObjectiveCapacity(t *testing.T) {
	stage := func(ttft float64, finding probe.FindingName) probe.Stage {
		s := probe.Stage{Name: "constant-1", Profile: probe.ProfileConstant, Completed: 40,
			TimeToFirstToken: probe.Distribution{Count: 40, P90: ttft}}
		if s.TimeToFirstTokenExcess.Samples = 40; ttft > 60 {
			s.TimeToFirstTokenExcess.Share = 0.3
		}
		if finding != "" {
			s.Findings = []probe.Finding{{Name: finding, Invalidates: true}}
		}
		return s
	}
	for name, test := range map[string]struct {
		stage probe.Stage
		want  float64
	}{
		"violated":    {stage(90, ""), 0},
		"few samples": {stage(30, probe.FindingTooFewSamples), math.NaN()},
		"our CPU":     {stage(90, probe.FindingCPUThrottled), math.NaN()},
	} {
		reg, m := newMetrics(metrics.Classic)
		c := cycle()
		c.Stages, c.Objectives = []probe.Stage{test.stage}, probe.Objectives{TimeToFirstTokenP90: time.Minute}
		c.Capacity = probe.Capacity{}
		m.Add(llama, nil, []string{"constant-1"}).CycleEnded(c)
		got := find(t, reg, "slo_capacity_requests_per_second").GetGauge().GetValue()
		if got != test.want && !(math.IsNaN(got) && math.IsNaN(test.want)) {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}
