package sweep

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/inferprobe/inferprobe/internal/load"
	"github.com/inferprobe/inferprobe/internal/probe"
)

// cutAfter returns n requests that the end of a stage of 10 s cuts off when they have waited for so long, with as many
// tokens.
func cutAfter(n int, waited time.Duration, tokens int) []*probe.Result {
	results := make([]*probe.Result, n)
	for i := range results {
		r := answer{sent: 10*time.Second - waited, ttft: 100 * milli, gap: 10 * milli, tokens: tokens, asked: 10}.result()
		r.Outcome, r.FinishReason = probe.Incomplete, ""
		r.End = waited // which collect takes for now
		results[i] = r
	}
	return results
}

func TestFindingsOnRequestsCutOff(t *testing.T) {
	beside := func(cut ...*probe.Result) []*probe.Result { return append(many(100), cut...) } // 100 and 190 ms each
	// 94 of 190 ms and 6 of 1,090 ms, beside those cut off after 500 ms
	shortAndLong := func(cut int) []*probe.Result {
		results := many(100)
		for i := range results {
			a := plain
			a.sent, a.asked = results[i].Sent.Sub(epoch), 100
			if i < 6 {
				a.tokens = 100
			}
			*results[i] = *a.result()
		}
		return append(results, cutAfter(cut, 500*milli, 9)...)
	}
	unsent := cutAfter(20, 5*time.Second, 0)
	for _, r := range unsent {
		r.Sent = time.Time{}
	}
	want := []string{"censored"}
	checkFindings(t, map[string]finding{
		"none":                                     {results: beside()},
		"20 as long as others":                     {results: beside(cutAfter(20, 105*milli, 0)...)},
		"20 for longer than others":                {results: beside(cutAfter(20, 106*milli, 0)...), want: want},
		"20 at tokens, as long as others":          {results: beside(cutAfter(20, 199*milli, 5)...)},
		"20 at tokens, for longer":                 {results: beside(cutAfter(20, 200*milli, 5)...), want: want, detail: "for their end for longer"},
		"11 hang, the tenth that a p90 leaves out": {results: beside(cutAfter(11, 5*time.Second, 0)...)},
		"12 hang": {results: beside(cutAfter(12, 5*time.Second, 0)...), want: want,
			detail: "12 requests that the end of the stage cut off had waited for their first token for longer than the p90 of " +
				"the 100 completed ones, 100.0 ms: with them it is 4510.0 ms at least, and how much more is not known"},
		"5 that may become long ones": {results: shortAndLong(5), want: []string{"censored", "output_length?"},
			detail: "requests take 284.3 ms on average, not 244.0 ms, and their p90 is 1090.0 ms, not 190.0 ms"},
		"4 that may": {results: shortAndLong(4), want: []string{"output_length?"},
			detail: "; the end of the stage cuts off the longer ones: requests take 276.5 ms on average, those that completed 12 % less"},
		"4 that may, where lengths should be forced": {results: shortAndLong(4), m: measurement{forced: true},
			want: []string{"output_length"}, detail: "84.6 too few or too many"},
		"1 of 8 hangs, by chance": {
			results: append(many(7), cutAfter(1, time.Second, 0)...), want: []string{"too_few_samples"},
		},
		"20 were never sent":    {results: beside(unsent...)},
		"nothing else has come": {results: cutAfter(20, 5*time.Second, 0), want: []string{"too_few_samples"}},
	})
}

// TestSteadyStagesAreNotCensored cuts stages off at many moments, in which some requests are always under way.
func TestSteadyStagesAreNotCensored(t *testing.T) {
	slow := answer{ttft: 500 * milli, gap: 50 * milli, tokens: 10} // 950 ms
	for i := range 40 {
		lasted := 20*time.Second + time.Duration(i)*29*milli
		for name, stage := range map[string]struct {
			named
			results []*probe.Result
		}{
			"open loop, ten in flight":   {constantAt(10, lasted), openLoop(10, lasted, slow)},
			"closed loop in waves":       {throughputFor(lasted), waves(64, lasted, slow)},
			"closed loop, times differ":  {throughputFor(lasted), closedLoop(rand.New(rand.NewPCG(1, uint64(i))), 64, lasted, 0.3)},
			"closed loop with a queue":   {throughputFor(lasted), queued(64, 8, lasted)},
			"open loop at what is borne": {constantAt(16, lasted), queue(16, 16, lasted, slow)},
		} {
			c := newCollector(epoch, probe.Objectives{})
			c.now = func() time.Time { return epoch.Add(lasted) }
			for _, r := range stage.results {
				c.Record(r)
			}
			s := c.summarise(stage.named, endedBy(load.EndedByDuration, lasted), nil)
			for _, f := range c.judge(&s, measurement{}) {
				if f.Name == probe.FindingCensored {
					t.Errorf("%s for %s, %d completed, %d cut off: %s", name, lasted, s.Completed, s.Incomplete, f.Detail)
				}
			}
		}
	}
}

// queued is a closed loop of so many clients on a server of fewer slots, where each request takes about a second, and
// most of its life waits.
func queued(clients, slots int, lasted time.Duration) []*probe.Result {
	random := rand.New(rand.NewPCG(2, uint64(lasted)))
	free := make([]time.Duration, slots) // when each slot is
	sent := make([]time.Duration, clients)
	var results []*probe.Result
	for i := 0; ; i++ {
		slot := 0
		for j := range free {
			if free[j] < free[slot] {
				slot = j
			}
		}
		client := i % clients // first come, first served
		begins := max(free[slot], sent[client])
		if begins >= lasted {
			break
		}
		each := time.Duration((0.08 + 0.04*random.Float64()) * float64(time.Second))
		results = append(results, answer{
			sent: sent[client], ttft: begins - sent[client] + each, gap: each, tokens: 10, cut: lasted,
		}.result())
		free[slot] = begins + 10*each
		sent[client] = free[slot]
	}
	for i := range clients { // those that wait
		if sent[i] < lasted {
			results = append(results, answer{sent: sent[i], ttft: lasted, tokens: 10, cut: lasted}.result())
		}
	}
	return results
}

// TestWorkedOff: an open loop serves what piled up while the server paused for its first seconds.
func TestWorkedOff(t *testing.T) {
	pausing := func(until time.Duration) []*probe.Result { // then 25 requests/s of 10 that are sent
		results, free := many(100), until
		for i, r := range results {
			a := plain
			a.sent = time.Duration(i) * 100 * milli
			free = max(free, a.sent) + 40*milli
			a.ttft, a.gap = free-a.sent, milli
			*r = *a.result()
		}
		return results
	}
	checkFindings(t, map[string]finding{
		"no pause":     {results: pausing(0)},
		"a short one":  {results: pausing(2 * time.Second)},
		"half a stage": {results: pausing(5 * time.Second), want: []string{"not_settled"}, detail: "where 10.00 were sent"},
	})
}

// TestStableStagesAreValid plays the stages that saturation must not end: neither do they seem to work off a queue, nor
// do their percentiles leave out too much, but where they do.
func TestStableStagesAreValid(t *testing.T) {
	const seeds = 2
	for _, q := range stable(seeds) {
		if q.random && q.service > 10 { // the stage is too short for these
			continue
		}
		c := newCollector(epoch, probe.Objectives{})
		c.now = func() time.Time { return epoch.Add(usual) }
		all, mean := q.trace(usual), 0.0
		for _, r := range all {
			mean += (r.end - r.sent) / float64(len(all))
			c.Record(answer{
				sent: seconds(r.sent), ttft: seconds(r.first - r.sent), gap: seconds(r.end - r.first), tokens: 2, cut: usual,
			}.result())
		}
		stage := constantAt(q.rate(), usual)
		stage.Profile = q.profile
		s := c.summarise(stage, endedBy(load.EndedByDuration, usual), nil)
		for _, f := range c.judge(&s, measurement{}) {
			if f.Name == probe.FindingCensored && mean > (1+censoredShare)*s.RequestDuration.Mean {
				continue // it is true
			}
			if f.Name == probe.FindingCensored || f.Name == probe.FindingNotSettled {
				t.Errorf("%s, %d completed, %d cut off: %s: %s", q, s.Completed, s.Incomplete, f.Name, f.Detail)
			}
		}
	}
}
