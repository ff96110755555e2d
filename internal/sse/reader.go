// Package sse reads event streams as the WHATWG's HTML standard defines them (section 9.2, "Server-sent events"), with
// one timestamp for each read of the stream underneath: all events that one read completed happened at the same time.
package sse

import (
	"bytes"
	"errors"
	"io"
	"time"
)

// MaxEvent is the length in bytes up to which an event is read.
const MaxEvent = 32 << 20

// LongEvent is the length in bytes from which on an event takes one of the places of LimitLong.
const LongEvent = 1 << 20

// ErrTooLong is the error of an event longer than MaxEvent.
var ErrTooLong = errors.New("sse: event longer than 32 MiB")

// ErrTooManyLong is the error of a long event that found no place.
var ErrTooManyLong = errors.New("sse: event longer than 1 MiB while other streams have such, too")

const (
	initialBuffer = 4 << 10   // enough for a stream whose events come one by one
	busyBuffer    = 32 << 10  // of a stream of which more waits than one read takes
	keptBuffer    = 256 << 10 // a buffer that grew beyond this is not kept for the next stream
	maxStray      = 4 << 10   // bytes of lines that are none of the standard
	minRead       = 512       // below this much room the buffer is compacted or grows
	maxEmptyReads = 100       // as bufio's
	byteOrderMark = "\xef\xbb\xbf"
	dataField     = "data: "
)

// Event is one event that carries data.
type Event struct {
	Name         []byte        // of the event field, empty where there is none
	Data         []byte        // data lines, joined by line feeds
	At           time.Time     // the time of the read that completed the event
	Lag          time.Duration // how late that read was
	Unterminated bool          // the stream ended where the event's blank line should be
}

// Reader reads events. Use NewReader, or Reset on a zero Reader.
//
// Deviating from the standard, the last event of a stream that ends in order is returned even without its blank line:
// servers forget it.
type Reader struct {
	src   io.Reader
	stamp func() (at time.Time, lag time.Duration)
	max   int // longest event

	places chan struct{} // for long events, nil = no limit
	placed bool          // we hold one

	err error // of src, returned once everything before it is

	buf     []byte
	more    bool // the last read filled the buffer
	r, w    int  // what is read and not yet parsed: buf[r:w]
	scanned int  // no line ends in buf[r:scanned]
	cr      int  // where the next CR is, w if there is none; at or past scanned
	skipLF  bool // the last line ended in CR: an LF that follows belongs to it
	started bool // past any byte order mark

	// The event that is being read. Its only data line stays where it is, at buf[data:data+size]; several are joined.
	lines      int // data lines so far
	data, size int
	joined     []byte
	name       []byte

	comments int
	stray    []byte
	next     Event // what Next returns; its time is that of the last read with data
}

// NewReader returns a Reader of src. stamp is called after each read that returned data and tells its time, and by how
// much that read was late; without it the time is the clock's.
func NewReader(src io.Reader, stamp func() (at time.Time, lag time.Duration)) *Reader {
	r := new(Reader)
	r.Reset(src, stamp)
	return r
}

// Reset makes r read a new stream and keeps its buffer.
func (r *Reader) Reset(src io.Reader, stamp func() (at time.Time, lag time.Duration)) {
	if stamp == nil {
		stamp = func() (time.Time, time.Duration) { return time.Now(), 0 }
	}
	if r.placed {
		<-r.places
	}
	buf, joined, name, stray := r.buf, r.joined[:0], r.name[:0], r.stray[:0]
	if len(buf) == 0 || len(buf) > keptBuffer {
		buf = make([]byte, initialBuffer)
	}
	if cap(joined) > keptBuffer {
		joined = nil
	}
	*r = Reader{src: src, stamp: stamp, max: MaxEvent, buf: buf, joined: joined, name: name, stray: stray}
}

// LimitLong lets only as many streams have long events at a time as the channel has places. A stream keeps its place, as
// it keeps the memory, until the next Reset. All readers that share the channel together are bounded by that.
func (r *Reader) LimitLong(places chan struct{}) { r.places = places }

// place takes a place for a long event, and reports false if there is none.
func (r *Reader) place() bool {
	if r.places == nil || r.placed {
		return true
	}
	select {
	case r.places <- struct{}{}:
		r.placed = true
	default:
	}
	return r.placed
}

// Comments returns how many comment lines were read.
func (r *Reader) Comments() int { return r.comments }

// Stray returns the first lines that are none of the standard's, which ignores them: a stream that has such, and no
// events, is something else. It is valid until the next Reset.
func (r *Reader) Stray() []byte { return r.stray }

// Next returns the next event that carries data. It is valid until the next call. At the end of the stream the error is
// io.EOF; any other error of the stream discards an event that it cuts.
func (r *Reader) Next() (*Event, error) {
	r.lines, r.joined, r.name = 0, r.joined[:0], r.name[:0]
	if r.whole() {
		return &r.next, nil
	}
	for {
		start, end, ok := r.line()
		switch {
		case !ok && r.err == nil:
			if err := r.fill(); err != nil {
				return nil, err
			}
		case !ok:
			return r.last()
		case start < end:
			r.parse(start, end)
		case r.lines > 0:
			return r.event(), nil
		default:
			r.name = r.name[:0] // an event without data is dropped, and its name with it
		}
	}
}

// whole takes the next event if it is, as nearly all are, one line of data and a blank line that are both there and end
// in LF.
func (r *Reader) whole() bool {
	rest := r.buf[r.r:r.cr]
	if r.skipLF || !r.started || len(rest) < len(dataField) || string(rest[:len(dataField)]) != dataField {
		return false
	}
	lf := bytes.IndexByte(rest, '\n')
	if lf < 0 {
		r.scanned = r.cr
		return false
	}
	if lf+1 == len(rest) || rest[lf+1] != '\n' {
		return false
	}
	r.r += lf + 2
	r.next.Name, r.next.Data, r.next.Unterminated = nil, rest[len(dataField):lf], false
	return true
}

// last returns the event that the end of the stream left without its blank line, or the stream's error.
func (r *Reader) last() (*Event, error) {
	if r.err != io.EOF { //nolint:errorlint // a reader must not wrap it
		return nil, r.err
	}
	if r.r < r.w {
		r.parse(r.r, r.w)
		r.r, r.scanned = r.w, r.w
	}
	if r.lines == 0 {
		return nil, io.EOF
	}
	event := r.event()
	event.Unterminated = true
	r.lines = 0
	return event, nil
}

func (r *Reader) event() *Event {
	r.next.Name, r.next.Data, r.next.Unterminated = r.name, r.joined, false
	if r.lines == 1 {
		r.next.Data = r.buf[r.data : r.data+r.size]
	}
	return &r.next
}

// line takes one line out of what is read: buf[start:end], without the line's end. It is false if none is complete.
func (r *Reader) line() (start, end int, ok bool) {
	if r.skipLF && r.r < r.w {
		if r.buf[r.r] == '\n' {
			r.r++
		}
		r.skipLF = false
	}
	if !r.started && !r.skipMark() {
		return 0, 0, false
	}
	r.scanned = max(r.scanned, r.r)
	end = r.cr // CR is rare: it is looked for once in all that is read, not line by line
	if lf := bytes.IndexByte(r.buf[r.scanned:r.cr], '\n'); lf >= 0 {
		end = r.scanned + lf
	} else if end == r.w {
		r.scanned = r.w
		return 0, 0, false
	} else {
		r.skipLF = true
		r.findCR(end + 1)
	}
	start, r.r = r.r, end+1
	return start, end, true
}

// findCR looks for the next CR from start on.
func (r *Reader) findCR(start int) {
	r.cr = r.w
	if i := bytes.IndexByte(r.buf[start:r.w], '\r'); i >= 0 {
		r.cr = start + i
	}
}

// skipMark skips a byte order mark at the start of the stream. It is false while there are too few bytes to tell.
func (r *Reader) skipMark() bool {
	head := r.buf[r.r:r.w]
	if len(head) < len(byteOrderMark) && r.err == nil && bytes.HasPrefix([]byte(byteOrderMark), head) {
		return false
	}
	if bytes.HasPrefix(head, []byte(byteOrderMark)) {
		r.r += len(byteOrderMark)
	}
	r.started = true
	return true
}

// parse takes in the line buf[start:end], which is not blank.
func (r *Reader) parse(start, end int) {
	line := r.buf[start:end]
	if len(line) > len(dataField) && string(line[:len(dataField)]) == dataField { // nearly every line
		r.addData(start+len(dataField), end)
		return
	}
	colon := bytes.IndexByte(line, ':')
	field, value := line, end
	if colon >= 0 {
		field, value = line[:colon], start+colon+1
	}
	if value < end && r.buf[value] == ' ' {
		value++
	}
	switch {
	case colon == 0:
		r.comments++
	case string(field) == "data":
		r.addData(value, end)
	case string(field) == "event":
		r.name = append(r.name[:0], r.buf[value:end]...)
	case string(field) != "id" && string(field) != "retry" && len(r.stray) < maxStray:
		r.stray = append(append(r.stray, line[:min(len(line), maxStray-len(r.stray))]...), '\n')
	}
}

func (r *Reader) addData(start, end int) {
	r.lines++
	switch r.lines {
	case 1:
		r.data, r.size = start, end-start
		return
	case 2:
		r.joined = append(r.joined, r.buf[r.data:r.data+r.size]...)
	}
	r.joined = append(append(r.joined, '\n'), r.buf[start:end]...)
}

// fill reads once more. Its error is that of an event that is too long; those of the stream go to r.err.
func (r *Reader) fill() error {
	keep := r.r
	if r.lines == 1 {
		keep = r.data
	}
	switch size := r.w - keep + len(r.joined); {
	case size > r.max:
		return ErrTooLong
	case size > LongEvent && !r.place():
		return ErrTooManyLong
	}
	r.makeRoom(keep)
	for range maxEmptyReads {
		n, err := r.src.Read(r.buf[r.w:])
		r.err = err
		r.more = n == len(r.buf)-r.w
		if n > 0 {
			seen := r.w
			r.w += n
			if r.cr == seen {
				r.findCR(seen)
			}
			r.next.At, r.next.Lag = r.stamp()
		}
		if n > 0 || err != nil {
			return nil //nolint:nilerr // it is in r.err until what was read is used up
		}
	}
	r.err = io.ErrNoProgress
	return nil
}

// makeRoom makes sure that a read finds room behind buf[keep:w], which has to stay.
func (r *Reader) makeRoom(keep int) {
	if r.more && len(r.buf) < busyBuffer {
		r.move(make([]byte, busyBuffer), keep)
	} else if keep == r.w {
		r.move(r.buf, keep)
	}
	if len(r.buf)-r.w >= minRead {
		return
	}
	buf := r.buf
	if (r.w-keep)*2 > len(buf) {
		buf = make([]byte, 2*len(buf))
	}
	r.move(buf, keep)
}

// move moves buf[keep:w] to the start of dst, and every offset with it.
func (r *Reader) move(dst []byte, keep int) {
	copy(dst, r.buf[keep:r.w])
	r.buf = dst
	r.r -= keep
	r.w -= keep
	r.scanned -= keep
	r.cr -= keep
	r.data -= keep
}
