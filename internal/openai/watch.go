package openai

import (
	"errors"
	"sync/atomic"
	"time"
)

// Causes with which a watch aborts a request.
var (
	errFirstToken = errors.New("no token in time")
	errIdle       = errors.New("tokens stopped coming")
	errTotal      = errors.New("the request took too long")
	errTail       = errors.New("nothing came after the end of the answer")
)

// watch holds the time limits of one request with one timer. A token only leaves its time behind; the timer, when it
// goes off, looks how late it really is and sets itself anew.
type watch struct {
	start              time.Time // of the send; offsets count from here
	first, idle, total time.Duration
	abort              func()
	timer              *time.Timer
	token              atomic.Int64 // offset of the last token, 0 = none yet
	tail               atomic.Int64 // offset at which the end of an answer is over, 0 = not there yet
	cause              atomic.Pointer[error]
}

// begin starts the watch right before the send. It calls abort when a limit is passed.
func (w *watch) begin(opts *Options, abort func()) {
	w.start = time.Now()
	w.first, w.idle, w.total = opts.FirstTokenTimeout, opts.IdleTimeout, opts.TotalTimeout
	w.abort = abort
	w.timer = time.AfterFunc(time.Hour, w.check)
	w.timer.Reset(min(w.first, w.total)) // only now, since check needs w.timer
}

// why returns the limit that was passed, nil if none was.
func (w *watch) why() error {
	if cause := w.cause.Load(); cause != nil {
		return *cause
	}
	return nil
}

// tokenAt tells of a token. The first one moves the timer: from here on the limit is another.
func (w *watch) tokenAt(at time.Time) {
	first := w.token.Load() == 0
	w.token.Store(max(1, int64(at.Sub(w.start))))
	if first {
		w.check()
	}
}

// end gives the rest of an answer d more.
func (w *watch) end(d time.Duration) {
	w.tail.Store(int64(time.Since(w.start) + d))
	w.timer.Reset(d)
}

// stop ends the watch.
func (w *watch) stop() {
	w.tail.Store(1) // a check that is running does not set the timer for long
	w.timer.Stop()
}

func (w *watch) check() {
	now := time.Since(w.start)
	limit, cause := w.limit()
	if now < limit {
		w.timer.Reset(limit - now)
		return
	}
	w.cause.CompareAndSwap(nil, &cause)
	w.abort()
}

// limit returns the offset at which the request has to end, as things stand, and the cause.
func (w *watch) limit() (time.Duration, error) {
	if tail := w.tail.Load(); tail > 0 {
		return time.Duration(tail), errTail
	}
	limit, cause := w.first, errFirstToken
	if token := w.token.Load(); token > 0 {
		limit, cause = time.Duration(token)+w.idle, errIdle
	}
	if w.total < limit {
		limit, cause = w.total, errTotal
	}
	return limit, cause
}
