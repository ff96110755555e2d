package load

import (
	"context"
	"time"

	"golang.org/x/sys/unix"
)

// coarse is how long before the due time the runtime's timer hands over to the kernel's: Go waits for timers in epoll,
// whose timeouts are whole milliseconds.
const coarse = 1200 * time.Microsecond

// SleepUntil sleeps until t and is woken within some tens of microseconds of it. It returns false, at once, if ctx ends
// first; the last millisecond cannot be interrupted.
func SleepUntil(ctx context.Context, t time.Time) bool {
	if !Sleep(ctx, time.Until(t.Add(-coarse))) {
		return false
	}
	for {
		left := time.Until(t)
		if left <= 0 {
			return ctx.Err() == nil
		}
		ts := unix.NsecToTimespec(int64(left))
		_ = unix.Nanosleep(&ts, nil) // an interruption by a signal is another turn of the loop
	}
}
