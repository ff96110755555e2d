package sweep

import (
	"slices"
	"testing"
	"time"

	"github.com/inferprobe/inferprobe/internal/probe"
	"github.com/inferprobe/inferprobe/internal/sim"
	"github.com/inferprobe/inferprobe/internal/sim/simtest"
)

// TestRatesInAnyOrder asks a simulator for three times what its two slots can do, then for less, then for as much again
// and more: a rate that is too much says nothing against a lower one that comes after it.
func TestRatesInAnyOrder(t *testing.T) {
	_, url := simtest.Start(t, sim.Options{Slots: 2, DecodeStep: 5 * milli, PrefillTokensPerSecond: 1e6})
	target := targetAt(url, Plan{
		Profile: probe.ProfileConstant, RateList: []float64{120, 10, 120, 240}, MaxDuration: 1500 * milli, MaxInFlight: 1000,
	})
	target.Guards.TimeToFirstToken = 250 * milli
	c := Run(t.Context(), target, wordPools{}, &observer{}, discardLog())
	if len(c.Stages) != 2 || !has(&c.Stages[0], probe.FindingEndedByGuard) || has(&c.Stages[1], probe.FindingEndedByGuard) {
		t.Fatalf("%d stages, skipped %q, failure %+v", len(c.Stages), skips(c), c.Failure)
	}
	if want := []string{"constant-3 time_to_first_token", "constant-4 time_to_first_token"}; !slices.Equal(skips(c), want) {
		t.Errorf("skipped %q, want %q", skips(c), want)
	}
	if got := c.Stages[1].Ended.Sub(c.Stages[1].Started); c.Stages[1].TargetRate != 10 || got < time.Second {
		t.Errorf("%v requests/s for %s", c.Stages[1].TargetRate, got)
	}
}
