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

// Deceives reports whether the sweep calls the stage valid although its median, p95 or p99 of a latency is off by more than
// TrustedShare of the true value, and which. That must never be.
func (o *Outcome) Deceives() (which string, yes bool) {
	if !o.Stage.Valid() {
		return "", false
	}
	var wrong []string
	for _, m := range o.latencies() {
		wrong = append(wrong, m.comparison.off(m.name, m.comparison.True)...)
	}
	if !o.stallsBounded() {
		wrong = append(wrong, o.Stall.off("stall", o.StallMost)...)
	}
	return strings.Join(wrong, ", "), len(wrong) > 0
}

// off says which reported quantiles are off by more than TrustedShare, where the true ones are known to lie between
// c.True and most.
func (c *Comparison) off(name string, most Quantiles) (wrong []string) {
	upper := (&Comparison{True: most}).quantiles()
	for i, q := range c.quantiles() {
		reported := q.truth + q.err
		err := max(0, reported-max(q.truth, upper[i].truth)) + min(0, reported-q.truth)
		if math.Abs(err) > TrustedShare*q.truth {
			wrong = append(wrong, fmt.Sprintf("%s %s %+.1f %%", name, q.name, 100*err/q.truth))
		}
	}
	return wrong
}

// stallsBounded reports whether the stage says of its stalls between which bounds they are, since it does not know better.
func (o *Outcome) stallsBounded() bool {
	return slices.ContainsFunc(o.Stage.Findings, func(f probe.Finding) bool { return f.Name == probe.FindingReceiveLag })
}

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
