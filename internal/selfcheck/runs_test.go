package selfcheck

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/inferprobe/inferprobe/internal/probe"
)

// flat is a latency without a spread, reported with one error throughout.
func flat(v, err float64) Comparison {
	return Comparison{True: Quantiles{v, v, v, v}, Error: Quantiles{err, err, err, err}}
}

// outcome is that of a scenario in which everything was as it should be.
func outcome(s Scenario) *Outcome {
	return &Outcome{Scenario: s, Requests: 100, TTFT: flat(0.060, 0), ITL: flat(0.009, 0), E2E: flat(1.203, 0), Stall: flat(0.009, 0),
		StallMost: Quantiles{0.009, 0.009, 0.009, 0.009}}
}

func TestCheckStopsWhereTrustEnds(t *testing.T) {
	for _, test := range []struct {
		name  string
		first float64 // rate that is not to be trusted
		want  float64
		runs  int
		says  string
	}{
		{"nowhere", 1e9, 2000, 8, "This host can be trusted up to 2000 req/s (errors under 1 ms and 5 %).\nNo higher rate was tried.\n"},
		{"at some rate", 300, 200, 5, "This host can be trusted up to 200 req/s (errors under 1 ms and 5 %).\nAt 300 req/s: TTFT p50 is off by +2.00 ms"},
		{"at once", 20, 0, 1, "This host cannot be trusted, not even at 20 req/s.\nAt 20 req/s: TTFT p50"},
	} {
		var rates []float64
		var said strings.Builder
		trusted, err := check(t.Context(), &said, func(_ context.Context, s Scenario) (*Outcome, error) {
			rates = append(rates, s.Rate)
			o := outcome(s)
			if s.Rate >= test.first {
				o.TTFT = flat(0.060, 0.002)
			}
			return o, nil
		})
		if trusted != test.want || err != nil || len(rates) != test.runs || !strings.Contains(said.String(), test.says) {
			t.Errorf("%s: %v, %v after %v:\n%s", test.name, trusted, err, rates, said.String())
		}
		if lines := strings.Count(said.String(), " valid\n"); lines != test.runs {
			t.Errorf("%s: %d lines with a verdict, want %d", test.name, lines, test.runs)
		}
	}
	broken := errors.New("no simulator")
	if _, err := check(t.Context(), new(strings.Builder), func(context.Context, Scenario) (*Outcome, error) { return nil, broken }); err != broken {
		t.Errorf("error %v", err)
	}
}

func TestAccuracyKeepsItsPromise(t *testing.T) {
	for _, test := range []struct {
		name  string
		spoil func(*Outcome)
		kept  bool
		runs  int
		says  []string
	}{
		{"all true up to 400 req/s", func(o *Outcome) {
			if o.Scenario.Rate >= 500 {
				o.TTFT = flat(0.060, 0.002) // by less than a twentieth
			}
		}, true, 13, []string{
			"The highest rate with all errors under 1 ms and 5 % was 400 req/s.\nOf 13 stages the sweep called 13 valid, none of them",
			"\n| 20 req/s, 4 tokens an event | valid | 0.00 | 0.000 | 0.00, 0.00, 0.00, 0.00 | 0.00, 0.00, 0.00, 0.00 |",
		}},
		{"a stage that calls itself valid", func(o *Outcome) {
			if o.Scenario.Freeze > 0 || o.Scenario.Rate >= 500 {
				o.ITL = flat(0.009, 0.002)
			}
		}, false, 13, []string{"and was wrong: off by more than 5 %\n", "stands still for 2 s: ITL p50 +22.2 %, ITL p95 +22.2 %, ITL p99 +22.2 %"}},
		{"stalls between bounds", func(o *Outcome) {
			if o.Scenario.Rate >= 200 {
				o.Stage = probe.Stage{
					StreamStallP99: probe.Interval{Low: 0.008, High: 0.012},
					Findings:       []probe.Finding{{Name: probe.FindingReceiveLag, Detail: "known only to be from 8 to 12 ms"}},
				}
				o.Stall, o.TTFT = flat(0.009, 0.003), flat(0.060, 0.002)
			}
		}, true, 10, []string{
			"  note: known only to be from 8 to 12 ms\n", "In 3 of the valid ones the p99 of the stalls is known between bounds only; the true one was there.\n",
			"| +3.00, +3.00, +3.00, +3.00; p99 8.00 to 12.00 |\n",
		}},
	} {
		var said strings.Builder
		runs := 0
		kept, err := accurate(t.Context(), 2, &said, func(_ context.Context, s Scenario) (*Outcome, error) {
			runs++
			o := outcome(s)
			test.spoil(o)
			return o, nil
		})
		if kept != test.kept || err != nil || runs != test.runs {
			t.Errorf("%s: %v, %v after %d runs", test.name, kept, err, runs)
		}
		for _, want := range test.says {
			if !strings.Contains(said.String(), want) {
				t.Errorf("%s: it does not say %q:\n%s", test.name, want, said.String())
			}
		}
	}
}

// TestAccuracyCoversWhatItClaims: rates, stalls, several tokens an event, a server that stands still, busy neighbours.
func TestAccuracyCoversWhatItClaims(t *testing.T) {
	all := accuracyScenarios(2)
	for name, is := range map[string]func(Scenario) bool{
		"20":         func(s Scenario) bool { return s.Rate == 20 && s.Neighbours == 0 },
		"100":        func(s Scenario) bool { return s.Rate == 100 && s.Neighbours == 0 },
		"500":        func(s Scenario) bool { return s.Rate == 500 && s.Neighbours == 0 },
		"stalls":     func(s Scenario) bool { return s.StallFraction > 0.01 && s.Stall == 300*time.Millisecond },
		"events":     func(s Scenario) bool { return s.TokensPerEvent == 4 },
		"freeze":     func(s Scenario) bool { return s.Freeze == 2*time.Second },
		"neighbours": func(s Scenario) bool { return s.Neighbours == 2 },
	} {
		if !slices.ContainsFunc(all, is) {
			t.Errorf("no scenario with %s", name)
		}
	}
}

func TestScenarioReachesTheSimulator(t *testing.T) {
	got := (&Scenario{TokensPerEvent: 4, StallFraction: 0.012, Stall: 300 * time.Millisecond}).flags()
	for _, want := range []string{"--fixed=60ms,9ms", "--tokens-per-event=4", "--stall-fraction=0.012", "--stall=300ms", "--send-times"} {
		if !slices.Contains(got, want) {
			t.Errorf("%q lacks %s", got, want)
		}
	}
	if got := new(Scenario).flags(); !slices.Contains(got, "--tokens-per-event=1") {
		t.Errorf("%q", got)
	}
}

// TestScenarioComesAbout: without what it is about, a scenario proves nothing.
func TestScenarioComesAbout(t *testing.T) {
	for _, test := range []struct {
		name     string
		scenario Scenario
		does     func(*Outcome)
		lacks    string
	}{
		{"stalls", Scenario{Stall: 300 * time.Millisecond}, func(o *Outcome) { o.ITL = flat(0.309, 0) }, "p99 of the gaps is 9.00 ms"},
		{"tokens together", Scenario{TokensPerEvent: 4}, func(o *Outcome) { o.Stall = flat(0.036, 0) }, "median of the longest gaps is 9.00 ms"},
		{"standing still", Scenario{Freeze: 2 * time.Second}, func(o *Outcome) { o.TTFT.True.Max = 2.06 }, "longest time to first token is 60.00 ms"},
	} {
		o := outcome(test.scenario)
		if err := o.happened(); err == nil || !strings.Contains(err.Error(), test.lacks) {
			t.Errorf("%s: error %v", test.name, err)
		}
		if test.does(o); o.happened() != nil {
			t.Errorf("%s: error %v", test.name, o.happened())
		}
	}
}
