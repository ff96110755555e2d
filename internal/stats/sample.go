// Package stats summarises observations in bounded memory.
package stats

import (
	"cmp"
	"math"
	"slices"
)

// ExactLimit is the number of observations up to which a Sample always keeps every one of them.
const ExactLimit = 65_536

// Sample accumulates observations and answers for their count, sum, mean, extremes and quantiles. Count, minimum and
// maximum are always exact. Quantiles are exact for the first ExactLimit observations, and for any number of them that
// have at most ExactLimit/2 different values, as token counts do. Beyond that a histogram takes over: quantiles are
// interpolated between order statistics that are within 0.1 %, and memory no longer grows: it is 32 KiB, and 4 KiB for
// each power of two in which observations lie. Until then it is 16 bytes an observation, and room to grow.
//
// The zero value is an empty sample. A Sample is not safe for concurrent use, and must not be copied after first use.
type Sample struct {
	count    int
	min, max float64
	sum, err float64 // Neumaier's compensated sum: the value is sum + err
	runs     []run   // every observation, until histogram takes over
	sorted   bool    // runs are in rising order
	hist     *histogram
}

// run is n observations of the same value.
type run struct {
	value float64
	n     int
}

// Add records one observation. NaN and infinities are not observations, and count for nothing.
func (s *Sample) Add(v float64) { s.AddN(v, 1) }

// AddN records n observations of the same value at the cost of one. It does nothing for n ≤ 0.
func (s *Sample) AddN(v float64, n int) {
	if n <= 0 || math.IsNaN(v) || math.IsInf(v, 0) {
		return
	}
	if s.count == 0 {
		s.min, s.max = v, v
	}
	s.min, s.max = min(s.min, v), max(s.max, v)
	s.count += n
	s.accumulate(v * float64(n))
	s.keep(v, n)
}

// accumulate adds x to the sum and its rounding error to err.
func (s *Sample) accumulate(x float64) {
	t := s.sum + x
	if math.Abs(s.sum) >= math.Abs(x) {
		s.err += (s.sum - t) + x
	} else {
		s.err += (x - t) + s.sum
	}
	s.sum = t
}

// keep stores n observations of v for quantiles.
func (s *Sample) keep(v float64, n int) {
	if s.hist != nil {
		s.hist.add(v, n)
		return
	}
	if last := len(s.runs) - 1; last >= 0 {
		if s.runs[last].value == v {
			s.runs[last].n += n
			return
		}
		s.sorted = s.sorted && s.runs[last].value < v
	} else {
		s.sorted = true
	}
	if len(s.runs) == ExactLimit {
		s.compact()
		if s.hist != nil {
			s.hist.add(v, n)
			return
		}
		s.sorted = s.runs[len(s.runs)-1].value < v
	}
	s.runs = append(s.runs, run{v, n})
}

// compact joins runs of equal values. Where that does not free at least half of the room, the values are too many to
// keep, and a histogram takes their place: compacting again and again for a few free places would be slow.
func (s *Sample) compact() {
	s.sort()
	joined := s.runs[:1]
	for _, r := range s.runs[1:] {
		if last := &joined[len(joined)-1]; last.value == r.value {
			last.n += r.n
		} else {
			joined = append(joined, r)
		}
	}
	s.runs = joined
	if len(s.runs) > ExactLimit/2 {
		s.hist = new(histogram)
		for _, r := range s.runs {
			s.hist.add(r.value, r.n)
		}
		s.runs = nil
	}
}

func (s *Sample) sort() {
	if !s.sorted {
		slices.SortFunc(s.runs, func(a, b run) int { return cmp.Compare(a.value, b.value) })
		s.sorted = true
	}
}

// Merge adds all observations of o, another sample, to s and leaves o as it was.
func (s *Sample) Merge(o *Sample) {
	if o.count == 0 {
		return
	}
	if s.count == 0 {
		s.min, s.max = o.min, o.max
	}
	s.min, s.max = min(s.min, o.min), max(s.max, o.max)
	s.count += o.count
	sum, err := o.sum, o.err
	s.accumulate(sum)
	s.accumulate(err)
	if o.hist == nil {
		for _, r := range o.runs {
			s.keep(r.value, r.n)
		}
		return
	}
	if s.hist == nil {
		s.hist = new(histogram)
		for _, r := range s.runs {
			s.hist.add(r.value, r.n)
		}
		s.runs = nil
	}
	s.hist.merge(o.hist)
}

// Reset empties s and keeps its memory for reuse.
func (s *Sample) Reset() { *s = Sample{runs: s.runs[:0]} }

// Count returns the number of observations.
func (s *Sample) Count() int { return s.count }

// Sum returns the sum of the observations; the rounding error does not grow with their number.
func (s *Sample) Sum() float64 { return s.sum + s.err }

// Mean returns the arithmetic mean, NaN if there are no observations.
func (s *Sample) Mean() float64 {
	if s.count == 0 {
		return math.NaN()
	}
	// Rounding may put the mean of equal values next to them.
	return max(s.min, min(s.max, s.Sum()/float64(s.count)))
}

// Min returns the smallest observation, NaN if there are none.
func (s *Sample) Min() float64 {
	if s.count == 0 {
		return math.NaN()
	}
	return s.min
}

// Max returns the largest observation, NaN if there are none.
func (s *Sample) Max() float64 {
	if s.count == 0 {
		return math.NaN()
	}
	return s.max
}

// Quantile returns the p-quantile, with p cut to [0, 1], NaN if there are no observations or p is NaN. It interpolates
// linearly between order statistics: type 7 of Hyndman and Fan, "Sample Quantiles in Statistical Packages", The
// American Statistician 50 (1996), which is numpy's default.
func (s *Sample) Quantile(p float64) float64 {
	if s.count == 0 || math.IsNaN(p) {
		return math.NaN()
	}
	position := max(0, min(1, p)) * float64(s.count-1)
	below := min(int(position), s.count-1)
	fraction := position - float64(below)
	a := s.orderStatistic(below)
	if fraction == 0 || below == s.count-1 {
		return a
	}
	b := s.orderStatistic(below + 1)
	if a == b {
		return a
	}
	// As numpy: from the nearer end, so that the result never lies outside [a, b].
	if fraction >= 0.5 {
		return b - (b-a)*(1-fraction)
	}
	return a + (b-a)*fraction
}

// orderStatistic returns the observation of rank k, from 0.
func (s *Sample) orderStatistic(k int) float64 {
	switch {
	case k == 0:
		return s.min
	case k == s.count-1:
		return s.max
	case s.hist != nil:
		return max(s.min, min(s.max, s.hist.orderStatistic(k)))
	}
	s.sort()
	if len(s.runs) == s.count {
		return s.runs[k].value
	}
	for _, r := range s.runs {
		if k < r.n {
			return r.value
		}
		k -= r.n
	}
	return s.max
}

// each visits the observations by rising value, n of each: equal ones may come in several visits.
func (s *Sample) each(visit func(value float64, n int)) {
	if s.hist != nil {
		s.hist.each(visit)
		return
	}
	s.sort()
	for _, r := range s.runs {
		visit(r.value, r.n)
	}
}
