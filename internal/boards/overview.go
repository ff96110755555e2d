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
		meaning{stateOverdue, "overdue", "purple"},
		meaning{stateUntrusted, "no valid stage", "blue"},
		meaning{stateSlow, "misses objectives", "yellow"},
		meaning{stateFailing, "requests fail", "orange"},
		meaning{stateDown, "down", "red"},
		meaning{stateNoProber, "not measured", "red"},
	)
}

// overview is the board of all endpoints: which one is bad, in what way, and since when.
func overview(known catalogue) (*board, error) {
	b := newBoard(overviewUID, "inferprobe / Overview",
		"All measured endpoints, the worst ones first. What is shown of an endpoint is from its last cycle, until the next.")
	s := b.scope(known, "job", "instance", "endpoint", "model")
	b.targets(known)
	b.variable("endpoint", "Endpoint", b.scope(known, "job", "instance").of(cycles))
	b.variable("model", "Model", b.scope(known, "job", "instance", "endpoint").of(cycles))
	b.annotations(s.without("endpoint").without("model"),
		foreign("ALERTS", []string{"endpoint"}, `alertname=~"Inferprobe.+"`, `alertstate="firing"`))

	b.overviewSummary(s)
	b.overviewEndpoints(s)
	b.row("Speed at light load")
	b.overviewSpeed(s)
	b.row("Capacity")
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
		s.state(byEndpoint), stateOverdue, stateNoProber, s.of(probeSuccess), stateFine)
	alerts := foreign("ALERTS", []string{"endpoint"}, `alertname=~"Inferprobe.+"`, `alertstate="firing"`)
	targets := s.without("endpoint").without("model")
	b.add(
		lamp(head{"Endpoints in trouble", "Every endpoint whose last cycle found something wrong, with the worst of it: " +
			"down, requests fail, misses objectives, overdue.", words, 12, 5}, query{trouble, "{{endpoint}}"}).
			Mappings([]dashboard.ValueMapping{stateMapping()}).TextMode(common.BigValueTextModeValueAndName),
		lamp(head{"Alerts firing", "Alerts of inferprobe's rules that fire now.", plain, 4, 5},
			query{"count(" + alerts + ") or vector(0)", "alerts"}).Thresholds(from("green", step{1, "red"})),
		figure(head{"Oldest result",
			"Time since the endpoint that was measured the longest ago was measured. Compare it with the interval of " +
				"its sweep.", seconds, 4, 5},
			query{fmt.Sprintf("max(time() - (%s > 0))", per("max", byEndpoint, s.of(lastProbe))), "age"}).Decimals(0),
		lamp(head{"Probers up", "Share of inferprobe's own instances that Prometheus can scrape.", share, 4, 5},
			query{"avg(" + foreign("up", targets.vars) + ") or vector(0)", "up"}).
			Thresholds(from("red", step{1, "green"})).Decimals(0),
	)
}

// overviewEndpoints is a row for each endpoint, and the history of its state.
func (b *board) overviewEndpoints(s scope) {
	ofUsual := from("transparent", step{0, "semi-dark-red"}, step{0.7, "semi-dark-yellow"}, step{0.9, "transparent"})
	ofLimit := from("transparent", step{0.8, "semi-dark-yellow"}, step{1, "semi-dark-red"})
	capacity := s.last(byModel, capacityRequests)
	stateValues := stateMapping()
	b.add(grid(head{"Endpoints, the worst first",
		"The last cycle of each endpoint. Light load is the best valid stage, in general one request at a time. " +
			"Percentages of an objective are red above 100 %.", plain, 24, 9},
		order{"State", true}, []column{
			{name: "State", expr: s.state(byModel), values: &stateValues, width: 140},
			{name: "Endpoint", label: "endpoint", link: toEndpoint("${__value.text}")},
			{name: "Failed", expr: s.errorRatio(byModel), unit: share,
				colour: from("transparent", step{defaultErrorRatio, "semi-dark-orange"}), width: 70},
			{name: "TTFT p90", expr: s.best(byModel, stageTimeToFirstToken), unit: seconds, width: 90},
			{name: "TTFT / objective", expr: s.ofObjective(byModel, stageTimeToFirstToken, signalFirstToken), unit: share,
				colour: ofLimit, width: 125},
			{name: "ITL p90", expr: s.best(byModel, stageInterTokenLatency), unit: seconds, width: 85},
			{name: "ITL / objective", expr: s.ofObjective(byModel, stageInterTokenLatency, signalInterToken), unit: share,
				colour: ofLimit, width: 125},
			{name: "Capacity", expr: capacity, unit: perSecond, width: 100},
			{name: "/ 7 d median", expr: "(" + capacity + ") / " + s.usualCapacity(byModel), unit: share,
				colour: ofUsual, width: 105},
			{name: "Within objectives", expr: s.withinObjectives(byModel), unit: perSecond, width: 130},
			{name: "Valid stages", expr: per("avg", byModel, notNaN(s.of(stageValid))), unit: share, width: 95},
			{name: "Measured", expr: fmt.Sprintf("time() - (%s > 0)", per("max", byModel, s.of(lastProbe))), unit: seconds,
				width: 95},
			{name: "Model", label: "model"},
		}...))
	b.add(
		states(head{"State of each endpoint", "Since when an endpoint is as it is. A state lasts until a later cycle says " +
			"otherwise.", words, 14, 9}, stateMapping(), query{s.state(byEndpoint), "{{endpoint}}"}),
		b.alertTable(head{"Alerts", "Alerts of inferprobe's rules that fire or are about to; empty without any. Needs " +
			"the rules of dashboards/rules.", plain, 10, 9}),
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
			query{"(" + s.withinObjectives(byEndpoint) + ") / " + per("max", byEndpoint, s.of(capacityRequests)),
				"{{endpoint}}"}),
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
		lines(head{"Requests in flight", "Requests of inferprobe that wait for their answer.", plain, 8, 8},
			query{per("sum", byEndpoint, s.of(requestsInFlight)), "{{endpoint}}"}),
		lines(head{"Requests", "Requests of inferprobe that ended, per second.", perSecond, 8, 8},
			query{per("sum", byEndpoint, rate(s.of(requests))), "{{endpoint}}"}),
		figure(head{"Tokens used", "Prompt and output tokens of inferprobe's requests over the time shown.", number, 8, 8},
			query{tokens("[$__range]"), "{{endpoint}}"}).TextMode(common.BigValueTextModeValueAndName).
			Orientation(common.VizOrientationHorizontal).
			Text(common.NewVizTextDisplayOptionsBuilder().TitleSize(14).ValueSize(24)),
	)
}
