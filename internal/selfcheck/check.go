package selfcheck

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// checkDuration is how long Check sends at each rate.
const checkDuration = 4 * time.Second

// checkRates are the rates that Check tries, in requests/s.
func checkRates() []float64 { return []float64{20, 50, 100, 200, 300, 500, 1000, 2000} }

// Check raises the rate until something is not to be trusted any more, writes a line about each rate to w and a
// conclusion, and returns the highest rate that is; 0 if none is. It takes less than a minute.
func (h *Host) Check(ctx context.Context, w io.Writer) (trusted float64, err error) {
	return check(ctx, w, h.Run)
}

func check(ctx context.Context, w io.Writer, run runner) (trusted float64, err error) {
	fmt.Fprint(w, notice(), "\n", checkHeader)
	for _, rate := range checkRates() {
		o, err := run(ctx, Scenario{Name: perSecond(rate), Rate: rate, Duration: checkDuration})
		if err != nil {
			return trusted, err
		}
		o.writeLine(w)
		if doubts := o.Doubts(); len(doubts) > 0 {
			fmt.Fprint(w, "\n", conclusion(trusted), "At ", perSecond(rate), ": ", strings.Join(doubts, "; "), ".\n", shared)
			return trusted, nil
		}
		trusted = rate
	}
	fmt.Fprint(w, "\n", conclusion(trusted), "No higher rate was tried.\n")
	return trusted, nil
}

// notice is what was changed on the host.
func notice() string {
	return fmt.Sprintf("The simulator runs at nice %d, to leave the CPU to the client as a server elsewhere would.\n", SimulatorNice)
}

// shared is why a host may bear more than was found.
const shared = "The simulator used its CPU, too; against a server elsewhere it bears more.\n"

// conclusion is Check's result as a sentence.
func conclusion(trusted float64) string {
	if trusted == 0 {
		return fmt.Sprintf("This host cannot be trusted, not even at %s.\n", perSecond(checkRates()[0]))
	}
	return fmt.Sprintf("This host can be trusted up to %s (errors under %.0f ms and %.0f %%).\n", perSecond(trusted),
		1000*TrustedError, 100*TrustedShare)
}

func perSecond(rate float64) string { return fmt.Sprintf("%v req/s", rate) }

const checkHeader = `                 sent late  gap    receive lag  error of p99, ms              cores  the sweep's
req/s  requests  p99, ms    CV     p99, ms      TTFT      ITL       request   used   verdict
`

func (o *Outcome) writeLine(w io.Writer) {
	fmt.Fprintf(w, "%-6v %-9d %-10.2f %-6.3f %-12.2f %-9s %-9s %-9s %-6.2f %s\n", o.Scenario.Rate, o.Requests,
		1000*o.Lateness.P99, o.GapCV, 1000*o.Stage.ReceiveLag.P99, signed(o.TTFT.Error.P99), signed(o.ITL.Error.P99),
		signed(o.E2E.Error.P99), o.Cores, o.verdict())
}

// verdict is what the sweep says about the stage.
func (o *Outcome) verdict() string {
	if o.Stage.Valid() {
		return "valid"
	}
	var reasons []string
	for _, f := range o.Stage.Findings {
		if f.Invalidates && !slices.Contains(reasons, string(f.Name)) {
			reasons = append(reasons, string(f.Name))
		}
	}
	return "not valid: " + strings.Join(reasons, ", ")
}
