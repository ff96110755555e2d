package http1

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
)

func TestInterimAnswers(t *testing.T) {
	const hints = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
	const goOn = "HTTP/1.1 100 Continue\r\n\r\n"
	for _, test := range []struct {
		name, answer string
		status       int
		body         string
	}{
		{"100", goOn + ok, 200, "ok"},
		{"103", hints + ok, 200, "ok"},
		{"102 with a length", "HTTP/1.1 102 Processing\r\nContent-Length: 3\r\n\r\n" + ok, 200, "ok"},
		{"many", strings.Repeat(goOn+hints, 500) + ok, 200, "ok"},
		{"101 is none", "HTTP/1.1 101 Switching Protocols\r\n\r\n", 101, ""},
		{"101 after one", goOn + "HTTP/1.1 101 Switching Protocols\r\n\r\n", 101, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			tr := newTransport(t, serve(t, nil, always(test.answer)).url(), Options{})
			for i := range 2 {
				want := answer{test.status, test.body, i > 0 && test.status != 101, nil}
				if got := post(t, tr, "{}"); got != want {
					t.Errorf("got %+v, want %+v", got, want)
				}
			}
		})
	}
}

// TestLongHeads: there is an end to a server's talking, but not where other servers talk.
func TestLongHeads(t *testing.T) {
	line := "X-Bomb: " + strings.Repeat("x", 1<<10) + "\r\n"
	for _, test := range []struct {
		name, start, part string
		parts             int // 0 = without end
		end               string
		want              answer
	}{
		{"60 lines", "HTTP/1.1 200 OK\r\n", line, 60, "Content-Length: 2\r\n\r\nok", answer{200, "ok", false, nil}},
		{
			"a body is not counted", "HTTP/1.1 200 OK\r\nContent-Length: 103400\r\n\r\n", line, 100, "",
			answer{200, strings.Repeat(line, 100), false, nil},
		},
		{"endless fields", "HTTP/1.1 200 OK\r\n", line, 0, "", answer{err: errHeadTooLong}},
		{"endless field", "HTTP/1.1 200 OK\r\nX-Bomb: ", line[:1<<10], 0, "", answer{err: errHeadTooLong}},
		{"endless line", "", line[8 : 1<<10], 0, "", answer{err: errHeadTooLong}},
		{"endless interim answers", "", "HTTP/1.1 100 Continue\r\n\r\n", 0, "", answer{err: errHeadTooLong}},
		{"endless interim heads", "", "HTTP/1.1 103 Early Hints\r\n" + line + "\r\n", 0, "", answer{err: errHeadTooLong}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := serve(t, nil, func(c *peer) {
				c.request()
				_, err := io.WriteString(c, test.start)
				for i := 0; err == nil && (test.parts == 0 || i < test.parts); i++ {
					_, err = io.WriteString(c, test.part)
				}
				c.send(test.end)
			})
			if got := post(t, newTransport(t, s.url(), Options{}), "{}"); got != test.want {
				t.Errorf("got %.200v, want %.200v", got, test.want)
			}
		})
	}
}

// TestNoAnswer also looks whether anything of an answer came: if not, the request may be sent once more.
func TestNoAnswer(t *testing.T) {
	for _, test := range []struct {
		name   string
		talk   func(c *peer)
		want   string
		silent bool
	}{
		{"closed", func(*peer) {}, "unexpected EOF", true},
		{"reset", (*peer).reset, "connection reset by peer", true},
		{"garbage", func(c *peer) { c.send("SSH-2.0-OpenSSH\r\n") }, "malformed HTTP", false},
		{"binary garbage", func(c *peer) { c.send("\x15\x03\x01\x00\x02\x02\x46\n") }, "malformed HTTP", false},
		{"closed within the first line", func(c *peer) { c.send("HTTP/1.1 20") }, "malformed HTTP status", false},
		{"closed within the head", func(c *peer) { c.send("HTTP/1.1 200 OK\r\nA: b\r\n") }, "unexpected EOF", false},
		{"closed after an interim answer", func(c *peer) { c.send("HTTP/1.1 100 X\r\n\r\n") }, "unexpected EOF", false},
		{"bad length", func(c *peer) { c.send("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n") }, "Content-Length", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			plainAndTLS(t, func(t *testing.T, forServer *tls.Config, opts Options) {
				s := serve(t, forServer, func(c *peer) {
					for range 2 { // also on a connection that served an exchange before
						switch r, _ := c.request(); {
						case r == nil:
							return
						case r.Header.Get("Want") != "":
							test.talk(c)
							return
						}
						c.send(ok)
					}
				})
				tr := newTransport(t, s.url(), opts)
				head := newHead(t, tr, http.MethodPost)
				for _, reused := range []bool{false, true} {
					if reused {
						check(t, tr, false)
					}
					x := open(t, tr)
					x.Send(head, []Field{{"Want", "error"}}, []byte("{}"))
					response, err := x.Receive(head)
					if response != nil || err == nil || !strings.Contains(err.Error(), test.want) {
						t.Errorf("got %v, %v; want %s", response, err, test.want)
					}
					if x.Reused != reused || x.Silent() != test.silent {
						t.Errorf("reused %v, silent %v; want %v, %v", x.Reused, x.Silent(), reused, test.silent)
					}
					x.Close()
				}
				if n := len(kept(tr)); n != 0 {
					t.Errorf("%d connections are kept", n)
				}
			})
		})
	}
}

// unwritable is a connection that takes no request, and gives an answer nevertheless.
type unwritable struct {
	net.Conn
	answer io.Reader
}

var errUnwritable = errors.New("unwritable")

func (u *unwritable) Write([]byte) (int, error)  { return 0, errUnwritable }
func (u *unwritable) Read(p []byte) (int, error) { return u.answer.Read(p) }

// TestUnsent: the write's error says more than that of the read which follows, unless there is an answer.
func TestUnsent(t *testing.T) {
	for _, test := range []struct {
		name, answer string
		size         int
		want         error
		status       int
	}{
		{"no answer", "", 1, errUnwritable, 0},
		{"no answer to a long request", "", 1 << 20, errUnwritable, 0},
		{"a part of an answer", "HTTP/1.1 413 X\r\n", 1, io.ErrUnexpectedEOF, 0},
		{"an answer", "HTTP/1.1 413 X\r\nContent-Length: 0\r\n\r\n", 1, nil, 413},
		{"an answer to a long request", "HTTP/1.1 413 X\r\nContent-Length: 0\r\n\r\n", 1 << 20, nil, 413},
	} {
		t.Run(test.name, func(t *testing.T) {
			tr := newTransport(t, serve(t, nil, (*peer).hang).url(), Options{})
			head := newHead(t, tr, http.MethodPost)
			x := open(t, tr)
			x.conn.net = &unwritable{x.conn.net, strings.NewReader(test.answer)}
			x.Send(head, nil, make([]byte, test.size))
			untilWritten(t, x)
			response, err := x.Receive(head)
			if !errors.Is(err, test.want) || err == nil && response.StatusCode != test.status {
				t.Errorf("got %v, %v; want %d, %v", response, err, test.status, test.want)
			}
			x.Close()
			if len(kept(tr)) != 0 {
				t.Error("a connection with half a request is kept")
			}
		})
	}
}

// TestUnsentReally has the system refuse the write.
func TestUnsentReally(t *testing.T) {
	connected := make(chan bool, 1)
	s := serve(t, nil, func(c *peer) {
		<-connected
		c.reset()
	})
	tr := newTransport(t, s.url(), Options{})
	head := newHead(t, tr, http.MethodPost)
	x := open(t, tr)
	connected <- true
	eventually(t, "the reset is seen", func() bool {
		_, err := x.conn.net.Write([]byte("x"))
		return err != nil
	})
	x.Send(head, nil, nil)
	if _, err := x.Receive(head); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("got %v, want %v", err, syscall.EPIPE)
	}
}
