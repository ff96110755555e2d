package openai

import (
	"bufio"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/inferprobe/inferprobe/internal/probe"
)

var discard = log.New(io.Discard, "", 0)

// rawServer answers with bytes of the test's choosing, which no HTTP server would send.
type rawServer struct {
	listener net.Listener
	answer   func(c *rawConn) // once for each request
	conns    atomic.Int64
	requests atomic.Int64
	done     chan struct{} // closed when the server stops
	open     sync.Map      // of net.Conn
	group    sync.WaitGroup
}

// rawConn is a connection on which a request has been read.
type rawConn struct {
	net.Conn
	server  *rawServer
	number  int64 // of the connection, from 1
	request *http.Request
	body    []byte
	closed  bool
}

func startRaw(t testing.TB, answer func(c *rawConn)) *rawServer {
	t.Helper()
	return startRawAt(t, "127.0.0.1:0", answer)
}

func startRawAt(t testing.TB, address string, answer func(c *rawConn)) *rawServer {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	s := &rawServer{listener: listener, answer: answer, done: make(chan struct{})}
	s.group.Go(s.serve)
	t.Cleanup(s.stop)
	return s
}

func (s *rawServer) url() string { return "http://" + s.listener.Addr().String() + "/v1" }

// stop ends the server and every connection to it, as a crash does.
func (s *rawServer) stop() {
	select {
	case <-s.done:
		return
	default:
	}
	close(s.done)
	s.listener.Close()
	s.open.Range(func(conn, _ any) bool { conn.(net.Conn).Close(); return true })
	s.group.Wait()
}

func (s *rawServer) serve() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.open.Store(conn, nil)
		number := s.conns.Add(1)
		s.group.Go(func() {
			defer conn.Close()
			s.converse(&rawConn{Conn: conn, server: s, number: number})
		})
	}
}

func (s *rawServer) converse(c *rawConn) {
	reader := bufio.NewReader(c.Conn)
	for !c.closed {
		request, err := http.ReadRequest(reader)
		if err != nil {
			return
		}
		c.request = request
		if c.body, err = io.ReadAll(request.Body); err != nil {
			return
		}
		s.requests.Add(1)
		s.answer(c)
	}
}

// send writes data as they are.
func (c *rawConn) send(data ...string) { io.WriteString(c.Conn, strings.Join(data, "")) }

// document answers with a whole body.
func (c *rawConn) document(status int, kind, body string) {
	c.send(fmt.Sprintf("HTTP/1.1 %d X\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s", status, kind, len(body), body))
}

const streamHead = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"

// chunk sends one HTTP chunk.
func (c *rawConn) chunk(data ...string) {
	whole := strings.Join(data, "")
	fmt.Fprintf(c.Conn, "%x\r\n%s\r\n", len(whole), whole)
}

// finish sends what makes a whole answer of what came before.
func (c *rawConn) finish() {
	c.chunk(`data: {"choices":[{"delta":{},"finish_reason":"stop"}]}`, "\n\n", "data: [DONE]\n\n")
	c.send("0\r\n\r\n")
}

// whole answers with n tokens.
func (c *rawConn) whole(n int) {
	c.send(streamHead)
	for range n {
		c.chunk(token)
	}
	c.finish()
}

// wait sleeps, or returns at once when the server stops.
func (c *rawConn) wait(d time.Duration) {
	select {
	case <-time.After(d):
	case <-c.server.done:
	}
}

// hang keeps the connection open and silent until the client closes it.
func (c *rawConn) hang() {
	io.Copy(io.Discard, c.Conn)
	c.close()
}

func (c *rawConn) close() {
	c.closed = true
	c.Conn.Close()
}

// reset closes the connection with RST.
func (c *rawConn) reset() {
	c.Conn.(*net.TCPConn).SetLinger(0)
	c.close()
}

const (
	role  = `data: {"choices":[{"delta":{"role":"assistant","content":""}}]}` + "\n\n"
	token = `data: {"choices":[{"delta":{"content":"a"}}]}` + "\n\n"
)

// newClient returns a client of url whose limits are long, unless the options say otherwise.
func newClient(t testing.TB, url string, opts Options) *Client {
	t.Helper()
	opts.BaseURL = url
	c, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// do sends one request for n tokens.
func do(t testing.TB, c *Client, n int) *probe.Result {
	t.Helper()
	res := new(probe.Result)
	var events atomic.Int64
	var flight probe.Flight
	flight.Begin(time.Now())
	c.Do(t.Context(), &probe.Request{Body: []byte(`{"stream":true}`), OutputTokens: n, Flight: &flight, Events: &events}, res)
	waited, came := flight.TimeToFirstToken(time.Now())
	if first, ok := res.TimeToFirstToken(); came != ok || came && waited > first || !came && waited > 0 && res.Sent.IsZero() {
		t.Errorf("in flight the first token came %v after %v, in the result %v after %v", came, waited, ok, first)
	}
	total := 0
	for i, arrival := range res.Arrivals {
		total += arrival.Events
		if i > 0 && arrival.At <= res.Arrivals[i-1].At {
			t.Errorf("arrival %d at %v is not after the one before, at %v", i, arrival.At, res.Arrivals[i-1].At)
		}
	}
	if int64(total) != events.Load() {
		t.Errorf("%d events in arrivals, %d counted live", total, events.Load())
	}
	if total > 0 && (res.FirstToken > res.Arrivals[0].At || res.LastToken != res.Arrivals[len(res.Arrivals)-1].At) {
		t.Errorf("first and last token %v, %v are not of the first and the last arrival", res.FirstToken, res.LastToken)
	}
	if (res.Outcome == probe.Failed) != (res.Reason != "") || (res.Outcome == probe.Failed) != (res.Detail != "") {
		t.Errorf("outcome %v with reason %q and detail %q", res.Outcome, res.Reason, res.Detail)
	}
	return res
}
