package sweep

import (
	"fmt"
	"slices"
	"time"

	"github.com/inferprobe/inferprobe/internal/load"
	"github.com/inferprobe/inferprobe/internal/probe"
)

// Plan says what a cycle runs.
type Plan struct {
	Profile        probe.Profile
	Rates          int           // constant stages of a sweep
	RateList       []float64     // requests/s of the constant and poisson profiles, one stage each
	Arrival        probe.Profile // constant or poisson: the arrivals of a sweep's numbered stages
	MaxDuration    time.Duration // of each stage
	MaxRequests    int           // of each stage, 0 = no limit
	MaxConcurrency int           // requests in flight of the throughput stage
	MaxInFlight    int           // limit of requests in flight in an open loop
}

// StageNames returns every stage name that the plan can produce, for pre-creating series.
func (p Plan) StageNames() []string {
	switch p.Profile {
	case probe.ProfileSynchronous:
		return []string{probe.StageSynchronous}
	case probe.ProfileThroughput:
		return []string{probe.StageThroughput}
	case probe.ProfileSweep:
		names := []string{probe.StageSynchronous, probe.StageThroughput}
		return append(names, numbered(p.Rates)...)
	}
	return numbered(len(p.RateList))
}

// numbered returns the names constant-1 … constant-n.
func numbered(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("constant-%d", i+1)
	}
	return names
}

// named is a stage with its label.
type named struct {
	name string
	load.Stage
}

func (p Plan) synchronous() named {
	return named{probe.StageSynchronous, p.stage(probe.ProfileSynchronous, 0)}
}

func (p Plan) throughput() named {
	return named{probe.StageThroughput, p.stage(probe.ProfileThroughput, 0)}
}

// openLoop returns one stage for each rate.
func (p Plan) openLoop(profile probe.Profile, rates []float64) []named {
	stages := make([]named, len(rates))
	for i, name := range numbered(len(rates)) {
		stages[i] = named{name, p.stage(profile, rates[i])}
	}
	return stages
}

func (p Plan) stage(profile probe.Profile, rate float64) load.Stage {
	s := load.Stage{
		Profile:     profile,
		Rate:        rate,
		MaxDuration: p.MaxDuration,
		MaxRequests: p.MaxRequests,
		MaxInFlight: p.MaxInFlight,
	}
	if profile == probe.ProfileThroughput {
		s.MaxInFlight = min(p.MaxConcurrency, p.MaxInFlight)
	}
	return s
}

// concurrency returns how many requests the throughput stage has in flight, 0 if there is no such stage.
func (p Plan) concurrency() int {
	if !slices.Contains(p.StageNames(), probe.StageThroughput) {
		return 0
	}
	return p.throughput().MaxInFlight
}

// between returns n rates from above low to high, evenly spaced: linspace(low, high, n+1)[1:].
func between(low, high float64, n int) []float64 {
	rates := make([]float64, n)
	for i := range rates {
		rates[i] = low + (high-low)*float64(i+1)/float64(n)
	}
	return rates
}
