package main

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/inferprobe/inferprobe/internal/sim"
)

const exposition1 = `# TYPE inferprobe_requests_total counter
inferprobe_requests_total{endpoint="a",model="m",stage="canary"} 3
inferprobe_requests_total{endpoint="b",model="",stage="canary"} 1
# TYPE inferprobe_cycle_in_progress gauge
inferprobe_cycle_in_progress{endpoint="a",model="m"} 1
# TYPE inferprobe_endpoint_info gauge
inferprobe_endpoint_info{endpoint="marker",model="none",number="17",server="",url="x"} 1
# TYPE inferprobe_stream_stall_seconds histogram
inferprobe_stream_stall_seconds_bucket{endpoint="a",model="m",stage="canary",le="0.5"} 2
inferprobe_stream_stall_seconds_bucket{endpoint="a",model="m",stage="canary",le="+Inf"} 3
inferprobe_stream_stall_seconds_sum{endpoint="a",model="m",stage="canary"} 1.5
inferprobe_stream_stall_seconds_count{endpoint="a",model="m",stage="canary"} 3
# TYPE inferprobe_stage_request_duration_seconds summary
inferprobe_stage_request_duration_seconds{endpoint="a",model="m",stage="canary",quantile="0.5"} 2
inferprobe_stage_request_duration_seconds_sum{endpoint="a",model="m",stage="canary"} 9
inferprobe_stage_request_duration_seconds_count{endpoint="a",model="m",stage="canary"} 4
`

func read(t *testing.T, text string) *scrape {
	t.Helper()
	s, err := readScrape([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestDecreased(t *testing.T) {
	before := read(t, exposition1)
	if got := before.number(); got != "17" {
		t.Errorf("configuration %q, want 17", got)
	}
	if running, ok := before.of("a", "inferprobe_cycle_in_progress"); !ok || running != 1 {
		t.Errorf("cycle in progress: %v, %v", running, ok)
	}
	if n := len(before.endpoints["a"]); n != 9 {
		t.Errorf("%d series of a, want 9", n)
	}
	for name, test := range map[string]struct {
		old, new string
		want     string // a part of what is found; "" = nothing
	}{
		"more":                   {`"canary"} 3`, `"canary"} 4`, ""},
		"a gauge":                {`in_progress{endpoint="a",model="m"} 1`, `in_progress{endpoint="a",model="m"} 0`, ""},
		"a summary":              {`duration_seconds_sum{endpoint="a",model="m",stage="canary"} 9`, `duration_seconds_sum{endpoint="a",model="m",stage="canary"} 1`, ""},
		"a model found out":      {`model=""`, `model="m"`, ""},
		"a counter":              {`requests_total{endpoint="a",model="m",stage="canary"} 3`, `requests_total{endpoint="a",model="m",stage="canary"} 2`, "from 3 to 2"},
		"a bucket":               {`le="0.5"} 2`, `le="0.5"} 1`, `_bucket{endpoint="a",model="m",stage="canary",le="0.5"} decreased`},
		"a sum":                  {`} 1.5`, `} 1.4`, "from 1.5 to 1.4"},
		"a counter that is gone": {`inferprobe_requests_total{endpoint="a"`, `inferprobe_requests_total{endpoint="c"`, "vanished"},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(exposition1, test.old, test.new, 1)
			if text == exposition1 {
				t.Fatal("nothing was replaced")
			}
			found := decreased(before, read(t, text))
			if (test.want == "") != (len(found) == 0) || test.want != "" && !strings.Contains(strings.Join(found, "\n"), test.want) {
				t.Errorf("found %q, want %q", found, test.want)
			}
		})
	}
}

func TestOverlaps(t *testing.T) {
	at := func(second float64) time.Time { return time.Unix(0, int64(second*1e9)) }
	for name, test := range map[string]struct {
		intervals []interval
		want      int
	}{
		"none":                        {nil, 0},
		"one server is its own":       {[]interval{{"a", at(0), at(5)}, {"a", at(1), at(2)}}, 0},
		"one after another":           {[]interval{{"a", at(0), at(5)}, {"b", at(5), at(6)}, {"a", at(6), at(7)}}, 0},
		"the second begins too early": {[]interval{{"b", at(4.9), at(6)}, {"a", at(0), at(5)}}, 1},
		"a long one before a short":   {[]interval{{"a", at(0), at(9)}, {"a", at(1), at(2)}, {"b", at(3), at(4)}}, 1},
		"it ended before it began":    {[]interval{{"a", at(1), at(0.5)}, {"b", at(1), at(2)}}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			if found := overlaps(test.intervals); len(found) != test.want {
				t.Errorf("found %q, want %d", found, test.want)
			}
		})
	}
}

func TestBusy(t *testing.T) {
	begin := time.Unix(100, 0)
	r := sim.Record{Received: begin, Writes: []sim.Write{
		{Before: begin.Add(time.Second), After: begin.Add(2 * time.Second), Tokens: 1},
		{Before: begin.Add(3 * time.Second), After: begin.Add(3 * time.Second)}, // [DONE]
	}}
	s := &server{name: "a"}
	if got := s.busy(&r); got.to != begin.Add(time.Second) || got.from != begin || got.server != "a" {
		t.Errorf("busy %v", got)
	}
	r.Outcome = sim.OutcomeDisconnected
	if got := s.busy(&r); got.to != begin.Add(time.Second-hangUp) {
		t.Errorf("busy %v, want less by %v", got, hangUp)
	}
}

func TestGrown(t *testing.T) {
	level := sample{rss: 100, heap: 20, goroutines: 30, fds: 10, series: 5000, disk: 1}
	samples := func(change func(i int, s *sample)) []sample {
		all := make([]sample, 8)
		for i := range all {
			all[i] = level
			change(i, &all[i])
		}
		return all
	}
	for name, test := range map[string]struct {
		samples []sample
		want    string
	}{
		"nothing":             {samples(func(int, *sample) {}), ""},
		"too few":             {samples(func(int, *sample) {})[:3], "there are only 3"},
		"within the bounds":   {samples(func(i int, s *sample) { s.rss += float64(i) }), ""},
		"less":                {samples(func(i int, s *sample) { s.goroutines -= float64(i) }), ""},
		"one leaks each time": {samples(func(i int, s *sample) { s.goroutines += float64(i) }), "goroutines"},
		"one series":          {samples(func(i int, s *sample) { s.series += float64(i / 6) }), "series"},
		"descriptors":         {samples(func(i int, s *sample) { s.fds += float64(i) }), "file descriptors"},
		"memory":              {samples(func(i int, s *sample) { s.heap += float64(i) }), "heap"},
		"disk":                {samples(func(i int, s *sample) { s.disk += float64(i) }), "history on disk"},
	} {
		t.Run(name, func(t *testing.T) {
			found := grown(io.Discard, test.samples)
			if (test.want == "") != (len(found) == 0) || test.want != "" && !strings.HasPrefix(found[0], test.want) {
				t.Errorf("found %q, want %q", found, test.want)
			}
		})
	}
}

func TestCheckCycle(t *testing.T) {
	const name = "a-20260822T120000.000Z"
	good := `{"schema":"inferprobe/history/v1","id":"` + name + `","endpoint":"a","failure":null,"stages":[{}]}`
	for text, want := range map[string]string{
		good:                                   "",
		strings.Replace(good, "[{}]", "[]", 1): "neither",
		strings.Replace(good, "null", `{"reason":"connect"}`, 1): "",
		strings.Replace(good, "history", "report", 1):            "schema",
		strings.Replace(good, `"id":"a`, `"id":"b`, 1):           "holds cycle",
		good[:len(good)/2]: "unexpected end",
		"":                 "unexpected end",
		strings.Replace(good, `"endpoint":"a"`, `"endpoint":"b"`, 1):                       `of "b"`,
		strings.Replace(good, "[{}]", "[]", 1)[:len(good)-4] + strings.Repeat("\x00", 100): "invalid character",
	} {
		path := filepath.Join(t.TempDir(), "a", name+".json")
		if err := os.Mkdir(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		err := checkCycle(path)
		if (want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", text, err, want)
		}
	}
}

// Whatever fault is drawn, the simulator takes it.
func TestFaultsAreKnown(t *testing.T) {
	s, err := newServer("a", 1)
	if err != nil {
		t.Fatal(err)
	}
	defer s.stop()
	d := &days{random: newRandom(1), servers: []*server{s}}
	for range 1000 {
		if err := d.setFaults(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestQuantile(t *testing.T) {
	if got := median([]int{}); got != 0 {
		t.Errorf("median of nothing %d", got)
	}
	values := []float64{5, 1, 4, 2, 3}
	for q, want := range map[float64]float64{0: 1, 0.5: 3, 0.99: 4, 1: 5} {
		if got := quantile(values, q); got != want {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
	if !slices.Equal(values, []float64{5, 1, 4, 2, 3}) {
		t.Error("the values were sorted in place")
	}
}
