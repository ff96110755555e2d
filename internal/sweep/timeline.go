package sweep

import "time"

// binWidth is the resolution of a timeline: 120 s are 12,000 bins of 56 bytes.
const binWidth = 10 * time.Millisecond

// timeline holds, by time since the start of a stage, what arrived, what was done and what was in flight. Rates are
// taken from it over a window, so that ramp and cut-off need not be part of them. What happens within a bin is taken to
// be even over it, but for requests in flight, which are exact.
type timeline struct {
	bins []bin
}

type bin struct {
	tokens     float64 // output tokens that arrived
	served     float64 // requests' worth of them: a request that completed is one, spread over its tokens
	unfinished float64 // the same of incomplete requests, by the tokens that they asked for
	latency    float64 // seconds: sum of the requests that completed here
	busy       float64 // of requests that began or ended here: the share of the bin for which they were in flight
	began      int32   // requests in flight from the next bin on, less those that are no more
	completed  int32
}

// at returns the bin of an offset. Offsets before the start belong to the first.
func (t *timeline) at(offset time.Duration) *bin {
	i := max(0, int(offset/binWidth))
	for i >= len(t.bins) {
		t.bins = append(t.bins, bin{})
	}
	return &t.bins[i]
}

// begin adds a request in flight.
func (t *timeline) begin(offset time.Duration) {
	b := t.at(offset)
	b.began++
	b.busy += restOf(offset)
}

// end takes it away.
func (t *timeline) end(offset time.Duration) {
	b := t.at(offset)
	b.began--
	b.busy -= restOf(offset)
}

// restOf returns the share of its bin that lies behind an offset.
func restOf(offset time.Duration) float64 {
	return 1 - float64(max(0, offset)%binWidth)/float64(binWidth)
}

// sum adds up a value of the bins in [from, to); bins that lie in it with a part count with that part.
func (t *timeline) sum(from, to time.Duration, value func(*bin) float64) float64 {
	var sum float64
	t.each(from, to, func(b *bin, share float64) { sum += share * value(b) })
	return sum
}

// each visits every bin before to with the share of it that lies in [from, to).
func (t *timeline) each(from, to time.Duration, visit func(b *bin, share float64)) {
	from = max(0, from)
	if to <= from {
		return
	}
	t.at(to)
	for i := range int((to + binWidth - 1) / binWidth) {
		start := time.Duration(i) * binWidth
		share := min(to, start+binWidth) - max(from, start)
		visit(&t.bins[i], float64(max(0, share))/float64(binWidth))
	}
}

// tokens returns the output tokens that arrived in [from, to).
func (t *timeline) tokens(from, to time.Duration) float64 {
	return t.sum(from, to, func(b *bin) float64 { return b.tokens })
}

// served returns how many requests' worth of tokens arrived in [from, to). All the tokens that an incomplete request
// asked for are worth so many requests.
func (t *timeline) served(from, to time.Duration, worth float64) float64 {
	return t.sum(from, to, func(b *bin) float64 { return b.served + worth*b.unfinished })
}

// latency returns how many requests completed in [from, to) and the mean of their latencies in seconds.
func (t *timeline) latency(from, to time.Duration) (completed, mean float64) {
	completed = t.sum(from, to, func(b *bin) float64 { return float64(b.completed) })
	if completed == 0 {
		return 0, 0
	}
	return completed, t.sum(from, to, func(b *bin) float64 { return b.latency }) / completed
}

// inFlight returns the mean number of requests in flight over [from, to).
func (t *timeline) inFlight(from, to time.Duration) float64 {
	if to <= from {
		return 0
	}
	var now, sum float64
	t.each(from, to, func(b *bin, share float64) {
		sum += share * (now + b.busy)
		now += float64(b.began)
	})
	return sum * float64(binWidth) / float64(to-max(0, from))
}
