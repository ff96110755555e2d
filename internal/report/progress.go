package report

import (
	"fmt"
	"strings"
	"time"

	"github.com/rivo/uniseg"
)

// Progress is how far a stage has come.
type Progress struct {
	Endpoint, Stage             string
	Index, Of                   int // this stage is number Index, from 1, of Of; 0 = not known
	Elapsed                     time.Duration
	Limit                       time.Duration // of the stage, 0 = none
	Completed, Failed, InFlight int
	TokensPerSecond             float64 // output tokens
}

// progressBar is the number of cells of the bar.
const progressBar = 12

// Line returns the progress as one line of at most width columns, without a line feed:
//
//	llama-70b  constant-3 (5/11)  [███████░░░░░]  5.2 s left  12.1 req/s  38 in flight  412 done  0 failed  1548 tok/s
//
// Where there is less room, the least important parts are left out.
func (p Progress) Line(width int) string {
	stage := clean(p.Stage)
	if p.Of > 0 {
		stage += fmt.Sprintf(" (%d/%d)", p.Index, p.Of)
	}
	var perSecond float64
	if p.Elapsed > 0 {
		perSecond = float64(p.Completed) / p.Elapsed.Seconds()
	}
	// The parts in the order in which they are shown, each with its rank: the highest is the first to go.
	parts := []struct {
		text string
		rank int
	}{
		{clean(p.Endpoint), 5},
		{stage, 0},
		{p.bar(), 4},
		{p.remaining(), 1},
		{fixed(perSecond, 1) + " req/s", 6},
		{fmt.Sprintf("%d in flight", p.InFlight), 7},
		{fmt.Sprintf("%d done", p.Completed), 3},
		{fmt.Sprintf("%d failed", p.Failed), 2},
		{fixed(p.TokensPerSecond, 0) + " tok/s", 8},
	}
	line := ""
	for most := len(parts) - 1; most >= 0; most-- {
		var kept []string
		for _, part := range parts {
			if part.rank <= most && part.text != "" {
				kept = append(kept, part.text)
			}
		}
		if line = strings.Join(kept, "  "); displayWidth(line) <= width {
			return line
		}
	}
	return cut(line, width)
}

func (p Progress) bar() string {
	if p.Limit <= 0 {
		return ""
	}
	done := max(0, min(progressBar, int(float64(progressBar)*p.Elapsed.Seconds()/p.Limit.Seconds())))
	return "[" + strings.Repeat("█", done) + strings.Repeat("░", progressBar-done) + "]"
}

func (p Progress) remaining() string {
	if p.Limit <= 0 {
		return fmt.Sprintf("%.1f s", p.Elapsed.Seconds())
	}
	return fmt.Sprintf("%.1f s left", max(0, p.Limit-p.Elapsed).Seconds())
}

// cut returns as much of the start of s as fits into width columns.
func cut(s string, width int) string {
	end := 0
	for graphemes := uniseg.NewGraphemes(s); graphemes.Next(); {
		_, next := graphemes.Positions()
		if displayWidth(s[:next]) > width {
			break
		}
		end = next
	}
	return s[:end]
}
