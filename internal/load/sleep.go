package load

import (
	"context"
	"time"
)

// Sleep sleeps for d by a timer of the runtime, for waits in which a millisecond does not matter. It returns false, at
// once, if ctx ends first.
func Sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
