package sim

import "time"

// alarm wakes one goroutine, which waits, at a time that any goroutine sets.
type alarm interface {
	set(in time.Duration) // ring once after in, at once if in ≤ 0, and not when it was set to before
	wait() bool           // block until it rings, perhaps spuriously; false once it is closed
	close()
}

// timerAlarm is an alarm on Go's timer. It may ring up to a millisecond late on an idle machine, for there the runtime
// waits in whole milliseconds.
type timerAlarm struct {
	timer  *time.Timer
	closed chan struct{}
}

func newTimerAlarm() (alarm, error) {
	return &timerAlarm{timer: time.NewTimer(0), closed: make(chan struct{})}, nil
}

func (a *timerAlarm) set(in time.Duration) { a.timer.Reset(in) }

func (a *timerAlarm) wait() bool {
	select {
	case <-a.timer.C:
		return true
	case <-a.closed:
		return false
	}
}

func (a *timerAlarm) close() {
	a.timer.Stop()
	close(a.closed)
}
