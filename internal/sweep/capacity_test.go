package sweep

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/inferprobe/inferprobe/internal/probe"
)

func stageAt(profile probe.Profile, target, rate, ttft float64) probe.Stage {
	return probe.Stage{
		Profile: profile, TargetRate: target, RequestsPerSecond: rate, OutputTokensPerSecond: 100 * rate, Completed: 100,
		WindowEnd: time.Minute, TimeToFirstToken: probe.Distribution{Count: 100, P90: ttft},
	}
}

// slower makes so many of 100 requests slower than the objective.
func slower(s *probe.Stage, requests int) {
	s.TimeToFirstToken.P90 = 0.6
	s.TimeToFirstTokenExcess = probe.Excess{Share: float64(requests) / 100, Samples: 100}
}

func TestCapacity(t *testing.T) {
	cycle := &probe.Cycle{
		Profile: probe.ProfileSweep,
		Stages: []probe.Stage{
			stageAt(probe.ProfileSynchronous, 0, 1, 0.1),
			stageAt(probe.ProfileThroughput, 0, 10, 5),
			stageAt(probe.ProfileConstant, 4, 4, 0.2),
			stageAt(probe.ProfileConstant, 7, 7, 0.4),
			stageAt(probe.ProfileConstant, 10, 9.9, 2),
		},
	}
	cycle.Stages[1].RequestsInterval = probe.Interval{Low: 9, High: 11}
	near := cmpopts.EquateApprox(1e-9, 0)
	want := probe.Capacity{RequestsPerSecond: 10, OutputTokensPerSecond: 1000,
		RequestsInterval: probe.Interval{Low: 9, High: 11}}
	if diff := cmp.Diff(want, capacityOf(cycle), near); diff != "" {
		t.Error("without objectives:\n" + diff)
	}
	for name, test := range map[string]struct {
		objectives probe.Objectives
		change     func([]probe.Stage)
		want       float64
	}{
		"the highest rate that keeps them": {probe.Objectives{TimeToFirstTokenP90: 500 * time.Millisecond}, nil, 7},
		"not even one at a time": {
			probe.Objectives{TimeToFirstTokenP90: 500 * time.Millisecond},
			func(s []probe.Stage) { slower(&s[0], 20) }, 0,
		},
		"a rate above a violated one does not count": {
			probe.Objectives{TimeToFirstTokenP90: 500 * time.Millisecond},
			func(s []probe.Stage) { slower(&s[2], 20) }, 1,
		},
		"nor does one that violates them although few requests of it were seen": {
			probe.Objectives{TimeToFirstTokenP90: 500 * time.Millisecond},
			func(s []probe.Stage) {
				slower(&s[2], 100)
				s[2].Findings = []probe.Finding{{Name: probe.FindingTooFewSamples, Invalidates: true}}
			}, 1,
		},
		"a rate that misses them by chance is passed over": {
			probe.Objectives{TimeToFirstTokenP90: 500 * time.Millisecond},
			func(s []probe.Stage) { slower(&s[2], 12) }, 7,
		},
		"an invalid stage says nothing": {
			probe.Objectives{TimeToFirstTokenP90: 500 * time.Millisecond},
			func(s []probe.Stage) {
				s[3].Findings = []probe.Finding{{Name: probe.FindingReceiveLag, Invalidates: true}}
			}, 4,
		},
		"a rate that was not reached does not count": {
			probe.Objectives{TimeToFirstTokenP90: 9 * time.Second},
			func(s []probe.Stage) { s[4].RequestsPerSecond = 8 }, 7,
		},
		"errors count": {
			probe.Objectives{ErrorRate: 0.01},
			func(s []probe.Stage) { s[3].Failed = 5 }, 4,
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := *cycle
			c.Stages = slices.Clone(cycle.Stages)
			c.Objectives = test.objectives
			if test.change != nil {
				test.change(c.Stages)
			}
			if got := capacityOf(&c).ObjectiveRequestsPerSecond; got != test.want {
				t.Errorf("objectives are kept up to %v req/s, want %v", got, test.want)
			}
		})
	}
}

func TestRatesBetween(t *testing.T) {
	// The seed's sweep: 0.85 synchronous, 20.09 throughput.
	want := []float64{2.99, 5.13, 7.26, 9.40, 11.54, 13.68, 15.81, 17.95, 20.09}
	if diff := cmp.Diff(want, between(0.85, 20.09, 9), cmpopts.EquateApprox(0, 0.006)); diff != "" {
		t.Error(diff)
	}
	if got := between(1, 2, 0); len(got) != 0 {
		t.Errorf("no rates asked for, got %v", got)
	}
}
