package boards

import (
	"fmt"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

// endpoint is the board of one endpoint: what it can bear, how fast it is at which rate, and what goes wrong.
func endpoint(known catalogue) (*board, error) {
	b := newBoard(endpointUID, "inferprobe / Endpoint",
		"One endpoint: what the canary sees now, the last cycle, the cycles before, every observed latency, failures, and "+
			"how far to trust the numbers.")
	all := b.scope(known, "job", "instance", "endpoint", "model")
	s := b.scope(known, "job", "instance", "endpoint", "model", "stage")
	b.targets(known)
	b.single("endpoint", "Endpoint", b.scope(known, "job", "instance").of(cycles))
	b.variable("model", "Model", b.scope(known, "job", "instance", "endpoint").of(cycles))
	b.variable("stage", "Stage", all.of(requests))
	b.annotations(b.scope(known, "job", "instance"),
		foreign("ALERTS", []string{"endpoint"}, `alertname=~"Inferprobe.+"`, `alertstate="firing"`))
	b.annotation("Cycle", "rgba(128, 128, 128, 0.25)", all.of(cycleInProgress)+" == 1", "a cycle runs", false)

	b.endpointSummary(all)
	b.row("Now: the canary, one light request at a time, beside the last cycle")
	b.endpointCanary(all)
	b.row("Last cycle: what the endpoint does at which rate")
	b.endpointCurves(all)
	b.endpointStages(all)
	b.row("Cycle after cycle")
	b.endpointHistory(all)
	b.row("Every completed request, stages as selected above")
	b.endpointLatency(s)
	b.row("Failures and connections")
	b.endpointFailures(all, s)
	b.row("Validity: how far to trust the numbers")
	b.endpointValidity(all)
	b.row("The server's own view, where Prometheus scrapes a vLLM server as well")
	b.endpointServer(s)
	return b, nil
}

func (b *board) endpointSummary(s scope) {
	value := func(title, description, unit, expr string, limits ...step) *stat.PanelBuilder {
		base := "text"
		if len(limits) > 0 {
			base = "green"
		}
		p := figure(head{title, description, unit, 6, 3}, query{expr, title}).Thresholds(from(base, limits...)).
			NoValue("not known")
		if len(limits) > 0 {
			p = p.ColorMode(common.BigValueColorModeBackgroundSolid)
		}
		return p
	}
	ofLimit := []step{{0.8, "yellow"}, {1, "red"}}
	b.add(
		lamp(head{"State", "The worst thing that the canary and the last cycle found.", words, 6, 3},
			query{s.state(byEndpoint), "{{endpoint}}"}).
			Mappings([]dashboard.ValueMapping{stateMapping()}),
		value("Canary: failed requests", "Share of the canary's requests within 15 minutes that failed.", share,
			s.canaryErrorRatio(""), step{defaultErrorRatio, "orange"}, step{0.1, "red"}),
		value("Canary: TTFT / objective", "Median time to first token of the canary's requests within 15 minutes, as a "+
			"share of the objective for the 90th percentile.", share,
			s.canaryOfObjective("", timeToFirstToken, signalFirstToken), ofLimit...),
		value("Canary: ITL / objective", "Median inter-token latency of the canary's requests within 15 minutes, as a "+
			"share of the objective for the 90th percentile.", share,
			s.canaryOfObjective("", interTokenLatency, signalInterToken), ofLimit...),
		value("Worse than the baseline", "Signals that were worse than the cycles before in the last two cycles.", plain,
			s.regressions(""), step{1, "orange"}).NoValue("no verdict"),
		value("Cycle: failed requests", "Share of requests that failed in the last cycle, at up to 90 % of the capacity.",
			share, s.errorRatio(""), step{defaultErrorRatio, "orange"}, step{0.1, "red"}),
		value("Cycle: TTFT p90 / objective", "Time to first token at light load as a share of its objective.", share,
			s.ofObjective("", stageTimeToFirstToken, signalFirstToken), ofLimit...),
		value("Cycle: ITL p90 / objective", "Inter-token latency at light load as a share of its objective.", share,
			s.ofObjective("", stageInterTokenLatency, signalInterToken), ofLimit...),
		pair(head{"Capacity", "Requests per second that the endpoint served when it was given all it takes, and the lower " +
			"end of the 95 % interval of that rate.", perSecond, 6, 3},
			query{s.last("", capacityRequests), "measured"}, query{s.last("", capacityLow), "at least"}).NoValue("not known"),
		value("Within objectives", "Highest rate at which every objective was kept.", perSecond, s.withinObjectives("")),
		value("Tokens left today", "Tokens that the endpoint may still be asked for on this day of UTC.", number,
			notNaN(per("min", "", s.of(tokensLeft)))).NoValue("no limit"),
		pair(head{"Cycles", "Time since the last whole cycle ended, from which all values of a cycle are, and until the next " +
			"one is due.", seconds, 6, 3},
			query{fmt.Sprintf("time() - (%s > 0)", per("max", "", s.of(cycleLastCompleted))), "last, ago"},
			query{fmt.Sprintf("(%s - time()) > 0", per("max", "", s.of(cycleNextStart))), "next, in"}).NoValue("none"),
	)
}

// endpointCanary sets what the canary sees beside the synchronous stage of the last cycle: both send one request at a
// time, of different lengths.
func (b *board) endpointCanary(s scope) {
	signal := func(title, what, observed, ofStage, signal string) cog.Builder[dashboard.Panel] {
		return lines(head{title, what + " of the canary's requests within 15 minutes, and of the synchronous stage of the " +
			"last cycle, whose requests are longer by default. Between cycles only the canary is news.", seconds, 8, 9},
			query{s.canary(0.5, "", observed), "canary p50"}, query{s.canary(0.9, "", observed), "canary p90"},
			query{s.last("", ofStage, `quantile="0.5"`, `stage="synchronous"`), "cycle p50"},
			query{s.last("", ofStage, `quantile="0.9"`, `stage="synchronous"`), "cycle p90"},
			query{per("max", "", s.of(objective, `signal="`+signal+`"`)) + " > 0", "objective for p90"}).
			Legend(names()).OverrideByRegexp("cycle .*", dashed()).
			OverrideByName("objective for p90", colour("red", true))
	}
	b.add(
		withExemplars(signal("Time to first token", "Time to the first token", timeToFirstToken, stageTimeToFirstToken,
			signalFirstToken)),
		signal("Inter-token latency", "Time between two tokens", interTokenLatency, stageInterTokenLatency, signalInterToken),
		bars(head{"Failed requests of the canary", "Requests of the canary that failed, by reason.", number, 8, 9},
			query{per("sum", "reason", increase(s.of(requestFailures, ofCanary))) + " > 0", "{{reason}}"}).
			NoValue("no failures"),
	)
}

// endpointCurves draws the sweep: latency and throughput against the rate that was reached.
func (b *board) endpointCurves(s scope) {
	of := func(metric string, matchers ...string) string {
		return s.last("stage", metric, append(matchers, `stage!="throughput"`)...)
	}
	rate := column{name: "Requests per second", expr: of(stageRequests), unit: perSecond}
	latency := func(title, what, metric, signal string) cog.Builder[dashboard.Panel] {
		limit := fmt.Sprintf("0 * (%s) + on () group_left () %s", of(stageRequests),
			per("max", "", s.of(objective, `signal="`+signal+`"`)))
		return curve(head{title, what + " in each stage of the last cycle, against the rate that the stage reached: " +
			"quantiles of the observations, not of buckets. A steep rise is where queues begin. The throughput stage is left " +
			"out.", seconds, 12, 9},
			rate,
			column{name: "p50", expr: of(metric, `quantile="0.5"`)},
			column{name: "p90", expr: of(metric, `quantile="0.9"`)},
			column{name: "p99", expr: of(metric, `quantile="0.99"`)},
			column{name: "objective for p90", expr: limit}).
			OverrideByName("objective for p90", colour("red", true))
	}
	b.add(
		latency("Time to first token against rate", "Time to the first token", stageTimeToFirstToken, signalFirstToken),
		latency("Inter-token latency against rate", "Time between two tokens", stageInterTokenLatency, signalInterToken),
		latency("Request duration against rate", "Duration of requests", stageRequestDuration, signalDuration),
		curve(head{"Throughput against rate",
			"Output tokens per second in each stage of the last cycle, against the rate that the stage reached. It " +
				"rises in a line until the endpoint is full.", tokensPerSecond, 12, 9},
			rate, column{name: "Output tokens per second", expr: of(stageTokens)}),
	)
}

// endpointStages is the report of the last cycle as a table.
func (b *board) endpointStages(s scope) {
	of := func(metric string, matchers ...string) string { return s.last("stage", metric, matchers...) }
	valid := mapping(meaning{1, "valid", "green"}, meaning{0, "not valid", "orange"})
	b.add(grid(head{"Stages of the last cycle",
		"What the report says: one row a stage. A stage without a target rate is a closed loop. An empty cell was " +
			"not measured.", plain, 24, 11},
		order{column: "Rate"}, []column{
			{name: "Stage", label: "stage", width: 110},
			{name: "Measurement", expr: of(stageValid), values: &valid, width: 110},
			{name: "Target rate", expr: per("max", "stage", s.of(stageTarget)) + " > 0", unit: perSecond, width: 100},
			{name: "Rate", expr: of(stageRequests), unit: perSecond, width: 100},
			{name: "Completed", expr: of(stageSamples), width: 90},
			{name: "Failed", expr: of(stageFailures), colour: from("transparent", step{1, "semi-dark-orange"}), width: 80},
			{name: "Output tokens/s", expr: of(stageTokens), unit: tokensPerSecond, width: 125},
			{name: "TTFT p50", expr: of(stageTimeToFirstToken, `quantile="0.5"`), unit: seconds, width: 105},
			{name: "TTFT p90", expr: of(stageTimeToFirstToken, `quantile="0.9"`), unit: seconds, width: 105},
			{name: "ITL p50", expr: of(stageInterTokenLatency, `quantile="0.5"`), unit: seconds, width: 105},
			{name: "ITL p90", expr: of(stageInterTokenLatency, `quantile="0.9"`), unit: seconds, width: 105},
			{name: "TPOT p50", expr: of(stageTimePerOutputToken, `quantile="0.5"`), unit: seconds, width: 105},
			{name: "Duration p50", expr: of(stageRequestDuration, `quantile="0.5"`), unit: seconds, width: 105},
			{name: "Duration p90", expr: of(stageRequestDuration, `quantile="0.9"`), unit: seconds, width: 105},
		}...))
}

// endpointHistory compares cycles with each other: now, yesterday and a week ago.
func (b *board) endpointHistory(s scope) {
	b.endpointRegression(s)
	b.add(
		steps(head{"Capacity",
			"Requests per second that the endpoint served when it was given all it takes, and the highest rate that " +
				"kept every objective. The band is the 95 % interval of the capacity in that cycle; cycles differ by more.",
			perSecond, 12, 8},
			query{s.last("", capacityRequests), "capacity"},
			query{s.withinObjectives(""), "within objectives"},
			query{s.usualCapacity(""), "median of 7 days"},
			query{s.last("", capacityLow), "lower end"}, query{s.last("", capacityHigh), "upper end"}).
			OverrideByName("median of 7 days", colour("gray", true)).
			OverrideByName("lower end", edge("")).OverrideByName("upper end", edge("lower end")),
		steps(head{"Capacity in tokens", "Output tokens per second when the endpoint was given all it takes.",
			tokensPerSecond, 12, 8}, query{s.last("", capacityTokens), "output tokens"}),
		compared(s, "Time to first token", stageTimeToFirstToken),
		compared(s, "Inter-token latency", stageInterTokenLatency),
		compared(s, "Request duration", stageRequestDuration),
		steps(head{"Time to first token of each stage, p90",
			"The 90th percentile of every stage, cycle after cycle, valid or not. The rates of the stages " +
				"follow the capacity.", seconds, 12, 9},
			query{s.last("stage", stageTimeToFirstToken, `quantile="0.9"`), "{{stage}}"}),
		steps(head{"Inter-token latency of each stage, p90",
			"The 90th percentile of every stage, cycle after cycle, valid or not. The rates of the stages " +
				"follow the capacity.", seconds, 12, 9},
			query{s.last("stage", stageInterTokenLatency, `quantile="0.9"`), "{{stage}}"}),
	)
}

// endpointRegression holds the last cycle against those before it.
func (b *board) endpointRegression(s scope) {
	verdict := mapping(meaning{0, "not worse", "green"}, meaning{1, "worse once", "yellow"}, meaning{2, "worse", "orange"})
	of := func(metric string, matchers ...string) string { return per("max", "signal", s.of(metric, matchers...)) }
	const capacity = `signal="capacity"`
	// The limits are those of package regress.
	code := fmt.Sprintf("2 + 0 * (%s == 1)\nor\n1 + 0 * ((%s >= 1.05 or %s <= 0.95) and %s <= 0.02)\nor\n0 * (%s)",
		of(regressionDetected), of(regressionRatio, `signal!="capacity"`), of(regressionRatio, capacity),
		of(regressionPValue), notNaN(of(regressionRatio)))
	b.add(
		ratios(head{"Change against the baseline", "Each signal in a cycle by that of the cycles before it: 1.1 is a tenth " +
			"slower, for the capacity a tenth more. From 1.05 on, or 0.95 for the capacity, it counts; whether it is more " +
			"than chance is in the table.", plain, 14, 8}, query{notNaN(of(regressionRatio)), "{{signal}}"}),
		grid(head{"Verdict on the last cycle", "Worse is a signal that was so in the last two cycles, and not by chance; " +
			"worse once, in the last one alone. The p-value is how likely chance changes the signal that much. Empty until " +
			"there are three cycles to compare with.", plain, 10, 8},
			order{column: "Signal"}, []column{
				{name: "Signal", label: "signal"},
				{name: "Verdict", expr: code, values: &verdict, width: 110},
				{name: "Ratio", expr: notNaN(of(regressionRatio)), width: 90},
				{name: "p-value", expr: notNaN(of(regressionPValue)), width: 100},
			}...),
	)
}

// compared draws a signal at light load beside what it was at the same time of other days.
func compared(s scope, title, metric string) cog.Builder[dashboard.Panel] {
	before := func(by string) string {
		return per("min", "", fmt.Sprintf("%s offset %s\nand on (job, instance, endpoint, model, stage)\n%s offset %s == 1",
			s.of(metric, `quantile="0.9"`, `stage!="throughput"`), by, s.of(stageValid), by))
	}
	return steps(head{title + ": today and before",
		"The 90th percentile at light load, now and at the same time of other days.", seconds, 8, 8},
		query{per("min", "", s.valid(metric)), "now"}, query{before("1d"), "yesterday"}, query{before("1w"), "a week ago"}).
		OverrideByName("yesterday", colour("gray", true)).OverrideByName("a week ago", colour("semi-dark-purple", true))
}

// endpointLatency draws what requests really took, from the histograms.
func (b *board) endpointLatency(s scope) {
	distribution := func(title, what, metric string) cog.Builder[dashboard.Panel] {
		return heat(head{title, what + ", each observation of completed requests. Colour is how many.", seconds, 8, 9},
			s.buckets(metric))
	}
	quantiles := func(title, what, metric string) *timeseries.PanelBuilder {
		return lines(head{title, what + ": quantiles while cycles run.", seconds, 8, 9},
			query{s.quantile(0.5, "", metric), "p50"}, query{s.quantile(0.9, "", metric), "p90"},
			query{s.quantile(0.99, "", metric), "p99"})
	}
	byStage := func(title, what, metric string) *timeseries.PanelBuilder {
		return lines(head{title, what + ": the 90th percentile of each stage while it runs.", seconds, 8, 9},
			query{s.quantile(0.9, "stage", metric), "{{stage}}"})
	}
	b.add(
		withExemplars(distribution("Time to first token", "Time to the first token", timeToFirstToken)),
		distribution("Inter-token latency", "Time between two tokens", interTokenLatency),
		withExemplars(distribution("Request duration", "Duration of requests", requestDuration)),
		withExemplars(quantiles("Time to first token, quantiles", "Time to the first token", timeToFirstToken)),
		quantiles("Inter-token latency, quantiles", "Time between two tokens", interTokenLatency),
		withExemplars(quantiles("Request duration, quantiles", "Duration of completed requests", requestDuration)),
		byStage("Time to first token by stage, p90", "Time to the first token", timeToFirstToken),
		byStage("Inter-token latency by stage, p90", "Time between two tokens", interTokenLatency),
		byStage("Time per output token by stage, p90", "Decode time of a request by its tokens", timePerOutputToken),
		lines(head{"Time to first answer token, p90",
			"Time to the first token past any reasoning, beside the first token of all: the difference is how long " +
				"the model thinks.", seconds, 8, 9},
			query{s.quantile(0.9, "", timeToFirstAnswerToken), "first answer token"},
			query{s.quantile(0.9, "", timeToFirstToken), "first token"}),
		lines(head{"Stall of a stream", "The longest gap in an answer.", seconds, 8, 9},
			query{s.quantile(0.5, "", streamStall), "p50"}, query{s.quantile(0.9, "", streamStall), "p90"},
			query{s.quantile(0.99, "", streamStall), "p99"}),
		lines(head{"Speed that one user sees",
			"Output tokens of a request by its whole duration. The slow tenth is what users complain about.",
			tokensPerSecond, 8, 9},
			query{s.quantile(0.5, "", requestSpeed), "median"}, query{s.quantile(0.1, "", requestSpeed), "slowest tenth"}),
	)
}

func (b *board) endpointFailures(all, s scope) {
	completed := fmt.Sprintf("%s - %s - %s", per("sum", "", rate(s.of(requests))),
		per("sum", "", rate(s.of(requestFailures))), per("sum", "", rate(s.of(requestsIncomplete))))
	b.add(
		bars(head{"Failed requests by reason", "Requests that failed, by reason. `client_overload` and `cancelled` are the " +
			"prober's own; no other reason is.", number, 8, 6},
			query{per("sum", "reason", increase(s.of(requestFailures))) + " > 0", "{{reason}}"}).NoValue("no failures"),
		bars(head{"Failed cycles by reason", "Cycles that could not be run to their end.", number, 8, 6},
			query{per("sum", "reason", increase(all.of(cycleFailures))) + " > 0", "{{reason}}"}).NoValue("no failures"),
		bars(head{"Skipped cycles by reason", skippedText, number, 8, 6},
			query{per("sum", "reason", increase(all.of(runsSkipped))) + " > 0", "{{reason}}"}).NoValue("none"),
		lines(head{"Requests by outcome",
			"Requests that ended, per second. Incomplete ones were in flight when their stage ended: neither a " +
				"success nor a failure.", perSecond, 8, 9},
			query{completed, "completed"},
			query{per("sum", "", rate(s.of(requestsIncomplete))), "incomplete"},
			query{per("sum", "", rate(s.of(requestFailures))), "failed"}).
			OverrideByName("failed", colour("red", false)).OverrideByName("completed", colour("green", false)).
			OverrideByName("incomplete", colour("gray", false)),
		lines(head{"Tokens",
			"Tokens per second that inferprobe sent and received. Cached ones say that prompts were not new to the " +
				"server.", tokensPerSecond, 8, 9},
			query{per("sum", "", rate(s.of(promptTokens))), "prompt"},
			query{per("sum", "", rate(s.of(outputTokens))), "output"},
			query{per("sum", "", rate(s.of(cachedTokens))), "from the server's cache"}),
		lines(head{"Opening a connection, p90",
			"What it takes to open a connection, by phase. It is no part of the time to first token.", seconds, 8, 9},
			query{all.quantile(0.9, "phase", connectionPhase), "{{phase}}"}),
	)
}

func (b *board) endpointValidity(s scope) {
	valid := mapping(meaning{1, "valid", "green"}, meaning{0, "not valid", "orange"})
	b.add(
		states(head{"Is the measurement valid?", "Whether each stage of the last cycle can be trusted.", words, 8, 9},
			valid, query{s.last("stage", stageValid), "{{stage}}"}),
		steps(head{"Findings on the measurement", "Stages of the last cycle that have a finding, by which: why one is not " +
			"valid, or what else to know of it. The report has the numbers.", plain, 8, 9},
			query{per("max", "reason", s.of(cycleFindings)) + " > 0", "{{reason}}"}).NoValue("no findings"),
		steps(head{"Completed requests of each stage", "A 90th percentile needs 36 requests, a 99th 368.", number, 8, 9},
			query{s.last("stage", stageSamples), "{{stage}}"}),
	)
}

// endpointServer sets the server's own metrics beside ours, by the name of the model.
func (b *board) endpointServer(s scope) {
	// vLLM calls a model as /models does, and so do we.
	of := func(expr string) string {
		return fmt.Sprintf("%s\nand on (model_name)\n"+`label_replace(%s, "model_name", "$1", "model", "(.+)")`, expr,
			per("group", "model", s.of(cycles)))
	}
	serverQuantile := fmt.Sprintf("histogram_quantile(0.9, %s) >= 0",
		per("sum", "le", of(rate("vllm:time_to_first_token_seconds_bucket"))))
	b.add(
		lines(head{"Time to first token: client and server, p90",
			"What a client waits for against what vLLM measures itself. The difference is the network, a gateway, or " +
				"a queue in front of the engine.", seconds, 8, 8},
			query{s.quantile(0.9, "", timeToFirstToken), "client"}, query{serverQuantile, "server"}),
		lines(head{"Requests in the server",
			"Requests that the engine runs and those that wait, from all clients.", plain, 8, 8},
			query{per("sum", "", of("vllm:num_requests_running")), "running"},
			query{per("sum", "", of("vllm:num_requests_waiting")), "waiting"}),
		lines(head{"KV cache", "How full the engine's KV cache is.", share, 8, 8},
			query{per("max", "", of("vllm:kv_cache_usage_perc")), "used"}).Max(1),
	)
}
