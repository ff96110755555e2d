package sweep

import (
	"time"
)

// binWidth is the resolution of a timeline: 120 s are 12,000 bins.
const binWidth = 10 * time.Millisecond

// timeline counts, by time since the start of a stage, the tokens that arrived and the requests that began and ended.
// Rates are taken from it over a window, so that ramp and cut-off need not be part of them.
type timeline struct {
	bins []bin
}

type bin struct {
	tokens        float64
	began, closed int32
	completed     int32
	latency       float64 // sum over completed, seconds
}

func (t *timeline) at(offset time.Duration) *bin {
	i := max(0, int(offset/binWidth))
	for i >= len(t.bins) {
		t.bins = append(t.bins, bin{})
	}
	return &t.bins[i]
}

// tokens returns the tokens that arrived in [from, to).
func (t *timeline) tokens(from, to time.Duration) float64 {
	var sum float64
	for i := t.clamp(from); i < t.clamp(to); i++ {
		sum += t.bins[i].tokens
	}
	return sum
}

// latency returns how many requests completed in [from, to) and the mean of their latencies in seconds.
func (t *timeline) latency(from, to time.Duration) (completed int, mean float64) {
	for i := t.clamp(from); i < t.clamp(to); i++ {
		completed += int(t.bins[i].completed)
		mean += t.bins[i].latency
	}
	return completed, mean / float64(max(1, completed))
}

// inFlight returns the mean number of requests in flight over [from, to).
func (t *timeline) inFlight(from, to time.Duration) float64 {
	first, last := t.clamp(from), t.clamp(to)
	if last <= first {
		return 0
	}
	var now, sum float64
	for i := range last {
		now += float64(t.bins[i].began)
		if i >= first {
			sum += now
		}
		now -= float64(t.bins[i].closed)
	}
	return sum / float64(last-first)
}

func (t *timeline) clamp(offset time.Duration) int {
	return min(max(0, int((offset+binWidth-1)/binWidth)), len(t.bins))
}
