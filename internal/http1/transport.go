// Package http1 is an HTTP/1.1 client for those who time what they do: the goroutine that asks for something is the one
// that writes the request and reads the answer. That of net/http passes both on to goroutines of the connection, whose
// turns to run lie between the clock and what it times, and cost CPU. What is hard in HTTP, the syntax of heads and
// bodies, is still net/http's.
package http1

import (
	"context"
	"crypto/tls"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/inferprobe/inferprobe/internal/wiretime"
)

// Options of a Transport.
type Options struct {
	Origin *url.URL    // whose scheme, http or https, and host say where to connect
	TLS    *tls.Config // with the origin; a proxy is given its roots alone. nil trusts the system's roots
	// Proxy returns the proxy on the way, or nil. Its scheme is http, https, socks5 or socks5h.
	Proxy          func(*http.Request) (*url.URL, error)
	ConnectTimeout time.Duration // for name lookup and connection together, and once more for what comes before a request
	MaxIdle        int           // connections that are kept between requests
	IdleTimeout    time.Duration // how long they are kept
}

// Transport opens connections to one origin and keeps those that another request can use. It is safe for concurrent
// use. It follows no redirect, asks for no compression and keeps no cookie.
type Transport struct {
	opts   Options
	dialer wiretime.Dialer
	route  route
	// requests holds the memory of requests that are being written: a write is over soon, an exchange is not.
	requests sync.Pool // of *[]byte

	mu     sync.Mutex
	idle   []*conn // the one that was used last is at the end
	reaper *time.Timer
	closed bool
}

// New returns a transport. It opens no connection. An error says what is wrong with the origin's host or with the proxy.
func New(opts Options) (*Transport, error) {
	r, err := newRoute(&opts)
	if err != nil {
		return nil, err
	}
	return &Transport{
		opts: opts, dialer: wiretime.Dialer{Timeout: opts.ConnectTimeout}, route: r,
		requests: sync.Pool{New: func() any { return new([]byte) }},
	}, nil
}

// Open begins an exchange on a connection that was kept, or on a new one where there is none or fresh asks for it.
// readLimit is that of wiretime.NewExchange. The exchange is aborted when ctx ends; Close must end it. An error tells by
// *net.DNSError and *TLSError how far the way to a connection was gone.
func (t *Transport) Open(ctx context.Context, fresh bool, readLimit int) (*Exchange, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	var c *conn
	if !fresh {
		c = t.take()
	}
	reused := c != nil
	if !reused {
		var err error
		if c, err = t.dial(ctx); err != nil {
			return nil, err
		}
	}
	x := &Exchange{Reused: reused, Times: wiretime.NewExchange(readLimit), conn: c, keep: t.keep}
	c.timed.Begin(x.Times)
	x.release = context.AfterFunc(ctx, x.Abort)
	return x, nil
}

// take returns the connection that was used last, among those that the server has not closed meanwhile.
func (t *Transport) take() *conn {
	for {
		t.mu.Lock()
		last := len(t.idle) - 1
		if last < 0 {
			t.mu.Unlock()
			return nil
		}
		c := t.idle[last]
		t.idle[last] = nil
		t.idle = t.idle[:last]
		t.mu.Unlock()
		if c.usable() {
			return c
		}
		c.net.Close()
	}
}

// keep keeps a connection for another exchange.
func (t *Transport) keep(c *conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || len(t.idle) >= t.opts.MaxIdle {
		c.net.Close()
		return
	}
	c.expiry = time.Now().Add(t.opts.IdleTimeout)
	t.idle = append(t.idle, c)
	if t.reaper == nil {
		t.reaper = time.AfterFunc(t.opts.IdleTimeout, t.reap)
	}
}

// reap closes the connections that were kept for long enough. They expire in their order.
func (t *Transport) reap() {
	t.mu.Lock()
	defer t.mu.Unlock()
	now, expired := time.Now(), 0
	for ; expired < len(t.idle) && !now.Before(t.idle[expired].expiry); expired++ {
		t.idle[expired].net.Close()
	}
	rest := copy(t.idle, t.idle[expired:])
	clear(t.idle[rest:])
	t.idle = t.idle[:rest]
	t.reaper = nil
	if rest > 0 {
		t.reaper = time.AfterFunc(t.idle[0].expiry.Sub(now), t.reap)
	}
}

// Close closes the connections that no exchange uses, and keeps none from here on.
func (t *Transport) Close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for _, c := range t.idle {
		c.net.Close()
	}
	t.idle = nil
	if t.reaper != nil {
		t.reaper.Stop()
	}
}
