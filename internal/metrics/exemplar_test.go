package metrics_test

import (
	"bytes"
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"github.com/inferprobe/inferprobe/internal/metrics"
)

const (
	requestID = "inferprobe-bbc5050f9a54d10d-18446744073709551615" // none is longer
	traceID   = "b3d9112cb5d6d31d6ff816c33749027a"
)

// exemplars are those of a histogram's classic and native buckets.
func exemplars(h *dto.Histogram) (classic, native []*dto.Exemplar) {
	for _, b := range h.GetBucket() {
		if b.GetExemplar() != nil {
			classic = append(classic, b.GetExemplar())
		}
	}
	return classic, h.GetExemplars()
}

// TestExemplars observes one request with ids and one without: there is one exemplar for each kind of bucket. The classic
// one of a histogram with native buckets only is +Inf.
func TestExemplars(t *testing.T) {
	want := map[string]string{"request_id": requestID, "trace_id": traceID}
	for mode, places := range map[metrics.Mode]struct{ classic, native int }{
		metrics.Classic: {1, 0}, metrics.Native: {1, 1}, metrics.Both: {1, 1},
	} {
		reg, m := newMetrics(mode)
		e := m.Add(llama, nil, []string{"constant-1"})
		r := answer()
		r.ID, r.TraceID = requestID, traceID
		e.Record("constant-1", r)
		e.Record("constant-1", answer())
		for name, value := range map[string]float64{
			"time_to_first_token_seconds": r.FirstToken.Seconds(), "request_duration_seconds": r.End.Seconds(),
		} {
			classic, native := exemplars(find(t, reg, name, "stage", "constant-1").GetHistogram())
			if len(classic) != places.classic || len(native) != places.native {
				t.Fatalf("%s, %s: %d exemplars of classic buckets, %d of native ones", mode, name, len(classic), len(native))
			}
			for _, x := range append(classic, native...) {
				got, characters := make(map[string]string), 0
				for _, l := range x.GetLabel() {
					got[l.GetName()] = l.GetValue()
					characters += utf8.RuneCountInString(l.GetName() + l.GetValue())
				}
				if !maps.Equal(got, want) || x.GetValue() != value || x.GetTimestamp() == nil {
					t.Errorf("%s, %s: %v", mode, name, x)
				}
				if characters > prometheus.ExemplarMaxRunes {
					t.Errorf("%d characters, more than OpenMetrics allows", characters)
				}
			}
		}
		if classic, native := exemplars(find(t, reg, "inter_token_latency_seconds").GetHistogram()); len(classic)+len(native) > 0 {
			t.Errorf("%s: tokens have exemplars", mode)
		}
	}
}

// TestExemplarsInOpenMetrics reads them where Prometheus does when it is not offered protobuf.
func TestExemplarsInOpenMetrics(t *testing.T) {
	reg, m := newMetrics(metrics.Both)
	e := m.Add(llama, nil, []string{"constant-1"})
	r := answer()
	r.ID, r.TraceID = requestID, traceID
	e.Record("constant-1", r)
	var text bytes.Buffer
	for _, name := range []string{"inferprobe_time_to_first_token_seconds", "inferprobe_request_duration_seconds"} {
		if _, err := expfmt.MetricFamilyToOpenMetrics(&text, gather(t, reg)[name]); err != nil {
			t.Fatal(err)
		}
	}
	for _, bucket := range []string{
		`inferprobe_time_to_first_token_seconds_bucket{endpoint="llama",model="llama-3",stage="constant-1",le="0.1"} 1 # {`,
		`inferprobe_request_duration_seconds_bucket{endpoint="llama",model="llama-3",stage="constant-1",le="0.2"} 1 # {`,
	} {
		_, rest, found := strings.Cut(text.String(), bucket)
		line, _, _ := strings.Cut(rest, "\n")
		if !found || !strings.Contains(line, `trace_id="`+traceID+`"`) || !strings.Contains(line, `request_id="`+requestID+`"`) {
			t.Errorf("no exemplar after %s in\n%s", bucket, text.String())
		}
	}
}

func BenchmarkRecordWithExemplars(b *testing.B) {
	_, m := newMetrics(metrics.Both)
	e := m.Add(llama, nil, []string{"constant-1"})
	r := longAnswer()
	r.ID, r.TraceID = requestID, traceID
	b.ReportAllocs()
	for b.Loop() {
		e.Record("constant-1", r)
	}
}

// TestExemplarsAreFew records many requests at once: the first has an exemplar, and what follows at once has none.
func TestExemplarsAreFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg, m := newMetrics(metrics.Classic)
		e := m.Add(llama, nil, []string{"constant-1"})
		last := func() string {
			classic, _ := exemplars(find(t, reg, "request_duration_seconds", "stage", "constant-1").GetHistogram())
			for _, l := range classic[0].GetLabel() {
				if l.GetName() == "request_id" {
					return l.GetValue()
				}
			}
			return ""
		}
		for _, step := range []struct {
			after    time.Duration
			id, want string
		}{{0, "a", "a"}, {time.Millisecond, "b", "a"}, {20 * time.Millisecond, "c", "c"}} {
			time.Sleep(step.after)
			r := answer()
			r.ID, r.TraceID = step.id, traceID
			e.Record("constant-1", r)
			if got := last(); got != step.want {
				t.Errorf("after request %s the exemplar is of %s, not of %s", step.id, got, step.want)
			}
		}
	})
}
