package sweep

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/inferprobe/inferprobe/internal/load"
	"github.com/inferprobe/inferprobe/internal/probe"
)

// oneByOne is n requests one after another; the i-th takes i+1 ms to its first token.
func oneByOne(n, tokens int) []*probe.Result {
	var results []*probe.Result
	var sent time.Duration
	for i := range n {
		r := answer{sent: sent, ttft: time.Duration(i+1) * milli, gap: 2 * milli, tokens: tokens}.result()
		sent += r.End
		results = append(results, r)
	}
	return results
}

func TestRequestSamples(t *testing.T) {
	results := oneByOne(3, 4)
	results[1].Outcome, results[1].Reason = probe.Failed, probe.ReasonTruncated
	results = append(results, answer{ttft: 9 * milli, tokens: 1}.result(),
		answer{ttft: 5 * milli, gap: milli, tokens: 9, cut: 8 * milli}.result())
	c, out := collect(results...), endedBy(load.EndedByDuration, time.Second)

	want := []probe.RequestSample{
		{TimeToFirstToken: 0.001, TimePerOutputToken: 0.002, Duration: 0.007},
		{TimeToFirstToken: 0.003, TimePerOutputToken: 0.002, Duration: 0.009},
		{TimeToFirstToken: 0.009, Duration: 0.009}, // one token has no time per output token
	}
	got := c.summarise(synchronousFor(time.Second), out, nil).Requests
	if diff := cmp.Diff(want, got, cmpopts.EquateApprox(1e-9, 0)); diff != "" {
		t.Errorf("completed requests in their order (-want +got):\n%s", diff)
	}
	for _, s := range []named{throughputFor(time.Second), constantAt(10, time.Second)} {
		if got := c.summarise(s, out, nil).Requests; got != nil {
			t.Errorf("a %s stage keeps %d requests", s.Profile, len(got))
		}
	}
	if got := collect().summarise(synchronousFor(time.Second), out, nil).Requests; got != nil {
		t.Errorf("a stage without requests keeps %v", got)
	}
}

// TestRequestSamplesAreUniform: of many requests the same number is kept, in order, from all parts of the stage.
func TestRequestSamplesAreUniform(t *testing.T) {
	const n = 20 * probe.MaxRequestSamples
	c := collect(oneByOne(n, 1)...)
	kept := c.summarise(synchronousFor(time.Hour), endedBy(load.EndedByDuration, time.Hour), nil).Requests
	if len(kept) != probe.MaxRequestSamples {
		t.Fatalf("%d requests are kept, want %d", len(kept), probe.MaxRequestSamples)
	}
	tenths := make([]int, 10)
	for i, r := range kept {
		place := int(math.Round(1000*r.TimeToFirstToken)) - 1
		tenths[10*place/n]++
		if i > 0 && kept[i-1].TimeToFirstToken >= r.TimeToFirstToken {
			t.Fatalf("sample %d is out of order", i)
		}
	}
	for i, count := range tenths { // 50 are expected, with a standard deviation of 6.5
		if count < 24 || count > 76 {
			t.Errorf("%d of the samples are of tenth %d of the stage, want about 50", count, i+1)
		}
	}
}

// closedLoop is so many places in each of which requests of different lengths and speeds follow one another.
func closedLoop(random *rand.Rand, places int, stage time.Duration, spread float64) []*probe.Result {
	var results []*probe.Result
	for range places {
		sent := time.Duration(random.Int64N(int64(time.Second)))
		for sent < stage {
			a := answer{sent: sent, cut: stage, ttft: 100 * milli, tokens: 10 + random.IntN(20)}
			a.gap = seconds(0.02 * math.Exp(spread*random.NormFloat64()))
			results = append(results, a.result())
			sent += a.ttft + time.Duration(a.tokens-1)*a.gap
		}
	}
	slices.SortFunc(results, func(a, b *probe.Result) int { return a.Sent.Add(a.End).Compare(b.Sent.Add(b.End)) })
	return results
}

// TestRateIntervalHolds plays throughput stages whose true rate is known to their end, which is where the rate seems to
// have settled, and counts how often the truth is inside.
func TestRateIntervalHolds(t *testing.T) {
	const runs = 120
	const least = 0.95 - 2*0.02 // two standard errors of the count
	equal := workload{asked: 30}
	short := workload{asked: 128, length: func(r *rand.Rand) float64 { return 32 * r.ExpFloat64() }}
	for _, test := range []struct {
		name     string
		workload workload
		places   int
		limit    time.Duration
	}{
		{"waves", equal, 64, 10 * time.Second},
		{"waves", equal, 64, usual},
		{"times differ, few at once", forcedNoisy, 8, 10 * time.Second},
		{"times differ, few at once", forcedNoisy, 8, 20 * time.Second},
		{"times differ, few at once", forcedNoisy, 8, usual},
		{"times differ", forcedNoisy, 64, usual},
		{"lengths differ", short, 64, 20 * time.Second},
		{"lengths differ", short, 64, usual},
		{"lengths differ much", exponential, 64, usual},
	} {
		random := rand.New(rand.NewPCG(8, uint64(test.limit)))
		rate := float64(test.places) / test.workload.meanDuration()
		var settled, inside int
		var width float64
		for range runs {
			_, s := test.workload.throughput(random, test.places, test.limit)
			i := s.RequestsInterval
			if i.IsZero() {
				continue
			}
			settled++
			if i.Low > s.RequestsPerSecond || i.High < s.RequestsPerSecond {
				t.Fatalf("the rate %v is not in its own interval %v", s.RequestsPerSecond, i)
			}
			if i.Low <= rate && rate <= i.High {
				inside++
			}
			width += (i.High - i.Low) / rate
		}
		share := float64(inside) / float64(settled)
		t.Logf("%s, %s: the true rate is inside in %.0f %% of the %d that settled, mean width %.1f %%", test.name, test.limit,
			100*share, settled, 100*width/float64(settled))
		if share < least || settled < runs*9/10 {
			t.Errorf("%s, %s: the true rate is inside in %.0f %% of the %d runs that settled", test.name, test.limit, 100*share,
				settled)
		}
	}
}

func TestNoRateIntervalWithoutRest(t *testing.T) {
	c := collect(waves(4, time.Second, answer{ttft: 100 * milli, gap: 5 * milli, tokens: 10})...)
	for name, s := range map[string]*settler{"not settled": {}, "no throughput stage": nil} {
		got := c.summarise(throughputFor(time.Second), endedBy(load.EndedByDuration, time.Second), s).RequestsInterval
		if !got.IsZero() {
			t.Errorf("%s: %v", name, got)
		}
	}
}
