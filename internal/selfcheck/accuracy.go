package selfcheck

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"
)

const (
	accuracyDuration = 15 * time.Second // of the sending of each scenario …
	searchDuration   = 8 * time.Second  // … and at each rate of the search for the highest one
	searchFrom       = 200.0            // requests/s
	searchStep       = 100.0
	searchTo         = 5000.0
)

// accuracyScenarios are those of docs/accuracy.md, for a host of so many cores.
func accuracyScenarios(cores int) []Scenario {
	at := func(rate float64, what string, s Scenario) Scenario {
		s.Name, s.Rate, s.Duration = perSecond(rate)+what, rate, accuracyDuration
		return s
	}
	// With 1 % the 99th percentile would lie on the edge between what stalls and what does not.
	stalls := Scenario{StallFraction: 0.012, Stall: 300 * time.Millisecond}
	crowded := Scenario{Neighbours: cores}
	const neighbours = ", another process busy on every core"
	return []Scenario{
		at(20, "", Scenario{}),
		at(100, "", Scenario{}),
		at(500, "", Scenario{}),
		at(20, ", 1.2 % of the gaps 300 ms longer", stalls),
		at(20, ", 4 tokens an event", Scenario{TokensPerEvent: 4}),
		at(20, ", the server stands still for 2 s", Scenario{Freeze: 2 * time.Second}),
		at(20, neighbours, crowded),
		at(100, neighbours, crowded),
		at(500, neighbours, crowded),
	}
}

// Accuracy runs every scenario, then rates that rise until one is not to be trusted any more, and writes to w what it
// finds. It reports whether the sweep's verdict kept its promise: no stage that it calls valid has a p50, p95 or p99 that is
// off by more than TrustedShare. It takes some four minutes.
func (h *Host) Accuracy(ctx context.Context, cores int, w io.Writer) (kept bool, err error) {
	return accurate(ctx, cores, w, h.Run)
}

func accurate(ctx context.Context, cores int, w io.Writer, run runner) (kept bool, err error) {
	a := accuracy{measure: run, w: w}
	fmt.Fprint(w, notice(), "It does not where other processes are busy: there it is one of them.\n")
	for _, s := range accuracyScenarios(cores) {
		if _, err := a.run(ctx, s); err != nil {
			return false, err
		}
	}
	var held float64
	for rate := searchFrom; rate <= searchTo; rate += searchStep {
		o, err := a.run(ctx, Scenario{Name: perSecond(rate), Rate: rate, Duration: searchDuration})
		if err != nil {
			return false, err
		}
		if len(o.Doubts()) > 0 {
			break
		}
		held = rate
	}
	a.conclude(held)
	return len(a.deceived) == 0, nil
}

// accuracy is the state of Accuracy.
type accuracy struct {
	measure     runner
	w           io.Writer
	runs, valid int
	bounded     int // of the valid ones, those that know the p99 of the stalls between bounds only
	deceived    []string
	table       []string // a row each
}

func (a *accuracy) run(ctx context.Context, s Scenario) (*Outcome, error) {
	o, err := a.measure(ctx, s)
	if err != nil {
		return nil, err
	}
	o.writeDetail(a.w)
	a.table = append(a.table, o.row())
	a.runs++
	if o.Stage.Valid() {
		a.valid++
		if !o.Stage.StreamStallP99.IsZero() {
			a.bounded++
		}
	}
	if which, yes := o.Deceives(); yes {
		a.deceived = append(a.deceived, fmt.Sprintf("%s: %s", s.Name, which))
	}
	return o, nil
}

const tableHeader = `
| scenario | verdict | left late, p99 ms | gap CV | error of TTFT, ms: p50, p95, p99, max | ITL | request | stall |
| --- | --- | --- | --- | --- | --- | --- | --- |
`

// row is the outcome as a row of the table of docs/accuracy.md.
func (o *Outcome) row() string {
	cells := []string{o.Scenario.Name, o.verdict(), milliseconds(o.Lateness.P99), fmt.Sprintf("%.3f", o.GapCV)}
	for _, m := range append(o.latencies(), latency{"stall", &o.Stall}) {
		e := m.comparison.Error
		cells = append(cells, fmt.Sprintf("%s, %s, %s, %s", signed(e.P50), signed(e.P95), signed(e.P99), signed(e.Max)))
	}
	if b := o.Stage.StreamStallP99; !b.IsZero() {
		cells[len(cells)-1] += fmt.Sprintf("; p99 %s to %s", milliseconds(b.Low), milliseconds(b.High))
	}
	return "| " + strings.Join(cells, " | ") + " |\n"
}

func (a *accuracy) conclude(held float64) {
	fmt.Fprint(a.w, tableHeader, strings.Join(a.table, ""))
	if held > 0 {
		fmt.Fprintf(a.w, "\nThe highest rate with all errors under %.0f ms and %.0f %% was %s.\n", 1000*TrustedError,
			100*TrustedShare, perSecond(held))
	}
	if len(a.deceived) > 0 {
		fmt.Fprintf(a.w, "Of %d stages the sweep called %d valid, and was wrong: off by more than %.0f %%\n  %s\n",
			a.runs, a.valid, 100*TrustedShare, strings.Join(a.deceived, "\n  "))
		return
	}
	fmt.Fprintf(a.w, "Of %d stages the sweep called %d valid, none of them with a p50, p95 or p99 off by more than %.0f %%.\n",
		a.runs, a.valid, 100*TrustedShare)
	if a.bounded > 0 {
		fmt.Fprintf(a.w, "In %d of the valid ones the p99 of the stalls is known between bounds only; the true one was there.\n", a.bounded)
	}
}

// writeDetail writes a paragraph about the outcome.
func (o *Outcome) writeDetail(w io.Writer) {
	fmt.Fprintf(w, "\n%s: %s\n", o.Scenario.Name, o.verdict())
	for _, doubt := range o.Doubts() {
		fmt.Fprintf(w, "  ! %s\n", doubt)
	}
	for _, f := range o.Stage.Findings {
		if !f.Invalidates {
			fmt.Fprintf(w, "  note: %s\n", f.Detail)
		}
	}
	lag := o.Stage.ReceiveLag
	fmt.Fprintf(w, "  %d requests, %.2f/s, gap CV %.3f; at the server late by %s; receive lag %s; %.2f cores\n",
		o.Requests, o.Rate, o.GapCV, spread(o.Lateness), spread(Quantiles{lag.P50, lag.P95, lag.P99, lag.Max}), o.Cores)
	const columns = "  %-8s %9s %9s %9s %9s   %8s %8s %8s %8s   %7s %7s %7s\n"
	fmt.Fprintf(w, columns, "ms", "true p50", "p95", "p99", "max", "err. p50", "p95", "p99", "max", "one p50", "p99", "max")
	for _, m := range append(o.latencies(), latency{"stall", &o.Stall}) {
		c := m.comparison
		one := [3]string{}
		if c.Single != (Quantiles{}) {
			one = [3]string{milliseconds(c.Single.P50), milliseconds(c.Single.P99), milliseconds(c.Single.Max)}
		}
		fmt.Fprintf(w, columns, m.name, milliseconds(c.True.P50), milliseconds(c.True.P95), milliseconds(c.True.P99),
			milliseconds(c.True.Max), signed(c.Error.P50), signed(c.Error.P95), signed(c.Error.P99), signed(c.Error.Max),
			one[0], one[1], one[2])
	}
}

// spread formats quantiles in one phrase.
func spread(q Quantiles) string {
	return fmt.Sprintf("%s/%s/%s ms (p50/p99/max)", milliseconds(q.P50), milliseconds(q.P99), milliseconds(q.Max))
}

// milliseconds formats seconds as milliseconds without the unit.
func milliseconds(seconds float64) string { return fmt.Sprintf("%.2f", 1000*seconds) }
