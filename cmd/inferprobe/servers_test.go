//go:build cgo && hftokenizers

package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/pflag"

	"github.com/inferprobe/inferprobe/internal/sim"
)

func listen(ts *testscript.TestScript) net.Listener {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	return l
}

func startSimulator(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 1, "sim VARIABLE FLAG…")
	var flags simFlags
	fs := pflag.NewFlagSet("sim", pflag.ContinueOnError)
	flags.add(fs)
	ts.Check(fs.Parse(args[1:]))
	options, err := flags.parse()
	ts.Check(err)
	server, err := sim.New(options)
	ts.Check(err)
	l := listen(ts)
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, l) }()
	ts.Defer(func() {
		stop()
		ts.Check(<-served)
	})
	setURL(ts, args[0], "http://"+l.Addr().String())
}

func setURL(ts *testscript.TestScript, variable, address string) {
	u, err := url.Parse(address)
	ts.Check(err)
	ts.Setenv(variable, address)
	ts.Setenv(variable+"_HOST", u.Host)
}

// startServer starts a server that is no inference server, or a bad one, and sets a variable to its URL, without a path.
func startServer(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2, "server VARIABLE KIND …")
	kind, rest := args[1], args[2:]
	switch kind {
	case "refuse": // nothing listens
		port(ts, false, args[:1])
		setURL(ts, args[0], "http://"+ts.Getenv(args[0]))
		return
	case "blackhole": // nothing answers, not even to a connection
		setURL(ts, args[0], "http://"+blackhole(ts))
		return
	}
	handler, known := handlers()[kind]
	if !known {
		ts.Fatalf("there is no server of kind %q", kind)
	}
	server := httptest.NewUnstartedServer(handler(rest))
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // of what clients do to it
	if kind == "tls" {
		server.StartTLS()
	} else {
		server.Start()
	}
	ts.Defer(func() {
		server.CloseClientConnections()
		server.Close()
	})
	setURL(ts, args[0], server.URL)
}

// handlers are the kinds of startServer.
func handlers() map[string]func(args []string) http.HandlerFunc {
	always := func(handler http.HandlerFunc) func([]string) http.HandlerFunc {
		return func([]string) http.HandlerFunc { return handler }
	}
	return map[string]func([]string) http.HandlerFunc{
		// status CODE [HEADER VALUE]: an error that repeats the key, as careless servers do.
		"status": func(args []string) http.HandlerFunc {
			code, _ := strconv.Atoi(args[0])
			return func(w http.ResponseWriter, r *http.Request) {
				if len(args) > 2 {
					w.Header().Set(args[1], args[2])
				}
				w.WriteHeader(code)
				fmt.Fprintf(w, `{"error":{"message":"you sent %s"}}`, r.Header.Get("Authorization"))
			}
		},
		"tls":  always(http.NotFound),
		"html": always(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html><title>Welcome</title></html>") }),
		"text": always(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "It works!") }),
		"hang": always(hang()),
		"none": always(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"object":"list","data":[]}`) }),
		// redirect: to another host, with the key in the new URL.
		"redirect": always(func(w http.ResponseWriter, r *http.Request) {
			key := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
			http.Redirect(w, r, "http://elsewhere.invalid/login?key="+key, http.StatusFound)
		}),
		"hub":  hub,
		"echo": echo,
	}
}

// newHanging starts a server of kind hang and returns its URL.
func newHanging(t *testing.T) string {
	server := httptest.NewServer(hang())
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return server.URL
}

// hang answers to nothing but /arrived, with the method of the last request that came.
func hang() http.HandlerFunc {
	var method atomic.Value
	method.Store("")
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/arrived" {
			fmt.Fprint(w, method.Load())
			return
		}
		method.Store(r.Method)
		<-r.Context().Done()
	}
}

// echo serves a model whose answers repeat the key: `echo error` in an error event, `echo finish` as the finish reason.
func echo(args []string) http.HandlerFunc {
	event := map[string]string{
		"error":  `{"error":{"message":"cannot serve %s"}}`,
		"finish": `{"choices":[{"delta":{"content":"x"},"finish_reason":"%s"}]}`,
	}[args[0]]
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			fmt.Fprint(w, `{"data":[{"id":"m"}]}`)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprintf(w, "data: "+event+"\n\ndata: [DONE]\n\n", r.Header.Get("Authorization"))
	}
}

// hub is a fake HuggingFace Hub: `hub gated`, `hub missing`, `hub forbidden`, which repeats the token, or `hub FILE`,
// whose every repository has this tokenizer.json.
func hub(args []string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		switch args[0] {
		case "gated":
			h.Set("X-Error-Code", "GatedRepo")
			w.WriteHeader(http.StatusUnauthorized)
		case "missing":
			h.Set("X-Error-Code", "RepoNotFound")
			w.WriteHeader(http.StatusUnauthorized)
		case "forbidden":
			h.Set("X-Error-Message", "no access for "+r.Header.Get("Authorization"))
			w.WriteHeader(http.StatusForbidden)
		default:
			h.Set("X-Repo-Commit", "0123456789abcdef0123456789abcdef01234567")
			h.Set("ETag", `"some-etag"`)
			http.ServeFile(w, r, args[0])
		}
	}
}

// blackhole returns an address that swallows attempts to connect: Linux drops them while the queue of a listener that
// accepts nothing is full.
func blackhole(ts *testscript.TestScript) string {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	ts.Check(err)
	syscall.CloseOnExec(fd)
	ts.Defer(func() { syscall.Close(fd) })
	ts.Check(syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	ts.Check(syscall.Listen(fd, 0))
	name, err := syscall.Getsockname(fd)
	ts.Check(err)
	address := fmt.Sprintf("127.0.0.1:%d", name.(*syscall.SockaddrInet4).Port)
	for {
		conn, err := net.DialTimeout("tcp", address, 100*time.Millisecond)
		if err != nil {
			return address
		}
		ts.Defer(func() { conn.Close() })
	}
}
