package sweep

import (
	"time"

	"github.com/inferprobe/inferprobe/internal/probe"
)

// mostParts is into how many parts of a stage, in the order in which its requests completed, what exceeds a limit is
// counted at most: half as many there are at least, of which the spread of a share is known to a fifth.
const mostParts = 40

// excess counts what exceeds the limit of a 90th percentile.
type excess struct {
	limit    time.Duration // 0 = none
	requests int
	each     int // requests of a part
	parts    []part
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
	e.requests++
}

// open begins a part. When there are too many of them two become one.
func (e *excess) open() {
	e.each = max(1, e.each)
	if len(e.parts) == mostParts {
		for i := range mostParts / 2 {
			a, b := e.parts[2*i], e.parts[2*i+1]
			e.parts[i] = part{a.requests + b.requests, a.above + b.above, a.all + b.all}
		}
		e.parts, e.each = e.parts[:mostParts/2], 2*e.each
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

// result returns the share above the limit, and the effective size of the sample: how many independent observations
// would make that share as uncertain as the differences between the parts say it is (the ratio estimator of cluster
// sampling; Cochran, Sampling Techniques, 3rd edition 1977, 6.4 and 9A.1).
func (e *excess) result() probe.Excess {
	var above, all float64
	for _, p := range e.parts {
		above += p.above
		all += p.all
	}
	if all == 0 {
		return probe.Excess{}
	}
	share, n := above/all, float64(len(e.parts))
	var squares float64
	for _, p := range e.parts {
		d := p.above - share*p.all
		squares += d * d
	}
	x := probe.Excess{Share: share, Samples: e.requests}
	if variance := squares * n / (n - 1) / (all * all); n > 1 && variance > 0 {
		x.Samples = min(x.Samples, int(share*(1-share)/variance))
	}
	return x
}
