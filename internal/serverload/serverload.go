// Package serverload reads how busy an inference server is from its own Prometheus metrics: what runs, what waits, and
// how full its key-value cache is. With what we have in flight ourselves taken off, the rest is other users'.
package serverload

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"
)

const (
	// timeout of one look at the metrics.
	timeout = 2 * time.Second
	// maxBody bounds what is read of them. vLLM's are 52 kB for one engine.
	maxBody = 8 << 20
	// accept asks for the text format, the only one that is parsed.
	accept = "text/plain;version=0.0.4;q=1,*/*;q=0.1"
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

// Client asks the server for documents. It follows no redirect, so that keys stay where they belong.
type Client interface {
	Get(ctx context.Context, place *url.URL, accept string) (*http.Response, error)
	Close() // its connection
}

// Reader reads one server's load. It is for one goroutine at a time.
type Reader struct {
	client Client
	model  string
	places []*url.URL // where the metrics may be, the likeliest first; one once they have been found
}

// New returns a Reader, which has not asked for anything yet. client is its own from here on. baseURL is that of the
// API, as http://host:8000/v1; a query goes with every request. model is whose load is wanted, where the metrics tell
// models apart.
func New(client Client, baseURL, model string) (*Reader, error) {
	base, err := url.Parse(baseURL)
	if err != nil || base.Host == "" {
		return nil, fmt.Errorf("the base URL names no host; it must be like http://host:8000/v1")
	}
	return &Reader{client: client, model: model, places: placesOf(base)}, nil
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
func (r *Reader) Close() { r.client.Close() }

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

// readAt asks one place.
func (r *Reader) readAt(ctx context.Context, place *url.URL) (Load, error) {
	response, err := r.client.Get(ctx, place, accept)
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
	l, err := parse(body, r.model)
	if err == nil && body.N == 0 {
		return Load{}, ErrAbsent
	}
	return l, err
}

// unknown is a load of which nothing has been said.
func unknown() Load { return Load{KVUse: math.NaN()} }
