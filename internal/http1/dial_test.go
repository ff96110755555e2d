package http1

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestTLS(t *testing.T) {
	forServer, forClient := certificate(t, "127.0.0.1", "localhost", "other.example")
	hellos := make(chan *tls.ClientHelloInfo, 1)
	forServer.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		hellos <- hello
		return nil, nil
	}
	forServer.NextProtos = []string{"h2", "http/1.1"}
	for _, test := range []struct{ name, host, configured, serverName string }{
		{"address", "127.0.0.1", "", ""}, // no name is sent for an address
		{"name", "localhost", "", "localhost"},
		{"configured name", "localhost", "other.example", "other.example"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := serve(t, forServer, always(ok))
			config := forClient.Clone()
			config.ServerName, config.NextProtos = test.configured, []string{"h2"}
			tr := newTransport(t, strings.Replace(s.url(), "127.0.0.1", test.host, 1), Options{TLS: config})
			x := open(t, tr)
			hello := <-hellos
			if hello.ServerName != test.serverName || !slices.Equal(hello.SupportedProtos, []string{"http/1.1"}) {
				t.Errorf("the server is asked for %q and %v", hello.ServerName, hello.SupportedProtos)
			}
			if protocol := x.conn.net.(*tls.Conn).ConnectionState().NegotiatedProtocol; protocol != "http/1.1" {
				t.Errorf("protocol %q", protocol)
			}
			x.Close()
			check(t, tr, false)
			<-hellos
			if config.ServerName != test.configured || config.NextProtos[0] != "h2" {
				t.Error("the caller's configuration was changed")
			}
		})
	}
}

func TestHandshakeFailures(t *testing.T) {
	forServer, forClient := certificate(t, "127.0.0.1")
	elsewhere, forElsewhere := certificate(t, "elsewhere.example")
	old := forServer.Clone()
	old.MaxVersion = tls.VersionTLS11
	for _, test := range []struct {
		name      string
		forServer *tls.Config
		forClient *tls.Config
		talk      func(c *peer)
		want      string
	}{
		{"unknown authority", forServer, forElsewhere, (*peer).hang, "certificate signed by unknown authority"},
		{"the system's roots", forServer, nil, (*peer).hang, "certificate signed by unknown authority"},
		{"other name", elsewhere, forElsewhere, (*peer).hang, "doesn't contain any IP SANs"},
		{"old version", old, forClient, (*peer).hang, "protocol version"},
		{
			"plain HTTP", nil, forClient, func(c *peer) { c.in.ReadByte(); c.send("HTTP/1.1 400 X\r\n\r\n") },
			"does not look like a TLS handshake",
		},
		{"closed", nil, forClient, func(c *peer) { c.in.ReadByte() }, "EOF"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := serve(t, test.forServer, test.talk)
			tr := newTransport(t, "https://"+s.address(), Options{TLS: test.forClient})
			x, err := tr.Open(t.Context(), false, 0)
			var failed *TLSError
			if x != nil || !errors.As(err, &failed) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, %T %v; want a TLSError of %s", x, err, err, test.want)
			}
			var name x509.HostnameError
			if test.name == "other name" && !errors.As(err, &name) {
				t.Errorf("%v hides what is underneath", err)
			}
		})
	}
}

func TestPhases(t *testing.T) {
	plainAndTLS(t, func(t *testing.T, forServer *tls.Config, opts Options) {
		if opts.TLS != nil {
			opts.TLS.ServerName = "127.0.0.1"
		}
		s := serve(t, forServer, always(ok))
		for _, host := range []string{"127.0.0.1", "localhost"} {
			tr := newTransport(t, strings.Replace(s.url(), "127.0.0.1", host, 1), opts)
			before := time.Now()
			x := open(t, tr)
			took, p := time.Since(before), x.Phases()
			if p.Connect <= 0 || p.DNS > 0 != (host == "localhost") || p.TLS > 0 != (forServer != nil) {
				t.Errorf("%s: %+v", host, p)
			}
			if connect := x.conn.timed.Phases().Connect; p.Connect < connect {
				t.Errorf("%s: connected in %v, of which %v are told", host, connect, p.Connect)
			}
			if sum := p.DNS + p.Connect + p.TLS; sum > took {
				t.Errorf("%s: %+v is more than the %v that it took", host, p, took)
			}
		}
	})
}

// silent is a server that reads and says nothing. It tells when it has read something.
func silent(t *testing.T) (s *server, reached <-chan bool) {
	c := make(chan bool, 1)
	return serve(t, nil, func(p *peer) {
		p.in.ReadByte()
		c <- true
		p.hang()
	}), c
}

// TestNotReady: the way to a connection ends with a server or a proxy that accepts connections and says nothing.
func TestNotReady(t *testing.T) {
	why := errors.New("why")
	for _, test := range []struct {
		name, origin, proxy string // SILENT stands for the silent server
		isTLS               bool
	}{
		{"TLS", "https://SILENT", "", true},
		{"CONNECT", "https://origin.example", "http://SILENT", false},
		{"SOCKS", "http://origin.example", "socks5://SILENT", false},
		{"SOCKS with a password", "http://origin.example", "socks5://user:s3cret@SILENT", false},
		{"TLS with the proxy", "http://origin.example", "https://SILENT", true},
	} {
		open := func(t *testing.T, ctx context.Context, s *server, timeout time.Duration) error {
			t.Helper()
			opts := Options{}
			if test.proxy != "" {
				u, err := url.Parse(strings.Replace(test.proxy, "SILENT", s.address(), 1))
				if err != nil {
					t.Fatal(err)
				}
				opts.Proxy = http.ProxyURL(u)
			}
			tr := newTransport(t, strings.Replace(test.origin, "SILENT", s.address(), 1), opts)
			tr.opts.ConnectTimeout = timeout // that of the connection itself stays long
			x, err := tr.Open(ctx, false, 0)
			var failed *TLSError
			if x != nil || errors.As(err, &failed) != test.isTLS {
				t.Errorf("got %v, %T %v", x, err, err)
			}
			if test.proxy != "" && !strings.Contains(err.Error(), "the proxy "+s.address()+": ") {
				t.Errorf("%q does not name the proxy", err)
			}
			return err
		}
		t.Run(test.name+"/timeout", func(t *testing.T) {
			s, _ := silent(t)
			const want = "not ready for a request within 5ms of the connection"
			if err := open(t, t.Context(), s, 5*time.Millisecond); !strings.HasSuffix(err.Error(), want) {
				t.Errorf("%q does not say %q", err, want)
			}
		})
		t.Run(test.name+"/context", func(t *testing.T) {
			s, reached := silent(t)
			ctx, cancel := context.WithCancelCause(t.Context())
			go func() { <-reached; cancel(why) }()
			if err := open(t, ctx, s, time.Hour); !errors.Is(err, why) {
				t.Errorf("got %v, want %v", err, why)
			}
		})
	}
}

// TestLookup has a resolver that does not answer. It is the whole program's, so this test runs alone.
func TestLookup(t *testing.T) {
	system := net.DefaultResolver
	t.Cleanup(func() { net.DefaultResolver = system })
	ctx, cancel := context.WithCancel(t.Context())
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		cancel() // that of the first case
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	for i, test := range []struct {
		ctx     context.Context
		timeout time.Duration
		proxy   *url.URL
	}{
		{ctx, time.Hour, nil},
		{t.Context(), 10 * time.Millisecond, nil},
		{t.Context(), 10 * time.Millisecond, &url.URL{Scheme: "http", Host: "proxy.example:3128"}},
	} {
		opts := Options{ConnectTimeout: test.timeout, Proxy: http.ProxyURL(test.proxy)}
		x, err := newTransport(t, fmt.Sprintf("https://origin%d.example", i), opts).Open(test.ctx, false, 0)
		var dns *net.DNSError
		if x != nil || !errors.As(err, &dns) || strings.HasPrefix(err.Error(), "the proxy ") != (test.proxy != nil) {
			t.Errorf("case %d: got %v, %v", i, x, err)
		}
	}
}

func TestRefusedConnection(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close()
	x, err := newTransport(t, "http://"+address, Options{}).Open(t.Context(), false, 0)
	if x != nil || !errors.Is(err, syscall.ECONNREFUSED) || strings.Contains(err.Error(), "proxy") {
		t.Errorf("got %v, %v", x, err)
	}
	u := &url.URL{Scheme: "http", Host: address, User: url.UserPassword("user", "s3cret")}
	x, err = newTransport(t, "http://origin.example", Options{Proxy: http.ProxyURL(u)}).Open(t.Context(), false, 0)
	if x != nil || !errors.Is(err, syscall.ECONNREFUSED) || !strings.HasPrefix(err.Error(), "the proxy "+address+": ") {
		t.Errorf("got %v, %v", x, err)
	}
}
