package regress

import (
	"math"
	"slices"

	"github.com/inferprobe/inferprobe/internal/probe"
)

// property is how one signal is read from the stage of a cycle.
type property struct {
	signal  probe.Signal
	stage   probe.Profile
	sign    float64                            // 1 if more is worse, −1 if less is
	centre  func(*probe.Stage) float64         // the median of its requests, or its one value
	request func(*probe.RequestSample) float64 // nil for a signal that has one value a cycle
}

func properties() []property {
	const synchronous = probe.ProfileSynchronous
	return []property{
		{
			probe.SignalTimeToFirstToken, synchronous, 1,
			func(s *probe.Stage) float64 { return s.TimeToFirstToken.P50 },
			func(r *probe.RequestSample) float64 { return r.TimeToFirstToken },
		},
		{
			probe.SignalTimePerOutputToken, synchronous, 1,
			func(s *probe.Stage) float64 { return s.TimePerOutputToken.P50 },
			func(r *probe.RequestSample) float64 { return r.TimePerOutputToken },
		},
		{
			probe.SignalRequestDuration, synchronous, 1,
			func(s *probe.Stage) float64 { return s.RequestDuration.P50 },
			func(r *probe.RequestSample) float64 { return r.Duration },
		},
		{
			probe.SignalCapacity, probe.ProfileThroughput, -1,
			func(s *probe.Stage) float64 { return s.RequestsPerSecond }, nil,
		},
	}
}

// observe reads the signal from a cycle; where it cannot, why says so.
func (p *property) observe(c *probe.Cycle) (o observation, why string) {
	i := slices.IndexFunc(c.Stages, func(s probe.Stage) bool { return s.Profile == p.stage })
	if i < 0 {
		return o, "the " + string(p.stage) + " stage was not run"
	}
	s := &c.Stages[i]
	centre := p.centre(s)
	switch {
	case !p.trusts(s):
		return o, "the " + string(p.stage) + " stage is not valid"
	case !usable(centre), p.request != nil && p.count(s) < probe.MinSamples(0.5):
		return o, "the " + string(p.stage) + " stage has too few values"
	}
	return observation{cycle: c, stage: s, centre: p.sign * math.Log(centre)}, ""
}

// trusts reports whether the signal can be read from the stage. A slower endpoint completes fewer requests in the same
// time: too few for a 90th percentile are no reason to look away from a median, which needs fewer.
func (p *property) trusts(s *probe.Stage) bool {
	return !slices.ContainsFunc(s.Findings, func(f probe.Finding) bool {
		return f.Invalidates && (p.request == nil || f.Name != probe.FindingTooFewSamples)
	})
}

// count returns how many requests have a value.
func (p *property) count(s *probe.Stage) (n int) {
	for i := range s.Requests {
		if usable(p.request(&s.Requests[i])) {
			n++
		}
	}
	return n
}

// appendTo appends the values of an observation.
func (p *property) appendTo(values []float64, o observation) []float64 {
	if p.request == nil {
		return append(values, p.centre(o.stage))
	}
	for i := range o.stage.Requests {
		if v := p.request(&o.stage.Requests[i]); usable(v) {
			values = append(values, v)
		}
	}
	return values
}

// usable reports whether v can be a time in seconds or a rate. Zero stands for none.
func usable(v float64) bool { return 1e-12 < v && v < 1e12 }

// moved returns where a signal has gone, by its change.
func (p *property) moved(c *probe.Change, effect float64) direction {
	slower := p.sign * math.Log(c.Ratio)
	switch {
	case c.Detected:
		return worse
	case c.PValue > significance:
		return same
	case slower >= math.Log1p(effect):
		return worse
	case slower <= -math.Log1p(effect):
		return better
	}
	return same
}

// found returns where the signal had gone when its cycle was judged; a cycle that was not is as those before it.
func (p *property) found(c *probe.Cycle, effect float64) direction {
	if c.Regression == nil {
		return same
	}
	for i := range c.Regression.Changes {
		if change := &c.Regression.Changes[i]; change.Signal == p.signal {
			return p.moved(change, effect)
		}
	}
	return same
}
