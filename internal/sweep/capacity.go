package sweep

import (
	"cmp"
	"slices"

	"github.com/inferprobe/inferprobe/internal/probe"
)

// capacityOf reads from the stages what the endpoint can bear.
func capacityOf(c *probe.Cycle) probe.Capacity {
	var capacity probe.Capacity
	for i := range c.Stages {
		if s := &c.Stages[i]; s.Profile == probe.ProfileThroughput {
			capacity.RequestsPerSecond, capacity.RequestsInterval = s.RequestsPerSecond, s.RequestsInterval
			capacity.OutputTokensPerSecond = s.OutputTokensPerSecond
		}
	}
	if c.Objectives.IsZero() {
		return capacity
	}
	stages := slices.Clone(c.Stages)
	slices.SortStableFunc(stages, func(a, b probe.Stage) int { return cmp.Compare(a.TargetRate, b.TargetRate) })
	for i := range stages {
		s := &stages[i]
		if s.Profile == probe.ProfileThroughput {
			continue
		}
		verdict, _ := s.Judge(c.Objectives)
		if verdict == probe.Violated {
			break
		}
		if verdict == probe.Kept {
			capacity.ObjectiveRequestsPerSecond = s.RequestsPerSecond
		}
	}
	return capacity
}
