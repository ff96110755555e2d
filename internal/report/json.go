package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"github.com/inferprobe/inferprobe/internal/probe"
)

// Schema names the JSON form of a cycle. Keys may be added to it; none is removed or changes its meaning.
const Schema = "inferprobe/report/v1"

// The types below are report/v1. Times are RFC 3339 in UTC, durations are in seconds, and null stands for what was not
// observed, not set or not known. Numbers that JSON does not have, NaN and the infinities, are null too.
type (
	cycleJSON struct {
		Schema     string         `json:"schema"`
		ID         string         `json:"id"`
		Endpoint   string         `json:"endpoint"`
		Model      string         `json:"model"`
		Server     string         `json:"server"`
		URL        string         `json:"url"`
		Profile    probe.Profile  `json:"profile"`
		Workload   workloadJSON   `json:"workload"`
		Limits     limitsJSON     `json:"limits"`
		Objectives objectivesJSON `json:"objectives"`
		StartedAt  *time.Time     `json:"started_at"`
		EndedAt    *time.Time     `json:"ended_at"`
		Stages     []stageJSON    `json:"stages"`
		Capacity   capacityJSON   `json:"capacity"`
		// Fingerprint is equal for cycles that can be compared.
		Fingerprint string         `json:"fingerprint"`
		Regression  regressionJSON `json:"regression"`
		Skipped     []skipJSON     `json:"skipped"`
		Failure     *failureJSON   `json:"failure"`
	}
	workloadJSON struct {
		API          string     `json:"api"`
		Tokenizer    string     `json:"tokenizer"`
		PromptTokens lengthJSON `json:"prompt_tokens"`
		OutputTokens lengthJSON `json:"output_tokens"`

		SharedPrefixTokens int `json:"shared_prefix_tokens"`

		ExtraBody string `json:"extra_body"` // JSON in a text
	}
	lengthJSON struct {
		Mean     int  `json:"mean"`
		Variance int  `json:"variance"`
		Min      *int `json:"min"`
		Max      *int `json:"max"`
	}
	limitsJSON struct {
		MaxDuration    *float64 `json:"max_duration_seconds"`
		MaxRequests    *int     `json:"max_requests"`
		MaxConcurrency *int     `json:"max_concurrency"`
	}
	objectivesJSON struct {
		TimeToFirstTokenP90  *float64 `json:"time_to_first_token_p90_seconds"`
		InterTokenLatencyP90 *float64 `json:"inter_token_latency_p90_seconds"`
		RequestDurationP90   *float64 `json:"request_duration_p90_seconds"`
		ErrorRate            *float64 `json:"error_rate"`
	}
	capacityJSON struct {
		RequestsPerSecond          *float64      `json:"requests_per_second"`
		RequestsInterval           *intervalJSON `json:"requests_per_second_interval"`
		OutputTokensPerSecond      *float64      `json:"output_tokens_per_second"`
		ObjectiveRequestsPerSecond *float64      `json:"objective_requests_per_second"`
		ObjectiveShare             *float64      `json:"objective_share"`
	}
	// intervalJSON holds a value with 95 % confidence.
	intervalJSON struct {
		Low  *float64 `json:"low"`
		High *float64 `json:"high"`
	}
	// regressionJSON is {} where no regression was sought.
	regressionJSON struct {
		Detected *bool         `json:"detected,omitzero"`
		Baseline *baselineJSON `json:"baseline,omitzero"`
		Signals  []changeJSON  `json:"signals,omitzero"`
		Note     *string       `json:"note,omitzero"`
	}
	baselineJSON struct {
		Cycles []string   `json:"cycles"`
		From   *time.Time `json:"from"`
		To     *time.Time `json:"to"`
	}
	changeJSON struct {
		Signal          probe.Signal `json:"signal"`
		Ratio           *float64     `json:"ratio"`
		PValue          *float64     `json:"p_value"`
		Samples         int          `json:"samples"`
		BaselineSamples int          `json:"baseline_samples"`
		Worse           bool         `json:"worse"`
		Detected        bool         `json:"detected"`
	}
	skipJSON struct {
		Stage  string `json:"stage"`
		Reason string `json:"reason"`
		Detail string `json:"detail"`
	}
	failureJSON struct {
		Reason string `json:"reason"`
		Detail string `json:"detail"`
	}
	stageJSON struct {
		Name                    string           `json:"name"`
		Profile                 probe.Profile    `json:"profile"`
		TargetRate              *float64         `json:"target_requests_per_second"`
		Valid                   bool             `json:"valid"`
		InvalidReasons          []string         `json:"invalid_reasons"`
		Findings                []findingJSON    `json:"findings"`
		StartedAt               *time.Time       `json:"started_at"`
		Duration                *float64         `json:"duration_seconds"`
		WindowStart             float64          `json:"window_start_seconds"`
		WindowEnd               float64          `json:"window_end_seconds"`
		Requests                requestsJSON     `json:"requests"`
		UncertainPercentiles    []string         `json:"uncertain_percentiles"`
		RequestsPerSecond       *float64         `json:"requests_per_second"`
		RequestsInterval        *intervalJSON    `json:"requests_per_second_interval"`
		OutputTokensPerSecond   *float64         `json:"output_tokens_per_second"`
		InFlight                *float64         `json:"in_flight"`
		IncompleteOutputTokens  int              `json:"incomplete_output_tokens"`
		CachedTokens            int              `json:"cached_tokens"`
		TokensByTokenizer       int              `json:"tokens_by_tokenizer"`
		TokensByEvents          int              `json:"tokens_by_events"`
		PromptTokens            distributionJSON `json:"prompt_tokens"`
		ServerPromptTokens      distributionJSON `json:"server_prompt_tokens"`
		OutputTokens            distributionJSON `json:"output_tokens"`
		RequestDuration         distributionJSON `json:"request_duration_seconds"`
		TimeToFirstToken        distributionJSON `json:"time_to_first_token_seconds"`
		TimeToFirstAnswerToken  distributionJSON `json:"time_to_first_answer_token_seconds"`
		InterTokenLatency       distributionJSON `json:"inter_token_latency_seconds"`
		TimePerOutputToken      distributionJSON `json:"time_per_output_token_seconds"`
		StreamStall             distributionJSON `json:"stream_stall_seconds"`
		StreamStallP99          *intervalJSON    `json:"stream_stall_p99_bounds_seconds"`
		TimeToFirstTokenExcess  *excessJSON      `json:"time_to_first_token_excess"`
		InterTokenLatencyExcess *excessJSON      `json:"inter_token_latency_excess"`
		RequestDurationExcess   *excessJSON      `json:"request_duration_excess"`
		ScheduleDelay           distributionJSON `json:"schedule_delay_seconds"`
		ReceiveLag              distributionJSON `json:"receive_lag_seconds"`
		NewConnections          int              `json:"new_connections"`
		DNS                     distributionJSON `json:"dns_seconds"`
		Connect                 distributionJSON `json:"connect_seconds"`
		TLS                     distributionJSON `json:"tls_seconds"`
	}
	excessJSON struct {
		Share   *float64 `json:"share"`
		Samples int      `json:"effective_samples"`
	}
	findingJSON struct {
		Name        probe.FindingName `json:"name"`
		Detail      string            `json:"detail"`
		Invalidates bool              `json:"invalidates"`
	}
	requestsJSON struct {
		Completed       int                     `json:"completed"`
		Failed          int                     `json:"failed"`
		Incomplete      int                     `json:"incomplete"`
		Retries         int                     `json:"retries"`
		Failures        map[probe.Reason]int    `json:"failures"`
		FailureExamples map[probe.Reason]string `json:"failure_examples"`
	}
	distributionJSON struct {
		Count int      `json:"count"`
		Mean  *float64 `json:"mean"`
		Min   *float64 `json:"min"`
		P01   *float64 `json:"p01"`
		P05   *float64 `json:"p05"`
		P10   *float64 `json:"p10"`
		P25   *float64 `json:"p25"`
		P50   *float64 `json:"p50"`
		P75   *float64 `json:"p75"`
		P90   *float64 `json:"p90"`
		P95   *float64 `json:"p95"`
		P99   *float64 `json:"p99"`
		Max   *float64 `json:"max"`
	}
)

// WriteJSON writes one cycle as an object of report/v1, any other number of them as an array of such objects.
func WriteJSON(w io.Writer, cycles ...*probe.Cycle) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if len(cycles) == 1 {
		return encoder.Encode(encodeCycle(cycles[0]))
	}
	all := make([]cycleJSON, len(cycles))
	for i, c := range cycles {
		all[i] = encodeCycle(c)
	}
	return encoder.Encode(all)
}

func encodeCycle(c *probe.Cycle) cycleJSON {
	j := cycleJSON{
		Schema: Schema, ID: c.ID, Endpoint: c.Endpoint.Name, Model: c.Endpoint.Model, Server: c.Server,
		URL: c.Endpoint.URL, Profile: c.Profile,
		Workload: workloadJSON{API: c.Workload.API, Tokenizer: c.Workload.Tokenizer,
			PromptTokens: encodeLength(c.Workload.PromptTokens), OutputTokens: encodeLength(c.Workload.OutputTokens),
			SharedPrefixTokens: c.Workload.SharedPrefixTokens, ExtraBody: c.Workload.ExtraBody},
		Limits: limitsJSON{MaxDuration: set(c.MaxDuration.Seconds()), MaxRequests: set(c.MaxRequests),
			MaxConcurrency: set(c.MaxConcurrency)},
		Objectives: objectivesJSON{
			TimeToFirstTokenP90:  set(c.Objectives.TimeToFirstTokenP90.Seconds()),
			InterTokenLatencyP90: set(c.Objectives.InterTokenLatencyP90.Seconds()),
			RequestDurationP90:   set(c.Objectives.RequestDurationP90.Seconds()),
			ErrorRate:            set(finite(c.Objectives.ErrorRate))},
		StartedAt: encodeTime(c.Started), EndedAt: encodeTime(c.Ended),
		Stages:      make([]stageJSON, len(c.Stages)),
		Capacity:    encodeCapacity(c),
		Fingerprint: c.Fingerprint, Regression: encodeRegression(c.Regression),
		Skipped: make([]skipJSON, len(c.Skipped)),
	}
	for i := range c.Stages {
		j.Stages[i] = encodeStage(&c.Stages[i])
	}
	for i, s := range c.Skipped {
		j.Skipped[i] = skipJSON(s)
	}
	if c.Failure != nil {
		j.Failure = new(failureJSON(*c.Failure))
	}
	return j
}

// encodeCapacity writes 0 for objectives that are met at no rate, and null where that could not be judged.
func encodeCapacity(c *probe.Cycle) capacityJSON {
	j := capacityJSON{
		RequestsPerSecond:          set(finite(c.Capacity.RequestsPerSecond)),
		RequestsInterval:           encodeInterval(c.Capacity.RequestsInterval),
		OutputTokensPerSecond:      set(finite(c.Capacity.OutputTokensPerSecond)),
		ObjectiveRequestsPerSecond: set(finite(c.Capacity.ObjectiveRequestsPerSecond)),
	}
	if j.ObjectiveRequestsPerSecond == nil && c.ObjectivesJudged() {
		j.ObjectiveRequestsPerSecond = number(0)
	}
	if share, ok := c.Capacity.ObjectiveShare(); ok {
		j.ObjectiveShare = number(share)
	}
	return j
}

func encodeInterval(i probe.Interval) *intervalJSON {
	if i.IsZero() {
		return nil
	}
	return &intervalJSON{Low: number(i.Low), High: number(i.High)}
}

func encodeRegression(r *probe.Regression) regressionJSON {
	if r == nil {
		return regressionJSON{}
	}
	j := regressionJSON{
		Detected: new(r.Detected()), Note: &r.Note, Signals: make([]changeJSON, len(r.Changes)),
		Baseline: &baselineJSON{Cycles: append([]string{}, r.Baseline.Cycles...), From: encodeTime(r.Baseline.From),
			To: encodeTime(r.Baseline.To)},
	}
	for i, c := range r.Changes {
		j.Signals[i] = changeJSON{Signal: c.Signal, Ratio: number(c.Ratio), PValue: number(c.PValue), Samples: c.Samples,
			BaselineSamples: c.BaselineSamples, Worse: c.Worse, Detected: c.Detected}
	}
	return j
}

func encodeLength(l probe.Length) lengthJSON {
	return lengthJSON{Mean: l.Mean, Variance: l.Variance, Min: set(l.Min), Max: set(l.Max)}
}

func encodeStage(s *probe.Stage) stageJSON {
	j := stageJSON{
		Name: s.Name, Profile: s.Profile, TargetRate: set(finite(s.TargetRate)),
		Valid: s.Valid(), InvalidReasons: invalidReasons(s), Findings: make([]findingJSON, len(s.Findings)),
		StartedAt: encodeTime(s.Started), WindowStart: s.WindowStart.Seconds(), WindowEnd: s.WindowEnd.Seconds(),
		Requests: requestsJSON{Completed: s.Completed, Failed: s.Failed, Incomplete: s.Incomplete, Retries: s.Retries,
			Failures: map[probe.Reason]int{}, FailureExamples: map[probe.Reason]string{}},
		UncertainPercentiles: uncertainPercentiles(s),
		RequestsPerSecond:    number(s.RequestsPerSecond), OutputTokensPerSecond: number(s.OutputTokensPerSecond),
		RequestsInterval: encodeInterval(s.RequestsInterval),
		InFlight:         number(s.InFlight), IncompleteOutputTokens: s.IncompleteOutputTokens,
		CachedTokens: s.CachedTokens, TokensByTokenizer: s.TokensByTokenizer, TokensByEvents: s.TokensByEvents,
		PromptTokens:            encodeDistribution(&s.PromptTokens),
		ServerPromptTokens:      encodeDistribution(&s.ServerPromptTokens),
		OutputTokens:            encodeDistribution(&s.OutputTokens),
		RequestDuration:         encodeDistribution(&s.RequestDuration),
		TimeToFirstToken:        encodeDistribution(&s.TimeToFirstToken),
		TimeToFirstAnswerToken:  encodeDistribution(&s.TimeToFirstAnswerToken),
		InterTokenLatency:       encodeDistribution(&s.InterTokenLatency),
		TimePerOutputToken:      encodeDistribution(&s.TimePerOutputToken),
		StreamStall:             encodeDistribution(&s.StreamStall),
		StreamStallP99:          encodeInterval(s.StreamStallP99),
		TimeToFirstTokenExcess:  encodeExcess(s.TimeToFirstTokenExcess),
		InterTokenLatencyExcess: encodeExcess(s.InterTokenLatencyExcess),
		RequestDurationExcess:   encodeExcess(s.RequestDurationExcess),
		ScheduleDelay:           encodeDistribution(&s.ScheduleDelay),
		ReceiveLag:              encodeDistribution(&s.ReceiveLag),
		NewConnections:          s.NewConnections,
		DNS:                     encodeDistribution(&s.DNS),
		Connect:                 encodeDistribution(&s.Connect),
		TLS:                     encodeDistribution(&s.TLS),
	}
	if !s.Started.IsZero() && !s.Ended.IsZero() {
		j.Duration = new(s.Ended.Sub(s.Started).Seconds())
	}
	for i, f := range s.Findings {
		j.Findings[i] = findingJSON(f)
	}
	for reason, n := range s.Failures {
		j.Requests.Failures[reason] = n
	}
	for reason, example := range s.FailureDetails {
		j.Requests.FailureExamples[reason] = example
	}
	return j
}

func encodeExcess(x probe.Excess) *excessJSON {
	if x == (probe.Excess{}) {
		return nil
	}
	return &excessJSON{Share: number(x.Share), Samples: x.Samples}
}

func decodeExcess(j *excessJSON) probe.Excess {
	if j == nil {
		return probe.Excess{}
	}
	return probe.Excess{Share: value(j.Share), Samples: j.Samples}
}

// invalidReasons returns the findings that make s invalid, each once.
func invalidReasons(s *probe.Stage) []string { return findingNames(s, true) }

// notes returns the findings that leave s valid, each once.
func notes(s *probe.Stage) []string { return findingNames(s, false) }

func findingNames(s *probe.Stage, invalidate bool) []string {
	names := []string{}
	for _, f := range s.Findings {
		if f.Invalidates == invalidate && !slices.Contains(names, string(f.Name)) {
			names = append(names, string(f.Name))
		}
	}
	return names
}

// uncertainPercentiles returns the keys of the percentiles that as many requests as s completed do not bound. It is these
// that count, whatever the percentile is of: gaps between the tokens of one request are not independent of each other.
func uncertainPercentiles(s *probe.Stage) []string {
	keys := []string{}
	for _, percent := range []int{1, 5, 10, 25, 50, 75, 90, 95, 99} {
		if s.Completed < probe.MinSamples(float64(percent)/100) {
			keys = append(keys, fmt.Sprintf("p%02d", percent))
		}
	}
	return keys
}

func encodeDistribution(d *probe.Distribution) distributionJSON {
	if d.Count == 0 {
		return distributionJSON{}
	}
	return distributionJSON{
		Count: d.Count, Mean: number(d.Mean), Min: number(d.Min), P01: number(d.P01), P05: number(d.P05),
		P10: number(d.P10), P25: number(d.P25), P50: number(d.P50), P75: number(d.P75), P90: number(d.P90),
		P95: number(d.P95), P99: number(d.P99), Max: number(d.Max),
	}
}

func encodeTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return new(t.UTC())
}

// number returns v, or null where JSON has no such number.
func number(v float64) *float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	return &v
}

// set returns v, or null for the zero that means "not set" or "none".
func set[T int | float64](v T) *T {
	if v == 0 {
		return nil
	}
	return &v
}

// finite returns v, or 0 where it is no finite number.
func finite(v float64) float64 { return value(number(v)) }

// value returns what p points to, or the zero value for null.
func value[T any](p *T) T {
	if p == nil {
		return *new(T)
	}
	return *p
}

// ParseJSON returns the cycles that WriteJSON wrote: of one object, or of an array of them. Keys it does not know are
// skipped. Another schema, a value of the wrong type and a time or duration out of range are errors that name the
// place. Times are in UTC.
func ParseJSON(data []byte) ([]*probe.Cycle, error) {
	var all []cycleJSON
	if trimmed := bytes.TrimLeft(data, " \t\r\n"); len(trimmed) > 0 && trimmed[0] == '[' {
		if err := json.Unmarshal(data, &all); err != nil {
			return nil, fmt.Errorf("report: want an array of %s objects: %w", Schema, err)
		}
	} else {
		all = make([]cycleJSON, 1)
		if err := json.Unmarshal(data, &all[0]); err != nil {
			return nil, fmt.Errorf("report: want an %s object: %w", Schema, err)
		}
	}
	cycles := make([]*probe.Cycle, len(all))
	for i := range all {
		var err error
		if cycles[i], err = decodeCycle(&all[i]); err != nil {
			return nil, fmt.Errorf("report: cycle %d: %w", i+1, err)
		}
	}
	return cycles, nil
}

func decodeCycle(j *cycleJSON) (*probe.Cycle, error) {
	if j.Schema != Schema {
		return nil, fmt.Errorf("schema is %q, want %q", j.Schema, Schema)
	}
	var d decoder
	c := &probe.Cycle{
		ID: j.ID, Endpoint: probe.Endpoint{Name: j.Endpoint, Model: j.Model, URL: j.URL}, Server: j.Server,
		Workload: probe.Workload{API: j.Workload.API, Tokenizer: j.Workload.Tokenizer,
			PromptTokens: decodeLength(j.Workload.PromptTokens), OutputTokens: decodeLength(j.Workload.OutputTokens),
			SharedPrefixTokens: j.Workload.SharedPrefixTokens, ExtraBody: j.Workload.ExtraBody},
		Profile: j.Profile, MaxDuration: d.seconds("max_duration_seconds", value(j.Limits.MaxDuration)),
		MaxRequests: value(j.Limits.MaxRequests), MaxConcurrency: value(j.Limits.MaxConcurrency),
		Started: d.time("started_at", j.StartedAt), Ended: d.time("ended_at", j.EndedAt),
		Objectives: probe.Objectives{
			TimeToFirstTokenP90: d.seconds("time_to_first_token_p90_seconds", value(j.Objectives.TimeToFirstTokenP90)),
			InterTokenLatencyP90: d.seconds("inter_token_latency_p90_seconds",
				value(j.Objectives.InterTokenLatencyP90)),
			RequestDurationP90: d.seconds("request_duration_p90_seconds", value(j.Objectives.RequestDurationP90)),
			ErrorRate:          value(j.Objectives.ErrorRate),
		},
		Fingerprint: j.Fingerprint, Regression: d.regression(&j.Regression),
		Capacity: probe.Capacity{
			RequestsPerSecond:          value(j.Capacity.RequestsPerSecond),
			RequestsInterval:           decodeInterval(j.Capacity.RequestsInterval),
			OutputTokensPerSecond:      value(j.Capacity.OutputTokensPerSecond),
			ObjectiveRequestsPerSecond: value(j.Capacity.ObjectiveRequestsPerSecond),
		},
	}
	for i := range j.Stages {
		d.place = fmt.Sprintf("stage %q: ", j.Stages[i].Name)
		c.Stages = append(c.Stages, d.stage(&j.Stages[i]))
	}
	for _, s := range j.Skipped {
		c.Skipped = append(c.Skipped, probe.Skip(s))
	}
	if j.Failure != nil {
		c.Failure = new(probe.CycleFailure(*j.Failure))
	}
	return c, errors.Join(d.errs...)
}

func decodeInterval(j *intervalJSON) probe.Interval {
	if j == nil {
		return probe.Interval{}
	}
	return probe.Interval{Low: value(j.Low), High: value(j.High)}
}

func decodeLength(j lengthJSON) probe.Length {
	return probe.Length{Mean: j.Mean, Variance: j.Variance, Min: value(j.Min), Max: value(j.Max)}
}

// decoder collects what is wrong with the values of a cycle.
type decoder struct {
	place string
	errs  []error
}

func (d *decoder) regression(j *regressionJSON) *probe.Regression {
	if j.Detected == nil {
		return nil
	}
	r := &probe.Regression{Note: value(j.Note)}
	if b := value(j.Baseline); len(b.Cycles) > 0 {
		r.Baseline = probe.Baseline{Cycles: b.Cycles, From: d.time("regression.baseline.from", b.From),
			To: d.time("regression.baseline.to", b.To)}
	}
	for _, c := range j.Signals {
		r.Changes = append(r.Changes, probe.Change{Signal: c.Signal, Ratio: value(c.Ratio), PValue: value(c.PValue),
			Samples: c.Samples, BaselineSamples: c.BaselineSamples, Worse: c.Worse, Detected: c.Detected})
	}
	return r
}

func (d *decoder) stage(j *stageJSON) probe.Stage {
	s := probe.Stage{
		Name: j.Name, Profile: j.Profile, TargetRate: value(j.TargetRate), Started: d.time("started_at", j.StartedAt),
		Completed: j.Requests.Completed, Failed: j.Requests.Failed, Incomplete: j.Requests.Incomplete,
		Retries:           j.Requests.Retries,
		RequestsPerSecond: value(j.RequestsPerSecond), OutputTokensPerSecond: value(j.OutputTokensPerSecond),
		WindowStart:      d.seconds("window_start_seconds", j.WindowStart),
		WindowEnd:        d.seconds("window_end_seconds", j.WindowEnd),
		RequestsInterval: decodeInterval(j.RequestsInterval),
		InFlight:         value(j.InFlight), IncompleteOutputTokens: j.IncompleteOutputTokens,
		CachedTokens: j.CachedTokens, TokensByTokenizer: j.TokensByTokenizer, TokensByEvents: j.TokensByEvents,
		PromptTokens:            decodeDistribution(&j.PromptTokens),
		ServerPromptTokens:      decodeDistribution(&j.ServerPromptTokens),
		OutputTokens:            decodeDistribution(&j.OutputTokens),
		RequestDuration:         decodeDistribution(&j.RequestDuration),
		TimeToFirstToken:        decodeDistribution(&j.TimeToFirstToken),
		TimeToFirstAnswerToken:  decodeDistribution(&j.TimeToFirstAnswerToken),
		InterTokenLatency:       decodeDistribution(&j.InterTokenLatency),
		TimePerOutputToken:      decodeDistribution(&j.TimePerOutputToken),
		StreamStall:             decodeDistribution(&j.StreamStall),
		StreamStallP99:          decodeInterval(j.StreamStallP99),
		TimeToFirstTokenExcess:  decodeExcess(j.TimeToFirstTokenExcess),
		InterTokenLatencyExcess: decodeExcess(j.InterTokenLatencyExcess),
		RequestDurationExcess:   decodeExcess(j.RequestDurationExcess),
		ScheduleDelay:           decodeDistribution(&j.ScheduleDelay),
		ReceiveLag:              decodeDistribution(&j.ReceiveLag),
		NewConnections:          j.NewConnections,
		DNS:                     decodeDistribution(&j.DNS),
		Connect:                 decodeDistribution(&j.Connect),
		TLS:                     decodeDistribution(&j.TLS),
	}
	if duration := d.seconds("duration_seconds", value(j.Duration)); j.Duration != nil && !s.Started.IsZero() {
		s.Ended = s.Started.Add(duration)
	}
	for _, f := range j.Findings {
		s.Findings = append(s.Findings, probe.Finding(f))
	}
	if len(j.Requests.Failures) > 0 {
		s.Failures = j.Requests.Failures
	}
	if len(j.Requests.FailureExamples) > 0 {
		s.FailureDetails = j.Requests.FailureExamples
	}
	return s
}

func decodeDistribution(j *distributionJSON) probe.Distribution {
	if j.Count == 0 {
		return probe.Distribution{}
	}
	return probe.Distribution{
		Count: j.Count, Mean: value(j.Mean), Min: value(j.Min), P01: value(j.P01), P05: value(j.P05),
		P10: value(j.P10), P25: value(j.P25), P50: value(j.P50), P75: value(j.P75), P90: value(j.P90),
		P95: value(j.P95), P99: value(j.P99), Max: value(j.Max),
	}
}

// seconds returns v seconds, to the nanosecond.
func (d *decoder) seconds(key string, v float64) time.Duration {
	if math.Abs(v) > math.MaxInt64/1e9-1 {
		d.errs = append(d.errs, fmt.Errorf("%s%s is %v, more than a duration can hold", d.place, key, v))
		return 0
	}
	return time.Duration(math.Round(v * 1e9))
}

// time returns t in UTC. A year that RFC 3339 cannot express could not be written again.
func (d *decoder) time(key string, t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	utc := t.UTC()
	if year := utc.Year(); year < 0 || year > 9999 {
		d.errs = append(d.errs, fmt.Errorf("%s%s is in the year %d, want one from 0 to 9999", d.place, key, year))
	}
	return utc
}
