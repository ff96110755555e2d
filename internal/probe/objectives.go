package probe

import (
	"slices"
	"time"
)

// keptUp is the share of its target rate that a stage must reach to count as served.
const keptUp = 0.95

// Meets reports whether the stage kept every objective and, in an open loop, up with its rate. Its percentiles are of
// completed requests: where it is Censored, that it meets the objectives means nothing.
func (s *Stage) Meets(o Objectives) bool {
	within := func(d Distribution, limit time.Duration) bool {
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

// Ours reports whether the finding is trouble of this process or its host, or of load that this process made before.
func (f Finding) Ours() bool {
	switch f.Name {
	case FindingScheduleDelay, FindingReceiveLag, FindingCPUThrottled, FindingClientOverload, FindingCarryOver:
		return true
	}
	return false
}

// Disturbed reports whether any of the stage's findings is trouble of this process or its host.
func (s *Stage) Disturbed() bool { return slices.ContainsFunc(s.Findings, Finding.Ours) }

// Censored reports whether requests that the end of the stage cut off had waited for too long for its percentiles to
// hold. These are lower bounds then: the objectives that they violate are violated, those that they keep may be, too.
func (s *Stage) Censored() bool {
	return slices.ContainsFunc(s.Findings, func(f Finding) bool { return f.Name == FindingCensored })
}

// ObjectivesJudged reports whether the stages can tell if the objectives are kept: one at a rate of its own is valid, or
// violates them without trouble of ours. The throughput stage has no such rate. Where nothing was judged
// Capacity.ObjectiveRequestsPerSecond is 0 for want of knowledge, not because no rate keeps the objectives.
func (c *Cycle) ObjectivesJudged() bool {
	for i := range c.Stages {
		s := &c.Stages[i]
		if s.Profile != ProfileThroughput && (s.Valid() || !s.Disturbed() && !s.Meets(c.Objectives)) {
			return !c.Objectives.IsZero()
		}
	}
	return false
}
