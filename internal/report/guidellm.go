package report

import (
	"encoding/json"
	"io"
	"math"
	"strings"
	"time"

	"github.com/inferprobe/inferprobe/internal/probe"
)

// WriteGuideLLM writes a cycle as the benchmarks.json of GuideLLM 0.7, whose metadata.version is 2. Its schema was read
// off that version's own models; TestGuideLLMLoader has its loader read the file.
//
// The schema has figures that a cycle lacks and wants a number for each. What we do not know is "NaN": a string, since
// JSON has no such number, which GuideLLM reads as not a number. What was never observed is zero with a count of zero, as
// GuideLLM writes it. Where the two measure differently, its definition decides: its inter-token latency is the mean
// gap of each request, our time per output token, and its time per output token, which includes the wait for the first
// one, is not known. Our own figures of each stage stand under the key inferprobe, as in report/v1.
func WriteGuideLLM(w io.Writer, c *probe.Cycle) error {
	file := guideFile{
		Metadata: map[string]any{"version": 2, "guidellm_version": "none: written by inferprobe", "python_version": "",
			"platform": ""},
		Config: map[string]any{
			"metadata": map[string]any{"labels": map[string]any{"endpoint": clean(c.Endpoint.Name), "cycle": clean(c.ID),
				"server": clean(c.Server)}},
			"spec": guideSpec(c), "benchmarks": []any{nil}},
		Benchmarks: []guideBenchmark{},
	}
	for i, s := range ordered(c.Stages) {
		file.Benchmarks = append(file.Benchmarks, newGuideBenchmark(c, &s, i))
	}
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(file)
}

type guideFile struct {
	Metadata   map[string]any   `json:"metadata"`
	Config     map[string]any   `json:"config"`
	Benchmarks []guideBenchmark `json:"benchmarks"`
}

// guideSpec says what was asked for in GuideLLM's own options.
func guideSpec(c *probe.Cycle) map[string]any {
	data := map[string]any{"kind": "synthetic_text"}
	guideLength(data, "prompt_tokens", behindPrefix(c.Workload))
	if n := c.Workload.SharedPrefixTokens; n > 0 {
		data["prefix_tokens"] = n
	}
	guideLength(data, "output_tokens", c.Workload.OutputTokens)
	return map[string]any{
		"backend": guideBackend(c), "profile": guideProfile(c), "constraints": guideConstraints(c), "data": []any{data},
		"tokenizer": map[string]any{"kind": "huggingface_auto", "model": clean(c.Workload.Tokenizer)},
		"outputs":   []any{},
	}
}

func guideBackend(c *probe.Cycle) map[string]any {
	format := "/v1/chat/completions"
	if c.Workload.API == "completions" {
		format = "/v1/completions"
	}
	return map[string]any{"kind": "openai_http", "target": strings.TrimSuffix(clean(c.Endpoint.URL), "/v1"),
		"model": clean(c.Endpoint.Model), "request_format": format}
}

func guideProfile(c *probe.Cycle) map[string]any {
	switch c.Profile {
	case probe.ProfileThroughput:
		return map[string]any{"kind": "throughput", "max_concurrency": nil}
	case probe.ProfileConstant, probe.ProfilePoisson:
		rates := []float64{}
		for _, s := range c.Stages {
			if rate := finite(s.TargetRate); rate > 0 {
				rates = append(rates, rate)
			}
		}
		return map[string]any{"kind": c.Profile, "rate": rates}
	case probe.ProfileSweep:
		return map[string]any{"kind": "sweep", "sweep_size": max(2, len(c.Stages)+len(c.Skipped))}
	}
	return map[string]any{"kind": "synchronous"}
}

func guideConstraints(c *probe.Cycle) []map[string]any {
	constraints := []map[string]any{}
	if c.MaxDuration > 0 {
		constraints = append(constraints, map[string]any{"kind": "max_duration", "seconds": c.MaxDuration.Seconds()})
	}
	if c.MaxRequests > 0 {
		constraints = append(constraints, map[string]any{"kind": "max_requests", "count": c.MaxRequests})
	}
	return constraints
}

// behindPrefix is the length of a prompt without its shared prefix, which GuideLLM puts in front of prompts.
func behindPrefix(w probe.Workload) probe.Length {
	l := w.PromptTokens
	for _, n := range []*int{&l.Mean, &l.Min, &l.Max} {
		*n = max(0, *n-w.SharedPrefixTokens)
	}
	return l
}

// guideLength adds a length. GuideLLM has whole standard deviations where we have variances.
func guideLength(data map[string]any, name string, l probe.Length) {
	for suffix, n := range map[string]int{
		"": l.Mean, "_stdev": int(math.Round(math.Sqrt(float64(l.Variance)))), "_min": l.Min, "_max": l.Max,
	} {
		if n > 0 {
			data[name+suffix] = n
		}
	}
}

type guideBenchmark struct {
	Type             string                     `json:"type_"`
	Config           map[string]any             `json:"config"`
	SchedulerState   map[string]any             `json:"scheduler_state"`
	SchedulerMetrics map[string]any             `json:"scheduler_metrics"`
	Metrics          map[string]any             `json:"metrics"`
	Requests         guideBreakdown[[]struct{}] `json:"requests"`
	Inferprobe       stageJSON                  `json:"inferprobe"`
}

// guideBreakdown is a value by the outcome of requests.
type guideBreakdown[T any] struct {
	Successful T  `json:"successful"`
	Errored    T  `json:"errored"`
	Incomplete T  `json:"incomplete"`
	Total      *T `json:"total"`
}

func newGuideBenchmark(c *probe.Cycle, s *probe.Stage, index int) guideBenchmark {
	return guideBenchmark{
		Type: "generative_benchmark",
		Config: map[string]any{
			"id_": clean(c.ID + "/" + s.Name), "run_id": clean(c.ID), "run_index": index, "strategy": guideStrategy(s),
			"constraints": map[string]any{}, "profile": guideProfile(c), "requests": map[string]any{},
			"backend": guideBackend(c), "environment": map[string]any{},
		},
		SchedulerState: map[string]any{
			"start_time": epoch(s.Started), "end_time": epoch(s.Ended),
			"created_requests":    s.Completed + s.Failed + s.Incomplete,
			"processed_requests":  s.Completed + s.Failed + s.Incomplete,
			"successful_requests": s.Completed, "errored_requests": s.Failed, "cancelled_requests": s.Incomplete,
		},
		SchedulerMetrics: guideScheduler(s),
		Metrics:          guideMetrics(s),
		Requests: guideBreakdown[[]struct{}]{Successful: []struct{}{}, Errored: []struct{}{},
			Incomplete: []struct{}{}},
		Inferprobe: encodeStage(s),
	}
}

func guideStrategy(s *probe.Stage) map[string]any {
	switch rate := finite(s.TargetRate); {
	case rate > 0 && s.Profile == probe.ProfilePoisson:
		return map[string]any{"type_": "poisson", "rate": rate}
	case rate > 0:
		return map[string]any{"type_": "constant", "rate": rate}
	case s.Profile == probe.ProfileThroughput:
		return map[string]any{"type_": "throughput"}
	}
	return map[string]any{"type_": "synchronous"}
}

// guideScheduler has the times of a stage: what GuideLLM measures is our window, the rest warm-up and cool-down.
func guideScheduler(s *probe.Stage) map[string]any {
	const absent = -1.0 // GuideLLM's own
	from, to := s.Started, s.Ended
	if s.WindowEnd > 0 && !s.Started.IsZero() {
		from, to = s.Started.Add(s.WindowStart), s.Started.Add(s.WindowEnd)
	}
	m := map[string]any{
		"start_time": epoch(s.Started), "request_start_time": epoch(s.Started), "measure_start_time": epoch(from),
		"measure_end_time": epoch(to), "request_end_time": epoch(s.Ended), "end_time": epoch(s.Ended),
		"requests_made": guideTotals(s),
	}
	for _, key := range []string{"queued_time_avg", "resolve_start_delay_avg", "resolve_targeted_start_delay_avg",
		"request_start_delay_avg", "request_targeted_start_delay_avg", "request_time_avg", "resolve_end_delay_avg",
		"resolve_time_avg", "finalized_delay_avg", "processed_delay_avg"} {
		m[key] = absent
	}
	if s.ScheduleDelay.Count > 0 {
		m["request_targeted_start_delay_avg"] = guideNumber(s.ScheduleDelay.Mean)
	}
	if s.RequestDuration.Count > 0 {
		m["request_time_avg"] = guideNumber(s.RequestDuration.Mean)
	}
	return m
}

func guideTotals(s *probe.Stage) guideBreakdown[int] {
	return guideBreakdown[int]{s.Completed, s.Failed, s.Incomplete, new(s.Completed + s.Failed + s.Incomplete)}
}

func epoch(t time.Time) guideNumber {
	if t.IsZero() {
		return guideNumber(math.NaN())
	}
	return guideNumber(float64(t.UnixNano()) / 1e9)
}

func guideMetrics(s *probe.Stage) map[string]any {
	prompt := s.PromptTokens
	if s.ServerPromptTokens.Count > 0 {
		prompt = s.ServerPromptTokens // GuideLLM prefers what the response says, too
	}
	output := guideDistributions(s, &s.OutputTokens, 1)
	if s.Incomplete > 0 {
		tokens := float64(s.IncompleteOutputTokens)
		output.Incomplete = guideMean(s.Incomplete, tokens/float64(s.Incomplete))
	}
	unknown := func() guideBreakdown[guideDistribution] { return guideDistributions(s, &probe.Distribution{}, 1) }
	m := map[string]any{
		"request_totals":                guideTotals(s),
		"requests_per_second":           guideRequestRate(s),
		"request_concurrency":           guideOverall(s, s.InFlight),
		"request_latency":               guideDistributions(s, &s.RequestDuration, 1),
		"prompt_token_count":            guideDistributions(s, &prompt, 1),
		"output_token_count":            output,
		"time_to_first_token_ms":        guideDistributions(s, &s.TimeToFirstToken, 1000),
		"time_to_first_output_token_ms": guideDistributions(s, &s.TimeToFirstAnswerToken, 1000),
		"inter_token_latency_ms":        guideDistributions(s, &s.TimePerOutputToken, 1000),
		"output_tokens_per_second":      guideOverall(s, s.OutputTokensPerSecond),
	}
	for _, key := range []string{"request_streaming_iterations_count", "total_token_count", "time_per_output_token_ms",
		"prompt_tokens_per_second", "tokens_per_second", "output_tokens_per_iteration", "iter_tokens_per_iteration"} {
		m[key] = unknown()
	}
	for kind, parts := range map[string][]string{
		"text": {"tokens", "words", "characters"}, "image": {"tokens", "images", "pixels", "bytes"},
		"video": {"tokens", "frames", "seconds", "bytes"}, "audio": {"tokens", "samples", "seconds", "bytes"},
		"tool_call": {"tokens", "mixed_tokens", "count"},
	} {
		none := map[string]any{}
		for _, part := range parts {
			none[part] = nil
		}
		m[kind] = none
	}
	return m
}

// guideDistribution is a distribution in which NaN stands for what is not known.
type guideDistribution struct {
	Mean        guideNumber            `json:"mean"`
	Median      guideNumber            `json:"median"`
	Mode        guideNumber            `json:"mode"`
	Variance    guideNumber            `json:"variance"`
	StdDev      guideNumber            `json:"std_dev"`
	Min         guideNumber            `json:"min"`
	Max         guideNumber            `json:"max"`
	Count       int                    `json:"count"`
	TotalSum    guideNumber            `json:"total_sum"`
	Percentiles map[string]guideNumber `json:"percentiles"`
}

// guideNumber is a number, or a string that Python's float takes.
type guideNumber float64

// MarshalJSON writes "NaN" for what is no finite number.
func (n guideNumber) MarshalJSON() ([]byte, error) {
	if p := number(float64(n)); p != nil {
		return json.Marshal(*p)
	}
	return []byte(`"NaN"`), nil
}

// guideUnknown is a distribution of n observations that are not known, zeros for none.
func guideUnknown(n int) guideDistribution {
	v := guideNumber(math.NaN())
	if n == 0 {
		v = 0
	}
	d := guideDistribution{v, v, v, v, v, v, v, n, v, map[string]guideNumber{}}
	for _, name := range []string{"p001", "p01", "p05", "p10", "p25", "p50", "p75", "p90", "p95", "p99", "p999"} {
		d.Percentiles[name] = v
	}
	return d
}

// guideMean is a distribution of n observations of which only the mean is known.
func guideMean(n int, mean float64) guideDistribution {
	d := guideUnknown(n)
	if n > 0 {
		d.Mean, d.TotalSum = guideNumber(mean), guideNumber(mean*float64(n))
	}
	return d
}

// guideDistributions is a distribution over completed requests. What failed and incomplete ones had is not known.
func guideDistributions(s *probe.Stage, of *probe.Distribution, scale float64) guideBreakdown[guideDistribution] {
	completed := guideUnknown(s.Completed)
	if of.Count > 0 {
		completed = guideMean(of.Count, of.Mean*scale)
		completed.Median, completed.Min = guideNumber(of.P50*scale), guideNumber(of.Min*scale)
		completed.Max = guideNumber(of.Max * scale)
		for name, v := range map[string]float64{"p01": of.P01, "p05": of.P05, "p10": of.P10, "p25": of.P25, "p50": of.P50,
			"p75": of.P75, "p90": of.P90, "p95": of.P95, "p99": of.P99} {
			completed.Percentiles[name] = guideNumber(v * scale)
		}
	}
	total := guideUnknown(s.Completed + s.Failed + s.Incomplete)
	if s.Failed+s.Incomplete == 0 {
		total = completed
	}
	return guideBreakdown[guideDistribution]{completed, guideUnknown(s.Failed), guideUnknown(s.Incomplete), &total}
}

// guideRequestRate is the rate of requests that ended. It is that of the completed ones where none failed.
func guideRequestRate(s *probe.Stage) guideBreakdown[guideDistribution] {
	b := guideDistributions(s, &probe.Distribution{}, 1)
	b.Successful.Mean = guideNumber(s.RequestsPerSecond)
	if s.Failed == 0 {
		b.Total.Mean = b.Successful.Mean
	}
	return b
}

// guideOverall is a mean over the window to which every request contributed, whatever its outcome.
func guideOverall(s *probe.Stage, mean float64) guideBreakdown[guideDistribution] {
	b := guideDistributions(s, &probe.Distribution{}, 1)
	b.Total.Mean = guideNumber(mean)
	if s.Failed+s.Incomplete == 0 {
		b.Successful.Mean = b.Total.Mean
	}
	return b
}
