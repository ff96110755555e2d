package report

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestProgressLine(t *testing.T) {
	p := Progress{Endpoint: "llama-70b", Stage: "constant-3", Index: 5, Of: 11, Elapsed: 7500 * time.Millisecond,
		Limit: 12 * time.Second, Completed: 412, InFlight: 38, TokensPerSecond: 1548.4}
	unlimited := Progress{Stage: "canary"}
	late := p
	late.Elapsed, late.TokensPerSecond = time.Minute, 0.25
	for _, test := range []struct {
		p     Progress
		width int
		want  string
	}{
		{p, 200, "llama-70b  constant-3 (5/11)  [███████░░░░░]  4.5 s left  54.9 req/s  38 in flight  412 done  " +
			"0 failed  1548 tok/s"},
		{p, 108, "llama-70b  constant-3 (5/11)  [███████░░░░░]  4.5 s left  54.9 req/s  38 in flight  412 done  " +
			"0 failed"},
		{p, 80, "llama-70b  constant-3 (5/11)  [███████░░░░░]  4.5 s left  412 done  0 failed"},
		{p, 60, "constant-3 (5/11)  4.5 s left  412 done  0 failed"},
		{p, 40, "constant-3 (5/11)  4.5 s left  0 failed"},
		{p, 30, "constant-3 (5/11)  4.5 s left"},
		{p, 20, "constant-3 (5/11)"},
		{p, 10, "constant-3"},
		{p, 4, "cons"},
		{p, 0, ""},
		{p, -1, ""},
		{unlimited, 80, "canary  0.0 s  0.0 req/s  0 in flight  0 done  0 failed  0 tok/s"},
		{late, 200, "llama-70b  constant-3 (5/11)  [████████████]  0.0 s left  6.9 req/s  38 in flight  412 done  " +
			"0 failed  0.25 tok/s"},
	} {
		if got := test.p.Line(test.width); got != test.want {
			t.Errorf("Line(%d) =\n%q, want\n%q", test.width, got, test.want)
		}
	}
}

func TestProgressLineFits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := Progress{Endpoint: rapid.String().Draw(t, "endpoint"), Stage: rapid.String().Draw(t, "stage"),
			Index: rapid.Int().Draw(t, "index"), Of: rapid.Int().Draw(t, "of"),
			Elapsed:   time.Duration(rapid.Int64().Draw(t, "elapsed")),
			Limit:     time.Duration(rapid.Int64().Draw(t, "limit")),
			Completed: rapid.Int().Draw(t, "completed"), Failed: rapid.Int().Draw(t, "failed"),
			InFlight: rapid.Int().Draw(t, "in flight"), TokensPerSecond: rapid.Float64().Draw(t, "tokens")}
		width := rapid.IntRange(0, 200).Draw(t, "width")
		if line := p.Line(width); displayWidth(line) > width || strings.ContainsAny(line, "\n\r\x1b") {
			t.Fatalf("Line(%d) = %q", width, line)
		}
	})
}
