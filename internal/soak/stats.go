package main

import (
	"cmp"
	"slices"
)

// median returns the middle of the values, the lower one of two, and zero of none.
func median[T cmp.Ordered](values []T) T { return quantile(values, 0.5) }

// quantile returns the value below which a share of the values lies, and zero of none.
func quantile[T cmp.Ordered](values []T, q float64) T {
	var zero T
	if len(values) == 0 {
		return zero
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[int(q*float64(len(sorted)-1))]
}
