package stats

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

func TestMannWhitney(t *testing.T) {
	for name, test := range map[string]struct {
		a, b []float64
		want float64
	}{
		// By hand: of the C(8,4) = 70 ways to deal the ranks, one is as extreme on each side.
		"apart":      {[]float64{1, 2, 3, 4}, []float64{5, 6, 7, 8}, 2.0 / 70},
		"the same":   {[]float64{1, 4}, []float64{2, 3}, 1},
		"nothing":    {nil, []float64{1}, 1},
		"all equal":  {[]float64{5, 5, 5}, []float64{5, 5}, 1},
		"one of two": {[]float64{1}, []float64{2}, 1},
	} {
		if got := MannWhitney(test.a, test.b); !near(got, test.want, 1e-12) {
			t.Errorf("%s: p = %v, want %v", name, got, test.want)
		}
	}
}

func TestPredictionTest(t *testing.T) {
	for name, test := range map[string]struct {
		earlier []float64
		next    float64
		want    float64
	}{
		// Mean 2, standard deviation 1, t = (4 − 2) / √(4/3) = √3 with 2 degrees of freedom, for which
		// P(|T| > t) = 1 − t/√(2 + t²).
		"known":            {[]float64{1, 2, 3}, 4, 1 - math.Sqrt(3.0/5)},
		"below as above":   {[]float64{1, 2, 3}, 0, 1 - math.Sqrt(3.0/5)},
		"the mean":         {[]float64{1, 2, 3}, 2, 1},
		"no spread":        {[]float64{2, 2, 2}, 2.1, 0},
		"no spread at all": {[]float64{2, 2, 2}, 2, 1},
		"too few":          {[]float64{1}, 9, 1},
	} {
		if got := PredictionTest(test.earlier, test.next); !near(got, test.want, 1e-9) {
			t.Errorf("%s: p = %v, want %v", name, got, test.want)
		}
	}
}

// TestPredictionTestHolds: of values that are as the earlier ones, a twentieth has a p-value below 0.05.
func TestPredictionTestHolds(t *testing.T) {
	random := rand.New(rand.NewPCG(11, 12))
	for _, n := range []int{3, 10} {
		const runs = 20_000
		var below int
		earlier := make([]float64, n)
		for range runs {
			for i := range earlier {
				earlier[i] = random.NormFloat64()
			}
			if PredictionTest(earlier, random.NormFloat64()) < 0.05 {
				below++
			}
		}
		if share := float64(below) / runs; math.Abs(share-0.05) > 0.006 { // four standard errors
			t.Errorf("with %d earlier values %.2f %% are below 0.05", n, 100*share)
		}
	}
}

func TestScore(t *testing.T) {
	for p, want := range map[float64]float64{1: 0, 0.05: 1.959964, 0.0026998: 3, 0: math.Inf(1)} {
		if got := Score(p); !near(got, want, 1e-6) {
			t.Errorf("Score(%v) = %v, want %v", p, got, want)
		}
	}
}

func TestPage(t *testing.T) {
	for name, test := range map[string]struct {
		scores []float64
		want   bool
	}{
		"nothing":                          {nil, false},
		"a change of three deviations":     {[]float64{0, 3, 3}, true}, // 2.5 + 2.5
		"one outlier":                      {[]float64{0, 90}, false},
		"one cycle of a change":            {[]float64{3}, false},
		"a small one that lasts":           {slices.Repeat([]float64{1.5}, 5), true}, // 5 × 1
		"… not as long":                    {slices.Repeat([]float64{1.5}, 4), false},
		"less than half of what is sought": {slices.Repeat([]float64{0.4}, 100), false},
		"down is no change":                {slices.Repeat([]float64{-3}, 100), false},
		"down before does not count":       {[]float64{-9, -9, 3, 3}, true},
		"over":                             {[]float64{3, 3, 3, 3, 0}, false},
		"infinite":                         {[]float64{math.Inf(-1), math.Inf(1), math.Inf(1)}, true},
	} {
		if got := Page(test.scores, 1, 3, 5); got != test.want {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}

func TestMeanInterval(t *testing.T) {
	// Mean 2, standard deviation 1, n = 3; t(2, 0.975) = 4.302653.
	low, high := MeanInterval([]float64{1, 2, 3}, 0.95)
	if half := 4.302653 / math.Sqrt(3); !near(low, 2-half, 1e-6) || !near(high, 2+half, 1e-6) {
		t.Errorf("[%v, %v]", low, high)
	}
	if low, high := MeanInterval([]float64{7}, 0.95); low != 7 || high != 7 {
		t.Errorf("of one value: [%v, %v]", low, high)
	}
	if low, high := MeanInterval(nil, 0.95); !math.IsNaN(low) || !math.IsNaN(high) {
		t.Errorf("of none: [%v, %v]", low, high)
	}
}

func TestHolm(t *testing.T) {
	for _, test := range []struct{ p, want []float64 }{
		{nil, []float64{}},
		{[]float64{0.03}, []float64{0.03}},
		// Sorted 0.005, 0.01, 0.03, 0.04 become 0.02, 0.03, 0.06, 0.06: none is less than the one before.
		{[]float64{0.01, 0.04, 0.03, 0.005}, []float64{0.03, 0.06, 0.06, 0.02}},
		{[]float64{0.6, 0.9}, []float64{1, 1}},
	} {
		if diff := cmp.Diff(test.want, Holm(test.p), cmpopts.EquateApprox(1e-12, 0)); diff != "" {
			t.Errorf("%v (-want +got):\n%s", test.p, diff)
		}
	}
}

// TestComparisonsDoNotDependOnOrderAndUnit, nor do they change what they are given.
func TestComparisonsDoNotDependOnOrderAndUnit(t *testing.T) {
	values := rapid.SliceOfN(rapid.Float64Range(0.5, 2), 2, 60)
	rapid.Check(t, func(t *rapid.T) {
		a, b := values.Draw(t, "a"), values.Draw(t, "b")
		before := slices.Concat(a, b)
		rank, prediction := MannWhitney(a, b), PredictionTest(a, b[0])
		if !slices.Equal(before, slices.Concat(a, b)) {
			t.Fatal("the values were changed")
		}
		if other := MannWhitney(b, a); !near(rank, other, 1e-9) {
			t.Fatalf("p = %v, and %v the other way round", rank, other)
		}
		twice := func(v []float64) []float64 { // powers of two are exact
			var scaled []float64
			for _, x := range v {
				scaled = append(scaled, 4*x)
			}
			slices.Reverse(scaled)
			return scaled
		}
		if p := MannWhitney(twice(a), twice(b)); !near(p, rank, 1e-9) {
			t.Fatalf("p = %v, and %v in another unit", rank, p)
		}
		if p := PredictionTest(twice(a), 4*b[0]); math.Abs(p-prediction) > 1e-9 {
			t.Fatalf("p = %v, and %v in another unit", prediction, p)
		}
	})
}
