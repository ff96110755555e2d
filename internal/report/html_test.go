package report

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	xhtml "golang.org/x/net/html"

	"github.com/inferprobe/inferprobe/internal/probe"
)

func page(t *testing.T, cycles ...*probe.Cycle) string {
	t.Helper()
	var b bytes.Buffer
	if err := WriteHTML(&b, cycles...); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestHTMLGolden(t *testing.T) {
	golden(t, "cycles.html", []byte(page(t, seedCycle(t), troubledCycle(t), unreachableCycle(t))))
	for name, cycles := range map[string][]*probe.Cycle{"empty": {{}}, "no cycles": nil} {
		if got := page(t, cycles...); !strings.Contains(got, "<title>inferprobe Benchmark Report</title>") {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// hostileCycle has markup wherever text from elsewhere can be.
func hostileCycle(t *testing.T) *probe.Cycle {
	t.Helper()
	const evil = "</style><script>alert(1)</script><img src=x onerror=alert(1)>\"'&\x1b[31m\u202e\u009b"
	c := seedCycle(t)
	c.ID, c.Server, c.Endpoint = evil, evil, probe.Endpoint{Name: evil, Model: evil, URL: "javascript:" + evil}
	c.Workload.API, c.Workload.Tokenizer, c.Workload.ExtraBody, c.Profile = evil, evil, evil, probe.Profile(evil)
	c.Skipped = []probe.Skip{{Stage: evil, Reason: evil, Detail: evil}}
	c.Failure = &probe.CycleFailure{Reason: evil, Detail: evil}
	s := &c.Stages[0]
	s.Name, s.Profile, s.Failed = evil, probe.Profile(evil), 1
	s.Failures = map[probe.Reason]int{evil: 1}
	s.FailureDetails = map[probe.Reason]string{evil: evil}
	s.Findings = []probe.Finding{{Name: evil, Detail: evil, Invalidates: true}}
	return c
}

// TestHTMLIsSelfContained: nothing of a page comes from elsewhere, runs, or is cut off, whatever servers say.
func TestHTMLIsSelfContained(t *testing.T) {
	known := strings.Fields(`html head meta title style body nav ul li a span article header h1 h2 p dl div dt dd figure
		svg desc path circle text figcaption i section table caption thead tbody tr th td br`)
	attributes := strings.Fields("lang charset name content http-equiv class id href role aria-labelledby viewbox d x y " +
		"cx cy r scope transform stroke-dasharray")
	ids := map[string]bool{}
	text := page(t, hostileCycle(t), seedCycle(t), troubledCycle(t), unreachableCycle(t))
	for tokens := xhtml.NewTokenizer(strings.NewReader(text)); ; {
		kind := tokens.Next()
		if kind == xhtml.ErrorToken {
			break
		}
		token := tokens.Token()
		if kind != xhtml.StartTagToken && kind != xhtml.SelfClosingTagToken {
			continue
		}
		if !contains(known, token.Data) {
			t.Errorf("element <%s>", token.Data)
		}
		for _, a := range token.Attr {
			switch {
			case !contains(attributes, strings.ToLower(a.Key)):
				t.Errorf("attribute %s of <%s>", a.Key, token.Data)
			case a.Key == "href" && !strings.HasPrefix(a.Val, "#"):
				t.Errorf("a link to %s", a.Val)
			case a.Key == "id" && ids[a.Val]:
				t.Errorf("two elements are %s", a.Val)
			case a.Key == "id":
				ids[a.Val] = true
			}
		}
	}
	for _, bad := range []string{"…", "url(", "@import", "\x1b", "\u202e", "\u009b", "NaN", "ZgotmplZ"} {
		if strings.Contains(text, bad) {
			t.Errorf("the page has %q", bad)
		}
	}
	for _, id := range regexp.MustCompile(`aria-labelledby="([^"]*)"`).FindAllStringSubmatch(text, -1) {
		for _, label := range strings.Fields(id[1]) {
			if !ids[label] {
				t.Errorf("no element is %s", label)
			}
		}
	}
}

func contains(all []string, s string) bool {
	for _, one := range all {
		if one == s {
			return true
		}
	}
	return false
}

// TestHTMLTables: the page has the titles, labels and figures of the text report.
func TestHTMLTables(t *testing.T) {
	c := seedCycle(t)
	text := page(t, c)
	for _, table := range tables(ordered(c.Stages)) {
		if !strings.Contains(text, "<h2>"+table.title+"</h2>") {
			t.Errorf("there is no table %s", table.title)
		}
		for _, row := range table.rows {
			for _, cell := range row {
				for _, figure := range strings.Split(cell, ", ") {
					if !strings.Contains(text, ">"+figure+"</t") {
						t.Errorf("%s lacks %s", table.title, figure)
					}
				}
			}
		}
	}
}

func TestHTMLPart(t *testing.T) {
	style, body, err := HTMLPart(hostileCycle(t))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(strings.TrimSpace(body), "<article") || strings.Contains(body, "<script") {
		t.Errorf("got %s", body)
	}
	// Outside of the report it may colour the page behind it, no more.
	for _, rule := range regexp.MustCompile(`(?m)^\t?([^\t@{}-][^{}]*) \{`).FindAllStringSubmatch(style, -1) {
		for _, selector := range strings.Split(rule[1], ",") {
			if !strings.Contains(selector, ".report") {
				t.Errorf("the rule for %s reaches outside of the report", selector)
			}
		}
	}
}

func TestFigures(t *testing.T) {
	c := seedCycle(t)
	var got []string
	for _, f := range figures(c, ordered(c.Stages)) {
		got = append(got, f.Description)
	}
	want := []string{
		"Time to First Token in ms by requests per second. p50: 62.1 at 0.85, 6827 at 20.1. " +
			"p90: 63.6 at 0.85, 14005 at 20.1. p99: 69.3 at 0.85, 15808 at 20.1. objective for p90: 500.",
		"Inter Token Latency in ms by requests per second. p50: 8.7 at 0.85, 19.8 at 20.1. " +
			"p90: 8.9 at 0.85, 54.4 at 20.1. p99: 9.4 at 0.85, 150 at 20.1.",
		"Output Token Throughput in tokens/s by requests per second. output tokens: 108 at 0.85, 2169 at 20.1. " +
			"throughput benchmark: 2566.",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	one := &probe.Cycle{Stages: c.Stages[:1]}
	if f := figures(one, one.Stages); len(f) > 0 {
		t.Errorf("of one rate there are charts: %v", f)
	}
	c.Objectives.TimeToFirstTokenP90 = time.Nanosecond // far below anything measured
	for _, f := range figures(c, ordered(c.Stages)) {
		if _, err := f.SVG("id"); err != nil {
			t.Error(err)
		}
	}
}

func TestAxes(t *testing.T) {
	labels := func(a axis) string {
		var all []string
		for _, tick := range a.ticks {
			all = append(all, tick.Label)
		}
		return strings.Join(all, " ")
	}
	for _, tt := range []struct{ got, want string }{
		{labels(newLinearAxis(20.09, 8)), "0 5 10 15 20 25"},
		{labels(newLinearAxis(0.3, 6)), "0 0.05 0.1 0.15 0.2 0.25 0.3"},
		{labels(newLinearAxis(1, 6)), "0 0.2 0.4 0.6 0.8 1"},
		{labels(newLinearAxis(0, 6)), "0 0.2 0.4 0.6 0.8 1"},
		{labels(newLinearAxis(2566, 6)), "0 500 1000 1500 2000 2500 3000"},
		{labels(newLogarithmicAxis(62, 15808)), "50 100 200 500 1000 2000 5000 10000 20000"},
		{labels(newLogarithmicAxis(0.02, 10)), "0.02 0.05 0.1 0.2 0.5 1 2 5 10"},
		{labels(newLogarithmicAxis(0.001, 20000)), "0.001 0.01 0.1 1 10 100 1000 10000 100000"},
	} {
		if tt.got != tt.want {
			t.Errorf("got %s, want %s", tt.got, tt.want)
		}
	}
	for _, v := range []float64{1e-9, 3e-300, 7, 1e15, 1e300} {
		if n := len(newLinearAxis(v, 6).ticks); n < 2 || n > 12 {
			t.Errorf("%v: %d ticks", v, n)
		}
	}
}

func ExampleHTMLPart() {
	_, body, _ := HTMLPart(&probe.Cycle{Endpoint: probe.Endpoint{Name: "<llama>"}})
	fmt.Println(strings.Contains(body, "<h1>&lt;llama&gt;</h1>"))
	// Output: true
}
