package sweep

import (
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/inferprobe/inferprobe/internal/probe"
)

const (
	// saturationShare of a stage passes before it is judged: 30 s of the usual 120 s.
	saturationShare = 4
	saturationBins  = 480 // of a whole stage
	saturationParts = 4   // of the time that is looked at, through which both must rise
	// saturationTTFT is how much longer first tokens must take in the last part than in the first.
	saturationTTFT = 1.5
	// saturationGrowth is the least share of the requests sent that must have piled up.
	saturationGrowth = 0.08
	// saturationFinished is the least number of first tokens in a part.
	saturationFinished = 5
	// Requests pile up by chance, too, by about the square root of those sent: so many times this must be exceeded. With
	// even arrivals, chance is in the lengths of answers only. Of 18,000 simulated stages with up to 98 % of what a
	// server can bear none was ended; at 120 % of 16 requests/s all are, after a minute, at 150 % after 30 s.
	chanceConstant, chancePoisson = 4, 5
)

// saturation sees an open loop ask for more than the endpoint can bear: requests in flight and time to first token both
// rise steadily, past the ramp and by more than chance and waves of equal requests explain. What follows in such a
// stage says how long it lasts, nothing about the endpoint.
type saturation struct {
	started  time.Time
	limit    time.Duration
	rate     float64 // requests/s that are sent
	chance   float64
	inFlight func() int64
	// turnover is the time in which requests in flight renew themselves without a queue.
	turnover func() (completed int, period time.Duration)

	mu     sync.Mutex
	bins   []saturationBin
	judged int // bins, when last judged
}

// saturationBin is what happened in one part of a stage in saturationBins.
type saturationBin struct {
	looks, inFlight float64 // sum over looks
	first, ttft     float64 // first tokens of requests that ended, and the sum of the times to them in seconds
}

func newSaturation(s named, started time.Time) *saturation {
	sat := &saturation{started: started, limit: max(1, s.MaxDuration), rate: s.Rate, chance: chanceConstant}
	if s.Profile == probe.ProfilePoisson {
		sat.chance = chancePoisson
	}
	return sat
}

// record takes in a request that ended.
func (s *saturation) record(r *probe.Result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ttft, ok := r.TimeToFirstToken(); ok {
		if b := s.at(r.Sent.Add(r.End)); b != nil {
			b.first++
			b.ttft += ttft.Seconds()
		}
	}
}

// at returns the bin of a time, nil outside of the stage.
func (s *saturation) at(t time.Time) *saturationBin {
	i := int(t.Sub(s.started) * saturationBins / s.limit)
	if i < 0 || i > saturationBins {
		return nil
	}
	for len(s.bins) <= i {
		s.bins = append(s.bins, saturationBin{})
	}
	return &s.bins[i]
}

// check looks at the requests in flight and returns why the stage should end, or "". It may be called as often as one
// likes.
func (s *saturation) check(now time.Time) (reason, detail string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.at(now)
	if b == nil {
		return "", ""
	}
	b.looks++
	b.inFlight += float64(s.inFlight())
	n := len(s.bins) - 1 // that are over
	if n == s.judged || n < saturationBins/saturationShare {
		return "", ""
	}
	s.judged = n
	return s.judge(n)
}

// judge looks at the last two thirds of the first n bins.
func (s *saturation) judge(n int) (reason, detail string) {
	from := n / 3
	completed, period := s.turnover()
	part := (n - from) / saturationParts
	binWidth := s.limit / saturationBins
	if completed == 0 || time.Duration(min(part, from))*binWidth < period { // the ramp, and waves
		return "", ""
	}
	var flying, ttft [saturationParts]float64
	for i := range saturationParts {
		var sum saturationBin
		for _, b := range s.bins[from+i*part : from+(i+1)*part] {
			sum.looks += b.looks
			sum.inFlight += b.inFlight
			sum.first += b.first
			sum.ttft += b.ttft
		}
		if sum.first < saturationFinished || sum.looks == 0 {
			return "", ""
		}
		flying[i], ttft[i] = sum.inFlight/sum.looks, sum.ttft/sum.first
		if i > 0 && (flying[i] <= flying[i-1] || ttft[i] <= ttft[i-1]) { //nolint:gosec // i-1 is within both
			return "", ""
		}
	}
	const last = saturationParts - 1
	between := time.Duration(last*part) * binWidth // the middles of the first part and the last
	sent := s.rate * between.Seconds()
	piled := flying[last] - flying[0]
	if piled < max(saturationGrowth*sent, s.chance*math.Sqrt(sent)) || ttft[last] < saturationTTFT*ttft[0] {
		return "", ""
	}
	return skipSaturated, fmt.Sprintf("requests in flight rose from %.1f to %.1f and time to first token from %s to %s",
		flying[0], flying[last], round(seconds(ttft[0])), round(seconds(ttft[last])))
}
