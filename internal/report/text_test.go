package report

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/inferprobe/inferprobe/internal/probe"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestMain(m *testing.M) {
	time.Local = time.UTC // reports show local times
	os.Exit(m.Run())
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(string(got), "\n")); diff != "" {
		t.Errorf("%s differs (-want +got); if that is right, run with -update:\n%s", path, diff)
	}
}

func text(t *testing.T, c *probe.Cycle, width int) string {
	t.Helper()
	var b bytes.Buffer
	if err := Text(&b, c, width); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestTextGolden(t *testing.T) {
	cycles := map[string]*probe.Cycle{"seed": seedCycle(t), "troubled": troubledCycle(t),
		"unreachable": unreachableCycle(t), "empty": {}}
	for name, widths := range map[string][]int{
		"seed": {20, 40, 80, 130, 217}, "troubled": {20, 40, 80, 130, 217}, "unreachable": {40, 80}, "empty": {80},
	} {
		for _, width := range widths {
			t.Run(fmt.Sprintf("%s-%d", name, width), func(t *testing.T) {
				got := text(t, cycles[name], width)
				if strings.Contains(got, "…") {
					t.Error("text is cut off with an ellipsis")
				}
				golden(t, fmt.Sprintf("%s-%d.txt", name, width), []byte(got))
			})
		}
	}
}

// TestSeedFigures holds the report to the figures of the seed: each cell must read as there, but for the mark of small
// samples.
func TestSeedFigures(t *testing.T) {
	c := seedCycle(t)
	four := tables(ordered(c.Stages))
	list := func(text string) string { return strings.Join(strings.Fields(text)[1:], ", ") }
	for i, row := range seedStages() {
		ratio := fmt.Sprintf("%d/%[1]d", row.completed)
		name := row.name
		if row.rate > 0 {
			name = fmt.Sprintf("asynchronous@%.2f req/sec", row.rate)
		}
		want := [][]string{
			{name, ratio, "0" + strings.TrimLeft(ratio, "0123456789"), four[0].rows[i][3],
				fmt.Sprintf("%.2f sec", row.duration), row.start, row.end, "yes", row.name},
			{name, strings.Fields(row.prompt)[0], list(row.prompt), strings.Fields(row.output)[0], list(row.output),
				four[1].rows[i][5]},
			{name, list(row.latency), list(row.ttft), list(row.itl)},
			{name, fmt.Sprintf("%.2f req/sec", row.requests), strings.Fields(row.latency)[0] + " sec",
				strings.Fields(row.ttft)[0] + " ms", strings.Fields(row.itl)[0] + " ms",
				fmt.Sprintf("%.2f tokens/sec", row.throughput)},
		}
		for j := range four {
			var got []string
			for _, cell := range four[j].rows[i] {
				got = append(got, strings.ReplaceAll(cell, uncertain, ""))
			}
			if diff := cmp.Diff(want[j], got); diff != "" {
				t.Errorf("%s, %s (-want +got):\n%s", four[j].title, name, diff)
			}
		}
	}
}

func TestUncertainPercentiles(t *testing.T) {
	d := probe.Distribution{Count: 4000, P01: 1, P05: 5, P10: 10, P50: 50, P90: 90, P95: 95, P99: 99}
	for requests, want := range map[int]string{
		5: "~1, ~5, ~10, ~50, ~90, ~95, ~99", 6: "~1, ~5, ~10, 50, ~90, ~95, ~99", 36: "~1, ~5, 10, 50, 90, ~95, ~99",
		72: "~1, 5, 10, 50, 90, 95, ~99", 367: "~1, 5, 10, 50, 90, 95, ~99", 368: "1, 5, 10, 50, 90, 95, 99",
	} {
		if got := percentiles(&d, requests, timeQuantiles(), 1, 0); got != want {
			t.Errorf("%d requests: %s, want %s", requests, got, want)
		}
	}
}

// TestUncertainPercentilesAsData: JSON and CSV have for each stage what the mark of the text says.
func TestUncertainPercentilesAsData(t *testing.T) {
	for completed, want := range map[int]string{
		0: "p01 p05 p10 p25 p50 p75 p90 p95 p99", 5: "p01 p05 p10 p25 p50 p75 p90 p95 p99", 6: "p01 p05 p10 p25 p75 p90 p95 p99",
		13: "p01 p05 p10 p90 p95 p99", 36: "p01 p05 p95 p99", 72: "p01 p99", 367: "p01 p99", 368: "",
	} {
		c := &probe.Cycle{Stages: []probe.Stage{{Completed: completed, InterTokenLatency: probe.Distribution{Count: 4000}}}}
		var cycle struct {
			Stages []struct {
				Uncertain []string `json:"uncertain_percentiles"`
			}
		}
		if err := json.Unmarshal(toJSON(t, c), &cycle); err != nil {
			t.Fatal(err)
		}
		if got := cycle.Stages[0].Uncertain; got == nil || strings.Join(got, " ") != want {
			t.Errorf("%d requests: %q in JSON, want %q", completed, got, want)
		}
		rows, err := csv.NewReader(bytes.NewReader(toCSV(t, c))).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		if got := rows[1][slices.Index(rows[0], "uncertain_percentiles")]; got != want {
			t.Errorf("%d requests: %q in CSV, want %q", completed, got, want)
		}
	}
}

// TestWidths checks the layout's promises over all widths.
func TestWidths(t *testing.T) {
	cycles := map[string]*probe.Cycle{"seed": seedCycle(t), "troubled": troubledCycle(t),
		"unreachable": unreachableCycle(t), "empty": {}}
	for name, c := range cycles {
		for width := 1; width < 260; width++ {
			checkLayout(t, name, c, width)
		}
	}
}

func checkLayout(t interface{ Errorf(string, ...any) }, name string, c *probe.Cycle, width int) {
	var b bytes.Buffer
	if err := Text(&b, c, width); err != nil {
		t.Errorf("%s at %d: %v", name, width, err)
	}
	lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
	for i, line := range lines {
		if w := displayWidth(line); w > max(width, minWidth) || width >= tableWidth && w != width {
			t.Errorf("%s at %d: line %d is %d wide: %s", name, width, i+1, w, line)
		}
		if strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r == '\u202e' }) {
			t.Errorf("%s at %d: line %d: %q", name, width, i+1, line)
		}
	}
	if width < labelWidth {
		return
	}
	for _, label := range labels(c.Stages) {
		rows := slices.DeleteFunc(slices.Clone(lines), func(line string) bool {
			return !strings.HasPrefix(line, "│ │ │ "+label+" ")
		})
		if len(rows) < 4 {
			t.Errorf("%s at %d: the label %q is whole in %d tables, want 4", name, width, label, len(rows))
		}
	}
}

func TestNarrowestWidth(t *testing.T) {
	for _, width := range []int{-1, 0, 19} {
		if text(t, seedCycle(t), width) != text(t, seedCycle(t), minWidth) {
			t.Errorf("the report at %d is not that at %d", width, minWidth)
		}
	}
}

// TestWideLabels takes labels so long that tables would be shorter if they wrapped. From labelWidth on they must not.
func TestWideLabels(t *testing.T) {
	c := seedCycle(t)
	for i := range c.Stages {
		if s := &c.Stages[i]; s.TargetRate > 0 {
			s.TargetRate += 1e6
			s.TimeToFirstToken.P50 *= 1000
		}
	}
	checkLayout(t, "wide labels", c, labelWidth)
	if !strings.Contains(text(t, c, labelWidth-1), "│ │ │ asynchronous@1000002.99  ") {
		t.Errorf("labels do not wrap at %d, where that makes tables shorter", labelWidth-1)
	}
}

// TestOneLineRows: at the width that GuideLLM's own report needs for it, no row wraps.
func TestOneLineRows(t *testing.T) {
	c := seedCycle(t)
	var rows int
	for line := range strings.Lines(text(t, c, 217)) {
		if strings.HasPrefix(line, "│ │ │ ") {
			rows++
			if strings.HasPrefix(line, "│ │ │  ") {
				t.Errorf("a row goes on in %s", line)
			}
		}
	}
	if want := 4 * len(c.Stages); rows != want {
		t.Errorf("%d lines in tables, want %d", rows, want)
	}
}

func TestLayoutOfAnyCycle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		checkLayout(t, "drawn", drawCycle(t), rapid.IntRange(1, 240).Draw(t, "width"))
	})
}

func TestLabels(t *testing.T) {
	open := func(rates ...float64) []probe.Stage {
		var stages []probe.Stage
		for _, rate := range rates {
			stages = append(stages, probe.Stage{Profile: probe.ProfileConstant, TargetRate: rate})
		}
		return stages
	}
	for _, test := range []struct {
		stages []probe.Stage
		want   []string
	}{
		{open(2.987, 2.987), []string{"asynchronous@2.99 req/sec", "asynchronous@2.99 req/sec"}},
		{open(0.501, 0.502), []string{"asynchronous@0.501 req/sec", "asynchronous@0.502 req/sec"}},
		{open(0.001), []string{"asynchronous@0.001 req/sec"}},
		{open(1e-9), []string{"asynchronous@1e-09 req/sec"}},
		{open(1e6), []string{"asynchronous@1000000.00 req/sec"}},
		{[]probe.Stage{{Profile: probe.ProfilePoisson, TargetRate: 3}, {Profile: probe.ProfileThroughput},
			{Name: probe.StageCanary, Profile: probe.ProfileSynchronous}, {Profile: probe.ProfileSynchronous}},
			[]string{"poisson@3.00 req/sec", "throughput", "canary", "synchronous"}},
	} {
		if diff := cmp.Diff(test.want, labels(test.stages)); diff != "" {
			t.Errorf("labels (-want +got):\n%s", diff)
		}
	}
}
