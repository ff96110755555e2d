package metrics

import "github.com/inferprobe/inferprobe/internal/probe"

// Series is the number of time series that an endpoint costs in Prometheus: with a whole sweep of 9 rates and the canary,
// which are 12 stages, 2,780 classic ones, 830 with native histograms, and 2,869 with both.
func Series(mode Mode, stages int) int {
	const (
		summaries = 4 * (4 + 2) // quantiles, sum, count
		gauges    = 6
		counters  = 5
		rest      = 28 // of the endpoint: gauges, counters without reasons, info
	)
	stage := summaries + gauges + counters + len(probe.Reasons()) + histograms(mode, firstTokenBounds(),
		firstTokenBounds(), interTokenBounds(), interTokenBounds(), requestBounds(), stallBounds(), speedBounds())
	regression := 1 + 3*len(probe.Signals())
	endpoint := rest + regression + len(probe.CycleFailureReasons()) + len(probe.FindingNames()) + histograms(mode,
		connectionBounds(), connectionBounds(), connectionBounds(), proberBounds(), proberBounds())
	return stages*stage + endpoint
}

// histograms returns the series of one histogram of each set of bounds.
func histograms(mode Mode, bounds ...[]float64) (n int) {
	for _, b := range bounds {
		if mode != Native {
			n += len(b) + 3 // +Inf, sum, count
		}
		if mode != Classic {
			n++
		}
	}
	return n
}
