package report

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/inferprobe/inferprobe/internal/probe"
)

func toCSV(t *testing.T, cycles ...*probe.Cycle) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := WriteCSV(&b, cycles...); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestCSVGolden(t *testing.T) {
	golden(t, "cycles.csv", toCSV(t, seedCycle(t), troubledCycle(t), unreachableCycle(t)))
}

func TestCSVColumns(t *testing.T) {
	rows, err := csv.NewReader(bytes.NewReader(toCSV(t, seedCycle(t), troubledCycle(t), unreachableCycle(t)))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if want := 1 + 11 + 3 + 2 + 1; len(rows) != want { // of the second cycle, two were skipped
		t.Fatalf("%d rows, want %d", len(rows), want)
	}
	cell := func(row int, column string) string {
		i := slices.Index(rows[0], column)
		if i < 0 {
			t.Fatalf("no column %q", column)
		}
		return rows[row][i]
	}
	for _, test := range []struct {
		row    int
		column string
		want   string
	}{
		{1, "stage", "synchronous"}, {1, "target_requests_per_second", ""},
		{1, "time_to_first_token_seconds_p50", "0.0621"},
		{2, "stage", "throughput"}, {3, "target_requests_per_second", "2.99"}, {1, "receive_lag_seconds_p50", ""},
		{1, "receive_lag_seconds_count", "0"}, {12, "failures_http_5xx", "6"}, {12, "valid", "false"},
		{12, "invalid_reasons", "schedule_delay client_overload"}, {12, "request_duration_seconds_min", "0.0001"},
		{12, "model", "'=通义千问/Qwen3-235B-A22B-指令微调模型-超长名称-用于测试换行"}, {17, "endpoint", "down"},
		{17, "cycle_failure", "connect"}, {17, "stage", ""}, {17, "completed", ""}, {17, "skipped", ""},
		{12, "stage", "constant-3"}, {12, "notes", "no_server_usage"}, {12, "skipped", ""}, {12, "new_connections", "3"},
		{13, "notes", ""}, {15, "endpoint", "通义千问-é́🇩🇪👩‍👩‍👧"}, {15, "cycle_failure", "interrupted"}, {15, "stage", "constant-4"},
		{15, "skipped", "interrupted"}, {15, "skipped_detail", ""}, {16, "stage", "constant-5"}, {16, "skipped", "error_rate"},
		{16, "skipped_detail", "100 % of the requests of the stage before failed, limit 10 %"},
	} {
		if got := cell(test.row, test.column); got != test.want {
			t.Errorf("row %d, %s = %q, want %q", test.row, test.column, got, test.want)
		}
	}
	for _, row := range []int{15, 16} { // what was not run has no number, not even 0
		for i, value := range rows[row] {
			if _, err := strconv.ParseFloat(value, 64); err == nil {
				t.Errorf("row %d of a skipped stage, %s = %q", row, rows[0][i], value)
			}
		}
	}
	if sorted := slices.Compact(slices.Sorted(slices.Values(rows[0]))); len(sorted) != len(rows[0]) {
		t.Error("a column occurs twice")
	}
}

// TestCSVHasEveryDistribution compares the columns with the distributions of report/v1.
func TestCSVHasEveryDistribution(t *testing.T) {
	var cycle struct{ Stages []map[string]any }
	if err := json.Unmarshal(toJSON(t, seedCycle(t)), &cycle); err != nil {
		t.Fatal(err)
	}
	header, _, _ := strings.Cut(string(toCSV(t)), "\r\n")
	columns := strings.Split(header, ",")
	for key, v := range cycle.Stages[0] {
		if d, ok := v.(map[string]any); ok && d["p50"] != nil || ok && d["count"] != nil {
			for name := range d {
				if !slices.Contains(columns, key+"_"+name) {
					t.Errorf("no column %s_%s", key, name)
				}
			}
		}
	}
}

func TestCSVText(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "llama": "llama", "a=b": "a=b", "=1+1": "'=1+1", "+1": "'+1", "-1": "'-1", "@SUM(A1)": "'@SUM(A1)",
		"\t=1": "'=1", "\r\n=1": "'=1", "\x1b[0m=1": "'=1", "通": "通",
	} {
		if got := csvText(text); got != want {
			t.Errorf("csvText(%q) = %q, want %q", text, got, want)
		}
	}
	for v, want := range map[float64]string{-1.5: "-1.5", 1e-7: "0.0000001", 1e21: "1000000000000000000000"} {
		got := csvNumber(v)
		if back, err := strconv.ParseFloat(got, 64); got != want || back != v || err != nil {
			t.Errorf("csvNumber(%v) = %q, want %q", v, got, want)
		}
	}
}
