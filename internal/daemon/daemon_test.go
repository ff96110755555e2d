package daemon

import (
	"bytes"
	"cmp"
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.uber.org/goleak"

	"github.com/inferprobe/inferprobe/internal/config"
	"github.com/inferprobe/inferprobe/internal/probe"
	"github.com/inferprobe/inferprobe/internal/prompt/prompttest"
	"github.com/inferprobe/inferprobe/internal/report"
	"github.com/inferprobe/inferprobe/internal/sim"
	"github.com/inferprobe/inferprobe/internal/sim/simtest"
	"github.com/inferprobe/inferprobe/internal/sweep"
	"github.com/inferprobe/inferprobe/internal/tokenizer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const tokenizerOfWords = "words"

// endpoint is one that is measured by five requests, one after another, of 38 ms each at a simulator made by quick.
func endpoint(name, url string) config.Endpoint {
	return config.Endpoint{
		Name: name, URL: url + "/v1", API: config.APIChat, Dialect: config.DialectAuto, Tokenizer: tokenizerOfWords,
		Sweep: config.Sweep{
			Interval: time.Hour, Profile: probe.ProfileSynchronous, MaxDuration: 20 * time.Second, MaxRequests: 5,
			PromptTokens: config.Length{Mean: 32}, OutputTokens: config.Length{Mean: 8},
		},
		Guards: config.Guards{MaxInFlight: 16},
	}
}

func quick() sim.Options {
	const milli = time.Millisecond
	return sim.Options{Fixed: &sim.FixedTiming{TimeToFirstToken: 10 * milli, InterTokenLatency: 4 * milli}}
}

// harness is a daemon whose cycles are kept. It fails the test if Finished is called while it runs.
type harness struct {
	*Daemon
	registry *prometheus.Registry
	busy     atomic.Bool
	onCycle  func(*probe.Cycle)

	mu     sync.Mutex
	cycles []*probe.Cycle
}

// configure returns the configuration of a daemon with these endpoints and a history of its own.
func configure(t *testing.T, endpoints ...config.Endpoint) *config.Config {
	return &config.Config{
		Endpoints: endpoints, Limits: config.Limits{ConcurrentSweeps: 8},
		Metrics: config.Metrics{Histograms: "classic"}, History: config.History{Dir: t.TempDir(), Cycles: 100},
	}
}

func start(t *testing.T, endpoints ...config.Endpoint) *harness {
	t.Helper()
	return startWith(t, Options{Config: configure(t, endpoints...)})
}

// startWith returns a daemon with some of its options.
func startWith(t *testing.T, o Options) *harness {
	t.Helper()
	h := &harness{registry: prometheus.NewPedanticRegistry()}
	h.Daemon = New(Options{
		Config: o.Config, Load: o.Load, Leases: o.Leases,
		Registry: h.registry, Hub: &tokenizer.Hub{}, Log: cmp.Or(o.Log, slog.New(slog.DiscardHandler)),
		Finished: func(c *probe.Cycle) {
			if !h.busy.CompareAndSwap(false, true) {
				t.Error("Finished is called while it runs")
			}
			defer h.busy.Store(false)
			time.Sleep(5 * time.Millisecond) // time for another to come
			h.mu.Lock()
			h.cycles = append(h.cycles, c)
			h.mu.Unlock()
			if h.onCycle != nil {
				h.onCycle(c)
			}
		},
	})
	h.pools.byName[tokenizerOfWords] = prompttest.Pool(t, prompttest.NewWords())
	return h
}

// until waits until something has come about.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: it takes too long", what)
		}
	}
}

// mortal starts a simulator that stop ends, and returns its base URL.
func mortal(t *testing.T) (server *sim.Server, url string, stop func()) {
	t.Helper()
	server, err := sim.New(quick())
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(ctx, listener) })
	return server, "http://" + listener.Addr().String(), func() { cancel(); serving.Wait() }
}

// names returns the endpoints of the cycles in the order in which they finished.
func (h *harness) names() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var names []string
	for _, c := range h.cycles {
		names = append(names, c.Endpoint.Name)
	}
	return names
}

// value returns the value of the series with these labels, given as name and value by turns, and false if there is
// none.
func (h *harness) value(t *testing.T, name string, labels ...string) (float64, bool) {
	t.Helper()
	families, err := h.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "inferprobe_"+name {
			continue
		}
		for _, m := range f.GetMetric() {
			if hasLabels(m, labels) {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue(), true
			}
		}
	}
	return 0, false
}

func hasLabels(m *dto.Metric, labels []string) bool {
	for i := 0; i < len(labels); i += 2 {
		if !slices.ContainsFunc(m.GetLabel(), func(l *dto.LabelPair) bool {
			return l.GetName() == labels[i] && l.GetValue() == labels[i+1]
		}) {
			return false
		}
	}
	return true
}

func TestRunOnce(t *testing.T) {
	_, url := simtest.Start(t, quick())
	h := start(t, endpoint("a", url), endpoint("b", url))
	cycles := h.RunOnce(t.Context())
	if len(cycles) != 2 || !slices.Equal(h.names(), []string{"a", "b"}) {
		t.Fatalf("%d cycles, finished %v", len(cycles), h.names())
	}
	for i, c := range cycles {
		if c != h.cycles[i] || c.Failure != nil || len(c.Stages) != 1 || c.Stages[0].Completed != 5 {
			t.Errorf("cycle %d: %+v", i, c)
		}
		if i > 0 && c.Started.Before(cycles[i-1].Ended) {
			t.Error("two endpoints are measured at the same time")
		}
		if n, _ := h.value(t, "requests_total", "endpoint", c.Endpoint.Name, "stage", "synchronous"); n != 5 {
			t.Errorf("requests_total is %v, want 5", n)
		}
	}
	for _, e := range h.Endpoints() {
		if e.State != stateWaiting || e.Model != sim.DefaultModel || e.LastCycle == nil || e.LastCycle.Failure != "" {
			t.Errorf("status %+v", e)
		}
		text, ok := h.Report(e.LastCycle.ID)
		parsed, err := report.ParseJSON(text)
		if !ok || err != nil || parsed[0].Endpoint.Name != e.Name {
			t.Errorf("report of %s: %v, %v", e.LastCycle.ID, ok, err)
		}
	}
	if _, ok := h.Report("none"); ok {
		t.Error("there is a report of a cycle that never was")
	}
}

// TestRunOnceNamesWhatItHasNoTimeFor: an endpoint whose turn does not come is in every output all the same, and nothing
// is remembered of it.
func TestRunOnceNamesWhatItHasNoTimeFor(t *testing.T) {
	server, url := simtest.Start(t, quick())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var log bytes.Buffer
	h := startWith(t, Options{Config: configure(t, endpoint("a", url), endpoint("b", url)),
		Log: slog.New(slog.NewTextHandler(&log, nil))})
	var requests int
	h.onCycle = func(c *probe.Cycle) {
		if cancel(); c.Endpoint.Name == "a" {
			requests = len(simtest.Truth(t, server))
		}
	}
	cycles := h.RunOnce(ctx)
	if len(cycles) != 2 || !slices.Equal(h.names(), []string{"a", "b"}) || cycles[1] != h.cycles[1] {
		t.Fatalf("%d cycles, finished %v", len(cycles), h.names())
	}
	b := cycles[1]
	want := probe.CycleFailure{Reason: probe.CycleInterrupted, Detail: "told to stop before the cycle began"}
	if b.Failure == nil || *b.Failure != want || len(b.Stages) > 0 || b.Workload.PromptTokens.Mean != 32 ||
		b.ID != sweep.CycleID("b", b.Started) || b.Ended != b.Started {
		t.Errorf("what did not begin is %+v, %+v", b, b.Failure)
	}
	if !strings.Contains(log.String(), `level=WARN msg="cycle interrupted" endpoint=b`) {
		t.Errorf("the log does not name the endpoint:\n%s", log.String())
	}
	if now := len(simtest.Truth(t, server)); now != requests {
		t.Errorf("%d requests were sent for it", now-requests)
	}
	if kept := h.history.Last("b", 1); len(kept) > 0 {
		t.Errorf("the history has %+v", kept[0])
	}
}

// TestLogOfAFinishedCycle: only what was measured is in it.
func TestLogOfAFinishedCycle(t *testing.T) {
	const capacity = "capacity_requests_per_second=2.5 capacity_output_tokens_per_second=320"
	for name, test := range map[string]struct {
		found probe.Capacity
		want  string
	}{
		"no capacity": {probe.Capacity{}, "took=0s stages=0\n"},
		"a capacity": {probe.Capacity{RequestsPerSecond: 2.5, OutputTokensPerSecond: 320},
			"took=0s stages=0 " + capacity + "\n"},
	} {
		var log bytes.Buffer
		new(Daemon).logCycle(&probe.Cycle{Capacity: test.found}, slog.New(slog.NewTextHandler(&log, nil)))
		if got := log.String(); !strings.HasSuffix(got, `msg="cycle finished" `+test.want) {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// TestGroupsNeverOverlap has three endpoints of one group at the same server, which knows when each was measured.
func TestGroupsNeverOverlap(t *testing.T) {
	server, url := simtest.Start(t, quick())
	var endpoints []config.Endpoint
	for _, name := range []string{"a", "b", "c"} {
		e := endpoint(name, url)
		e.Group = "gpu"
		endpoints = append(endpoints, e)
	}
	h := start(t, endpoints...)
	h.Serve(t.Context(), 2)
	if got := h.names(); len(got) != 6 {
		t.Fatalf("finished %v", got)
	}
	type span struct{ from, to time.Time }
	spans := make(map[string]span) // by cycle
	for _, r := range simtest.Truth(t, server) {
		client := clientOf(&r)
		s, last := spans[client], r.Writes[len(r.Writes)-1].After
		if s.from.IsZero() || r.Received.Before(s.from) {
			s.from = r.Received
		}
		if last.After(s.to) {
			s.to = last
		}
		spans[client] = s
	}
	if len(spans) != 6 {
		t.Errorf("%d cycles at the server, want 6", len(spans))
	}
	var inOrder []span
	for _, s := range spans {
		inOrder = append(inOrder, s)
	}
	slices.SortFunc(inOrder, func(a, b span) int { return a.from.Compare(b.from) })
	for i := 1; i < len(inOrder); i++ {
		if inOrder[i].from.Before(inOrder[i-1].to) {
			t.Errorf("a cycle began at the server %s before the last one ended", inOrder[i-1].to.Sub(inOrder[i].from))
		}
	}
}

// TestEndpointsDoNotWaitForEachOther has one endpoint that answers nothing before another has been measured three times.
func TestEndpointsDoNotWaitForEachOther(t *testing.T) {
	for name, groups := range map[string][2]string{"two groups": {"one", "other"}, "no groups": {}} {
		t.Run(name, func(t *testing.T) {
			_, url := simtest.Start(t, quick())
			others := make(chan struct{})
			dead := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				select {
				case <-others:
				case <-r.Context().Done():
				}
				http.NotFound(w, r)
			}))
			defer dead.Close()
			a, b := endpoint("dead", dead.URL), endpoint("alive", url)
			a.Group, b.Group = groups[0], groups[1]
			h := start(t, a, b)
			var alive int
			h.onCycle = func(c *probe.Cycle) {
				if c.Endpoint.Name == "alive" {
					if alive++; alive == 3 {
						close(others)
					}
				}
			}
			h.Serve(t.Context(), 3)
			if got := h.names(); len(got) != 6 || !slices.Equal(got[:3], []string{"alive", "alive", "alive"}) {
				t.Fatalf("finished %v", got)
			}
			for _, c := range h.cycles[3:] {
				if c.Failure == nil || c.Failure.Reason != string(probe.ReasonNotFound) {
					t.Errorf("%s: %+v", c.Endpoint.Name, c.Failure)
				}
			}
		})
	}
}

func TestFinishedIsCalledOneAtATime(t *testing.T) {
	_, url := simtest.Start(t, sim.Options{Fixed: &sim.FixedTiming{}})
	h := start(t, endpoint("a", url), endpoint("b", url), endpoint("c", url), endpoint("d", url))
	h.Serve(t.Context(), 3)
	if got := h.names(); len(got) != 12 {
		t.Errorf("finished %v", got)
	}
}

// TestPanicIsAFailedCycle has the tokenizer of one endpoint panic.
func TestPanicIsAFailedCycle(t *testing.T) {
	_, url := simtest.Start(t, quick())
	bad := endpoint("bad", url)
	bad.Tokenizer = "panics"
	h := start(t, bad, endpoint("good", url))
	tok := prompttest.NewWords()
	h.pools.byName["panics"] = prompttest.Pool(t, tok)
	tok.Encoding = func() { panic("a fault") }
	h.Serve(t.Context(), 1)

	for _, c := range h.cycles {
		switch c.Endpoint.Name {
		case "good":
			if c.Failure != nil || c.Stages[0].Completed != 5 {
				t.Errorf("the other endpoint: %+v", c.Failure)
			}
		default:
			if c.Failure == nil || c.Failure.Reason != probe.CycleInternal || !strings.Contains(c.Failure.Detail, "a fault") {
				t.Errorf("failure %+v", c.Failure)
			}
		}
	}
	failures, _ := h.value(t, "cycle_failures_total", "endpoint", "bad", "reason", probe.CycleInternal)
	if failures != 1 || len(h.cycles) != 2 {
		t.Errorf("%v cycles failed by a fault of ours, of %d", failures, len(h.cycles))
	}
	if running, _ := h.value(t, "cycle_in_progress", "endpoint", "bad"); running != 0 {
		t.Error("the cycle is still in progress")
	}
}

// clientOf tells requests of different cycles apart: each has a client of its own, whose requests' ids begin alike.
func clientOf(r *sim.Record) string { return r.RequestID[:strings.LastIndex(r.RequestID, "-")] }

// measuring reports whether so many cycles are in their stages: past the two requests that calibrate.
func measuring(server *sim.Server, cycles int) bool {
	requests := make(map[string]int)
	for _, r := range server.Truth(time.Time{}) {
		if requests[clientOf(&r)]++; requests[clientOf(&r)] == 3 {
			cycles--
		}
	}
	return cycles <= 0
}

// TestShutdown stops in the middle of long stages: each ends in order and is reported, and nothing stays behind.
func TestShutdown(t *testing.T) {
	server, url := simtest.Start(t, quick())
	long := func(name string) config.Endpoint {
		e := endpoint(name, url)
		e.Sweep.MaxRequests, e.Sweep.MaxDuration = 0, time.Hour
		return e
	}
	a, c := long("a"), long("c") // one of the two waits for the other
	a.Group, c.Group = "gpu", "gpu"
	h := start(t, a, long("b"), c)
	ctx, cancel := context.WithCancel(t.Context())
	var serving sync.WaitGroup
	serving.Go(func() { h.Serve(ctx, 0) })
	for !measuring(server, 2) {
		time.Sleep(time.Millisecond)
	}
	cancel()
	serving.Wait()

	if names := h.names(); len(names) != 2 || !slices.Contains(names, "b") {
		t.Errorf("finished %v, want b and one of the group", names)
	}
	var booked int
	for _, c := range h.cycles {
		if c.Failure == nil || c.Failure.Reason != probe.CycleInterrupted || len(c.Stages) != 1 {
			t.Errorf("%s: %+v", c.Endpoint.Name, c.Failure)
			continue
		}
		booked += c.Stages[0].Completed + c.Stages[0].Incomplete + c.Stages[0].Failed
	}
	const calibrations = 4
	if n := len(simtest.Truth(t, server)); n > booked+calibrations {
		t.Errorf("%d requests at the server, %d in the books", n, booked)
	}
	for _, e := range h.Endpoints() {
		if e.State != stateStopped || !e.NextStart.IsZero() {
			t.Errorf("%s is %s", e.Name, e.State)
		}
	}
}

// TestModelIsDiscovered is about an endpoint whose model is not configured: its series get the model's name once it is
// known, and keep it while the endpoint is down.
func TestModelIsDiscovered(t *testing.T) {
	_, url, stop := mortal(t)
	h := start(t, endpoint("a", url))
	check := func(when, series string, labels []string, want float64, exists bool) {
		t.Helper()
		if got, ok := h.value(t, series, labels...); got != want || ok != exists {
			t.Errorf("%s: %s%v is %v (%v), want %v (%v)", when, series, labels, got, ok, want, exists)
		}
	}
	check("at first", "cycles_total", []string{"model", ""}, 0, true)
	h.RunOnce(t.Context())
	check("when discovered", "cycles_total", []string{"model", ""}, 0, false)
	check("when discovered", "cycles_total", []string{"model", sim.DefaultModel}, 1, true)
	check("when discovered", "requests_total", []string{"model", sim.DefaultModel}, 5, true)

	stop()
	h.RunOnce(t.Context())
	check("when down", "cycles_total", []string{"model", ""}, 0, false)
	check("when down", "cycles_total", []string{"model", sim.DefaultModel}, 2, true)
	check("when down", "requests_total", []string{"model", sim.DefaultModel}, 5, true)
	check("when down", "cycle_failures_total", []string{"model", sim.DefaultModel, "reason", "connect"}, 1, true)
	if e := h.Endpoints()[0]; e.Model != sim.DefaultModel || e.LastCycle.Failure != "connect" {
		t.Errorf("status %+v", e)
	}
}

// TestProgress: what runs is told of, and the number of requests in flight goes back to zero.
func TestProgress(t *testing.T) {
	_, url := simtest.Start(t, quick())
	e := endpoint("a", url)
	e.Sweep.MaxRequests = 40 // some 1.5 s: one progress at least
	h := start(t, e)
	var mu sync.Mutex
	var told []report.Progress
	var states []string
	h.Progress = func(p report.Progress) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, p)
		states = append(states, h.Endpoints()[0].State+" "+h.Endpoints()[0].Stage)
	}
	h.RunOnce(t.Context())
	if len(told) == 0 || told[0].Endpoint != "a" || told[0].Stage != "synchronous" || told[0].Of != 1 {
		t.Errorf("told %+v", told)
	}
	if len(states) > 0 && states[0] != "running synchronous" {
		t.Errorf("the status while it runs is %q", states[0])
	}
	if n, _ := h.value(t, "requests_in_flight", "endpoint", "a"); n != 0 {
		t.Errorf("%v requests are in flight at the end", n)
	}
}
