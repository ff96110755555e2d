package sweep

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/inferprobe/inferprobe/internal/load"
	"github.com/inferprobe/inferprobe/internal/probe"
)

// finding is one case: results, and what is found on them. Every limit has a case on either side.
type finding struct {
	results []*probe.Result
	m       measurement
	want    []string // names, with "?" behind those that do not invalidate
	detail  string   // a part of the first one's
}

// checkFindings judges each case as a stage of 10 s at 10 requests/s.
func checkFindings(t *testing.T, cases map[string]finding) {
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			c := collect(test.results...)
			stage := c.summarise(constantAt(10, 10*time.Second), endedBy(load.EndedByDuration, 10*time.Second), test.m.settled)
			findings := c.judge(&stage, test.m)
			var got []string
			for _, f := range findings {
				name := string(f.Name)
				if !f.Invalidates {
					name += "?"
				}
				got = append(got, name)
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("found %v, want %v: %v", got, test.want, findings)
			} else if len(got) > 0 && !strings.Contains(findings[0].Detail, test.detail) {
				t.Errorf("%q does not say %q", findings[0].Detail, test.detail)
			}
		})
	}
}

// plain is a request of the cases: 10 tokens for a prompt of 100, the first after 100 ms, the others every 10 ms.
var plain = answer{ttft: 100 * milli, gap: 10 * milli, tokens: 10, overhead: 8}

// many returns n requests like plain, a tenth of a second apart.
func many(n int) []*probe.Result {
	results := make([]*probe.Result, n)
	for i := range results {
		a := plain
		a.sent = time.Duration(i) * 100 * milli
		results[i] = a.result()
	}
	return results
}

// hundred returns a hundred requests, each changed.
func hundred(change func(i int, r *probe.Result)) []*probe.Result {
	results := many(100)
	for i, r := range results {
		change(i, r)
	}
	return results
}

func TestFindingsOnSamples(t *testing.T) {
	few := []string{"too_few_samples"}
	checkFindings(t, map[string]finding{
		"36 requests":           {results: many(36)},
		"35 requests":           {results: many(35), want: few, detail: "35 completed requests; a 90th percentile needs 36"},
		"none":                  {want: few},
		"35 and one that fails": {results: append(many(35), plain.failed(probe.ReasonReset, 0)), want: few},
		"36 and one cut off": {results: append(many(36), answer{
			sent: 9900 * milli, ttft: 50 * milli, gap: 10 * milli, tokens: 10, cut: 10 * time.Second,
		}.result())},
	})
}

func TestFindingsOnOurOwnLateness(t *testing.T) {
	late := func(n int, d time.Duration) func(int, *probe.Result) { // n of a hundred leave late
		return func(i int, r *probe.Result) {
			r.Request.Due = r.Sent
			if i >= 100-n {
				r.Request.Due = r.Sent.Add(-d)
			}
		}
	}
	opening := func(d time.Duration) func(int, *probe.Result) { // each has to open a connection first
		return func(i int, r *probe.Result) {
			r.Request.Due, r.NewConn, r.Phases.TLS = r.Sent.Add(-d), true, d
		}
	}
	merging := func(n int) func(int, *probe.Result) { // n of a hundred first tokens are read with the second
		return func(i int, r *probe.Result) {
			if i >= 100-n {
				r.Arrivals = slices.Delete(r.Arrivals, 0, 1)
				r.Arrivals[0].Events, r.Arrivals[0].Lag, r.FirstToken = 2, 2*milli, r.Arrivals[0].At
			}
		}
	}
	together := func(n int) func(int, *probe.Result) { // the server sends the first two tokens together; n are read late
		return func(i int, r *probe.Result) {
			merging(100)(i, r)
			if r.Arrivals[0].Lag = milli / 10; i >= 100-n {
				r.Arrivals[0].Lag = 2 * milli
			}
		}
	}
	reading := func(n int) func(int, *probe.Result) { // the last n of 9 gaps are read in pairs, late
		return func(_ int, r *probe.Result) {
			for i := range r.Arrivals {
				r.Arrivals[i].Lag = milli / 10
			}
			for i := len(r.Arrivals) - n; i < len(r.Arrivals)-1; i++ {
				r.Arrivals = slices.Delete(r.Arrivals, i, i+1)
				r.Arrivals[i].Events, r.Arrivals[i].Lag = 2, 2*milli
			}
		}
	}
	delay, lag := []string{"schedule_delay"}, []string{"receive_lag"}
	checkFindings(t, map[string]finding{
		// A quarter of the gap is 25 ms. The p99 of a hundred lies between the two latest.
		"two leave 25 ms late": {results: hundred(late(2, 25*milli))},
		"two leave later": {results: hundred(late(2, 25100*time.Microsecond)), want: delay,
			detail: "requests left up to 25.1 ms late (p99), more than 25.0 ms"},
		"one leaves 100 ms late":             {results: hundred(late(1, 100*milli))},
		"all wait 1 s for their connections": {results: hundred(opening(time.Second))},
		"a closed loop":                      {results: many(100)},

		// A first token that is read with the second seems to come 10 ms later. With one of a hundred p99 is 1 % of the way.
		"one first token is read late": {results: hundred(merging(1))},
		"two first tokens are read late": {results: hundred(merging(2)), want: lag,
			detail: "off by up to 10.0 ms (p99), more than 5.0 ms"},
		"the server sends two together":    {results: hundred(together(0))},
		"and three of these are read late": {results: hundred(together(3))},
		"no gap is read late":              {results: hundred(reading(0))},
		"one read in eight holds two":      {results: hundred(reading(2)), want: lag, detail: "12 % of the reads were so late"},

		"throttled for 1 % of 10 s": {results: many(100), m: measurement{throttled: 100 * milli}},
		"throttled for longer": {results: many(100), m: measurement{throttled: 101 * milli}, want: []string{"cpu_throttled"},
			detail: "stopped this process for 101ms of 10s"},
		"our limit failed one": {results: append(many(99), plain.failed(probe.ReasonClientOverload, 0)),
			want: []string{"client_overload"}, detail: "1 requests were not sent"},
		"the endpoint failed one": {results: append(many(99), plain.failed(probe.ReasonRateLimited, 0))},
		"a guard ended it": {results: many(100), m: measurement{guard: "5 of 10 requests failed"},
			want: []string{"ended_by_guard?"}, detail: "after 10s: 5 of 10 requests failed"},
	})
}

// TestScheduleDelayLimits: a quarter of the gap, a twentieth of the median TTFT or a millisecond, whatever is longest.
func TestScheduleDelayLimits(t *testing.T) {
	for _, test := range []struct {
		rate        float64
		ttft, limit time.Duration
	}{
		{rate: 10, ttft: 100 * milli, limit: 25 * milli},
		{rate: 1000, ttft: 100 * milli, limit: 5 * milli},
		{rate: 1000, ttft: 5 * milli, limit: milli},
	} {
		for late, want := range map[time.Duration]bool{test.limit: false, test.limit + 100*time.Microsecond: true} {
			results := many(100)
			for _, r := range results {
				r.Request.Due = r.Sent.Add(-late)
				r.FirstToken, r.Arrivals[0].At = test.ttft, test.ttft
			}
			c := collect(results...)
			stage := c.summarise(constantAt(test.rate, 10*time.Second), endedBy(load.EndedByDuration, 10*time.Second), nil)
			found := slices.ContainsFunc(c.judge(&stage, measurement{}), func(f probe.Finding) bool {
				return f.Name == probe.FindingScheduleDelay
			})
			if found != want {
				t.Errorf("%v req/s, TTFT %v, %v late: found %v, want %v", test.rate, test.ttft, late, found, want)
			}
		}
	}
}

func TestFindingsOnMergedReads(t *testing.T) { // a tenth of the reads is the limit, which ten gaps can hit
	for late, want := range map[int]bool{10: false, 11: true} {
		c := collect(many(100)...)
		c.reads = reads{prompt: 100 - late, late: late, lateSeveral: late}
		stage := c.summarise(constantAt(10, 10*time.Second), endedBy(load.EndedByDuration, 10*time.Second), nil)
		if got := len(c.judge(&stage, measurement{})) > 0; got != want {
			t.Errorf("%d of 100 reads: found %v, want %v", late, got, want)
		}
	}
}

func TestFindingsOnPrompts(t *testing.T) {
	counted := func(prompt int, server func(i int) int) []*probe.Result {
		return hundred(func(i int, r *probe.Result) { r.Request.PromptTokens, r.PromptTokens = prompt, server(i) })
	}
	cached := func(template int, tokens func(i int) int) []*probe.Result {
		return hundred(func(i int, r *probe.Result) { r.PromptTokens, r.CachedTokens = 100+template, tokens(i) })
	}
	always := func(n int) func(int) int { return func(int) int { return n } }
	lastOf := func(n, tokens int) func(int) int {
		return func(i int) int {
			if i < 100-n {
				return 0
			}
			return tokens
		}
	}
	calibrated := func(least, most int) measurement { return measurement{overhead: spread{2, least, most}} }
	varying := func(by int) func(int) int { return func(i int) int { return 108 + i%(by+1) } }
	mismatch, fromCache := []string{"token_mismatch"}, []string{"cached_prompts"}
	checkFindings(t, map[string]finding{
		"a sample is not as long as asked for": {results: many(100), m: measurement{verify: errors.New("99 tokens, not 100")},
			want: mismatch, detail: "a prompt sent is not as long as asked for: 99 tokens, not 100"},
		"the server does not count":     {results: counted(100, always(0)), m: calibrated(0, 100)},
		"a template of 1,500 tokens":    {results: counted(100, always(1600)), m: calibrated(1500, 1500)},
		"4 tokens less than ours":       {results: counted(100, always(96))},
		"5 tokens less than ours":       {results: counted(100, always(95)), want: mismatch, detail: "-5 to -5"},
		"a difference that varies by 4": {results: counted(100, varying(4))},
		"a difference that varies by 5": {results: counted(100, varying(5)), want: mismatch, detail: "+8 to +13"},
		"one that varies by 1 % of it":  {results: counted(1000, func(i int) int { return 1008 + i%11 })},
		"one that varies by more":       {results: counted(1000, func(i int) int { return 1008 + i%12 }), want: mismatch},
		"twice as many, as calibrated": {results: counted(100, always(208)), m: calibrated(58, 108),
			want: mismatch, detail: "+58 to +108 tokens"},
		"less than calibrated": {results: counted(100, always(108)), m: calibrated(8, 13),
			want: mismatch, detail: "+8 to +13 tokens"},

		"cached: a template of 8 and a block":  {results: cached(8, always(8+16))},
		"cached: a token more":                 {results: cached(8, always(8+17)), want: fromCache, detail: "17 %"},
		"cached: a long template":              {results: cached(1500, always(1504))},
		"cached: five prompts of a hundred":    {results: cached(8, lastOf(5, 108))},
		"cached: six prompts of a hundred":     {results: cached(8, lastOf(6, 108)), want: fromCache, detail: "6 %"},
		"cached: prompts that are not counted": {results: cached(-100, always(100))},
	})
}

func TestFindingsOnOutputs(t *testing.T) {
	asked := func(more func(i int) int) []*probe.Result { // 1,000 tokens come of those asked for
		return hundred(func(i int, r *probe.Result) { r.Request.OutputTokens += more(i) })
	}
	holding := func(more func(i int) int) []*probe.Result { // in 10 events
		return hundred(func(i int, r *probe.Result) {
			r.OutputTokens += more(i)
			r.Request.OutputTokens = r.OutputTokens
		})
	}
	withoutUsage := func(n int) []*probe.Result {
		return hundred(func(i int, r *probe.Result) {
			if i < n {
				r.TokenSource = probe.TokensFromEvents
			}
		})
	}
	last := func(n int) func(int) int { return func(i int) int { return min(1, i/(100-n)) } }
	forced, length := measurement{forced: true}, []string{"output_length"}
	checkFindings(t, map[string]finding{
		"20 tokens missing": {results: asked(last(20)), m: forced}, // of 1,020
		"21 tokens missing": {results: asked(last(21)), m: forced, want: length,
			detail: "10.0 output tokens a request where 10.2 were asked for, 0.2 too few or too many"},
		"20 tokens too many": {results: asked(func(i int) int { return -last(19)(i) }), m: forced}, // of 981
		"21 tokens too many": {results: asked(func(i int) int { return -last(20)(i) }), m: forced, want: length},
		"too long and too short by turns": {results: asked(func(i int) int { return 2*(i%2) - 1 }), m: forced, want: length,
			detail: "10.0 output tokens a request where 10.0 were asked for, 1.0 too few or too many"},
		"lengths that cannot be forced": {results: asked(func(int) int { return 10 }), want: []string{"output_length?"}},

		"no usage in 5 of 100 answers": {results: withoutUsage(5), m: forced},
		"no usage in 6 of 100 answers": {results: withoutUsage(6), m: forced, want: []string{"no_server_usage?"},
			detail: "no usage in 6 of 100 answers"},
		"no usage, and half of the events": {results: hundred(func(_ int, r *probe.Result) {
			r.TokenSource, r.Request.OutputTokens = probe.TokensFromEvents, 20
		}), m: forced, want: []string{"no_server_usage?"}, detail: "10.0 a request where 20.0 tokens were asked for"},

		"1.05 tokens an event": {results: holding(last(50)), m: forced},
		"1.06 tokens an event": {results: holding(last(51)), m: forced, want: []string{"tokens_per_event?"},
			detail: "1.1 tokens an event"},
		"two tokens an event, each counted": {results: hundred(func(_ int, r *probe.Result) {
			for i := range r.Arrivals {
				r.Arrivals[i].Tokens = 2
			}
			r.OutputTokens, r.Request.OutputTokens = 20, 20
		}), m: forced},
	})
}

func TestFindingsOnSettling(t *testing.T) {
	// Eight at once on an endpoint that serves so many in 190 ms each, for 10 s.
	steady := waves(8, 10*time.Second, plain)
	slow := waves(8, 10*time.Second, answer{ttft: 130 * milli, gap: 10 * milli, tokens: 10, overhead: 8})
	settledOver := func(from, to time.Duration) *settler {
		return &settler{limit: 20 * time.Second, settled: true, window: [2]time.Duration{from, to}}
	}
	unsettled := &settler{limit: 20 * time.Second, turnover: func() (int, time.Duration) { return 400, time.Second }}
	// Little's law: 8 in flight are 42.1 requests/s × 190 ms. Where latencies have just begun to grow it does not hold.
	growing := func(by time.Duration) []*probe.Result {
		results := waves(8, 10*time.Second, plain)
		for _, r := range results {
			r.Sent = r.Sent.Add(-by)
			r.FirstToken, r.LastToken, r.End = r.FirstToken+by, r.LastToken+by, r.End+by
			for i := range r.Arrivals {
				r.Arrivals[i].At += by
			}
		}
		return results
	}
	checkSettling := func(name string, s *settler, results []*probe.Result, want, detail string) {
		t.Helper()
		c := collect(results...)
		stage := c.summarise(throughputFor(10*time.Second), endedBy(load.EndedByStop, 10*time.Second), s)
		stage.InFlight = min(stage.InFlight, 8) // as the closed loop keeps it
		findings := c.judge(&stage, measurement{settled: s, forced: true})
		var got, said string
		for _, f := range findings {
			got, said = string(f.Name), f.Detail
			if !f.Invalidates {
				got += "?"
			}
		}
		if got != want || !strings.Contains(said, detail) {
			t.Errorf("%s: found %q (%s), want %q (%s)", name, got, said, want, detail)
		}
	}
	checkSettling("settled", settledOver(2*time.Second, 9*time.Second), steady, "", "")
	checkSettling("settled, slower", settledOver(2*time.Second, 9*time.Second), slow, "", "")
	checkSettling("settled, one wave more than whole ones", settledOver(2*time.Second, 2580*milli), steady, "", "")
	checkSettling("not settled", unsettled, steady, "not_settled", "the stage ended after 10s, before")
	checkSettling("latency 14 % above", settledOver(2*time.Second, 9*time.Second), growing(27*milli), "", "")
	checkSettling("latency 17 % above", settledOver(2*time.Second, 9*time.Second), growing(33*milli),
		"not_settled?", "8.0 requests in flight")
	failing := waves(8, 10*time.Second, plain) // they are in flight, but no part of the rate
	for i := range len(failing) / 5 {
		failing[5*i].Outcome, failing[5*i].Reason = probe.Failed, probe.ReasonReset
	}
	checkSettling("one in five fails", settledOver(2*time.Second, 9*time.Second), failing, "", "")
}
