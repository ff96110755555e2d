package openai

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/inferprobe/inferprobe/internal/http1"
	"github.com/inferprobe/inferprobe/internal/probe"
	"github.com/inferprobe/inferprobe/internal/sse"
	"github.com/inferprobe/inferprobe/internal/wiretime"
)

const (
	// idleConnTimeout is how long a connection is kept between requests: uvicorn, under most of the servers, closes it
	// after 5 s, and a request sent at that moment would fail.
	idleConnTimeout = 4 * time.Second
	// firstRead bounds the reads until the first token: about one event.
	firstRead = 512
	// staleWithin is how soon after a send a connection must end to have been stale, where three round trips are less.
	staleWithin = 100 * time.Millisecond
	// longEvents is how many streams of a client may have events beyond sse.LongEvent at a time: each takes some 40 MB at
	// worst, and an endpoint gone mad has hundreds of streams.
	longEvents = 4
)

// Client sends requests to one endpoint and measures the answers. It is safe for concurrent use.
type Client struct {
	opts      Options
	secrets   []string // that no detail shows
	base      *url.URL
	transport *http1.Transport
	head      *http1.Head   // of all requests
	scratch   sync.Pool     // of *scratch
	name      string        // what the ids of this client's requests begin with
	sends     atomic.Uint64 // numbers the ids
	long      chan struct{} // places for events that are too long to be usual
	uncounted atomic.Bool   // the server did not count the tokens of the last answer
	density   density       // of the answers whose tokens were counted
}

// New returns a client of the server at opts.BaseURL. It opens no connection.
func New(opts Options) (*Client, error) {
	base, err := parseBase(opts.BaseURL)
	if err != nil {
		return nil, err
	}
	opts = opts.withDefaults()
	c := &Client{
		opts: opts, secrets: secretsOf(&opts), base: base, name: fmt.Sprintf("inferprobe-%016x-", rand.Uint64()),
		long: make(chan struct{}, longEvents),
	}
	c.transport, err = http1.New(http1.Options{
		Origin: base, TLS: opts.TLS, Proxy: http.ProxyFromEnvironment, ConnectTimeout: opts.ConnectTimeout,
		MaxIdle: opts.MaxInFlight, IdleTimeout: idleConnTimeout,
	})
	if err != nil {
		return nil, c.errorf("", "the endpoint's URL: %v", err)
	}
	header := c.header()
	header.Set("Accept", "text/event-stream")
	header.Set("Content-Type", "application/json")
	if c.head, err = c.transport.NewHead(http.MethodPost, under(base, opts.API.path()), header); err != nil {
		return nil, c.errorf("", "the API key or a header of the endpoint's: %v", err) // nothing else comes from outside
	}
	return c, nil
}

// header returns what all requests carry.
func (c *Client) header() http.Header {
	header := http.Header{
		"User-Agent":      {"inferprobe/" + c.opts.Version},
		"Accept-Encoding": {"identity"}, // a proxy that compresses holds tokens back
	}
	maps.Copy(header, c.opts.Header)
	if c.opts.APIKey != "" {
		header.Set("Authorization", "Bearer "+c.opts.APIKey)
	}
	return header
}

// Close closes the connections that no request uses.
func (c *Client) Close() { c.transport.Close() }

// Do sends req and fills res, whatever happens: a refused connection and a cancelled stream are results, too. A request
// that finds its pooled connection closed by the server, before one byte of an answer, is sent once more on a fresh
// connection, with a new start time.
func (c *Client) Do(ctx context.Context, req *probe.Request, res *probe.Result) {
	res.Reset()
	res.Request = req
	began := time.Now()
	if stale := c.attempt(ctx, false, req, res); stale {
		res.Reset()
		res.Request, res.Retries, res.Repeated = req, 1, time.Since(began)
		c.attempt(ctx, true, req, res)
	}
}

// isStale reports, of an exchange that got no answer, whether its connection had been closed before the request came
// there. The news of that take one round trip; later than that, it is the request that was given up.
func isStale(x *http1.Exchange) bool {
	return x.Reused && x.Silent() && time.Since(x.Times.WriteStart()) < max(staleWithin, 3*x.Phases().Connect)
}

// attempt is one send of a request.
type attempt struct {
	client   *Client
	req      *probe.Request
	res      *probe.Result
	ctx      context.Context
	exchange *http1.Exchange
	times    *wiretime.Exchange                       // of exchange
	stamp    func() (at time.Time, lag time.Duration) // of the last read from the connection
	watch    watch
}

// attempt sends req once. It reports whether the connection was stale, so that nothing is said yet about the endpoint.
func (c *Client) attempt(ctx context.Context, fresh bool, req *probe.Request, res *probe.Result) (stale bool) {
	a := &attempt{client: c, req: req, res: res, ctx: ctx}
	a.stamp = a.lastRead
	res.ID = c.name + strconv.FormatUint(c.sends.Add(1), 10)
	var parent string
	parent, res.TraceID = newTrace()
	x, err := c.transport.Open(ctx, fresh, firstRead)
	if err != nil {
		a.unconnected(err)
		return false
	}
	defer x.Close()
	a.exchange, a.times = x, x.Times
	a.watch.begin(&c.opts, x.Abort)
	defer a.watch.stop()

	fields := [...]http1.Field{{Name: "X-Request-Id", Value: res.ID}, {Name: "Traceparent", Value: parent}}
	x.Send(c.head, fields[:], req.Body)
	req.Flight.SentAt(time.Now()) // nearly; Result.Sent is exact
	response, err := x.Receive(c.head)
	a.connection()
	if err != nil {
		if a.cause() == nil && isStale(x) {
			return true
		}
		a.unanswered(err, x.Silent())
		return false
	}
	defer response.Body.Close()
	res.Status = response.StatusCode
	a.answer(response)
	return false
}

// connection fills in what is known of the connection. The phases of one that was already there are none of ours.
func (a *attempt) connection() {
	a.res.Sent = a.times.WriteStart()
	if a.exchange.Reused {
		return
	}
	phases := a.exchange.Phases()
	a.res.NewConn = true
	a.res.Phases = probe.Phases{DNS: phases.DNS, Connect: phases.Connect, TLS: phases.TLS}
}

// cause returns why the attempt was ended: by one of our limits, or with ctx. It is nil while it was not.
func (a *attempt) cause() error {
	if why := a.watch.why(); why != nil {
		return why
	}
	return context.Cause(a.ctx)
}

// scratch is what reading an answer needs and the next answer can use again.
type scratch struct {
	reader  sse.Reader
	decoder decoder
}

func (c *Client) takeScratch() *scratch {
	if s, ok := c.scratch.Get().(*scratch); ok {
		return s
	}
	return new(scratch)
}
