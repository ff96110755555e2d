// Package metrics holds every Prometheus metric of inferprobe. families.go and lastcycle.go declare them; an Endpoint
// fills its own series. The series of an endpoint exist from the moment it is added, so that rates do not miss the
// first event, to the moment it is removed.
package metrics

import (
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/collectors/version"

	"github.com/inferprobe/inferprobe/internal/probe"
)

// Mode says which kind of buckets histograms have.
type Mode string

// The modes, by the words of the configuration's metrics.histograms.
const (
	Both    Mode = "both"    // classic and native at once
	Native  Mode = "native"  // native only: one series each; the text formats show their sum and count alone
	Classic Mode = "classic" // classic only
)

// Reasons of inferprobe_runs_skipped_total.
const (
	SkipOverrun     = "overrun"      // the one before, or another of the group, was still running
	SkipPaused      = "paused"       // by the operator
	SkipTokenBudget = "token_budget" // the tokens that the endpoint may be asked for in a day are used up
	SkipWindow      = "window"       // its window had closed before it could begin
)

// skipReasons are all of them.
func skipReasons() []string { return []string{SkipOverrun, SkipPaused, SkipTokenBudget, SkipWindow} }

// Label is a label of the user's own for inferprobe_endpoint_info.
type Label struct{ Name, Value string }

// Metrics is every metric of the process. Its methods may be called from many goroutines.
type Metrics struct {
	families
	vecs      []vector
	lastCycle lastCycleDescs

	mu        sync.Mutex
	endpoints map[string]*Endpoint
}

// New registers every metric with reg, those of the Go runtime, the process and the build among them. It panics if one
// of them is registered already.
func New(reg prometheus.Registerer, mode Mode) *Metrics {
	b := &builder{reg: reg, mode: mode}
	m := &Metrics{families: declare(b), vecs: b.vecs, lastCycle: describeLastCycle(),
		endpoints: make(map[string]*Endpoint)}
	m.hostTrusted.Set(math.NaN())
	m.historyWritable.Set(1)
	reg.MustRegister(
		&lastCycles{metrics: m},
		newFailureCounts(m),
		&infos{metrics: m},
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		version.NewCollector(strings.TrimSuffix(prefix, "_")),
	)
	return m
}

// Reloaded records an attempt to load the configuration.
func (m *Metrics) Reloaded(ok bool, at time.Time) {
	m.configSuccessful.Set(number(ok))
	if ok {
		m.configSuccess.Set(timestamp(at))
	}
}

// HostTrusted says whether the host let us send and read in time when we started.
func (m *Metrics) HostTrusted(ok bool) { m.hostTrusted.Set(number(ok)) }

// HistoryWritable says whether cycles and the tokens spent can be written to the folder of the history.
func (m *Metrics) HistoryWritable(ok bool) { m.historyWritable.Set(number(ok)) }

// Add creates the series of an endpoint, with those of the given stages, and returns what fills them. labels are shown
// by inferprobe_endpoint_info; their names must be valid and differ from those of inferprobe.
//
// An endpoint of the same name that is there already is replaced: what its handle records from now on is lost, series
// with the same labels go on counting, and the others are deleted. So an endpoint whose model is not known yet is added
// again when it is, also in the middle of a cycle.
func (m *Metrics) Add(ep probe.Endpoint, labels []Label, stages []string) *Endpoint {
	ep.Name, ep.Model = strings.ToValidUTF8(ep.Name, "\ufffd"), strings.ToValidUTF8(ep.Model, "\ufffd")
	m.mu.Lock()
	defer m.mu.Unlock()
	old := m.endpoints[ep.Name]
	e := &Endpoint{metrics: m, endpoint: ep, labels: slices.Clone(labels), stages: make(map[string]*stage)}
	fresh, kept := true, map[string]*failures(nil)
	if old != nil {
		fresh = old.endpoint.Model != ep.Model
		kept = e.replace(old)
		if fresh {
			m.delete(old)
		} else {
			m.deleteStages(old, stages)
		}
	}
	e.create(fresh)
	for _, name := range stages {
		e.stages[name] = newStage(&m.families, ep, name)
		if f := kept[name]; f != nil {
			e.stages[name].failures = f
		}
	}
	m.endpoints[ep.Name] = e
	return e
}

// Remove deletes every series of the endpoint of that name, if there is one. What its handle records from now on is
// lost.
func (m *Metrics) Remove(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.endpoints[name]
	if e == nil {
		return
	}
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	delete(m.endpoints, name)
	m.delete(e)
}

// delete deletes every series of a closed endpoint.
func (m *Metrics) delete(e *Endpoint) {
	for _, v := range m.vecs {
		v.delete(e.endpoint, e.stageNames())
		if e.strange {
			v.children.DeletePartialMatch(prometheus.Labels{"endpoint": e.endpoint.Name})
		}
	}
}

// deleteStages deletes the series of those stages of a closed endpoint that are not to stay.
func (m *Metrics) deleteStages(e *Endpoint, stay []string) {
	gone := slices.DeleteFunc(e.stageNames(), func(name string) bool { return slices.Contains(stay, name) })
	for _, v := range m.vecs {
		if len(gone) == 0 || !slices.Contains(v.labels, "stage") {
			continue
		}
		v.delete(e.endpoint, gone)
		for _, name := range gone {
			if e.strange {
				v.children.DeletePartialMatch(prometheus.Labels{"endpoint": e.endpoint.Name, "stage": name})
			}
		}
	}
}

// all returns the endpoints that are there now.
func (m *Metrics) all() []*Endpoint {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := make([]*Endpoint, 0, len(m.endpoints))
	for _, e := range m.endpoints {
		list = append(list, e)
	}
	return list
}

// number returns 1 for true and 0 for false.
func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// timestamp returns t as seconds since 1970, 0 for the zero time.
func timestamp(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixNano()) / 1e9
}
