package metrics

import (
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/inferprobe/inferprobe/internal/probe"
)

// prefix of every metric of ours.
const prefix = "inferprobe_"

// Upper bounds of the classic buckets, in seconds but for speedBounds. Those of the first three hold all of vLLM's own, so
// that both sides of an endpoint compare bucket by bucket; what is added in front is for what a client sees and a server's
// own metrics do not: gaps of fast or speculative decoding are below vLLM's first bound, 10 ms.
func firstTokenBounds() []float64 {
	return []float64{
		.001, .005, .01, .02, .04, .06, .08, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560,
	}
}

func interTokenBounds() []float64 {
	return []float64{
		.001, .0025, .005, .0075, .01, .025, .05, .075, .1, .15, .2, .3, .4, .5, .75, 1, 2.5, 5, 7.5, 10,
		20, 40, 80,
	}
}

func requestBounds() []float64 {
	return []float64{
		.1, .2, .3, .5, .8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680,
	}
}

func stallBounds() []float64 {
	return []float64{.005, .01, .025, .05, .1, .2, .5, 1, 2.5, 5, 10, 20, 40}
}

func speedBounds() []float64 { // tokens per second
	return []float64{1, 2.5, 5, 10, 20, 30, 40, 50, 75, 100, 150, 200, 300, 500, 1000}
}

func connectionBounds() []float64 {
	return []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
}

func proberBounds() []float64 {
	return []float64{.00001, .000025, .00005, .0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1}
}

// families are the metric families that have a child for every endpoint, or every stage of one. The values of the last
// cycle are in lastcycle.go.
type families struct {
	// By stage, of completed requests.
	timeToFirstToken       *prometheus.HistogramVec
	timeToFirstAnswerToken *prometheus.HistogramVec
	interTokenLatency      *prometheus.HistogramVec
	timePerOutputToken     *prometheus.HistogramVec
	requestDuration        *prometheus.HistogramVec
	streamStall            *prometheus.HistogramVec
	requestOutputSpeed     *prometheus.HistogramVec

	// By stage, of all requests.
	requests           *prometheus.CounterVec
	requestsIncomplete *prometheus.CounterVec
	promptTokens       *prometheus.CounterVec
	outputTokens       *prometheus.CounterVec
	cachedTokens       *prometheus.CounterVec

	// By endpoint. Connections and the prober's own delays are no property of a stage, and a stage costs series.
	connectionPhase  *prometheus.HistogramVec
	scheduleDelay    *prometheus.HistogramVec
	receiveLag       *prometheus.HistogramVec
	requestRetries   *prometheus.CounterVec
	requestsInFlight *prometheus.GaugeVec

	probeSuccess     *prometheus.GaugeVec
	lastProbe        *prometheus.GaugeVec
	lastSuccess      *prometheus.GaugeVec
	cycles           *prometheus.CounterVec
	cycleFailures    *prometheus.CounterVec
	cycleInProgress  *prometheus.GaugeVec
	cycleNextStart   *prometheus.GaugeVec
	cycleLastEnd     *prometheus.GaugeVec
	runsSkipped      *prometheus.CounterVec
	canaryInterval   *prometheus.GaugeVec
	paused           *prometheus.GaugeVec
	tokenBudget      *prometheus.GaugeVec
	configSuccessful prometheus.Gauge
	configSuccess    prometheus.Gauge
	historyWritable  prometheus.Gauge
	hostTrusted      prometheus.Gauge
}

func declare(b *builder) families {
	stage := []string{"endpoint", "model", "stage"}
	endpoint := []string{"endpoint", "model"}
	endpointReason := append(endpoint[:2:2], "reason")
	return families{
		timeToFirstToken: b.histogram("time_to_first_token_seconds",
			"Time from sending a request to its first generated token, reasoning included. Completed requests.",
			firstTokenBounds(), stage),
		timeToFirstAnswerToken: b.histogram("time_to_first_answer_token_seconds",
			"Time from sending a request to its first token past any reasoning. Completed requests.",
			firstTokenBounds(), stage),
		interTokenLatency: b.histogram("inter_token_latency_seconds",
			"Time between two tokens of an answer; an arrival of k tokens counts k times a k-th of its gap. "+
				"Completed requests.", interTokenBounds(), stage),
		timePerOutputToken: b.histogram("time_per_output_token_seconds",
			"Time from the first token of an answer to its last, by the number of tokens less one. Completed requests.",
			interTokenBounds(), stage),
		requestDuration: b.histogram("request_duration_seconds",
			"Time from sending a request to its last token or its finish reason. Completed requests.",
			requestBounds(), stage),
		streamStall: b.histogram("stream_stall_seconds",
			"Longest gap between two arrivals of an answer. Completed requests.", stallBounds(), stage),
		requestOutputSpeed: b.histogram("request_output_tokens_per_second",
			"Output tokens of a request by its whole duration. Completed requests.", speedBounds(), stage),

		requests: b.counter("requests_total",
			"Requests that ended: completed, failed and incomplete ones.", stage),
		requestsIncomplete: b.counter("requests_incomplete_total",
			"Requests that were in flight when their stage ended.", stage),
		promptTokens: b.counter("prompt_tokens_total",
			"Prompt tokens of requests that were answered: as the server counted them, else as the tokenizer did.",
			stage),
		outputTokens: b.counter("output_tokens_total",
			"Output tokens received, those of failed and incomplete requests too.", stage),
		cachedTokens: b.counter("cached_tokens_total",
			"Prompt tokens that the server took from its prefix cache, as it says.", stage),

		connectionPhase: b.histogram("connection_phase_duration_seconds",
			"Time that a phase of opening a connection took.", connectionBounds(), append(endpoint[:2:2], "phase")),
		scheduleDelay: b.histogram("schedule_delay_seconds",
			"How much later than due a request of an open loop was sent, less what its connection took to open: "+
				"lateness of the prober.",
			proberBounds(), endpoint),
		receiveLag: b.histogram("receive_lag_seconds",
			"How much later than the kernel the prober saw data arrive. Where the kernel gives its time.",
			proberBounds(), endpoint),
		requestRetries: b.counter("request_retries_total",
			"Sends that were repeated because the server had closed the kept connection.", endpoint),
		requestsInFlight: b.gauge("requests_in_flight",
			"Requests of the running cycle that wait for their answer, as of the last second. The canary's is not counted.",
			endpoint),

		probeSuccess: b.gauge("probe_success",
			"Whether the last cycle or canary found the endpoint answering; NaN before the first. "+
				"Troubles of the prober's own do not change it.", endpoint),
		lastProbe: b.gauge("last_probe_timestamp_seconds",
			"When the last cycle or canary that says something about the endpoint ended; 0 before the first.", endpoint),
		lastSuccess: b.gauge("last_success_timestamp_seconds",
			"When the last successful cycle or canary ended; 0 before the first.", endpoint),
		cycles: b.counter("cycles_total", "Cycles that ended, failed ones included.", endpoint),
		cycleFailures: b.counter("cycle_failures_total",
			"Cycles that could not be run to their end, by reason.", endpointReason),
		cycleInProgress: b.gauge("cycle_in_progress", "Whether a cycle runs now.", endpoint),
		cycleNextStart: b.gauge("cycle_next_start_timestamp_seconds",
			"When the next cycle is due; 0 if none is.", endpoint),
		cycleLastEnd: b.gauge("cycle_last_end_timestamp_seconds",
			"When the last cycle ended, failed ones included; 0 before the first.", endpoint),
		runsSkipped: b.counter("runs_skipped_total", "Cycles that were due and not started, by reason.",
			endpointReason),

		canaryInterval: b.gauge("canary_interval_seconds",
			"Time from one request of the canary to the next, as configured; 0 without a canary.", endpoint),
		paused: b.gauge("probe_paused", "Whether an operator has paused the measuring.", endpoint),
		tokenBudget: b.gauge("token_budget_remaining",
			"Prompt and output tokens that the endpoint may still be asked for on this day of UTC; NaN without a limit.",
			endpoint),

		configSuccessful: b.single("config_last_reload_successful",
			"Whether the last attempt to load the configuration succeeded."),
		configSuccess: b.single("config_last_reload_success_timestamp_seconds",
			"When the configuration was last loaded."),
		historyWritable: b.single("history_writable",
			"Whether cycles and the tokens spent can be written to the folder of the history."),
		hostTrusted: b.single("host_trusted",
			"Whether the host let the prober send and read in time when it started; NaN where that was not looked at."),
	}
}

// vector is a family with its labels, the first two of which are endpoint and model.
type vector struct {
	children interface {
		DeleteLabelValues(values ...string) bool
		DeletePartialMatch(labels prometheus.Labels) int
	}
	labels []string
}

// delete deletes the children of an endpoint and the given stages one by one: to look for them would take the longer the
// more endpoints there are.
func (v vector) delete(ep probe.Endpoint, stages []string) {
	sets := [][]string{{ep.Name, ep.Model}}
	for _, label := range v.labels[2:] {
		values := stages
		switch label {
		case "phase":
			values = connectionPhases()
		case "reason":
			values = append(probe.CycleFailureReasons(), skipReasons()...)
		}
		var more [][]string
		for _, set := range sets {
			for _, value := range values {
				more = append(more, append(set[:len(set):len(set)], value))
			}
		}
		sets = more
	}
	for _, set := range sets {
		v.children.DeleteLabelValues(set...)
	}
}

// builder registers families and remembers those with children.
type builder struct {
	reg  prometheus.Registerer
	mode Mode
	vecs []vector
}

func (b *builder) histogram(name, help string, bounds []float64, labels []string) *prometheus.HistogramVec {
	opts := prometheus.HistogramOpts{Name: prefix + name, Help: help, Unit: unit(name)}
	if b.mode != Native {
		opts.Buckets = bounds
	}
	if b.mode != Classic {
		// Buckets 9 % wide: 160 of them span six powers of ten before the resolution is halved.
		opts.NativeHistogramBucketFactor = 1.1
		opts.NativeHistogramMaxBucketNumber = 160
		opts.NativeHistogramMinResetDuration = time.Hour
	}
	v := prometheus.NewHistogramVec(opts, labels)
	b.reg.MustRegister(v)
	b.vecs = append(b.vecs, vector{v, labels})
	return v
}

func (b *builder) counter(name, help string, labels []string) *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + name, Help: help, Unit: unit(name)}, labels)
	b.reg.MustRegister(v)
	b.vecs = append(b.vecs, vector{v, labels})
	return v
}

func (b *builder) gauge(name, help string, labels []string) *prometheus.GaugeVec {
	v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: prefix + name, Help: help, Unit: unit(name)}, labels)
	b.reg.MustRegister(v)
	b.vecs = append(b.vecs, vector{v, labels})
	return v
}

func (b *builder) single(name, help string) prometheus.Gauge {
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: prefix + name, Help: help, Unit: unit(name)})
	b.reg.MustRegister(g)
	return g
}

// unit returns the unit that OpenMetrics wants to see as the end of the name.
func unit(name string) string {
	if strings.HasSuffix(name, "_seconds") {
		return "seconds"
	}
	return ""
}
