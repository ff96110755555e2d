package load

import (
	"math"
	"math/rand/v2"
	"time"
)

// Arrivals is an arrival process: each call returns the next request's due time as an offset from the start of the
// stage. Offsets are absolute, so that a late send never moves the ones after it.
type Arrivals func() time.Duration

// Constant spaces requests evenly: request i is due at i/rate. The rate is in requests per second.
func Constant(rate float64) Arrivals {
	i := -1.0
	return func() time.Duration {
		i++
		return seconds(i / rate)
	}
}

// Poisson draws independent exponential gaps with mean 1/rate, reproducible by seed.
func Poisson(rate float64, seed uint64) Arrivals {
	rng := rand.New(rand.NewPCG(seed, 0x9e3779b97f4a7c15))
	var at float64
	return func() time.Duration {
		at += rng.ExpFloat64() / rate
		return seconds(at)
	}
}

// seconds converts without overflow: a rate close to zero puts the next request beyond any stage.
func seconds(s float64) time.Duration {
	const longest = 1 << 62
	if ns := s * 1e9; ns < longest {
		return time.Duration(math.Round(ns))
	}
	return longest
}
