package openai

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

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
	// readBuffer and writeBuffer of a connection. There is one of each for every stream, so they are small: larger reads
	// go past the buffer to that of the events, and a request of a thousand words still leaves in one write.
	readBuffer     = 4 << 10
	writeBuffer    = 8 << 10
	maxHeaderBytes = 64 << 10
	// longEvents is how many streams of a client may have events beyond sse.LongEvent at a time: each takes some 40 MB at
	// worst, and an endpoint gone mad has hundreds of streams.
	longEvents = 4
)

// Client sends requests to one endpoint and measures the answers. It is safe for concurrent use.
type Client struct {
	opts    Options
	base    *url.URL
	request *http.Request   // what all requests have in common; copied, never changed
	pooled  *http.Transport // keeps connections
	fresh   *http.Transport // opens one for each request
	scratch sync.Pool       // of *scratch
	name    string          // what the ids of this client's requests begin with
	sends   atomic.Uint64   // numbers the ids
	long    chan struct{}   // places for events that are too long to be usual
}

// New returns a client of the server at opts.BaseURL. It opens no connection.
func New(opts Options) (*Client, error) {
	base, err := parseBase(opts.BaseURL)
	if err != nil {
		return nil, err
	}
	opts = opts.withDefaults()
	c := &Client{
		opts: opts, base: base, pooled: newTransport(&opts), fresh: newTransport(&opts),
		name: fmt.Sprintf("inferprobe-%016x-", rand.Uint64()), long: make(chan struct{}, longEvents),
	}
	c.fresh.MaxIdleConnsPerHost = -1
	c.request = newRequest(http.MethodPost, under(base, opts.API.path()), &opts)
	c.request.Header["Accept"] = []string{"text/event-stream"}
	c.request.Header["Content-Type"] = []string{"application/json"}
	return c, nil
}

// newTransport returns a transport whose connections keep time, speaks HTTP/1.1 only (streams that share a connection
// would delay each other) and follows no redirect.
func newTransport(opts *Options) *http.Transport {
	dialer := &wiretime.Dialer{Timeout: opts.ConnectTimeout}
	t := &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            dialer.DialContext,
		TLSHandshakeTimeout:    opts.ConnectTimeout,
		DisableCompression:     true,
		MaxIdleConnsPerHost:    opts.MaxInFlight,
		IdleConnTimeout:        idleConnTimeout,
		MaxResponseHeaderBytes: maxHeaderBytes,
		ReadBufferSize:         readBuffer,
		WriteBufferSize:        writeBuffer,
		Protocols:              new(http.Protocols),
	}
	t.Protocols.SetHTTP1(true)
	if opts.TLS != nil {
		t.TLSClientConfig = opts.TLS.Clone()
	}
	return t
}

func newRequest(method string, u *url.URL, opts *Options) *http.Request {
	header := http.Header{
		"User-Agent":      {"inferprobe/" + opts.Version},
		"Accept-Encoding": {"identity"}, // a proxy that compresses holds tokens back
	}
	if opts.APIKey != "" {
		header["Authorization"] = []string{"Bearer " + opts.APIKey}
	}
	return &http.Request{
		Method: method, URL: u, Host: u.Host, Header: header, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}
}

// Close closes the connections that no request uses.
func (c *Client) Close() { c.pooled.CloseIdleConnections() }

// Do sends req and fills res, whatever happens: a refused connection and a cancelled stream are results, too. A request
// that finds its pooled connection closed by the server, before one byte of an answer, is sent once more on a fresh
// connection, with a new start time.
//
// Where the transport may still be reading req.Body, as after a cancelled send, Do leaves nil in its place, so that its
// memory is not used again.
func (c *Client) Do(ctx context.Context, req *probe.Request, res *probe.Result) {
	res.Reset()
	res.Request = req
	stale, wrote := c.attempt(ctx, c.pooled, req, res)
	if stale {
		res.Reset()
		res.Request, res.Retries = req, 1
		var again bool
		_, again = c.attempt(ctx, c.fresh, req, res)
		wrote = wrote && again
	}
	if !wrote {
		req.Body = nil
	}
}

// attempt is one send of a request.
type attempt struct {
	client   *Client
	req      *probe.Request
	res      *probe.Result
	ctx      context.Context
	exchange *wiretime.Exchange
	stamp    func() (at time.Time, lag time.Duration) // of the last read from the connection
	watch    watch
	trace    httptrace.ClientTrace
	body     bytes.Reader
	ids      [2]string // values of headers

	conn     *wiretime.Conn // nil until there is one
	reused   bool
	wrote    atomic.Bool  // the transport is done with the request's body
	tlsStart atomic.Int64 // offsets from watch.start; the handshake runs in another goroutine, and may outlive us
	tlsEnd   atomic.Int64
}

// attempt sends req once. It reports whether the connection was stale, so that nothing is said yet about the endpoint,
// and whether the transport is done with the body.
func (c *Client) attempt(
	ctx context.Context, transport *http.Transport, req *probe.Request, res *probe.Result,
) (stale, wrote bool) {
	ctx, cancel := context.WithCancelCause(ctx)
	a := &attempt{client: c, req: req, res: res, ctx: ctx, exchange: wiretime.NewExchange(firstRead)}
	a.stamp = a.lastRead
	a.watch.begin(&c.opts, a.exchange.WriteStart, cancel)
	defer a.watch.stop()

	res.ID = c.name + strconv.FormatUint(c.sends.Add(1), 10)
	a.ids[0] = res.ID
	a.ids[1], res.TraceID = newTrace()
	a.listen()
	r := c.request.WithContext(httptrace.WithClientTrace(ctx, &a.trace))
	r.Header = maps.Clone(c.request.Header)
	r.Header["X-Request-Id"] = a.ids[:1:1]
	r.Header["Traceparent"] = a.ids[1:]
	a.body.Reset(req.Body)
	r.Body = io.NopCloser(&a.body) // by these very types net/http knows to send head and body in one write
	r.ContentLength = int64(len(req.Body))
	response, err := transport.RoundTrip(r)
	a.connection()
	if err != nil {
		if a.stale() {
			return true, a.wrote.Load()
		}
		a.failed(err)
		return false, a.conn == nil || a.wrote.Load()
	}
	defer response.Body.Close()
	res.Status = response.StatusCode
	a.answer(response)
	return false, a.wrote.Load()
}

// listen has the transport tell of the connection.
func (a *attempt) listen() {
	a.trace = httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) {
			a.reused = info.Reused
			if conn, ok := wiretime.From(info.Conn); ok {
				conn.Begin(a.exchange)
				a.conn = conn
			}
		},
		WroteRequest: func(httptrace.WroteRequestInfo) { a.wrote.Store(true) },
	}
	if a.client.base.Scheme == "https" {
		a.trace.TLSHandshakeStart = func() { a.tlsStart.Store(int64(time.Since(a.watch.start))) }
		a.trace.TLSHandshakeDone = func(tls.ConnectionState, error) { a.tlsEnd.Store(int64(time.Since(a.watch.start))) }
	}
}

// connection fills in what is known of the connection. The phases of one that was already there are none of ours, nor
// are those of one that we dialled in vain because another came free first.
func (a *attempt) connection() {
	if a.conn == nil {
		return
	}
	a.res.Sent = a.exchange.WriteStart()
	if a.reused {
		return
	}
	phases := a.conn.Phases()
	a.res.NewConn = true
	a.res.Phases = probe.Phases{DNS: phases.DNS, Connect: phases.Connect}
	if start, end := a.tlsStart.Load(), a.tlsEnd.Load(); end > start {
		a.res.Phases.TLS = time.Duration(end - start)
	}
}

// stale reports whether the server closed a pooled connection before the request reached it.
func (a *attempt) stale() bool {
	return a.reused && a.ctx.Err() == nil && a.exchange.LastRead().At.IsZero()
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
