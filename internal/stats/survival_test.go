package stats

import (
	"math"
	"math/rand/v2"
	"testing"
)

func survival(seen, cut []float64) *Survival {
	var s Sample
	for _, v := range seen {
		s.Add(v)
	}
	return NewSurvival(&s, cut)
}

// TestSurvival: weeks of remission under 6-mercaptopurine, of Freireich et al., Blood 21 (1963), whose product-limit
// estimates are in many textbooks, as Kleinbaum and Klein, Survival Analysis.
func TestSurvival(t *testing.T) {
	s := survival([]float64{6, 6, 6, 7, 10, 13, 16, 22, 23}, []float64{6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35})
	for weeks, want := range map[float64]float64{
		0: 1, 5.9: 1, 6: 0.857, 7: 0.807, 9: 0.807, 10: 0.753, 13: 0.690, 16: 0.627, 22: 0.538, 23: 0.448, 100: 0.448,
	} {
		if got := s.Above(weeks); math.Abs(got-want) > 0.0005 {
			t.Errorf("%.4f are above %v, want %v", got, weeks, want)
		}
	}
	for p, want := range map[float64]float64{0: 6, 0.14: 6, 0.15: 7, 0.3: 13, 0.5: 23, 0.6: 35, 1: 35} { // 35: at least
		if got := s.Quantile(p); got != want {
			t.Errorf("quantile %v is %v, want %v", p, got, want)
		}
	}
	if got := s.Mean(); math.Abs(got-23.287) > 0.0005 { // restricted to 35 weeks
		t.Errorf("a mean of %.4f, want 23.287", got)
	}
}

func TestSurvivalAtTheEdges(t *testing.T) {
	none, all := survival(nil, nil), survival(nil, []float64{3, 1})
	if none.Above(1) != 0 || none.Mean() != 0 || none.Quantile(0.5) != 0 {
		t.Errorf("of nothing %v are above 1, the mean is %v and the median %v", none.Above(1), none.Mean(), none.Quantile(0.5))
	}
	if all.Above(9) != 1 || all.Mean() != 3 || all.Quantile(0.5) != 3 || all.MeanInverse(1, 4) != 0.25 {
		t.Errorf("where all are cut off %v are above 9, the mean is %v, the median %v, that of the inverse %v",
			all.Above(9), all.Mean(), all.Quantile(0.5), all.MeanInverse(1, 4))
	}
	seen := survival([]float64{4, 1, 2, 1}, nil)
	if seen.Above(1) != 0.5 || seen.Mean() != 2 || seen.Quantile(0.5) != 1 || seen.Quantile(0.75) != 2 || seen.Above(4) != 0 {
		t.Errorf("%v are above 1, the mean is %v, quantiles %v and %v, %v above 4", seen.Above(1), seen.Mean(),
			seen.Quantile(0.5), seen.Quantile(0.75), seen.Above(4))
	}
	for _, test := range []struct{ above, want float64 }{{0, (1 + 1 + 0.5 + 0.25) / 4}, {1, 0.375}, {2, 0.25}, {4, 0.25}, {9, 0.25}} {
		if got := seen.MeanInverse(test.above, 1); math.Abs(got-test.want) > 1e-12 {
			t.Errorf("above %v the inverse is %v on average, want %v", test.above, got, test.want)
		}
	}
	if got := survival([]float64{0, 2}, nil).MeanInverse(0, 1); got != 0.5 { // what is 0 has no inverse
		t.Errorf("the inverse of 2 is %v", got)
	}
}

// TestSurvivalOfMany: exponential values cut off at random are estimated right, by a histogram, too.
func TestSurvivalOfMany(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 5))
	for _, n := range []int{2000, 3 * ExactLimit} {
		var seen Sample
		var cut []float64
		for range n {
			value, limit := random.ExpFloat64(), 4*random.Float64()
			if value <= limit {
				seen.Add(value)
			} else {
				cut = append(cut, limit)
			}
		}
		s, within := NewSurvival(&seen, cut), 5/math.Sqrt(float64(n))
		for what, v := range map[string][2]float64{
			"above the mean": {s.Above(1), math.Exp(-1)}, "the median": {s.Quantile(0.5), math.Ln2},
			"the p90": {s.Quantile(0.9) / math.Log(10), 1}, "the mean up to 4": {s.Mean(), 1 - math.Exp(-4)},
		} {
			if math.Abs(v[0]-v[1]) > within {
				t.Errorf("%d values: %s is %.4f, want %.4f", n, what, v[0], v[1])
			}
		}
	}
}
