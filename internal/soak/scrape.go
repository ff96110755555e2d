package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// scrape is what one answer of /metrics says.
type scrape struct {
	values   map[string]float64 // by series as the text format names them
	counters map[string]bool    // those of values that must not decrease: counters, and the parts of histograms
	// endpoints are the values of the label `endpoint`, each with its series.
	endpoints map[string][]string
}

// scrape fetches and reads /metrics; of a large one only families whose names begin with one of these, if any are given.
func (d *daemon) scrape(families ...string) (*scrape, error) {
	body, status, err := d.request(http.MethodGet, "/metrics", nil)
	if err != nil {
		return nil, err
	}
	if status != http.StatusOK {
		return nil, fmt.Errorf("/metrics answers %d", status)
	}
	if len(families) > 0 {
		body = keepFamilies(body, families)
	}
	return readScrape(body)
}

func keepFamilies(text []byte, families []string) []byte {
	var kept []byte
	for line := range bytes.Lines(text) {
		name := bytes.TrimPrefix(bytes.TrimPrefix(line, []byte("# HELP ")), []byte("# TYPE "))
		if slices.ContainsFunc(families, func(f string) bool { return bytes.HasPrefix(name, []byte(f)) }) {
			kept = append(kept, line...)
		}
	}
	return kept
}

func readScrape(text []byte) (*scrape, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("/metrics: %w", err)
	}
	s := &scrape{values: map[string]float64{}, counters: map[string]bool{}, endpoints: map[string][]string{}}
	for name, family := range families {
		for _, m := range family.Metric {
			s.add(name, m)
		}
	}
	return s, nil
}

func (s *scrape) add(name string, m *dto.Metric) {
	var labels []string
	var endpoint string
	for _, l := range m.Label {
		labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
		if l.GetName() == "endpoint" {
			endpoint = l.GetValue()
		}
	}
	set := func(name string, value float64, counts bool, more ...string) {
		series := name + "{" + strings.Join(append(labels[:len(labels):len(labels)], more...), ",") + "}"
		s.values[series] = value
		if counts {
			s.counters[series] = true
		}
		if endpoint != "" {
			s.endpoints[endpoint] = append(s.endpoints[endpoint], series)
		}
	}
	switch {
	case m.Counter != nil:
		set(name, m.Counter.GetValue(), true)
	case m.Gauge != nil:
		set(name, m.Gauge.GetValue(), false)
	case m.Untyped != nil:
		set(name, m.Untyped.GetValue(), false)
	case m.Summary != nil: // of the last cycle, or of the runtime
		set(name+"_sum", m.Summary.GetSampleSum(), false)
		set(name+"_count", float64(m.Summary.GetSampleCount()), false)
		for _, q := range m.Summary.Quantile {
			set(name, q.GetValue(), false, fmt.Sprintf(`quantile="%g"`, q.GetQuantile()))
		}
	case m.Histogram != nil:
		set(name+"_sum", m.Histogram.GetSampleSum(), true)
		set(name+"_count", float64(m.Histogram.GetSampleCount()), true)
		for _, b := range m.Histogram.Bucket {
			set(name+"_bucket", float64(b.GetCumulativeCount()), true, fmt.Sprintf(`le="%g"`, b.GetUpperBound()))
		}
	}
}

// of returns the value of a series of an endpoint that has no labels beside its model.
func (s *scrape) of(endpoint, name string) (value float64, ok bool) {
	prefix := name + fmt.Sprintf("{endpoint=%q,model=", endpoint)
	for _, series := range s.endpoints[endpoint] {
		if strings.HasPrefix(series, prefix) {
			return s.values[series], true
		}
	}
	return 0, false
}

// sum adds up every series of that name whose labels hold the text.
func (s *scrape) sum(name, label string) (sum float64) {
	for series, value := range s.values {
		if strings.HasPrefix(series, name+"{") && strings.Contains(series, label) {
			sum += value
		}
	}
	return sum
}

// exposition is a format of /metrics as a client asks for it.
type exposition struct {
	name   string
	header http.Header
	times  int // how often to try it
}

func expositions() []exposition {
	accept := func(format, encoding string) http.Header {
		return http.Header{"Accept": {format}, "Accept-Encoding": {encoding}}
	}
	const text = "text/plain;version=0.0.4"
	const protobuf = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
	return []exposition{
		{"text", accept(text, "identity"), 1},
		{"text, gzip", accept(text, "gzip"), 3}, // as Prometheus asks
		{"protobuf", accept(protobuf, "identity"), 1},
		{"protobuf, gzip", accept(protobuf, "gzip"), 3}, // as Prometheus asks for native histograms
	}
}

// scrapeCost is what answering /metrics takes.
type scrapeCost struct {
	took, cpu time.Duration // medians
	size      int           // bytes on the wire
	series    int           // lines that are not comments; 0 unless it was text
}

// cost answers how long a scrape takes and how large it is.
func (d *daemon) cost(e exposition) (scrapeCost, error) {
	var took, cpu []time.Duration
	var c scrapeCost
	for range e.times {
		before, err := d.footprint()
		if err != nil {
			return c, err
		}
		began := time.Now()
		body, status, err := d.request(http.MethodGet, "/metrics", e.header)
		if err != nil || status != http.StatusOK {
			return c, fmt.Errorf("/metrics answers %d, %w", status, err)
		}
		took = append(took, time.Since(began))
		after, err := d.footprint()
		if err != nil {
			return c, err
		}
		cpu = append(cpu, after.cpu-before.cpu)
		c.size = len(body)
		if c.series, err = countSeries(e, body); err != nil {
			return c, err
		}
	}
	c.took, c.cpu = median(took), median(cpu)
	return c, nil
}

func countSeries(e exposition, body []byte) (n int, err error) {
	if !strings.HasPrefix(e.header.Get("Accept"), "text/plain") {
		return 0, nil
	}
	if e.header.Get("Accept-Encoding") == "gzip" {
		r, err := gzip.NewReader(bytes.NewReader(body))
		if err != nil {
			return 0, err
		}
		if body, err = io.ReadAll(r); err != nil {
			return 0, err
		}
	}
	for line := range bytes.Lines(body) {
		if len(line) > 1 && line[0] != '#' {
			n++
		}
	}
	return n, nil
}
