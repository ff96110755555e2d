package report

import (
	"encoding/csv"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/inferprobe/inferprobe/internal/probe"
)

// WriteCSV writes a header and one row for each stage of each cycle, as RFC 4180 says. Columns have the names of
// report/v1, distributions flattened: time_to_first_token_seconds_p50. A cell is empty where nothing was observed. A
// stage that was skipped is a row with the reason and without numbers. A cycle that has neither is one row without a
// stage, so that an endpoint that could not be measured is not missing.
//
// Models, servers and the like name themselves, and spreadsheets execute cells that look like a formula: text that
// begins with one of = + - @ gets an apostrophe in front. Numbers stay numbers.
func WriteCSV(w io.Writer, cycles ...*probe.Cycle) error {
	out := csv.NewWriter(w)
	out.UseCRLF = true
	columns := csvColumns()
	record := make([]string, len(columns))
	for i, column := range columns {
		record[i] = column.name
	}
	if err := out.Write(record); err != nil {
		return err
	}
	for _, c := range cycles {
		for _, row := range csvRows(c) {
			for i, column := range columns {
				record[i] = column.cell(&row)
			}
			if err := out.Write(record); err != nil {
				return err
			}
		}
	}
	out.Flush()
	return out.Error()
}

// csvRow is what a row is of: a cycle with one of its stages, one that was skipped, or neither.
type csvRow struct {
	cycle   *probe.Cycle
	stage   *probe.Stage
	skipped *probe.Skip
}

func csvRows(c *probe.Cycle) []csvRow {
	var rows []csvRow
	for i := range c.Stages {
		rows = append(rows, csvRow{cycle: c, stage: &c.Stages[i]})
	}
	for i := range c.Skipped {
		rows = append(rows, csvRow{cycle: c, skipped: &c.Skipped[i]})
	}
	if len(rows) == 0 {
		rows = []csvRow{{cycle: c}}
	}
	return rows
}

type csvColumn struct {
	name string
	cell func(r *csvRow) string
}

func csvColumns() []csvColumn {
	columns := []csvColumn{
		{"cycle", func(r *csvRow) string { return csvText(r.cycle.ID) }},
		{"endpoint", func(r *csvRow) string { return csvText(r.cycle.Endpoint.Name) }},
		{"model", func(r *csvRow) string { return csvText(r.cycle.Endpoint.Model) }},
		{"server", func(r *csvRow) string { return csvText(r.cycle.Server) }},
		{"url", func(r *csvRow) string { return csvText(r.cycle.Endpoint.URL) }},
		{"cycle_failure", func(r *csvRow) string {
			if r.cycle.Failure == nil {
				return ""
			}
			return csvText(r.cycle.Failure.Reason)
		}},
		{"stage", func(r *csvRow) string {
			switch {
			case r.stage != nil:
				return csvText(r.stage.Name)
			case r.skipped != nil:
				return csvText(r.skipped.Stage)
			}
			return ""
		}},
		ofSkipped("skipped", func(s *probe.Skip) string { return csvText(s.Reason) }),
		ofSkipped("skipped_detail", func(s *probe.Skip) string { return csvText(s.Detail) }),
	}
	columns = append(columns, csvStageColumns()...)
	for _, reason := range probe.Reasons() {
		columns = append(columns, ofStage("failures_"+string(reason), func(s *probe.Stage) string {
			return strconv.Itoa(s.Failures[reason])
		}))
	}
	for _, d := range csvDistributions() {
		columns = append(columns, ofStage(d.name+"_count", func(s *probe.Stage) string {
			return strconv.Itoa(d.of(s).Count)
		}))
		for _, v := range csvDistributionValues() {
			columns = append(columns, ofStage(d.name+"_"+v.name, func(s *probe.Stage) string {
				if d.of(s).Count == 0 {
					return ""
				}
				return csvNumber(v.of(d.of(s)))
			}))
		}
	}
	return columns
}

// ofStage is a column that is empty where no stage was run.
func ofStage(name string, cell func(s *probe.Stage) string) csvColumn {
	return csvColumn{name, func(r *csvRow) string {
		if r.stage == nil {
			return ""
		}
		return cell(r.stage)
	}}
}

// ofSkipped is a column that is empty where none was skipped.
func ofSkipped(name string, cell func(s *probe.Skip) string) csvColumn {
	return csvColumn{name, func(r *csvRow) string {
		if r.skipped == nil {
			return ""
		}
		return cell(r.skipped)
	}}
}

func csvStageColumns() []csvColumn {
	return []csvColumn{
		ofStage("profile", func(s *probe.Stage) string { return csvText(string(s.Profile)) }),
		ofStage("target_requests_per_second", func(s *probe.Stage) string {
			if s.TargetRate == 0 {
				return ""
			}
			return csvNumber(s.TargetRate)
		}),
		ofStage("valid", func(s *probe.Stage) string { return strconv.FormatBool(s.Valid()) }),
		ofStage("invalid_reasons", func(s *probe.Stage) string {
			return csvText(strings.Join(invalidReasons(s), " "))
		}),
		ofStage("notes", func(s *probe.Stage) string { return csvText(strings.Join(notes(s), " ")) }),
		ofStage("uncertain_percentiles", func(s *probe.Stage) string {
			return csvText(strings.Join(uncertainPercentiles(s), " "))
		}),
		ofStage("started_at", func(s *probe.Stage) string {
			if s.Started.IsZero() {
				return ""
			}
			return s.Started.UTC().Format(time.RFC3339Nano)
		}),
		ofStage("duration_seconds", func(s *probe.Stage) string {
			if s.Started.IsZero() || s.Ended.IsZero() {
				return ""
			}
			return csvNumber(s.Ended.Sub(s.Started).Seconds())
		}),
		ofStage("completed", func(s *probe.Stage) string { return strconv.Itoa(s.Completed) }),
		ofStage("failed", func(s *probe.Stage) string { return strconv.Itoa(s.Failed) }),
		ofStage("incomplete", func(s *probe.Stage) string { return strconv.Itoa(s.Incomplete) }),
		ofStage("retries", func(s *probe.Stage) string { return strconv.Itoa(s.Retries) }),
		ofStage("requests_per_second", func(s *probe.Stage) string { return csvNumber(s.RequestsPerSecond) }),
		ofStage("output_tokens_per_second", func(s *probe.Stage) string { return csvNumber(s.OutputTokensPerSecond) }),
		ofStage("in_flight", func(s *probe.Stage) string { return csvNumber(s.InFlight) }),
		ofStage("incomplete_output_tokens", func(s *probe.Stage) string {
			return strconv.Itoa(s.IncompleteOutputTokens)
		}),
		ofStage("cached_tokens", func(s *probe.Stage) string { return strconv.Itoa(s.CachedTokens) }),
		ofStage("new_connections", func(s *probe.Stage) string { return strconv.Itoa(s.NewConnections) }),
		ofStage("tokens_by_tokenizer", func(s *probe.Stage) string { return strconv.Itoa(s.TokensByTokenizer) }),
		ofStage("tokens_by_events", func(s *probe.Stage) string { return strconv.Itoa(s.TokensByEvents) }),
	}
}

type csvDistribution struct {
	name string
	of   func(s *probe.Stage) *probe.Distribution
}

func csvDistributions() []csvDistribution {
	return []csvDistribution{
		{"prompt_tokens", func(s *probe.Stage) *probe.Distribution { return &s.PromptTokens }},
		{"server_prompt_tokens", func(s *probe.Stage) *probe.Distribution { return &s.ServerPromptTokens }},
		{"output_tokens", func(s *probe.Stage) *probe.Distribution { return &s.OutputTokens }},
		{"request_duration_seconds", func(s *probe.Stage) *probe.Distribution { return &s.RequestDuration }},
		{"time_to_first_token_seconds", func(s *probe.Stage) *probe.Distribution { return &s.TimeToFirstToken }},
		{"time_to_first_answer_token_seconds", func(s *probe.Stage) *probe.Distribution {
			return &s.TimeToFirstAnswerToken
		}},
		{"inter_token_latency_seconds", func(s *probe.Stage) *probe.Distribution { return &s.InterTokenLatency }},
		{"time_per_output_token_seconds", func(s *probe.Stage) *probe.Distribution { return &s.TimePerOutputToken }},
		{"stream_stall_seconds", func(s *probe.Stage) *probe.Distribution { return &s.StreamStall }},
		{"schedule_delay_seconds", func(s *probe.Stage) *probe.Distribution { return &s.ScheduleDelay }},
		{"receive_lag_seconds", func(s *probe.Stage) *probe.Distribution { return &s.ReceiveLag }},
		{"dns_seconds", func(s *probe.Stage) *probe.Distribution { return &s.DNS }},
		{"connect_seconds", func(s *probe.Stage) *probe.Distribution { return &s.Connect }},
		{"tls_seconds", func(s *probe.Stage) *probe.Distribution { return &s.TLS }},
	}
}

type csvDistributionValue struct {
	name string
	of   func(d *probe.Distribution) float64
}

func csvDistributionValues() []csvDistributionValue {
	return []csvDistributionValue{
		{"mean", func(d *probe.Distribution) float64 { return d.Mean }},
		{"min", func(d *probe.Distribution) float64 { return d.Min }},
		{"p01", func(d *probe.Distribution) float64 { return d.P01 }},
		{"p05", func(d *probe.Distribution) float64 { return d.P05 }},
		{"p10", func(d *probe.Distribution) float64 { return d.P10 }},
		{"p25", func(d *probe.Distribution) float64 { return d.P25 }},
		{"p50", func(d *probe.Distribution) float64 { return d.P50 }},
		{"p75", func(d *probe.Distribution) float64 { return d.P75 }},
		{"p90", func(d *probe.Distribution) float64 { return d.P90 }},
		{"p95", func(d *probe.Distribution) float64 { return d.P95 }},
		{"p99", func(d *probe.Distribution) float64 { return d.P99 }},
		{"max", func(d *probe.Distribution) float64 { return d.Max }},
	}
}

// csvText is text from elsewhere as a cell that no spreadsheet takes for a formula.
func csvText(s string) string {
	s = clean(s)
	if s != "" && strings.ContainsRune("=+-@", rune(s[0])) {
		return "'" + s
	}
	return s
}

// csvNumber is plain decimal, since not every spreadsheet reads exponents.
func csvNumber(v float64) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return ""
	}
	return strconv.FormatFloat(v, 'f', -1, 64)
}
