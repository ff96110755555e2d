// Package serverload reads how busy an inference server is from its own Prometheus metrics: what runs, what waits, and
// how full its key-value cache is. With what we have in flight ourselves taken off, the rest is other users'.
package serverload

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
)

const (
	// timeout of one look at the metrics.
	timeout = 2 * time.Second
	// maxBody bounds what is read of them. vLLM's are 52 kB for one engine.
	maxBody = 8 << 20
	// idleConnTimeout keeps the connection from one look to the next; uvicorn closes it after 5 s.
	idleConnTimeout = 4 * time.Second
)

// ErrAbsent means that the server has no metrics that say how busy it is: there is no use in asking again.
var ErrAbsent = errors.New("no metrics of a known inference server")

// Load is how busy a server is with one model, all its engines together.
type Load struct {
	Running float64 // requests that are being answered
	Waiting float64 // requests in the queue
	KVUse   float64 // of the key-value cache of the fullest engine, 0…1; NaN where the server does not say
	// Stale is how old the numbers may be. Most servers count when they are asked; SGLang counts while it has work, and
	// without any every 30 s.
	Stale time.Duration
}

// Foreign returns how many requests are not among our own in flight. It is never negative: behind a load balancer
// a server knows a part of ours only.
func (l Load) Foreign(own int) float64 { return max(0, l.Running+l.Waiting-float64(own)) }

// Options of a Reader.
type Options struct {
	BaseURL string      // of the API, as http://host:8000/v1; a query goes with every request
	APIKey  string      // bearer token, sent to BaseURL's host only; none if empty
	Header  http.Header // sent likewise
	Model   string      // whose load is wanted, where the metrics tell models apart
	TLS     *tls.Config // nil trusts the system's roots
	Version string      // of this program, for User-Agent
}

// Reader reads one server's load. It is for one goroutine at a time.
type Reader struct {
	opts      Options
	transport *http.Transport
	places    []*url.URL // where the metrics may be, the likeliest first; one once they have been found
}

// New returns a Reader, which has not asked for anything yet.
func New(opts Options) (*Reader, error) {
	base, err := url.Parse(opts.BaseURL)
	if err != nil || base.Host == "" {
		return nil, fmt.Errorf("the base URL names no host; it must be like http://host:8000/v1")
	}
	t := &http.Transport{
		Proxy: http.ProxyFromEnvironment, DisableCompression: true,
		MaxIdleConnsPerHost: 1, IdleConnTimeout: idleConnTimeout, Protocols: new(http.Protocols),
	}
	t.Protocols.SetHTTP1(true)
	if opts.TLS != nil {
		t.TLSClientConfig, t.DialTLSContext = opts.TLS.Clone(), dialTLS(base, opts.TLS)
	}
	return &Reader{opts: opts, transport: t, places: placesOf(base)}, nil
}

// dialTLS returns what opens connections that begin with TLS: to the server at base, or to a proxy on the way, which of
// the server's configuration is given the roots alone. Package http would show it our certificate.
func dialTLS(base *url.URL, server *tls.Config) func(ctx context.Context, network, address string) (net.Conn, error) {
	host, _ := httpguts.PunycodeHostPort(base.Hostname()) // what is no name cannot be dialled either
	origin := net.JoinHostPort(host, cmp.Or(base.Port(), "443"))
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		d := tls.Dialer{Config: server}
		if address != origin {
			d.Config = &tls.Config{RootCAs: server.RootCAs}
		}
		return d.DialContext(ctx, network, address)
	}
}

var versionPath = regexp.MustCompile(`/v[0-9][a-z0-9]*$`)

// placesOf returns where a server's metrics may be: beside its API, which may be under a path of its own, and at the
// root of its host.
func placesOf(base *url.URL) []*url.URL {
	place := func(path string) *url.URL {
		return &url.URL{Scheme: base.Scheme, Host: base.Host, Path: path + "/metrics", RawQuery: base.RawQuery}
	}
	places := []*url.URL{place("")}
	if prefix := versionPath.ReplaceAllString(strings.TrimRight(base.Path, "/"), ""); prefix != "" {
		places = []*url.URL{place(prefix), place("")}
	}
	return places
}

// Close closes the connection.
func (r *Reader) Close() { r.transport.CloseIdleConnections() }

// Read asks for the load, for 2 s at most. The error is ErrAbsent if it cannot be had from this server; any other is
// passing trouble.
func (r *Reader) Read(ctx context.Context) (Load, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for i, place := range r.places {
		l, err := r.readAt(ctx, place)
		switch {
		case err == nil:
			r.places = r.places[i : i+1]
			return l, nil
		case !errors.Is(err, ErrAbsent):
			return Load{}, err
		}
	}
	return Load{}, ErrAbsent
}

// readAt asks one place. A redirect is not followed, so that the key and the header stay where they belong.
func (r *Reader) readAt(ctx context.Context, place *url.URL) (Load, error) {
	request := (&http.Request{
		Method: http.MethodGet, URL: place, Host: place.Host, Header: http.Header{
			"User-Agent": {"inferprobe/" + r.opts.Version},
			"Accept":     {"text/plain;version=0.0.4;q=1,*/*;q=0.1"},
		},
	}).WithContext(ctx)
	maps.Copy(request.Header, r.opts.Header)
	if r.opts.APIKey != "" {
		request.Header["Authorization"] = []string{"Bearer " + r.opts.APIKey}
	}
	response, err := r.transport.RoundTrip(request)
	if err != nil {
		return Load{}, err
	}
	defer response.Body.Close()
	switch status := response.StatusCode; {
	case status >= 500 || status == http.StatusTooManyRequests:
		return Load{}, fmt.Errorf("%s answers %d", place.Path, status)
	case status != http.StatusOK:
		return Load{}, ErrAbsent
	}
	body := &io.LimitedReader{R: response.Body, N: maxBody}
	l, err := parse(body, r.opts.Model)
	if err == nil && body.N == 0 {
		return Load{}, ErrAbsent
	}
	return l, err
}

// unknown is a load of which nothing has been said.
func unknown() Load { return Load{KVUse: math.NaN()} }
