package http1

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// TestRequests compares all that a server receives with what it should.
func TestRequests(t *testing.T) {
	header := http.Header{"User-Agent": {"inferprobe/1"}, "Authorization": {"Bearer key"}, "X-Many": {"a", "b"}}
	for _, test := range []struct {
		name   string
		method string
		path   string
		header http.Header
		fields []Field
		body   string
		want   string // HOST stands for the server's host and port
	}{
		{"bare GET", http.MethodGet, "/", nil, nil, "", "GET / HTTP/1.1\r\nHost: HOST\r\n\r\n"},
		{"no path", http.MethodGet, "", nil, nil, "", "GET / HTTP/1.1\r\nHost: HOST\r\n\r\n"},
		{
			"GET", http.MethodGet, "/v1/models?a=b%20c", header, nil, "",
			"GET /v1/models?a=b%20c HTTP/1.1\r\nHost: HOST\r\n" +
				"Authorization: Bearer key\r\nUser-Agent: inferprobe/1\r\nX-Many: a, b\r\n\r\n",
		},
		{
			"POST", http.MethodPost, "/v1/ü", header, []Field{{"X-Request-Id", "7"}, {"Traceparent", "00-1"}}, `{"a":1}`,
			"POST /v1/%C3%BC HTTP/1.1\r\nHost: HOST\r\nAuthorization: Bearer key\r\nUser-Agent: inferprobe/1\r\n" +
				"X-Many: a, b\r\nX-Request-Id: 7\r\nTraceparent: 00-1\r\nContent-Length: 7\r\n\r\n" + `{"a":1}`,
		},
		{"empty POST", http.MethodPost, "/", nil, nil, "", "POST / HTTP/1.1\r\nHost: HOST\r\nContent-Length: 0\r\n\r\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			plainAndTLS(t, func(t *testing.T, forServer *tls.Config, opts Options) {
				received := make(chan string, 1)
				s := serve(t, forServer, func(c *peer) {
					all, _ := io.ReadAll(c.in)
					received <- string(all)
				})
				tr := newTransport(t, s.scheme+"://"+s.address()+test.path, opts)
				head, err := tr.NewHead(test.method, tr.opts.Origin, test.header)
				if err != nil {
					t.Fatal(err)
				}
				x := open(t, tr)
				x.Send(head, test.fields, []byte(test.body))
				x.Close() // so that the server sees all that there is
				if got, want := <-received, strings.Replace(test.want, "HOST", s.address(), 1); got != want {
					t.Errorf("got  %q\nwant %q", got, want)
				}
			})
		})
	}
}

// writes is a connection that counts its writes.
type writes struct {
	net.Conn
	lengths []int
}

func (w *writes) Write(p []byte) (int, error) {
	w.lengths = append(w.lengths, len(p))
	return w.Conn.Write(p)
}

// TestOneWrite: a request that leaves in two segments arrives later, and its time of sending is that of the first.
func TestOneWrite(t *testing.T) {
	s := serve(t, nil, always(ok))
	tr := newTransport(t, s.url(), Options{})
	head := newHead(t, tr, http.MethodPost)
	for _, size := range []int{0, 1000, inOneGo, 1 << 20} {
		x := open(t, tr)
		w := &writes{Conn: x.conn.net}
		x.conn.net = w
		x.Send(head, []Field{{"A", "b"}}, make([]byte, size))
		if _, err := x.Receive(head); err != nil { // the server has all of it
			t.Fatal(err)
		}
		x.Close()
		if len(w.lengths) != 1 || w.lengths[0] < size+len(head.start) {
			t.Errorf("%d bytes were written as %v", size, w.lengths)
		}
	}
}

func TestHost(t *testing.T) {
	for _, test := range []struct{ origin, host, address string }{
		{"http://host", "host", "host:80"},
		{"https://host/v1", "host", "host:443"},
		{"http://host:8000", "host:8000", "host:8000"},
		{"https://host:443", "host:443", "host:443"},
		{"http://host:/v1", "host", "host:80"}, // servers that choose by the host do not know one with a colon
		{"http://127.0.0.1:8000", "127.0.0.1:8000", "127.0.0.1:8000"},
		{"https://bücher.example", "xn--bcher-kva.example", "xn--bcher-kva.example:443"},
		{"https://bücher.example:8443", "xn--bcher-kva.example:8443", "xn--bcher-kva.example:8443"},
		{"http://[::1]", "[::1]", "[::1]:80"},
		{"http://[::1]:8000", "[::1]:8000", "[::1]:8000"},
		{"http://[fe80::1%25eth0]", "[fe80::1]", "[fe80::1%eth0]:80"},
		{"http://[fe80::1%25eth0]:8000", "[fe80::1]:8000", "[fe80::1%eth0]:8000"},
	} {
		t.Run(test.origin, func(t *testing.T) {
			tr := newTransport(t, test.origin, Options{})
			want := "\r\nHost: " + test.host + "\r\n"
			if start := string(newHead(t, tr, http.MethodGet).start); !strings.HasSuffix(start, want) {
				t.Errorf("the head %q does not end with %q", start, want)
			}
			if tr.route.first != test.address {
				t.Errorf("connects with %s, want %s", tr.route.first, test.address)
			}
		})
	}
}

func TestBadHost(t *testing.T) {
	for _, host := range []string{"", ":80", "a b", "a\r\nb", "a/b"} {
		if _, err := New(Options{Origin: &url.URL{Scheme: "http", Host: host}}); err == nil ||
			!strings.Contains(err.Error(), "is no valid host") {
			t.Errorf("host %q: %v", host, err)
		}
	}
}

func TestNewHeadRefuses(t *testing.T) {
	tr := newTransport(t, "http://host", Options{})
	for _, test := range []struct{ name, value string }{
		{"Authorization", "Bearer secret\r\nX-Evil: 1"},
		{"Authorization", "Bearer secret\n"},
		{"Authorization", "\rsecret"},
		{"Authorization", "secret\x00"},
		{"Authorization", "secret\x7f"},
		{"X Spaced", "secret"},
		{"X-Colon:", "secret"},
		{"X-Line\r\nX-Evil", "secret"},
		{"", "secret"},
	} {
		head, err := tr.NewHead(http.MethodGet, tr.opts.Origin, http.Header{"Accept": {"*/*"}, test.name: {test.value}})
		switch {
		case err == nil:
			t.Errorf("%q: %q is accepted: %q", test.name, test.value, head.start)
		case !strings.Contains(err.Error(), test.name) || strings.Contains(err.Error(), "secret"):
			t.Errorf("%q: %q: %v", test.name, test.value, err)
		}
	}
	if _, err := tr.NewHead(http.MethodGet, tr.opts.Origin, http.Header{"X-Fine": {"a\tb c \xfc"}}); err != nil {
		t.Errorf("a value that can be carried: %v", err)
	}
}

// TestNewHeadLeavesItsHeader: the caller makes several heads of one header.
func TestNewHeadLeavesItsHeader(t *testing.T) {
	tr := newTransport(t, "http://host", Options{Proxy: http.ProxyURL(&url.URL{
		Scheme: "http", Host: "proxy:3128", User: url.UserPassword("user", "password"),
	})})
	header := http.Header{"A": {"b"}}
	for _, h := range []http.Header{header, nil} {
		head, err := tr.NewHead(http.MethodGet, tr.opts.Origin, h)
		if err != nil || !strings.Contains(string(head.start), "\r\nProxy-Authorization: Basic dXNlcjpwYXNzd29yZA==\r\n") {
			t.Errorf("%v: %q, %v", h, head.start, err)
		}
	}
	if len(header) != 1 {
		t.Errorf("the header is %v afterwards", header)
	}
}
