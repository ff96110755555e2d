package probe

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"time"
)

// keptUp is the share of its target rate that a stage must reach to count as served.
const keptUp = 0.95

// chanceErrors is how many standard errors are more than chance: of either sign in 5 % of cases.
const chanceErrors = 2

// Meets reports whether the stage's values are within every objective and, in an open loop, it kept up with its rate.
// Whether they can be trusted is not asked: see Judge.
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
		s.keepsUp()
}

// missing returns how many requests were sent in the measured window of an open loop, and how many fewer were served.
func (s *Stage) missing() (sent, missing float64) {
	window := (s.WindowEnd - s.WindowStart).Seconds()
	sent = s.TargetRate * window
	return sent, sent - s.RequestsPerSecond*window
}

// keepsUp reports whether an open loop served its rate. Of Poisson arrivals chance sends fewer: n ± √n.
func (s *Stage) keepsUp() bool {
	sent, missing := s.missing()
	allowed := (1 - keptUp) * sent
	if s.Profile == ProfilePoisson {
		allowed = max(allowed, chanceErrors*math.Sqrt(sent))
	}
	return missing <= allowed
}

// Judgement says whether a stage keeps its objectives.
type Judgement string

// The judgements.
const (
	Kept     Judgement = "kept"
	Violated Judgement = "violated"
	Unjudged Judgement = "unjudged" // the stage cannot tell
)

// Judge says whether the stage keeps the objectives, and of one that cannot tell why. A violation is by more requests
// than chance explains, and no trouble of ours is behind it; what is kept is kept by a stage that is valid.
func (s *Stage) Judge(o Objectives) (verdict Judgement, why string) {
	meets := s.Meets(o)
	switch {
	case o.IsZero(), meets && s.Valid():
		return Kept, ""
	case !meets && !s.Disturbed() && s.violates(o):
		return Violated, ""
	case !s.Valid():
		return Unjudged, "it is not valid (" + strings.Join(s.invalid(), ", ") + ")"
	}
	return Unjudged, "it misses them by no more than chance may have it"
}

// fewest is of how many requests all must fail, or be too slow, to be no chance.
const fewest = 3

// Excess is how often a stage was beyond the limit of a 90th percentile.
type Excess struct {
	Share float64 // of its completed requests, or of their gaps, 0…1
	// Samples is how many independent observations the share is worth: requests that are slow together, or gaps of one
	// request, tell less than their number, and all of them no more than that of the requests. 0 = not known.
	Samples int
}

// certain reports whether the share of all requests is above one in ten: whether more of those that completed are than
// that explains.
func (e Excess) certain(completed int) bool {
	n := min(e.Samples, completed)
	return n >= fewest && Exceeds(int(math.Round(min(e.Share, 1)*float64(n))), n, 0.1)
}

// violates reports whether the stage misses an objective by more than chance: latencies and failures by an exact test; a
// rate by more requests than √n, by which those that leave the window differ from those that enter it with n in flight.
func (s *Stage) violates(o Objectives) bool {
	if s.Completed == 0 {
		return s.Failed >= fewest
	}
	_, missing := s.missing()
	behind := !s.keepsUp() && missing > chanceErrors*math.Sqrt(s.InFlight)
	return s.TimeToFirstTokenExcess.certain(s.Completed) || s.InterTokenLatencyExcess.certain(s.Completed) || s.RequestDurationExcess.certain(s.Completed) ||
		o.ErrorRate > 0 && Exceeds(s.Failed, s.Completed+s.Failed, o.ErrorRate) ||
		s.Completed >= MinSamples(0.9) && behind
}

// Exceeds reports whether k of n are more than a share of them explains: the exact binomial test, one-sided at 2.5 %.
func Exceeds(k, n int, share float64) bool {
	if k == 0 || share >= 1 || float64(k) <= share*float64(n) {
		return false
	}
	if share <= 0 {
		return true
	}
	// The chance of fewer than k, term by term from their logarithms.
	all, _ := math.Lgamma(float64(n + 1))
	hit, miss := math.Log(share), math.Log1p(-share)
	var fewer float64
	for i := range k {
		in, _ := math.Lgamma(float64(i + 1))
		out, _ := math.Lgamma(float64(n - i + 1))
		fewer += math.Exp(all - in - out + float64(i)*hit + float64(n-i)*miss)
		if 1-fewer <= 0.025 { // however many more k is
			return true
		}
	}
	return false
}

// Ours reports whether the finding is trouble of this process or its host, or of load that this process made before.
func (f Finding) Ours() bool {
	switch f.Name {
	case FindingScheduleDelay, FindingReceiveLag, FindingCPUThrottled, FindingClientOverload, FindingCarryOver:
		return true
	}
	return false
}

// Disturbed reports whether the stage is not valid for trouble of this process or its host.
func (s *Stage) Disturbed() bool {
	return slices.ContainsFunc(s.Findings, func(f Finding) bool { return f.Invalidates && f.Ours() })
}

// invalid returns the findings for which the stage is not valid.
func (s *Stage) invalid() (names []string) {
	for _, f := range s.Findings {
		if f.Invalidates {
			names = append(names, string(f.Name))
		}
	}
	return names
}

// MustKeep reports whether the endpoint has to keep its objectives in the stage: in a sweep one request at a time, in
// any other profile at every rate asked for. A sweep goes beyond what an endpoint bears on purpose.
func (c *Cycle) MustKeep(stage string) bool {
	return c.Profile != ProfileSweep || stage == StageSynchronous
}

// ObjectiveRate returns the highest rate of a stage that kept every objective, below the lowest one that violated one, in
// requests/s. The throughput stage has no rate of its own, and tells nothing; stages that could not be judged are passed
// over. It is 0 for want of knowledge, and known false, where nothing was judged, or nothing below the rate that violates
// them; else because no rate keeps them.
func (c *Cycle) ObjectiveRate() (rate float64, known bool) {
	if c.Objectives.IsZero() {
		return 0, false
	}
	stages := slices.Clone(c.Stages)
	slices.SortStableFunc(stages, func(a, b Stage) int { return cmp.Compare(a.TargetRate, b.TargetRate) })
	var unjudged bool
	for i := range stages {
		s := &stages[i]
		if s.Profile == ProfileThroughput {
			continue
		}
		switch verdict, _ := s.Judge(c.Objectives); verdict {
		case Kept:
			rate, known = s.RequestsPerSecond, true
		case Violated:
			return rate, known || !unjudged
		default:
			unjudged = true
		}
	}
	return rate, known
}

// ObjectivesJudged reports whether Capacity.ObjectiveRequestsPerSecond is known: see ObjectiveRate.
func (c *Cycle) ObjectivesJudged() bool {
	_, known := c.ObjectiveRate()
	return known
}
