//go:build e2e

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

const dashboards = "../../dashboards"

// TestPromtool lets promtool check the rules and the scrape configuration, and run the rules' unit tests.
func TestPromtool(t *testing.T) {
	for _, args := range [][]string{
		{"check", "config", filepath.Join(dashboards, "prometheus.yml")},
		append([]string{"check", "rules"}, glob(t, "rules/*.yaml")...),
		append([]string{"test", "rules"}, glob(t, "rules/tests/*.yaml")...),
	} {
		out, err := exec.Command(setting(t, "E2E_PROMTOOL"), args...).CombinedOutput()
		if err != nil {
			t.Errorf("promtool %s %s: %v\n%s", args[0], args[1], err, out)
		}
	}
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dashboards, pattern))
	if err != nil || len(paths) == 0 {
		t.Fatalf("%s: %d files, %v", pattern, len(paths), err)
	}
	return paths
}

// boardFile is an endpoint with everything that boards can show: objectives, several rates, a canary and a budget.
// Answers of two tokens with a gap that is long even for a busy machine keep its stages valid.
const boardFile = `
endpoints:
  - name: sim
    url: %s
    tokenizer: builtin:demo
    labels: [{name: team, value: test}]
    objectives: {time_to_first_token_p90: 1s, inter_token_latency_p90: 1s, request_duration_p90: 10s, error_rate: 5%%}
    sweep: {interval: 6h, rates: 2, prompt_tokens: 64, output_tokens: 2, max_duration: 8s, max_concurrency: 8}
    canary: {interval: 1s, prompt_tokens: 32, output_tokens: 4}
    guards: {tokens_per_day: 100M}
history: {dir: %s}
`

// Queries that have no data in a healthy run, by board, panel and query.
func emptyWhenHealthy() []string {
	return []string{
		"endpoint.json: Failed requests by reason A",
		"endpoint.json: Failed cycles by reason A",
		"prober.json: Cycles skipped A",
		"prober.json: Cycles failed A",
		"endpoint.json: Failed requests of the canary A",
		"endpoint.json: Skipped cycles by reason A",
		"overview.json: Worse than the baseline A",
		"overview.json: Worse than the baseline B",
		// There is no yesterday in a test…
		"endpoint.json: Time to first token: today and before B",
		"endpoint.json: Time to first token: today and before C",
		"endpoint.json: Inter-token latency: today and before B",
		"endpoint.json: Inter-token latency: today and before C",
		"endpoint.json: Request duration: today and before B",
		"endpoint.json: Request duration: today and before C",
		// …and the simulator has no histograms of its own.
		"endpoint.json: Time to first token: client and server, p90 B",
	}
}

// Queries that may or may not have data in a healthy run.
func emptyAtTimes() []string {
	return []string{
		// The machine that runs the test may make inferprobe late, which it says.
		"overview.json: Alerts A",
		"overview.json: annotation Alert",
		"endpoint.json: annotation Alert",
		"prober.json: annotation Alert",
		// On a quiet one nothing is found wrong.
		"endpoint.json: Findings on the measurement A",
		"prober.json: Findings on measurements A",
		// A subquery steps every ten minutes of the clock.
		"overview.json: Endpoints, the worst first I",
		"endpoint.json: Capacity C",
		// Lateness needs 368 observations, which depends on the rate that the machine reaches.
		"job_instance:inferprobe_schedule_delay_seconds:p99_increase1h",
		"job_instance:inferprobe_receive_lag_seconds:p99_increase1h",
		"InferprobeScheduleDelay",
		"InferprobeReceiveLag",
	}
}

// TestEveryQueryReturnsData evaluates every query of every board and rule in a real Prometheus with the scrape
// configuration that we ship, once with both kinds of histograms and once with each alone.
func TestEveryQueryReturnsData(t *testing.T) {
	server := startSim(t, "--fixed", "60ms,140ms")
	folder := t.TempDir()
	config := fmt.Sprintf(boardFile, server.url, folder)
	past(t, config, folder)
	for _, mode := range []string{"both", "native", "classic"} {
		t.Run(mode, func(t *testing.T) {
			daemon, address := startDaemon(t, config+"metrics: {histograms: "+mode+"}\n")
			prometheus := startShipped(t, address, server.address)
			post(t, address, "run")
			trusted(t, daemon, address)
			awaitCanaries(t, prometheus)
			awaitRules(t, prometheus)

			var queries []boardQuery
			for _, path := range glob(t, "*.json") {
				queries = append(queries, boardQueries(t, prometheus, path)...)
			}
			queries = append(queries, ruleQueries(t, prometheus)...)
			if len(queries) < 150 {
				t.Fatalf("only %d queries", len(queries))
			}
			for _, q := range queries {
				check(t, prometheus, q)
			}
		})
	}
}

// past runs a cycle and puts copies of it into the history as those of the days before: a baseline.
func past(t *testing.T, config, folder string) {
	t.Helper()
	daemon, address := startDaemon(t, config)
	id := trusted(t, daemon, address)
	daemon.stop()
	dir := filepath.Join(folder, "cycles", "sim")
	content, err := os.ReadFile(filepath.Join(dir, id+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var cycle struct {
		Started time.Time `json:"started_at"`
	}
	if err := json.Unmarshal(content, &cycle); err != nil {
		t.Fatal(err)
	}
	for days := 1; days <= 5; days++ {
		then := cycle.Started.AddDate(0, 0, -days)
		move := strings.NewReplacer(cycle.Started.Format("2006-01-02"), then.Format("2006-01-02"),
			cycle.Started.Format("20060102"), then.Format("20060102"))
		write(t, filepath.Join(dir, move.Replace(id)+".json"), move.Replace(string(content)))
	}
}

// trusted waits for the end of a cycle whose light and full load are validly measured, and returns its ID. A busy machine
// may spoil one; then another is asked for.
func trusted(t *testing.T, daemon *program, address string) string {
	t.Helper()
	for range 4 {
		daemon.wait(t, "cycle finished", 2*time.Minute)
		id, report := lastCycle(t, address)
		if !slices.ContainsFunc(report.Stages, func(s stage) bool {
			return len(s.InvalidReasons) > 0 && (s.Name == "synchronous" || s.Name == "throughput")
		}) {
			return id
		}
		post(t, address, "run")
	}
	t.Fatal("four cycles in a row are not valid; is the machine busy?")
	return ""
}

// post asks the daemon to run, pause or resume the endpoint, as soon as it can be asked.
func post(t *testing.T, address, what string) {
	t.Helper()
	eventually(t, 20*time.Second, func() error {
		resp, err := http.Post("http://"+address+"/api/v1/endpoints/sim/"+what, "", nil)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode/100 != 2 {
			return errors.New(resp.Status)
		}
		return nil
	})
}

// awaitCanaries waits until there are as many requests of the canary as bound a 90th percentile.
func awaitCanaries(t *testing.T, prometheus string) {
	t.Helper()
	eventually(t, 2*time.Minute, func() error {
		n, err := query(prometheus, `sum(increase(inferprobe_requests_total{stage="canary"}[1h]))`)
		if err == nil && n < 40 {
			err = fmt.Errorf("%v requests of the canary", n)
		}
		return err
	})
}

// check evaluates a query over the last minutes as Grafana would.
func check(t *testing.T, prometheus string, q boardQuery) {
	t.Helper()
	n, err := q.points(prometheus)
	switch {
	case err != nil:
		t.Errorf("%s: %v\n%s", q.name, err, q.expr)
	case slices.Contains(emptyWhenHealthy(), q.name) || q.alert && !slices.Contains(emptyAtTimes(), q.name):
		if n > 0 {
			t.Errorf("%s has data in a healthy run\n%s", q.name, q.expr)
		}
	case n == 0 && !slices.Contains(emptyAtTimes(), q.name):
		t.Errorf("%s has no data\n%s", q.name, q.expr)
	}
	if q.exemplar {
		checkExemplars(t, prometheus, q)
	}
}

// checkExemplars asks for the exemplars of a query, as Grafana does beside its values.
func checkExemplars(t *testing.T, prometheus string, q boardQuery) {
	t.Helper()
	now := time.Now()
	form := url.Values{"query": {q.expr}, "start": {strconv.FormatInt(now.Add(-10*time.Minute).Unix(), 10)},
		"end": {strconv.FormatInt(now.Unix(), 10)}}
	var answer struct {
		Data []struct {
			Exemplars []struct{ Labels map[string]string }
		}
	}
	if err := get("http://"+prometheus+"/api/v1/query_exemplars?"+form.Encode(), &answer); err != nil {
		t.Errorf("%s: %v\n%s", q.name, err, q.expr)
		return
	}
	if len(answer.Data) == 0 || answer.Data[0].Exemplars[0].Labels["trace_id"] == "" {
		t.Errorf("%s has no exemplars with the id of a trace\n%s", q.name, q.expr)
	}
}

// boardQuery is a query as it is sent.
type boardQuery struct {
	name, expr string
	instant    bool
	alert      bool
	exemplar   bool
}

// points returns how many values, histograms among them, the query gave; NaN is none.
func (q boardQuery) points(prometheus string) (n int, err error) {
	form := url.Values{"query": {q.expr}}
	path := "query"
	if !q.instant {
		now := time.Now()
		path = "query_range"
		form.Set("start", strconv.FormatInt(now.Add(-3*time.Minute).Unix(), 10))
		form.Set("end", strconv.FormatInt(now.Unix(), 10))
		form.Set("step", "5s")
	}
	var answer struct {
		Data struct {
			Result []struct {
				Value      [2]any
				Values     [][2]any
				Histogram  json.RawMessage
				Histograms []json.RawMessage
			}
		}
	}
	if err := get("http://"+prometheus+"/api/v1/"+path+"?"+form.Encode(), &answer); err != nil {
		return 0, err
	}
	for _, r := range answer.Data.Result {
		n += len(r.Histograms)
		if r.Histogram != nil {
			n++
		}
		for _, v := range append(r.Values, r.Value) {
			text, _ := v[1].(string)
			if f, err := strconv.ParseFloat(text, 64); err == nil && !math.IsNaN(f) {
				n++
			}
		}
	}
	return n, nil
}

// boardQueries returns the queries of a board with what Grafana would put in place of its variables.
func boardQueries(t *testing.T, prometheus, path string) (list []boardQuery) {
	t.Helper()
	var board struct {
		Panels []struct {
			Title   string
			Targets []struct {
				RefID, Expr string
				Instant     bool
				Exemplar    bool
			}
		}
		Templating struct {
			List []struct {
				Name, Type, AllValue string
				Query                json.RawMessage
			}
		}
		Annotations struct{ List []struct{ Name, Expr string } }
	}
	content, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(content, &board)
	}
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	file := filepath.Base(path)
	values := map[string]string{"__rate_interval": "15s", "__range": "5m"}
	for _, v := range board.Templating.List {
		if v.Type != "query" {
			continue
		}
		var q struct{ Query string }
		if err := json.Unmarshal(v.Query, &q); err != nil {
			t.Fatalf("%s: variable %s: %v", file, v.Name, err)
		}
		all := labelValues(t, prometheus, interpolate(q.Query, values))
		if values[v.Name] = strings.Join(all, "|"); v.AllValue != "" {
			values[v.Name] = v.AllValue
		}
	}
	for _, p := range board.Panels {
		for _, q := range p.Targets {
			list = append(list, boardQuery{
				name: file + ": " + p.Title + " " + q.RefID, expr: interpolate(q.Expr, values), instant: q.Instant,
				exemplar: q.Exemplar,
			})
		}
	}
	for _, a := range board.Annotations.List {
		list = append(list, boardQuery{name: file + ": annotation " + a.Name, expr: interpolate(a.Expr, values)})
	}
	return list
}

var variable = regexp.MustCompile(`\$(\w+)`)

func interpolate(expr string, values map[string]string) string {
	return variable.ReplaceAllStringFunc(expr, func(name string) string {
		if v, ok := values[name[1:]]; ok {
			return v
		}
		return name // which no query can contain
	})
}

var labelValuesQuery = regexp.MustCompile(`^label_values\((.*), (\w+)\)$`)

// labelValues runs the query of a variable, as Grafana does.
func labelValues(t *testing.T, prometheus, query string) []string {
	t.Helper()
	m := labelValuesQuery.FindStringSubmatch(query)
	if m == nil {
		t.Fatalf("%q is no query of a variable", query)
	}
	var answer struct{ Data []string }
	err := get("http://"+prometheus+"/api/v1/label/"+m[2]+"/values?match[]="+url.QueryEscape(m[1]), &answer)
	if err != nil || len(answer.Data) == 0 {
		t.Fatalf("%s: %d values, %v", query, len(answer.Data), err)
	}
	return answer.Data
}

// ruleQueries returns the expressions of all rules, as Prometheus loaded them.
func ruleQueries(t *testing.T, prometheus string) (list []boardQuery) {
	t.Helper()
	for _, r := range loadedRules(t, prometheus) {
		list = append(list, boardQuery{name: r.Name, expr: r.Query, instant: true, alert: r.Type == "alerting"})
	}
	return list
}

type loadedRule struct {
	Name, Query, Type, Health, LastError, LastEvaluation string

	Alerts []struct {
		State  string
		Labels map[string]string
	}
}

func loadedRules(t *testing.T, prometheus string) (list []loadedRule) {
	t.Helper()
	var answer struct {
		Data struct {
			Groups []struct{ Rules []loadedRule }
		}
	}
	if err := get("http://"+prometheus+"/api/v1/rules", &answer); err != nil {
		t.Fatal(err)
	}
	for _, g := range answer.Data.Groups {
		list = append(list, g.Rules...)
	}
	return list
}

// awaitRules waits until every rule has been evaluated twice from now on, the second time on what the first recorded.
func awaitRules(t *testing.T, prometheus string) {
	t.Helper()
	since := time.Now().Add(5 * time.Second)
	eventually(t, time.Minute, func() error {
		rules := loadedRules(t, prometheus)
		if len(rules) < 20 {
			return fmt.Errorf("only %d rules are loaded", len(rules))
		}
		for _, r := range rules {
			at, err := time.Parse(time.RFC3339Nano, r.LastEvaluation)
			if err != nil || at.Before(since) {
				return fmt.Errorf("%s was evaluated at %s: %v", r.Name, r.LastEvaluation, err)
			}
			if r.Health != "ok" {
				return fmt.Errorf("%s: %s: %s", r.Name, r.Health, r.LastError)
			}
		}
		return nil
	})
}

// server is a running simulator.
type server struct {
	*program
	address, url string
}

func startSim(t *testing.T, args ...string) server {
	t.Helper()
	address := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	p := start(t, "sim", nil, append([]string{setting(t, "E2E_INFERPROBE"), "sim", "--listen", address}, args...)...)
	s := server{p, address, "http://" + address + "/v1"}
	eventually(t, 20*time.Second, func() error { var v any; return get(s.url+"/models", &v) })
	return s
}

// startDaemon serves a configuration and returns the address of its metrics.
func startDaemon(t *testing.T, config string) (*program, string) {
	t.Helper()
	address := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	return serveOn(t, address, config), address
}

func serveOn(t *testing.T, address, config string) *program {
	t.Helper()
	path := filepath.Join(t.TempDir(), "inferprobe.yaml")
	write(t, path, config)
	return start(t, "inferprobe", nil, setting(t, "E2E_INFERPROBE"), "serve", "--config.file", path,
		"--web.listen-address", address, "--web.enable-lifecycle", "--log.format", "json")
}

var (
	shippedTarget   = regexp.MustCompile(`targets: \["[^"]*"\]`)
	shippedInterval = regexp.MustCompile(
		`(?m)^( *(?:scrape_interval|evaluation_interval|interval|for|keep_firing_for):) \w+$`)
)

// startShipped starts Prometheus with the scrape configuration and the rules of dashboards/, all their intervals a
// second and the window of an endpoint's silence five, and returns its address. It scrapes the simulator too, as a
// server whose own metrics stand beside ours.
func startShipped(t *testing.T, target, simulator string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "rules"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, path := range append(glob(t, "rules/*.yaml"), filepath.Join(dashboards, "prometheus.yml")) {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		name, err := filepath.Rel(dashboards, path)
		if err != nil {
			t.Fatal(err)
		}
		text := shippedInterval.ReplaceAllString(string(content), "$1 1s")
		text = strings.ReplaceAll(text, "inferprobe_probe_success[5m]", "inferprobe_probe_success[5s]")
		text = shippedTarget.ReplaceAllString(text, fmt.Sprintf("targets: [%q]", target))
		if name == "prometheus.yml" {
			text += fmt.Sprintf("  - job_name: vllm\n    static_configs: [{targets: [%q]}]\n", simulator)
		}
		write(t, filepath.Join(dir, name), text)
	}
	address := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	p := start(t, "prometheus", nil, setting(t, "E2E_PROMETHEUS"), "--config.file", filepath.Join(dir, "prometheus.yml"),
		"--web.listen-address", address, "--storage.tsdb.path", filepath.Join(dir, "tsdb"),
		"--enable-feature", "exemplar-storage")
	p.wait(t, "ready to receive web requests", time.Minute)
	return address
}

// oneStageFile is an endpoint whose cycle is one stage, with what a test adds to it.
const oneStageFile = `
endpoints:
  - name: sim
    url: %s
    model: sim
    tokenizer: builtin:demo
    sweep: {interval: 6h, profile: synchronous, prompt_tokens: 64, output_tokens: 2, max_requests: 40}
    %s
history: {dir: %q}
`

// TestAlertsFireForTheirReasonOnly provokes a slow endpoint, an outage of inferprobe, and an outage of the endpoint.
func TestAlertsFireForTheirReasonOnly(t *testing.T) {
	slow := startSim(t, "--fixed", "200ms,140ms")
	objectives := "objectives: {time_to_first_token_p90: 100ms, inter_token_latency_p90: 300ms}\n    "
	daemon, address := startDaemon(t, fmt.Sprintf(oneStageFile, slow.url, objectives+"canary: {interval: 1s}", ""))
	prometheus := startShipped(t, address, slow.address)
	daemon.wait(t, "cycle finished", 2*time.Minute)
	awaitAlerts(t, prometheus, "InferprobeObjectiveBurn sim time_to_first_token",
		"InferprobeObjectiveMissed sim time_to_first_token")

	daemon.stop()
	awaitAlerts(t, prometheus, "InferprobeAbsent", "InferprobeDown")

	slow.stop()
	serveOn(t, address, fmt.Sprintf(oneStageFile, slow.url, objectives+"canary: {interval: 0s}", "")).
		wait(t, "cycle failed", time.Minute)
	// The endpoint has answered within the hour, and no alert waits as long as it says.
	awaitAlerts(t, prometheus, "InferprobeCyclesFail sim", "InferprobeEndpointDown sim")
}

// TestRegressionFires holds two cycles on a slower endpoint against those of the days before.
func TestRegressionFires(t *testing.T) {
	folder := t.TempDir()
	config := func(url string) string { return fmt.Sprintf(oneStageFile, url, "canary: {interval: 0s}", folder) }
	past(t, config(startSim(t, "--fixed", "60ms,140ms").url), folder)

	slow := startSim(t, "--fixed", "200ms,140ms")
	daemon, address := startDaemon(t, config(slow.url))
	prometheus := startShipped(t, address, slow.address)
	for range 2 {
		post(t, address, "run")
		trusted(t, daemon, address)
	}
	awaitAlerts(t, prometheus, "InferprobeRegression sim request_duration", "InferprobeRegression sim time_to_first_token")
}

const canaryFile = `
endpoints:
  - name: sim
    url: %s
    tokenizer: builtin:demo
    sweep: {interval: 0s}
    canary: {interval: 1s}
    guards: {tokens_per_day: 1000}
history: {dir: ""}
`

// TestHeldBackFires uses up the tokens of an endpoint and pauses it.
func TestHeldBackFires(t *testing.T) {
	server := startSim(t, "--fixed", "20ms,10ms")
	_, address := startDaemon(t, fmt.Sprintf(canaryFile, server.url))
	prometheus := startShipped(t, address, server.address)
	awaitAlerts(t, prometheus, "InferprobeTokenBudgetGone sim")
	post(t, address, "pause")
	awaitAlerts(t, prometheus, "InferprobePaused sim", "InferprobeTokenBudgetGone sim")
	post(t, address, "resume")
	awaitAlerts(t, prometheus, "InferprobeTokenBudgetGone sim")
}

// awaitAlerts waits until exactly these alerts fire. What a busy machine does to inferprobe is left aside.
func awaitAlerts(t *testing.T, prometheus string, want ...string) {
	t.Helper()
	eventually(t, time.Minute, func() error {
		firing := make(map[string]bool)
		for _, r := range loadedRules(t, prometheus) {
			for _, a := range r.Alerts {
				if a.State == "firing" && r.Name != "InferprobeScheduleDelay" && r.Name != "InferprobeReceiveLag" {
					firing[strings.TrimSpace(r.Name+" "+a.Labels["endpoint"]+" "+a.Labels["signal"])] = true
				}
			}
		}
		if got := slices.Sorted(maps.Keys(firing)); !slices.Equal(got, want) {
			return errors.New("firing: " + strings.Join(got, ", ") + "; want " + strings.Join(want, ", "))
		}
		return nil
	})
}
