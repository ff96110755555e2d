package http1

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/http/httpproxy"

	"github.com/inferprobe/inferprobe/internal/wiretime/wiretimetest"
)

// forwarder is a proxy all of whose ways lead to one server.
type forwarder struct {
	to string

	mu    sync.Mutex
	asked []string // what for, and with which credentials
}

func (f *forwarder) ask(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, fmt.Sprintf(format, args...))
}

// join passes on what comes until either end has gone.
func (f *forwarder) join(client net.Conn, in io.Reader) {
	defer client.Close()
	to, err := net.Dial("tcp", f.to)
	if err != nil {
		return
	}
	var group sync.WaitGroup
	group.Go(func() { io.Copy(to, in); to.Close() })
	io.Copy(client, to)
	client.Close()
	group.Wait()
}

// startHTTP starts an HTTP proxy, to which one speaks TLS if there is a configuration for that.
func (f *forwarder) startHTTP(t *testing.T, config *tls.Config) (address string) {
	t.Helper()
	onward := &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(context.Context, string, string) (net.Conn, error) { return net.Dial("tcp", f.to) },
	}
	return serve(t, config, func(c *peer) {
		for request, err := http.ReadRequest(c.in); err == nil; request, err = http.ReadRequest(c.in) {
			f.ask("%s %s %s", request.Method, request.RequestURI, request.Header.Get("Proxy-Authorization"))
			if request.Method == http.MethodConnect {
				c.send("HTTP/1.1 200 Connection established\r\n\r\n")
				f.join(c.Conn, c.in)
				return
			}
			request.Header.Del("Proxy-Authorization")
			response, err := onward.RoundTrip(request)
			if err != nil {
				t.Error(err)
				return
			}
			response.Write(c)
		}
	}).address()
}

// startSOCKS starts a proxy as in RFC 1928, which asks for a password if the client can give one, as in RFC 1929.
func (f *forwarder) startSOCKS(t *testing.T) (address string) {
	t.Helper()
	return serve(t, nil, func(c *peer) {
		next := func(n int) []byte {
			b := make([]byte, n)
			io.ReadFull(c.in, b)
			return b
		}
		methods := next(int(next(2)[1]))
		credentials := ""
		if slices.Contains(methods, 2) {
			c.send("\x05\x02")
			user := next(int(next(2)[1]))
			credentials = fmt.Sprintf("%s:%s", user, next(int(next(1)[0])))
			c.send("\x01\x00")
		} else {
			c.send("\x05\x00")
		}
		if command := string(next(4)); command != "\x05\x01\x00\x03" { // connect with a name
			t.Errorf("SOCKS command %q", command)
			return
		}
		host := next(int(next(1)[0]))
		f.ask("SOCKS %s:%d %s", host, binary.BigEndian.Uint16(next(2)), credentials)
		c.send("\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x01")
		f.join(c.Conn, c.in)
	}).address()
}

const (
	name       = "bücher.example" // no resolver knows it: it is the proxy's to resolve
	punycode   = "xn--bcher-kva.example"
	basicLogin = "Basic dXNlcjpzM2NyZXQ="
)

// TestProxies goes through each kind of proxy to each kind of server.
func TestProxies(t *testing.T) {
	forServer, forClient := certificate(t, "127.0.0.1", punycode)
	for _, origin := range []string{"http", "https"} {
		for _, proxy := range []string{"http", "https", "socks5", "socks5h"} {
			for _, login := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%s/%v", origin, proxy, login), func(t *testing.T) {
					throughProxy(t, origin, proxy, login, forServer, forClient)
				})
			}
		}
	}
}

func throughProxy(t *testing.T, origin, proxy string, login bool, forServer, forClient *tls.Config) {
	port, basic, plain := map[string]string{"http": "80", "https": "443"}[origin], "", ""
	u := &url.URL{Scheme: proxy}
	if login {
		u.User, basic, plain = url.UserPassword("user", "s3cret"), basicLogin, "user:s3cret"
	}
	onlyTLS := func(scheme string) *tls.Config {
		if scheme == "https" {
			return forServer
		}
		return nil
	}
	s := serve(t, onlyTLS(origin), func(c *peer) {
		for request, body := c.request(); request != nil; request, body = c.request() {
			if request.RequestURI != "/v1" || request.Host != punycode || request.Header.Get("Proxy-Authorization") != "" ||
				body != "{}" {
				t.Errorf("the server has %s %s %v %s", request.RequestURI, request.Host, request.Header, body)
			}
			c.send(ok)
		}
	})
	f := &forwarder{to: s.address()}
	want := []string{"SOCKS " + punycode + ":" + port + " " + plain}
	if strings.HasPrefix(proxy, "socks") {
		u.Host = f.startSOCKS(t)
	} else {
		u.Host = f.startHTTP(t, onlyTLS(proxy))
		if want = []string{"CONNECT " + punycode + ":443 " + basic}; origin == "http" {
			want = slices.Repeat([]string{"POST http://" + punycode + "/v1 " + basic}, 2)
		}
	}
	tr := newTransport(t, origin+"://"+name+"/v1", Options{TLS: forClient, Proxy: http.ProxyURL(u)})
	check(t, tr, false)
	check(t, tr, true)
	f.mu.Lock()
	defer f.mu.Unlock()
	if !slices.Equal(f.asked, want) {
		t.Errorf("the proxy was asked for %q, want %q", f.asked, want)
	}
}

// TestClientCertificate: the origin is shown our certificate, and expected by the name that is configured. A proxy on the
// way is neither.
func TestClientCertificate(t *testing.T) {
	wiretimetest.Stamps(t) // from here on, if at all
	forServer, forClient := certificate(t, "127.0.0.1", "origin.example")
	ours, _ := certificate(t, "client")
	forClient.Certificates, forClient.ServerName = ours.Certificates, "origin.example"
	shown := make(chan string, 10) // name and number of certificates
	listen := func(ask tls.ClientAuthType) *tls.Config {
		config := forServer.Clone()
		config.ClientAuth = ask
		config.VerifyConnection = func(state tls.ConnectionState) error {
			shown <- fmt.Sprintf("%q %d", state.ServerName, len(state.PeerCertificates))
			return nil
		}
		return config
	}
	s := serve(t, listen(tls.RequireAnyClientCert), always(ok))
	direct := newTransport(t, s.url(), Options{TLS: forClient})
	check(t, direct, false)
	x := open(t, direct)
	head := newHead(t, direct, http.MethodGet)
	x.Send(head, nil, nil)
	if _, err := x.Receive(head); err != nil {
		t.Fatal(err)
	}
	if !x.Times.LastRead().Kernel && runtime.GOOS == "linux" {
		t.Error("the times are not the kernel's")
	}
	f := &forwarder{to: s.address()}
	u := &url.URL{Scheme: "https", Host: f.startHTTP(t, listen(tls.RequestClientCert))}
	check(t, newTransport(t, "https://anything.example", Options{TLS: forClient, Proxy: http.ProxyURL(u)}), false)
	for _, want := range []string{`"origin.example" 1`, `"" 0`, `"origin.example" 1`} { // no name is sent for an address
		if got := <-shown; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// TestCarelessness: that an origin's certificate is not looked at says nothing of the proxy's.
func TestCarelessness(t *testing.T) {
	forServer, _ := certificate(t, "127.0.0.1")
	careless := &tls.Config{InsecureSkipVerify: true}
	s := serve(t, forServer, always(ok))
	check(t, newTransport(t, s.url(), Options{TLS: careless}), false)
	f := &forwarder{to: s.address()}
	u := &url.URL{Scheme: "https", Host: f.startHTTP(t, forServer)}
	tr := newTransport(t, s.url(), Options{TLS: careless, Proxy: http.ProxyURL(u)})
	if _, err := tr.Open(t.Context(), false, 0); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("error %v", err)
	}
}

// TestTunnelAnswers: what a proxy says beside yes is of no interest. A body that it announces never comes.
func TestTunnelAnswers(t *testing.T) {
	forServer, forClient := certificate(t, "origin.example")
	s := serve(t, forServer, always(ok))
	f := &forwarder{to: s.address()}
	for _, head := range []string{
		"HTTP/1.0 200 Connection established\r\n\r\n",
		"HTTP/1.1 200 OK\r\nProxy-Agent: x\r\nConnection: keep-alive\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
	} {
		proxy := serve(t, nil, func(c *peer) {
			http.ReadRequest(c.in)
			c.send(head)
			f.join(c.Conn, c.in)
		})
		u := &url.URL{Scheme: "http", Host: proxy.address()}
		check(t, newTransport(t, "https://origin.example", Options{TLS: forClient, Proxy: http.ProxyURL(u)}), false)
	}
}

func TestProxyRefusals(t *testing.T) {
	answer := func(text string) func(c *peer) {
		return func(c *peer) { http.ReadRequest(c.in); c.send(text); c.hang() }
	}
	// The first message of SOCKS is of 4 bytes, as two ways to log in are offered.
	socks := func(answers ...string) func(c *peer) {
		return func(c *peer) {
			for i, text := range answers {
				io.CopyN(io.Discard, c.in, []int64{4, 3 + 4 + 6}[i])
				c.send(text)
			}
			c.hang()
		}
	}
	for _, test := range []struct {
		name, scheme string
		talk         func(c *peer)
		want         string
	}{
		{
			"407", "http", answer("HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 9\r\n\r\n"),
			"no way to origin.example:443: 407 Proxy Authentication Required",
		},
		{"503", "http", answer("HTTP/1.0 503 Down\r\n\r\n"), "no way to origin.example:443: 503 Down"},
		{"no proxy", "http", answer("SSH-2.0\r\n"), "malformed HTTP response"},
		{"closes", "http", func(c *peer) { http.ReadRequest(c.in) }, "unexpected EOF"},
		{"talks without end", "http", func(c *peer) {
			for _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\n"); err == nil; _, err = io.WriteString(c, "A: b\r\n") {
			}
		}, "longer than 64 KiB"},
		{"no SOCKS", "socks5", socks("HT"), "unexpected protocol version 72"},
		{"no way to log in", "socks5", socks("\x05\xff"), "no acceptable authentication methods"},
		{"wrong password", "socks5", socks("\x05\x02", "\x01\x01"), "username/password authentication failed"},
		{"closes", "socks5", func(c *peer) { io.CopyN(io.Discard, c.in, 4) }, "EOF"},
	} {
		t.Run(test.scheme+"/"+test.name, func(t *testing.T) {
			s := serve(t, nil, test.talk)
			u := &url.URL{Scheme: test.scheme, Host: s.address(), User: url.UserPassword("user", "s3cret")}
			tr := newTransport(t, "https://origin.example", Options{Proxy: http.ProxyURL(u)})
			x, err := tr.Open(t.Context(), false, 0)
			if x != nil || err == nil || !strings.HasPrefix(err.Error(), "the proxy "+s.address()+": ") ||
				!strings.Contains(err.Error(), test.want) {
				t.Fatalf("got %v, %v; want %s", x, err, test.want)
			}
			discreet(t, err)
			s.awaitEnds(t, 0)
		})
	}
}

// discreet looks for credentials in an error.
func discreet(t *testing.T, err error) {
	t.Helper()
	for _, secret := range []string{"user", "s3cret", base64.StdEncoding.EncodeToString([]byte("user:s3cret"))} {
		if strings.Contains(strings.ReplaceAll(err.Error(), "username/password", ""), secret) {
			t.Errorf("%q tells a secret", err)
		}
	}
}

func TestBadProxies(t *testing.T) {
	fromEnvironment := func(proxy string) func(*http.Request) (*url.URL, error) {
		config := httpproxy.Config{HTTPProxy: proxy}
		return func(r *http.Request) (*url.URL, error) { return config.ProxyFunc()(r.URL) }
	}
	for _, test := range []struct {
		name  string
		proxy func(*http.Request) (*url.URL, error)
		want  string
	}{
		{"scheme", fromEnvironment("ftp://user:s3cret@proxy.example"), "the proxy proxy.example must begin with http://"},
		{"scheme, token", fromEnvironment("ftp://s3cret@proxy.example"), "the proxy proxy.example must begin with http://"},
		{"no host", fromEnvironment("http://user:s3cret@:3128"), `the proxy: "" is no valid host`},
		{"error", func(*http.Request) (*url.URL, error) { return nil, errors.New("why") }, "the proxy: why"},
	} {
		t.Run(test.name, func(t *testing.T) {
			tr, err := New(Options{Origin: &url.URL{Scheme: "http", Host: "origin.example"}, Proxy: test.proxy})
			if tr != nil || err == nil || !strings.HasPrefix(err.Error(), test.want) {
				t.Fatalf("got %v, %v; want %s", tr, err, test.want)
			}
			discreet(t, err)
		})
	}
}

// TestNoProxy: the function is asked about the origin, and may say that there is none on the way.
func TestNoProxy(t *testing.T) {
	s := serve(t, nil, always(ok))
	var about *url.URL
	tr := newTransport(t, s.url(), Options{Proxy: func(r *http.Request) (*url.URL, error) {
		about = r.URL
		return nil, nil
	}})
	check(t, tr, false)
	if about == nil || about.String() != s.url() {
		t.Errorf("asked about %v", about)
	}
}
