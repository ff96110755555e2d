package otlp

import (
	"context"
	"encoding/hex"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	bridge "go.opentelemetry.io/contrib/bridges/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// producer is OpenTelemetry's bridge, with three differences: a collector of ours that fails does not keep back the
// metrics of the others, exemplars of native histograms are carried over, and the trace's id in an exemplar is the bytes
// that OTLP wants. The bridge gives the hexadecimal text, for which a collector refuses the whole push.
type producer struct {
	gatherer prometheus.Gatherer
	log      *slog.Logger
	failing  bool
}

// Produce implements metric.Producer.
func (p *producer) Produce(ctx context.Context) ([]metricdata.ScopeMetrics, error) {
	families, err := p.gatherer.Gather()
	if err != nil && !p.failing {
		p.log.Error("not all metrics could be gathered for OTLP", "error", err)
	}
	p.failing = err != nil
	gathered := prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) { return families, nil })
	scopes, err := bridge.NewMetricProducer(bridge.WithGatherer(gathered)).Produce(ctx)
	byName := make(map[string]*dto.MetricFamily, len(families))
	for _, f := range families {
		byName[f.GetName()] = f
	}
	for _, scope := range scopes {
		for _, m := range scope.Metrics {
			setExemplars(m, byName[m.Name])
		}
	}
	return scopes, err
}

// setExemplars gives the points of a histogram the exemplars of the family that it was made from, whose metrics are in
// the same order.
func setExemplars(m metricdata.Metrics, f *dto.MetricFamily) {
	switch data := m.Data.(type) {
	case metricdata.Histogram[float64]:
		for i := range data.DataPoints {
			data.DataPoints[i].Exemplars = classicExemplars(f.GetMetric()[i].GetHistogram())
		}
	case metricdata.ExponentialHistogram[float64]:
		for i := range data.DataPoints {
			data.DataPoints[i].Exemplars = convert(f.GetMetric()[i].GetHistogram().GetExemplars())
		}
	}
}

func classicExemplars(h *dto.Histogram) []metricdata.Exemplar[float64] {
	var found []*dto.Exemplar
	for _, b := range h.GetBucket() {
		if e := b.GetExemplar(); e != nil {
			found = append(found, e)
		}
	}
	return convert(found)
}

func convert(exemplars []*dto.Exemplar) []metricdata.Exemplar[float64] {
	list := make([]metricdata.Exemplar[float64], len(exemplars))
	for i, e := range exemplars {
		list[i] = metricdata.Exemplar[float64]{Value: e.GetValue(), Time: e.GetTimestamp().AsTime()}
		for _, l := range e.GetLabel() {
			if id, err := hex.DecodeString(l.GetValue()); l.GetName() == "trace_id" && err == nil {
				list[i].TraceID = id
				continue
			}
			list[i].FilteredAttributes = append(list[i].FilteredAttributes, attribute.String(l.GetName(), l.GetValue()))
		}
	}
	return list
}
