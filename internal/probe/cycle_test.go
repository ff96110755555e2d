package probe

import (
	"math"
	"testing"
)

// TestMinSamples: with that many observations the smallest and the largest bound the quantile, each with a chance of
// 2.5 % at most to miss it, and with one fewer they do not.
func TestMinSamples(t *testing.T) {
	for q, want := range map[float64]int{
		0.01: 368, 0.05: 72, 0.10: 36, 0.25: 13, 0.50: 6, 0.75: 13, 0.90: 36, 0.95: 72, 0.99: 368,
	} {
		n := MinSamples(q)
		miss := func(n int) float64 { return math.Pow(max(q, 1-q), float64(n)) }
		if n != want || miss(n) > 0.025 || miss(n-1) <= 0.025 {
			t.Errorf("MinSamples(%v) = %d, want %d", q, n, want)
		}
	}
}
