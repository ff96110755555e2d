package daemon

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/inferprobe/inferprobe/internal/config"
	"github.com/inferprobe/inferprobe/internal/probe"
	"github.com/inferprobe/inferprobe/internal/sim"
)

// gateway stands before a simulator and keeps what it is asked for.
type gateway struct {
	*httptest.Server
	mu    sync.Mutex
	asked []*http.Request
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
		g.mu.Lock()
		g.asked = append(g.asked, r)
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

// loadFile reads a configuration of this text, in a folder with these files. Its endpoints are measured by five
// requests in a cycle, and by canaries.
func loadFile(t *testing.T, text string, files map[string]string) (*config.Config, func() (*config.Config, error)) {
	t.Helper()
	folder := t.TempDir()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(folder, "inferprobe.yaml")
	const shared = `
defaults:
  sweep: {profile: synchronous, max_requests: 5, prompt_tokens: 32, output_tokens: 8}
  canary: {interval: 1s, prompt_tokens: 16, output_tokens: 4}
metrics: {histograms: classic}
history: {dir: history}
`
	if err := os.WriteFile(path, []byte(text+shared), 0o600); err != nil {
		t.Fatal(err)
	}
	load := func() (*config.Config, error) {
		c, err := config.Load(path)
		if err == nil {
			c.History.Dir = filepath.Join(folder, "history")
		}
		return c, err
	}
	c, err := load()
	if err != nil {
		t.Fatal(err)
	}
	return c, load
}

// measureAll runs a cycle and a canary of the only endpoint.
func measureAll(t *testing.T, h *harness) {
	t.Helper()
	stop := h.serve(t)
	defer stop()
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
	c, _ := loadFile(t, `
endpoints:
  - url: `+g.URL+`/v1?api-version=2024-10-21
    tokenizer: words
    headers: [{name: X-Tenant, value: search}, {name: api-key, value_file: key},
      {name: x-gateway, value_env: INFERPROBE_TEST_GATEWAY}, {name: Authorization, value_file: login}]
`, map[string]string{"key": "az-test\n", "login": "Basic dXNlcjpwYXNz\n"})
	measureAll(t, startWith(t, Options{Config: c}))
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
		path := filepath.Join(t.TempDir(), "inferprobe.yaml")
		text := "endpoints: [{url: http://host/v1, headers: [{name: " + name + ", value: a}]}]"
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := config.Load(path); err == nil || !strings.Contains(err.Error(), "set by inferprobe itself") {
			t.Errorf("%s can be configured: %v", name, err)
		}
	}
}
