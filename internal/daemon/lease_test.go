package daemon

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/inferprobe/inferprobe/internal/config"
	"github.com/inferprobe/inferprobe/internal/sim"
	"github.com/inferprobe/inferprobe/internal/sim/simtest"
	"github.com/inferprobe/inferprobe/internal/web"
)

// leases are given and taken by the test.
type leases struct {
	mu    sync.Mutex
	held  map[string]context.CancelFunc
	idle  map[string]chan struct{}
	given chan string // endpoints that this replica is to measure
	group map[string]string
	rests map[string]bool // the Leases' word on who is paused, by group and endpoint
}

func newLeases() *leases {
	return &leases{
		held: make(map[string]context.CancelFunc), idle: make(map[string]chan struct{}),
		given: make(chan string, 2), group: make(map[string]string),
		rests: make(map[string]bool),
	}
}

func (l *leases) groupOf(endpoint string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.group[endpoint]
}

func (l *leases) Holder(string, string) string { return "pod-b" }

func (l *leases) Paused(endpoint, group string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rests[group+"/"+endpoint]
}

func (l *leases) SetPaused(endpoint, group string, paused bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held[endpoint] == nil {
		return false
	}
	l.rests[group+"/"+endpoint] = paused
	return true
}

func (l *leases) Move(endpoint, from, to string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rests[to+"/"+endpoint] = l.rests[from+"/"+endpoint]
}

// elsewhere lets another replica say whether an endpoint without a group is paused.
func (l *leases) elsewhere(endpoint string, paused bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rests["/"+endpoint] = paused
}

func (l *leases) Hold(ctx context.Context, endpoint, group string, run func(context.Context, <-chan struct{})) {
	l.mu.Lock()
	l.group[endpoint] = group
	l.mu.Unlock()
	for {
		select {
		case <-ctx.Done():
			return
		case name := <-l.given:
			if name != endpoint {
				l.given <- name
				time.Sleep(time.Millisecond)
				continue
			}
		}
		held, cancel := context.WithCancel(ctx)
		l.mu.Lock()
		handOver := make(chan struct{})
		l.held[endpoint], l.idle[endpoint] = cancel, handOver
		l.mu.Unlock()
		run(held, handOver)
		cancel()
		l.mu.Lock()
		delete(l.held, endpoint)
		l.mu.Unlock()
	}
}

func (l *leases) take(endpoint string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held[endpoint]()
	delete(l.held, endpoint)
}

// TestLeases: what is another replica's is neither measured nor in the metrics; what was lost ends at once.
func TestLeases(t *testing.T) {
	server, url := simtest.Start(t, quick())
	a, b := endpoint("a", url), endpoint("b", url)
	a.Model, b.Model = sim.DefaultModel, sim.DefaultModel
	a.Sweep.MaxRequests, a.Sweep.MaxDuration = 0, time.Hour
	l := newLeases()
	h := startWith(t, Options{Config: configure(t, a, b), Leases: l})
	shown := func(name string) bool {
		_, ok := h.value(t, "requests_total", "endpoint", name, "stage", "synchronous")
		return ok
	}
	state := func(i int) string { return h.Endpoints()[i].State }
	stop := h.serve(t)
	until(t, "standby", func() bool { return state(0) == stateStandby && state(1) == stateStandby })
	if shown("a") || shown("b") {
		t.Error("endpoints of others are in the metrics")
	}
	for what, act := range map[string]func(string) error{"run": h.RunNow, "pause": h.Pause, "resume": h.Resume} {
		if err := act("b"); !errors.Is(err, web.ErrConflict) || !strings.Contains(err.Error(), "pod-b") {
			t.Errorf("%s on a replica that does not measure: %v", what, err)
		}
	}
	l.given <- "a"
	until(t, "measured", func() bool { return measuring(server, 1) })
	if !shown("a") || shown("b") {
		t.Errorf("in the metrics: a %v, b %v", shown("a"), shown("b"))
	}
	l.take("a")
	until(t, "lost", func() bool { return state(0) == stateStandby })
	if shown("a") {
		t.Error("an endpoint that is another's now is in the metrics")
	}
	if h.Endpoints()[1].Paused {
		t.Error("paused, although it was refused")
	}
	l.given <- "b"
	until(t, "the other", func() bool { return state(1) == stateWaiting && count(h.names(), "b") == 1 })
	l.mu.Lock()
	close(l.idle["b"])
	l.mu.Unlock()
	until(t, "handed over", func() bool { return state(1) == stateStandby && !shown("b") })
	l.given <- "b"
	until(t, "back again", func() bool { return state(1) == stateWaiting })
	if err := h.Pause("b"); err != nil {
		t.Error(err)
	}
	l.take("b")
	until(t, "lost while paused", func() bool { return state(1) == stateStandby })
	if err := h.Resume("b"); !errors.Is(err, web.ErrConflict) || h.Endpoints()[1].Paused {
		t.Errorf("the end of a pause that is another replica's matter: %v", err)
	}
	l.given <- "b"
	until(t, "back and paused", func() bool { return state(1) == stateWaiting && h.Endpoints()[1].Paused })
	if paused, _ := h.value(t, "probe_paused", "endpoint", "b"); paused != 1 {
		t.Error("the metric does not say that it is paused")
	}
	if err := h.Resume("b"); err != nil || h.Endpoints()[1].Paused || l.Paused("b", "") {
		t.Errorf("the end of a pause that began before: %v", err)
	}
	stop()
	if n := count(h.names(), "b"); n != 1 {
		t.Errorf("%d cycles of an endpoint that came back before it was due", n)
	}
	if !shown("b") {
		t.Error("the last values are gone before the last scrape")
	}
	if e := h.Endpoints()[0]; len(e.Cycles) != 1 || e.Cycles[0].Failure != "interrupted" {
		t.Errorf("the cycle that was interrupted: %+v", e.Cycles)
	}
}

// TestLeaseOfTheGroup: an endpoint is held with its group, and with another one after a reload says so, to which a pause
// goes along.
func TestLeaseOfTheGroup(t *testing.T) {
	a, b := endpoint("a", nobody), endpoint("b", nobody)
	a.Group = "h100"
	before, after := configure(t, a, b), configure(t, a, b)
	after.Endpoints[0].Group = "h200"
	l := newLeases()
	h := startWith(t, Options{Config: before, Load: func() (*config.Config, error) { return after, nil }, Leases: l})
	stop := h.serve(t)
	until(t, "held", func() bool { return l.groupOf("a") == "h100" && l.groupOf("b") == "" })
	h.measureHere(t, l)
	if err := h.Pause("a"); err != nil {
		t.Error(err)
	}
	if err := h.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	until(t, "moved", func() bool { return l.groupOf("a") == "h200" })
	if h.measureHere(t, l); !h.Endpoints()[0].Paused {
		t.Error("the pause did not go along")
	}
	stop()
}

// measureHere gives the first endpoint, a, to this replica.
func (h *harness) measureHere(t *testing.T, l *leases) {
	t.Helper()
	l.given <- "a"
	until(t, "measured here", func() bool { return h.Endpoints()[0].State != stateStandby })
}

// TestPauseIsTheLastHolders: a pause that another replica ended while a changed endpoint waited for its Lease is over;
// one that nobody ended is not.
func TestPauseIsTheLastHolders(t *testing.T) {
	for _, resumed := range []bool{false, true} {
		a := endpoint("a", nobody)
		s := &source{config: configure(t, a)}
		l := newLeases()
		h := startWith(t, Options{Config: s.config, Load: s.load, Leases: l})
		h.sweep = succeed
		stop := h.serve(t)
		h.measureHere(t, l)
		if err := h.Pause("a"); err != nil {
			t.Error(err)
		}
		a.Sweep.OutputTokens = config.Length{Mean: 9}
		s.set(a)
		if err := h.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		if e := h.Endpoints()[0]; e.State != stateStandby || e.Paused {
			t.Errorf("without the Lease: %+v", e)
		}
		if resumed {
			l.elsewhere("a", false)
		}
		h.measureHere(t, l)
		gauge, _ := h.value(t, "probe_paused", "endpoint", "a")
		here, there := h.Endpoints()[0].Paused, l.Paused("a", "")
		if here == resumed || there == resumed || (gauge == 1) == resumed {
			t.Errorf("resumed %v: paused here %v, by the Lease %v, in the metrics %v", resumed, here, there, gauge)
		}
		stop()
	}
}

// TestPauseEndsWithTheEndpoint: an endpoint that is removed and comes back is measured.
func TestPauseEndsWithTheEndpoint(t *testing.T) {
	a, b := endpoint("a", nobody), endpoint("b", nobody)
	for name, l := range map[string]*leases{"alone": nil, "with leases": newLeases()} {
		t.Run(name, func(t *testing.T) {
			s := &source{config: configure(t, a, b)}
			o := Options{Config: s.config, Load: s.load}
			if l != nil {
				o.Leases = l
			}
			h := startWith(t, o)
			h.sweep = succeed
			stop := h.serve(t)
			measured := func() {
				t.Helper()
				if l != nil {
					h.measureHere(t, l)
				}
				until(t, "measured", func() bool { return h.Endpoints()[0].State == stateWaiting })
			}
			measured()
			if err := h.Pause("a"); err != nil {
				t.Error(err)
			}
			for _, endpoints := range [][]config.Endpoint{{b}, {a, b}} {
				s.set(endpoints...)
				if err := h.Reload(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if measured(); h.Endpoints()[0].Paused {
				t.Error("still paused")
			}
			stop()
		})
	}
}
