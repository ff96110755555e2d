package load

import (
	"context"
	"time"
)

// sleepTimer sleeps until t by a runtime timer and reports whether ctx is still alive.
func sleepTimer(ctx context.Context, t time.Time) bool {
	wait := time.Until(t)
	if wait <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
