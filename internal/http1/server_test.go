package http1

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// server answers with bytes of the test's choosing, some of which no HTTP server would send.
type server struct {
	listener net.Listener
	scheme   string
	conns    atomic.Int64
	live     atomic.Int64 // connections that are being served
	open     sync.Map     // of net.Conn
	group    sync.WaitGroup
}

// peer is the server's end of a connection.
type peer struct {
	net.Conn
	in     *bufio.Reader
	number int64 // of the connection, from 1
}

// serve starts a server that has talk do the talking on each connection, which is closed when talk returns. It speaks
// TLS if it is given a configuration for that.
func serve(t testing.TB, config *tls.Config, talk func(c *peer)) *server {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{listener: listener, scheme: "http"}
	if config != nil {
		s.listener, s.scheme = tls.NewListener(listener, config), "https"
	}
	s.group.Go(func() {
		for {
			conn, err := s.listener.Accept()
			if err != nil {
				return
			}
			s.open.Store(conn, nil)
			c := &peer{Conn: conn, in: bufio.NewReader(conn), number: s.conns.Add(1)}
			s.live.Add(1)
			s.group.Go(func() {
				defer s.live.Add(-1)
				defer conn.Close()
				talk(c)
			})
		}
	})
	t.Cleanup(func() {
		listener.Close()
		s.open.Range(func(conn, _ any) bool { socket(conn.(net.Conn)).Close(); return true })
		s.group.Wait()
	})
	return s
}

// socket returns what is under TLS.
func socket(c net.Conn) *net.TCPConn {
	if over, ok := c.(*tls.Conn); ok {
		c = over.NetConn()
	}
	return c.(*net.TCPConn)
}

// awaitEnds waits until only so many connections are left.
func (s *server) awaitEnds(t testing.TB, left int64) {
	t.Helper()
	eventually(t, "the client closes connections", func() bool { return s.live.Load() == left })
}

func (s *server) address() string { return s.listener.Addr().String() }

func (s *server) url() string { return s.scheme + "://" + s.address() + "/v1" }

// request reads the next request with its body. It returns nil when there is none any more.
func (c *peer) request() (*http.Request, string) {
	request, err := http.ReadRequest(c.in)
	if err != nil {
		return nil, ""
	}
	body, err := io.ReadAll(request.Body)
	if err != nil {
		return nil, ""
	}
	return request, string(body)
}

func (c *peer) send(data string) { io.WriteString(c.Conn, data) }

// hang reads, and says nothing, until the client closes the connection.
func (c *peer) hang() { io.Copy(io.Discard, c.in) }

// reset closes the connection with RST.
func (c *peer) reset() {
	socket(c.Conn).SetLinger(0)
	socket(c.Conn).Close()
}

const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

// always answers every request of a connection with the same bytes.
func always(answer string) func(c *peer) {
	return func(c *peer) {
		for request, _ := c.request(); request != nil; request, _ = c.request() {
			c.send(answer)
		}
	}
}

// newTransport returns a transport to origin. What the options leave at zero is long, or enough.
func newTransport(t testing.TB, origin string, opts Options) *Transport {
	t.Helper()
	u, err := url.Parse(origin)
	if err != nil {
		t.Fatal(err)
	}
	opts.Origin = u
	if opts.ConnectTimeout == 0 {
		opts.ConnectTimeout = 30 * time.Second
	}
	if opts.MaxIdle == 0 {
		opts.MaxIdle = 100
	}
	if opts.IdleTimeout == 0 {
		opts.IdleTimeout = time.Hour
	}
	tr, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tr.Close)
	return tr
}

func newHead(t testing.TB, tr *Transport, method string) *Head {
	t.Helper()
	head, err := tr.NewHead(method, tr.opts.Origin, nil)
	if err != nil {
		t.Fatal(err)
	}
	return head
}

func open(t testing.TB, tr *Transport) *Exchange {
	t.Helper()
	x, err := tr.Open(t.Context(), false, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(x.Close)
	return x
}

// answer is what came of an exchange.
type answer struct {
	status int
	body   string
	reused bool
	err    error
}

// post is a whole exchange.
func post(t testing.TB, tr *Transport, body string) answer {
	t.Helper()
	return do(t.Context(), tr, newHead(t, tr, http.MethodPost), body)
}

func do(ctx context.Context, tr *Transport, head *Head, body string) answer {
	x, err := tr.Open(ctx, false, 0)
	if err != nil {
		return answer{err: err}
	}
	defer x.Close()
	x.Send(head, nil, []byte(body))
	response, err := x.Receive(head)
	if err != nil {
		return answer{reused: x.Reused, err: err}
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return answer{status: response.StatusCode, body: string(text), reused: x.Reused, err: err}
}

// check has a whole exchange and wants "ok" for an answer.
func check(t testing.TB, tr *Transport, reused bool) {
	t.Helper()
	if got, want := post(t, tr, "{}"), (answer{status: 200, body: "ok", reused: reused}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// kept returns the connections that are kept, the one that was used last at the end.
func kept(tr *Transport) []*conn {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return append([]*conn(nil), tr.idle...)
}

// eventually waits for what is bound to happen.
func eventually(t testing.TB, what string, happened func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !happened(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("waited in vain: ", what)
		}
	}
}

// certificate returns one for the names and addresses, and the configurations of a server that has it and of a client
// that trusts it.
func certificate(t testing.TB, names ...string) (forServer, forClient *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: names[0]}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(parsed)
	pair := tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	return &tls.Config{Certificates: []tls.Certificate{pair}}, &tls.Config{RootCAs: roots}
}

// plainAndTLS runs a test over both. The options are those of a client that trusts the server.
func plainAndTLS(t *testing.T, test func(t *testing.T, forServer *tls.Config, opts Options)) {
	t.Helper()
	t.Run("plain", func(t *testing.T) { test(t, nil, Options{}) })
	t.Run("TLS", func(t *testing.T) {
		forServer, forClient := certificate(t, "127.0.0.1")
		test(t, forServer, Options{TLS: forClient})
	})
}

// long is a request body that is not written in one go, and recognizable by its parts.
func long(size int) string { return strings.Repeat("0123456789abcdef", size/16) }
