package sim

import (
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"time"
)

// sink writes events to the connection and notes when.
type sink struct {
	w      io.Writer // the response, or a compressor before it
	flush  func() error
	conn   *conn // nil if it cannot be corked
	record *entry
	split  func(rest int) int // how many of the bytes to come go into the next write; nil = all

	hold       bool // keep everything back until release
	held       []byte
	heldTokens int
}

// send writes events that hold so many tokens.
func (o *sink) send(events []byte, tokens int) error {
	if o.hold {
		o.held = append(o.held, events...)
		o.heldTokens += tokens
		return nil
	}
	for o.split != nil {
		n := o.split(len(events))
		if n >= len(events) {
			break
		}
		if err := o.write(events[:n], 0); err != nil {
			return err
		}
		events = events[n:]
	}
	return o.write(events, tokens)
}

// write is one write.
func (o *sink) write(b []byte, tokens int) error {
	before := time.Now()
	_, err := o.w.Write(b)
	if err == nil {
		err = o.flush()
	}
	if err == nil {
		o.note(before, tokens)
	}
	return err
}

// note records a write that began at before and has just returned.
func (o *sink) note(before time.Time, tokens int) {
	after := time.Now()
	if o.conn != nil && o.conn.sent >= before.UnixNano() {
		before = time.Unix(0, o.conn.sent)
		after = before
	}
	o.record.add(before, after, tokens)
}

// release writes what was held back: in a single system call if the connection can be corked, else in as many as
// net/http makes of it.
func (o *sink) release() error {
	if !o.hold {
		return nil
	}
	o.hold = false
	if o.conn == nil || o.split != nil {
		return o.send(o.held, o.heldTokens)
	}
	o.conn.cork()
	_, err := o.w.Write(o.held)
	if err == nil {
		err = o.flush()
	}
	before := time.Now()
	if err := errors.Join(err, o.conn.uncork()); err != nil {
		return err
	}
	o.note(before, o.heldTokens)
	return nil
}

// plainSink is a sink that writes to the response as it is.
func (x *exchange) plainSink() sink {
	flush := http.NewResponseController(x.w).Flush
	return sink{w: x.w, flush: flush, conn: x.conn, record: x.record, held: x.out.held[:0]}
}

// openSink makes the sink that the plan wants, and returns what ends it.
func (x *exchange) openSink(hold bool) (closeSink func() error) {
	p := &x.job.plan
	x.out = x.plainSink()
	x.out.hold = hold
	closeSink = x.out.release
	if p.gzip {
		compressor, flush := gzip.NewWriter(x.w), x.out.flush
		x.out.w = compressor
		x.out.flush = func() error {
			if err := compressor.Flush(); err != nil {
				return err
			}
			return flush()
		}
		closeSink = func() error {
			if err := x.out.release(); err != nil {
				return err
			}
			return compressor.Close()
		}
	}
	if p.splitting {
		x.out.split = func(rest int) int {
			if p.split == half {
				return 1 + x.random.IntN(rest)
			}
			return max(p.split, 1)
		}
	}
	return closeSink
}
