package boards

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/promql/parser"
	"go.yaml.in/yaml/v3"

	"github.com/inferprobe/inferprobe/internal/metrics"
)

type rule struct {
	Record, Alert, Expr string
	For                 string
	KeepFiringFor       string `yaml:"keep_firing_for"`
	Labels, Annotations map[string]string
}

// rules returns all rules of dashboards/rules.
func rules(t *testing.T) (list []rule) {
	t.Helper()
	for name, content := range read(t, "rules/*.yaml") {
		var file struct {
			Groups []struct {
				Name, Interval string
				Rules          []rule
			}
		}
		decoder := yaml.NewDecoder(bytes.NewReader(content))
		decoder.KnownFields(true)
		if err := decoder.Decode(&file); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, g := range file.Groups {
			if g.Interval != "1m" || !strings.HasPrefix(g.Name, "inferprobe.") {
				t.Errorf("%s: group %q with interval %q", name, g.Name, g.Interval)
			}
			list = append(list, g.Rules...)
		}
	}
	return list
}

// levelOf finds the labels of a recorded series in its name: job_endpoint_model:metric:operations.
var recordName = regexp.MustCompile(`^([a-z_]+):(inferprobe_[a-z_]+):([a-z0-9_]+)$`)

// recordings returns the labels of each recorded series.
func recordings(t *testing.T) catalogue {
	t.Helper()
	c := make(catalogue)
	for _, r := range rules(t) {
		if r.Record == "" {
			continue
		}
		parts := recordName.FindStringSubmatch(r.Record)
		if parts == nil {
			t.Errorf("%s is not level:metric:operations", r.Record)
			continue
		}
		c[r.Record] = strings.Split(parts[1], "_")
	}
	return c
}

func TestRulesUseWhatIsDeclared(t *testing.T) {
	recorded := recordings(t)
	used := make(map[string]bool)
	for _, r := range rules(t) {
		checkExpression(t, r.Record+r.Alert, r.Expr, recorded)
		if parsed, err := parser.ParseExpr(r.Expr); err == nil {
			for _, s := range selectors(parsed) {
				used[s.Name] = true
			}
		}
	}
	for name := range recorded {
		if !used[name] {
			t.Errorf("no rule uses %s", name)
		}
	}
}

const runbooks = "https://github.com/inferprobe/inferprobe/blob/main/dashboards/runbooks/"

func TestAlertConventions(t *testing.T) {
	boards := make(map[string]bool)
	for _, d := range decode(t) {
		boards[d.UID] = true
	}
	alertName := regexp.MustCompile(`^Inferprobe([A-Z][a-z]+)+$`)
	board := regexp.MustCompile(`^/d/([a-z-]+)(\?var-(endpoint|instance)=\{\{ \$labels\.(endpoint|instance) ` +
		`\| urlquery \}\})?$`)
	for _, r := range rules(t) {
		if r.Alert == "" {
			continue
		}
		if !alertName.MatchString(r.Alert) {
			t.Errorf("%s is no name of an alert of ours", r.Alert)
		}
		if !slices.Contains([]string{"critical", "warning", "info"}, r.Labels["severity"]) {
			t.Errorf("%s: severity %q", r.Alert, r.Labels["severity"])
		}
		summary, description := r.Annotations["summary"], r.Annotations["description"]
		if !strings.HasSuffix(summary, ".") || strings.Contains(summary, "{{") || !strings.HasSuffix(description, ".") {
			t.Errorf("%s: summary %q, description %q", r.Alert, summary, description)
		}
		if r.Annotations["runbook_url"] != runbooks+r.Alert+".md" {
			t.Errorf("%s: runbook %q", r.Alert, r.Annotations["runbook_url"])
		}
		if m := board.FindStringSubmatch(r.Annotations["dashboard_url"]); m == nil || !boards[m[1]] {
			t.Errorf("%s: %q is none of our boards", r.Alert, r.Annotations["dashboard_url"])
		}
		checkCondition(t, r)
	}
}

// checkCondition reports an alert that fires on every value: it must compare, or look for what is absent.
func checkCondition(t *testing.T, r rule) {
	t.Helper()
	parsed, err := parser.ParseExpr(r.Expr)
	if err != nil {
		t.Errorf("%s: %v", r.Alert, err)
		return
	}
	found := false
	parser.Inspect(parsed, func(node parser.Node, _ []parser.Node) error {
		switch n := node.(type) {
		case *parser.BinaryExpr:
			found = found || n.Op.IsComparisonOperator()
		case *parser.Call:
			found = found || n.Func.Name == "absent"
		}
		return nil
	})
	if !found {
		t.Errorf("%s compares nothing", r.Alert)
	}
}

func TestEveryAlertHasARunbook(t *testing.T) {
	alerts := alertNames(t)
	guide, err := os.ReadFile("../../docs/monitoring.md")
	if err != nil {
		t.Fatal(err)
	}
	files := read(t, "runbooks/*.md")
	for _, name := range alerts {
		text := string(files[name+".md"])
		if !strings.HasPrefix(text, "# "+name+"\n") {
			t.Errorf("%s has no runbook of its name", name)
		}
		for _, heading := range []string{"Meaning", "Impact", "Diagnosis", "Mitigation"} {
			if !strings.Contains(text, "\n## "+heading+"\n") {
				t.Errorf("the runbook of %s has no %s", name, heading)
			}
		}
		if !strings.Contains(string(guide), "runbooks/"+name+".md") {
			t.Errorf("docs/monitoring.md does not link to the runbook of %s", name)
		}
	}
	for file := range files {
		if !slices.Contains(alerts, strings.TrimSuffix(file, ".md")) {
			t.Errorf("the runbook %s is of no alert", file)
		}
	}
}

func TestGuidesStateTheSeriesBudget(t *testing.T) {
	guide, err1 := os.ReadFile("../../docs/monitoring.md")
	readme, err2 := os.ReadFile("../../README.md")
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(guide), ",", "")
	short := strings.Join(strings.Fields(strings.ReplaceAll(string(readme), ",", "")), " ")
	if want := fmt.Sprintf("An endpoint costs %d time series with a whole sweep and a canary %d with",
		metrics.Series(metrics.Both, 12), metrics.Series(metrics.Native, 12)); !strings.Contains(short, want) {
		t.Errorf("README.md does not say: %s", want)
	}
	for _, mode := range []metrics.Mode{metrics.Native, metrics.Classic, metrics.Both} {
		row := regexp.MustCompile(fmt.Sprintf("\\| `%s`.* \\| %d \\|", mode, metrics.Series(mode, 12)))
		if !row.MatchString(text) {
			t.Errorf("docs/monitoring.md does not say that an endpoint costs %d series with histograms: %s",
				metrics.Series(mode, 12), mode)
		}
	}
}

func TestGuideNamesEveryMetric(t *testing.T) {
	guide, err := os.ReadFile("../../docs/monitoring.md")
	if err != nil {
		t.Fatal(err)
	}
	known, err := newCatalogue()
	if err != nil {
		t.Fatal(err)
	}
	part := regexp.MustCompile("_(bucket|sum|count)$")
	for metric := range known {
		name, ours := strings.CutPrefix(metric, "inferprobe_")
		if ours && !part.MatchString(name) && !regexp.MustCompile("`"+name+"[`{]").Match(guide) {
			t.Errorf("docs/monitoring.md does not name %s", metric)
		}
	}
}

var (
	code   = regexp.MustCompile("(?s)```.*?```|`[^`]*`")
	quoted = regexp.MustCompile(`"([A-Z][^"]+)"`) // a line of the log is in lower case
	link   = regexp.MustCompile(`\]\(([^)]+)\)`)
)

// TestRunbooksLeadSomewhere: the panels and rows that runbooks name are there, a row by its words before the colon, too.
// Their links lead nowhere out of the folder but by an address: the chart has the folder in another place.
func TestRunbooksLeadSomewhere(t *testing.T) {
	titles := make(map[string]bool)
	for _, d := range decode(t) {
		for _, p := range d.Panels {
			row, _, _ := strings.Cut(p.Title, ":")
			titles[p.Title], titles[row] = true, true
		}
	}
	for file, content := range read(t, "runbooks/*.md") {
		text := code.ReplaceAllString(string(content), "")
		for _, m := range quoted.FindAllStringSubmatch(text, -1) {
			if title := strings.Join(strings.Fields(m[1]), " "); !titles[title] {
				t.Errorf("%s: no board has a panel %q", file, title)
			}
		}
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if strings.Contains(m[1], "/") && !strings.HasPrefix(m[1], "https://") {
				t.Errorf("%s: the link to %s leads out of the folder", file, m[1])
			}
		}
	}
}

var promqlBlock = regexp.MustCompile("(?s)```promql\n(.*?)```")

// TestRunbookQueries parses the queries that runbooks tell to run.
func TestRunbookQueries(t *testing.T) {
	for file, content := range read(t, "runbooks/*.md") {
		for _, m := range promqlBlock.FindAllStringSubmatch(string(content), -1) {
			queries := []string{m[1]}
			if _, err := parser.ParseExpr(m[1]); err != nil { // one query a line
				queries = strings.Split(strings.TrimSpace(m[1]), "\n")
			}
			for _, q := range queries {
				checkExpression(t, file, q, nil)
			}
		}
	}
}

func alertNames(t *testing.T) []string {
	t.Helper()
	names := make(map[string]bool)
	for _, r := range rules(t) {
		if r.Alert != "" {
			names[r.Alert] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// TestEveryAlertIsTested: promtool runs the unit tests in `make e2e`; here they must be there, of an alert that fires,
// one that does not although there are data, and one without any data.
func TestEveryAlertIsTested(t *testing.T) {
	type state struct{ fires, silent, missing bool }
	tested := make(map[string]*state)
	for _, name := range alertNames(t) {
		tested[name] = new(state)
	}
	for file, content := range read(t, filepath.Join("rules", "tests", "*.yaml")) {
		var tests struct {
			Tests []struct {
				InputSeries []any `yaml:"input_series"`
				Alerts      []struct {
					Name string `yaml:"alertname"`
					Want []any  `yaml:"exp_alerts"`
				} `yaml:"alert_rule_test"`
			}
		}
		if err := yaml.Unmarshal(content, &tests); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, test := range tests.Tests {
			for _, a := range test.Alerts {
				s := tested[a.Name]
				if s == nil {
					t.Errorf("%s tests %s, which is no alert", file, a.Name)
					continue
				}
				s.fires = s.fires || len(a.Want) > 0
				s.silent = s.silent || len(a.Want) == 0 && len(test.InputSeries) > 0
				s.missing = s.missing || len(test.InputSeries) == 0
			}
		}
	}
	for name, s := range tested {
		if !s.fires || !s.silent || !s.missing {
			t.Errorf("%s: tested are fires %v, stays silent %v, without data %v", name, s.fires, s.silent, s.missing)
		}
	}
}
