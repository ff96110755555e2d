// Package wiretime gives TCP connections that know when the kernel received what they read and when they began to
// write. A program that is late to read, because its cores are busy, still learns the true time of arrival, and by how
// much it was late.
//
// On Linux the time is that of SO_TIMESTAMPNS; elsewhere, and for a read to which the kernel gives no time, it is the
// clock when the read returned. Under TLS the time of a read is that of the raw read in which its record ended.
package wiretime

import (
	"net"
	"sync/atomic"
	"time"
)

// maxLag bounds what is believed of a kernel time: beyond it somebody has set the clock.
const maxLag = time.Minute

// Stamp is the time of one read.
type Stamp struct {
	At     time.Time     // when the last byte of the read arrived, with a monotonic reading; zero if nothing was read
	Lag    time.Duration // how much later the read returned; 0 without the kernel's time
	Kernel bool          // the time is the kernel's, not that of our own clock after the read
}

// Exchange is what a connection records about one request and its answer. It belongs to whoever sends the request: a
// connection that has gone on to its next request does not touch it any more. Any goroutine may ask it.
type Exchange struct {
	base  time.Time // the times below count from here, in nanoseconds, so that one atomic holds each
	limit atomic.Int64
	write atomic.Int64 // 0 = nothing written
	read  atomic.Int64 // 0 = nothing read
	lag   atomic.Int64 // noKernelTime, or the lag of the last read
	last  atomic.Int64 // the kernel's time of the last read
	ended atomic.Bool
}

const noKernelTime = -1

// NewExchange returns an empty record. readLimit bounds the reads of the connection, see LimitReads.
func NewExchange(readLimit int) *Exchange {
	x := &Exchange{base: time.Now()}
	x.LimitReads(readLimit)
	return x
}

// LimitReads bounds each following read, and one that is waiting, to n bytes; 0 takes the bound away. The kernel gives
// one time to a read, that of its last byte: where several segments wait, small reads tell the first from the next.
// Without the kernel's times there is no bound: it would give several times to what came at once.
func (x *Exchange) LimitReads(n int) { x.limit.Store(int64(n)) }

// WriteStart returns the clock just before the first write of the exchange, or the zero time if there was none.
func (x *Exchange) WriteStart() time.Time { return x.time(x.write.Load()) }

// LastRead returns the stamp of the last read that brought data. It never goes back: a read whose time is before that
// of its predecessor, which had to do without the kernel's, has the time of the predecessor.
func (x *Exchange) LastRead() Stamp {
	lag := x.lag.Load()
	s := Stamp{At: x.time(x.read.Load()), Kernel: lag != noKernelTime}
	if s.Kernel {
		s.Lag = time.Duration(lag)
	}
	return s
}

// Ended reports whether a read returned an error: the peer closed the connection, or it broke.
func (x *Exchange) Ended() bool { return x.ended.Load() }

func (x *Exchange) time(offset int64) time.Time {
	if offset == 0 {
		return time.Time{}
	}
	return x.base.Add(time.Duration(offset))
}

// wrote records that a write is about to begin.
func (x *Exchange) wrote() {
	if x.write.Load() == 0 {
		x.write.Store(max(1, int64(time.Since(x.base))))
	}
}

// taken is what a read tells beside its data.
type taken struct {
	kernel int64 // wall time of the last byte in nanoseconds since 1970, 0 where it is not known
	// followed: the data waited right behind those of the read before, which had filled its buffer.
	followed bool
}

// stamp records a read that returned at now. What came in one segment is seen to have come at once, however many reads
// it took: the kernel says the same time of each, and without a time from it what follows a full buffer belongs to
// that.
func (x *Exchange) stamp(now time.Time, t taken) {
	lag := lagOf(now, t.kernel)
	at := int64(now.Sub(x.base))
	if lag != noKernelTime {
		at -= lag
	}
	before := x.read.Load()
	same := t.kernel == x.last.Swap(t.kernel) && (t.kernel != 0 || t.followed)
	if before == 0 || !same {
		x.read.Store(max(1, at, before))
	}
	x.lag.Store(lag)
}

// lagOf returns how long before now the kernel's time is, or noKernelTime where that cannot be believed. Only the
// difference of the two wall clock readings is used: a step of the wall clock between two reads does no harm.
func lagOf(now time.Time, kernel int64) int64 {
	lag := now.UnixNano() - kernel
	if kernel == 0 || lag < 0 || lag > int64(maxLag) {
		return noKernelTime
	}
	return lag
}

// Phases are the times that it took to open a connection.
type Phases struct {
	DNS     time.Duration // name lookup; 0 for an address that needs none
	Connect time.Duration // all else until the connection stood, attempts at other addresses of the name included
}

// Conn is a TCP connection that keeps time. It behaves as its *net.TCPConn does in every other respect.
type Conn struct {
	net.Conn // does everything but Read and Write; an interface, so that no other method of TCPConn goes round these
	kernel   *kernelReader
	exchange atomic.Pointer[Exchange]
	phases   Phases
}

// New returns tcp with the kernel's times switched on where it can give them.
func New(tcp *net.TCPConn) *Conn {
	c := &Conn{Conn: tcp}
	c.kernel = newKernelReader(tcp, c.limit)
	return c
}

// Begin makes x the record of what follows, in place of the one before.
func (c *Conn) Begin(x *Exchange) { c.exchange.Store(x) }

// Phases returns what Dialer measured when it opened the connection.
func (c *Conn) Phases() Phases { return c.phases }

// Quiet reports whether nothing waits to be read: no data, and not the connection's end. Where that cannot be seen
// without reading, as without the kernel's times, it says so of every connection.
func (c *Conn) Quiet() bool { return c.kernel == nil || c.kernel.quiet() }

// Read reads as net.TCPConn does and records the time of what it read. The exchange that counts is the one at the
// moment the data are taken, not when the read began to wait for them.
func (c *Conn) Read(p []byte) (int, error) {
	var n int
	var err error
	var t taken
	if c.kernel != nil && len(p) > 0 {
		n, t, err = c.kernel.read(p)
	} else {
		n, err = c.Conn.Read(p)
	}
	if x := c.exchange.Load(); x != nil {
		if n > 0 {
			x.stamp(time.Now(), t)
		}
		if err != nil {
			x.ended.Store(true)
		}
	}
	return n, err
}

// limit returns how many of n bytes a read may ask for.
func (c *Conn) limit(n int) int {
	if x := c.exchange.Load(); x != nil {
		if limit := int(x.limit.Load()); limit > 0 {
			return min(n, limit)
		}
	}
	return n
}

// Write writes as net.TCPConn does and records when the first write of an exchange began.
func (c *Conn) Write(p []byte) (int, error) {
	if x := c.exchange.Load(); x != nil {
		x.wrote()
	}
	return c.Conn.Write(p)
}
