package web_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"flag"
	"html"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/inferprobe/inferprobe/internal/web"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var start = time.Date(2026, 8, 22, 12, 0, 0, 0, time.UTC)

// state is what the tests show.
type state []web.EndpointStatus

func (s state) Endpoints() []web.EndpointStatus { return s }

func (s state) Report(id string) ([]byte, bool) {
	return []byte(`{"schema":"inferprobe/report/v1"}`), known(id)
}

func known(id string) bool {
	return slices.Contains([]string{"llama/2026-08-22T12:00:00Z", "a", "b", "?#/.."}, id)
}

func (s state) Page(id string) (web.Page, bool) {
	return web.Page{Title: `Cycle <b>`, Style: ".report { margin: 0 }", Body: `<p class="report">The report</p>`},
		known(id)
}

func example() state {
	good := web.CycleStatus{ID: "llama/2026-08-22T12:00:00Z", Started: start, Ended: start.Add(22 * time.Minute),
		Valid: true, RequestsPerSecond: 8.125, OutputTokensPerSecond: 1040}
	before, invalid := good, good
	before.ID, before.Started, before.OutputTokensPerSecond = "a", start.Add(-6*time.Hour), 900
	invalid.ID, invalid.Started, invalid.Valid = "?#/..", start.Add(-12*time.Hour), false
	before.Regressions = []string{"time_to_first_token", "capacity"}
	failed := web.CycleStatus{ID: "b", Started: start, Ended: start.Add(time.Second),
		Failure: `<script>alert("x")</script>`}
	return state{
		{Name: "llama-3.3_70b", Model: "meta-llama/Llama-3", URL: "http://a/v1", State: "running", Stage: "constant-1",
			NextStart: start.Add(6 * time.Hour), LastCycle: &good, Cycles: []web.CycleStatus{good, before, invalid},
			Canary: &web.CanaryStatus{At: start, Success: true, TimeToFirstToken: 0.0625},
			Tokens: &web.TokenBudget{PerDay: 20_000_000, Remaining: 950_123, CoversCycle: true, Renewed: start.Add(12 * time.Hour)}},
		{Name: "mistral", Model: `<b onclick="x">`, URL: "javascript:alert(1)", State: "waiting", Paused: true,
			NextStart: start.Add(time.Hour), Tokens: &web.TokenBudget{PerDay: 2_000_000, Renewed: start.Add(12 * time.Hour)},
			Canary: &web.CanaryStatus{At: start, Reason: "<b onclick>"}, LastCycle: &failed,
			Cycles: []web.CycleStatus{failed}},
		{Name: "new", URL: "http://c/v1", State: "waiting"},
	}
}

func newServer(t *testing.T, s web.State, log io.Writer) *web.Server {
	t.Helper()
	reg := prometheus.NewRegistry()
	reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "inferprobe_test", Help: "A test."},
		func() float64 { return 1 }))
	return web.NewServer(web.Options{
		Addresses: []string{"127.0.0.1:0"}, Gatherer: reg, Registerer: reg, State: s,
		Logger: slog.New(slog.NewTextHandler(log, nil)), Version: "1.2.3",
	})
}

func get(t *testing.T, s *web.Server, method, path string, header ...string) *http.Response {
	t.Helper()
	r := httptest.NewRequest(method, path, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	return w.Result()
}

func body(t *testing.T, r *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestRoutes(t *testing.T) {
	s := newServer(t, example(), io.Discard)
	for _, tt := range []struct {
		method, path string
		status       int
		contentType  string
		want         string
	}{
		{"GET", "/metrics", 200, "text/plain; version=0.0.4; charset=utf-8; escaping=underscores", "inferprobe_test 1"},
		{"GET", "/-/healthy", 200, "text/plain; charset=utf-8", "inferprobe is healthy.\n"},
		{"GET", "/", 200, "text/html; charset=utf-8", "<h1>Endpoints</h1>"},
		{"HEAD", "/", 200, "text/html; charset=utf-8", ""},
		{"GET", "/api/v1/endpoints", 200, "application/json", `"name": "llama-3.3_70b"`},
		{"GET", "/api/v1/endpoints/new", 200, "application/json", `"url": "http://c/v1"`},
		{"GET", "/api/v1/endpoints/nobody", 404, "application/json", "there is no endpoint of that name"},
		{"GET", "/api/v1/cycles/llama%2F2026-08-22T12:00:00Z", 200, "application/json", "inferprobe/report/v1"},
		{"GET", "/endpoints/new", 200, "text/html; charset=utf-8", "<h1>new</h1>"},
		{"GET", "/endpoints/nobody", 404, "text/plain; charset=utf-8", "There is no endpoint of that name.\n"},
		{"GET", "/cycles/a", 200, "text/html; charset=utf-8", `<p class="report">The report</p>`},
		{"GET", "/cycles/nothing", 404, "text/plain; charset=utf-8", "There is no cycle of that ID, or no longer.\n"},
		{"GET", "/api/v1/cycles/nothing", 404, "application/json", "there is no cycle of that ID"},
		{"POST", "/", 405, "text/plain; charset=utf-8", "Method Not Allowed"},
		{"POST", "/-/reload", 403, "text/plain; charset=utf-8", "--web.enable-lifecycle"},
		{"GET", "/debug/pprof/", 404, "text/plain; charset=utf-8", "404 page not found"},
	} {
		t.Run(tt.method+" "+tt.path, func(t *testing.T) {
			r := get(t, s, tt.method, tt.path)
			if r.StatusCode != tt.status || r.Header.Get("Content-Type") != tt.contentType {
				t.Errorf("got %s, %s", r.Status, r.Header.Get("Content-Type"))
			}
			if got := body(t, r); !strings.Contains(got, tt.want) {
				t.Errorf("got %s, want %s in it", got, tt.want)
			}
			for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY",
				"Referrer-Policy": "no-referrer", "Cache-Control": "no-store"} {
				if got := r.Header.Get(name); got != want {
					t.Errorf("%s: got %q, want %q", name, got, want)
				}
			}
			csp := r.Header.Get("Content-Security-Policy")
			if !strings.HasPrefix(csp, "default-src 'none'; style-src 'sha256-") {
				t.Errorf("Content-Security-Policy: %s", csp)
			}
		})
	}
}

func TestOpenMetrics(t *testing.T) {
	r := get(t, newServer(t, state{}, io.Discard), "GET", "/metrics",
		"Accept", "application/openmetrics-text;version=1.0.0")
	if got := body(t, r); !strings.HasSuffix(got, "# EOF\n") || !strings.Contains(got, "inferprobe_test 1.0") {
		t.Errorf("got %s", got)
	}
}

func TestReady(t *testing.T) {
	s := newServer(t, example(), io.Discard)
	for _, ready := range []bool{false, true, false} {
		s.SetReady(ready)
		want := http.StatusServiceUnavailable
		if ready {
			want = http.StatusOK
		}
		if r := get(t, s, "GET", "/-/ready"); r.StatusCode != want {
			t.Errorf("ready %v: got %s", ready, r.Status)
		}
	}
}

// TestPages holds the pages as they are, foreign text made harmless.
func TestPages(t *testing.T) {
	for path, file := range map[string]string{"/": "status.html", "/endpoints/llama-3.3_70b": "endpoint.html",
		"/endpoints/mistral": "endpoint-failed.html", "/cycles/llama%2F2026-08-22T12:00:00Z": "cycle.html"} {
		t.Run(file, func(t *testing.T) {
			r := get(t, newServer(t, example(), io.Discard), "GET", path)
			got := body(t, r)
			csp := r.Header.Get("Content-Security-Policy")
			styles := regexp.MustCompile(`(?s)<style>(.*?)</style>`).FindAllStringSubmatch(got, -1)
			for _, style := range styles {
				hash := sha256.Sum256([]byte(style[1]))
				if !strings.Contains(csp, "'sha256-"+base64.StdEncoding.EncodeToString(hash[:])+"'") {
					t.Errorf("browsers would drop a style sheet: %s", csp)
				}
			}
			if len(styles) == 0 || strings.Contains(csp, "unsafe") {
				t.Errorf("%d style sheets; %s", len(styles), csp)
			}
			for _, bad := range []string{"<script", "<b onclick", `href="javascript:`, "ZgotmplZ", " style=", "NaN"} {
				if strings.Contains(got, bad) {
					t.Errorf("the page has %s", bad)
				}
			}
			checkGolden(t, "testdata/"+file, got)
		})
	}
	empty := body(t, get(t, newServer(t, state{}, io.Discard), "GET", "/"))
	if !strings.Contains(empty, "There are no endpoints") {
		t.Errorf("without endpoints: %s", empty)
	}
}

func checkGolden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestLinks follows every link of every page.
func TestLinks(t *testing.T) {
	s := newServer(t, example(), io.Discard)
	seen := map[string]bool{}
	var follow func(path string)
	follow = func(path string) {
		if seen[path] {
			return
		}
		seen[path] = true
		r := get(t, s, "GET", path)
		text := body(t, r)
		if r.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", path, r.Status)
		}
		base, err := url.Parse(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, link := range regexp.MustCompile(`href="([^"]*)"`).FindAllStringSubmatch(text, -1) {
			to, err := base.Parse(html.UnescapeString(link[1]))
			if err != nil {
				t.Fatal(err)
			}
			follow(to.String())
		}
	}
	follow("/")
	if len(seen) < 10 {
		t.Errorf("there are only %v", seen)
	}
}

func TestEndpointsAsJSON(t *testing.T) {
	var got struct {
		Endpoints []map[string]any `json:"endpoints"`
	}
	text := body(t, get(t, newServer(t, example(), io.Discard), "GET", "/api/v1/endpoints"))
	if err := json.Unmarshal([]byte(text), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"name": "llama-3.3_70b", "model": "meta-llama/Llama-3", "url": "http://a/v1", "state": "running",
		"stage": "constant-1",
		"canary": map[string]any{
			"at": "2026-08-22T12:00:00Z", "success": true, "time_to_first_token_seconds": 0.0625},
		"paused": false,
		"token_budget": map[string]any{
			"tokens_per_day": 20_000_000.0, "remaining": 950_123.0, "covers_cycle": true,
			"renewed_at": "2026-08-23T00:00:00Z"},
		"next_start": "2026-08-22T18:00:00Z", "last_cycle": map[string]any{
			"id":         "llama/2026-08-22T12:00:00Z",
			"started_at": "2026-08-22T12:00:00Z", "ended_at": "2026-08-22T12:22:00Z",
			"valid": true, "requests_per_second": 8.125, "output_tokens_per_second": 1040.0,
		},
	}
	delete(got.Endpoints[0], "cycles")
	if diff := cmp.Diff(want, got.Endpoints[0]); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	fresh := map[string]any{"name": "new", "model": "", "url": "http://c/v1", "state": "waiting", "paused": false,
		"cycles": []any{}}
	if diff := cmp.Diff(fresh, got.Endpoints[2]); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	text = body(t, get(t, newServer(t, state(nil), io.Discard), "GET", "/api/v1/endpoints"))
	if text != "{\n  \"endpoints\": []\n}\n" {
		t.Errorf("without endpoints: %s", text)
	}
}

func TestAnswersThatCannotBeEncoded(t *testing.T) {
	var log bytes.Buffer
	s := newServer(t, state{{Name: "a", LastCycle: &web.CycleStatus{RequestsPerSecond: math.NaN()}}}, &log)
	if r := get(t, s, "GET", "/api/v1/endpoints"); r.StatusCode != http.StatusInternalServerError {
		t.Errorf("got %s", r.Status)
	}
	if !strings.Contains(log.String(), "NaN") {
		t.Errorf("the log says %s", &log)
	}
}

func TestScrapeWithABrokenCollector(t *testing.T) {
	var log bytes.Buffer
	reg := prometheus.NewRegistry()
	reg.MustRegister(broken{}, prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "good", Help: "A test."},
		func() float64 { return 1 }))
	s := web.NewServer(web.Options{Gatherer: reg, Registerer: reg, State: state{},
		Logger: slog.New(slog.NewTextHandler(&log, nil))})
	r := get(t, s, "GET", "/metrics")
	if got := body(t, r); r.StatusCode != 200 || !strings.Contains(got, "good 1") {
		t.Errorf("got %s: %s", r.Status, got)
	}
	if !strings.Contains(log.String(), "out of order") {
		t.Errorf("the log says %s", &log)
	}
}

type broken struct{}

func (broken) Describe(ch chan<- *prometheus.Desc) {
	ch <- prometheus.NewDesc("broken", "A test.", nil, nil)
}

func (broken) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.NewInvalidMetric(prometheus.NewDesc("broken", "A test.", nil, nil), errOutOfOrder{})
}

type errOutOfOrder struct{}

func (errOutOfOrder) Error() string { return "out of order" }

// run starts s and returns its addresses and what stops it and returns what Run did.
func run(t *testing.T, s *web.Server) (addrs []string, stop func() error) {
	t.Helper()
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	for _, a := range s.Addrs() {
		addrs = append(addrs, a.String())
	}
	ctx, cancel := context.WithCancel(context.Background())
	result := make(chan error, 1)
	go func() { result <- s.Run(ctx) }()
	return addrs, func() error {
		cancel()
		return <-result
	}
}

// fetch gets a page from a real server, on a connection of its own.
func fetch(t *testing.T, address string) *http.Response {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := client.Get("http://" + address + "/-/healthy")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Body.Close() })
	if got := body(t, r); got != "inferprobe is healthy.\n" {
		t.Errorf("got %s", got)
	}
	return r
}

func TestRun(t *testing.T) {
	reg := prometheus.NewRegistry()
	s := web.NewServer(web.Options{Addresses: []string{"127.0.0.1:0", "127.0.0.1:0"}, Gatherer: reg, Registerer: reg,
		State: state{}, Logger: slog.New(slog.DiscardHandler)})
	s.SetReady(true)
	addrs, stop := run(t, s)
	for _, a := range addrs {
		fetch(t, a)
	}
	if err := stop(); err != nil || len(addrs) != 2 {
		t.Errorf("got %v, %v", addrs, err)
	}
	if r := get(t, s, "GET", "/-/ready"); r.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("ready after its end: %s", r.Status)
	}
	if c, err := net.Dial("tcp", addrs[0]); err == nil {
		c.Close()
		t.Error("it still listens")
	}
}

// TestRunFinishesAnswers: what is being answered when the server is told to stop is answered.
func TestRunFinishesAnswers(t *testing.T) {
	slow := &slowState{asked: make(chan struct{}), answer: make(chan struct{})}
	reg := prometheus.NewRegistry()
	s := web.NewServer(web.Options{Addresses: []string{"127.0.0.1:0"}, Gatherer: reg, Registerer: reg, State: slow,
		Logger: slog.New(slog.DiscardHandler)})
	addrs, stop := run(t, s)
	var wg sync.WaitGroup
	wg.Go(func() {
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		r, err := client.Get("http://" + addrs[0] + "/")
		if err != nil {
			t.Error(err)
			return
		}
		defer r.Body.Close()
		if b, err := io.ReadAll(r.Body); err != nil || !strings.Contains(string(b), "There are no endpoints") {
			t.Errorf("got %s, %v", b, err)
		}
	})
	<-slow.asked
	wg.Go(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	for { // the listener closes first
		c, err := net.Dial("tcp", addrs[0])
		if err != nil {
			break
		}
		c.Close()
	}
	close(slow.answer)
	wg.Wait()
}

type slowState struct{ asked, answer chan struct{} }

func (s *slowState) Endpoints() []web.EndpointStatus {
	close(s.asked)
	<-s.answer
	return nil
}

func (*slowState) Report(string) ([]byte, bool) { return nil, false }
func (*slowState) Page(string) (web.Page, bool) { return web.Page{}, false }

func TestListenErrors(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	bad := filepath.Join(t.TempDir(), "web.yml")
	if err := os.WriteFile(bad, []byte("basic_auth_user: x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, config string
		addresses    []string
		want         string
	}{
		{"none", "", nil, "there is no address to listen on; give one, such as :9090"},
		{"busy", "", []string{"127.0.0.1:0", busy.Addr().String()}, "address already in use"},
		{"no port", "", []string{"localhost"}, "missing port"},
		{"web configuration", bad, []string{"127.0.0.1:0"}, "web configuration " + bad},
	} {
		t.Run(tt.name, func(t *testing.T) {
			reg := prometheus.NewRegistry()
			s := web.NewServer(web.Options{Addresses: tt.addresses, ConfigFile: tt.config, Gatherer: reg,
				Registerer: reg, State: state{}, Logger: slog.New(slog.DiscardHandler)})
			if err := s.Run(context.Background()); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s in it", err, tt.want)
			}
		})
	}
}

// TestWebConfiguration: exporter-toolkit's file has its effect.
func TestWebConfiguration(t *testing.T) {
	file := filepath.Join(t.TempDir(), "web.yml")
	content := "http_server_config: {headers: {Strict-Transport-Security: max-age=3600}}\n"
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	reg := prometheus.NewRegistry()
	s := web.NewServer(web.Options{Addresses: []string{"127.0.0.1:0", "127.0.0.1:0"}, ConfigFile: file, Gatherer: reg,
		Registerer: reg, State: state{}, Logger: slog.New(slog.DiscardHandler)})
	addrs, stop := run(t, s)
	for _, a := range addrs {
		if got := fetch(t, a).Header.Get("Strict-Transport-Security"); got != "max-age=3600" {
			t.Errorf("%s: got %q", a, got)
		}
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}
