package daemon

import (
	"math"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/inferprobe/inferprobe/internal/config"
	"github.com/inferprobe/inferprobe/internal/probe"
	"github.com/inferprobe/inferprobe/internal/sim"
	"github.com/inferprobe/inferprobe/internal/sim/simtest"
)

// withCanary is an endpoint that is measured by its canary only.
func withCanary(name, url string, every time.Duration) config.Endpoint {
	e := endpoint(name, url)
	e.Model = sim.DefaultModel
	e.Sweep.Interval = 0
	e.Canary = config.Canary{
		Interval: every, PromptTokens: config.Length{Mean: 16}, OutputTokens: config.Length{Mean: 4},
	}
	return e
}

// TestReportsDoNotHoldTheGroup: while nobody takes a report, the rest of the group is watched.
func TestReportsDoNotHoldTheGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		swept, watched := endpoint("swept", nobody), endpoint("watched", nobody)
		swept.Group, watched.Group = "shared", "shared"
		watched.Sweep.Interval, watched.Canary.Interval = 0, time.Minute
		h := start(t, swept, watched)
		taken := make(chan struct{})
		h.onCycle = func(*probe.Cycle) { <-taken }
		stop := h.serve(t)
		time.Sleep(10 * time.Minute)
		requests, _ := h.value(t, "requests_total", "endpoint", "watched", "stage", probe.StageCanary)
		if requests < 9 {
			t.Errorf("%v requests in ten minutes", requests)
		}
		close(taken)
		stop()
	})
}

func TestCanary(t *testing.T) {
	server, url, kill := mortal(t)
	e := withCanary("a", url, 50*time.Millisecond)
	e.Guards.TokensPerDay = 1_000_000
	h := start(t, e)
	stop := h.serve(t)
	value := func(name string, labels ...string) float64 {
		v, _ := h.value(t, name, labels...)
		return v
	}
	until(t, "three requests", func() bool { return value("requests_total", "stage", "canary") >= 3 })
	if status := h.Endpoints()[0].Canary; status == nil || !status.Success || status.TimeToFirstToken <= 0 {
		t.Errorf("status %+v", status)
	}
	if value("probe_success") != 1 || value("last_success_timestamp_seconds") == 0 {
		t.Error("a canary that is answered is no success")
	}
	if left := value("token_budget_remaining"); left > 1_000_000-3*20 || left < 900_000 {
		t.Errorf("%v tokens are left", left)
	}
	if len(simtest.Truth(t, server)) == 0 {
		t.Error("the server knows of no request")
	}
	kill()
	until(t, "down", func() bool {
		return value("request_failures_total", "stage", "canary", "reason", "connect") > 0 && value("probe_success") == 0
	})
	until(t, "down in the status", func() bool {
		s := h.Endpoints()[0].Canary
		return !s.Success && s.Reason == "connect"
	})
	stop()
	if n := value("requests_in_flight"); n != 0 {
		t.Errorf("%v requests are in flight at the end", n)
	}
}

// TestConfigurationIsShown: the canary's interval and the objectives are metrics from the start, without any cycle, and
// still when the model is discovered, which renames the series.
func TestConfigurationIsShown(t *testing.T) {
	_, url := simtest.Start(t, quick())
	named, without := withCanary("named", url, 50*time.Millisecond), endpoint("without", nobody)
	named.Model = ""
	named.Objectives.TimeToFirstTokenP90, named.Objectives.ErrorRate = 250*time.Millisecond, 0.05
	h := start(t, named, without)
	check := func(endpoint, model string, interval, firstToken, errors float64) {
		t.Helper()
		labels := []string{"endpoint", endpoint, "model", model}
		for name, want := range map[string]float64{
			"canary_interval_seconds": interval, "objective_seconds": firstToken, "objective_error_ratio": errors,
		} {
			of := labels
			if name == "objective_seconds" {
				of = append(of, "signal", "time_to_first_token")
			}
			if got, ok := h.value(t, name, of...); !ok || got != want && !(math.IsNaN(got) && math.IsNaN(want)) {
				t.Errorf("%s%v is %v (%v), want %v", name, of, got, ok, want)
			}
		}
	}
	check("named", "", 0.05, 0.25, 0.05)
	check("without", "", 0, math.NaN(), math.NaN())
	stop := h.serve(t)
	until(t, "a request to the model", func() bool {
		n, _ := h.value(t, "requests_total", "endpoint", "named", "model", sim.DefaultModel, "stage", "canary")
		return n > 0
	})
	check("named", sim.DefaultModel, 0.05, 0.25, 0.05)
	stop()
}

// TestCanaryWaitsForItsGroup: while the group is measured, canaries are left out.
func TestCanaryWaitsForItsGroup(t *testing.T) {
	server, url := simtest.Start(t, quick())
	a, b := endpoint("a", url), withCanary("b", url, 20*time.Millisecond)
	a.Group, b.Group = "gpu", "gpu"
	a.Sweep.MaxRequests = 20
	h := start(t, a, b)
	var during atomic.Int64
	h.onCycle = func(*probe.Cycle) {
		n, _ := h.value(t, "requests_total", "endpoint", "b", "stage", "canary")
		during.Store(int64(n))
	}
	stop := h.serve(t)
	for measured := false; !measured; time.Sleep(time.Millisecond) {
		n, _ := h.value(t, "requests_total", "endpoint", "b", "stage", "canary")
		measured = len(h.names()) == 1 && n > float64(during.Load())
	}
	stop()
	if n := during.Load(); n > 1 { // one may have been faster than the cycle
		t.Errorf("%d canary requests while the group was measured", n)
	}
	_ = simtest.Truth(t, server)
}
