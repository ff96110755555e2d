package stats

import (
	"cmp"
	"math"
	"slices"

	"github.com/aclements/go-moremath/stats"
)

// MannWhitney returns the two-sided p-value of the Mann–Whitney U test: how likely two samples of one distribution
// differ that much or more in their ranks. It is exact for small samples, and a normal approximation with corrections
// for ties and continuity for others. Where nothing can be told, one sample being empty or all values equal, it is 1.
func MannWhitney(a, b []float64) float64 {
	// The library's own two-sided test takes the exact distribution to be symmetric, which it is not where there are ties.
	// At most one of the two tails is below a half.
	result, err := stats.MannWhitneyUTest(a, b, stats.LocationLess)
	if err == nil && result.P > 0.5 {
		result, err = stats.MannWhitneyUTest(b, a, stats.LocationLess)
	}
	if err != nil {
		return 1
	}
	return min(1, 2*result.P)
}

// PredictionTest returns the two-sided p-value of one more value against earlier ones, all being independent and of one
// normal distribution: Student's t with as many degrees of freedom as there are earlier values, less one. It is that of
// the prediction interval for one future observation (Hahn and Meeker, Statistical Intervals, 1991, section 4.7). With
// less than two earlier values it is 1.
func PredictionTest(earlier []float64, next float64) float64 {
	n := float64(len(earlier))
	if n < 2 {
		return 1
	}
	sample := stats.Sample{Xs: earlier}
	distance, spread := math.Abs(next-sample.Mean()), sample.StdDev()*math.Sqrt(1+1/n)
	switch {
	case distance == 0:
		return 1
	case spread == 0:
		return 0
	}
	return min(1, 2*stats.TDist{V: n - 1}.CDF(-distance/spread))
}

// Score returns the value that a standard normal variable exceeds in size with probability p: 1.96 for 0.05.
func Score(p float64) float64 { return -stats.StdNormal.InvCDF(p / 2) }

// Page reports whether scores have gone up in all by limit since they last looked like the standard normal ones that
// they are as long as nothing changes (Page, "Continuous Inspection Schemes", Biometrika 41, 1954). Half of shift goes
// off each score, which makes it soonest to see a change of that many standard deviations. No score counts for more
// than most, so that one outlier alone is no change, and the sum is limit at most, so that it sees the end of a change,
// too.
func Page(scores []float64, shift, most, limit float64) bool {
	var sum float64
	for _, score := range scores {
		sum = min(limit, max(0, sum+min(most, score)-shift/2))
	}
	return sum == limit
}

// MeanInterval returns the interval that holds the mean of the distribution of independent values with that confidence,
// by Student's t; both ends are the same for one value, and NaN for none.
func MeanInterval(values []float64, confidence float64) (low, high float64) {
	mean, low, high := stats.MeanCI(values, confidence)
	if len(values) < 2 {
		return mean, mean
	}
	return low, high
}

// Holm corrects p-values of several tests for their number, in place of the order given: the chance that any of the
// true null hypotheses is rejected at a level stays below that level, however the tests depend on each other (Holm, "A
// Simple Sequentially Rejective Multiple Test Procedure", Scandinavian Journal of Statistics 6, 1979).
func Holm(p []float64) []float64 {
	order := make([]int, len(p))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(p[a], p[b]) })
	corrected, least := make([]float64, len(p)), 0.0
	for rank, i := range order {
		least = max(least, min(1, p[i]*float64(len(p)-rank)))
		corrected[i] = least
	}
	return corrected
}
