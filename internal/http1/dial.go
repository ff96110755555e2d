package http1

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/proxy"

	"github.com/inferprobe/inferprobe/internal/wiretime"
)

// Phases are the times that it took to open a connection.
type Phases struct {
	wiretime.Phases               // to the origin, or to the proxy on the way
	TLS             time.Duration // of the handshake with the origin; 0 without TLS
}

// TLSError is a handshake that failed.
type TLSError struct{ Err error }

// Error returns what failed.
func (e *TLSError) Error() string { return e.Err.Error() }

// Unwrap returns the error underneath.
func (e *TLSError) Unwrap() error { return e.Err }

// route is the way to an origin.
type route struct {
	host          string // as requests name it, with the port that the URL has
	origin        string // host and port
	first         string // host and port to connect to
	proxy         *url.URL
	authorization string // what the proxy asks for
	absolute      bool   // requests go to a proxy, which has to be told where they are for
}

func newRoute(opts *Options) (route, error) {
	var r route
	var err error
	if r.origin, err = address(opts.Origin); err != nil {
		return r, err
	}
	r.host = strings.TrimSuffix(withoutZone(opts.Origin.Host), ":")
	if r.host, err = httpguts.PunycodeHostPort(r.host); err != nil || !httpguts.ValidHostHeader(r.host) {
		return r, fmt.Errorf("%q is no valid host", opts.Origin.Host)
	}
	r.first = r.origin
	if opts.Proxy == nil {
		return r, nil
	}
	if r.proxy, err = opts.Proxy(&http.Request{URL: opts.Origin}); err != nil {
		return r, fmt.Errorf("the proxy: %w", err)
	}
	if r.proxy == nil {
		return r, nil
	}
	switch r.proxy.Scheme {
	case "http", "https":
		r.absolute = opts.Origin.Scheme == "http"
	case "socks5", "socks5h":
	default:
		return r, fmt.Errorf("the proxy %s must begin with http://, https://, socks5:// or socks5h://", r.proxy.Host)
	}
	if user := r.proxy.User; user != nil {
		password, _ := user.Password()
		r.authorization = "Basic " + base64.StdEncoding.EncodeToString([]byte(user.Username()+":"+password))
	}
	if r.first, err = address(r.proxy); err != nil {
		return r, fmt.Errorf("the proxy: %w", err)
	}
	return r, nil
}

// address returns the host and port of u.
func address(u *url.URL) (string, error) {
	host, err := httpguts.PunycodeHostPort(u.Hostname())
	if err != nil || host == "" {
		return "", fmt.Errorf("%q is no valid host", u.Hostname())
	}
	ports := map[string]string{"http": "80", "https": "443", "socks5": "1080", "socks5h": "1080"}
	return net.JoinHostPort(host, cmp.Or(u.Port(), ports[u.Scheme])), nil
}

// withoutZone returns the host of a URL without the zone of an IPv6 address, which means nothing to the server.
func withoutZone(host string) string {
	before, zone, ok := strings.Cut(host, "%")
	if _, after, bracket := strings.Cut(zone, "]"); ok && bracket {
		return before + "]" + after
	}
	return host
}

// dial opens a connection that is ready for a request.
func (t *Transport) dial(ctx context.Context) (*conn, error) {
	timed, err := t.dialer.Dial(ctx, t.route.first)
	if err != nil {
		return nil, t.onTheWay(err)
	}
	c := &conn{timed: timed, net: timed, head: maxHead, requests: &t.requests}
	c.phases.Phases = timed.Phases()
	started := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, t.opts.ConnectTimeout,
		fmt.Errorf("not ready for a request within %v of the connection", t.opts.ConnectTimeout))
	defer cancel()
	if err = t.onTheWay(t.passProxy(ctx, c)); err == nil {
		connected := time.Now()
		c.phases.Connect += connected.Sub(started)
		if t.opts.Origin.Scheme == "https" {
			err = handshake(ctx, c, t.route.origin, t.opts.TLS)
			c.phases.TLS = time.Since(connected)
		}
	}
	if err != nil {
		c.net.Close()
		return nil, err
	}
	c.in = bufio.NewReaderSize(c, readBuffer)
	return c, nil
}

// forProxy returns what of the origin's configuration is for a proxy on the way: whom to trust. A certificate of ours, a
// name to expect and the will not to look are between us and the origin.
func forProxy(origin *tls.Config) *tls.Config {
	if origin == nil {
		return nil
	}
	return &tls.Config{RootCAs: origin.RootCAs, MinVersion: origin.MinVersion}
}

// handshake goes over to TLS with the server at address; nil trusts the system's roots.
func handshake(ctx context.Context, c *conn, address string, config *tls.Config) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	if config = config.Clone(); config == nil {
		config = new(tls.Config)
	}
	config.ServerName = cmp.Or(config.ServerName, host)
	config.NextProtos = []string{"http/1.1"}
	over := tls.Client(c.net, config)
	if err = over.HandshakeContext(ctx); err != nil {
		return &TLSError{cmp.Or(context.Cause(ctx), err)}
	}
	c.net = over
	return nil
}

// onTheWay returns an error that names the proxy, if there is one.
func (t *Transport) onTheWay(err error) error {
	if err == nil || t.route.proxy == nil {
		return err
	}
	return fmt.Errorf("the proxy %s: %w", t.route.proxy.Host, err)
}

// passProxy has the proxy, if there is one, connect c with the origin.
func (t *Transport) passProxy(ctx context.Context, c *conn) error {
	if t.route.proxy == nil {
		return nil
	}
	if t.route.proxy.Scheme == "https" {
		if err := handshake(ctx, c, t.route.first, forProxy(t.opts.TLS)); err != nil {
			return err
		}
	}
	stop := context.AfterFunc(ctx, func() { _ = c.timed.SetDeadline(time.Unix(1, 0)) })
	var err error
	switch {
	case strings.HasPrefix(t.route.proxy.Scheme, "socks5"):
		err = t.socks(c.net)
	case !t.route.absolute:
		err = t.tunnel(c)
	}
	if !stop() {
		return context.Cause(ctx)
	}
	return err
}

// socks asks a SOCKS proxy for a connection to the origin.
func (t *Transport) socks(c net.Conn) error {
	var auth *proxy.Auth
	if user := t.route.proxy.User; user != nil {
		auth = &proxy.Auth{User: user.Username()}
		auth.Password, _ = user.Password()
	}
	dialer, err := proxy.SOCKS5("tcp", t.route.first, auth, nil)
	if err != nil {
		return err
	}
	over, ok := dialer.(interface {
		DialWithConn(ctx context.Context, c net.Conn, network, address string) (net.Addr, error)
	})
	if !ok {
		return fmt.Errorf("golang.org/x/net/proxy: %T cannot use a connection", dialer)
	}
	// Not with our context: it would set a deadline, whose error may come before the context's, which says more.
	_, err = over.DialWithConn(context.Background(), c, "tcp", t.route.origin)
	return err
}

// tunnel asks an HTTP proxy for a connection to the origin.
func (t *Transport) tunnel(c *conn) error {
	request := "CONNECT " + t.route.origin + " HTTP/1.1\r\nHost: " + t.route.origin + "\r\n"
	if t.route.authorization != "" {
		request += "Proxy-Authorization: " + t.route.authorization + "\r\n"
	}
	if _, err := io.WriteString(c.net, request+"\r\n"); err != nil {
		return err
	}
	// What this reader takes of what follows the head is lost, but in TLS the client speaks first. Closing the body would
	// wait for one that the head announces: the tunnel has none, and that of a refusal is of no interest.
	in := bufio.NewReaderSize(c, readBuffer)
	answer, err := http.ReadResponse(in, &http.Request{Method: http.MethodConnect}) //nolint:bodyclose // see above
	if err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("no way to %s: %s", t.route.origin, answer.Status)
	}
	return nil
}
