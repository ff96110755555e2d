//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

const llamaSlots = 8

// startLlama serves our scripted model by llama.cpp and returns its address.
func startLlama(t *testing.T) (*program, string) {
	t.Helper()
	port := freePort(t)
	p := start(t, "llama.cpp", nil, setting(t, "E2E_PYTHON"), "testdata/llama_server.py", "testdata/tiny-script/model-f32.gguf",
		strconv.Itoa(port), strconv.Itoa(llamaSlots))
	url := fmt.Sprintf("http://127.0.0.1:%d", port)
	eventually(t, time.Minute, func() error {
		resp, err := http.Get(url + "/health")
		if err != nil {
			return err
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("health: %s", resp.Status)
		}
		return nil
	})
	return p, url
}

// TestSweepOfLlamaCpp runs the whole sweep in today's users' environment against a real server. So small a model gains
// little from batching: where throughput comes out below one request at a time, the rates between the two are skipped. It
// shares the CPUs with the client, too, so that it may not bear for seconds what it bore in a settled moment: then the
// guard against over-saturation ends the stage and skips what is above.
func TestSweepOfLlamaCpp(t *testing.T) {
	_, url := startLlama(t)
	text, r := runLlama(t, "OPENAI_API_BASE_URL="+url+"/", "--max-concurrency", "32")
	for _, title := range []string{"Requests Data by Benchmark", "Tokens Data by Benchmark", "Performance Stats by Benchmark",
		"Performance Summary by Benchmark"} {
		if !strings.Contains(text, title) {
			t.Errorf("the report has no table %q", title)
		}
	}
	if !strings.HasPrefix(r.Server, "llamacpp") || r.Model != "tiny-script" {
		t.Errorf("server %q, model %q", r.Server, r.Model)
	}
	if len(r.Stages) < 2 || len(r.Stages)+len(r.Skipped) != 11 {
		t.Fatalf("%d stages ran and %d were skipped, want 11 together", len(r.Stages), len(r.Skipped))
	}
	synchronous, throughput := r.Stages[0], r.Stages[1]
	for _, skip := range r.Skipped {
		expected := skip.Reason == "over_saturated" || skip.Reason == "no_rate" && throughput.Rate <= synchronous.Rate
		if !expected {
			t.Errorf("%s was skipped (%s) with %.1f req/s synchronous and %.1f throughput",
				skip.Stage, skip.Reason, synchronous.Rate, throughput.Rate)
		}
	}
	if len(r.Skipped) > 0 {
		return
	}
	if last := r.Stages[10].Target; last == nil || *last < 0.999*throughput.Rate || *last > 1.001*throughput.Rate {
		t.Errorf("the last rate is %v, want the throughput of %.2f", last, throughput.Rate)
	}
}

// TestConstantRatesOfLlamaCpp asks for rates that the server bears.
func TestConstantRatesOfLlamaCpp(t *testing.T) {
	_, url := startLlama(t)
	_, r := runLlama(t, "OPENAI_API_BASE_URL="+url+"/v1", "--profile", "constant", "--rate", "2", "--rate", "8")
	if len(r.Stages) != 2 {
		t.Fatalf("%d stages, want 2", len(r.Stages))
	}
	for i, sent := range []int{6, 24} {
		q := r.Stages[i].Requests
		if n := q.Completed + q.Incomplete; n != sent {
			t.Errorf("%s: %d requests in 3 s, want %d", r.Stages[i].Name, n, sent)
		}
	}
}

// TestSharedPrefixOfLlamaCpp has prompts begin alike on purpose: the server reuses what it has of the last one.
func TestSharedPrefixOfLlamaCpp(t *testing.T) {
	_, url := startLlama(t)
	const shared, requests = 48, 20
	_, r := runLlama(t, "OPENAI_API_BASE_URL="+url, "--profile", "synchronous", "--max-requests", strconv.Itoa(requests),
		"--shared-prefix-tokens", strconv.Itoa(shared))
	if len(r.Stages) != 1 {
		t.Fatalf("%d stages, want 1", len(r.Stages))
	}
	if least := requests * shared * 9 / 10; r.Stages[0].Cached < least {
		t.Errorf("%d tokens from the cache, want %d or more", r.Stages[0].Cached, least)
	}
}

// runLlama measures llama.cpp, checks every stage, and returns the report as text and as JSON.
func runLlama(t *testing.T, url string, flags ...string) (string, reported) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "report.json")
	argv := append([]string{setting(t, "E2E_INFERPROBE"), "run", "--prompt-tokens", "64", "--output-tokens", "32",
		"--max-seconds", "3", "--output", "text", "--output", "json=" + out}, flags...)
	text, code := run(t, []string{url, "TOKENIZER=testdata/tiny-script"}, argv...)
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
	r := readReport(t, out)
	if r.Failure != nil {
		t.Fatalf("failure %v", r.Failure)
	}
	for i := range r.Stages {
		checkLlamaStage(t, &r.Stages[i])
	}
	return string(text), r
}

// checkLlamaStage holds a stage against what is known of the server: lengths are forced, counts exact, nothing fails.
func checkLlamaStage(t *testing.T, s *stage) {
	t.Helper()
	if s.Requests.Completed == 0 || s.Requests.Failed > 0 {
		t.Errorf("%s: %+v", s.Name, s.Requests)
		return
	}
	if *s.Output.Min != 32 || *s.Output.Max != 32 {
		t.Errorf("%s: %v to %v output tokens, want 32", s.Name, *s.Output.Min, *s.Output.Max)
	}
	for _, reason := range s.InvalidReasons {
		if reason == "token_mismatch" || reason == "output_length" || reason == "cached_prompts" {
			t.Errorf("%s: %s", s.Name, reason)
		}
	}
	if *s.FirstToken.Min <= 0 || *s.Duration.P50 < *s.FirstToken.P50 || s.Lag.Count == 0 {
		t.Errorf("%s: TTFT from %v, median %v of requests of %v, %d receive lags",
			s.Name, *s.FirstToken.Min, *s.FirstToken.P50, *s.Duration.P50, s.Lag.Count)
	}
}

// TestServerKilledInTheMiddle kills llama.cpp under load: the cycle must end with a reason and lose nothing.
func TestServerKilledInTheMiddle(t *testing.T) {
	server, url := startLlama(t)
	out := filepath.Join(t.TempDir(), "report.json")
	time.AfterFunc(4*time.Second, func() { _ = server.cmd.Process.Kill() })
	_, code := run(t, nil, setting(t, "E2E_INFERPROBE"), "run", "--url", url, "--tokenizer", "testdata/tiny-script",
		"--prompt-tokens", "32", "--output-tokens", "32", "--profile", "constant", "--rate", "5", "--rate", "6",
		"--max-seconds", "10", "--output", "json="+out)
	r := readReport(t, out)
	if len(r.Stages) != 1 {
		t.Fatalf("%d stages ran, want the first one only", len(r.Stages))
	}
	s := r.Stages[0]
	if s.Requests.Completed == 0 || s.Requests.Failed == 0 {
		t.Errorf("%+v: want requests that completed before and failed after the kill", s.Requests)
	}
	if code != 1 {
		t.Errorf("exit code %d, want 1: an endpoint that went away could not be measured to the end", code)
	}
}

func readReport(t *testing.T, path string) reported {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var r reported
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	if r.Schema != "inferprobe/report/v1" {
		t.Errorf("schema %q", r.Schema)
	}
	return r
}
