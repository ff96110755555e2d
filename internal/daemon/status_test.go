package daemon

import (
	"slices"
	"testing"

	"github.com/inferprobe/inferprobe/internal/probe"
)

// TestStatusNamesRegressions: those that were found twice, and no others.
func TestStatusNamesRegressions(t *testing.T) {
	c := &probe.Cycle{Regression: &probe.Regression{Changes: []probe.Change{
		{Signal: probe.SignalTimeToFirstToken, Worse: true},
		{Signal: probe.SignalCapacity, Worse: true, Detected: true},
	}}}
	if got := cycleStatus(c).Regressions; !slices.Equal(got, []string{"capacity"}) {
		t.Errorf("regressions %q", got)
	}
	if got := cycleStatus(&probe.Cycle{}).Regressions; got != nil {
		t.Errorf("without a verdict: %q", got)
	}
}
