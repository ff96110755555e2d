package sweep

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/inferprobe/inferprobe/internal/openai"
	"github.com/inferprobe/inferprobe/internal/probe"
	"github.com/inferprobe/inferprobe/internal/prompt"
	"github.com/inferprobe/inferprobe/internal/sim"
	"github.com/inferprobe/inferprobe/internal/sim/simtest"
)

func canaryAt(t *testing.T, url string, o *observer, change func(*Target)) *Canary {
	t.Helper()
	target := &Target{Name: "sim", Client: openai.Options{BaseURL: url + "/v1"}, Workload: probe.Workload{API: "chat"}}
	if change != nil {
		change(target)
	}
	c := NewCanary(target, wordPools{}, o, discardLog())
	t.Cleanup(c.Close)
	return c
}

// recorded returns how many requests of a stage were recorded.
func (o *observer) recorded(stage string) (n int) {
	for _, r := range o.all {
		if r.stage == stage {
			n++
		}
	}
	return n
}

// failed returns how many canary requests of that reason were recorded.
func (o *observer) failed(reason probe.Reason) (n int) {
	for _, r := range o.all {
		if r.stage == probe.StageCanary && r.outcome == probe.Failed && r.reason == reason {
			n++
		}
	}
	return n
}

// TestCanaryCostsOneRequest: the server is looked at once, and with one short request.
func TestCanaryCostsOneRequest(t *testing.T) {
	server, url := simtest.Start(t, steady())
	o := &observer{}
	c := canaryAt(t, url, o, nil)
	const probes = 3
	for range probes {
		if out := c.Probe(t.Context()); out.Outcome != probe.Completed || out.Reason != "" || out.Sent.IsZero() ||
			out.TimeToFirstToken < 10*milli || out.Duration < out.TimeToFirstToken {
			t.Errorf("%+v", out)
		}
	}
	records := simtest.Truth(t, server)
	if len(records) != probes+1 || records[0].OutputTokens != 1 {
		t.Errorf("%d requests, the first for %d tokens", len(records), records[0].OutputTokens)
	}
	for _, r := range records[1:] {
		if r.PromptTokens != DefaultCanaryPromptTokens+sim.ChatTemplateTokens ||
			r.OutputTokens != DefaultCanaryOutputTokens {
			t.Errorf("%d prompt and %d output tokens", r.PromptTokens, r.OutputTokens)
		}
	}
	if n := o.count(probe.StageCanary, probe.Completed); n != probes || len(o.all) != probes+1 {
		t.Errorf("%d completed of %d recorded", n, len(o.all))
	}
	want := []probe.Endpoint{{Name: "sim", Model: sim.DefaultModel, URL: url + "/v1"}}
	if !slices.Equal(o.discovered, want) {
		t.Errorf("discovered %v, want %v", o.discovered, want)
	}
}

// TestCanaryPromptsAreUnique looks at the bodies that several canaries send.
func TestCanaryPromptsAreUnique(t *testing.T) {
	simulator, err := sim.New(steady())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { simulator.Run(ctx) })
	defer func() { cancel(); running.Wait() }()
	var mu sync.Mutex
	prompts := make(map[string]bool)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body struct {
			Messages []struct{ Content string }
		}
		text, _ := io.ReadAll(r.Body)
		if json.Unmarshal(text, &body) == nil && len(body.Messages) > 0 {
			words := strings.Fields(body.Messages[0].Content)
			mu.Lock()
			prompts[strings.Join(words[:16], " ")] = true
			mu.Unlock()
		}
		r.Body = io.NopCloser(strings.NewReader(string(text)))
		simulator.ServeHTTP(w, r)
	}))
	defer proxy.Close()
	const canaries, probes = 3, 4
	for range canaries {
		c := canaryAt(t, proxy.URL, &observer{}, nil)
		for range probes {
			c.Probe(t.Context())
		}
		c.Close()
	}
	mu.Lock()
	defer mu.Unlock()
	if want := canaries * (probes + 1); len(prompts) != want {
		t.Errorf("%d beginnings of prompts in %d requests", len(prompts), want)
	}
}

// TestCanaryOfADeadServer counts as failed requests, and recovers with the server.
func TestCanaryOfADeadServer(t *testing.T) {
	r := &restartable{t: t, address: "127.0.0.1:0"}
	r.start()
	r.stop()
	o := &observer{}
	c := canaryAt(t, "http://"+r.address, o, nil)
	refused := func() {
		t.Helper()
		out := c.Probe(t.Context())
		if out.Outcome != probe.Failed || out.Reason != string(probe.ReasonConnect) || out.Detail == "" {
			t.Errorf("%+v", out)
		}
	}
	works := func() {
		t.Helper()
		if out := c.Probe(t.Context()); out.Outcome != probe.Completed {
			t.Errorf("%+v", out)
		}
	}
	refused()
	refused()
	r.start()
	works()
	r.stop()
	refused()
	refused()
	r.start()
	works()
	r.stop()
	if n := o.failed(probe.ReasonConnect); n != 4 || o.recorded(probe.StageCanary) != 6 || len(o.discovered) != 1 {
		t.Errorf("%d of %d failed to connect, discovered %v", n, o.recorded(probe.StageCanary), o.discovered)
	}
}

// TestCanaryOfAServerThatChanges finds out the new model, not at once, and goes on if the server does not tell.
func TestCanaryOfAServerThatChanges(t *testing.T) {
	first, firstURL := simtest.Start(t, steady())
	options := steady()
	options.Model = "other"
	_, secondURL := simtest.Start(t, options)
	o := &observer{}
	c := canaryAt(t, firstURL, o, nil)
	c.Probe(t.Context())
	c.target.Client.BaseURL = secondURL + "/v1"
	if err := first.SetFaults([]sim.FaultRate{{Fault: "status=404", Probability: 1}}); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second is too soon to look again
		if out := c.Probe(t.Context()); out.Reason != string(probe.ReasonNotFound) {
			t.Errorf("%+v", out)
		}
	}
	c.tried = time.Now().Add(-canaryRetry)
	if out := c.Probe(t.Context()); out.Outcome != probe.Completed {
		t.Errorf("%+v", out)
	}
	if len(o.discovered) != 2 || o.discovered[1].Model != "other" {
		t.Errorf("discovered %v", o.discovered)
	}
}

func TestCanaryFailures(t *testing.T) {
	fault := func(f string) sim.Options {
		o := steady()
		o.Faults = []sim.FaultRate{{Fault: f, Probability: 1}}
		return o
	}
	for name, test := range map[string]struct {
		server sim.Options
		change func(*Target)
		pools  Pools
		reason string
		ours   bool // and nothing is recorded
	}{
		"the key is missing":      {server: sim.Options{APIKey: "secret"}, reason: "unauthorized"},
		"the model is not served": {change: func(t *Target) { t.Model = "other" }, reason: "not_found"},
		"no such host":            {change: func(t *Target) { t.Client.BaseURL = "http://no..such.host/v1" }, reason: "dns"},
		"it answers with 500":     {server: fault("status=500"), reason: "http_5xx"},
		"it never answers": {
			server: fault("hang"), change: func(t *Target) { t.Client.FirstTokenTimeout = 50 * milli },
			reason: "timeout_first_token",
		},
		"no tokenizer": {
			pools: poolsFunc(func(context.Context, string) (*prompt.Pool, error) {
				return nil, errors.New("no such tokenizer")
			}),
			reason: probe.CycleTokenizer, ours: true,
		},
		"a panic": {
			pools:  poolsFunc(func(context.Context, string) (*prompt.Pool, error) { panic("a fault") }),
			reason: probe.CycleInternal, ours: true,
		},
		"too long for the context": {server: sim.Options{MaxModelLen: 100}, reason: probe.CycleContext, ours: true},
	} {
		t.Run(name, func(t *testing.T) {
			_, url := simtest.Start(t, test.server)
			o := &observer{}
			c := canaryAt(t, url, o, test.change)
			if test.pools != nil {
				c.pools = test.pools
			}
			for range 2 {
				out := c.Probe(t.Context())
				if out.Outcome != probe.Failed || out.Reason != test.reason || out.Detail == "" {
					t.Errorf("%+v, want %s", out, test.reason)
				}
			}
			recorded := 2
			if test.ours {
				recorded = 0
			}
			if n := o.failed(probe.Reason(test.reason)); n != recorded || o.recorded(probe.StageCanary) != recorded {
				t.Errorf("%d of %d recorded failures by %s, want %d", n, o.recorded(probe.StageCanary), test.reason, recorded)
			}
		})
	}
}

// TestCanaryIsStopped: that says nothing about the endpoint, at whatever time.
func TestCanaryIsStopped(t *testing.T) {
	server, url := simtest.Start(t, steady())
	o := &observer{}
	c := canaryAt(t, url, o, nil)
	stopped, stop := context.WithCancel(t.Context())
	stop()
	if out := c.Probe(stopped); out.Outcome != probe.Incomplete || out.Reason != "" || len(o.all) != 0 {
		t.Errorf("before it began: %+v, recorded %v", out, o.all)
	}
	c.Probe(t.Context())
	if err := server.SetFaults([]sim.FaultRate{{Fault: "hang", Probability: 1}}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*milli)
	defer cancel()
	if out := c.Probe(ctx); out.Outcome != probe.Incomplete || out.Reason != "" {
		t.Errorf("while it waited: %+v", out)
	}
	if n := o.count(probe.StageCanary, probe.Incomplete); n != 1 {
		t.Errorf("%d incomplete requests recorded", n)
	}
}

// TestCanaryObserverPanics: the fault is an outcome, and the next probe begins anew.
func TestCanaryObserverPanics(t *testing.T) {
	_, url := simtest.Start(t, steady())
	o := &observer{onRecord: func(string) { panic("a fault") }}
	c := canaryAt(t, url, o, nil)
	if out := c.Probe(t.Context()); out.Reason != probe.CycleInternal || out.Detail != "a fault" {
		t.Errorf("%+v", out)
	}
	o.onRecord = nil
	if out := c.Probe(t.Context()); out.Outcome != probe.Completed {
		t.Errorf("%+v", out)
	}
}

// TestCanariesAreSmall holds many canaries at rest against what one may cost.
func TestCanariesAreSmall(t *testing.T) {
	_, url := simtest.Start(t, sim.Options{Fixed: &sim.FixedTiming{}})
	const canaries, most = 200, 8 << 10 // bytes
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC() // empties pools
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	o := &discarding{}
	all := make([]*Canary, 0, canaries)
	probeOne := func() *Canary {
		target := &Target{Name: "sim", Client: openai.Options{BaseURL: url + "/v1"}, Workload: probe.Workload{API: "chat"}}
		c := NewCanary(target, wordPools{}, o, discardLog())
		if out := c.Probe(t.Context()); out.Outcome != probe.Completed {
			t.Fatalf("%+v", out)
		}
		c.ready.client.Close() // its connection, which would end in four seconds
		return c
	}
	probeOne().Close()
	before := heap()
	for range canaries {
		all = append(all, probeOne())
	}
	each := (int64(heap()) - int64(before)) / canaries
	t.Logf("%d bytes each", each)
	if each > most {
		t.Errorf("a canary at rest holds %d bytes, more than %d", each, most)
	}
	for _, c := range all {
		c.Close()
	}
}

type discarding struct{}

func (discarding) Discovered(probe.Endpoint)    {}
func (discarding) Record(string, *probe.Result) {}
func (discarding) Progress(Progress)            {}
