package selfcheck

import (
	"fmt"
	"math"
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
// TrustedShare of the true value, and which. That must never be. Of stalls that the stage knows between bounds only, the
// true p99 has to be there.
func (o *Outcome) Deceives() (which string, yes bool) {
	if !o.Stage.Valid() {
		return "", false
	}
	var wrong []string
	for _, m := range o.latencies() {
		for _, q := range m.comparison.quantiles() {
			wrong = append(wrong, off(m.name+" "+q.name, exactly(q.truth+q.err), exactly(q.truth))...)
		}
	}
	bounds, most := o.Stage.StreamStallP99, (&Comparison{True: o.StallMost}).quantiles()
	for i, q := range o.Stall.quantiles() {
		truth := probe.Interval{Low: q.truth, High: max(q.truth, most[i].truth)}
		if bounds.IsZero() {
			wrong = append(wrong, off("stall "+q.name, exactly(q.truth+q.err), truth)...)
		} else if q.name == p99 {
			wrong = append(wrong, off("the bounds of stall "+q.name, bounds, truth)...)
		}
	}
	return strings.Join(wrong, ", "), len(wrong) > 0
}

func exactly(v float64) probe.Interval { return probe.Interval{Low: v, High: v} }

// off says by how much of the true value what is reported is off, if by more than TrustedShare.
func off(name string, reported, truth probe.Interval) []string {
	err := max(0, reported.Low-truth.High) + min(0, reported.High-truth.Low)
	if math.Abs(err) <= TrustedShare*truth.Low {
		return nil
	}
	return []string{fmt.Sprintf("%s %+.1f %%", name, 100*err/truth.Low)}
}

type latency struct {
	name       string
	comparison *Comparison
}

// latencies are those by which an outcome is judged.
func (o *Outcome) latencies() []latency {
	return []latency{{"TTFT", &o.TTFT}, {"ITL", &o.ITL}, {"request", &o.E2E}}
}

const p99 = "p99"

type quantile struct {
	name       string
	truth, err float64
}

// quantiles are those that have to be right; the maximum is shown only.
func (c *Comparison) quantiles() []quantile {
	return []quantile{
		{"p50", c.True.P50, c.Error.P50}, {"p95", c.True.P95, c.Error.P95}, {p99, c.True.P99, c.Error.P99},
	}
}

// signed formats seconds as milliseconds with a sign, which a zero does not have.
func signed(seconds float64) string {
	if math.Abs(1000*seconds) < 0.005 {
		return "0.00"
	}
	return fmt.Sprintf("%+.2f", 1000*seconds)
}
