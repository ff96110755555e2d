package daemon

import (
	"testing"

	"github.com/inferprobe/inferprobe/internal/config"
)

func TestTargetTakesTheGuards(t *testing.T) {
	e := endpoint("a", nobody)
	e.Guards = config.Guards{MaxErrorRate: 0.25, TimeToFirstToken: 7, YieldToUsers: config.YieldAuto, MaxInFlight: 3}
	got := target(&e, "v1")
	if g := got.Guards; g.MaxErrorRate != 0.25 || g.TimeToFirstToken != 7 || !g.YieldToUsers || got.Plan.MaxInFlight != 3 {
		t.Errorf("%+v", got)
	}
	e.Guards.YieldToUsers = config.YieldNever
	if target(&e, "v1").Guards.YieldToUsers {
		t.Error("yields to users although it never should")
	}
}
