// Package report renders cycles as text, JSON, CSV, HTML and as GuideLLM does. Its functions depend on nothing but their
// arguments, and on the local time zone where a time of day is shown.
package report

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/inferprobe/inferprobe/internal/probe"
)

const (
	minWidth   = 20  // narrower terminals are treated as this wide
	tableWidth = 60  // from here on tables, below it lists
	labelWidth = 130 // from here on row labels are never wrapped
	frames     = 8   // columns that the two panels take
)

// Text writes the report of one cycle for a terminal of the given width: what was measured and how, GuideLLM's four
// tables, and a closing block with what follows from them. Text that is too wide is wrapped, never cut off; below 60
// columns the tables become lists. No line is wider than width, where that is 20 or more. All is written at once.
func Text(w io.Writer, c *probe.Cycle, width int) error {
	width = max(width, minWidth)
	var lines []string
	if title := heading(c); width < tableWidth {
		lines = append(wrap(title, width), wrap(cycleTitle(c), width)...)
		lines = append(append(lines, ""), narrowBody(c, width)...)
	} else {
		lines = panel(cycleTitle(c), wideBody(c, width), width-frames/2)
		lines = panel(title, lines, width)
	}
	var b strings.Builder
	for _, line := range lines {
		b.WriteString(strings.TrimRight(line, " "))
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func heading(c *probe.Cycle) string {
	title := "inferprobe Benchmark Report"
	if name := clean(c.Endpoint.Name); name != "" {
		title += " (" + name + ")"
	}
	return title
}

func cycleTitle(c *probe.Cycle) string {
	if c.Started.IsZero() {
		return "Cycle"
	}
	return "Cycle of " + c.Started.Local().Format("2006-01-02 15:04:05 MST")
}

func wideBody(c *probe.Cycle, width int) []string {
	inside := width - frames
	var lines []string
	for _, detail := range details(c) {
		lines = append(lines, wrap(detail, inside)...)
	}
	lines = append(lines, "")
	stages := ordered(c.Stages)
	four := tables(stages)
	for _, t := range four {
		lines = append(append(lines, ""), t.draw(inside, width >= labelWidth)...)
	}
	if note := footnote(four, stages); note != "" {
		lines = append(append(lines, ""), wrap(note, inside)...)
	}
	for _, s := range closing(c, stages) {
		lines = append(append(lines, ""), s.columns(inside)...)
	}
	return lines
}

func narrowBody(c *probe.Cycle, width int) []string {
	var lines []string
	for _, detail := range details(c) {
		lines = append(lines, indent(detail, "", width)...)
	}
	stages := ordered(c.Stages)
	four := tables(stages)
	for row := range stages {
		lines = append(append(lines, ""), wrap(four[0].rows[row][0], width)...)
		for _, t := range four {
			for column, key := range t.header[1:] {
				lines = append(lines, indent(key+": "+t.rows[row][column+1], "  ", width)...)
			}
		}
	}
	if note := footnote(four, stages); note != "" {
		lines = append(append(lines, ""), wrap(note, width)...)
	}
	for _, s := range closing(c, stages) {
		lines = append(append(lines, ""), s.list(width)...)
	}
	return lines
}

// indent wraps text to width behind a margin, and all lines but the first two columns deeper.
func indent(text, margin string, width int) []string {
	lines := wrap(text, width-len(margin)-2)
	for i := range lines {
		if i > 0 {
			lines[i] = "  " + lines[i]
		}
		lines[i] = margin + lines[i]
	}
	return lines
}

// details are the lines in which GuideLLM says what it measured and how.
func details(c *probe.Cycle) []string {
	backend := fmt.Sprintf("Backend(type=openai_server, target=%s, model=%s", clean(c.Endpoint.URL),
		clean(c.Endpoint.Model))
	if c.Workload.API != "" {
		backend += ", api=" + clean(c.Workload.API)
	}
	if c.Workload.ExtraBody != "" {
		backend += ", extra_body=" + clean(c.Workload.ExtraBody)
	}
	if c.Server != "" {
		backend += ", server=" + clean(c.Server)
	}
	maxRequests := "None"
	if c.MaxRequests > 0 {
		maxRequests = strconv.Itoa(c.MaxRequests)
	}
	maxDuration := "None"
	if c.MaxDuration > 0 {
		maxDuration = strconv.FormatFloat(c.MaxDuration.Seconds(), 'f', -1, 64) + " sec"
	}
	var maxConcurrency string
	if c.MaxConcurrency > 0 {
		maxConcurrency = fmt.Sprintf(", max_concurrency=%d", c.MaxConcurrency)
	}
	source := length("prompt_tokens", c.Workload.PromptTokens)
	if n := c.Workload.SharedPrefixTokens; n > 0 {
		source += fmt.Sprintf(",shared_prefix_tokens=%d", n)
	}
	source += "," + length("generated_tokens", c.Workload.OutputTokens)
	lines := []string{
		backend + ")",
		fmt.Sprintf("Data(type=emulated, source=%s, tokenizer=%s)", source, clean(c.Workload.Tokenizer)),
		fmt.Sprintf("Rate(type=%s, rate=%s)", clean(string(c.Profile)), rates(c)),
		fmt.Sprintf("Limits(max_number=%s requests, max_duration=%s%s)", maxRequests, maxDuration, maxConcurrency),
	}
	if !c.Objectives.IsZero() {
		lines = append(lines, "Objectives("+objectives(c.Objectives)+")")
	}
	return lines
}

// length names the parts of a length as GuideLLM's emulated data does.
func length(name string, l probe.Length) string {
	text := fmt.Sprintf("%s=%d", name, l.Mean)
	for _, part := range []struct {
		suffix string
		n      int
	}{{"variance", l.Variance}, {"min", l.Min}, {"max", l.Max}} {
		if part.n != 0 {
			text += fmt.Sprintf(",%s_%s=%d", name, part.suffix, part.n)
		}
	}
	return text
}

// rates are those that were asked for. A sweep finds its own.
func rates(c *probe.Cycle) string {
	var targets []string
	for _, s := range c.Stages {
		if c.Profile != probe.ProfileSweep && s.TargetRate > 0 {
			targets = append(targets, fixed(s.TargetRate, 2))
		}
	}
	if len(targets) == 0 {
		return "None"
	}
	return "[" + strings.Join(targets, ", ") + "]"
}

// objectives are named as in the configuration.
func objectives(o probe.Objectives) string {
	var parts []string
	for _, limit := range []struct {
		name  string
		value time.Duration
	}{
		{"time_to_first_token_p90", o.TimeToFirstTokenP90},
		{"inter_token_latency_p90", o.InterTokenLatencyP90},
		{"request_duration_p90", o.RequestDurationP90},
	} {
		if limit.value != 0 {
			parts = append(parts, limit.name+"="+limit.value.String())
		}
	}
	if o.ErrorRate != 0 {
		parts = append(parts, "error_rate="+strconv.FormatFloat(o.ErrorRate*100, 'g', 6, 64)+"%")
	}
	return strings.Join(parts, ", ")
}

// ordered returns the stages as they are shown: closed loops of one request, open loops by rising rate, throughput.
func ordered(stages []probe.Stage) []probe.Stage {
	place := func(s *probe.Stage) int {
		switch {
		case s.Profile == probe.ProfileThroughput:
			return 2
		case s.TargetRate > 0:
			return 1
		}
		return 0
	}
	sorted := slices.Clone(stages)
	slices.SortStableFunc(sorted, func(a, b probe.Stage) int {
		return cmp.Or(cmp.Compare(place(&a), place(&b)), cmp.Compare(a.TargetRate, b.TargetRate))
	})
	return sorted
}

// labels returns the row labels of stages. Rates have GuideLLM's two decimals, and more where two of them would read
// the same or one would read as zero.
func labels(stages []probe.Stage) []string {
	decimals := 2
	for decimals < 6 && !distinct(stages, decimals) {
		decimals++
	}
	all := make([]string, len(stages))
	for i, s := range stages {
		switch {
		case s.Name == probe.StageCanary:
			all[i] = probe.StageCanary
		case s.TargetRate > 0 && s.Profile == probe.ProfilePoisson:
			all[i] = "poisson@" + fixed(s.TargetRate, decimals) + " req/sec"
		case s.TargetRate > 0:
			all[i] = "asynchronous@" + fixed(s.TargetRate, decimals) + " req/sec"
		default:
			all[i] = clean(cmp.Or(string(s.Profile), s.Name))
		}
	}
	return all
}

func distinct(stages []probe.Stage, decimals int) bool {
	seen := map[string]float64{"0." + strings.Repeat("0", decimals): 0}
	for _, s := range stages {
		text := strconv.FormatFloat(s.TargetRate, 'f', decimals, 64)
		if rate, ok := seen[text]; ok && rate != s.TargetRate {
			return false
		}
		seen[text] = s.TargetRate
	}
	return true
}

// fixed formats v with a number of decimals, or with the two leading digits where v is not zero and would read as zero.
func fixed(v float64, decimals int) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nothing
	}
	text := strconv.FormatFloat(v, 'f', decimals, 64)
	switch {
	case v == 0, strings.Trim(text, "-0.") != "":
		return text
	case math.Abs(v) < 1e-6:
		return strconv.FormatFloat(v, 'g', 2, 64)
	}
	return strconv.FormatFloat(v, 'f', 1-int(math.Floor(math.Log10(math.Abs(v)))), 64)
}
