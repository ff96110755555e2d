package metrics

import (
	"math"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/inferprobe/inferprobe/internal/probe"
)

// lastCycles collects the values of each endpoint's last whole cycle. They change together, so that no scrape sees half
// of one cycle and half of another. What has no value, as everything before the first cycle, is NaN: zero would be a
// claim, and an alert. A time is 0 instead, as every time of ours is.
type lastCycles struct {
	metrics *Metrics
}

// lastCycleDescs are the metrics of the last cycle.
type lastCycleDescs struct {
	completed, duration                         *prometheus.Desc
	capacityRequests, capacityLow, capacityHigh *prometheus.Desc
	capacityTokens, objectiveCapacity           *prometheus.Desc
	objective, objectiveErrors, findings        *prometheus.Desc

	baselineCycles, regressionRatio, regressionPValue, regressionDetected *prometheus.Desc

	target, requests, tokens, valid, samples, failures                       *prometheus.Desc
	timeToFirstToken, interTokenLatency, timePerOutputToken, requestDuration *prometheus.Desc
}

func describeLastCycle() lastCycleDescs {
	endpoint := []string{"endpoint", "model"}
	stage := []string{"endpoint", "model", "stage"}
	return lastCycleDescs{
		completed: desc("cycle_last_completed_timestamp_seconds",
			"When the last whole cycle ended, the one whose values are shown; 0 before the first.", endpoint),
		duration: desc("cycle_duration_seconds", "How long the last whole cycle took.", endpoint),
		capacityRequests: desc("capacity_requests_per_second",
			"Requests per second that the endpoint served when it was given all it takes, in the last whole cycle.",
			endpoint),
		capacityLow: desc("capacity_lower_bound_requests_per_second",
			"Lower end of the 95 % confidence interval of capacity_requests_per_second; NaN where its rate has not settled.",
			endpoint),
		capacityHigh: desc("capacity_upper_bound_requests_per_second",
			"Upper end of the 95 % confidence interval of capacity_requests_per_second; NaN where its rate has not settled.",
			endpoint),
		capacityTokens: desc("capacity_output_tokens_per_second",
			"Output tokens per second that the endpoint generated when it was given all it takes, in the last whole "+
				"cycle.", endpoint),
		objectiveCapacity: desc("slo_capacity_requests_per_second",
			"Highest rate at which the endpoint kept its objectives, in the last whole cycle: 0 if at none; NaN without "+
				"objectives, or where no stage could be judged.",
			endpoint),
		objective: desc("objective_seconds",
			"Objective for the 90th percentile of a signal, as configured; NaN where none is set.",
			append(endpoint[:2:2], "signal")),
		objectiveErrors: desc("objective_error_ratio",
			"Objective for the share of requests that fail, as configured; NaN where none is set.", endpoint),
		findings: desc("cycle_findings",
			"Stages of the last whole cycle that have a finding on their measurement, by which.",
			append(endpoint[:2:2], "reason")),

		baselineCycles: desc("regression_baseline_cycles",
			"Earlier cycles that the last whole cycle was held against; 0 where there was no verdict.", endpoint),
		regressionRatio: desc("regression_ratio",
			"A signal by that of its baseline, in the last cycle that could judge it: 1.1 is a tenth slower, for capacity a "+
				"tenth more; NaN before the first verdict.", append(endpoint[:2:2], "signal")),
		regressionPValue: desc("regression_p_value",
			"How likely a signal changes that much by chance, corrected for the number of signals; NaN before the first "+
				"verdict.",
			append(endpoint[:2:2], "signal")),
		regressionDetected: desc("regression_detected",
			"Whether a signal was worse than its baseline in the last two cycles that could judge it; 0 before the first "+
				"verdict.",
			append(endpoint[:2:2], "signal")),

		target: desc("stage_target_requests_per_second",
			"Rate that the stage was to reach, in the last whole cycle; 0 for a closed loop.", stage),
		requests: desc("stage_requests_per_second",
			"Requests per second over the measured window of the stage, in the last whole cycle: by their tokens, parts of "+
				"unfinished requests too, and so not the completed ones by the duration.", stage),
		tokens: desc("stage_output_tokens_per_second",
			"Output tokens per second of the stage, those of unfinished requests too, in the last whole cycle.", stage),
		valid: desc("stage_valid",
			"Whether the measurement of the stage can be trusted, in the last whole cycle.", stage),
		samples: desc("stage_samples", "Completed requests of the stage, in the last whole cycle.", stage),
		failures: desc("stage_failures",
			"Failed requests of the stage, in the last whole cycle, without those that the prober itself gave up.", stage),
		timeToFirstToken: desc("stage_time_to_first_token_seconds",
			"Time to the first token in the stage, in the last whole cycle: quantiles of the observations.", stage),
		interTokenLatency: desc("stage_inter_token_latency_seconds",
			"Time between two tokens in the stage, in the last whole cycle: quantiles of the observations.", stage),
		timePerOutputToken: desc("stage_time_per_output_token_seconds",
			"Time per output token after the first in the stage, in the last whole cycle: quantiles of the observations.", stage),
		requestDuration: desc("stage_request_duration_seconds",
			"Duration of requests in the stage, in the last whole cycle: quantiles of the observations.", stage),
	}
}

func (d *lastCycleDescs) all() []*prometheus.Desc {
	return []*prometheus.Desc{
		d.completed, d.duration, d.capacityRequests, d.capacityLow, d.capacityHigh, d.capacityTokens, d.objectiveCapacity,
		d.objective, d.objectiveErrors, d.findings,
		d.baselineCycles, d.regressionRatio, d.regressionPValue, d.regressionDetected,
		d.target, d.requests, d.tokens, d.valid, d.samples, d.failures,
		d.timeToFirstToken, d.interTokenLatency, d.timePerOutputToken, d.requestDuration,
	}
}

func desc(name, help string, labels []string) *prometheus.Desc {
	return prometheus.V2.NewDesc(prefix+name, help, prometheus.UnconstrainedLabels(labels), nil,
		prometheus.WithUnit(unit(name)))
}

// Describe implements prometheus.Collector.
func (l *lastCycles) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range l.metrics.lastCycle.all() {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (l *lastCycles) Collect(ch chan<- prometheus.Metric) {
	d := &l.metrics.lastCycle
	for _, e := range l.metrics.all() {
		e.mu.RLock()
		last, judged, verdicts, objectives := e.last, e.judged, e.verdicts, e.objectives
		names, closed := e.stageNames(), e.closed
		e.mu.RUnlock()
		if closed {
			continue
		}
		d.collectCycle(ch, e.endpoint, last, judged)
		d.collectRegression(ch, e.endpoint, last, verdicts)
		d.collectObjectives(ch, e.endpoint, objectives)
		for _, name := range names {
			d.collectStage(ch, e.endpoint, name, stageOf(last, name))
		}
	}
}

// stageOf returns the stage of that name, nil if the cycle did not run it.
func stageOf(c *probe.Cycle, name string) *probe.Stage {
	if c == nil {
		return nil
	}
	if i := slices.IndexFunc(c.Stages, func(s probe.Stage) bool { return s.Name == name }); i >= 0 {
		return &c.Stages[i]
	}
	return nil
}

func (d *lastCycleDescs) collectCycle(ch chan<- prometheus.Metric, ep probe.Endpoint, c *probe.Cycle, judged bool) {
	completed, duration, objective := 0.0, math.NaN(), math.NaN()
	requests, low, high, tokens := math.NaN(), math.NaN(), math.NaN(), math.NaN()
	if c != nil {
		completed, duration = timestamp(c.Ended), c.Ended.Sub(c.Started).Seconds()
		if c.Capacity.RequestsPerSecond > 0 {
			requests, tokens = c.Capacity.RequestsPerSecond, c.Capacity.OutputTokensPerSecond
		}
		if i := c.Capacity.RequestsInterval; !i.IsZero() {
			low, high = i.Low, i.High
		}
		if judged {
			objective = c.Capacity.ObjectiveRequestsPerSecond
		}
	}
	gauge := func(d *prometheus.Desc, v float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, ep.Name, ep.Model)
	}
	gauge(d.completed, completed)
	gauge(d.duration, duration)
	gauge(d.capacityRequests, requests)
	gauge(d.capacityLow, low)
	gauge(d.capacityHigh, high)
	gauge(d.capacityTokens, tokens)
	gauge(d.objectiveCapacity, objective)
	for _, name := range probe.FindingNames() {
		ch <- prometheus.MustNewConstMetric(d.findings, prometheus.GaugeValue, stagesWith(c, name), ep.Name, ep.Model,
			string(name))
	}
}

// stagesWith returns how many stages have a finding of that name.
func stagesWith(c *probe.Cycle, name probe.FindingName) float64 {
	if c == nil {
		return math.NaN()
	}
	var n float64
	for i := range c.Stages {
		if slices.ContainsFunc(c.Stages[i].Findings, func(f probe.Finding) bool { return f.Name == name }) {
			n++
		}
	}
	return n
}

// collectObjectives sends what the endpoint should keep, so that panels and alerts can hold the values against it: those
// of the canary too, which may be all that there are.
func (d *lastCycleDescs) collectObjectives(ch chan<- prometheus.Metric, ep probe.Endpoint, o probe.Objectives) {
	limit := func(d *prometheus.Desc, v float64, labels ...string) {
		if v == 0 {
			v = math.NaN()
		}
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, append([]string{ep.Name, ep.Model}, labels...)...)
	}
	limit(d.objective, o.TimeToFirstTokenP90.Seconds(), "time_to_first_token")
	limit(d.objective, o.InterTokenLatencyP90.Seconds(), "inter_token_latency")
	limit(d.objective, o.RequestDurationP90.Seconds(), "request_duration")
	limit(d.objectiveErrors, o.ErrorRate)
}

// collectRegression sends the last verdict on each signal. An alert needs detected to be 0, not absent, without one.
func (d *lastCycleDescs) collectRegression(ch chan<- prometheus.Metric, ep probe.Endpoint, c *probe.Cycle,
	verdicts []probe.Change,
) {
	baseline := 0
	if c != nil && c.Regression != nil {
		baseline = len(c.Regression.Baseline.Cycles)
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, append([]string{ep.Name, ep.Model}, labels...)...)
	}
	gauge(d.baselineCycles, float64(baseline))
	for _, signal := range probe.Signals() {
		change := probe.Change{Ratio: math.NaN(), PValue: math.NaN()}
		if i := slices.IndexFunc(verdicts, func(c probe.Change) bool { return c.Signal == signal }); i >= 0 {
			change = verdicts[i]
		}
		gauge(d.regressionRatio, change.Ratio, string(signal))
		gauge(d.regressionPValue, change.PValue, string(signal))
		gauge(d.regressionDetected, number(change.Detected), string(signal))
	}
}

func (d *lastCycleDescs) collectStage(ch chan<- prometheus.Metric, ep probe.Endpoint, name string, s *probe.Stage) {
	target, requests, tokens := math.NaN(), math.NaN(), math.NaN()
	valid, samples, failures := math.NaN(), math.NaN(), math.NaN()
	if s == nil {
		s = &probe.Stage{}
	} else {
		target, requests, tokens = s.TargetRate, s.RequestsPerSecond, s.OutputTokensPerSecond
		valid, samples = number(s.Valid()), float64(s.Completed)
		failures = float64(s.Failed - s.Failures[probe.ReasonClientOverload] - s.Failures[probe.ReasonCancelled])
	}
	gauge := func(d *prometheus.Desc, v float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, ep.Name, ep.Model, name)
	}
	gauge(d.target, target)
	gauge(d.requests, requests)
	gauge(d.tokens, tokens)
	gauge(d.valid, valid)
	gauge(d.samples, samples)
	gauge(d.failures, failures)
	// Summaries, as the label `quantile` is theirs; a new created timestamp tells that each begins anew.
	summary := func(d *prometheus.Desc, of probe.Distribution) {
		sum, quantiles := summarise(of)
		n, labels := uint64(of.Count), []string{ep.Name, ep.Model, name}
		if s.Started.IsZero() {
			ch <- prometheus.MustNewConstSummary(d, n, sum, quantiles, labels...)
			return
		}
		ch <- prometheus.MustNewConstSummaryWithCreatedTimestamp(d, n, sum, quantiles, s.Started, labels...)
	}
	summary(d.timeToFirstToken, s.TimeToFirstToken)
	summary(d.interTokenLatency, s.InterTokenLatency)
	summary(d.timePerOutputToken, s.TimePerOutputToken)
	summary(d.requestDuration, s.RequestDuration)
}

// summarise returns the sum of the observations and the quantiles that are shown, NaN if there are none.
func summarise(d probe.Distribution) (sum float64, quantiles map[float64]float64) {
	if d.Count == 0 {
		nan := math.NaN()
		return 0, map[float64]float64{0.5: nan, 0.9: nan, 0.95: nan, 0.99: nan}
	}
	return d.Mean * float64(d.Count), map[float64]float64{0.5: d.P50, 0.9: d.P90, 0.95: d.P95, 0.99: d.P99}
}

// infos collects inferprobe_endpoint_info. Its label names are the users' own and differ from endpoint to endpoint, so
// that it cannot be described beforehand.
type infos struct {
	metrics *Metrics
}

// Describe implements prometheus.Collector: it is an unchecked one.
func (*infos) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (i *infos) Collect(ch chan<- prometheus.Metric) {
	for _, e := range i.metrics.all() {
		e.mu.RLock()
		server, closed := e.server, e.closed
		e.mu.RUnlock()
		if closed {
			continue
		}
		names := []string{"endpoint", "model", "url", "server"}
		values := []string{e.endpoint.Name, e.endpoint.Model, e.endpoint.URL, server}
		for _, l := range e.labels {
			names, values = append(names, l.Name), append(values, l.Value)
		}
		d := desc("endpoint_info", "What is known of an endpoint, to be joined; the value is 1.", names)
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, 1, values...)
	}
}
