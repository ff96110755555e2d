//go:build e2e

package report

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// loader has GuideLLM load a file and print its tables.
const loader = `
import asyncio, sys
from guidellm.benchmark.outputs.console import GenerativeBenchmarkerConsole
from guidellm.benchmark.schemas import GenerativeBenchmarksReport
report = GenerativeBenchmarksReport.load_file(sys.argv[1])
print("loaded", len(report.benchmarks))
for b in report.benchmarks:
    ttft = b.metrics.time_to_first_token_ms.successful
    tokens = b.metrics.output_tokens_per_second.total
    print(f"{b.config.strategy.type_} {ttft.count} {ttft.median:.1f} {tokens.mean:.1f}")
asyncio.run(GenerativeBenchmarkerConsole().finalize(report))
`

// TestGuideLLMLoader: GuideLLM itself reads our benchmarks.json and prints its table of it. E2E_GUIDELLM_PYTHON is a
// Python interpreter that has it: python -m venv V && V/bin/pip install guidellm==0.7.3, then V/bin/python.
func TestGuideLLMLoader(t *testing.T) {
	python := os.Getenv("E2E_GUIDELLM_PYTHON")
	if python == "" {
		t.Skip("E2E_GUIDELLM_PYTHON is not set to a Python that has GuideLLM")
	}
	for name, want := range map[string][]string{
		"seed": {"loaded 11", "synchronous 101 62.1 108.5", "constant 1578 149.6 1687.0", "throughput 505 4160.1 2565.9",
			"Run Summary Info", "Request Latency Statistics", "Server Throughput Statistics"},
		"troubled":    {"loaded 3", "poisson 3 0.4 16000000.0", "poisson 0 0.0 0.0"},
		"unreachable": {"loaded 0"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "benchmarks.json")
			if err := os.WriteFile(path, guide(t, guideCycles(t)[name]), 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(python, "-c", loader, path)
			cmd.Env = append(os.Environ(), "HF_HUB_OFFLINE=1", "COLUMNS=200")
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			t.Logf("%s", out)
			for _, text := range want {
				if !strings.Contains(string(out), text) {
					t.Errorf("it does not say %q", text)
				}
			}
		})
	}
}
