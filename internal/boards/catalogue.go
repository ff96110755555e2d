package boards

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/inferprobe/inferprobe/internal/metrics"
	"github.com/inferprobe/inferprobe/internal/probe"
)

// catalogue holds the labels of each metric, by the names under which Prometheus stores its series.
type catalogue map[string][]string

// newCatalogue asks package metrics what it declares: with one endpoint, every family has its series.
func newCatalogue() (catalogue, error) {
	registry := prometheus.NewRegistry()
	metrics.New(registry, metrics.Both).Add(probe.Endpoint{Name: "endpoint", Model: "model"}, nil, []string{"stage"})
	families, err := registry.Gather()
	if err != nil {
		return nil, fmt.Errorf("gather the declared metrics: %w", err)
	}
	c := make(catalogue)
	for _, f := range families {
		c.add(f)
	}
	return c, nil
}

func (c catalogue) add(f *dto.MetricFamily) {
	var labels []string
	for _, l := range f.GetMetric()[0].GetLabel() {
		labels = append(labels, l.GetName())
	}
	name, with := f.GetName(), func(more string) []string { return append(labels[:len(labels):len(labels)], more) }
	switch f.GetType() {
	case dto.MetricType_HISTOGRAM:
		c[name], c[name+"_bucket"] = labels, with("le")
		c[name+"_sum"], c[name+"_count"] = labels, labels
	case dto.MetricType_SUMMARY:
		c[name] = with("quantile")
		c[name+"_sum"], c[name+"_count"] = labels, labels
	default:
		c[name] = labels
	}
}
