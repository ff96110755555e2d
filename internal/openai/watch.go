package openai

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

// Causes with which a watch cancels a request.
var (
	errFirstToken = errors.New("no token in time")
	errIdle       = errors.New("tokens stopped coming")
	errTotal      = errors.New("the request took too long")
	errTail       = errors.New("nothing came after the end of the answer")
)

// watch holds the time limits of one request with one timer. A token only leaves its time behind; the timer, when it
// goes off, looks how late it really is and sets itself anew.
type watch struct {
	start              time.Time // offsets count from here
	first, idle, total time.Duration
	sent               func() time.Time // when the request began to be written, zero = not yet
	cancel             context.CancelCauseFunc
	timer              *time.Timer
	token              atomic.Int64 // offset of the last token, 0 = none yet
	tail               atomic.Int64 // offset at which the end of an answer is over, 0 = not there yet
}

// begin starts the watch. Its limits count from the time that sent tells.
func (w *watch) begin(opts *Options, sent func() time.Time, cancel context.CancelCauseFunc) {
	w.start = time.Now()
	w.first, w.idle, w.total = opts.FirstTokenTimeout, opts.IdleTimeout, opts.TotalTimeout
	w.sent, w.cancel = sent, cancel
	w.timer = time.AfterFunc(time.Hour, w.check)
	w.timer.Reset(min(w.first, w.total)) // only now, since check needs w.timer
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

// stop ends the watch and frees what the request's context holds.
func (w *watch) stop() {
	w.tail.Store(1) // a check that is running does not set the timer for long
	w.timer.Stop()
	w.cancel(nil)
}

func (w *watch) check() {
	now := time.Since(w.start)
	limit, cause := w.limit(now)
	if now >= limit {
		w.cancel(cause)
		return
	}
	w.timer.Reset(limit - now)
}

// limit returns the offset at which the request has to end, as things stand, and the cause.
func (w *watch) limit(now time.Duration) (time.Duration, error) {
	if tail := w.tail.Load(); tail > 0 {
		return time.Duration(tail), errTail
	}
	began := w.sent()
	if began.IsZero() { // still connecting, which has limits of its own
		return now + min(w.first, w.total), nil
	}
	sent := began.Sub(w.start)
	limit, cause := sent+w.first, errFirstToken
	if token := w.token.Load(); token > 0 {
		limit, cause = time.Duration(token)+w.idle, errIdle
	}
	if sent+w.total < limit {
		limit, cause = sent+w.total, errTotal
	}
	return limit, cause
}
