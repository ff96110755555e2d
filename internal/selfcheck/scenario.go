// Package selfcheck says how far this program can be trusted on this host: it sweeps a simulator, which runs in a process
// of its own, and compares what was reported with the simulator's record of what it did and when.
//
// An error is always what was reported less what is true. A latency is true from when the kernel had received the
// request's head at the server, to when it sent the token in question (sim.Options.SendTimes). So every error holds the way
// of both through the kernel, some hundredths of a millisecond on loopback.
package selfcheck

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/inferprobe/inferprobe/internal/openai"
	"github.com/inferprobe/inferprobe/internal/probe"
	"github.com/inferprobe/inferprobe/internal/sim"
	"github.com/inferprobe/inferprobe/internal/sweep"
)

// The load of every scenario: that under which other load generators have been measured, see docs/accuracy.md.
const (
	timeToFirstToken  = 60 * time.Millisecond
	interTokenLatency = 9 * time.Millisecond
	promptTokens      = 512
	outputTokens      = 128
)

// drainWait is how long the last requests may take once all have been sent.
const drainWait = 30 * time.Second

// Scenario is one stage of constant rate against one simulator. Every request is waited for, so that none is left out.
type Scenario struct {
	Name     string
	Rate     float64       // requests/s
	Duration time.Duration // of the sending

	TokensPerEvent int           // 0 = 1
	StallFraction  float64       // of the gaps between tokens, that last Stall longer
	Stall          time.Duration //
	Freeze         time.Duration // for which the server stands still, from a third of Duration on
	Neighbours     int           // other processes that keep a core busy each
}

// requests returns how many the scenario sends: no more than the simulator remembers, less the few that calibrate.
func (s *Scenario) requests() int {
	const spare = 10
	return min(max(1, int(s.Rate*s.Duration.Seconds())), sim.DefaultTruthRecords-spare)
}

// target returns what a user would configure to measure the simulator at url so.
func (s *Scenario) target(url string) *sweep.Target {
	n := s.requests()
	return &sweep.Target{
		Name:      "selfcheck",
		Client:    openai.Options{BaseURL: url + "/v1", MaxInFlight: n},
		Dialect:   openai.DialectVLLM, // whose shapes the simulator has, with a count of tokens on every event
		Tokenizer: "builtin",
		Workload: probe.Workload{
			API:          string(openai.APIChat),
			PromptTokens: probe.Length{Mean: promptTokens},
			OutputTokens: probe.Length{Mean: outputTokens},
		},
		Plan: sweep.Plan{
			Profile: probe.ProfileConstant, RateList: []float64{s.Rate}, MaxRequests: n, MaxInFlight: n,
			MaxDuration: time.Duration(float64(n)/s.Rate*float64(time.Second)) + s.Freeze + drainWait,
		},
	}
}

// Host is where scenarios run.
type Host struct {
	Simulator []string // command line that serves the simulator, as `inferprobe sim`, before its flags
	Neighbour []string // command line that calls Spin
	Pools     sweep.Pools
}

// NewHost returns this host, with a simulator and neighbours that are processes of program: inferprobe itself.
func NewHost(program string) (*Host, error) {
	pools, err := newBuiltin()
	if err != nil {
		return nil, err
	}
	return &Host{
		Simulator: []string{program, "sim"}, Neighbour: []string{program, "selfcheck", "neighbour"}, Pools: pools,
	}, nil
}

// Run runs a scenario and compares what it reports with what is true. When ctx ends, the processes it started are gone
// when it returns.
func (h *Host) Run(ctx context.Context, s Scenario) (*Outcome, error) {
	server, err := h.start(ctx, &s)
	if err != nil {
		return nil, err
	}
	defer server.stop()
	neighbours, err := h.crowd(s.Neighbours)
	if err != nil {
		return nil, err
	}
	defer neighbours.leave()
	return s.measure(ctx, server.control, h.Pools)
}

// measure runs the scenario's stage against a simulator and compares.
func (s *Scenario) measure(ctx context.Context, server control, pools sweep.Pools) (*Outcome, error) {
	w := &witness{scenario: s, freeze: func() error {
		select {
		case <-time.After(s.Duration / 3):
			return server.freeze(ctx, s.Freeze)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}}
	cycle := sweep.Run(ctx, s.target(server.url), pools, w, slog.New(slog.DiscardHandler))
	w.thaw.Wait()
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case cycle.Failure != nil:
		return nil, fmt.Errorf("%s: %s: %s", s.Name, cycle.Failure.Reason, cycle.Failure.Detail)
	case w.frozen != nil:
		return nil, fmt.Errorf("%s: %w", s.Name, w.frozen)
	}
	records, err := server.truth(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.Name, err)
	}
	o, err := compare(s, &cycle.Stages[0], w, records)
	if err != nil {
		return nil, err
	}
	return o, o.happened()
}

// happened returns an error if the simulator did not do what the scenario is about: a small error would prove nothing.
func (o *Outcome) happened() error {
	s := &o.Scenario
	for _, must := range []struct {
		what   string
		have   float64
		wanted time.Duration
	}{
		{"p99 of the gaps", o.ITL.True.P99, s.Stall}, // of which more than 1 % stall
		{"median of the longest gaps", o.Stall.True.P50, time.Duration(s.TokensPerEvent-1) * interTokenLatency},
		{"longest time to first token", o.TTFT.True.Max, s.Freeze},
	} {
		if must.have < must.wanted.Seconds() {
			return fmt.Errorf("%s: the simulator's %s is %s ms, so that the scenario did not come about: it must be %v or more",
				s.Name, must.what, milliseconds(must.have), must.wanted)
		}
	}
	return nil
}

// runner runs a scenario, as Host.Run does.
type runner func(context.Context, Scenario) (*Outcome, error)

// seen is what the client says about one request.
type seen struct {
	id             string
	due, sent      time.Time
	ttft, duration time.Duration
	completed      bool
}

// witness watches a stage as metrics and reports do, and keeps what a comparison of single requests needs.
type witness struct {
	scenario *Scenario
	freeze   func() error // when its time has come
	thaw     sync.WaitGroup
	frozen   error // why it could not be frozen

	began     time.Time
	cpuBefore time.Duration
	cores     float64 // used by this process during the stage

	mu   sync.Mutex
	seen []seen
}

// Discovered is called when the stage is about to begin.
func (w *witness) Discovered(probe.Endpoint) {
	w.began, w.cpuBefore = time.Now(), cpuTime()
	w.seen = slices.Grow(w.seen, w.scenario.requests())
	if w.scenario.Freeze > 0 {
		w.thaw.Go(func() { w.frozen = w.freeze() })
	}
}

// Record keeps what is needed of a stage's request.
func (w *witness) Record(stage string, r *probe.Result) {
	if stage == probe.StageNone {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen = append(w.seen, seen{
		r.ID, r.Request.Due, r.Sent, r.FirstToken, r.End, r.Outcome == probe.Completed,
	})
}

// Progress takes stock at the end of the stage.
func (w *witness) Progress(p sweep.Progress) {
	if p.Done {
		w.cores = (cpuTime() - w.cpuBefore).Seconds() / time.Since(w.began).Seconds()
	}
}
