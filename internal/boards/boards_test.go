package boards

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/inferprobe/inferprobe/internal/metrics"
	"github.com/inferprobe/inferprobe/internal/probe"
)

const folder = "../../dashboards"

// read returns the committed files of a pattern, by name.
func read(t *testing.T, pattern string) map[string][]byte {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(folder, pattern))
	if err != nil || len(paths) == 0 {
		t.Fatalf("%s: %d files, %v", pattern, len(paths), err)
	}
	files := make(map[string][]byte)
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		files[filepath.Base(path)] = content
	}
	return files
}

func TestCommittedBoardsAreFresh(t *testing.T) {
	want, err := Files()
	if err != nil {
		t.Fatal(err)
	}
	got := read(t, "*.json")
	for name := range maps.Keys(got) {
		if want[name] == nil {
			t.Errorf("%s is committed and not generated", name)
		}
	}
	for name, content := range want {
		if string(got[name]) != string(content) {
			t.Errorf("%s is stale; run `make generate`", name)
		}
	}
}

// TestGrafanaKnowsEveryField decodes the boards by Grafana's own schema, which refuses unknown and missing fields.
func TestGrafanaKnowsEveryField(t *testing.T) {
	plugins.RegisterDefaultPlugins()
	for name, content := range read(t, "*.json") {
		var d dashboard.Dashboard //nolint:staticcheck // version 1 is what is generated
		// The error is an empty list where all is well.
		if err := d.UnmarshalJSONStrict(content); err != nil && err.Error() != "" {
			t.Errorf("%s: %v", name, err)
		}
		if err := d.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// decoded is the part of a board that the conventions are about.
type decoded struct {
	ID          *int
	UID         string
	Title       string
	Description string
	Editable    bool
	Tags        []string
	Refresh     string
	Links       []struct {
		AsDropdown, IncludeVars, KeepTime bool
		Tags                              []string
	}
	Panels      []decodedPanel
	Templating  struct{ List []decodedVariable }
	Annotations struct{ List []decodedAnnotation }
}

type decodedPanel struct {
	ID          int
	Type        string
	Title       string
	Description string
	Datasource  reference
	GridPos     struct{ X, Y, W, H int }
	Targets     []decodedTarget

	Transformations []struct {
		ID      string
		Options struct{ RenameByName map[string]string }
	}
	FieldConfig struct{ Defaults struct{ Unit string } }
}

type decodedTarget struct {
	RefID, Expr, Format, LegendFormat, Interval string
	Instant, Range, Exemplar                    bool
	Datasource                                  reference
}

type decodedVariable struct {
	Name, Type, Label, AllValue string
	Multi, IncludeAll           bool
	Refresh                     int
	Datasource                  reference
	Query                       json.RawMessage
}

// query returns the variable's query; a data source variable has none.
func (v decodedVariable) query() string {
	var q struct{ Query string }
	_ = json.Unmarshal(v.Query, &q)
	return q.Query
}

type decodedAnnotation struct {
	Name, Expr string
	Datasource reference
}

type reference struct{ Type, UID string }

func decode(t *testing.T) map[string]decoded {
	t.Helper()
	boards := make(map[string]decoded)
	for name, content := range read(t, "*.json") {
		var d decoded
		if err := json.Unmarshal(content, &d); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		boards[name] = d
	}
	return boards
}

func TestBoardConventions(t *testing.T) {
	uids := make(map[string]string)
	for name, d := range decode(t) {
		if other := uids[d.UID]; other != "" || len(d.UID) > 40 || !strings.HasPrefix(d.UID, "inferprobe-") {
			t.Errorf("%s: the uid %q is that of %q, too long or not ours", name, d.UID, other)
		}
		uids[d.UID] = name
		if d.ID != nil || d.Editable || d.Description == "" || d.Refresh != "1m" || !slices.Equal(d.Tags, []string{tag}) {
			t.Errorf("%s: id %v, editable %v, refresh %q, tags %v, description %q", name, d.ID, d.Editable, d.Refresh, d.Tags,
				d.Description)
		}
		if len(d.Links) != 1 || !d.Links[0].AsDropdown || !d.Links[0].IncludeVars || !d.Links[0].KeepTime {
			t.Errorf("%s: no drop-down of the other boards that keeps variables and time", name)
		}
		for _, a := range d.Annotations.List {
			if a.Datasource != ours() {
				t.Errorf("%s: annotation %s: data source %v", name, a.Name, a.Datasource)
			}
		}
		checkVariables(t, name, d)
	}
}

func ours() reference { return reference{"prometheus", "${datasource}"} }

func checkVariables(t *testing.T, name string, d decoded) {
	t.Helper()
	var all strings.Builder
	for _, e := range expressions(d) {
		fmt.Fprintln(&all, e.expr)
	}
	sources := 0
	for _, v := range d.Templating.List {
		if v.Type == "datasource" {
			sources++
			continue
		}
		if v.Datasource != ours() || v.Refresh != 2 || v.Label == "" || v.Multi != v.IncludeAll {
			t.Errorf("%s: variable %s: %+v", name, v.Name, v)
		}
		if !strings.Contains(all.String(), "$"+v.Name+`"`) {
			t.Errorf("%s: no query uses the variable %s", name, v.Name)
		}
	}
	if sources != 1 {
		t.Errorf("%s: %d data source variables", name, sources)
	}
}

func TestPanelConventions(t *testing.T) {
	for name, d := range decode(t) {
		ids, titles := make(map[int]bool), make(map[string]bool)
		for _, p := range d.Panels {
			if ids[p.ID] || p.ID == 0 {
				t.Errorf("%s: %q: the id %d is zero or taken", name, p.Title, p.ID)
			}
			ids[p.ID] = true
			if p.Type == "row" {
				titles = make(map[string]bool)
				continue
			}
			if titles[p.Title] || p.Title == "" {
				t.Errorf("%s: the title %q is empty or twice in a row", name, p.Title)
			}
			titles[p.Title] = true
			if !strings.HasSuffix(p.Description, ".") || p.FieldConfig.Defaults.Unit == "" || p.Datasource != ours() {
				t.Errorf("%s: %q: description %q, unit %q, data source %v", name, p.Title, p.Description,
					p.FieldConfig.Defaults.Unit, p.Datasource)
			}
			checkTargets(t, name, p)
		}
		checkLayout(t, name, d.Panels)
	}
}

func checkTargets(t *testing.T, name string, p decodedPanel) {
	t.Helper()
	refs := make(map[string]bool)
	for _, q := range p.Targets {
		if refs[q.RefID] || q.RefID == "" || q.Datasource != ours() || q.Instant == q.Range {
			t.Errorf("%s: %q: query %q: data source %v, instant %v, range %v", name, p.Title, q.RefID, q.Datasource, q.Instant,
				q.Range)
		}
		refs[q.RefID] = true
		if counts := strings.Contains(q.Expr, "increase(") && strings.Contains(q.Expr, "$__rate_interval"); q.Range &&
			counts != (q.Interval == "$__rate_interval") {
			t.Errorf("%s: %q: query %s steps by %q: windows of counts must not overlap", name, p.Title, q.RefID, q.Interval)
		}
		if q.Format != "table" && q.LegendFormat == "" {
			t.Errorf("%s: %q: query %s has no legend", name, p.Title, q.RefID)
		}
	}
	if p.Type == "table" {
		checkColumns(t, name, p)
	}
	if len(refs) == 0 {
		t.Errorf("%s: %q has no query", name, p.Title)
	}
}

// TestExemplars: each histogram that carries exemplars shows them as a distribution and as quantiles, one query of a
// panel does, and no other asks for what is not there.
func TestExemplars(t *testing.T) {
	const heatmap, timeseries = "heatmap", "timeseries"
	carriers, shown := carriers(t), make(map[[2]string]bool)
	if len(carriers) == 0 {
		t.Fatal("no histogram carries exemplars")
	}
	for name, d := range decode(t) {
		for _, p := range d.Panels {
			for i, q := range p.Targets {
				if !q.Exemplar {
					continue
				}
				metric := regexp.MustCompile(`inferprobe_\w+`).FindString(q.Expr)
				if i > 0 || !q.Range || !slices.Contains(carriers, metric) || p.Type != heatmap && p.Type != timeseries {
					t.Errorf("%s: %q, a %s, wants exemplars of %s by query %s, range %v", name, p.Title, p.Type, metric,
						q.RefID, q.Range)
				}
				shown[[2]string{p.Type, metric}] = true
			}
		}
	}
	for _, metric := range carriers {
		if !shown[[2]string{heatmap, metric}] || !shown[[2]string{timeseries, metric}] {
			t.Errorf("exemplars of %s are shown on %v only", metric, shown)
		}
	}
}

// carriers returns the histograms that have an exemplar when a request with ids has been recorded.
func carriers(t *testing.T) (names []string) {
	t.Helper()
	registry := prometheus.NewRegistry()
	e := metrics.New(registry, metrics.Both).Add(probe.Endpoint{Name: "endpoint", Model: "model"}, nil, []string{"stage"})
	e.Record("stage", &probe.Result{
		Outcome: probe.Completed, ID: "request", TraceID: "trace", FirstToken: 1, FirstAnswer: 1, LastToken: 2, End: 2,
		Arrivals: []probe.Arrival{{At: 1, Events: 1}, {At: 2, Events: 1}}, OutputTokens: 2,
	})
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if slices.ContainsFunc(f.GetMetric(), func(m *dto.Metric) bool { return len(m.GetHistogram().GetExemplars()) > 0 }) {
			names = append(names, f.GetName())
		}
	}
	return names
}

// checkColumns reports a label of a table's queries that has no column with a name.
func checkColumns(t *testing.T, name string, p decodedPanel) {
	t.Helper()
	named := make(map[string]string)
	for _, tr := range p.Transformations {
		maps.Copy(named, tr.Options.RenameByName)
	}
	for _, q := range p.Targets {
		for _, label := range grouping(t, substitute(q.Expr)) {
			if named[label] == "" {
				t.Errorf("%s: %q: query %s: no column for the label %s", name, p.Title, q.RefID, label)
			}
		}
	}
}

func checkLayout(t *testing.T, name string, panels []decodedPanel) {
	t.Helper()
	taken := make(map[[2]int]string)
	for _, p := range panels {
		g := p.GridPos
		if g.X+g.W > 24 || g.W == 0 || g.H == 0 {
			t.Errorf("%s: %q: %+v", name, p.Title, g)
		}
		for x := g.X; x < g.X+g.W; x++ {
			for y := g.Y; y < g.Y+g.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" {
					t.Fatalf("%s: %q lies over %q", name, p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
	}
}

// expression is a query with where it stands.
type expression struct{ where, expr string }

// expressions returns every PromQL expression of a board.
func expressions(d decoded) (list []expression) {
	for _, p := range d.Panels {
		for _, q := range p.Targets {
			list = append(list, expression{p.Title + " " + q.RefID, q.Expr})
		}
	}
	for _, a := range d.Annotations.List {
		list = append(list, expression{"annotation " + a.Name, a.Expr})
	}
	for _, v := range d.Templating.List {
		if q := v.query(); q != "" {
			list = append(list, expression{"variable " + v.Name, labelValues.ReplaceAllString(q, "group by ($2) ($1)")})
		}
	}
	return list
}

var labelValues = regexp.MustCompile(`^label_values\((.*), (\w+)\)$`)

// window is a range that is not one of Grafana's: how far back a query looks whatever the time shown.
var window = regexp.MustCompile(`\[(\w[^\]]*)\]`)

// fixedWindows are the only ranges that a board may fix, with what they are for.
func fixedWindows() map[string]string {
	return map[string]string{
		"7d:10m": "the usual capacity is that of a week, whatever is shown",
		"15m":    "a canary a minute needs a quarter of an hour for a median",
	}
}

var fixedTarget = regexp.MustCompile(`\b(job|instance)(=|=~|!=|!~)"[^$]`)

func TestQueryConventions(t *testing.T) {
	rules := recordings(t)
	for name, d := range decode(t) {
		for _, e := range expressions(d) {
			if m := fixedTarget.FindString(e.expr); m != "" {
				t.Errorf("%s: %s fixes a target: %s", name, e.where, m)
			}
			for _, m := range window.FindAllStringSubmatch(e.expr, -1) {
				if fixedWindows()[m[1]] == "" {
					t.Errorf("%s: %s looks back %s instead of $__rate_interval", name, e.where, m[1])
				}
			}
			checkExpression(t, name+": "+e.where, substitute(e.expr), rules)
		}
	}
}

func substitute(expr string) string {
	return strings.NewReplacer("$__rate_interval", "5m", "$__range", "1d").Replace(expr)
}

func TestUnknownMetricIsRefused(t *testing.T) {
	known, err := newCatalogue()
	if err != nil {
		t.Fatal(err)
	}
	b := newBoard("uid", "title", "description")
	s := b.scope(known, "job", "endpoint", "stage")
	if got, want := s.of(capacityRequests), capacityRequests+`{job=~"$job", endpoint=~"$endpoint"}`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	s.of("inferprobe_no_such_metric")
	if _, err := b.json(); err == nil || !strings.Contains(err.Error(), "inferprobe_no_such_metric") {
		t.Errorf("a query of a metric that is not declared gave the error %v", err)
	}
}

func TestNativeAndClassic(t *testing.T) {
	s := scope{known: catalogue{"h": {"a"}, "h_bucket": {"a", "le"}}, err: new(error)}
	want := "histogram_quantile(0.9, sum by (a) (rate(h{}[$__rate_interval]))) >= 0\nor\n" +
		"histogram_quantile(0.9, sum by (a, le) (rate(h_bucket{}[$__rate_interval]))) >= 0"
	if diff := cmp.Diff(want, s.quantile(0.9, "a", "h")); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
