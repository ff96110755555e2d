// Package otlp pushes the metrics of a Prometheus registry to an OpenTelemetry collector, by OTLP over HTTP or gRPC. Where
// to, how often and with which headers is said by the environment variables that OpenTelemetry defines.
package otlp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// stopTime is how long the last push may take.
const stopTime = 5 * time.Second

// Options say what is pushed, and as whose.
type Options struct {
	Gatherer prometheus.Gatherer
	Version  string // service.version
	Instance string // service.instance.id, which tells replicas apart
	Log      *slog.Logger
}

// Pusher pushes at an interval until it is stopped.
type Pusher struct {
	provider *metric.MeterProvider
}

// Start begins to push. It fails where the environment does not say where to, or says it in a way that would be ignored.
// A collector that cannot be reached is no failure: it is logged, and the next push tries again.
//
// OpenTelemetry's library reports through loggers of its own, which are those of the whole process; Start sets them.
func Start(ctx context.Context, o Options) (*Pusher, error) {
	if err := checkEnvironment(); err != nil {
		return nil, err
	}
	exporter, err := newExporter(ctx, o.Log)
	if err != nil {
		return nil, err
	}
	about, err := describe(ctx, o)
	if err != nil {
		return nil, err
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		if !errors.Is(err, context.Canceled) { // by Stop, which pushes itself
			o.Log.Warn("OTLP push", "error", err)
		}
	}))
	reader := metric.NewPeriodicReader(
		&reporter{Exporter: exporter, log: o.Log},
		metric.WithProducer(&producer{gatherer: o.Gatherer, log: o.Log}),
	)
	return &Pusher{metric.NewMeterProvider(metric.WithReader(reader), metric.WithResource(about))}, nil
}

// newExporter returns the exporter for the protocol that the environment names, http/protobuf if it names none.
func newExporter(ctx context.Context, log *slog.Logger) (exporter metric.Exporter, err error) {
	var ignored complaints
	otel.SetLogger(logr.FromSlogHandler(&ignored))
	if protocol, _ := lookUp("PROTOCOL"); protocol == protocolGRPC {
		exporter, err = otlpmetricgrpc.New(ctx)
	} else {
		exporter, err = otlpmetrichttp.New(ctx)
	}
	otel.SetLogger(logr.FromSlogHandler(log.Handler()))
	switch {
	case err != nil:
		return nil, fmt.Errorf("OTLP exporter: %w", err)
	case len(ignored) > 0:
		return nil, fmt.Errorf("a variable OTEL_EXPORTER_OTLP_… is not what it should be: %s", ignored[0])
	}
	return exporter, nil
}

// Stop pushes once more, and ends. It takes at most 5 seconds.
func (p *Pusher) Stop() {
	ctx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	_ = p.provider.Shutdown(ctx) // whose failures the reporter has logged
}

// reporter logs when pushes begin to fail and when they succeed again, not each time. Only one push runs at a time.
type reporter struct {
	metric.Exporter
	log     *slog.Logger
	failing bool
}

// Export implements metric.Exporter. It returns no error, which the library would log again.
func (r *reporter) Export(ctx context.Context, data *metricdata.ResourceMetrics) error {
	err := r.Exporter.Export(ctx, data)
	switch {
	case errors.Is(err, context.Canceled): // by Stop, which pushes itself
		return nil
	case err != nil && !r.failing:
		r.log.Warn("metrics cannot be pushed over OTLP; each interval tries again", "error", err)
	case err == nil && r.failing:
		r.log.Info("metrics are pushed over OTLP again")
	}
	r.failing = err != nil
	return nil
}
