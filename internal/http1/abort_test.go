package http1

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"os"
	"sync"
	"testing"
)

// stage is how far an exchange has come when it is aborted.
type stage struct {
	name string
	size int // of the request
	talk func(c *peer, reached chan<- bool, over <-chan bool)
	body bool // the stage is reached when the client has the answer's head
}

var stages = []stage{
	{"while it is written", unread, func(c *peer, reached chan<- bool, over <-chan bool) {
		c.in.ReadByte()
		reached <- true
		<-over
	}, false},
	{"before the answer", 10, func(c *peer, reached chan<- bool, _ <-chan bool) {
		c.request()
		reached <- true
		c.hang()
	}, false},
	{"within the head", 10, func(c *peer, reached chan<- bool, _ <-chan bool) {
		c.request()
		c.send("HTTP/1.1 200")
		reached <- true
		c.hang()
	}, false},
	{"within the body", 10, func(c *peer, _ chan<- bool, _ <-chan bool) {
		c.request()
		c.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no")
		c.hang()
	}, true},
}

// TestAbort ends an exchange while the server keeps it waiting.
func TestAbort(t *testing.T) {
	for _, stage := range stages {
		for _, byContext := range []bool{false, true} {
			t.Run(stage.name+map[bool]string{true: ", by its context"}[byContext], func(t *testing.T) {
				plainAndTLS(t, func(t *testing.T, forServer *tls.Config, opts Options) {
					abortAt(t, stage, byContext, forServer, opts)
				})
			})
		}
	}
}

func abortAt(t *testing.T, stage stage, byContext bool, forServer *tls.Config, opts Options) {
	reached, over := make(chan bool, 1), make(chan bool)
	defer close(over)
	s := serve(t, forServer, func(c *peer) { stage.talk(c, reached, over) })
	tr := newTransport(t, s.url(), opts)
	head := newHead(t, tr, http.MethodPost)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	x, err := tr.Open(ctx, false, 0)
	if err != nil {
		t.Fatal(err)
	}
	abort := x.Abort
	if byContext {
		abort = cancel
	}
	var group sync.WaitGroup
	group.Go(func() { <-reached; abort() })
	x.Send(head, nil, make([]byte, stage.size))
	response, err := x.Receive(head)
	if stage.body {
		if err != nil {
			t.Fatal(err)
		}
		reached <- true
		_, err = io.ReadAll(response.Body)
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v, want that of a deadline", err)
	}
	group.Wait()
	untilWritten(t, x)
	x.Close()
	if len(kept(tr)) != 0 {
		t.Error("the connection is kept")
	}
}

func TestAbortBeforeSend(t *testing.T) {
	for _, size := range []int{10, 1 << 20} {
		s := serve(t, nil, always(ok))
		tr := newTransport(t, s.url(), Options{})
		head := newHead(t, tr, http.MethodPost)
		x := open(t, tr)
		x.Abort()
		x.Send(head, nil, make([]byte, size))
		untilWritten(t, x)
		if _, err := x.Receive(head); !errors.Is(err, os.ErrDeadlineExceeded) || !x.Silent() {
			t.Errorf("got %v, want that of a deadline", err)
		}
		x.Close()
		check(t, tr, false)
	}
}

// TestLateAbort: an Abort that comes with the exchange's end, or after it, does nothing to the next exchange.
func TestLateAbort(t *testing.T) {
	s := serve(t, nil, always(ok))
	tr := newTransport(t, s.url(), Options{})
	head := newHead(t, tr, http.MethodPost)
	var group sync.WaitGroup
	reused := 0
	for i := range 1000 {
		ctx, cancel := context.WithCancel(t.Context())
		x, err := tr.Open(ctx, false, 0)
		if err != nil {
			t.Fatal(err)
		}
		if x.Reused {
			reused++
		}
		x.Send(head, nil, []byte("{}"))
		response, err := x.Receive(head)
		if err != nil {
			t.Fatal(i, err)
		}
		if text, err := io.ReadAll(response.Body); string(text) != "ok" || err != nil {
			t.Fatal(i, string(text), err)
		}
		abort := []func(){x.Abort, cancel}[i%2]
		group.Go(abort)
		x.Close()
		group.Go(abort)
	}
	group.Wait()
	if reused == 0 {
		t.Error("no connection was reused, so nothing could be disturbed")
	}
}

// TestCloseTwice: the body closes the exchange, and so may its user.
func TestCloseTwice(t *testing.T) {
	s := serve(t, nil, always(ok))
	tr := newTransport(t, s.url(), Options{})
	check(t, tr, false) // closes the body and the exchange
	x, y := open(t, tr), open(t, tr)
	if !x.Reused || y.Reused {
		t.Error("one connection was kept twice")
	}
	x.Close()
	x.Close()
	if x.release() {
		t.Error("a context still holds an exchange that is closed")
	}
}

// TestOpenWithAnEndedContext opens nothing and takes nothing.
func TestOpenWithAnEndedContext(t *testing.T) {
	s := serve(t, nil, always(ok))
	tr := newTransport(t, s.url(), Options{})
	check(t, tr, false)
	why := errors.New("why")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	for _, fresh := range []bool{false, true} {
		if x, err := tr.Open(ctx, fresh, 0); x != nil || err != why {
			t.Errorf("got %v, %v; want %v", x, err, why)
		}
	}
	if s.conns.Load() != 1 || len(kept(tr)) != 1 {
		t.Error("it touched connections")
	}
}

// TestAbortedCloseIsShort: TLS takes its leave with a message, which waits for seconds for a server that does not read.
func TestAbortedCloseIsShort(t *testing.T) {
	for _, aborted := range []bool{false, true} {
		shaken, received := make(chan bool, 1), make(chan int64, 1)
		forServer, forClient := certificate(t, "127.0.0.1")
		s := serve(t, forServer, func(c *peer) {
			if err := c.Conn.(*tls.Conn).Handshake(); err != nil {
				t.Error(err)
			}
			shaken <- true
			n, _ := io.Copy(io.Discard, socket(c.Conn))
			received <- n
		})
		x := open(t, newTransport(t, s.url(), Options{TLS: forClient}))
		<-shaken
		if aborted {
			x.Abort()
		}
		x.Close()
		if n := <-received; (n == 0) != aborted {
			t.Errorf("aborted %v: %d bytes to take leave", aborted, n)
		}
	}
}
