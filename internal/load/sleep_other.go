//go:build !linux

package load

import (
	"context"
	"time"
)

// SleepUntil sleeps until t, as precisely as the runtime's timers are. It returns false, at once, if ctx ends first.
func SleepUntil(ctx context.Context, t time.Time) bool { return Sleep(ctx, time.Until(t)) }
