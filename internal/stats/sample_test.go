package stats

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// quantile is type 7 as its definition says, over sorted values.
func quantile(sorted []float64, p float64) float64 {
	h := p * float64(len(sorted)-1)
	i := int(math.Floor(h))
	if i+1 >= len(sorted) {
		return sorted[len(sorted)-1]
	}
	return sorted[i] + (h-float64(i))*(sorted[i+1]-sorted[i])
}

func near(a, b, relative float64) bool {
	return a == b || math.Abs(a-b) <= relative*max(math.Abs(a), math.Abs(b))
}

var quantiles = []float64{0, 0.01, 0.05, 0.10, 0.25, 0.50, 0.75, 0.90, 0.95, 0.99, 0.999, 1}

func TestQuantileKnownValues(t *testing.T) {
	// Computed with numpy.percentile.
	var s Sample
	for _, v := range []float64{15, 20, 35, 40, 50} {
		s.Add(v)
	}
	for p, want := range map[float64]float64{
		-1: 15, 0: 15, 0.05: 16, 0.25: 20, 0.40: 29, 0.5: 35, 0.9: 46, 1: 50, 2: 50,
	} {
		if got := s.Quantile(p); !near(got, want, 1e-15) {
			t.Errorf("Quantile(%v) = %v, want %v", p, got, want)
		}
	}
}

// exact reports whether every observation is kept.
func (s *Sample) exact() bool { return s.hist == nil }

func TestEmpty(t *testing.T) {
	var s Sample
	s.Add(math.NaN())
	s.Add(math.Inf(1))
	s.AddN(math.Inf(-1), 3)
	s.AddN(1, 0)
	s.AddN(1, -1)
	s.Merge(&Sample{})
	if s.Count() != 0 || s.Sum() != 0 || !s.exact() {
		t.Errorf("count %d, sum %v, exact %v", s.Count(), s.Sum(), s.exact())
	}
	for name, v := range map[string]float64{
		"Mean": s.Mean(), "Min": s.Min(), "Max": s.Max(), "Quantile": s.Quantile(0.5),
	} {
		if !math.IsNaN(v) {
			t.Errorf("%s of nothing = %v, want NaN", name, v)
		}
	}
	s.Add(1)
	if v := s.Quantile(math.NaN()); !math.IsNaN(v) {
		t.Errorf("Quantile(NaN) = %v", v)
	}
}

// TestAgainstSort compares a sample, put together from parts in every way the API offers, with the plain definition.
func TestAgainstSort(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		value := rapid.OneOf(rapid.Float64Range(-1e6, 1e6), rapid.SampledFrom([]float64{0, 1, 128, 512}))
		var naive []float64
		parts := make([]Sample, rapid.IntRange(1, 3).Draw(t, "parts"))
		for i := range parts {
			for range rapid.IntRange(0, 40).Draw(t, "values") {
				v, n := value.Draw(t, "v"), rapid.IntRange(1, 4).Draw(t, "n")
				parts[i].AddN(v, n)
				naive = append(naive, slices.Repeat([]float64{v}, n)...)
			}
			parts[i].Quantile(0.5) // sorts: adding afterwards must still work
		}
		s := &parts[0]
		for i := range parts[1:] {
			s.Merge(&parts[i+1])
		}
		compare(t, s, naive, 1e-12)
	})
}

type fataler interface{ Fatalf(string, ...any) }

func compare(t fataler, s *Sample, naive []float64, tolerance float64) {
	if s.Count() != len(naive) {
		t.Fatalf("Count = %d, want %d", s.Count(), len(naive))
	}
	if len(naive) == 0 {
		return
	}
	slices.Sort(naive)
	var sum float64
	for _, v := range naive {
		sum += v
	}
	scale := max(math.Abs(naive[0]), math.Abs(naive[len(naive)-1]))
	if math.Abs(s.Sum()-sum) > 1e-12*scale*float64(len(naive)) {
		t.Fatalf("Sum = %v, want %v", s.Sum(), sum)
	}
	if s.Min() != naive[0] || s.Max() != naive[len(naive)-1] {
		t.Fatalf("Min, Max = %v, %v, want %v, %v", s.Min(), s.Max(), naive[0], naive[len(naive)-1])
	}
	for _, p := range quantiles {
		h := p * float64(len(naive)-1)
		a, b := naive[int(h)], naive[min(int(h)+1, len(naive)-1)]
		got, want := s.Quantile(p), quantile(naive, p)
		if math.Abs(got-want) > tolerance*max(math.Abs(a), math.Abs(b))+1e-300 {
			t.Fatalf("Quantile(%v) of %d values = %v, want %v", p, len(naive), got, want)
		}
	}
}

// TestHistogramRegime checks the promise of 0.1 % over signs and twelve orders of magnitude, past the exact limit.
func TestHistogramRegime(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	draws := map[string]func() float64{
		"log-normal":  func() float64 { return 0.05 * math.Exp(random.NormFloat64()) },
		"both signs":  func() float64 { return random.NormFloat64() * 1e-3 },
		"wide":        func() float64 { return math.Pow(10, random.Float64()*12-6) },
		"many zeros":  func() float64 { return max(0, random.NormFloat64()) },
		"subnormal":   func() float64 { return random.Float64() * 0x1p-1030 },
		"uniform 1-2": func() float64 { return 1 + random.Float64() },
	}
	for name, draw := range draws {
		t.Run(name, func(t *testing.T) {
			var s, s2, other Sample // s2 is all of it once more
			naive := make([]float64, 3*ExactLimit)
			for i := range naive {
				naive[i] = draw()
				s2.Add(naive[i])
				if i%3 == 0 {
					other.Add(naive[i]) // stays exact: merging crosses the regimes
				} else {
					s.Add(naive[i])
				}
			}
			if s.exact() || !other.exact() {
				t.Fatalf("exact: %v and %v, want false and true", s.exact(), other.exact())
			}
			s.Merge(&other)
			compare(t, &s, naive, 0.001)
			s.Merge(&s2)
			compare(t, &s, append(naive, naive...), 0.001)
			other.Merge(&s) // the exact one takes over the other's histogram
			if other.exact() || other.Count() != 7*ExactLimit {
				t.Errorf("exact %v with %d", other.exact(), other.Count())
			}
		})
	}
}

// TestBuckets checks each bucket's own error, and that buckets rise with their values.
func TestBuckets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := rapid.Float64().Draw(t, "v")
		page, bucket := bucketOf(v)
		if m := middleOf(page, bucket); math.Abs(v) >= 0x1p-1022 && !near(m, v, 0x1p-10) {
			t.Fatalf("%v stands for %v", m, v)
		}
		if p, b := bucketOf(math.Nextafter(v, math.Inf(1))); p < page || p == page && b < bucket {
			t.Fatalf("the bucket after that of %v lies below it", v)
		}
	})
}

// TestFewValuesStayExact: token counts must read 512.0, not 512.5, after hours.
func TestFewValuesStayExact(t *testing.T) {
	var s Sample
	for i := range 20 * ExactLimit {
		s.Add(float64(512 + i%3))
	}
	if !s.exact() || s.Quantile(0.1) != 512 || s.Quantile(0.5) != 513 || s.Quantile(0.9) != 514 {
		t.Errorf("exact %v, quantiles %v %v %v", s.exact(), s.Quantile(0.1), s.Quantile(0.5), s.Quantile(0.9))
	}
}

// TestJoinedRunsAreSortedAgain adds a value that lies below others just after equal values were joined.
func TestJoinedRunsAreSortedAgain(t *testing.T) {
	var s Sample
	for i := range ExactLimit {
		s.Add(float64(1 + i%2))
	}
	s.AddN(1.5, 3*ExactLimit)
	if q := s.Quantile(0.2); q != 1.5 {
		t.Errorf("Quantile(0.2) = %v, want 1.5", q)
	}
}

func TestSumDoesNotDrift(t *testing.T) {
	var s Sample
	for range 1_000_000 {
		s.Add(0.1)
	}
	if s.Sum() != 1e5 || s.Mean() != 0.1 {
		t.Errorf("sum %v, mean %v", s.Sum(), s.Mean())
	}
}

func TestReset(t *testing.T) {
	var s Sample
	for i := range 2 * ExactLimit {
		s.Add(float64(i))
	}
	s.Add(math.NaN())
	s.Reset()
	if s.Count() != 0 || !s.exact() {
		t.Errorf("count %d, exact %v", s.Count(), s.exact())
	}
	s.Add(-3)
	compare(t, &s, []float64{-3}, 0)
}

func TestAddDoesNotAllocate(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	var exact, histogram Sample
	for range ExactLimit {
		exact.Add(random.Float64())
	}
	exact.Reset()
	for range 3 * ExactLimit {
		histogram.Add(1 + random.Float64())
	}
	for name, s := range map[string]*Sample{"exact": &exact, "histogram": &histogram} {
		if n := testing.AllocsPerRun(1000, func() { s.Add(1 + random.Float64()) }); n != 0 {
			t.Errorf("%s: %v allocations per Add", name, n)
		}
	}
	if !exact.exact() || histogram.exact() {
		t.Error("the samples are not in the regimes that were to be tested")
	}
}

func BenchmarkAdd(b *testing.B) {
	random := rand.New(rand.NewPCG(5, 6))
	values := make([]float64, 1<<16)
	for i := range values {
		values[i] = 0.02 * math.Exp(random.NormFloat64())
	}
	var s Sample
	for i := 0; b.Loop(); i++ {
		s.Add(values[i&(1<<16-1)])
	}
}

func BenchmarkQuantiles(b *testing.B) {
	random := rand.New(rand.NewPCG(7, 8))
	values := make([]float64, ExactLimit)
	for i := range values {
		values[i] = random.Float64()
	}
	var s Sample
	for b.Loop() {
		b.StopTimer()
		s.Reset()
		for _, v := range values {
			s.Add(v)
		}
		b.StartTimer()
		for _, p := range quantiles {
			s.Quantile(p)
		}
	}
}
