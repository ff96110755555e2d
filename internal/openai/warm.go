package openai

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"time"

	"github.com/inferprobe/inferprobe/internal/probe"
)

const (
	// maxDocument bounds the JSON documents of discovery; gateways list hundreds of models in some 500 kB.
	maxDocument = 8 << 20
	// documentTimeout is how long such a document may take, beside connecting.
	documentTimeout = 10 * time.Second
)

// Warm opens n connections by concurrent requests for /models and returns how many stand ready and how many could not
// be had. Each request keeps its connection until all have theirs. Warm is best called right before the load:
// connections are kept for four seconds only, since servers close them after five.
func (c *Client) Warm(ctx context.Context, n int) (opened, failed int) {
	ctx, cancel := context.WithTimeout(ctx, c.opts.ConnectTimeout+documentTimeout)
	defer cancel()
	var connected, done sync.WaitGroup
	var ready atomic.Int64
	connected.Add(n)
	for range n {
		done.Go(func() {
			response, err := c.pooled.RoundTrip(newRequest(http.MethodGet, under(c.base, "/models"), &c.opts).WithContext(ctx))
			connected.Done()
			if err != nil {
				return
			}
			defer response.Body.Close()
			connected.Wait()
			rest, err := io.Copy(io.Discard, io.LimitReader(response.Body, maxDocument))
			if err == nil && rest < maxDocument && !response.Close {
				ready.Add(1)
			}
		})
	}
	done.Wait()
	opened = int(ready.Load())
	return opened, n - opened
}

// get asks for a document at path under base and returns its head and body. The error is an *Error.
func (c *Client) get(ctx context.Context, path string) (*http.Response, []byte, error) {
	limit := c.opts.ConnectTimeout + documentTimeout
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var connected, handshake atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn:           func(httptrace.GotConnInfo) { connected.Store(true) },
		TLSHandshakeStart: func() { handshake.Store(true) },
	})
	where := under(c.base, path)
	response, err := c.pooled.RoundTrip(newRequest(http.MethodGet, where, &c.opts).WithContext(ctx))
	if err == nil {
		defer response.Body.Close()
		var body []byte
		if body, err = io.ReadAll(io.LimitReader(response.Body, maxDocument)); err == nil {
			return response, body, nil
		}
	}
	if connected.Load() && errors.Is(err, context.DeadlineExceeded) {
		return nil, nil, c.errorf(probe.ReasonTimeoutTotal, "%s: connected, but no answer within %v: the server is stuck or overloaded", where, limit)
	}
	reason := networkReason(err, connected.Load(), handshake.Load())
	return nil, nil, c.errorf(reason, "%s: %s", where, errorText(err))
}

// errorf returns an error without secrets and control characters.
func (c *Client) errorf(reason probe.Reason, format string, args ...any) *Error {
	return &Error{Reason: reason, Detail: redact(fmt.Sprintf(format, args...), c.opts.APIKey)}
}
