package daemon

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/inferprobe/inferprobe/internal/config"
	"github.com/inferprobe/inferprobe/internal/config/configtest"
	"github.com/inferprobe/inferprobe/internal/openai"
	"github.com/inferprobe/inferprobe/internal/probe"
	"github.com/inferprobe/inferprobe/internal/sim"
)

// gateway stands before a simulator and keeps what it is asked for.
type gateway struct {
	*httptest.Server
	mu     sync.Mutex
	asked  []*http.Request
	bodies [][]byte // of those that have one
}

// newGateway returns a gateway that has not been started.
func newGateway(t *testing.T) *gateway {
	t.Helper()
	behind, err := sim.New(quick())
	if err != nil {
		t.Fatal(err)
	}
	g := &gateway{}
	g.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		g.mu.Lock()
		if g.asked = append(g.asked, r); len(body) > 0 {
			g.bodies = append(g.bodies, body)
		}
		g.mu.Unlock()
		behind.ServeHTTP(w, r)
	}))
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = behind.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait(); g.Close() })
	return g
}

// requests returns what was asked for by now.
func (g *gateway) requests() []*http.Request {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.asked)
}

// write writes the files in folder.
func write(t *testing.T, folder string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// startFile returns a daemon with a configuration of this text, in a folder of its own with these files. Its endpoints
// are measured by five requests in a cycle, and by canaries.
func startFile(t *testing.T, text string, files map[string]string) (h *harness, folder string) {
	t.Helper()
	folder = t.TempDir()
	const shared = `
defaults:
  sweep: {profile: synchronous, max_requests: 5, prompt_tokens: 32, output_tokens: 8}
  canary: {interval: 1s, prompt_tokens: 16, output_tokens: 4}
metrics: {histograms: classic}
`
	write(t, folder, files)
	write(t, folder, map[string]string{"inferprobe.yaml": text + shared})
	load := func() (*config.Config, error) {
		c, err := config.Load(filepath.Join(folder, "inferprobe.yaml"))
		if err == nil {
			c.History.Dir = filepath.Join(folder, "history")
		}
		return c, err
	}
	c, err := load()
	if err != nil {
		t.Fatal(err)
	}
	return startWith(t, Options{Config: c, Load: load}), folder
}

// untilMeasured waits for a cycle and a canary of the only endpoint.
func untilMeasured(t *testing.T, h *harness) {
	t.Helper()
	for stage, least := range map[string]float64{"synchronous": 5, probe.StageCanary: 1} {
		until(t, stage, func() bool {
			n, _ := h.value(t, "requests_total", "stage", stage)
			return n >= least
		})
	}
}

// TestHeadersGoWithEveryRequest measures an endpoint behind a gateway that wants headers and a query.
func TestHeadersGoWithEveryRequest(t *testing.T) {
	g := newGateway(t)
	g.Start()
	t.Setenv("INFERPROBE_TEST_GATEWAY", "gw-test")
	h, folder := startFile(t, `
endpoints:
  - url: `+g.URL+`/v1?api-version=2024-10-21
    tokenizer: words
    headers: [{name: X-Tenant, value: search}, {name: api-key, value_file: key},
      {name: x-gateway, value_env: INFERPROBE_TEST_GATEWAY}, {name: Authorization, value_file: login}]
`, map[string]string{"key": "az-test\n", "login": "Basic dXNlcjpwYXNz\n"})
	stop := h.serve(t)
	untilMeasured(t, h)
	stop()
	paths, others := make(map[string]bool), make(map[string]bool)
	for _, r := range g.requests() {
		paths[r.Method+" "+r.URL.Path] = true
		got := fmt.Sprintf("%s %q %q %q %q", r.URL.RawQuery, r.Header["X-Tenant"], r.Header["Api-Key"], r.Header["X-Gateway"],
			r.Header["Authorization"])
		if want := `api-version=2024-10-21 ["search"] ["az-test"] ["gw-test"] ["Basic dXNlcjpwYXNz"]`; got != want {
			t.Errorf("%s %s: %s", r.Method, r.URL.Path, got)
		}
		for name := range r.Header {
			if !slices.Contains([]string{"X-Tenant", "Api-Key", "X-Gateway", "Authorization"}, name) {
				others[name] = true
			}
		}
	}
	for _, path := range []string{"GET /v1/models", "GET /metrics", "POST /v1/chat/completions"} {
		if !paths[path] {
			t.Errorf("%s was not asked for", path)
		}
	}
	for name := range others { // what inferprobe sets itself cannot be configured
		write(t, folder, map[string]string{
			"inferprobe.yaml": "endpoints: [{url: http://host/v1, headers: [{name: " + name + ", value: a}]}]",
		})
		if _, err := h.Load(); err == nil || !strings.Contains(err.Error(), "set by inferprobe itself") {
			t.Errorf("%s can be configured: %v", name, err)
		}
	}
}

// TestExtraBody: fields of the user's own are in every request body, and none of them can be one of ours.
func TestExtraBody(t *testing.T) {
	g := newGateway(t)
	g.Start()
	h, folder := startFile(t, `
endpoints:
  - {url: "`+g.URL+`/v1", tokenizer: words, extra_body: {chat_template_kwargs: {enable_thinking: false}, Top_K: 1}}
`, nil)
	stop := h.serve(t)
	untilMeasured(t, h)
	stop()
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, body := range g.bodies {
		const end = `,"chat_template_kwargs":{"enable_thinking":false},"Top_K":1}`
		if !bytes.HasSuffix(body, []byte(end)) || !json.Valid(body) {
			t.Errorf("a body without them: %s", body)
		}
	}
	ours := make(map[string]any)
	prompt := func(dst []byte) []byte { return dst }
	for _, dialect := range openai.Dialects() {
		for _, api := range []openai.API{openai.APIChat, openai.APICompletions} {
			if err := json.Unmarshal(openai.NewEncoder(api, dialect, "m", "").Append(nil, prompt, 1), &ours); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name := range ours {
		write(t, folder, map[string]string{
			"inferprobe.yaml": "endpoints: [{url: http://host/v1, extra_body: {" + name + ": 1}}]",
		})
		if _, err := h.Load(); err == nil || !strings.Contains(err.Error(), name+": is set by inferprobe itself") {
			t.Errorf("%s can be configured: %v", name, err)
		}
	}
}

// TestMutualTLS measures an endpoint that shows a certificate of a private authority and asks for one. Both follow
// their files, without a restart of the endpoint's cycles.
func TestMutualTLS(t *testing.T) {
	authority := configtest.NewAuthority(t, "authority")
	g := newGateway(t)
	pair, err := tls.X509KeyPair(pemPair(authority.Issue(t, "server")))
	if err != nil {
		t.Fatal(err)
	}
	clients := x509.NewCertPool()
	clients.AppendCertsFromPEM([]byte(authority.PEM))
	g.TLS = &tls.Config{
		Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients,
	}
	g.Config.ErrorLog = log.New(io.Discard, "", 0)
	g.StartTLS()
	certificate, key := authority.Issue(t, "client")
	h, folder := startFile(t, `
endpoints:
  - {url: "`+g.URL+`/v1", tokenizer: words, tls: {ca_file: ca.pem, cert_file: client.pem, key_file: client.key}}
`, map[string]string{"ca.pem": authority.PEM, "client.pem": certificate, "client.key": key})
	stop := h.serve(t)
	defer stop()
	untilMeasured(t, h)
	shown := func(name string) bool {
		return slices.ContainsFunc(g.requests(), func(r *http.Request) bool {
			return r.TLS.PeerCertificates[0].Subject.CommonName == name
		})
	}
	if !shown("client") {
		t.Error("the certificate was not shown")
	}
	certificate, key = authority.Issue(t, "rotated")
	write(t, folder, map[string]string{"client.pem": certificate, "client.key": key})
	if err := h.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	until(t, "the new certificate", func() bool { return shown("rotated") })
	write(t, folder, map[string]string{"ca.pem": configtest.NewAuthority(t, "another").PEM})
	if err := h.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	until(t, "the old authority is trusted no more", func() bool {
		status := h.Endpoints()[0].Canary
		return !status.Success && status.Reason == string(probe.ReasonTLS)
	})
	if n := len(h.names()); n != 1 {
		t.Errorf("%d cycles, want the first one only", n)
	}
}

func pemPair(certificate, key string) (certificatePEM, keyPEM []byte) {
	return []byte(certificate), []byte(key)
}
