package http1

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/inferprobe/inferprobe/internal/wiretime"
)

const (
	// readBuffer is small, since each connection has one: larger reads of a body go past it.
	readBuffer = 4 << 10
	// maxHead bounds the head of an answer, those of interim answers before it included.
	maxHead = 64 << 10
	// inOneGo is how long a request may be to be written before the answer is looked for: sockets take it whether the
	// server reads or not. For a longer one a server may answer and never read it to its end.
	inOneGo = 32 << 10
)

var errHeadTooLong = errors.New("the head of the response is longer than 64 KiB")

// conn is a connection, used by one exchange at a time.
type conn struct {
	timed  *wiretime.Conn
	net    net.Conn // timed, or what speaks TLS over it
	in     *bufio.Reader
	head   int // how many bytes the head that is being read may still have
	phases Phases
	expiry time.Time // while it is idle

	requests *sync.Pool // the transport's
}

// Read lets no head go on for ever.
func (c *conn) Read(p []byte) (int, error) {
	if c.head <= 0 {
		return 0, errHeadTooLong
	}
	n, err := c.net.Read(p)
	c.head -= n
	return n, err
}

// usable reports whether an idle connection is as its last exchange left it. What a server sends unasked is its end, or
// not meant for the next one who asks.
func (c *conn) usable() bool { return time.Now().Before(c.expiry) && c.timed.Quiet() && !c.surplus() }

// surplus reports whether TLS has taken more from the socket than the last answer.
func (c *conn) surplus() bool {
	if _, ok := c.net.(*tls.Conn); !ok {
		return false
	}
	c.timed.Begin(nil)                         // this is not the business of the exchange before
	_ = c.net.SetReadDeadline(time.Unix(1, 0)) // nothing is taken from the socket; if it is closed, the read tells
	_, err := c.in.Peek(1)
	_ = c.net.SetReadDeadline(time.Time{})
	return !errors.Is(err, os.ErrDeadlineExceeded)
}

// Exchange is one request and its answer on a connection: Send, Receive, the reading of the body, Close. Only Abort may
// be called from another goroutine.
type Exchange struct {
	Reused bool // the connection served an exchange before
	Times  *wiretime.Exchange

	conn    *conn
	keep    func(*conn)
	release func() bool
	unsent  error      // why the request could not be written to its end
	sending chan error // of a long request, when it is written
	reuse   bool       // the answer leaves the connection open …
	whole   bool       // … and has been read to its end

	mu      sync.Mutex
	aborted bool
	closed  bool
}

// Field is one header field. Its value must be one that a header can carry.
type Field struct{ Name, Value string }

// Send writes a request: h, the fields, and body with its length unless h is that of a GET. The caller may use body
// again when Send returns. Where the request cannot be written the server may have answered nevertheless, so Receive
// tells of that.
func (x *Exchange) Send(h *Head, fields []Field, body []byte) {
	memory := x.conn.requests.Get().(*[]byte) //nolint:forcetypeassert // there is nothing else in it
	b := append((*memory)[:0], h.start...)
	for _, f := range fields {
		b = append(append(append(append(b, f.Name...), ": "...), f.Value...), "\r\n"...)
	}
	if h.request.Method != http.MethodGet {
		b = append(strconv.AppendInt(append(b, "Content-Length: "...), int64(len(body)), 10), "\r\n"...)
	}
	*memory = append(append(b, "\r\n"...), body...)
	if len(*memory) <= inOneGo {
		x.unsent = x.conn.write(memory)
		return
	}
	sending := make(chan error, 1)
	x.sending = sending
	go func(c *conn) { sending <- c.write(memory) }(x.conn)
}

// write writes a request and gives its memory back.
func (c *conn) write(request *[]byte) error {
	_, err := c.net.Write(*request)
	c.requests.Put(request)
	return err
}

// Receive returns the answer to a request with the head h. Its body ends with the exchange, and closing it closes the
// exchange.
func (x *Exchange) Receive(h *Head) (*http.Response, error) {
	x.conn.head = maxHead
	response, err := ReadResponse(x.conn.in, h.request)
	for err == nil && response.StatusCode/100 == 1 && response.StatusCode != http.StatusSwitchingProtocols {
		response, err = ReadResponse(x.conn.in, h.request)
	}
	if err != nil {
		if x.sent(); x.unsent != nil && x.Silent() {
			err = x.unsent
		}
		return nil, err
	}
	x.conn.head = math.MaxInt
	x.reuse = !response.Close && response.StatusCode != http.StatusSwitchingProtocols
	x.whole = response.Body == http.NoBody
	response.Body = &body{x, response.Body}
	return response, nil
}

// Silent reports, where Receive failed, whether not one byte of an answer had come. Times do not say so: what TLS reads
// for itself is a read, too.
func (x *Exchange) Silent() bool { return x.conn.head == maxHead }

// body is the body of an answer.
type body struct {
	x *Exchange
	r io.Reader
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if err == io.EOF {
		b.x.whole = true
	}
	return n, err
}

func (b *body) Close() error {
	b.x.Close()
	return nil
}

// sent reports whether the request has been written to its end.
func (x *Exchange) sent() bool {
	if x.sending != nil {
		select {
		case x.unsent = <-x.sending:
			x.sending = nil
		default:
			return false
		}
	}
	return x.unsent == nil
}

// Abort makes what waits for the connection return at once. It does nothing once the exchange is closed.
func (x *Exchange) Abort() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.closed {
		x.aborted = true
		_ = x.conn.net.SetDeadline(time.Unix(1, 0)) // fails for a connection that is closed already
	}
}

// Close ends the exchange. The connection serves another one if the answer was read to its end; else it is closed.
func (x *Exchange) Close() {
	x.release()
	x.mu.Lock()
	closed := x.closed
	x.closed = true
	x.mu.Unlock()
	switch {
	case closed:
	case x.aborted: // TLS would take its leave first, and wait up to 5 s for a server that does not read
		x.conn.timed.Close()
	case x.reuse && x.whole && x.sent() && x.conn.in.Buffered() == 0:
		x.keep(x.conn)
	default:
		x.conn.net.Close()
	}
}

// Phases returns the times that it took to open the connection.
func (x *Exchange) Phases() Phases { return x.conn.phases }
