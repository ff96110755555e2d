package report

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/inferprobe/inferprobe/internal/probe"
)

// TestFindingsInWords: no reader should meet the identifier of a finding, and no two of them should read the same.
func TestFindingsInWords(t *testing.T) {
	seen := map[string]probe.FindingName{}
	for _, name := range probe.FindingNames() {
		text := inWords(name)
		if text == string(name) || strings.Contains(text, "_") {
			t.Errorf("%s has no text: %q", name, text)
		}
		if other, taken := seen[text]; taken {
			t.Errorf("%s and %s have the same text: %q", name, other, text)
		}
		seen[text] = name
	}
}

func invalid(name probe.FindingName) []probe.Finding {
	return []probe.Finding{{Name: name, Invalidates: true}}
}

// TestObjectivesInWords: what could not be judged is no verdict on the endpoint.
func TestObjectivesInWords(t *testing.T) {
	within := func(findings []probe.Finding) probe.Stage {
		return probe.Stage{Name: probe.StageSynchronous, Profile: probe.ProfileSynchronous, Completed: 40, Findings: findings,
			TimeToFirstToken: probe.Distribution{Count: 40, P90: 30}}
	}
	beyond := within(nil)
	beyond.TimeToFirstToken.P90, beyond.TimeToFirstTokenExcess = 90, probe.Excess{Share: 0.3, Samples: 40}
	slowed := beyond
	slowed.Findings = invalid(probe.FindingCPUThrottled)
	throughput := probe.Stage{Name: probe.StageThroughput, Profile: probe.ProfileThroughput, Completed: 20}
	const unjudged = "could not be judged: no benchmark that has a rate of its own can tell"
	for name, test := range map[string]struct {
		stages            []probe.Stage
		rate              float64
		text, json, class string
	}{
		"met":      {[]probe.Stage{within(nil)}, 1.5, "met up to 1.50 req/sec", "1.5", "good"},
		"violated": {[]probe.Stage{beyond}, 0, "met at no rate", "0", "bad"},
		"few":      {[]probe.Stage{within(invalid(probe.FindingTooFewSamples)), throughput}, 0, unjudged, "null", "warn"},
		"our CPU":  {[]probe.Stage{slowed}, 0, unjudged, "null", "warn"},
		"throughput": {[]probe.Stage{throughput}, 0, "could not be judged: no benchmark has a rate of its own", "null",
			"warn"},
	} {
		t.Run(name, func(t *testing.T) {
			c := &probe.Cycle{Profile: probe.ProfileSweep, Stages: test.stages,
				Objectives: probe.Objectives{TimeToFirstTokenP90: time.Minute},
				Capacity:   probe.Capacity{ObjectiveRequestsPerSecond: test.rate}}
			if got := text(t, c, 200); !strings.Contains(got, "  Objectives  "+test.text+"  ") {
				t.Errorf("want %q in\n%s", test.text, got)
			}
			var b bytes.Buffer
			if err := WriteJSON(&b, c); err != nil {
				t.Fatal(err)
			}
			if want := `"objective_requests_per_second": ` + test.json + ","; !strings.Contains(b.String(), want) {
				t.Errorf("want %s in\n%s", want, b.String())
			}
			if got := verdictOn(t, c, "Objectives"); got.Class != test.class {
				t.Errorf("on the page: %+v, want %s", got, test.class)
			}
		})
	}
}

// TestCapacityMarked: a rate that is not to be relied on says so beside it.
func TestCapacityMarked(t *testing.T) {
	for name, test := range map[string]struct {
		findings    []probe.Finding
		want, class string
	}{
		"valid":       {nil, "3.76 req/sec, 481.00 tokens/sec", ""},
		"not settled": {invalid(probe.FindingNotSettled), "3.76 req/sec, 481.00 tokens/sec (not settled)", "warn"},
		"throttled":   {invalid(probe.FindingCPUThrottled), "3.76 req/sec, 481.00 tokens/sec (not valid)", "warn"},
		"a note":      {[]probe.Finding{{Name: probe.FindingNotSettled}}, "3.76 req/sec, 481.00 tokens/sec", ""},
	} {
		t.Run(name, func(t *testing.T) {
			c := &probe.Cycle{Profile: probe.ProfileThroughput,
				Stages: []probe.Stage{
					{Name: probe.StageSynchronous, Profile: probe.ProfileSynchronous, Findings: invalid(probe.FindingReceiveLag)},
					{Name: probe.StageThroughput, Profile: probe.ProfileThroughput, Findings: test.findings}},
				Capacity: probe.Capacity{RequestsPerSecond: 3.76, OutputTokensPerSecond: 481}}
			if got := verdictOn(t, c, "Capacity"); got.Text != test.want || got.Class != test.class {
				t.Errorf("%+v, want %q, %q", got, test.want, test.class)
			}
		})
	}
}

// TestTimeToFirstAnswerToken: where a model reasons first, the report says when its answer began, marks percentiles of
// too few answers and explains the mark.
func TestTimeToFirstAnswerToken(t *testing.T) {
	const title = "Time to First Answer Token, past the Reasoning [50%, 90%, 99%] (ms)"
	first := probe.Distribution{Count: 400, P50: 0.05, P90: 0.06, P99: 0.07}
	answer := func(n int) probe.Distribution { return probe.Distribution{Count: n, P50: 0.5, P90: 0.6, P99: 0.7} }
	for name, test := range map[string]struct {
		completed int
		answers   probe.Distribution
		want      string // "" = no section
		marked    bool
	}{
		"no reasoning":         {400, first, "", false},
		"every request":        {400, answer(400), "500.0, 600.0, 700.0", false},
		"not every request":    {400, answer(40), "500.0, 600.0, ~700.0; 360 of 400 requests ended within their reasoning", true},
		"no request":           {400, probe.Distribution{}, "-; 400 of 400 requests ended within their reasoning", false},
		"nothing was measured": {0, probe.Distribution{}, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			s := probe.Stage{Name: "constant-1", Profile: probe.ProfileConstant, TargetRate: 2, Completed: test.completed,
				TimeToFirstToken: first, TimeToFirstAnswerToken: test.answers}
			if test.completed == 0 {
				s.TimeToFirstToken = probe.Distribution{}
			}
			c := &probe.Cycle{Stages: []probe.Stage{s}}
			got, row := text(t, c, 200), "asynchronous@2.00 req/sec  "+test.want
			if strings.Contains(got, title) != (test.want != "") || test.want != "" && !strings.Contains(got, "  "+row+"  ") {
				t.Errorf("want %q in\n%s", row, got)
			}
			if strings.Contains(got, footnoteStart) != test.marked {
				t.Errorf("the mark is explained where there is none, or is not:\n%s", got)
			}
			if got := page(t, c); strings.Contains(got, "<h2>"+title+"</h2>") != (test.want != "") ||
				!strings.Contains(got, ">"+test.want+"<") || strings.Contains(got, footnoteStart) != test.marked {
				t.Errorf("want %q on the page\n%s", test.want, got)
			}
		})
	}
}

const footnoteStart = "~ too few requests for this percentile"

// TestConnectionsInWords: what connections took is of all stages, and only of what was there to take time.
func TestConnectionsInWords(t *testing.T) {
	times := func(n int, mean, most float64) probe.Distribution {
		return probe.Distribution{Count: n, Mean: mean, Max: most}
	}
	for name, test := range map[string]struct {
		stages []probe.Stage
		want   string
	}{
		"of one stage, to an address": {[]probe.Stage{{NewConnections: 1, Connect: times(1, 2e-4, 2e-4)}},
			"1 new, mean (max): connect 0.20 (0.20) ms; not part of any latency"},
		"of two, with TLS": {
			[]probe.Stage{{}, {NewConnections: 1, DNS: times(1, 5e-4, 5e-4), Connect: times(1, 4e-4, 4e-4), TLS: times(1, 0.01, 0.01)},
				{NewConnections: 3, Connect: times(3, 2e-4, 3e-4), TLS: times(3, 6e-3, 0.0125)}},
			"4 new, mean (max): DNS 0.50 (0.50) ms, connect 0.25 (0.40) ms, TLS 7.00 (12.50) ms; not part of any latency"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := verdictOn(t, &probe.Cycle{Stages: test.stages}, "Connections"); got.Text != test.want || got.Class != "" {
				t.Errorf("%+v, want %q", got, test.want)
			}
		})
	}
	if got := text(t, seedCycle(t), 200); strings.Contains(got, "Connections") {
		t.Errorf("there were none:\n%s", got)
	}
}

// verdictOn returns what the page says first about key.
func verdictOn(t *testing.T, c *probe.Cycle, key string) verdict {
	t.Helper()
	page, err := newCyclePage(c, "cycle")
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range page.Verdict {
		if v.Key == key {
			return v
		}
	}
	t.Fatalf("nothing on %s in %+v", key, page.Verdict)
	return verdict{}
}
