package probe

import (
	"sync/atomic"
	"time"
)

// Flight is how far a request in flight has come, for those who look on. Its client tells it; a nil *Flight takes what it
// is told and forgets it.
type Flight struct {
	began time.Time    // what the others count from; set before the client has the request
	sent  atomic.Int64 // nanoseconds, 0 = not yet
	first atomic.Int64 // likewise: of the first token
}

// Begin makes f the flight of a request that is about to be given to a client.
func (f *Flight) Begin(now time.Time) {
	f.began = now.Add(-1) // so that nothing is at 0
	f.sent.Store(0)
	f.first.Store(0)
}

// SentAt tells when the request was sent: where it was sent twice the last time counts.
func (f *Flight) SentAt(t time.Time) {
	if f != nil {
		f.sent.Store(int64(t.Sub(f.began)))
	}
}

// FirstTokenAt tells when the first token came.
func (f *Flight) FirstTokenAt(t time.Time) {
	if f != nil {
		f.first.Store(int64(t.Sub(f.began)))
	}
}

// TimeToFirstToken returns how long the first token took, or, where it has not come, how long it has been waited for: 0
// where the request has not been sent.
func (f *Flight) TimeToFirstToken(now time.Time) (waited time.Duration, came bool) {
	sent, first := f.sent.Load(), f.first.Load()
	switch {
	case sent == 0:
		return 0, false
	case first == 0:
		return now.Sub(f.began) - time.Duration(sent), false
	}
	return time.Duration(first - sent), true
}
