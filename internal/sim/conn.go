package sim

import (
	"context"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// listener accepts connections that know when the kernel received what was read from them and, with sendTimes, when it
// sent what was written.
type listener struct {
	net.Listener
	sendTimes bool
}

func (l listener) Accept() (net.Conn, error) {
	accepted, err := l.Listener.Accept()
	if tcp, ok := accepted.(*net.TCPConn); ok {
		return newConn(tcp, l.sendTimes), nil
	}
	return accepted, err
}

// conn is a connection of Serve's. It notes when the kernel received what was read last: on a busy machine the
// goroutine that reads runs milliseconds later. And it can join the several writes that net/http makes of one.
type conn struct {
	*net.TCPConn
	reader  kernelReader
	arrived atomic.Int64 // Unix ns; 0 = not known

	// Used by the goroutine of the request alone, as are writes.
	corked bool
	held   []byte
	sends  sendTimes
	sent   int64 // when the kernel sent what was written last, Unix ns; 0 = not known
}

// Write writes b, or keeps it while the connection is corked.
func (c *conn) Write(b []byte) (int, error) {
	if c.corked {
		c.held = append(c.held, b...)
		return len(b), nil
	}
	return c.write(b)
}

func (c *conn) write(b []byte) (int, error) {
	if !c.sends.on {
		return c.TCPConn.Write(b)
	}
	began := time.Now()
	n, err := c.TCPConn.Write(b)
	c.sent = c.sends.since(began.UnixNano())
	return n, err
}

// cork keeps back what is written until uncork writes it at once.
func (c *conn) cork() { c.corked, c.held = true, c.held[:0] }

func (c *conn) uncork() error {
	c.corked = false
	_, err := c.write(c.held)
	return err
}

// connKey is the context key of a request's *conn.
type connKey struct{}

func withConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// connOf returns the connection that r came on, or nil if Serve did not accept it.
func connOf(r *http.Request) *conn {
	c, _ := r.Context().Value(connKey{}).(*conn)
	return c
}

// receivedAt returns when the head of the request that a handler begins to serve at time now was received.
func (c *conn) receivedAt(now time.Time) time.Time {
	if c == nil {
		return now
	}
	lag := time.Duration(now.UnixNano() - c.arrived.Load())
	if lag < 0 || lag > time.Minute { // the kernel's time is missing, or a clock was set
		return now
	}
	return now.Add(-lag)
}
