package report

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/inferprobe/inferprobe/internal/probe"
)

// nothing stands where nothing was observed.
const nothing = "-"

// quantile is one that a distribution knows.
type quantile struct {
	q  float64
	of func(d *probe.Distribution) float64
}

func (q quantile) name() string { return strconv.FormatFloat(q.q*100, 'f', -1, 64) + "%" }

func tokenQuantiles() []quantile {
	return []quantile{
		{0.01, func(d *probe.Distribution) float64 { return d.P01 }},
		{0.05, func(d *probe.Distribution) float64 { return d.P05 }},
		{0.50, func(d *probe.Distribution) float64 { return d.P50 }},
		{0.95, func(d *probe.Distribution) float64 { return d.P95 }},
		{0.99, func(d *probe.Distribution) float64 { return d.P99 }},
	}
}

func timeQuantiles() []quantile {
	return []quantile{
		{0.01, func(d *probe.Distribution) float64 { return d.P01 }},
		{0.05, func(d *probe.Distribution) float64 { return d.P05 }},
		{0.10, func(d *probe.Distribution) float64 { return d.P10 }},
		{0.50, func(d *probe.Distribution) float64 { return d.P50 }},
		{0.90, func(d *probe.Distribution) float64 { return d.P90 }},
		{0.95, func(d *probe.Distribution) float64 { return d.P95 }},
		{0.99, func(d *probe.Distribution) float64 { return d.P99 }},
	}
}

// tables returns GuideLLM's four tables, with columns for what it leaves out; none if there are no stages.
func tables(stages []probe.Stage) []*table {
	if len(stages) == 0 {
		return nil
	}
	names := labels(stages)
	four := []*table{requestsTable(), tokensTable(), statsTable(), summaryTable()}
	for i := range stages {
		s := &stages[i]
		for j, row := range [][]string{requestsRow(s), tokensRow(s), statsRow(s), summaryRow(s)} {
			four[j].rows = append(four[j].rows, append([]string{names[i]}, row...))
		}
	}
	return four
}

func requestsTable() *table {
	return &table{title: "Requests Data by Benchmark", header: []string{"Benchmark", "Requests Completed",
		"Request Failed", "Requests Incomplete", "Duration", "Start Time", "End Time", "Valid", "Stage"}}
}

func requestsRow(s *probe.Stage) []string {
	ended := s.Completed + s.Failed
	valid := "yes"
	if !s.Valid() {
		valid = "no"
	}
	duration := nothing
	if !s.Started.IsZero() && !s.Ended.IsZero() {
		duration = fixed(s.Ended.Sub(s.Started).Seconds(), 2) + " sec"
	}
	return []string{fmt.Sprintf("%d/%d", s.Completed, ended), fmt.Sprintf("%d/%d", s.Failed, ended),
		strconv.Itoa(s.Incomplete), duration, timeOfDay(s.Started), timeOfDay(s.Ended), valid, stageName(s)}
}

// stageName is the stage's name in metrics, dashboards and the list of what was skipped.
func stageName(s *probe.Stage) string { return cmp.Or(clean(s.Name), nothing) }

func timeOfDay(t time.Time) string {
	if t.IsZero() {
		return nothing
	}
	return t.Local().Format(time.TimeOnly)
}

func tokensTable() *table {
	list := names(tokenQuantiles())
	return &table{title: "Tokens Data by Benchmark", header: []string{"Benchmark", "Prompt", "Prompt (" + list + ")",
		"Output", "Output (" + list + ")", "Incomplete Output"}}
}

func tokensRow(s *probe.Stage) []string {
	return []string{
		mean(&s.PromptTokens, 1, ""), percentiles(&s.PromptTokens, s.Completed, tokenQuantiles(), 1, 1),
		mean(&s.OutputTokens, 1, ""), percentiles(&s.OutputTokens, s.Completed, tokenQuantiles(), 1, 1),
		strconv.Itoa(s.IncompleteOutputTokens),
	}
}

func statsTable() *table {
	list := names(timeQuantiles())
	return &table{title: "Performance Stats by Benchmark", header: []string{"Benchmark",
		"Request Latency [" + list + "] (sec)", "Time to First Token [" + list + "] (ms)",
		"Inter Token Latency [" + list + "] (ms)"}}
}

func statsRow(s *probe.Stage) []string {
	return []string{
		percentiles(&s.RequestDuration, s.Completed, timeQuantiles(), 1, 2),
		percentiles(&s.TimeToFirstToken, s.Completed, timeQuantiles(), 1000, 1),
		percentiles(&s.InterTokenLatency, s.Completed, timeQuantiles(), 1000, 1),
	}
}

func summaryTable() *table {
	return &table{title: "Performance Summary by Benchmark", header: []string{"Benchmark", "Requests per Second",
		"Request Latency", "Time to First Token", "Inter Token Latency", "Output Token Throughput"}}
}

func summaryRow(s *probe.Stage) []string {
	return []string{
		fixed(s.RequestsPerSecond, 2) + " req/sec", mean(&s.RequestDuration, 1, " sec"),
		mean(&s.TimeToFirstToken, 1000, " ms"), mean(&s.InterTokenLatency, 1000, " ms"),
		fixed(s.OutputTokensPerSecond, 2) + " tokens/sec",
	}
}

func names(quantiles []quantile) string {
	all := make([]string, len(quantiles))
	for i, q := range quantiles {
		all[i] = q.name()
	}
	return strings.Join(all, ", ")
}

func mean(d *probe.Distribution, scale float64, unit string) string {
	if d.Count == 0 {
		return nothing
	}
	return fixed(d.Mean*scale, 2) + unit
}

// uncertain marks a percentile of too small a sample.
const uncertain = "~"

// percentiles lists quantiles of d and marks those that the sample is too small for. The sample is as large as the
// number of requests: gaps between the tokens of one request are not independent of each other.
func percentiles(d *probe.Distribution, requests int, quantiles []quantile, scale float64, decimals int) string {
	if d.Count == 0 {
		return nothing
	}
	all := make([]string, len(quantiles))
	for i, q := range quantiles {
		all[i] = fixed(q.of(d)*scale, decimals)
		if min(d.Count, requests) < probe.MinSamples(q.q) {
			all[i] = uncertain + all[i]
		}
	}
	return strings.Join(all, ", ")
}

// footnote explains the mark where the tables, or the times to the first answer token, have one.
func footnote(tables []*table, stages []probe.Stage) string {
	var marked bool
	for _, t := range tables {
		for _, row := range t.rows {
			marked = marked || strings.Contains(strings.Join(row[1:], " "), uncertain)
		}
	}
	for _, r := range answers(stages).rows {
		marked = marked || strings.Contains(r.text, uncertain)
	}
	if !marked {
		return ""
	}
	return fmt.Sprintf("%s too few requests for this percentile to be certain (95 %% confidence): 1%% and 99%% need %d, "+
		"5%% and 95%% need %d, 10%% and 90%% need %d, 50%% needs %d.", uncertain, probe.MinSamples(0.99),
		probe.MinSamples(0.95), probe.MinSamples(0.90), probe.MinSamples(0.50))
}
