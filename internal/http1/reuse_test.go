package http1

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"
)

func TestReuse(t *testing.T) {
	for _, test := range []struct {
		name   string
		answer string
		want   answer // with reused: whether the connection serves another exchange
	}{
		{"length", ok, answer{200, "ok", true, nil}},
		{"length 0", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", answer{200, "", true, nil}},
		{"error status", "HTTP/1.1 503 X\r\nContent-Length: 2\r\n\r\nno", answer{503, "no", true, nil}},
		{
			"chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n",
			answer{200, "ok", true, nil},
		},
		{
			"trailer", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nA: b\r\n\r\n",
			answer{200, "ok", true, nil},
		},
		{"204", "HTTP/1.1 204 No Content\r\n\r\n", answer{204, "", true, nil}},
		{"304", "HTTP/1.1 304 Not Modified\r\n\r\n", answer{304, "", true, nil}},
		{"304 with a length", "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", answer{304, "", true, nil}},
		{
			"1.0 that says so", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
			answer{200, "ok", true, nil},
		},

		{"close", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", answer{200, "ok", false, nil}},
		{"close, in a list", "HTTP/1.1 204 X\r\nConnection: a, Close\r\n\r\n", answer{204, "", false, nil}},
		{"1.0", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", answer{200, "ok", false, nil}},
		{"switched", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", answer{101, "", false, nil}},
		{"surplus", ok + ok, answer{200, "ok", false, nil}},
		{"surplus line", ok + "\r\n", answer{200, "ok", false, nil}},
		{"surplus of no body", "HTTP/1.1 204 X\r\n\r\n.", answer{204, "", false, nil}},
		{
			"surplus after chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n.",
			answer{200, "ok", false, nil},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			plainAndTLS(t, func(t *testing.T, forServer *tls.Config, opts Options) {
				s := serve(t, forServer, always(test.answer))
				tr := newTransport(t, s.url(), opts)
				for i := range int64(3) {
					want := test.want
					want.reused = want.reused && i > 0
					if got := post(t, tr, "{}"); got != want {
						t.Errorf("exchange %d: got %+v, want %+v", i, got, want)
					}
				}
				if conns := s.conns.Load(); test.want.reused != (conns == 1) {
					t.Errorf("%d connections for three exchanges", conns)
				}
			})
		})
	}
}

// TestReuseOfACutAnswer: what ends with the connection, in order or not, leaves none to use.
func TestReuseOfACutAnswer(t *testing.T) {
	for _, test := range []struct {
		name, answer string
		err          error
	}{
		{"until close", "HTTP/1.1 200 OK\r\n\r\nok", nil},
		{"length", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", io.ErrUnexpectedEOF},
		{"chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", io.ErrUnexpectedEOF},
	} {
		t.Run(test.name, func(t *testing.T) {
			plainAndTLS(t, func(t *testing.T, forServer *tls.Config, opts Options) {
				s := serve(t, forServer, func(c *peer) {
					c.request()
					c.send(test.answer)
				})
				tr := newTransport(t, s.url(), opts)
				if got, want := post(t, tr, "{}"), (answer{200, "ok", false, test.err}); got != want {
					t.Errorf("got %+v, want %+v", got, want)
				}
				if n := len(kept(tr)); n != 0 {
					t.Errorf("%d connections are kept", n)
				}
			})
		})
	}
}

// TestReuseNeedsTheWholeAnswer closes exchanges early.
func TestReuseNeedsTheWholeAnswer(t *testing.T) {
	const half = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no" // the rest never comes
	body := func(x *Exchange, head *Head) io.ReadCloser { x.Send(head, nil, nil); return body1(x, head) }
	for _, test := range []struct {
		name, answer string
		read         func(x *Exchange, head *Head)
		reused       bool
	}{
		{"nothing", ok, func(*Exchange, *Head) {}, false},
		{"only sent", ok, func(x *Exchange, head *Head) { x.Send(head, nil, nil) }, false},
		{"only the head", ok, func(x *Exchange, head *Head) { body(x, head) }, false},
		{"a part", ok, func(x *Exchange, head *Head) { io.CopyN(io.Discard, body(x, head), 1) }, false},
		{"all that has come", half, func(x *Exchange, head *Head) { io.CopyN(io.Discard, body(x, head), 1) }, false},
		{"closed body", half, func(x *Exchange, head *Head) { body(x, head).Close() }, false},
		{"whole, aborted", ok, func(x *Exchange, head *Head) { io.ReadAll(body(x, head)); x.Abort() }, false},
		{"whole, without its end", ok, func(x *Exchange, head *Head) { io.ReadFull(body(x, head), make([]byte, 2)) }, true},
		{"no body", "HTTP/1.1 204 X\r\n\r\n", func(x *Exchange, head *Head) { body(x, head) }, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := serve(t, nil, func(c *peer) {
				if c.number == 1 {
					c.request()
					c.send(test.answer)
				}
				always(ok)(c)
			})
			tr := newTransport(t, s.url(), Options{})
			x := open(t, tr)
			test.read(x, newHead(t, tr, http.MethodPost))
			x.Close()
			if n := len(kept(tr)); n > 0 != test.reused {
				t.Errorf("%d connections are kept", n)
			}
			check(t, tr, test.reused)
			s.awaitEnds(t, 1)
		})
	}
}

// body1 returns the body of the answer.
func body1(x *Exchange, head *Head) io.ReadCloser {
	response, err := x.Receive(head)
	if err != nil {
		return http.NoBody
	}
	return response.Body
}

// TestSurplusUnderTLS: what came in one record with the end of an answer is not on the socket any more.
func TestSurplusUnderTLS(t *testing.T) {
	const size = 3 * readBuffer // so that the end of the body goes past our buffer
	for name, surplus := range map[string]string{"": "", "surplus": ok} {
		t.Run(name, func(t *testing.T) {
			forServer, forClient := certificate(t, "127.0.0.1")
			forServer.DynamicRecordSizingDisabled = true // all of it in one record
			answer := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", size, strings.Repeat("x", size))
			s := serve(t, forServer, always(answer+surplus))
			tr := newTransport(t, s.url(), Options{TLS: forClient})
			head := newHead(t, tr, http.MethodGet)
			for i := range 2 {
				x := open(t, tr)
				if want := i > 0 && surplus == ""; x.Reused != want {
					t.Errorf("reused %v, want %v", x.Reused, want)
				}
				x.Send(head, nil, nil)
				response, err := x.Receive(head)
				if err != nil {
					t.Fatal(err)
				}
				if n, err := io.ReadFull(response.Body, make([]byte, size)); n != size || err != nil {
					t.Fatal(n, err)
				}
				if x.conn.in.Buffered() != 0 {
					t.Error("the surplus is in our buffer, where this test does not want it")
				}
				x.Close()
			}
		})
	}
}

// TestLastUsedFirst: the one that was used last is the one that the server will close last.
func TestLastUsedFirst(t *testing.T) {
	s := serve(t, nil, always(ok))
	tr := newTransport(t, s.url(), Options{MaxIdle: 2})
	head := newHead(t, tr, http.MethodPost)
	finish := func(x *Exchange) *conn {
		x.Send(head, nil, nil)
		io.ReadAll(body1(x, head))
		x.Close()
		return x.conn
	}
	exchanges := []*Exchange{open(t, tr), open(t, tr), open(t, tr)}
	var conns []*conn
	for _, x := range exchanges {
		conns = append(conns, finish(x))
	}
	if got := kept(tr); len(got) != 2 || got[0] != conns[0] || got[1] != conns[1] {
		t.Error("the first two are to be kept, since there is room for two")
	}
	for _, want := range []*conn{conns[1], conns[0]} {
		if x := open(t, tr); x.conn != want {
			t.Error("the one that was used last is to be taken first")
		}
	}
	if x := open(t, tr); x.Reused {
		t.Error("a third one was kept")
	}
}

func TestFresh(t *testing.T) {
	s := serve(t, nil, always(ok))
	tr := newTransport(t, s.url(), Options{})
	check(t, tr, false)
	x, err := tr.Open(t.Context(), true, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	if x.Reused || len(kept(tr)) != 1 {
		t.Error("a fresh connection was asked for, the kept one is another's")
	}
}

// TestIdleConnectionThatIsNotQuiet: the server has closed it, or said something that nobody asked for.
func TestIdleConnectionThatIsNotQuiet(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("it cannot be seen without the kernel's times")
	}
	for name, then := range map[string]func(c *peer){
		"closed":  func(*peer) {},
		"reset":   (*peer).reset,
		"unasked": func(c *peer) { c.send("HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n"); c.hang() },
	} {
		t.Run(name, func(t *testing.T) {
			plainAndTLS(t, func(t *testing.T, forServer *tls.Config, opts Options) {
				idle := make(chan bool, 1)
				s := serve(t, forServer, func(c *peer) {
					if c.number > 1 {
						always(ok)(c)
						return
					}
					c.request()
					c.send(ok)
					<-idle
					then(c)
				})
				tr := newTransport(t, s.url(), opts)
				check(t, tr, false)
				conns := kept(tr)
				if len(conns) != 1 || !conns[0].usable() {
					t.Fatal("the connection is not kept, or not usable")
				}
				idle <- true
				eventually(t, "what the server did is seen", func() bool { return !conns[0].timed.Quiet() })
				check(t, tr, false)
				check(t, tr, true)
				s.awaitEnds(t, 1)
			})
		})
	}
}

// TestReap lets the older of two connections expire.
func TestReap(t *testing.T) {
	closed := make(chan int64, 2)
	s := serve(t, nil, func(c *peer) {
		always(ok)(c)
		closed <- c.number
	})
	tr := newTransport(t, s.url(), Options{})
	head := newHead(t, tr, http.MethodPost)
	first, second := open(t, tr), open(t, tr)
	for _, x := range []*Exchange{first, second} {
		x.Send(head, nil, nil)
		io.ReadAll(body1(x, head))
		x.Close()
	}
	tr.reap()
	if len(kept(tr)) != 2 {
		t.Error("connections were closed before their time")
	}
	first.conn.expiry = time.Now()
	tr.reap()
	if got := kept(tr); len(got) != 1 || got[0] != second.conn || <-closed == 0 {
		t.Error("the older one is to be closed, and only that")
	}
	if tr.reaper == nil {
		t.Error("nothing closes the other one")
	}
	second.conn.expiry = time.Now() // before the reaper comes
	if x := open(t, tr); x.Reused {
		t.Error("an expired connection is used")
	}
	tr.reap()
	if tr.reaper != nil {
		t.Error("a timer for nothing")
	}
}

func TestIdleTimeout(t *testing.T) {
	closed := make(chan bool)
	s := serve(t, nil, func(c *peer) {
		always(ok)(c)
		close(closed)
	})
	tr := newTransport(t, s.url(), Options{IdleTimeout: 10 * time.Millisecond})
	check(t, tr, false)
	<-closed
	eventually(t, "the closed connection is forgotten", func() bool { return len(kept(tr)) == 0 })
}

func TestTransportClose(t *testing.T) {
	closed := make(chan int64, 2)
	s := serve(t, nil, func(c *peer) {
		always(ok)(c)
		closed <- c.number
	})
	tr := newTransport(t, s.url(), Options{})
	head := newHead(t, tr, http.MethodPost)
	check(t, tr, false)
	x, err := tr.Open(t.Context(), true, 0)
	if err != nil {
		t.Fatal(err)
	}
	tr.Close()
	if number := <-closed; number != 1 {
		t.Errorf("connection %d was closed, want the idle one", number)
	}
	x.Send(head, nil, nil) // an exchange that is under way goes on to its end
	if text, err := io.ReadAll(body1(x, head)); string(text) != "ok" || err != nil {
		t.Errorf("%q, %v", text, err)
	}
	x.Close()
	if number := <-closed; number != 2 || len(kept(tr)) != 0 {
		t.Error("a closed transport keeps a connection")
	}
	tr.Close()
}
