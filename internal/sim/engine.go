package sim

import (
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// engine decides when each sequence gets its next token. Engines are pure: time is what they are told, counted from the
// server's start, and calls come one at a time.
type engine interface {
	add(q *sequence, arrived time.Duration)
	remove(q *sequence, now time.Duration) bool // false if q is not, or no longer, in the engine
	next() (at time.Duration, ok bool)          // when advance has something to do; false: not before an arrival
	advance(now time.Duration)                  // do, in order, all that is due by now
	freeze(now, until time.Duration)            // let nothing happen before until
	clear(each func(*sequence))                 // remove every sequence, calling each for it
	load() load
}

// load is how busy an engine is.
type load struct {
	running, waiting int
	tokens           int // prompt and output tokens held by running sequences
}

// sequence is one request as the engine sees it. The engine grants it tokens; the request's own goroutine waits for
// them and writes.
type sequence struct {
	prompt   int // tokens to prefill
	total    int // tokens to generate
	perEvent int // tokens an event

	granted atomic.Int32
	due     int32         // the grant that completes the next event, and so is worth waking for
	over    atomic.Bool   // no more grants will come: withdrawn or aborted
	wake    chan struct{} // of capacity 1

	// Of the engine that holds the sequence.
	arrived      time.Duration
	prefilled    int           // prompt tokens done
	chunk        int           // prompt tokens in the current step
	decoding     bool          // gets a token from the current step
	stalledUntil time.Duration // no token before
	at           time.Duration // of its next token, under a timetable
	index        int           // in the heap of a timetable
}

func newSequence(prompt, total, perEvent int) *sequence {
	return &sequence{prompt: prompt, total: total, perEvent: perEvent, due: 1, wake: make(chan struct{}, 1)}
}

// grant gives q one more token and reports whether it was the last.
func (q *sequence) grant() bool {
	n := q.granted.Add(1)
	last := int(n) == q.total
	if n == q.due || last {
		q.due = n + int32(q.perEvent)
		q.signal()
	}
	return last
}

// abort tells q that it gets no more tokens.
func (q *sequence) abort() {
	q.over.Store(true)
	q.signal()
}

func (q *sequence) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// next returns the number of tokens after which the event that follows the first written tokens is complete.
func (q *sequence) next(written int) int {
	if written == 0 {
		return min(1, q.total)
	}
	return min(written+q.perEvent, q.total)
}

// pace varies the times of an engine.
type pace struct {
	slowdown      float64
	jitter        float64
	stallFraction float64
	stall         time.Duration
	random        *rand.Rand
}

// vary returns d with the slowdown and with jitter.
func (p *pace) vary(d time.Duration) time.Duration {
	factor := p.slowdown
	if p.jitter > 0 {
		factor *= 1 + p.jitter*(2*p.random.Float64()-1)
	}
	return time.Duration(float64(d) * factor)
}

// drawStall returns how much longer the next gap lasts: mostly 0.
func (p *pace) drawStall() time.Duration {
	if p.stallFraction > 0 && p.random.Float64() < p.stallFraction {
		return p.stall
	}
	return 0
}
