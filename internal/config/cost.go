package config

import (
	"time"

	"github.com/inferprobe/inferprobe/internal/probe"
	"github.com/inferprobe/inferprobe/internal/schedule"
)

// Cost is what measuring an endpoint can cost it. How many requests a closed loop makes depends on how fast the endpoint
// is, so that only some schedules have a bound that is known beforehand.
type Cost struct {
	Stages           int           // of a cycle
	LongestCycle     time.Duration // every stage at its full length
	CyclesPerDay     float64       // at most: a start that comes due while a cycle runs is skipped
	CanariesPerDay   float64       // at most: those that come due while a cycle runs are left out
	CanaryTokens     float64       // per day
	TokensPerRequest int           // mean of prompt and output together

	// Synchronous and Throughput say how the requests of a cycle follow from the endpoint's speed: about
	// MaxDuration × (Synchronous × s + Throughput × t), where s and t are the requests/s that it serves one after
	// another and as many at once as it is given. Of a whole sweep of 9 rates they are 5 and 6.
	Synchronous, Throughput float64

	// RequestsPerCycle is the most that max_requests, or the rates of an open loop, allow; 0 if nothing bounds them.
	RequestsPerCycle float64
	// TokensPerDay is the most that follows from RequestsPerCycle; 0 if nothing bounds it.
	TokensPerDay float64
}

// Cost returns what the endpoint's sweeps can cost.
func (e *Endpoint) Cost() Cost {
	s := e.Sweep
	c := Cost{
		Stages:           1,
		CyclesPerDay:     perDay(s.Plan(e.Name)),
		TokensPerRequest: s.PromptTokens.Mean + s.OutputTokens.Mean,
	}
	if every := e.Canary.Interval; every > 0 {
		c.CanariesPerDay = float64(24*time.Hour) / float64(every)
		c.CanaryTokens = c.CanariesPerDay * float64(e.Canary.PromptTokens.Mean+e.Canary.OutputTokens.Mean)
	}
	switch s.Profile {
	case probe.ProfileSweep:
		// The numbered stages rise evenly from above s to t: together N·s + (t−s)·(N+1)/2.
		n := float64(s.Rates)
		c.Stages = 2 + s.Rates
		c.Synchronous, c.Throughput = 1+(n-1)/2, 1+(n+1)/2
	case probe.ProfileSynchronous:
		c.Synchronous = 1
	case probe.ProfileThroughput:
		c.Throughput = 1
	default:
		c.Stages = len(s.Rate)
		for _, rate := range s.Rate {
			requests := rate * s.MaxDuration.Seconds()
			if s.MaxRequests > 0 {
				requests = min(requests, float64(s.MaxRequests))
			}
			c.RequestsPerCycle += requests
		}
	}
	c.LongestCycle = time.Duration(c.Stages) * s.MaxDuration
	if c.RequestsPerCycle == 0 {
		c.RequestsPerCycle = float64(c.Stages * s.MaxRequests)
	}
	c.TokensPerDay = c.RequestsPerCycle * float64(c.TokensPerRequest) * c.CyclesPerDay
	return c
}

// perDay returns how often a schedule comes due in a day, as the mean over four weeks.
func perDay(p schedule.Plan) float64 {
	if p.Cron == nil && p.Interval == 0 {
		return 0
	}
	if p.Cron == nil && len(p.Windows) == 0 {
		return float64(24*time.Hour) / float64(p.Interval)
	}
	const most = 10_000 // starts that are counted
	from := time.Date(2026, time.January, 5, 0, 0, 0, 0, time.UTC)
	to, starts := from.AddDate(0, 0, 28), 0
	last := from
	for next := p.Next(from); !next.IsZero() && next.Before(to) && starts < most; next = p.After(next) {
		starts, last = starts+1, next
	}
	if starts == most {
		to = last
	}
	return float64(starts) / to.Sub(from).Hours() * 24
}
