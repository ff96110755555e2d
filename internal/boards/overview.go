package boards

import (
	"fmt"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/table"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

// stateMapping gives the states of an endpoint their words and colours.
func stateMapping() dashboard.ValueMapping {
	return mapping(
		meaning{stateFine, "fine", "green"},
		meaning{stateWaiting, "first cycle pending", "gray"},
		meaning{statePaused, "paused", "light-blue"},
		meaning{stateNoTokens, "out of tokens", "light-purple"},
		meaning{stateOverdue, "overdue", "purple"},
		meaning{stateUntrusted, "no valid stage", "blue"},
		meaning{stateWorse, "worse than before", "light-orange"},
		meaning{stateSlow, "misses objectives", "yellow"},
		meaning{stateFailing, "requests fail", "orange"},
		meaning{stateDown, "down", "red"},
		meaning{stateNoProber, "not measured", "red"},
	)
}

// overview is the board of all endpoints: which one is bad, in what way, and since when.
func overview(known catalogue) (*board, error) {
	b := newBoard(overviewUID, "inferprobe / Overview",
		"All measured endpoints, the worst ones first: what the canary sees now, and what the last cycle found.")
	s := b.scope(known, "job", "instance", "endpoint", "model")
	b.targets(known)
	b.variable("endpoint", "Endpoint", b.scope(known, "job", "instance").of(cycles))
	b.variable("model", "Model", b.scope(known, "job", "instance", "endpoint").of(cycles))
	b.annotations(s.without("endpoint").without("model"),
		foreign("ALERTS", []string{"endpoint"}, `alertname=~"Inferprobe.+"`, `alertstate="firing"`))

	b.overviewSummary(s)
	b.overviewEndpoints(s)
	b.overviewChanges(s)
	b.row("Now: the canary, one light request at a time")
	b.overviewCanary(s)
	b.row("Cycle after cycle, at light load")
	b.overviewSpeed(s)
	b.row("Cycle after cycle, under load")
	b.overviewCapacity(s)
	b.row("Load that inferprobe itself causes")
	b.overviewLoad(s)
	return b, nil
}

// overviewSummary is the first thing seen: the names of the endpoints in trouble, and whether anybody measures at all.
func (b *board) overviewSummary(s scope) {
	trouble := fmt.Sprintf("sort_desc((%s) >= %d)\nor on ()\n"+
		`label_replace(%d * absent(%s), "endpoint", "no inferprobe answers", "", "")`+"\nor on ()\n"+
		`label_replace(vector(%d), "endpoint", "all endpoints", "", "")`,
		s.state(byEndpoint), stateNoTokens, stateNoProber, s.of(probeSuccess), stateFine)
	alerts := foreign("ALERTS", []string{"endpoint"}, `alertname=~"Inferprobe.+"`, `alertstate="firing"`)
	targets := s.without("endpoint").without("model")
	b.add(
		lamp(head{"Endpoints in trouble", "Every endpoint of which the canary or the last cycle found something wrong, " +
			"with the worst of it: down, requests fail, misses objectives, worse than before, overdue. One that is paused is " +
			"not among them.", words, 12, 5}, query{trouble, "{{endpoint}}"}).
			Mappings([]dashboard.ValueMapping{stateMapping()}).TextMode(common.BigValueTextModeValueAndName),
		lamp(head{"Alerts firing", "Alerts of inferprobe's rules that fire now. Needs the rules of dashboards/rules.", plain, 4, 5},
			query{"count(" + alerts + ") or 0 * count(" + foreign(recorded, []string{"endpoint"}) + ")", "alerts"}).
			Thresholds(from("green", step{1, "red"})).NoValue("no rules"),
		figure(head{"Oldest result",
			"Time since the endpoint that was measured the longest ago was measured. Compare it with the interval of " +
				"its canary, or of its sweep if it has none.", seconds, 4, 5},
			query{fmt.Sprintf("max(time() - (%s > 0))", per("max", byEndpoint, s.of(lastProbe))), "age"}).Decimals(0),
		lamp(head{"Probers up", "Share of inferprobe's own instances that Prometheus can scrape.", share, 4, 5},
			query{"avg(" + foreign("up", targets.vars) + ") or vector(0)", "up"}).
			Thresholds(from("red", step{1, "green"})).Decimals(0),
	)
}

// overviewEndpoints is a row for each endpoint.
func (b *board) overviewEndpoints(s scope) {
	ofUsual := from("transparent", step{0, "semi-dark-red"}, step{0.7, "semi-dark-yellow"}, step{0.9, "transparent"})
	ofLimit := from("transparent", step{0.8, "semi-dark-yellow"}, step{1, "semi-dark-red"})
	failed := from("transparent", step{defaultErrorRatio, "semi-dark-orange"})
	capacity := s.last(byModel, capacityRequests)
	stateValues := stateMapping()
	b.add(grid(head{"Endpoints, the worst first",
		"Canary: its requests of the last 15 minutes, the median of their times. The rest is the last cycle: TTFT and ITL " +
			"are the p90 of the best valid stage, in general one request at a time, as a share of the objective; signals are " +
			"those that are worse than the baseline; failed are requests at up to 90 % of the capacity. Tokens are what is " +
			"left for today.", plain, 24, 9},
		order{"State", true}, []column{
			{name: "State", expr: s.state(byModel), values: &stateValues, width: 140},
			{name: "Endpoint", label: "endpoint", link: toEndpoint("${__value.text}")},
			{name: "Canary failed", expr: s.canaryErrorRatio(byModel), unit: share, colour: failed, width: 105},
			{name: "Canary TTFT", expr: s.canary(0.5, byModel, timeToFirstToken), unit: seconds, width: 100},
			{name: "Failed", expr: s.errorRatio(byModel), unit: share, colour: failed, width: 70},
			{name: "TTFT / objective", expr: s.ofObjective(byModel, stageTimeToFirstToken, signalFirstToken), unit: share,
				colour: ofLimit, width: 120},
			{name: "ITL / objective", expr: s.ofObjective(byModel, stageInterTokenLatency, signalInterToken), unit: share,
				colour: ofLimit, width: 115},
			{name: "Worse signals", expr: s.regressions(byModel),
				colour: from("transparent", step{1, "semi-dark-orange"}), width: 105},
			{name: "Capacity", expr: capacity, unit: perSecond, width: 95},
			{name: "/ 7 d median", expr: "(" + capacity + ") / " + s.usualCapacity(byModel), unit: share,
				colour: ofUsual, width: 100},
			{name: "Within objectives", expr: s.withinObjectives(byModel), unit: perSecond, width: 125},
			{name: "Valid stages", expr: per("avg", byModel, notNaN(s.of(stageValid))), unit: share, width: 95},
			{name: "Tokens left", expr: notNaN(per("min", byModel, s.of(tokensLeft))), unit: number,
				colour: noTokens(), width: 90},
			{name: "Measured", expr: fmt.Sprintf("time() - (%s > 0)", per("max", byModel, s.of(lastProbe))), unit: seconds,
				width: 85},
			{name: "Model", label: "model"},
		}...))
}

// noTokens colours a cell with 0, and not an empty one.
func noTokens() *dashboard.ThresholdsConfigBuilder {
	return from("transparent", step{0, "semi-dark-purple"}, step{1, "transparent"})
}

// overviewChanges is since when, and what the alerts and the baseline say.
func (b *board) overviewChanges(s scope) {
	const bySignal = "endpoint, signal"
	b.add(
		states(head{"State of each endpoint", "Since when an endpoint is as it is. What a cycle found lasts until a later " +
			"one says otherwise.", words, 24, 7}, stateMapping(), query{s.state(byEndpoint), "{{endpoint}}"}),
		b.alertTable(head{"Alerts", "Alerts of inferprobe's rules that fire or are about to; empty without any. Needs " +
			"the rules of dashboards/rules.", plain, 14, 7}),
		grid(head{"Worse than the baseline", "Signals that were worse than the cycles before in the last two cycles; empty " +
			"without any. A ratio of 1.2 is a fifth slower, for the capacity 0.8 is a fifth less.", plain, 10, 7},
			order{"Endpoint", false}, []column{
				{name: "Endpoint", label: "endpoint", link: toEndpoint("${__value.text}")},
				{name: "Signal", label: "signal"},
				{name: "Ratio", expr: per("max", bySignal, s.of(regressionRatio)) + "\nand on (endpoint, signal)\n" +
					per("max", bySignal, s.of(regressionDetected)) + " == 1", width: 80},
				{name: "p-value", expr: per("max", bySignal, s.of(regressionPValue)) + "\nand on (endpoint, signal)\n" +
					per("max", bySignal, s.of(regressionDetected)) + " == 1", width: 90},
			}...).NoValue("nothing is worse"),
	)
}

func (b *board) overviewCanary(s scope) {
	signal := func(title, metric string) *timeseries.PanelBuilder {
		return lines(head{title, "Median of the canary's requests within 15 minutes.", seconds, 8, 8},
			query{s.canary(0.5, byEndpoint, metric), "{{endpoint}}"})
	}
	b.add(
		signal("Time to first token, median", timeToFirstToken),
		signal("Inter-token latency, median", interTokenLatency),
		lines(head{"Failed requests", "Share of the canary's requests within 15 minutes that failed.", share, 8, 8},
			query{s.canaryErrorRatio(byEndpoint), "{{endpoint}}"}).Max(1),
	)
}

// alertTable lists alerts with their age.
func (b *board) alertTable(h head) *table.PanelBuilder {
	alerts := foreign("ALERTS", []string{"endpoint"}, `alertname=~"Inferprobe.+"`)
	severities := dashboard.ValueMapping{ValueMap: &dashboard.ValueMap{Type: dashboard.MappingTypeValueToText,
		Options: map[string]dashboard.ValueMappingResult{
			"critical": {Color: cog.ToPtr("red"), Index: cog.ToPtr(int32(0))},
			"warning":  {Color: cog.ToPtr("orange"), Index: cog.ToPtr(int32(1))},
			"info":     {Color: cog.ToPtr("blue"), Index: cog.ToPtr(int32(2))},
		}}}
	since := fmt.Sprintf("%s * ignoring (alertstate) group_left () (time() - %s)", alerts,
		foreign("ALERTS_FOR_STATE", []string{"endpoint"}, `alertname=~"Inferprobe.+"`))
	return grid(h, order{column: "Severity"},
		column{name: "Severity", label: "severity", values: &severities, width: 80},
		column{name: "Alert", label: "alertname", width: 245},
		column{name: "Endpoint", label: "endpoint", link: toEndpoint("${__value.text}")},
		column{name: "State", label: "alertstate", width: 70},
		column{name: "For", expr: per("max", "severity, alertname, endpoint, alertstate", since), unit: seconds, width: 80},
	)
}

func (b *board) overviewSpeed(s scope) {
	signal := func(title, what, metric string) *timeseries.PanelBuilder {
		return steps(head{title, what + " at light load: the 90th percentile in the best valid stage of each cycle.",
			seconds, 8, 8}, query{s.best(byEndpoint, metric), "{{endpoint}}"})
	}
	b.add(
		signal("Time to first token, p90", "Time to the first token", stageTimeToFirstToken),
		signal("Inter-token latency, p90", "Time between two tokens", stageInterTokenLatency),
		signal("Request duration, p90", "Duration of a request", stageRequestDuration),
	)
}

func (b *board) overviewCapacity(s scope) {
	b.add(
		steps(head{"Capacity",
			"Requests per second that an endpoint served when it was given all it takes.", perSecond, 8, 8},
			query{s.last(byEndpoint, capacityRequests), "{{endpoint}}"}),
		steps(head{"Capacity in tokens", "Output tokens per second at the same time.", tokensPerSecond, 8, 8},
			query{s.last(byEndpoint, capacityTokens), "{{endpoint}}"}),
		steps(head{"Headroom within objectives",
			"Rate that still keeps every objective, as a share of the capacity. Nothing without objectives.", share, 8, 8},
			query{"(" + s.withinObjectives(byEndpoint) + ") / (" + s.last(byEndpoint, capacityRequests) + ")",
				"{{endpoint}}"}).AxisSoftMax(1),
		steps(head{"Requests that failed", "Share of requests that failed in the last cycle, at up to 90 % of the capacity.",
			share, 12, 8}, query{s.errorRatio(byEndpoint), "{{endpoint}}"}).Max(1),
		steps(head{"Valid stages",
			"Share of the last cycle's stages whose measurement can be trusted. Latency alerts ignore the others.",
			share, 12, 8},
			query{per("avg", byEndpoint, notNaN(s.of(stageValid))), "{{endpoint}}"}).Max(1),
	)
}

func (b *board) overviewLoad(s scope) {
	tokens := func(window string) string {
		return fmt.Sprintf("%s + %s", per("sum", byEndpoint, "increase("+s.of(promptTokens)+window+")"),
			per("sum", byEndpoint, "increase("+s.of(outputTokens)+window+")"))
	}
	b.add(
		lines(head{"Requests in flight", "Requests of inferprobe's cycles that wait for their answer.", plain, 6, 8},
			query{per("sum", byEndpoint, s.of(requestsInFlight)), "{{endpoint}}"}),
		lines(head{"Requests", "Requests of inferprobe that ended, per second.", perSecond, 6, 8},
			query{per("sum", byEndpoint, rate(s.of(requests))), "{{endpoint}}"}),
		steps(head{"Tokens left today", "Tokens that an endpoint may still be asked for on this day of UTC. At nothing it " +
			"is not measured until midnight. Nothing is shown without a limit.", number, 6, 8},
			query{notNaN(per("min", byEndpoint, s.of(tokensLeft))), "{{endpoint}}"}).NoValue("no limit"),
		figure(head{"Tokens used", "Prompt and output tokens of inferprobe's requests over the time shown.", number, 6, 8},
			query{tokens("[$__range]"), "{{endpoint}}"}).TextMode(common.BigValueTextModeValueAndName).
			Orientation(common.VizOrientationHorizontal).
			Text(common.NewVizTextDisplayOptionsBuilder().TitleSize(14).ValueSize(24)),
	)
}
