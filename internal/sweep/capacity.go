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
		if s.Profile == probe.ProfileThroughput || !s.Valid() {
			continue
		}
		if !s.Meets(c.Objectives) {
			break
		}
		capacity.ObjectiveRequestsPerSecond = s.RequestsPerSecond
	}
	return capacity
}

// KeepsObjectives reports whether the endpoint kept its objectives where it must: in a sweep one request at a time, in
// any other profile at every rate asked for. A sweep goes beyond what an endpoint bears on purpose. A stage that our
// own trouble made invalid says nothing against the endpoint; one that has few samples because it is slow does.
func KeepsObjectives(c *probe.Cycle) bool {
	for i := range c.Stages {
		s := &c.Stages[i]
		if c.Profile == probe.ProfileSweep && s.Profile != probe.ProfileSynchronous {
			continue
		}
		if !c.Objectives.IsZero() && !s.Meets(c.Objectives) && !s.Disturbed() {
			return false
		}
	}
	return true
}
