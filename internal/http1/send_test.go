package http1

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"testing"
)

// unread is more than the buffers of two sockets hold.
const unread = 32 << 20

// untilWritten waits until nothing of a request is being written any more.
func untilWritten(t *testing.T, x *Exchange) {
	t.Helper()
	eventually(t, "the request is written", func() bool { return x.sending == nil || len(x.sending) == 1 })
}

// TestSend: the server has what the caller meant, whatever becomes of the caller's memory.
func TestSend(t *testing.T) {
	plainAndTLS(t, func(t *testing.T, forServer *tls.Config, opts Options) {
		want := make(chan string, 1)
		s := serve(t, forServer, func(c *peer) {
			for {
				request, body := c.request()
				if request == nil {
					return
				}
				fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n%-5v", body == <-want)
			}
		})
		tr := newTransport(t, s.url(), opts)
		head := newHead(t, tr, http.MethodPost)
		for i, size := range []int{0, 1000, inOneGo - len(head.start), inOneGo, 2 << 20, 2 << 20, 0} {
			x := open(t, tr)
			body := []byte(long(size))
			want <- string(body)
			x.Send(head, nil, body)
			clear(body)
			text, err := io.ReadAll(body1(x, head))
			if string(text) != "true " || err != nil || x.Reused != (i > 0) {
				t.Errorf("%d bytes: arrived %s, %v, reused %v", size, text, err, x.Reused)
			}
			untilWritten(t, x)
			x.Close()
		}
	})
}

// TestAnswerBeforeTheRequestsEnd: a server need not read what it does not want. It gets none of the next exchange.
func TestAnswerBeforeTheRequestsEnd(t *testing.T) {
	const refusal = "HTTP/1.1 413 Too Long\r\nContent-Length: 2\r\n\r\nno"
	for name, closes := range map[string]bool{"closes": true, "never reads on": false} {
		t.Run(name, func(t *testing.T) {
			plainAndTLS(t, func(t *testing.T, forServer *tls.Config, opts Options) {
				over := make(chan bool)
				defer close(over)
				s := serve(t, forServer, func(c *peer) {
					if c.number > 1 {
						always(ok)(c)
						return
					}
					io.CopyN(io.Discard, c.in, 1000)
					c.send(refusal)
					if !closes {
						<-over
					}
				})
				tr := newTransport(t, s.url(), opts)
				head := newHead(t, tr, http.MethodPost)
				x := open(t, tr)
				x.Send(head, nil, make([]byte, unread))
				response, err := x.Receive(head)
				if err != nil || response.StatusCode != http.StatusRequestEntityTooLarge {
					t.Fatal(response, err)
				}
				if text, err := io.ReadAll(response.Body); string(text) != "no" || err != nil {
					t.Errorf("%q, %v", text, err)
				}
				x.Close()
				untilWritten(t, x)
				if x.sent() {
					t.Error("the whole request was written")
				}
				if len(kept(tr)) != 0 {
					t.Error("a connection with half a request is kept")
				}
				check(t, tr, false)
			})
		})
	}
}
