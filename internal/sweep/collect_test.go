package sweep

import (
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/inferprobe/inferprobe/internal/load"
	"github.com/inferprobe/inferprobe/internal/probe"
)

// openLoop is requests like a, sent at an even rate and cut off at the end of a stage.
func openLoop(rate float64, stage time.Duration, a answer) []*probe.Result {
	var results []*probe.Result
	for i := 0; ; i++ {
		a.sent, a.cut = seconds(float64(i)/rate), stage
		if a.sent >= stage {
			return results
		}
		results = append(results, a.result())
	}
}

// queue is openLoop in front of an endpoint that serves so many requests at once, each as fast as a; the others wait.
func queue(rate float64, places int, stage time.Duration, a answer) []*probe.Result {
	free := make([]time.Duration, places)
	service := a.ttft + time.Duration(a.tokens-1)*a.gap
	var results []*probe.Result
	for i := 0; seconds(float64(i)/rate) < stage; i++ {
		waiting := a
		waiting.sent, waiting.cut = seconds(float64(i)/rate), stage
		slices.Sort(free)
		begins := max(waiting.sent, free[0])
		free[0] = begins + service
		waiting.ttft += begins - waiting.sent
		results = append(results, waiting.result())
	}
	return results
}

// waves is a closed loop of so many requests at once on an endpoint that works on all of them at the same time.
func waves(concurrency int, stage time.Duration, a answer) []*probe.Result {
	var results []*probe.Result
	service := a.ttft + time.Duration(a.tokens-1)*a.gap
	for a.sent, a.cut = 0, stage; a.sent < stage; a.sent += service {
		for range concurrency {
			results = append(results, a.result())
		}
	}
	return results
}

// mixed takes requests from either in turn.
func mixed(a, b []*probe.Result) []*probe.Result {
	var results []*probe.Result
	for i := range a {
		results = append(results, [][]*probe.Result{a, b}[i%2][i])
	}
	return results
}

// failing makes every second request fail, after the first half of its tokens.
func failing(results []*probe.Result) []*probe.Result {
	for i, r := range results {
		if n := len(r.Arrivals) / 2; i%2 == 1 && r.Outcome == probe.Completed {
			r.Outcome, r.Reason, r.FinishReason = probe.Failed, probe.ReasonTruncated, ""
			r.Arrivals, r.OutputTokens = r.Arrivals[:n], n
			r.LastToken, r.End = r.Arrivals[n-1].At, r.Arrivals[n-1].At
		}
	}
	return results
}

// merged puts every two tokens into one event, at the time of the later.
func merged(results []*probe.Result) []*probe.Result {
	for _, r := range results {
		var arrivals []probe.Arrival
		for i := 1; i < len(r.Arrivals); i += 2 {
			arrivals = append(arrivals, r.Arrivals[i])
		}
		r.Arrivals = arrivals
		if len(arrivals) > 0 {
			r.FirstToken = arrivals[0].At
		}
	}
	return results
}

func TestRates(t *testing.T) {
	// A request takes 100 + 9 × 5 = 145 ms for 10 tokens, slow ones 500 + 9 × 50 = 950 ms.
	quick := answer{ttft: 100 * milli, gap: 5 * milli, tokens: 10}
	slow := answer{ttft: 500 * milli, gap: 50 * milli, tokens: 10}
	long := answer{ttft: 100 * milli, gap: 5 * milli, tokens: 30} // 245 ms
	counted, shorter := quick, slow
	counted.tokens = 20
	shorter.asked = 40                           // four times what comes
	growing := waves(4, time.Second, quick)[:24] // whole ones
	for _, r := range waves(8, time.Second, quick) {
		r.Sent = r.Sent.Add(time.Second)
		growing = append(growing, r)
	}

	for name, test := range map[string]struct {
		stage            named
		out              load.Outcome
		settled          *settler
		results          []*probe.Result
		requests, tokens float64 // per second
		within           float64 // relative
		inFlight         float64
	}{
		"constant, the last request is cut off": {
			stage: constantAt(10, time.Second), out: endedBy(load.EndedByDuration, time.Second),
			results: openLoop(10, time.Second, quick), requests: 10, tokens: 100, inFlight: 1.45,
		},
		"constant, half of the requests are cut off": {
			stage: constantAt(10, 2*time.Second), out: endedBy(load.EndedByDuration, 2*time.Second),
			results: openLoop(10, 2*time.Second, slow), requests: 10, tokens: 100, inFlight: 9.5,
		},
		"constant, answers are shorter than asked for": {
			stage: constantAt(10, 2*time.Second), out: endedBy(load.EndedByDuration, 2*time.Second),
			results: openLoop(10, 2*time.Second, shorter), requests: 10, tokens: 100, inFlight: 9.5,
		},
		"constant, less than one request in flight": {
			stage: constantAt(3, 3*time.Second), out: endedBy(load.EndedByDuration, 3*time.Second),
			results: openLoop(3, 3*time.Second, quick), requests: 3, tokens: 30, inFlight: 3 * 0.145, within: 0.02,
		},
		"constant, a rate that does not divide the stage": {
			stage: constantAt(7.3, 2*time.Second), out: endedBy(load.EndedByDuration, 2*time.Second),
			results: openLoop(7.3, 2*time.Second, quick), requests: 7.3, tokens: 73, inFlight: 7.3 * 0.145, within: 0.02,
		},
		"constant, ended by the number of requests": { // the last of 20 leaves at 1.9 s and ends at 2.045 s
			stage: constantAt(10, time.Minute), out: endedBy(load.EndedByRequests, 2045*milli),
			results:  openLoop(10, 1950*milli, answer{ttft: 100 * milli, gap: 5 * milli, tokens: 10})[:19],
			requests: 10, tokens: 100, inFlight: 1.45,
		},
		"constant, lengths differ": { // 10 and 30 tokens, 145 and 245 ms
			stage: constantAt(10, 2*time.Second), out: endedBy(load.EndedByDuration, 2*time.Second),
			results:  mixed(openLoop(10, 2*time.Second, quick), openLoop(10, 2*time.Second, long)),
			requests: 10, tokens: 200, inFlight: 1.95, within: 0.04, // the window has an odd number of gaps
		},
		"constant, every second request fails halfway": { // 5 × 10 and 5 × 5 tokens/s; half of them for 120 ms only
			stage: constantAt(10, 2*time.Second), out: endedBy(load.EndedByDuration, 2*time.Second),
			results:  failing(openLoop(10, 2*time.Second, quick)),
			requests: 5, tokens: 75, inFlight: 5*0.145 + 5*0.120, within: 0.06,
		},
		"constant, two tokens an event and only their total known": {
			stage: constantAt(10, 2*time.Second), out: endedBy(load.EndedByDuration, 2*time.Second),
			results: merged(openLoop(10, 2*time.Second, counted)), requests: 10, tokens: 200, inFlight: 1.95, within: 0.02,
		},
		"constant, less than one request in the stage": { // one answer of 145 ms says nothing of 6.9 a second
			stage: constantAt(0.3, 3*time.Second), out: endedBy(load.EndedByDuration, 3*time.Second),
			results: openLoop(0.3, 3*time.Second, quick), requests: 0.3, tokens: 3, inFlight: 0.3 * 0.145,
		},
		"constant, no more than one request": {
			stage: constantAt(0.5, time.Minute), out: endedBy(load.EndedByRequests, 145*milli),
			results: openLoop(0.5, time.Second, quick), requests: 0.5, tokens: 5, inFlight: 0.5 * 0.145,
		},
		"constant, all are sent before the first is done": { // 10 in 10 gaps of 1 ms; the last is done after 154 ms
			stage: constantAt(1000, time.Minute), out: endedBy(load.EndedByRequests, 154*milli),
			results: openLoop(1000, time.Second, quick)[:10], requests: 10 / 0.154, tokens: 100 / 0.154, inFlight: -1,
		},
		"constant, overloaded": { // two places of 145 ms serve 13.8 of 30 requests/s, and ever more wait
			stage: constantAt(30, 4*time.Second), out: endedBy(load.EndedByDuration, 4*time.Second),
			results: queue(30, 2, 4*time.Second, quick), requests: 2 / 0.145, tokens: 20 / 0.145, within: 0.02, inFlight: -1,
		},
		"synchronous, up to the last completion": { // six whole requests in 870 ms; the seventh is cut off
			stage: synchronousFor(time.Second), out: endedBy(load.EndedByDuration, time.Second),
			results: waves(1, time.Second, quick), requests: 1 / 0.145, tokens: 10 / 0.145, inFlight: 1,
		},
		"throughput, the second half where the rate did not settle": {
			stage: throughputFor(2 * time.Second), out: endedBy(load.EndedByDuration, 2*time.Second), settled: &settler{},
			results: waves(8, 2*time.Second, quick), requests: 8 / 0.145, tokens: 80 / 0.145, within: 0.05, inFlight: 8,
		},
		"throughput, the second half where the first had less to do": {
			stage: throughputFor(2 * time.Second), out: endedBy(load.EndedByDuration, 2*time.Second), settled: &settler{},
			results: growing, requests: 8 / 0.145, tokens: 80 / 0.145, within: 0.1, inFlight: 8,
		},
		"throughput, the settled windows": { // three waves of 145 ms, from the middle of one
			stage: throughputFor(2 * time.Second), out: endedBy(load.EndedByStop, time.Second),
			settled: &settler{settled: true, window: [2]time.Duration{200 * milli, 635 * milli}},
			results: waves(8, time.Second, quick), requests: 8 / 0.145, tokens: 80 / 0.145, inFlight: 8,
		},
		"throughput, ended by the number of requests": { // places stay free from the last send on, at 1.015 s
			stage: throughputFor(time.Minute), out: endedBy(load.EndedByRequests, 1160*milli), settled: &settler{},
			results: waves(8, 1150*milli, quick)[:58], requests: 8 / 0.145, tokens: 80 / 0.145, within: 0.05, inFlight: 8,
		},
		"throughput, all requests at once and no more": { // 8 in 145 ms
			stage: throughputFor(time.Minute), out: endedBy(load.EndedByRequests, 145*milli), settled: &settler{},
			results: waves(8, 140*milli, answer{ttft: 100 * milli, gap: 4 * milli, tokens: 10}), requests: 8 / 0.136,
			tokens: 80 / 0.136, within: 0.05, inFlight: 8,
		},
		"nothing completed": { // five tokens of each of two requests within a second
			stage: constantAt(2, time.Second), out: endedBy(load.EndedByDuration, time.Second),
			results: []*probe.Result{
				answer{ttft: 100 * milli, gap: 50 * milli, tokens: 100, cut: 350 * milli}.result(),
				answer{sent: 500 * milli, ttft: 100 * milli, gap: 50 * milli, tokens: 100, cut: 850 * milli}.result(),
			}, requests: 0, tokens: 10, inFlight: 1.5,
		},
		"nothing sent": {stage: constantAt(2, time.Second), out: endedBy(load.EndedByDuration, time.Second)},
	} {
		t.Run(name, func(t *testing.T) {
			s := collect(test.results...).summarise(test.stage, test.out, test.settled)
			for _, v := range []struct {
				what      string
				got, want float64
			}{
				{"requests/s", s.RequestsPerSecond, test.requests},
				{"tokens/s", s.OutputTokensPerSecond, test.tokens},
				{"in flight", s.InFlight, test.inFlight},
			} {
				if v.want >= 0 && !(math.Abs(v.got-v.want) <= max(test.within, 1e-6)*v.want) {
					t.Errorf("%.4f %s, want %.4f, over [%s, %s)", v.got, v.what, v.want, s.WindowStart, s.WindowEnd)
				}
			}
		})
	}
}

func TestSummary(t *testing.T) {
	whole := answer{ttft: 100 * milli, gap: 10 * milli, tokens: 5, overhead: 8} // 140 ms
	retried := answer{sent: 200 * milli, ttft: 50 * milli, gap: 20 * milli, tokens: 3, overhead: 8}.result()
	retried.Retries, retried.CachedTokens = 1, 32
	byEvents := answer{sent: 400 * milli, ttft: 80 * milli, gap: 10 * milli, tokens: 4, overhead: -100}.result()
	byEvents.TokenSource = probe.TokensFromEvents
	unsent := &probe.Result{
		Request: &probe.Request{Due: epoch.Add(time.Second)}, Outcome: probe.Failed, Reason: probe.ReasonClientOverload,
	}
	s := collect(
		whole.result(), retried, byEvents,
		answer{sent: 600 * milli, ttft: 100 * milli, gap: 10 * milli, tokens: 50, cut: 750 * milli}.result(), // 5 tokens
		answer{sent: 700 * milli, ttft: 100 * milli, gap: 10 * milli}.failed(probe.ReasonTruncated, 2),
		answer{sent: 800 * milli}.failed(probe.ReasonHTTP5xx, 0),
		answer{sent: 900 * milli}.failed(probe.ReasonHTTP5xx, 0),
		unsent,
	).summarise(constantAt(5, time.Second), endedBy(load.EndedByDuration, time.Second), nil)

	want := probe.Stage{
		Name: "constant-1", Profile: probe.ProfileConstant, TargetRate: 5, Started: epoch, Ended: epoch.Add(time.Second),
		Completed: 3, Failed: 4, Incomplete: 1,
		Failures: map[probe.Reason]int{
			probe.ReasonTruncated: 1, probe.ReasonHTTP5xx: 2, probe.ReasonClientOverload: 1,
		},
		FailureDetails: map[probe.Reason]string{probe.ReasonTruncated: "because", probe.ReasonHTTP5xx: "because"},
		Retries:        1, IncompleteOutputTokens: 5, CachedTokens: 32, TokensByEvents: 1,
	}
	var distributions probe.Distribution
	ignored := cmpopts.IgnoreTypes(distributions)
	rates := cmpopts.IgnoreFields(probe.Stage{},
		"RequestsPerSecond", "OutputTokensPerSecond", "WindowStart", "WindowEnd", "InFlight")
	if diff := cmp.Diff(want, s, ignored, rates); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for name, test := range map[string]struct {
		got       probe.Distribution
		count     int
		min, mean float64
	}{
		"prompt tokens":              {s.PromptTokens, 3, 100, 100},
		"prompt tokens by server":    {s.ServerPromptTokens, 2, 108, 108},
		"output tokens":              {s.OutputTokens, 3, 3, 4},               // 5, 3, 4
		"request duration":           {s.RequestDuration, 3, 0.090, 0.34 / 3}, // 140, 90, 110 ms
		"time to first token":        {s.TimeToFirstToken, 3, 0.050, 0.23 / 3},
		"time to first answer token": {s.TimeToFirstAnswerToken, 3, 0.050, 0.23 / 3},
		"inter-token latency":        {s.InterTokenLatency, 4 + 2 + 3, 0.010, 0.11 / 9}, // 7 × 10 ms, 2 × 20 ms
		"time per output token":      {s.TimePerOutputToken, 3, 0.010, 0.04 / 3},
		"stall":                      {s.StreamStall, 3, 0.010, 0.04 / 3},
		"schedule delay":             {s.ScheduleDelay, 0, 0, 0},
		"receive lag":                {s.ReceiveLag, 0, 0, 0},
	} {
		if test.got.Count != test.count || !near(test.got.Min, test.min) || !near(test.got.Mean, test.mean) {
			t.Errorf("%s: %d, at least %v, %v on average; want %d, %v, %v", name,
				test.got.Count, test.got.Min, test.got.Mean, test.count, test.min, test.mean)
		}
	}
}

// TestTokensAddUp: every output token has its place on the timeline, whatever the server counted and how it ended.
func TestTokensAddUp(t *testing.T) {
	plain := answer{ttft: 100 * milli, gap: 10 * milli, tokens: 8}
	total := plain.result()
	total.OutputTokens = 20 // in 8 events
	counted := plain.result()
	for i := range counted.Arrivals {
		counted.Arrivals[i].Tokens = i // the first event holds a token that the server did not count
	}
	counted.OutputTokens = 28 + 1
	silent := plain.result()
	silent.Arrivals, silent.FirstToken, silent.LastToken, silent.OutputTokens = nil, 0, 0, 7  // no event showed its token
	cut := answer{ttft: 100 * milli, gap: 10 * milli, tokens: 100, cut: 125 * milli}.result() // 3 tokens

	for name, test := range map[string]struct {
		result         *probe.Result
		tokens, served float64
	}{
		"a token an event":          {plain.result(), 8, 1},
		"several, total known":      {total, 20, 1},
		"several, each known":       {counted, 29, 1},
		"without an event":          {silent, 7, 1},
		"incomplete, 3 of 100":      {cut, 3, 0.03},
		"failed after 4":            {plain.failed(probe.ReasonTruncated, 4), 4, 0},
		"failed without an arrival": {plain.failed(probe.ReasonTimeoutFirstToken, 0), 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			c := collect(test.result)
			tokens, served := c.line.tokens(0, time.Minute), c.line.served(0, time.Minute, c.worth())
			if !near(tokens, test.tokens) || !near(served, test.served) {
				t.Errorf("%v tokens and %v requests' worth, want %v and %v", tokens, served, test.tokens, test.served)
			}
		})
	}
}

func TestFailedRequestsAreInFlightUntilTheyEnd(t *testing.T) {
	c := newCollector(epoch, probe.Objectives{})
	c.now = func() time.Time { return epoch.Add(800 * milli) } // a limit ended it after 700 ms of silence
	c.Record(answer{sent: 100 * milli}.failed(probe.ReasonTimeoutFirstToken, 0))
	if got := c.line.inFlight(0, time.Second); !near(got, 0.7) {
		t.Errorf("%v in flight, want 0.7", got)
	}
}

func TestOwnDelays(t *testing.T) {
	reused := answer{
		sent: 1003 * milli, due: time.Second, ttft: 100 * milli, gap: 10 * milli, tokens: 3, lag: 2 * milli,
	}.result()
	fresh := answer{sent: 1103 * milli, due: 1100 * milli, ttft: 100 * milli, tokens: 1}.result()
	fresh.NewConn, fresh.Phases = true, probe.Phases{DNS: milli, Connect: milli / 2, TLS: milli / 2}
	failed := answer{sent: 1203 * milli}.failed(probe.ReasonHTTP5xx, 0)
	failed.NewConn, failed.Phases = true, probe.Phases{Connect: 3 * milli / 2} // to an address, without TLS
	c := collect(reused, fresh, failed)
	s := c.summarise(constantAt(10, 2*time.Second), endedBy(load.EndedByDuration, 2*time.Second), nil)
	for name, test := range map[string]struct{ got, want float64 }{
		"new connections":    {float64(s.NewConnections), 2},
		"look-ups":           {float64(s.DNS.Count), 1},
		"look-ups, mean":     {s.DNS.Mean, 0.001},
		"connects":           {float64(s.Connect.Count), 2},
		"connects, mean":     {s.Connect.Mean, 0.001},
		"handshakes":         {float64(s.TLS.Count), 1},
		"handshakes, mean":   {s.TLS.Mean, 0.0005},
		"delay of our own":   {c.delay.Mean(), (0.003 + 0.001) / 2},
		"lag, count":         {float64(c.lag.Count()), 3},
		"lag, mean":          {c.lag.Mean(), 0.002},
		"first tokens, late": {float64(c.firstError.Count()), 2},
		"late reads":         {float64(c.reads.late), 2},
	} {
		if !near(test.got, test.want) {
			t.Errorf("%s: %v, want %v", name, test.got, test.want)
		}
	}
}

func TestTurnover(t *testing.T) {
	c := collect(
		answer{ttft: 300 * milli, gap: 10 * milli, tokens: 11}.result(), // 100 ms from the first token to the end
		answer{ttft: 200 * milli, gap: 20 * milli, tokens: 11}.result(), // 200 ms
	)
	if n, period := c.turnover(); n != 2 || period != 350*milli { // the shorter prefill and the mean of the rest
		t.Errorf("%d completed, renewed every %s; want 2, 350ms", n, period)
	}
	if n, period := newCollector(epoch, probe.Objectives{}).turnover(); n != 0 || period != 0 {
		t.Errorf("%d completed, renewed every %s before the first", n, period)
	}
}

func TestWorstFailure(t *testing.T) {
	c := collect(
		answer{}.failed(probe.ReasonReset, 0),
		answer{}.failed(probe.ReasonConnect, 0), answer{}.failed(probe.ReasonConnect, 0),
	)
	if reason, example := c.worstFailure(); reason != probe.ReasonConnect || example != "because" {
		t.Errorf("%q (%s)", reason, example)
	}
}

// TestRecordConcurrently is for the race detector, and for counts that add up.
func TestRecordConcurrently(t *testing.T) {
	const workers, each = 8, 50
	c := newCollector(epoch, probe.Objectives{})
	var recording sync.WaitGroup
	for w := range workers {
		recording.Go(func() {
			for i := range each {
				a := answer{sent: time.Duration(w*each+i) * milli, ttft: 10 * milli, gap: milli, tokens: 5}
				if i%5 == 0 {
					c.Record(a.failed(probe.ReasonReset, 1))
				} else {
					c.Record(a.result())
				}
				c.turnover()
				c.counts()
				c.worstFailure()
			}
		})
	}
	recording.Wait()
	if done, failed := c.counts(); done != workers*each*4/5 || failed != workers*each/5 {
		t.Errorf("%d completed, %d failed", done, failed)
	}
	if got := c.line.tokens(0, time.Minute); !near(got, workers*each*(4*5+1)/5) {
		t.Errorf("%v tokens", got)
	}
}

// TestOrderDoesNotMatter: requests are recorded as they end, and from many goroutines.
func TestOrderDoesNotMatter(t *testing.T) {
	for name, test := range map[string]struct {
		stage   named
		results []*probe.Result
	}{
		"open loop":   {constantAt(10, 2*time.Second), openLoop(10, 2*time.Second, plain)},
		"synchronous": {synchronousFor(2 * time.Second), waves(1, 2*time.Second, plain)},
	} {
		summary := func() probe.Stage {
			return collect(test.results...).summarise(test.stage, endedBy(load.EndedByDuration, 2*time.Second), nil)
		}
		forth := summary()
		slices.Reverse(test.results)
		if diff := cmp.Diff(forth, summary(), cmpopts.EquateApprox(1e-9, 0)); diff != "" {
			t.Errorf("%s: (-in order +in reverse):\n%s", name, diff)
		}
	}
}
