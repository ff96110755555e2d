package otlp

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strconv"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/resource"
)

// What of OpenTelemetry's variables the library would ignore, or understand in another way, where it is wrong is
// checked here.
const (
	prefix       = "OTEL_EXPORTER_OTLP_"
	temporality  = prefix + "METRICS_TEMPORALITY_PREFERENCE"
	cumulative   = "cumulative"
	protocolHTTP = "http/protobuf"
	protocolGRPC = "grpc"
)

// checkEnvironment returns an error that names the first variable that is wrong, and says what would be right.
func checkEnvironment() error {
	target, name := lookUp("ENDPOINT")
	if target == "" {
		return fmt.Errorf("no collector is named: set %s, for example to http://localhost:4318", name)
	}
	u, err := url.Parse(target)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return fmt.Errorf("%s is not a URL of HTTP; write for example http://localhost:4318", name)
	}
	if protocol, name := lookUp("PROTOCOL"); protocol != "" && protocol != protocolHTTP && protocol != protocolGRPC {
		return fmt.Errorf("%s is %q; write %s or %s", name, protocol, protocolHTTP, protocolGRPC)
	}
	for _, name := range []string{
		prefix + "METRICS_TIMEOUT", prefix + "TIMEOUT", "OTEL_METRIC_EXPORT_INTERVAL", "OTEL_METRIC_EXPORT_TIMEOUT",
	} {
		if text := os.Getenv(name); text != "" {
			if n, err := strconv.Atoi(text); err != nil || n <= 0 {
				return fmt.Errorf("%s is %q; write milliseconds, for example 15000", name, text)
			}
		}
	}
	if t := os.Getenv(temporality); !strings.EqualFold(cmp.Or(t, cumulative), cumulative) {
		return fmt.Errorf("%s is %q, and what is pushed is always %s; a collector can make deltas of it",
			temporality, t, cumulative)
	}
	return nil
}

// lookUp returns the variable for metrics alone, else the one for all signals, and its name.
func lookUp(suffix string) (value, name string) {
	if value := os.Getenv(prefix + "METRICS_" + suffix); value != "" {
		return value, prefix + "METRICS_" + suffix
	}
	return os.Getenv(prefix + suffix), prefix + suffix
}

// Secrets returns what of the environment must not be logged: the values of headers, as they are written there and
// decoded.
func Secrets() (secrets []string) {
	for _, name := range []string{prefix + "METRICS_HEADERS", prefix + "HEADERS"} {
		for header := range strings.SplitSeq(os.Getenv(name), ",") {
			_, value, _ := strings.Cut(header, "=")
			if value = strings.TrimSpace(value); value == "" {
				continue
			}
			secrets = append(secrets, value)
			if decoded, err := url.PathUnescape(value); err == nil && decoded != value {
				secrets = append(secrets, decoded)
			}
		}
	}
	return secrets
}

// describe returns the resource that all metrics belong to. OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES go before ours.
func describe(ctx context.Context, o Options) (*resource.Resource, error) {
	about, err := resource.New(ctx,
		resource.WithAttributes(
			attribute.String("service.name", "inferprobe"),
			attribute.String("service.version", o.Version),
			attribute.String("service.instance.id", o.Instance),
		),
		resource.WithTelemetrySDK(),
		resource.WithFromEnv(),
	)
	if err != nil {
		return nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w; write name=value,name=value", err)
	}
	return about, nil
}

// complaints collects what the library logs while it reads the environment, which it would otherwise ignore. Values are
// left out: that of a header is a secret.
type complaints []string

// Enabled implements slog.Handler. The library's warnings are one step below information.
func (c *complaints) Enabled(_ context.Context, level slog.Level) bool { return level >= -1 }

// Handle implements slog.Handler.
func (c *complaints) Handle(_ context.Context, r slog.Record) error {
	text := r.Message
	r.Attrs(func(a slog.Attr) bool {
		if err, ok := a.Value.Any().(error); ok {
			text += ": " + err.Error()
		}
		return true
	})
	*c = append(*c, text)
	return nil
}

// WithAttrs implements slog.Handler.
func (c *complaints) WithAttrs([]slog.Attr) slog.Handler { return c }

// WithGroup implements slog.Handler.
func (c *complaints) WithGroup(string) slog.Handler { return c }
