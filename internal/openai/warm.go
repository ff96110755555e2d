package openai

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/inferprobe/inferprobe/internal/http1"
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
	head, err := c.transport.NewHead(http.MethodGet, under(c.base, "/models"), c.header())
	if err != nil {
		return 0, n
	}
	var connected, done sync.WaitGroup
	var ready atomic.Int64
	connected.Add(n)
	for range n {
		done.Go(func() {
			response, err := c.send(ctx, head, false)
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

// Get asks for what is at place, on c's host, with all that requests carry and the field Accept, if there is one for it.
// It follows no redirect. The answer's body must be closed. An error may hold what is secret.
func (c *Client) Get(ctx context.Context, place *url.URL, accept string) (*http.Response, error) {
	header := c.header()
	if accept != "" {
		header.Set("Accept", accept)
	}
	head, err := c.transport.NewHead(http.MethodGet, place, header)
	if err != nil {
		return nil, err
	}
	return c.send(ctx, head, false)
}

// send sends a request without a body. What got a connection but no answer returns an unansweredError.
func (c *Client) send(ctx context.Context, head *http1.Head, fresh bool) (*http.Response, error) {
	x, err := c.transport.Open(ctx, fresh, 0)
	if err != nil {
		return nil, err
	}
	x.Send(head, nil, nil)
	response, err := x.Receive(head)
	if err == nil {
		return response, nil
	}
	defer x.Close()
	if ctx.Err() == nil && isStale(x) {
		return c.send(ctx, head, true)
	}
	return nil, &unansweredError{err}
}

// unansweredError is what ended a request after it had got its connection.
type unansweredError struct{ error }

// Unwrap returns the error underneath.
func (e *unansweredError) Unwrap() error { return e.error }

// get asks for a document at path under base and returns its head and body. The error is an *Error.
func (c *Client) get(ctx context.Context, path string) (*http.Response, []byte, error) {
	limit := c.opts.ConnectTimeout + documentTimeout
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	where := under(c.base, path)
	response, err := c.Get(ctx, where, "")
	var unanswered *unansweredError
	if err != nil && !errors.As(err, &unanswered) {
		return nil, nil, c.errorf(connectReason(err), "%s: %v", where, err)
	}
	var body []byte
	if err == nil {
		defer response.Body.Close()
		body, err = io.ReadAll(io.LimitReader(response.Body, maxDocument))
	}
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return nil, nil, c.errorf(probe.ReasonTimeoutTotal, "%s: connected, but no answer within %v: the server is stuck or overloaded", where, limit)
	case err != nil:
		return nil, nil, c.errorf(answerReason(err), "%s: %v", where, err)
	}
	return response, body, nil
}

// errorf returns an error without secrets and control characters.
func (c *Client) errorf(reason probe.Reason, format string, args ...any) *Error {
	return &Error{Reason: reason, Detail: redact(fmt.Sprintf(format, args...), c.secrets)}
}
