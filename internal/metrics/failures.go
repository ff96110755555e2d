package metrics

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/inferprobe/inferprobe/internal/probe"
)

// failures counts the failed requests of one stage by reason. Counters of the library's, of which nearly all stay at
// zero, would be half of what an endpoint takes of memory.
type failures struct {
	known []atomic.Uint64 // by reason, in the order of probe.Reasons
	// like is a counter of the stage's: its labels and the time of its creation.
	like *dto.Metric

	mu    sync.Mutex
	other map[probe.Reason]uint64 // outside of the closed set: a mistake of ours, which must show
}

// newFailures returns the failures of the stage that a counter is of. Its labels are endpoint, model and stage.
func newFailures(of prometheus.Counter) *failures {
	f := &failures{known: make([]atomic.Uint64, len(probe.Reasons())), like: new(dto.Metric)}
	_ = of.Write(f.like) // a counter's never fails
	return f
}

func (f *failures) add(reason probe.Reason) {
	if i := slices.Index(probe.Reasons(), reason); i >= 0 {
		f.known[i].Add(1)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.other == nil {
		f.other = make(map[probe.Reason]uint64)
	}
	f.other[reason]++
}

// failureCounts collects the failures of every stage.
type failureCounts struct {
	metrics *Metrics
	desc    *prometheus.Desc
	reasons []*dto.LabelPair // shared by all
}

func newFailureCounts(m *Metrics) *failureCounts {
	c := &failureCounts{metrics: m, desc: desc("request_failures_total",
		"Requests that failed, by reason. Those cut off by the end of their stage are not among them.",
		[]string{"endpoint", "model", "stage", "reason"})}
	for _, reason := range probe.Reasons() {
		c.reasons = append(c.reasons, reasonLabel(reason))
	}
	return c
}

func reasonLabel(reason probe.Reason) *dto.LabelPair {
	return &dto.LabelPair{Name: new("reason"), Value: new(strings.ToValidUTF8(string(reason), "\ufffd"))}
}

// Describe implements prometheus.Collector.
func (c *failureCounts) Describe(ch chan<- *prometheus.Desc) { ch <- c.desc }

// Collect implements prometheus.Collector.
func (c *failureCounts) Collect(ch chan<- prometheus.Metric) {
	for _, e := range c.metrics.all() {
		e.mu.RLock()
		var stages []*failures
		for _, s := range e.stages {
			stages = append(stages, s.failures)
		}
		closed := e.closed
		e.mu.RUnlock()
		if closed {
			continue
		}
		for _, f := range stages {
			c.collect(ch, f)
		}
	}
}

func (c *failureCounts) collect(ch chan<- prometheus.Metric, f *failures) {
	for i, reason := range c.reasons {
		ch <- failureCount{c.desc, f.like, reason, f.known[i].Load()}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for reason, n := range f.other {
		ch <- failureCount{c.desc, f.like, reasonLabel(reason), n}
	}
}

// failureCount is one series at the time of a scrape.
type failureCount struct {
	desc   *prometheus.Desc
	like   *dto.Metric
	reason *dto.LabelPair
	n      uint64
}

// Desc implements prometheus.Metric.
func (c failureCount) Desc() *prometheus.Desc { return c.desc }

// Write implements prometheus.Metric. Labels are in the order of their names.
func (c failureCount) Write(out *dto.Metric) error {
	of := c.like.Label
	out.Label = []*dto.LabelPair{of[0], of[1], c.reason, of[2]}
	out.Counter = &dto.Counter{Value: new(float64(c.n)), CreatedTimestamp: c.like.Counter.CreatedTimestamp}
	return nil
}
