package sweep

import (
	"slices"
	"time"

	"github.com/inferprobe/inferprobe/internal/probe"
)

// mostParts is into how many parts of a stage, in the order in which its requests completed, what exceeds a limit is
// counted at most: half as many there are at least, of which the spread of a share is known to a fifth.
const mostParts = 40

// excess counts what exceeds the limit of a 90th percentile.
type excess struct {
	limit time.Duration // 0 = none
	each  int           // requests of a part
	parts []part
}

type part struct {
	requests   int
	above, all float64 // observations
}

// add takes a completed request, of which so many of all observations are above the limit.
func (e *excess) add(above, all int) {
	if len(e.parts) == 0 || e.parts[len(e.parts)-1].requests == e.each {
		e.open()
	}
	last := &e.parts[len(e.parts)-1]
	last.requests++
	last.above += float64(above)
	last.all += float64(all)
}

// open begins a part. When there are too many of them two become one.
func (e *excess) open() {
	e.each = max(1, e.each)
	if len(e.parts) == mostParts {
		e.parts, e.each = inPairs(e.parts), 2*e.each
	}
	e.parts = append(e.parts, part{})
}

// of counts the durations of a request.
func (e *excess) of(durations func(yield func(d time.Duration, n int) bool)) {
	if e.limit == 0 {
		return
	}
	var above, all int
	for d, n := range durations {
		if all += n; d > e.limit {
			above += n
		}
	}
	if all > 0 {
		e.add(above, all)
	}
}

// one is of a single duration.
func one(get func() (time.Duration, bool)) func(yield func(d time.Duration, n int) bool) {
	return func(yield func(d time.Duration, n int) bool) {
		if d, ok := get(); ok {
			yield(d, 1)
		}
	}
}

// leastParts is of how many parts the spread of a share is known well enough to count.
const leastParts = 8

// result returns the share above the limit, and the effective size of the sample: how many independent observations
// would make that share as uncertain as the differences between the parts say it is, at the length of parts at which
// they differ most. Where slow requests come together, short parts do not see it.
func (e *excess) result() probe.Excess {
	var requests int
	var above, all float64
	for _, p := range e.parts {
		requests += p.requests
		above += p.above
		all += p.all
	}
	if all == 0 {
		return probe.Excess{}
	}
	share, samples := above/all, float64(requests)
	for parts := e.parts; ; parts = inPairs(parts) {
		if variance := varianceOf(share, parts); variance > 0 {
			samples = min(samples, share*(1-share)/variance)
		}
		if len(parts) < 2*leastParts {
			return probe.Excess{Share: share, Samples: int(samples)}
		}
	}
}

// varianceOf returns that of the share of all parts, by the ratio estimator of cluster sampling (Cochran, Sampling
// Techniques, 3rd edition 1977, 6.4 and 9A.1), or 0 if there is but one.
func varianceOf(share float64, parts []part) float64 {
	var squares, all float64
	for _, p := range parts {
		d := p.above - share*p.all
		squares += d * d
		all += p.all
	}
	n := float64(len(parts))
	if n < 2 {
		return 0
	}
	return squares * n / (n - 1) / (all * all)
}

// inPairs returns parts of twice the length.
func inPairs(parts []part) []part {
	pairs := make([]part, 0, (len(parts)+1)/2)
	for pair := range slices.Chunk(parts, 2) {
		var sum part
		for _, p := range pair {
			sum.requests += p.requests
			sum.above += p.above
			sum.all += p.all
		}
		pairs = append(pairs, sum)
	}
	return pairs
}
