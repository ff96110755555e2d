package openai

import (
	"context"

	"github.com/inferprobe/inferprobe/internal/probe"
)

// Client sends requests to one endpoint and measures the answers. It is safe for concurrent use.
type Client struct{ opts Options }

// New returns a client of the server at opts.BaseURL. It opens no connection.
func New(opts Options) (*Client, error) {
	if _, err := parseBase(opts.BaseURL); err != nil {
		return nil, err
	}
	return &Client{opts: opts.withDefaults()}, nil
}

// Do sends req and fills res, whatever happens.
func (c *Client) Do(ctx context.Context, req *probe.Request, res *probe.Result) {
	res.Reset()
	res.Request, res.Outcome, res.Reason = req, probe.Failed, probe.ReasonConnect
}

// Warm opens n connections by cheap concurrent requests and returns how many are open and how many could not be had.
func (c *Client) Warm(ctx context.Context, n int) (opened, failed int) { return 0, n }

// Close closes idle connections.
func (c *Client) Close() {}
