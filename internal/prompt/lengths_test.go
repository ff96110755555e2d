package prompt

import (
	"math"
	"testing"

	"github.com/inferprobe/inferprobe/internal/probe"
)

func TestLengths(t *testing.T) {
	const draws = 20000
	tests := []struct {
		name            string
		length          probe.Length
		min, max        int     // of all draws, which reach both
		mean, deviation float64 // of the distribution before it is cut, 0 where it is not asked for
	}{
		{"mean alone", probe.Length{Mean: 512}, 512, 512, 512, 0},
		{"minimum", probe.Length{Mean: 100, Min: 90}, 90, 100, 95, math.Sqrt(120. / 12)},
		{"maximum", probe.Length{Mean: 100, Max: 120}, 100, 120, 110, math.Sqrt(440. / 12)},
		{"both", probe.Length{Mean: 100, Min: 50, Max: 59}, 50, 59, 54.5, math.Sqrt(99. / 12)},
		{"the wrong way round", probe.Length{Mean: 100, Min: 120, Max: 110}, 120, 120, 120, 0},
		{"nothing", probe.Length{}, 1, 1, 1, 0},
		// int() cuts off the fraction, so that the mean of the draws is half a token lower.
		{"variance", probe.Length{Mean: 500, Variance: 100, Min: 1, Max: 10000}, 460, 540, 499.5, 10},
		{"variance, cut", probe.Length{Mean: 500, Variance: 100, Min: 495, Max: 505}, 495, 505, 0, 0},
		{"variance, cut at one", probe.Length{Mean: 2, Variance: 100, Max: 4}, 1, 4, 0, 0},
		{"variance, maximum below the mean", probe.Length{Mean: 10, Variance: 4, Max: 5}, 2, 18, 9.5, 2},
		{"variance, limit of five variances", probe.Length{Mean: 1000, Variance: 1}, 996, 1003, 999.5, 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			lengths, again := NewLengths(test.length, 1), NewLengths(test.length, 1)
			low, high, sum, squares := math.MaxInt, 0, 0.0, 0.0
			for range draws {
				n := lengths.Next()
				if m := again.Next(); m != n {
					t.Fatalf("one seed gives %d and %d", n, m)
				}
				low, high = min(low, n), max(high, n)
				sum, squares = sum+float64(n), squares+float64(n)*float64(n)
			}
			// The extremes of a normal distribution are not reached for certain: a hair of slack where it is not cut.
			slack := int(math.Ceil(0.5 * test.deviation))
			if low < test.min-slack || low > test.min+slack || high > test.max+slack || high < test.max-slack {
				t.Errorf("from %d to %d instead of %d to %d", low, high, test.min, test.max)
			}
			mean := sum / draws
			deviation := math.Sqrt(max(squares/draws-mean*mean, 0))
			if test.mean > 0 && math.Abs(mean-test.mean) > 0.05*max(test.deviation, 1) {
				t.Errorf("mean %.2f instead of %.2f", mean, test.mean)
			}
			if test.deviation > 0 && math.Abs(deviation-test.deviation) > 0.08*test.deviation {
				t.Errorf("standard deviation %.2f instead of %.2f", deviation, test.deviation)
			}
		})
	}
}
