package selfcheck

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/inferprobe/inferprobe/internal/probe"
)

// Limits of what is trusted. An error has to keep both.
const (
	TrustedError = 0.001 // seconds
	TrustedShare = 0.05  // of the true value
)

// Doubts returns why the outcome cannot be trusted; nothing if it can: the sweep calls the stage valid, every request was
// answered, and the errors of TTFT, ITL and request latency are below both limits at p50, p95 and p99.
func (o *Outcome) Doubts() []string {
	var doubts []string
	for _, f := range o.Stage.Findings {
		if f.Invalidates {
			doubts = append(doubts, f.Detail)
		}
	}
	if o.Failed > 0 {
		doubts = append(doubts, fmt.Sprintf("%d requests failed", o.Failed))
	}
	for _, m := range o.latencies() {
		for _, q := range m.comparison.quantiles() {
			if math.Abs(q.err) >= min(TrustedError, TrustedShare*q.truth) {
				doubts = append(doubts, fmt.Sprintf("%s %s is off by %s ms", m.name, q.name, signed(q.err)))
			}
		}
	}
	return doubts
}

// Deceives reports whether the sweep calls the stage valid although a p99 is off by more than TrustedShare of its true
// value, and which. That must never be.
func (o *Outcome) Deceives() (which string, yes bool) {
	if !o.Stage.Valid() {
		return "", false
	}
	var wrong []string
	for _, m := range o.latencies() {
		if c := m.comparison; math.Abs(c.Error.P99) > TrustedShare*c.True.P99 {
			wrong = append(wrong, fmt.Sprintf("%s p99 %+.1f %%", m.name, 100*c.Error.P99/c.True.P99))
		}
	}
	if share := o.stallError() / o.Stall.True.P99; share > TrustedShare && !slices.ContainsFunc(o.Stage.Findings, stallsUnknown) {
		wrong = append(wrong, fmt.Sprintf("stall p99 %+.1f %%", 100*share))
	}
	return strings.Join(wrong, ", "), len(wrong) > 0
}

// stallError returns how far the reported p99 of the stalls lies outside what the simulator has on record, in seconds.
func (o *Outcome) stallError() float64 {
	reported := o.Stall.True.P99 + o.Stall.Error.P99
	return max(0, o.Stall.True.P99-reported, reported-max(o.Stall.True.P99, o.StallMost.P99))
}

// stallsUnknown reports whether a finding says that stalls are known between bounds only.
func stallsUnknown(f probe.Finding) bool { return f.Name == probe.FindingReceiveLag }

type latency struct {
	name       string
	comparison *Comparison
}

// latencies are those by which an outcome is judged.
func (o *Outcome) latencies() []latency {
	return []latency{{"TTFT", &o.TTFT}, {"ITL", &o.ITL}, {"request", &o.E2E}}
}

type quantile struct {
	name       string
	truth, err float64
}

// quantiles are those that have to be right; the maximum is shown only.
func (c *Comparison) quantiles() []quantile {
	return []quantile{
		{"p50", c.True.P50, c.Error.P50}, {"p95", c.True.P95, c.Error.P95}, {"p99", c.True.P99, c.Error.P99},
	}
}

// signed formats seconds as milliseconds with a sign.
func signed(seconds float64) string { return fmt.Sprintf("%+.2f", 1000*seconds) }
