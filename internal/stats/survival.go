package stats

import (
	"slices"
	"sort"
)

// Survival is the distribution of which some observations are right-censored: of these only a lower bound is known. It
// is estimated by the product-limit (Kaplan and Meier, "Nonparametric Estimation from Incomplete Observations", Journal
// of the American Statistical Association 53, 1958), which holds where being cut off has nothing to do with how much
// longer it would have been. What lies beyond the largest observation, where that is a censored one, is not known.
type Survival struct {
	steps []step  // by rising value
	rest  float64 // the share beyond the last observation
	last  float64 // the largest observation, censored or not
}

// step is a value with its share of the distribution.
type step struct {
	value, share   float64
	above, inverse float64 // sums from this step on: of the shares, and of share / value
}

// NewSurvival estimates the distribution of the observations seen and those cut off, in any order, and leaves both as
// they are.
func NewSurvival(seen *Sample, cut []float64) *Survival {
	cut = slices.Sorted(slices.Values(cut))
	s := &Survival{rest: 1}
	left := seen.Count() + len(cut)
	below := 0 // of those cut off; one that is cut off at a value seen is longer than that
	seen.each(func(value float64, n int) {
		for below < len(cut) && cut[below] < value {
			below++
			left--
		}
		share := s.rest * float64(n) / float64(left)
		s.steps = append(s.steps, step{value: value, share: share})
		s.last, s.rest = value, s.rest-share
		left -= n
	})
	if below == len(cut) { // the largest has been seen: what is left is rounding
		s.rest = 0
	} else {
		s.last = cut[len(cut)-1]
	}
	var above, inverse float64
	for i := range slices.Backward(s.steps) {
		above += s.steps[i].share
		inverse += s.steps[i].share / s.steps[i].value
		s.steps[i].above, s.steps[i].inverse = above, inverse
	}
	return s
}

// after returns the number of steps up to x.
func (s *Survival) after(x float64) int {
	return sort.Search(len(s.steps), func(i int) bool { return s.steps[i].value > x })
}

// Above returns the share of values greater than x. Above the largest observation it is what is not known.
func (s *Survival) Above(x float64) float64 {
	if i := s.after(x); i < len(s.steps) {
		return s.steps[i].above + s.rest
	}
	return s.rest
}

// Quantile returns the smallest value that at most a share of 1 − p exceeds; the largest observation, which is less
// than the quantile, where that is not known.
func (s *Survival) Quantile(p float64) float64 {
	const rounding = 1e-9
	i := sort.Search(len(s.steps), func(i int) bool { return s.Above(s.steps[i].value) <= 1-p+rounding })
	if i == len(s.steps) {
		return s.last
	}
	return s.steps[i].value
}

// Mean returns the mean of the values, restricted to the largest observation: what is not known counts as that.
func (s *Survival) Mean() float64 {
	sum := s.rest * s.last
	for _, step := range s.steps {
		sum += step.share * step.value
	}
	return sum
}

// MeanInverse returns the mean of 1 / value over the values greater than x, all being positive. What is not known
// counts as most, or as the largest observation if that is more.
func (s *Survival) MeanInverse(x, most float64) float64 {
	most = max(most, s.last)
	share, sum := s.rest, s.rest/most
	if i := s.after(x); i < len(s.steps) {
		share += s.steps[i].above
		sum += s.steps[i].inverse
	}
	if share == 0 {
		return 1 / most
	}
	return sum / share
}
