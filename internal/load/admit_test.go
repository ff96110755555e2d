package load

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/inferprobe/inferprobe/internal/probe"
)

// TestAdmit lets ten requests through: the eleventh is in no count, and the stage ends with those in flight.
func TestAdmit(t *testing.T) {
	const admitted = 10
	for name, test := range map[string]struct {
		stage Stage
		took  time.Duration
	}{
		"synchronous": {Stage{Profile: probe.ProfileSynchronous}, admitted * time.Second},
		"throughput":  {Stage{Profile: probe.ProfileThroughput, MaxInFlight: 4}, 3 * time.Second},
		"throughput, more in flight than admitted": {Stage{Profile: probe.ProfileThroughput, MaxInFlight: 512}, time.Second},
		"constant": {Stage{Profile: probe.ProfileConstant, Rate: 10, MaxInFlight: 512}, 1900 * time.Millisecond},
		"constant, with a limit on requests": {
			Stage{Profile: probe.ProfileConstant, Rate: 10, MaxInFlight: 512, MaxRequests: 20}, 1900 * time.Millisecond,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &server{latency: time.Second}
				e, seen := newEngine(s)
				var asked atomic.Int64
				e.Admit = func(*probe.Request) bool { return asked.Add(1) <= admitted }
				test.stage.MaxDuration = time.Minute
				out := e.Run(t.Context(), test.stage)
				if took := out.Ended.Sub(out.Started); out.Ending != EndedByRequests || took != test.took {
					t.Errorf("ended by %s after %s, want requests after %s", out.Ending, took, test.took)
				}
				if len(s.sent) != admitted || e.Live().Sent.Load() != admitted || e.Live().InFlight.Load() != 0 {
					t.Errorf("%d sent, %d counted, %d in flight, want %d, as many and none", len(s.sent), e.Live().Sent.Load(),
						e.Live().InFlight.Load(), admitted)
				}
				if seen.count(probe.Completed) != admitted || len(seen.results) != admitted {
					t.Errorf("%d of %d results completed, want %d", seen.count(probe.Completed), len(seen.results), admitted)
				}
			})
		})
	}
}

// TestRefusalEndsPauses: no worker of a closed loop waits for what the server's Retry-After asks for, to send nothing.
func TestRefusalEndsPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{fail: true, retry: time.Hour}
		e, seen := newEngine(s)
		var asked atomic.Int64
		e.Admit = func(*probe.Request) bool { return asked.Add(1) <= 3 }
		out := e.Run(t.Context(), Stage{Profile: probe.ProfileThroughput, MaxDuration: time.Minute, MaxInFlight: 4})
		if took := out.Ended.Sub(out.Started); took != 0 || len(seen.results) != 3 {
			t.Errorf("%d results after %s, want 3 at once", len(seen.results), took)
		}
	})
}

// TestWhatIsNotSentForOurLimitIsNotAskedFor: such a request fails by it and needs no leave.
func TestWhatIsNotSentForOurLimitIsNotAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{latency: time.Hour}
		e, seen := newEngine(s)
		var asked atomic.Int64
		e.Admit = func(*probe.Request) bool { return asked.Add(1) <= 5 }
		out := e.Run(t.Context(), Stage{Profile: probe.ProfileConstant, Rate: 10, MaxDuration: 2 * time.Second, MaxInFlight: 5})
		if asked.Load() != 5 || seen.count(probe.Failed) != 15 || out.Ending != EndedByDuration {
			t.Errorf("%d asked for, %d failed, ended by %s", asked.Load(), seen.count(probe.Failed), out.Ending)
		}
	})
}
