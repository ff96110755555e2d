package sweep

import (
	"cmp"
	"slices"
	"time"

	"github.com/inferprobe/inferprobe/internal/probe"
)

// keptUp is the share of its target rate that a stage must reach to count as served.
const keptUp = 0.95

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
		if !meets(s, c.Objectives) {
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
		if !c.Objectives.IsZero() && !meets(s, c.Objectives) && !slices.ContainsFunc(s.Findings, ours) {
			return false
		}
	}
	return true
}

// ours reports whether a finding is trouble of this process or its host.
func ours(f probe.Finding) bool {
	switch f.Name {
	case probe.FindingScheduleDelay, probe.FindingReceiveLag, probe.FindingCPUThrottled, probe.FindingClientOverload:
		return true
	}
	return false
}

// meets reports whether the stage kept every objective and, in an open loop, up with its rate.
func meets(s *probe.Stage, o probe.Objectives) bool {
	within := func(d probe.Distribution, limit time.Duration) bool {
		return limit == 0 || d.Count > 0 && d.P90 <= limit.Seconds()
	}
	finished := s.Completed + s.Failed
	return s.Completed > 0 &&
		within(s.TimeToFirstToken, o.TimeToFirstTokenP90) &&
		within(s.InterTokenLatency, o.InterTokenLatencyP90) &&
		within(s.RequestDuration, o.RequestDurationP90) &&
		(o.ErrorRate == 0 || float64(s.Failed) <= o.ErrorRate*float64(finished)) &&
		s.RequestsPerSecond >= keptUp*s.TargetRate
}
