package sweep

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/inferprobe/inferprobe/internal/load"
	"github.com/inferprobe/inferprobe/internal/probe"
)

// workload makes answers, each with a speed and a length of its own.
type workload struct {
	asked  int
	length func(*rand.Rand) float64 // tokens; cut off at those asked for
	spread float64                  // of the logarithm of the time between tokens, 40 ms on average
}

// Workloads of known truth: the lengths of answers are forced, or end where the text does.
var (
	forcedLengths = workload{asked: 128}
	forcedNoisy   = workload{asked: 30, spread: 0.2}
	exponential   = workload{asked: 512, length: func(r *rand.Rand) float64 { return 128 * r.ExpFloat64() }}
	logNormal     = workload{asked: 512, length: func(r *rand.Rand) float64 { return 200 * math.Exp(r.NormFloat64()/2-0.125) }}
)

func (w workload) answer(r *rand.Rand) answer {
	a := answer{ttft: seconds(0.15 + 0.1*r.Float64()), asked: w.asked, tokens: w.asked}
	a.gap = seconds(0.04 * math.Exp(w.spread*r.NormFloat64()-w.spread*w.spread/2))
	if w.length != nil {
		a.tokens = max(1, min(w.asked, int(math.Ceil(w.length(r)))))
	}
	return a
}

func (a answer) duration() time.Duration { return a.ttft + time.Duration(a.tokens-1)*a.gap }

// meanDuration returns the true mean of the durations, in seconds.
func (w workload) meanDuration() float64 {
	const n = 100_000
	random, sum := rand.New(rand.NewPCG(1, 1)), 0.0
	for range n {
		sum += w.answer(random).duration().Seconds() / n
	}
	return sum
}

// throughput plays so many requests at a time to a collector and a settler until the rate has settled, as a throughput
// stage does.
func (w workload) throughput(random *rand.Rand, places int, limit time.Duration) (*collector, probe.Stage) {
	const tick = 10 * milli
	c, came, total := newCollector(epoch, probe.Objectives{}), make([]int64, limit/tick+1), int64(0)
	s := &settler{
		limit: limit, concurrency: places, started: epoch, turnover: c.turnover, events: func() int64 { return total },
	}
	send := func(at time.Duration) answer {
		a := w.answer(random)
		a.sent = at
		for i := range a.tokens {
			if t := int((at + a.ttft + time.Duration(i)*a.gap) / tick); t < len(came) {
				came[t]++
			}
		}
		return a
	}
	flying := make([]answer, places)
	for i := range flying {
		flying[i] = send(0)
	}
	out := endedBy(load.EndedByDuration, limit)
	for now := time.Duration(0); now < limit && !s.settled; now += tick {
		for i := range flying {
			if end := flying[i].sent + flying[i].duration(); end <= now {
				c.Record(flying[i].result())
				flying[i] = send(end)
			}
		}
		if s.check(epoch.Add(now)) {
			out = endedBy(load.EndedByStop, now)
		}
		total += came[now/tick]
	}
	c.now = func() time.Time { return out.Ended }
	for _, a := range flying {
		a.cut = out.Ended.Sub(epoch)
		c.Record(a.result())
	}
	stage := throughputFor(limit)
	stage.MaxInFlight = places
	return c, c.summarise(stage, out, s)
}

// constant plays requests at an even rate, all of which the endpoint bears.
func (w workload) constant(random *rand.Rand, rate float64, limit time.Duration) (*collector, probe.Stage) {
	c := newCollector(epoch, probe.Objectives{})
	c.now = func() time.Time { return epoch.Add(limit) }
	for i := 0; seconds(float64(i)/rate) < limit; i++ {
		a := w.answer(random)
		a.sent, a.cut = seconds(float64(i)/rate), limit
		c.Record(a.result())
	}
	return c, c.summarise(constantAt(rate, limit), endedBy(load.EndedByDuration, limit), nil)
}

// TestRatesOfUnforcedLengths: the short answers are done first, and what completed within a stage is no measure of those
// that it cuts off.
func TestRatesOfUnforcedLengths(t *testing.T) {
	const runs, places, rate = 25, 64, 4
	for _, test := range []struct {
		name       string
		workload   workload
		throughput float64 // how far the mean of the runs may be off
		constant   map[time.Duration]float64
	}{
		{"exponential", exponential, 0.03, map[time.Duration]float64{20: 0.04, 60: 0.01, 120: 0.005}},
		{"log-normal", logNormal, 0.03, map[time.Duration]float64{20: 0.04, 60: 0.01, 120: 0.005}},
		{"forced", forcedLengths, 0.007, map[time.Duration]float64{20: 0.002, 60: 0.001, 120: 0.001}},
	} {
		truth := places / test.workload.meanDuration()
		for limit, constant := range test.constant {
			random := rand.New(rand.NewPCG(6, uint64(limit)))
			var closed, open float64
			for range runs {
				_, s := test.workload.throughput(random, places, limit*time.Second)
				closed += s.RequestsPerSecond / truth / runs
				_, s = test.workload.constant(random, rate, limit*time.Second)
				open += s.RequestsPerSecond / rate / runs
			}
			t.Logf("%s, %d s: throughput %.3f of the truth, constant %.3f", test.name, limit, closed, open)
			if math.Abs(closed-1) > test.throughput || math.Abs(open-1) > constant {
				t.Errorf("%s, %d s: throughput is %.3f of the truth, constant %.3f", test.name, limit, closed, open)
			}
		}
	}
}

// TestLossIsFound: where the end of a stage cuts off so many of the long requests that latencies are too low by more
// than 5 %, it says so, and how long they really take; a throughput stage does so without being invalid.
func TestLossIsFound(t *testing.T) {
	const runs = 10
	for _, test := range []struct {
		name     string
		workload workload
		rate     float64 // 0: throughput, of 64 at a time
		limit    time.Duration
		least    int // stages in which it is found
		most     int
	}{
		{"exponential, a short stage", exponential, 4, 20 * time.Second, runs - 1, runs},
		{"exponential, 9 % in one of a minute", exponential, 20, time.Minute, runs - 1, runs},
		{"exponential, 4 % in the usual one", exponential, 20, usual, 0, 1},
		{"log-normal, a short stage", logNormal, 20, 20 * time.Second, runs - 1, runs},
		{"log-normal, 2 % in the usual one", logNormal, 20, usual, 0, 0},
		{"exponential, throughput", exponential, 0, usual, runs - 1, runs},
		{"forced", forcedLengths, 20, 20 * time.Second, 0, 0},
		{"forced, times differ", forcedNoisy, 20, 10 * time.Second, 0, 0},
		{"forced, throughput", forcedLengths, 0, time.Minute, 0, 0},
		{"forced, throughput, times differ", forcedNoisy, 0, 10 * time.Second, 0, 0},
	} {
		random, found, mean := rand.New(rand.NewPCG(7, 7)), 0, 0.0
		for range runs {
			play := test.workload.constant
			if test.rate == 0 {
				play = func(random *rand.Rand, _ float64, limit time.Duration) (*collector, probe.Stage) {
					return test.workload.throughput(random, 64, limit)
				}
			}
			c, s := play(random, test.rate, test.limit)
			s.Findings = c.judge(&s, measurement{})
			if has(&s, probe.FindingCensored) {
				found++
			}
			mean += c.durations().Mean() / runs
			if test.rate == 0 && !s.Valid() {
				t.Errorf("%s: invalid: %v", test.name, s.Findings)
			}
		}
		truth := test.workload.meanDuration()
		t.Logf("%s: found in %d of %d, mean duration %.3f of the truth", test.name, found, runs, mean/truth)
		if found < test.least || found > test.most {
			t.Errorf("%s: found in %d of %d, want %d to %d", test.name, found, runs, test.least, test.most)
		}
		if math.Abs(mean/truth-1) > 0.05 {
			t.Errorf("%s: the mean duration is estimated as %.2f s, it is %.2f s", test.name, mean, truth)
		}
	}
}
