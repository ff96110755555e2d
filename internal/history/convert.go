package history

import (
	"fmt"
	"time"

	"github.com/inferprobe/inferprobe/internal/probe"
)

func fromCycle(c *probe.Cycle) *cycleJSON {
	j := &cycleJSON{
		Schema: schema, ID: c.ID, Endpoint: c.Endpoint.Name, Model: c.Endpoint.Model, URL: c.Endpoint.URL,
		Server: c.Server, Fingerprint: c.Fingerprint, StartedAt: instant(c.Started), EndedAt: instant(c.Ended),
		Profile: c.Profile,
		Workload: workloadJSON{API: c.Workload.API, Tokenizer: c.Workload.Tokenizer,
			PromptTokens: lengthJSON(c.Workload.PromptTokens), OutputTokens: lengthJSON(c.Workload.OutputTokens),
			SharedPrefixTokens: c.Workload.SharedPrefixTokens, ExtraBody: c.Workload.ExtraBody},
		Limits: limitsJSON{MaxDuration: seconds(c.MaxDuration), MaxRequests: c.MaxRequests,
			MaxConcurrency: c.MaxConcurrency},
		Objectives: objectivesJSON{
			TimeToFirstTokenP90:  seconds(c.Objectives.TimeToFirstTokenP90),
			InterTokenLatencyP90: seconds(c.Objectives.InterTokenLatencyP90),
			RequestDurationP90:   seconds(c.Objectives.RequestDurationP90),
			ErrorRate:            number(c.Objectives.ErrorRate)},
		Capacity: capacityJSON{
			RequestsPerSecond:          number(c.Capacity.RequestsPerSecond),
			RequestsInterval:           fromInterval(c.Capacity.RequestsInterval),
			OutputTokensPerSecond:      number(c.Capacity.OutputTokensPerSecond),
			ObjectiveRequestsPerSecond: number(c.Capacity.ObjectiveRequestsPerSecond)},
		Failure: (*failureJSON)(c.Failure), Skipped: make([]skipJSON, len(c.Skipped)),
		Regression: fromRegression(c.Regression), Stages: make([]stageJSON, len(c.Stages)),
	}
	for i, s := range c.Skipped {
		j.Skipped[i] = skipJSON(s)
	}
	for i := range c.Stages {
		j.Stages[i] = fromStage(&c.Stages[i])
	}
	return j
}

func toCycle(j *cycleJSON) (*probe.Cycle, error) {
	c := &probe.Cycle{
		ID: j.ID, Endpoint: probe.Endpoint{Name: j.Endpoint, Model: j.Model, URL: j.URL},
		Server: j.Server, Fingerprint: j.Fingerprint, Started: time.Time(j.StartedAt), Ended: time.Time(j.EndedAt),
		Profile: j.Profile,
		Workload: probe.Workload{API: j.Workload.API, Tokenizer: j.Workload.Tokenizer,
			PromptTokens: probe.Length(j.Workload.PromptTokens), OutputTokens: probe.Length(j.Workload.OutputTokens),
			SharedPrefixTokens: j.Workload.SharedPrefixTokens, ExtraBody: j.Workload.ExtraBody},
		MaxDuration: time.Duration(j.Limits.MaxDuration), MaxRequests: j.Limits.MaxRequests,
		MaxConcurrency: j.Limits.MaxConcurrency,
		Objectives: probe.Objectives{
			TimeToFirstTokenP90:  time.Duration(j.Objectives.TimeToFirstTokenP90),
			InterTokenLatencyP90: time.Duration(j.Objectives.InterTokenLatencyP90),
			RequestDurationP90:   time.Duration(j.Objectives.RequestDurationP90),
			ErrorRate:            float64(j.Objectives.ErrorRate)},
		Capacity: probe.Capacity{
			RequestsPerSecond:          float64(j.Capacity.RequestsPerSecond),
			RequestsInterval:           toInterval(j.Capacity.RequestsInterval),
			OutputTokensPerSecond:      float64(j.Capacity.OutputTokensPerSecond),
			ObjectiveRequestsPerSecond: float64(j.Capacity.ObjectiveRequestsPerSecond)},
		Failure: (*probe.CycleFailure)(j.Failure), Regression: toRegression(j.Regression),
	}
	for _, s := range j.Skipped {
		c.Skipped = append(c.Skipped, probe.Skip(s))
	}
	for i := range j.Stages {
		s, err := toStage(&j.Stages[i])
		if err != nil {
			return nil, fmt.Errorf("stage %q: %w", j.Stages[i].Name, err)
		}
		c.Stages = append(c.Stages, s)
	}
	return c, nil
}

func fromRegression(r *probe.Regression) *regressionJSON {
	if r == nil {
		return nil
	}
	j := &regressionJSON{
		Baseline: baselineJSON{Cycles: append([]string{}, r.Baseline.Cycles...),
			From: instant(r.Baseline.From), To: instant(r.Baseline.To)},
		Changes: make([]changeJSON, len(r.Changes)), Note: r.Note,
	}
	for i, c := range r.Changes {
		j.Changes[i] = changeJSON{Signal: c.Signal, Ratio: number(c.Ratio), PValue: number(c.PValue),
			Samples: c.Samples, BaselineSamples: c.BaselineSamples, Worse: c.Worse, Detected: c.Detected}
	}
	return j
}

func toRegression(j *regressionJSON) *probe.Regression {
	if j == nil {
		return nil
	}
	r := &probe.Regression{
		Baseline: probe.Baseline{Cycles: append([]string(nil), j.Baseline.Cycles...),
			From: time.Time(j.Baseline.From), To: time.Time(j.Baseline.To)},
		Note: j.Note,
	}
	for _, c := range j.Changes {
		r.Changes = append(r.Changes, probe.Change{Signal: c.Signal, Ratio: float64(c.Ratio), PValue: float64(c.PValue),
			Samples: c.Samples, BaselineSamples: c.BaselineSamples, Worse: c.Worse, Detected: c.Detected})
	}
	return r
}

func fromStage(s *probe.Stage) stageJSON {
	j := stageJSON{
		Name: s.Name, Profile: s.Profile, TargetRate: number(s.TargetRate),
		StartedAt: instant(s.Started), EndedAt: instant(s.Ended),
		WindowStart: seconds(s.WindowStart), WindowEnd: seconds(s.WindowEnd),
		Requests: requestsJSON{Completed: s.Completed, Failed: s.Failed, Incomplete: s.Incomplete, Retries: s.Retries,
			Failures: s.Failures, FailureExamples: s.FailureDetails},
		RequestsPerSecond: number(s.RequestsPerSecond), OutputTokensPerSecond: number(s.OutputTokensPerSecond),
		RequestsInterval: fromInterval(s.RequestsInterval), InFlight: number(s.InFlight),
		IncompleteOutputTokens: s.IncompleteOutputTokens,
		CachedTokens:           s.CachedTokens, TokensByTokenizer: s.TokensByTokenizer, TokensByEvents: s.TokensByEvents,
		Findings:                make([]findingJSON, len(s.Findings)),
		PromptTokens:            fromDistribution(&s.PromptTokens),
		ServerPromptTokens:      fromDistribution(&s.ServerPromptTokens),
		OutputTokens:            fromDistribution(&s.OutputTokens),
		RequestDuration:         fromDistribution(&s.RequestDuration),
		TimeToFirstToken:        fromDistribution(&s.TimeToFirstToken),
		TimeToFirstAnswerToken:  fromDistribution(&s.TimeToFirstAnswerToken),
		InterTokenLatency:       fromDistribution(&s.InterTokenLatency),
		TimePerOutputToken:      fromDistribution(&s.TimePerOutputToken),
		StreamStall:             fromDistribution(&s.StreamStall),
		StreamStallP99:          fromInterval(s.StreamStallP99),
		TimeToFirstTokenExcess:  fromExcess(s.TimeToFirstTokenExcess),
		InterTokenLatencyExcess: fromExcess(s.InterTokenLatencyExcess),
		RequestDurationExcess:   fromExcess(s.RequestDurationExcess),
		ScheduleDelay:           fromDistribution(&s.ScheduleDelay),
		ReceiveLag:              fromDistribution(&s.ReceiveLag),
		NewConnections:          s.NewConnections,
		DNS:                     fromDistribution(&s.DNS),
		Connect:                 fromDistribution(&s.Connect),
		TLS:                     fromDistribution(&s.TLS),
		Samples:                 fromSamples(s.Requests),
	}
	for i, f := range s.Findings {
		j.Findings[i] = findingJSON(f)
	}
	return j
}

func toStage(j *stageJSON) (probe.Stage, error) {
	s := probe.Stage{
		Name: j.Name, Profile: j.Profile, TargetRate: float64(j.TargetRate),
		Started: time.Time(j.StartedAt), Ended: time.Time(j.EndedAt),
		WindowStart: time.Duration(j.WindowStart), WindowEnd: time.Duration(j.WindowEnd),
		Completed: j.Requests.Completed, Failed: j.Requests.Failed, Incomplete: j.Requests.Incomplete,
		Retries: j.Requests.Retries, Failures: j.Requests.Failures, FailureDetails: j.Requests.FailureExamples,
		RequestsPerSecond: float64(j.RequestsPerSecond), OutputTokensPerSecond: float64(j.OutputTokensPerSecond),
		RequestsInterval: toInterval(j.RequestsInterval), InFlight: float64(j.InFlight),
		IncompleteOutputTokens: j.IncompleteOutputTokens,
		CachedTokens:           j.CachedTokens, TokensByTokenizer: j.TokensByTokenizer, TokensByEvents: j.TokensByEvents,
		PromptTokens:            toDistribution(j.PromptTokens),
		ServerPromptTokens:      toDistribution(j.ServerPromptTokens),
		OutputTokens:            toDistribution(j.OutputTokens),
		RequestDuration:         toDistribution(j.RequestDuration),
		TimeToFirstToken:        toDistribution(j.TimeToFirstToken),
		TimeToFirstAnswerToken:  toDistribution(j.TimeToFirstAnswerToken),
		InterTokenLatency:       toDistribution(j.InterTokenLatency),
		TimePerOutputToken:      toDistribution(j.TimePerOutputToken),
		StreamStall:             toDistribution(j.StreamStall),
		StreamStallP99:          toInterval(j.StreamStallP99),
		TimeToFirstTokenExcess:  toExcess(j.TimeToFirstTokenExcess),
		InterTokenLatencyExcess: toExcess(j.InterTokenLatencyExcess),
		RequestDurationExcess:   toExcess(j.RequestDurationExcess),
		ScheduleDelay:           toDistribution(j.ScheduleDelay),
		ReceiveLag:              toDistribution(j.ReceiveLag),
		NewConnections:          j.NewConnections,
		DNS:                     toDistribution(j.DNS),
		Connect:                 toDistribution(j.Connect),
		TLS:                     toDistribution(j.TLS),
	}
	for _, f := range j.Findings {
		s.Findings = append(s.Findings, probe.Finding(f))
	}
	var err error
	s.Requests, err = toSamples(j.Samples)
	return s, err
}

// fromInterval returns null for none.
func fromInterval(i probe.Interval) *intervalJSON {
	if i.IsZero() {
		return nil
	}
	return &intervalJSON{Low: number(i.Low), High: number(i.High)}
}

func toInterval(j *intervalJSON) probe.Interval {
	if j == nil {
		return probe.Interval{}
	}
	return probe.Interval{Low: float64(j.Low), High: float64(j.High)}
}

// fromDistribution returns null for a distribution of nothing.
func fromDistribution(d *probe.Distribution) *distributionJSON {
	if d.Count == 0 {
		return nil
	}
	return &distributionJSON{
		Count: d.Count, Mean: number(d.Mean), Min: number(d.Min), P01: number(d.P01), P05: number(d.P05),
		P10: number(d.P10), P25: number(d.P25), P50: number(d.P50), P75: number(d.P75), P90: number(d.P90),
		P95: number(d.P95), P99: number(d.P99), Max: number(d.Max),
	}
}

func toDistribution(j *distributionJSON) probe.Distribution {
	if j == nil || j.Count == 0 {
		return probe.Distribution{}
	}
	return probe.Distribution{
		Count: j.Count, Mean: float64(j.Mean), Min: float64(j.Min), P01: float64(j.P01), P05: float64(j.P05),
		P10: float64(j.P10), P25: float64(j.P25), P50: float64(j.P50), P75: float64(j.P75), P90: float64(j.P90),
		P95: float64(j.P95), P99: float64(j.P99), Max: float64(j.Max),
	}
}

func fromSamples(requests []probe.RequestSample) *samplesJSON {
	if len(requests) == 0 {
		return nil
	}
	j := &samplesJSON{}
	for _, r := range requests {
		j.TimeToFirstToken = append(j.TimeToFirstToken, number(r.TimeToFirstToken))
		j.TimePerOutputToken = append(j.TimePerOutputToken, number(r.TimePerOutputToken))
		j.Duration = append(j.Duration, number(r.Duration))
	}
	return j
}

func toSamples(j *samplesJSON) ([]probe.RequestSample, error) {
	if j == nil || len(j.Duration) == 0 && len(j.TimeToFirstToken) == 0 && len(j.TimePerOutputToken) == 0 {
		return nil, nil
	}
	if len(j.TimeToFirstToken) != len(j.Duration) || len(j.TimePerOutputToken) != len(j.Duration) {
		return nil, fmt.Errorf("the lists of request_samples are of %d, %d and %d values, want as many in each",
			len(j.TimeToFirstToken), len(j.TimePerOutputToken), len(j.Duration))
	}
	requests := make([]probe.RequestSample, len(j.Duration))
	for i := range requests {
		requests[i] = probe.RequestSample{TimeToFirstToken: float64(j.TimeToFirstToken[i]),
			TimePerOutputToken: float64(j.TimePerOutputToken[i]), Duration: float64(j.Duration[i])}
	}
	return requests, nil
}

func fromExcess(x probe.Excess) *excessJSON {
	if x == (probe.Excess{}) {
		return nil
	}
	return &excessJSON{Share: number(x.Share), Samples: x.Samples}
}

func toExcess(j *excessJSON) probe.Excess {
	if j == nil {
		return probe.Excess{}
	}
	return probe.Excess{Share: float64(j.Share), Samples: j.Samples}
}
