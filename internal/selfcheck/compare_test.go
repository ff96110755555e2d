package selfcheck

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/inferprobe/inferprobe/internal/probe"
	"github.com/inferprobe/inferprobe/internal/sim"
)

var start = time.Unix(1_700_000_000, 0)

// write is a write so long after the request was received.
type write struct {
	after  time.Duration
	tokens int
}

// record is a request that was received at an offset from start and got writes.
func record(id string, received time.Duration, writes ...write) sim.Record {
	r := sim.Record{RequestID: id, Received: start.Add(received)}
	for _, w := range writes {
		at := r.Received.Add(w.after)
		r.OutputTokens += w.tokens
		r.Writes = append(r.Writes, sim.Write{Before: at, After: at, Tokens: w.tokens})
	}
	return r
}

func TestTruth(t *testing.T) {
	const ms = time.Millisecond
	for _, test := range []struct {
		name                  string
		writes                []write
		ttft, duration, stall float64 // ms
		gaps                  []float64
	}{
		{"a role event before, usage after", []write{{ms, 0}, {60 * ms, 1}, {69 * ms, 1}, {80 * ms, 0}},
			60, 69, 9, []float64{9}},
		{"several tokens an event", []write{{60 * ms, 1}, {100 * ms, 4}}, 60, 100, 40, []float64{10, 10, 10, 10}},
		{"a stall", []write{{60 * ms, 1}, {369 * ms, 1}, {378 * ms, 1}}, 60, 378, 309, []float64{309, 9}},
		{"a burst is one arrival", []write{{60 * ms, 1}, {80 * ms, 1}, {80*ms + ms/20, 1}, {80*ms + ms/10, 1}, {90*ms + ms/10, 1}},
			60, 90.1, 20.1, []float64{6.7, 6.7, 6.7, 10}},
		{"so is one at the start", []write{{60 * ms, 1}, {60*ms + ms/20, 1}, {69 * ms, 1}}, 60, 69, 8.95, []float64{8.95}},
		{"a short gap is a gap", []write{{60 * ms, 1}, {60*ms + ms/10, 1}}, 60, 60.1, 0.1, []float64{0.1}},
		{"one token", []write{{60 * ms, 1}}, 60, 60, 0, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := record("", 0, test.writes...)
			got := truthOf(&r)
			near := func(a, b float64) bool { return math.Abs(1000*a-b) < 1e-6 }
			if !near(got.ttft, test.ttft) || !near(got.duration, test.duration) || !near(got.stall, test.stall) ||
				!slices.EqualFunc(got.gaps, test.gaps, near) {
				t.Errorf("%+v", got)
			}
		})
	}
}

// TestTruthOfSlowWrites: what a write sends leaves the server before it returns, and maybe only then.
func TestTruthOfSlowWrites(t *testing.T) {
	const ms = time.Millisecond
	r := record("", 0, write{60 * ms, 1}, write{69 * ms, 1}, write{78 * ms, 1})
	r.Writes[0].After = r.Writes[0].Before.Add(2 * ms)
	r.Writes[1].After = r.Writes[1].Before.Add(3 * ms)
	if got := truthOf(&r); math.Abs(got.stall-0.009) > 1e-9 || math.Abs(got.stallMost-0.012) > 1e-9 {
		t.Errorf("stall of %v s, %v s at most", got.stall, got.stallMost)
	}
}

// pairs is n requests, one every 100 ms, that the server received late and the client measured with an error.
func pairs(n int, late, ttftError func(i int) time.Duration) (*witness, []sim.Record) {
	w := new(witness)
	var records []sim.Record
	for i := range n {
		id, due := fmt.Sprint("r", i), start.Add(time.Duration(i)*100*time.Millisecond)
		w.seen = append(w.seen, seen{
			id: id, due: due, ttft: 60*time.Millisecond + ttftError(i), duration: 69 * time.Millisecond, completed: true,
		})
		records = append(records, record(id, due.Add(late(i)).Sub(start), write{60 * time.Millisecond, 1}, write{69 * time.Millisecond, 1}))
	}
	return w, records
}

func none(int) time.Duration { return 0 }

func TestCompareJoinsByID(t *testing.T) {
	// The record is in another order than what was seen, and errors of opposite sign cancel in the quantiles.
	w, records := pairs(10, none, func(i int) time.Duration { return time.Duration(1-2*(i%2)) * time.Millisecond })
	slices.Reverse(records)
	slices.SortFunc(w.seen, func(a, b seen) int { return strings.Compare(b.id, a.id) })
	w.seen = append(w.seen, seen{id: "failed", due: start})
	reported := &probe.Stage{TimeToFirstToken: probe.Distribution{P50: 0.060, P95: 0.061, P99: 0.062, Max: 0.063}}
	o, err := compare(&Scenario{Name: "s"}, reported, w, records)
	if err != nil {
		t.Fatal(err)
	}
	if o.Requests != 10 || o.Failed != 1 {
		t.Errorf("%d requests, %d failed", o.Requests, o.Failed)
	}
	near := func(a, b float64) bool { return math.Abs(a-b) < 1e-9 }
	if e := o.TTFT.Error; !near(e.P50, 0) || !near(e.P95, 0.001) || !near(e.P99, 0.002) || !near(e.Max, 0.003) {
		t.Errorf("errors %+v", e)
	}
	if s := o.TTFT.Single; !near(s.P50, 0.001) || !near(s.Max, 0.001) {
		t.Errorf("single errors %+v", s)
	}
	if o.E2E.Single.Max != 0 || !near(o.ITL.True.P50, 0.009) || !near(o.Stall.True.Max, 0.009) {
		t.Errorf("%+v", o)
	}
	if !near(o.Rate, 10) || o.GapCV > 1e-9 || o.Lateness.Max != 0 {
		t.Errorf("rate %v, CV %v, lateness %+v", o.Rate, o.GapCV, o.Lateness)
	}
}

func TestCompareSeesLateness(t *testing.T) {
	w, records := pairs(3, func(i int) time.Duration { return time.Duration(i%2) * 50 * time.Millisecond }, none)
	o, err := compare(&Scenario{}, new(probe.Stage), w, records)
	if err != nil {
		t.Fatal(err)
	}
	// Gaps of 150 and 50 ms.
	if math.Abs(o.GapCV-0.5) > 1e-9 || math.Abs(o.Lateness.Max-0.05) > 1e-9 {
		t.Errorf("CV %v, lateness %+v", o.GapCV, o.Lateness)
	}
}

func TestCompareRefuses(t *testing.T) {
	w, records := pairs(2, none, none)
	if _, err := compare(&Scenario{}, new(probe.Stage), w, records[:1]); err == nil || !strings.Contains(err.Error(), `"r1"`) {
		t.Errorf("a request without a record: %v", err)
	}
	for i := range w.seen {
		w.seen[i].completed = false
	}
	if _, err := compare(&Scenario{}, new(probe.Stage), w, records); err == nil {
		t.Error("nothing to compare, and no error")
	}
}

func TestQuantiles(t *testing.T) {
	var observed []float64
	for i := range 101 {
		observed = append(observed, float64(100-i))
	}
	if q := quantiles(observed); q != (Quantiles{50, 95, 99, 100}) {
		t.Errorf("%+v", q)
	}
	if q := quantiles([]float64{1, 2}); q != (Quantiles{1.5, 1.95, 1.99, 2}) {
		t.Errorf("%+v", q)
	}
	if q := quantiles(nil); q != (Quantiles{}) {
		t.Errorf("%+v", q)
	}
}

func TestVerdicts(t *testing.T) {
	invalid := probe.Stage{Findings: []probe.Finding{{Name: probe.FindingReceiveLag, Detail: "answers were late", Invalidates: true}}}
	within := func(low, high float64) probe.Stage {
		return probe.Stage{StreamStallP99: probe.Interval{Low: low, High: high}}
	}
	good := Comparison{True: Quantiles{0.06, 0.06, 0.06, 0.06}, Error: Quantiles{0.0009, -0.0009, 0.0009, 0.5}}
	off := func(e float64) Comparison {
		return Comparison{True: Quantiles{0.009, 0.009, 0.009, 0.009}, Error: Quantiles{P99: e}}
	}
	for _, test := range []struct {
		name     string
		outcome  Outcome
		doubts   string
		deceives string
	}{
		{"good", Outcome{TTFT: good, ITL: off(0.0004), E2E: good}, "", ""},
		{"off by more than a twentieth", Outcome{TTFT: good, ITL: off(-0.0005), E2E: good}, "ITL p99 is off by -0.50 ms", "ITL p99 -5.6 %"},
		{"off by more than a millisecond, but a little only", Outcome{TTFT: Comparison{
			True: Quantiles{1, 1, 1, 1}, Error: Quantiles{P95: 0.002, P99: 0.002},
		}, ITL: off(0), E2E: good}, "TTFT p95 is off by +2.00 ms; TTFT p99 is off by +2.00 ms", ""},
		{"the median too", Outcome{TTFT: good, ITL: Comparison{True: good.True, Error: Quantiles{P50: 0.01, P95: -0.01}}, E2E: good},
			"ITL p50 is off by +10.00 ms; ITL p95 is off by -10.00 ms", "ITL p50 +16.7 %, ITL p95 -16.7 %"},
		{"stalls are off", Outcome{TTFT: good, ITL: off(0), E2E: good, Stall: off(0.0005)}, "", "stall p99 +5.6 %"},
		{"stalls are short", Outcome{TTFT: good, ITL: off(0), E2E: good, Stall: off(-0.0005)}, "", "stall p99 -5.6 %"},
		{"by less than a write took", Outcome{TTFT: good, ITL: off(0), E2E: good, Stall: off(0.0005),
			StallMost: Quantiles{P99: 0.0095}}, "", ""},
		{"within the stage's bounds", Outcome{Stage: within(0.008, 0.012), TTFT: good, ITL: off(0), E2E: good, Stall: off(0.003)}, "", ""},
		{"beyond them", Outcome{Stage: within(0.010, 0.012), TTFT: good, ITL: off(0), E2E: good, Stall: off(0.003)}, "",
			"the bounds of stall p99 +11.1 %"},
		{"below them", Outcome{Stage: within(0.004, 0.006), TTFT: good, ITL: off(0), E2E: good, Stall: off(-0.003)}, "",
			"the bounds of stall p99 -33.3 %"},
		{"not valid", Outcome{Stage: invalid, TTFT: good, ITL: off(1), E2E: good}, "answers were late; ITL p99 is off by +1000.00 ms", ""},
		{"failures", Outcome{Failed: 2, TTFT: good, ITL: off(0), E2E: good}, "2 requests failed", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := strings.Join(test.outcome.Doubts(), "; "); got != test.doubts {
				t.Errorf("doubts %q", got)
			}
			if which, yes := test.outcome.Deceives(); which != test.deceives || yes != (test.deceives != "") {
				t.Errorf("deceives: %v %q", yes, which)
			}
		})
	}
}

func TestConclusion(t *testing.T) {
	for trusted, want := range map[float64]string{
		0:   "This host cannot be trusted, not even at 20 req/s.\n",
		500: "This host can be trusted up to 500 req/s (errors under 1 ms and 5 %).\n",
	} {
		if got := conclusion(trusted); got != want {
			t.Errorf("%q", got)
		}
	}
}

func TestProblems(t *testing.T) {
	good := Glance{WakeDelay: Quantiles{P99: GlanceLimit}, ReceiveLag: Quantiles{P99: GlanceLimit}, KernelTimes: true}
	if p := good.Problems(); len(p) != 0 {
		t.Errorf("%q", p)
	}
	bad := Glance{WakeDelay: Quantiles{P99: 0.0062}, ReceiveLag: Quantiles{P99: 0.0021}}
	want := []string{"sleeps end up to 6.2 ms late", "data wait up to 2.1 ms", "the kernel does not tell"}
	if p := bad.Problems(); len(p) != 3 || !slices.EqualFunc(p, want, strings.HasPrefix) {
		t.Errorf("%q", p)
	}
}

func TestScenarioFitsTheRecord(t *testing.T) {
	s := Scenario{Rate: 5000, Duration: time.Hour}
	if n := s.requests(); n >= sim.DefaultTruthRecords {
		t.Errorf("%d requests", n)
	}
	if target := s.target("http://sim"); target.Plan.MaxRequests != s.requests() || target.Plan.MaxInFlight < s.requests() {
		t.Errorf("%+v", target.Plan)
	}
}
