package http1

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/inferprobe/inferprobe/internal/wiretime/wiretimetest"
)

// slew is by how much the kernel's clock and ours may differ between two readings.
const slew = 100 * time.Microsecond

func TestTimes(t *testing.T) {
	stamps := wiretimetest.Stamps(t)
	plainAndTLS(t, func(t *testing.T, forServer *tls.Config, opts Options) {
		s := serve(t, forServer, always(ok))
		tr := newTransport(t, s.url(), opts)
		head := newHead(t, tr, http.MethodPost)
		for i, size := range []int{0, 0, 1 << 20} {
			x := open(t, tr)
			if x.Reused != (i > 0) {
				t.Errorf("exchange %d on a kept connection: %v", i, x.Reused)
			}
			if !x.Times.WriteStart().IsZero() || !x.Times.LastRead().At.IsZero() {
				t.Error("an exchange that has not begun has times") // such as those of the handshake
			}
			before := time.Now()
			x.Send(head, nil, make([]byte, size))
			response, err := x.Receive(head)
			received := time.Now()
			if err != nil {
				t.Fatal(err)
			}
			write, read := x.Times.WriteStart(), x.Times.LastRead().At
			if write.Before(before) || write.After(received) {
				t.Errorf("written at %v of %v", write.Sub(before), received.Sub(before))
			}
			if read.Before(write.Add(-slew)) || read.After(received) {
				t.Errorf("written at %v, read at %v of %v", write.Sub(before), read.Sub(before), received.Sub(before))
			}
			if got := x.Times.LastRead().Kernel; got != stamps {
				t.Errorf("exchange %d has the kernel's time: %v, want %v", i, got, stamps)
			}
			io.ReadAll(response.Body)
			untilWritten(t, x)
			x.Close()
			check(t, tr, true) // the next exchange on the connection
			if x.Times.WriteStart() != write {
				t.Error("the next exchange changed the times of this one")
			}
		}
	})
}

// TestTimesBelongToOneExchange: looking whether a connection can be used again leaves no trace in the exchange before.
func TestTimesBelongToOneExchange(t *testing.T) {
	plainAndTLS(t, func(t *testing.T, forServer *tls.Config, opts Options) {
		s := serve(t, forServer, always(ok))
		tr := newTransport(t, s.url(), opts)
		head := newHead(t, tr, http.MethodPost)
		x := open(t, tr)
		x.Send(head, nil, nil)
		io.ReadAll(body1(x, head))
		x.Close()
		read := x.Times.LastRead()
		check(t, tr, true)
		if x.Times.LastRead() != read || x.Times.Ended() {
			t.Error("the exchange has changed after its end")
		}
	})
}

// reads is a connection that knows its longest read.
type reads struct {
	net.Conn
	longest int
}

func (r *reads) Read(p []byte) (int, error) {
	n, err := r.Conn.Read(p)
	r.longest = max(r.longest, n)
	return n, err
}

func TestReadLimit(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("there is no limit without the kernel's times")
	}
	const limit = 100
	s := serve(t, nil, always("HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n"+strings.Repeat("x", 20000)))
	tr := newTransport(t, s.url(), Options{})
	head := newHead(t, tr, http.MethodPost)
	for range 2 { // on a new connection and on a kept one
		x, err := tr.Open(t.Context(), false, limit)
		if err != nil {
			t.Fatal(err)
		}
		r := &reads{Conn: x.conn.timed}
		x.conn.net = r
		x.Send(head, nil, nil)
		body := body1(x, head)
		io.CopyN(io.Discard, body, 10000)
		if r.longest != limit {
			t.Errorf("a read of %d bytes, want %d", r.longest, limit)
		}
		x.Times.LimitReads(0)
		if text, err := io.ReadAll(body); len(text) != 10000 || err != nil || r.longest <= limit {
			t.Errorf("%d bytes, %v; the longest read is of %d bytes", len(text), err, r.longest)
		}
		x.conn.net = x.conn.timed
		x.Close()
	}
}

// raceDetector reports whether it is on: sync.Pool then throws away, at random, what it is given.
func raceDetector() bool {
	info, known := debug.ReadBuildInfo()
	return known && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

// TestSendAllocatesNothing: the request's memory has served the exchange before.
func TestSendAllocatesNothing(t *testing.T) {
	limit := 0.0
	if raceDetector() {
		limit = 4
	}
	plainAndTLS(t, func(t *testing.T, forServer *tls.Config, opts Options) {
		tr := newTransport(t, serve(t, forServer, (*peer).hang).url(), opts)
		head := newHead(t, tr, http.MethodPost)
		x := open(t, tr)
		fields, body := []Field{{"X-Request-Id", "7"}, {"Traceparent", "00-1"}}, make([]byte, 2000)
		if n := testing.AllocsPerRun(500, func() { x.Send(head, fields, body) }); n > limit || x.unsent != nil {
			t.Errorf("%v allocations, want at most %v; %v", n, limit, x.unsent)
		}
	})
}

// TestAllocations counts what an exchange on a kept connection allocates: mostly net/http for the answer. The count is
// of the whole program, so the server allocates nothing.
func TestAllocations(t *testing.T) {
	var length atomic.Int64 // of a request
	s := serve(t, nil, func(c *peer) {
		answer, buffer := []byte(ok), make([]byte, 4<<10)
		for received := int64(0); ; {
			n, err := c.Conn.Read(buffer)
			if err != nil {
				return
			}
			if received += int64(n); received == length.Load() {
				received = 0
				c.Write(answer)
			}
		}
	})
	tr := newTransport(t, s.url(), Options{})
	head := newHead(t, tr, http.MethodPost)
	fields, body, buffer := []Field{{"X-Request-Id", "7"}}, make([]byte, 2000), make([]byte, 2)
	length.Store(int64(len(head.start) + len("X-Request-Id: 7\r\nContent-Length: 2000\r\n\r\n") + len(body)))
	exchange := func() {
		x, err := tr.Open(t.Context(), false, 0)
		if err != nil {
			t.Fatal(err)
		}
		x.Send(head, fields, body)
		response, err := x.Receive(head)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := io.ReadFull(response.Body, buffer); n != 2 || err != nil {
			t.Fatal(n, err)
		}
		response.Body.Close()
	}
	exchange()
	const limit = 17 // Go 1.26 needs 14, and one more under the race detector
	if n := testing.AllocsPerRun(500, exchange); n > limit || s.conns.Load() != 1 {
		t.Errorf("%v allocations for an exchange, want at most %d; %d connections", n, limit, s.conns.Load())
	}
}

// TestManyAtOnce is for the race detector, and for answers that come to the wrong one.
func TestManyAtOnce(t *testing.T) {
	plainAndTLS(t, func(t *testing.T, forServer *tls.Config, opts Options) {
		s := serve(t, forServer, func(c *peer) {
			for request, body := c.request(); request != nil; request, body = c.request() {
				fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(body), body)
			}
		})
		opts.MaxIdle = 8
		tr := newTransport(t, s.url(), opts)
		head := newHead(t, tr, http.MethodPost)
		var group sync.WaitGroup
		var whole, aborted atomic.Int64
		for i := range 16 {
			group.Go(func() {
				for j := range 20 {
					body := fmt.Sprintf("%d.%d.%s", i, j, strings.Repeat("x", (i*j%7)*(10<<10)))
					ctx, cancel := context.WithCancel(t.Context())
					if (i+j)%5 == 0 {
						go cancel()
					}
					switch got := do(ctx, tr, head, body); {
					case got.err != nil && ctx.Err() != nil:
						aborted.Add(1)
					case got.err != nil || got.body != body:
						t.Errorf("%d.%d: %d bytes for %d, %v", i, j, len(got.body), len(body), got.err)
					default:
						whole.Add(1)
					}
					cancel()
				}
			})
		}
		group.Wait()
		if whole.Load() == 0 || len(kept(tr)) > 8 {
			t.Errorf("%d whole, %d aborted, %d kept", whole.Load(), aborted.Load(), len(kept(tr)))
		}
	})
}
