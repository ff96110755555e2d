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

// TestSweepOfLlamaCpp runs the whole sweep in today's users' environment against a real server.
func TestSweepOfLlamaCpp(t *testing.T) {
	_, url := startLlama(t)
	out := filepath.Join(t.TempDir(), "report.json")
	text, code := run(t, []string{"OPENAI_API_BASE_URL=" + url + "/", "TOKENIZER=testdata/tiny-script"},
		setting(t, "E2E_INFERPROBE"), "run", "--prompt-tokens", "64", "--output-tokens", "32", "--max-seconds", "3",
		"--max-concurrency", "32", "--output", "text", "--output", "json="+out)
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
	for _, title := range []string{"Requests Data by Benchmark", "Tokens Data by Benchmark", "Performance Stats by Benchmark",
		"Performance Summary by Benchmark"} {
		if !strings.Contains(string(text), title) {
			t.Errorf("the report has no table %q", title)
		}
	}
	r := readReport(t, out)
	if r.Failure != nil || len(r.Stages) != 11 {
		t.Fatalf("%d stages, failure %v", len(r.Stages), r.Failure)
	}
	if !strings.HasPrefix(r.Server, "llamacpp") || r.Model != "tiny-script" {
		t.Errorf("server %q, model %q", r.Server, r.Model)
	}
	for _, s := range r.Stages {
		checkLlamaStage(t, &s)
	}
	synchronous, throughput := r.Stages[0], r.Stages[1]
	if throughput.Rate < 1.2*synchronous.Rate {
		t.Errorf("throughput of %.1f req/s with %d slots is hardly above the synchronous %.1f",
			throughput.Rate, llamaSlots, synchronous.Rate)
	}
	if last := r.Stages[10].Target; last == nil || *last < 0.999*throughput.Rate || *last > 1.001*throughput.Rate {
		t.Errorf("the last rate is %v, want the throughput of %.2f", last, throughput.Rate)
	}
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
	if code != 0 {
		t.Errorf("exit code %d, want 0: the endpoint was measured until its guard ended it", code)
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
