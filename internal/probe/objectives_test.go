package probe

import (
	"testing"
	"time"
)

func TestObjectivesJudged(t *testing.T) {
	stage := func(profile Profile, ttft float64, findings ...FindingName) Stage {
		s := Stage{Profile: profile, Completed: 3, TimeToFirstToken: Distribution{Count: 3, P90: ttft}}
		for _, name := range findings {
			s.Findings = append(s.Findings, Finding{Name: name, Invalidates: true})
		}
		return s
	}
	const kept, violated = 0.4, 0.6
	half := Objectives{TimeToFirstTokenP90: 500 * time.Millisecond}
	for name, test := range map[string]struct {
		objectives Objectives
		stages     []Stage
		want       bool
	}{
		"no stage":              {half, nil, false},
		"nothing to judge by":   {Objectives{}, []Stage{stage(ProfileSynchronous, kept)}, false},
		"valid and kept":        {half, []Stage{stage(ProfileSynchronous, kept)}, true},
		"valid and violated":    {half, []Stage{stage(ProfileConstant, violated)}, true},
		"throughput alone":      {half, []Stage{stage(ProfileThroughput, violated)}, false},
		"few samples, kept":     {half, []Stage{stage(ProfileSynchronous, kept, FindingTooFewSamples)}, false},
		"few samples, violated": {half, []Stage{stage(ProfileSynchronous, violated, FindingTooFewSamples)}, true},
		"violated by our fault": {half, []Stage{
			stage(ProfileSynchronous, violated, FindingTooFewSamples, FindingCPUThrottled)}, false},
		"kept by those that came": {half, []Stage{stage(ProfileConstant, kept, FindingCensored)}, false},
		"violated even by those":  {half, []Stage{stage(ProfileConstant, violated, FindingCensored)}, true},
		"one of two": {half, []Stage{stage(ProfileSynchronous, kept, FindingTooFewSamples),
			stage(ProfileConstant, kept)}, true},
	} {
		c := &Cycle{Objectives: test.objectives, Stages: test.stages}
		if got := c.ObjectivesJudged(); got != test.want {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}
