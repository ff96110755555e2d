package sweep

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/inferprobe/inferprobe/internal/load"
	"github.com/inferprobe/inferprobe/internal/probe"
)

// slowness makes the latencies of the requests of a stage one after another, of which a share is above the limit of 1 s
// in the long run.
type slowness struct {
	share  float64
	memory float64 // correlation of a request with the one before
	gaps   int     // of a request …
	alike  float64 // … and their correlation
}

// requests returns the latencies of n requests: standard normal numbers of such correlations, moved to where the share
// is right.
func (s slowness) requests(random *rand.Rand, n int) [][]time.Duration {
	mix := func(correlation, a, b float64) float64 {
		return correlation*a + math.Sqrt(1-correlation*correlation)*b
	}
	limit := math.Sqrt2 * math.Erfinv(1-2*s.share)
	all, last := make([][]time.Duration, n), random.NormFloat64()
	for i := range all {
		last = mix(s.memory, last, random.NormFloat64())
		for range s.gaps {
			x := mix(math.Sqrt(s.alike), last, random.NormFloat64())
			all[i] = append(all[i], time.Second+seconds((x-limit)/100))
		}
	}
	return all
}

// TestViolatedBeyondChance: an endpoint that keeps its 90th percentile, if only just, is not called one that violates it
// more often than the test says, and one that clearly does not is.
func TestViolatedBeyondChance(t *testing.T) {
	const stages = 400
	objectives := probe.Objectives{InterTokenLatencyP90: time.Second}
	for name, test := range map[string]struct {
		slowness
		requests    int
		least, most float64 // shares of the stages that are called violated
	}{
		"requests on the limit":                      {slowness{0.10, 0, 1, 1}, 100, 0, 0.04},
		"many on the limit":                          {slowness{0.10, 0, 1, 1}, 5000, 0, 0.04},
		"few on the limit":                           {slowness{0.10, 0, 1, 1}, 12, 0, 0.04},
		"a little below":                             {slowness{0.09, 0, 1, 1}, 300, 0, 0.02},
		"gaps that are alike in a request":           {slowness{0.10, 0, 50, 0.8}, 100, 0, 0.04},
		"gaps that have nothing in common":           {slowness{0.10, 0, 50, 0}, 100, 0, 0.04},
		"requests that are slow together":            {slowness{0.10, 0.8, 1, 1}, 2000, 0, 0.06},
		"36 requests, of which neighbours are alike": {slowness{0.10, 0.5, 1, 1}, 36, 0, 0.08},
		"100, of which neighbours are alike":         {slowness{0.10, 0.5, 1, 1}, 100, 0, 0.06},
		"36 requests that are slow together":         {slowness{0.10, 0.8, 1, 1}, 36, 0, 0.14},
		"100 requests that are slow together":        {slowness{0.10, 0.8, 1, 1}, 100, 0, 0.06},
		"300 requests that are slow together":        {slowness{0.10, 0.8, 1, 1}, 300, 0, 0.06},
		"gaps that are slow together":                {slowness{0.10, 0.8, 20, 0.8}, 2000, 0, 0.06},
		"twice as many slow requests":                {slowness{0.20, 0, 1, 1}, 300, 0.9, 1},
		"twice as many slow gaps":                    {slowness{0.20, 0, 50, 0.2}, 300, 0.9, 1},
		"all are slow":                               {slowness{0.9999, 0, 1, 1}, 3, 0.99, 1},
		"twice as many, slow at certain times":       {slowness{0.20, 0.8, 1, 1}, 5000, 0.9, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(1, 2))
			var violated float64
			for range stages {
				e := excess{limit: objectives.InterTokenLatencyP90}
				for _, gaps := range test.slowness.requests(random, test.requests) {
					e.of(func(yield func(time.Duration, int) bool) {
						for _, gap := range gaps {
							yield(gap, 1)
						}
					})
				}
				s := probe.Stage{Completed: test.requests, InterTokenLatencyExcess: e.result()}
				if s.InterTokenLatencyExcess.Share > 0.1 {
					s.InterTokenLatency = probe.Distribution{Count: test.requests, P90: 2}
				}
				if verdict, _ := s.Judge(objectives); verdict == probe.Violated {
					violated += 1.0 / stages
				}
			}
			t.Logf("violated in %.3f of the stages", violated)
			if violated < test.least || violated > test.most {
				t.Errorf("violated in %.3f of the stages, want %g to %g", violated, test.least, test.most)
			}
		})
	}
}

func TestExcess(t *testing.T) {
	if got := (&excess{}).result(); got != (probe.Excess{}) {
		t.Errorf("of no requests: %+v", got)
	}
	e := excess{limit: time.Second}
	const requests, each = 1000, 3
	for i := range requests { // every fifth is slow, so that all parts are alike
		e.of(func(yield func(time.Duration, int) bool) {
			yield(time.Second+time.Duration(i%5/4), each)
		})
	}
	if got, want := e.result(), (probe.Excess{Share: 0.2, Samples: requests}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	var counted int
	for _, p := range e.parts {
		counted += p.requests
	}
	if counted != requests || len(e.parts) < mostParts/2 || len(e.parts) > mostParts {
		t.Errorf("%d requests in %d parts", counted, len(e.parts))
	}
	regular := excess{limit: time.Second}
	for range requests { // parts that differ by rounding only
		regular.of(func(yield func(time.Duration, int) bool) {
			_ = yield(2*time.Second, 15) && yield(0, 7)
		})
	}
	if got := regular.result(); got.Samples != requests {
		t.Errorf("of answers that are all alike: %+v", got)
	}
	none := excess{}
	none.of(one(func() (time.Duration, bool) { return time.Hour, true }))
	if got := none.result(); got != (probe.Excess{}) {
		t.Errorf("without a limit: %+v", got)
	}
}

// TestExcessOfAStage: each objective's limit is held against what it is for.
func TestExcessOfAStage(t *testing.T) {
	c := newCollector(epoch, probe.Objectives{
		TimeToFirstTokenP90: 100 * milli, InterTokenLatencyP90: 15 * milli, RequestDurationP90: 200 * milli,
	})
	for i := range 10 {
		a := answer{sent: time.Duration(i) * time.Second, ttft: 80 * milli, gap: 10 * milli, tokens: 4}
		switch {
		case i < 1:
			a.ttft = 120 * milli
		case i < 4:
			a.gap = 20 * milli
		case i < 6:
			a.tokens = 20
		}
		c.Record(a.result())
	}
	s := c.summarise(constantAt(1, 10*time.Second), endedBy(load.EndedByDuration, 10*time.Second), nil)
	for name, test := range map[string]struct{ got, want float64 }{
		"first token": {s.TimeToFirstTokenExcess.Share, 0.1},
		"gaps":        {s.InterTokenLatencyExcess.Share, 9.0 / (9 + 15 + 38)},
		"duration":    {s.RequestDurationExcess.Share, 0.2},
	} {
		if math.Abs(test.got-test.want) > 1e-9 {
			t.Errorf("%s: %g of all are above the limit, want %g", name, test.got, test.want)
		}
	}
}
