// Package archtest holds the directions in which packages may import each other.
package archtest

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/inferprobe/inferprobe/"

// allowed says what of ours each package may import, tests left aside. A package that is not here must be added with
// care: data flows from configuration to results, and imports point the same way.
var allowed = map[string][]string{
	"internal/probe":                 nil,
	"internal/stats":                 nil,
	"internal/wiretime":              nil,
	"internal/wiretime/wiretimetest": nil,
	"internal/http1":                 {"internal/wiretime"},
	"internal/sse":                   nil,
	"internal/schedule":              nil,
	"internal/logging":               nil,
	"internal/sim":                   nil,
	"internal/sim/simtest":           {"internal/sim"},
	"internal/tokenizer":             nil,
	"internal/tokenizer/demo":        nil,
	"internal/prompt":                {"internal/probe", "internal/tokenizer"},
	"internal/prompt/prompttest":     {"internal/prompt", "internal/tokenizer"},
	"internal/openai":                {"internal/http1", "internal/probe", "internal/sse", "internal/wiretime"},
	"internal/load":                  {"internal/probe"},
	"internal/report":                {"internal/probe"},
	"internal/metrics":               {"internal/probe"},
	"internal/web":                   nil,
	"internal/history":               {"internal/probe"},
	"internal/regress":               {"internal/probe", "internal/stats"},
	"internal/serverload":            nil,
	"internal/lease":                 nil,
	"internal/otlp":                  nil,
	"internal/config":                {"internal/probe", "internal/schedule"},
	"internal/config/configtest":     nil,
	"internal/sweep": {
		"internal/load", "internal/openai", "internal/probe", "internal/prompt", "internal/serverload", "internal/stats",
	},
	"internal/daemon": {
		"internal/config", "internal/history", "internal/lease", "internal/metrics", "internal/openai", "internal/probe", "internal/prompt", "internal/regress",
		"internal/report", "internal/schedule", "internal/sweep", "internal/tokenizer", "internal/tokenizer/demo", "internal/web",
	},
	"internal/selfcheck": {
		"internal/load", "internal/openai", "internal/probe", "internal/prompt", "internal/sim", "internal/sweep",
		"internal/tokenizer", "internal/tokenizer/demo", "internal/wiretime",
	},
	"internal/boards":          {"internal/metrics", "internal/probe"},
	"internal/boards/generate": {"internal/boards"},
	"internal/archtest":        nil,
	"internal/benchmark":       nil,
	"internal/deploytest":      nil,
	"internal/e2e":             nil,
	"internal/soak":            {"internal/schedule", "internal/sim"},
}

func TestImportsPointDown(t *testing.T) {
	list := exec.Command("go", "list", "-e", "-tags", "hftokenizers", "-f", `{{.ImportPath}} {{join .Imports " "}}`, module+"internal/...")
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(lines) < 10 {
		t.Fatalf("go list knows only %d packages", len(lines))
	}
	for _, line := range lines {
		fields := strings.Fields(line)
		pkg := strings.TrimPrefix(fields[0], module)
		may, known := allowed[pkg]
		if !known {
			t.Errorf("%s is not in the table of allowed imports", pkg)
		}
		for _, imported := range fields[1:] {
			if ours, ok := strings.CutPrefix(imported, module); ok && !slices.Contains(may, ours) {
				t.Errorf("%s imports %s", pkg, ours)
			}
		}
	}
}
