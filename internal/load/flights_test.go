package load

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/inferprobe/inferprobe/internal/probe"
)

// TestFlights looks at requests that leave once a second, get their first token two seconds later and end after four.
func TestFlights(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, seen := newEngine(nil)
		e.Client = doerFunc(func(ctx context.Context, req *probe.Request, res *probe.Result) {
			res.Request, res.Outcome = req, probe.Completed
			req.Flight.SentAt(time.Now())
			time.Sleep(2 * time.Second)
			req.Flight.FirstTokenAt(time.Now())
			time.Sleep(2 * time.Second)
		})
		started := time.Now()
		e.Stop = func() bool {
			now := time.Now()
			var waiting, answered int
			for f := range e.Flights {
				waited, came := f.TimeToFirstToken(now)
				switch {
				case came && waited == 2*time.Second:
					answered++
				case came || waited > 2*time.Second || waited < 0:
					t.Errorf("waited %s, came %v", waited, came)
				default:
					waiting++
				}
			}
			if at := now.Sub(started) % time.Second; at == 500*time.Millisecond && now.Sub(started) > 5*time.Second &&
				(waiting != 2 || answered != 2) {
				t.Errorf("%d wait and %d are answered, want two each", waiting, answered)
			}
			return now.Sub(started) > 20*time.Second
		}
		e.Run(t.Context(), Stage{Profile: probe.ProfileConstant, Rate: 1, MaxDuration: time.Minute, MaxInFlight: 8})
		for range e.Flights {
			t.Error("a request is in flight when the stage is over")
		}
		if len(seen.results) < 16 {
			t.Errorf("%d results", len(seen.results))
		}
	})
}
