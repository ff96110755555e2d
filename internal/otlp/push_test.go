package otlp_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"maps"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
	"go.uber.org/goleak"
	"google.golang.org/grpc"

	"github.com/inferprobe/inferprobe/internal/metrics"
	"github.com/inferprobe/inferprobe/internal/otlp"
	"github.com/inferprobe/inferprobe/internal/probe"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const traceID = "b3d9112cb5d6d31d6ff816c33749027a"

// collector receives pushes as OpenTelemetry's does: what its decoder refuses is answered with 400.
type collector struct {
	*httptest.Server
	pushes chan pmetric.Metrics

	mu      sync.Mutex
	status  int // of the answers; 0 for the usual one
	headers http.Header
	path    string
}

func newCollector(t *testing.T) *collector {
	c := &collector{pushes: make(chan pmetric.Metrics, 100)}
	c.Server = httptest.NewServer(http.HandlerFunc(c.receive))
	t.Cleanup(c.Close)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", c.URL)
	return c
}

func (c *collector) receive(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	c.headers, c.path = r.Header, r.URL.Path
	status := c.status
	c.mu.Unlock()
	if status != 0 {
		w.WriteHeader(status)
		return
	}
	var body io.Reader = r.Body
	if r.Header.Get("Content-Encoding") == "gzip" {
		var err error
		if body, err = gzip.NewReader(r.Body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
	}
	data, err := io.ReadAll(body)
	request := pmetricotlp.NewExportRequest()
	if err == nil {
		err = request.UnmarshalProto(data)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	c.pushes <- request.Metrics()
}

func (c *collector) answer(status int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status = status
}

// journal is a log that tests read.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

func start(t *testing.T, gatherer prometheus.Gatherer, log io.Writer) (*otlp.Pusher, error) {
	return otlp.Start(t.Context(), otlp.Options{
		Gatherer: gatherer, Version: "1.2.3", Instance: "pod-0", Log: slog.New(slog.NewTextHandler(log, nil)),
	})
}

// push pushes once, and returns what arrived.
func (c *collector) push(t *testing.T, gatherer prometheus.Gatherer, log io.Writer) pmetric.ResourceMetrics {
	t.Helper()
	p, err := start(t, gatherer, log)
	if err != nil {
		t.Fatal(err)
	}
	p.Stop()
	select {
	case m := <-c.pushes:
		if m.ResourceMetrics().Len() != 1 {
			t.Fatalf("%d resources", m.ResourceMetrics().Len())
		}
		return m.ResourceMetrics().At(0)
	default:
		t.Fatalf("nothing arrived; the log:\n%s", log)
		return pmetric.ResourceMetrics{}
	}
}

// next waits for a push.
func (c *collector) next(t *testing.T) {
	t.Helper()
	select {
	case <-c.pushes:
	case <-time.After(10 * time.Second):
		t.Fatal("nothing arrived")
	}
}

// byName returns the metrics that arrived by name.
func byName(r pmetric.ResourceMetrics) map[string]pmetric.Metric {
	all := make(map[string]pmetric.Metric)
	for i := range r.ScopeMetrics().Len() {
		list := r.ScopeMetrics().At(i).Metrics()
		for j := range list.Len() {
			all[list.At(j).Name()] = list.At(j)
		}
	}
	return all
}

// measured is a registry after one request: first token after 100 ms, end after 300 ms.
func measured(mode metrics.Mode) *prometheus.Registry {
	reg := prometheus.NewRegistry()
	e := metrics.New(reg, mode).Add(probe.Endpoint{Name: "llama", Model: "llama-3"}, nil, []string{"canary", "idle"})
	e.Record("canary", &probe.Result{
		Request: &probe.Request{}, ID: "inferprobe-1", TraceID: traceID, Outcome: probe.Completed,
		FirstToken: 100 * time.Millisecond, LastToken: 300 * time.Millisecond, End: 300 * time.Millisecond,
		Arrivals:     []probe.Arrival{{At: 100 * time.Millisecond, Events: 1}, {At: 300 * time.Millisecond, Events: 1}},
		OutputTokens: 2, TokenSource: probe.TokensFromServer,
	})
	return reg
}

const (
	firstToken = "inferprobe_time_to_first_token_seconds"
	duration   = "inferprobe_request_duration_seconds"
)

func TestNativeHistogramsArriveAsExponential(t *testing.T) {
	for _, mode := range []metrics.Mode{metrics.Native, metrics.Both} {
		got := byName(newCollector(t).push(t, measured(mode), new(journal)))
		for name, value := range map[string]float64{firstToken: .1, duration: .3} {
			if got[name].Type() != pmetric.MetricTypeExponentialHistogram {
				t.Fatalf("%s: %s is %v", mode, name, got[name].Type())
			}
			points := got[name].ExponentialHistogram().DataPoints()
			if points.Len() != 2 {
				t.Fatalf("%s: %d points of %s, want one a stage", mode, points.Len(), name)
			}
			for i := range points.Len() {
				p := points.At(i)
				if stage, _ := p.Attributes().Get("stage"); stage.Str() == "idle" {
					if p.Count() != 0 || p.Exemplars().Len() != 0 {
						t.Errorf("%s: an idle stage has %d observations of %s", mode, p.Count(), name)
					}
					continue
				}
				if p.Count() != 1 || p.Sum() != value || p.Scale() != 3 || p.StartTimestamp() == 0 {
					t.Errorf("%s: %s has count %d, sum %v, scale %d", mode, name, p.Count(), p.Sum(), p.Scale())
				}
				if low, high := bucket(p); value <= low || value > high {
					t.Errorf("%s: %v of %s is in the bucket from %v to %v", mode, value, name, low, high)
				}
				checkExemplar(t, p.Exemplars(), value)
			}
		}
	}
}

// bucket returns the bounds of a histogram's one bucket, by OTLP's definition of scale and offset.
func bucket(p pmetric.ExponentialHistogramDataPoint) (low, high float64) {
	i := slices.Index(p.Positive().BucketCounts().AsRaw(), 1) + int(p.Positive().Offset())
	base := math.Exp2(math.Exp2(-float64(p.Scale())))
	return math.Pow(base, float64(i)), math.Pow(base, float64(i+1))
}

func TestClassicHistogramsArrive(t *testing.T) {
	got := byName(newCollector(t).push(t, measured(metrics.Classic), new(journal)))
	points := got[firstToken].Histogram().DataPoints()
	for i := range points.Len() {
		p := points.At(i)
		if stage, _ := p.Attributes().Get("stage"); stage.Str() == "canary" {
			n := slices.Index(p.BucketCounts().AsRaw(), 1)
			if p.Count() != 1 || p.ExplicitBounds().At(n) != .1 {
				t.Errorf("%d observations, counts %v of bounds %v", p.Count(), p.BucketCounts(), p.ExplicitBounds())
			}
			checkExemplar(t, p.Exemplars(), .1)
		}
	}
	if got["inferprobe_requests_total"].Sum().DataPoints().Len() != 2 {
		t.Error("the counter of requests did not arrive")
	}
}

func checkExemplar(t *testing.T, list pmetric.ExemplarSlice, value float64) {
	t.Helper()
	if list.Len() != 1 {
		t.Errorf("%d exemplars, want 1", list.Len())
		return
	}
	trace := list.At(0).TraceID()
	request, _ := list.At(0).FilteredAttributes().Get("request_id")
	if hex.EncodeToString(trace[:]) != traceID || request.Str() != "inferprobe-1" || list.At(0).DoubleValue() != value {
		t.Errorf("exemplar %x %q %v", trace, request.Str(), list.At(0).DoubleValue())
	}
}

func TestResource(t *testing.T) {
	attributes := func(r pmetric.ResourceMetrics) map[string]any {
		all := r.Resource().Attributes().AsRaw()
		maps.DeleteFunc(all, func(name string, _ any) bool { return strings.HasPrefix(name, "telemetry.sdk.") })
		return all
	}
	c := newCollector(t)
	want := map[string]any{"service.name": "inferprobe", "service.version": "1.2.3", "service.instance.id": "pod-0"}
	if diff := cmp.Diff(want, attributes(c.push(t, measured(metrics.Both), new(journal)))); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	t.Setenv("OTEL_SERVICE_NAME", "probe")
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=prod,service.name=no")
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "Authorization=Bearer%20geheim")
	t.Setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
	t.Setenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", c.URL+"/otlp/metrics")
	want["service.name"], want["deployment.environment.name"] = "probe", "prod"
	if diff := cmp.Diff(want, attributes(c.push(t, measured(metrics.Both), new(journal)))); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if c.headers.Get("Authorization") != "Bearer geheim" || c.path != "/otlp/metrics" {
		t.Errorf("pushed to %s with %v", c.path, c.headers)
	}
	if diff := cmp.Diff([]string{"Bearer%20geheim", "Bearer geheim"}, otlp.Secrets()); diff != "" {
		t.Errorf("secrets -want +got:\n%s", diff)
	}
}

// grpcCollector receives pushes by gRPC.
type grpcCollector struct {
	pmetricotlp.UnimplementedGRPCServer
	pushes chan pmetric.Metrics
}

func (c *grpcCollector) Export(_ context.Context, r pmetricotlp.ExportRequest) (pmetricotlp.ExportResponse, error) {
	c.pushes <- r.Metrics()
	return pmetricotlp.NewExportResponse(), nil
}

func TestGRPC(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &grpcCollector{pushes: make(chan pmetric.Metrics, 1)}
	server := grpc.NewServer()
	pmetricotlp.RegisterGRPCServer(server, c)
	var serving sync.WaitGroup
	serving.Go(func() { err = server.Serve(listener) })
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"+listener.Addr().String())
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
	var log journal
	p, startErr := start(t, measured(metrics.Both), &log)
	if startErr != nil {
		t.Fatal(startErr)
	}
	p.Stop()
	server.Stop()
	serving.Wait()
	if len(c.pushes) != 1 || err != nil {
		t.Fatalf("%d pushes, server %v, log:\n%s", len(c.pushes), err, log.String())
	}
	got := byName((<-c.pushes).ResourceMetrics().At(0))
	if got[firstToken].Type() != pmetric.MetricTypeExponentialHistogram {
		t.Errorf("%s is %v", firstToken, got[firstToken].Type())
	}
}

// TestInterval receives pushes before the end.
func TestInterval(t *testing.T) {
	c := newCollector(t)
	t.Setenv("OTEL_METRIC_EXPORT_INTERVAL", "20")
	p, err := start(t, measured(metrics.Both), new(journal))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Stop()
	c.next(t)
	c.next(t)
}

// TestFailureIsLoggedOnce pushes to a collector that refuses, then takes, then refuses again.
func TestFailureIsLoggedOnce(t *testing.T) {
	c := newCollector(t)
	c.answer(http.StatusForbidden)
	t.Setenv("OTEL_METRIC_EXPORT_INTERVAL", "10")
	var log journal
	p, err := start(t, measured(metrics.Both), &log)
	if err != nil {
		t.Fatal(err)
	}
	await(t, func() bool { return strings.Contains(log.String(), "cannot be pushed") })
	c.answer(0)
	c.next(t)
	await(t, func() bool { return strings.Contains(log.String(), "pushed over OTLP again") })
	c.answer(http.StatusForbidden)
	await(t, func() bool { return strings.Count(log.String(), "cannot be pushed") == 2 })
	p.Stop()
	if lines := strings.Count(log.String(), "\n"); lines != 3 {
		t.Errorf("%d lines in the log, want one a change:\n%s", lines, log.String())
	}
}

func await(t *testing.T, condition func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for !condition() {
		select {
		case <-deadline:
			t.Fatal("it did not happen")
		case <-time.After(time.Millisecond):
		}
	}
}

// TestUnreachable stops while nothing listens: Stop returns, and the log says why nothing was pushed.
func TestUnreachable(t *testing.T) {
	newCollector(t).Close()
	var log journal
	p, err := start(t, measured(metrics.Both), &log)
	if err != nil {
		t.Fatal(err)
	}
	p.Stop()
	if text := log.String(); !strings.Contains(text, "connection refused") || strings.Count(text, "\n") != 1 {
		t.Errorf("log:\n%s", text)
	}
}

// TestBrokenCollectorOfOurs pushes what could be gathered.
func TestBrokenCollectorOfOurs(t *testing.T) {
	broken := prometheus.NewRegistry()
	broken.MustRegister(failing{})
	var log journal
	got := byName(newCollector(t).push(t, prometheus.Gatherers{broken, measured(metrics.Both)}, &log))
	if _, ok := got[firstToken]; !ok || !strings.Contains(log.String(), "out of order") {
		t.Errorf("%d metrics arrived; log:\n%s", len(got), log.String())
	}
}

type failing struct{}

func (failing) Describe(chan<- *prometheus.Desc) {}
func (failing) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.NewInvalidMetric(prometheus.NewDesc("broken", "", nil, nil), errors.New("out of order"))
}

func TestEnvironment(t *testing.T) {
	for _, test := range []struct{ name, value, want string }{
		{"OTEL_EXPORTER_OTLP_ENDPOINT", "", "set OTEL_EXPORTER_OTLP_ENDPOINT, for example to http://localhost:4318"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4318", "OTEL_EXPORTER_OTLP_ENDPOINT is not a URL"},
		{"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "grpc://collector:4317", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT is not"},
		{"OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", `OTEL_EXPORTER_OTLP_PROTOCOL is "http/json"; write http/protobuf or grpc`},
		{"OTEL_METRIC_EXPORT_INTERVAL", "15s", `OTEL_METRIC_EXPORT_INTERVAL is "15s"; write milliseconds`},
		{"OTEL_EXPORTER_OTLP_TIMEOUT", "0", `OTEL_EXPORTER_OTLP_TIMEOUT is "0"`},
		{"OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta", "always cumulative"},
		{"OTEL_EXPORTER_OTLP_CERTIFICATE", "/no/such/file", "tls ca cert file: open /no/such/file"},
		{"OTEL_EXPORTER_OTLP_HEADERS", "geheim", "parse headers"},
		{"OTEL_RESOURCE_ATTRIBUTES", "team", "OTEL_RESOURCE_ATTRIBUTES: "},
	} {
		t.Run(test.name+"="+test.value, func(t *testing.T) {
			t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
			t.Setenv(test.name, test.value)
			p, err := start(t, prometheus.NewRegistry(), io.Discard)
			if err == nil {
				p.Stop()
				t.Fatal("no error")
			}
			if !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "geheim") {
				t.Errorf("error %q, want %q in it", err, test.want)
			}
		})
	}
}
