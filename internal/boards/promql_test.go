package boards

import (
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql/parser"
)

// foreignMetrics are those that others declare, with the labels that queries may use.
func foreignMetrics() catalogue {
	return catalogue{
		"up":                        nil,
		"scrape_samples_scraped":    nil,
		"ALERTS_FOR_STATE":          {"alertname", "severity", "endpoint"},
		"ALERTS":                    {"alertname", "alertstate", "severity", "endpoint"},
		"vllm:num_requests_running": {"model_name"},
		"vllm:num_requests_waiting": {"model_name"},
		"vllm:kv_cache_usage_perc":  {"model_name"},
		"vllm:time_to_first_token_seconds_bucket": {"model_name", "le"},
	}
}

// checkExpression parses a query, and holds its names and labels against what is declared; recorded are the series that
// rules record.
func checkExpression(t *testing.T, where, expr string, recorded catalogue) {
	t.Helper()
	parsed, err := parser.ParseExpr(expr)
	if err != nil {
		t.Errorf("%s: %v\n%s", where, err, expr)
		return
	}
	known, err := newCatalogue()
	if err != nil {
		t.Fatal(err)
	}
	labelsOf := func(metric string) ([]string, bool) {
		for _, c := range []catalogue{known, foreignMetrics(), recorded} {
			if l, ok := c[metric]; ok {
				return append(targetLabels(), l...), true
			}
		}
		return nil, false
	}
	checkMetrics(t, where, parsed, labelsOf)
	parser.Inspect(parsed, func(node parser.Node, _ []parser.Node) error {
		if a, ok := node.(*parser.AggregateExpr); ok {
			checkGrouping(t, where, a, labelsOf)
		}
		return nil
	})
	checkBothHistograms(t, where, parsed, known)
}

func checkMetrics(t *testing.T, where string, expr parser.Expr, labelsOf func(string) ([]string, bool)) {
	t.Helper()
	for _, s := range selectors(expr) {
		has, ok := labelsOf(s.Name)
		if !ok {
			t.Errorf("%s: there is no metric %q", where, s.Name)
			continue
		}
		for _, m := range s.LabelMatchers {
			if m.Name != model.MetricNameLabel && !slices.Contains(has, m.Name) {
				t.Errorf("%s: %s has no label %q", where, s.Name, m.Name)
			}
		}
	}
}

// checkGrouping reports a label that no metric below an aggregation has.
func checkGrouping(t *testing.T, where string, a *parser.AggregateExpr, labelsOf func(string) ([]string, bool)) {
	t.Helper()
	var has []string
	for _, s := range selectors(a.Expr) {
		l, _ := labelsOf(s.Name)
		has = append(has, l...)
	}
	parser.Inspect(a.Expr, func(node parser.Node, _ []parser.Node) error {
		if c, ok := node.(*parser.Call); ok && c.Func.Name == "label_replace" {
			has = append(has, c.Args[1].(*parser.StringLiteral).Val)
		}
		return nil
	})
	for _, l := range a.Grouping {
		if !slices.Contains(has, l) {
			t.Errorf("%s: nothing in %s has the label %q", where, a, l)
		}
	}
}

// checkBothHistograms reports a query that sees only one kind of a histogram's buckets.
func checkBothHistograms(t *testing.T, where string, expr parser.Expr, known catalogue) {
	t.Helper()
	var names []string
	for _, s := range selectors(expr) {
		names = append(names, s.Name)
	}
	for _, name := range names {
		base := strings.TrimSuffix(name, "_bucket")
		if _, histogram := known[base+"_bucket"]; !histogram {
			continue
		}
		if !slices.Contains(names, base) || !slices.Contains(names, base+"_bucket") {
			t.Errorf("%s: %s by one kind of buckets only", where, base)
		}
	}
}

func selectors(expr parser.Expr) (list []*parser.VectorSelector) {
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		if s, ok := node.(*parser.VectorSelector); ok {
			list = append(list, s)
		}
		return nil
	})
	return list
}

// grouping returns the labels of a query's result: those of its first aggregation.
func grouping(t *testing.T, expr string) (by []string) {
	t.Helper()
	parsed, err := parser.ParseExpr(expr)
	if err != nil {
		t.Fatal(err)
	}
	parser.Inspect(parsed, func(node parser.Node, _ []parser.Node) error {
		if a, ok := node.(*parser.AggregateExpr); ok && by == nil {
			by = a.Grouping
		}
		return nil
	})
	return by
}
