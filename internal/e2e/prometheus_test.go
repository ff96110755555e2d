//go:build e2e

package e2e

import (
	"fmt"
	"math"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"
)

const sweepFile = `
endpoints:
  - name: sim
    url: %s
    tokenizer: builtin:demo
    sweep: {interval: 6h, prompt_tokens: 128, output_tokens: 16, max_duration: 4s, max_concurrency: 32}
history: {dir: ""}
`

const scrapeFile = `
global: {scrape_interval: 1s}
scrape_configs:
  - job_name: inferprobe
    scrape_native_histograms: true
    always_scrape_classic_histograms: true
    static_configs: [{targets: ["%s"]}]
`

// TestPrometheusSeesWhatTheReportSays scrapes the daemon with a real Prometheus while it sweeps the simulator, and holds
// histogram_quantile, by classic and by native buckets, against the exact quantiles of the report.
func TestPrometheusSeesWhatTheReportSays(t *testing.T) {
	inferprobe := setting(t, "E2E_INFERPROBE")
	simAddress := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	start(t, "sim", nil, inferprobe, "sim", "--listen", simAddress)

	dir := t.TempDir()
	config := filepath.Join(dir, "inferprobe.yaml")
	write(t, config, fmt.Sprintf(sweepFile, "http://"+simAddress))
	address := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	eventually(t, 20*time.Second, func() error { var v any; return get("http://"+simAddress+"/v1/models", &v) })
	daemon := start(t, "inferprobe", nil, inferprobe, "serve", "--config.file", config, "--web.listen-address", address,
		"--log.format", "json")
	prometheus := startPrometheus(t, dir, address)
	daemon.wait(t, "cycle finished", 2*time.Minute)

	report := lastReport(t, address)
	checkMetricsFormat(t, address)
	// Wait until the last scrape holds what the last stage observed.
	eventually(t, 20*time.Second, func() error {
		n, err := query(prometheus, `sum(inferprobe_requests_total{stage!="canary"})`)
		if err == nil && n < float64(requests(report)) {
			err = fmt.Errorf("%v of %d requests scraped", n, requests(report))
		}
		return err
	})
	for _, s := range report.Stages {
		compare(t, prometheus, s.Name, "inferprobe_time_to_first_token_seconds", s.FirstToken)
		compare(t, prometheus, s.Name, "inferprobe_request_duration_seconds", s.Duration)
		compare(t, prometheus, s.Name, "inferprobe_inter_token_latency_seconds", s.Gap)
	}
	if code := daemon.stop(); code != 0 {
		t.Errorf("SIGTERM ended the daemon with exit code %d", code)
	}
}

func startPrometheus(t *testing.T, dir, target string) string {
	t.Helper()
	file := filepath.Join(dir, "prometheus.yml")
	write(t, file, fmt.Sprintf(scrapeFile, target))
	address := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	p := start(t, "prometheus", nil, setting(t, "E2E_PROMETHEUS"), "--config.file", file, "--web.listen-address", address,
		"--storage.tsdb.path", filepath.Join(dir, "tsdb"))
	p.wait(t, "ready to receive web requests", time.Minute)
	return address
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// lastReport returns the report of a whole sweep.
func lastReport(t *testing.T, address string) reported {
	t.Helper()
	_, r := lastCycle(t, address)
	if len(r.Stages) != 11 {
		t.Fatalf("%d stages in the report", len(r.Stages))
	}
	return r
}

// lastCycle returns the last cycle of the only endpoint.
func lastCycle(t *testing.T, address string) (id string, r reported) {
	t.Helper()
	var state struct {
		Endpoints []struct {
			Cycles []struct{ ID string }
		}
	}
	if err := get("http://"+address+"/api/v1/endpoints", &state); err != nil {
		t.Fatal(err)
	}
	if len(state.Endpoints) != 1 || len(state.Endpoints[0].Cycles) == 0 {
		t.Fatalf("%+v, want one endpoint with a cycle", state)
	}
	id = state.Endpoints[0].Cycles[0].ID
	if err := get("http://"+address+"/api/v1/cycles/"+id, &r); err != nil {
		t.Fatal(err)
	}
	return id, r
}

func requests(r reported) (n int) {
	for _, s := range r.Stages {
		n += s.Requests.Completed + s.Requests.Failed + s.Requests.Incomplete
	}
	return n
}

// checkMetricsFormat lets promtool lint the exposition.
func checkMetricsFormat(t *testing.T, address string) {
	t.Helper()
	cmd := exec.Command("sh", "-c", `curl -sf "$0" | "$1" check metrics`, "http://"+address+"/metrics", setting(t, "E2E_PROMTOOL"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}

// nativeWidth is the ratio of the bounds of a native bucket of schema 3, which the daemon's factor of 1.1 chooses.
var nativeWidth = math.Pow(2, 1.0/8)

// compare holds one stage's histogram against the report: the same observations, and each quantile within the buckets.
func compare(t *testing.T, prometheus, stage, metric string, want distribution) {
	t.Helper()
	n, err := query(prometheus, fmt.Sprintf(`histogram_count(%s{stage=%q})`, metric, stage))
	if err != nil || int(n) != want.Count {
		t.Errorf("%s: %v observations of %s (%v), %d in the report", stage, n, metric, err, want.Count)
		return
	}
	for q, exact := range map[float64]float64{0.5: *want.P50, 0.9: *want.P90} {
		low, high := around(t, prometheus, fmt.Sprintf(`%s{stage=%q}`, metric, stage), q, n)
		if exact < low/nativeWidth || exact > high*nativeWidth {
			t.Errorf("%s: p%.0f of %s is in (%v, %v) by native buckets, %v in the report", stage, 100*q, metric,
				low/nativeWidth, high*nativeWidth, exact)
		}
		low, high = around(t, prometheus, fmt.Sprintf(`%s_bucket{stage=%q}`, metric, stage), q, n)
		low, _ = bucket(t, prometheus, metric, low)
		_, high = bucket(t, prometheus, metric, high)
		if exact < low || exact > high {
			t.Errorf("%s: p%.0f of %s is in (%v, %v] by classic buckets, %v in the report", stage, 100*q, metric, low, high, exact)
		}
	}
}

// around returns a histogram's quantiles one observation below and above q: the report's quantile lies between order
// statistics, histogram_quantile's in the bucket of one of them, and between two of few there may be several buckets.
func around(t *testing.T, prometheus, histogram string, q, n float64) (low, high float64) {
	t.Helper()
	const one = 1.01 // more than one, so that rounding leaves none out
	ends := [2]float64{}
	for i, p := range []float64{max(0, q-one/n), min(1, q+one/n)} {
		value, err := query(prometheus, fmt.Sprintf(`histogram_quantile(%g, %s)`, p, histogram))
		if err != nil {
			t.Fatal(err)
		}
		ends[i] = value
	}
	return ends[0], ends[1]
}

// bucket returns the bounds of the classic bucket that holds value.
func bucket(t *testing.T, prometheus, metric string, value float64) (low, high float64) {
	t.Helper()
	var answer struct{ Data []string }
	err := get("http://"+prometheus+"/api/v1/label/le/values?match[]="+url.QueryEscape(metric+"_bucket"), &answer)
	if err != nil {
		t.Fatal(err)
	}
	var bounds []float64
	for _, s := range answer.Data {
		b, err := strconv.ParseFloat(s, 64)
		if err != nil {
			t.Fatal(err)
		}
		bounds = append(bounds, b)
	}
	sort.Float64s(bounds)
	for _, b := range bounds {
		if value <= b {
			return low, b
		}
		low = b
	}
	return low, math.Inf(1)
}

// query returns the only value of an instant query.
func query(prometheus, expr string) (float64, error) {
	var answer struct {
		Data struct {
			Result []struct{ Value [2]any }
		}
	}
	if err := get("http://"+prometheus+"/api/v1/query?query="+url.QueryEscape(expr), &answer); err != nil {
		return 0, err
	}
	if len(answer.Data.Result) != 1 {
		return 0, fmt.Errorf("%s: %d series, want one", expr, len(answer.Data.Result))
	}
	text, _ := answer.Data.Result[0].Value[1].(string)
	value, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
	if err == nil && math.IsNaN(value) {
		err = fmt.Errorf("%s is NaN", expr)
	}
	return value, err
}
