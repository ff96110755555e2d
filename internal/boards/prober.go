package boards

import (
	"fmt"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

// prober is the board of inferprobe itself: whether it keeps its schedule, and whether what it measures is its own
// doing.
func prober(known catalogue) (*board, error) {
	b := newBoard(proberUID, "inferprobe / Prober",
		"inferprobe itself: is it up, is it on time, does it measure what it should?")
	s := b.scope(known, "job", "instance")
	b.targets(known)
	b.annotations(s, foreign("ALERTS", []string{"instance"}, `alertname=~"Inferprobe.+"`, `alertstate="firing"`))

	b.proberSummary(s)
	b.row("Is it on time?")
	b.proberDelays(s)
	b.row("Does it keep its schedule?")
	b.proberSchedule(s)
	b.row("Process")
	b.proberProcess(s)
	return b, nil
}

func (b *board) proberSummary(s scope) {
	late := func(title, description, metric string, limits ...step) cog.Builder[dashboard.Panel] {
		return lamp(head{title, description, seconds, 6, 3},
			query{fmt.Sprintf("histogram_quantile(0.99, %s)\nor\nhistogram_quantile(0.99, %s)",
				per("sum", "", "increase("+s.of(metric)+"[$__range])"),
				per("sum", "le", "increase("+s.of(metric+"_bucket")+"[$__range])")), "p99"}).
			Thresholds(from("green", limits...)).NoValue("none yet")
	}
	host := mapping(meaning{1, "quiet", "green"}, meaning{0, "disturbs", "yellow"})
	history := mapping(meaning{1, "can be written", "green"}, meaning{0, "cannot be written", "red"})
	reload := mapping(meaning{1, "loaded", "green"}, meaning{0, "last reload failed", "red"})
	b.add(
		lamp(head{"Probers up", "Share of inferprobe's instances that Prometheus can scrape.", share, 6, 3},
			query{"avg(" + foreign("up", s.vars) + ") or vector(0)", "up"}).
			Thresholds(from("red", step{1, "green"})).Decimals(0),
		lamp(head{"Configuration",
			"Whether the last attempt to load the configuration succeeded. After a failure the old one stays in " +
				"force.", words, 6, 3}, query{per("min", "", s.of(reloadSuccessful)), "configuration"}).
			Mappings([]dashboard.ValueMapping{reload}),
		lamp(head{"History",
			"Whether cycles and the tokens spent can be written to the folder of the history. If not, they are " +
				"kept in memory and lost at a restart.", words, 6, 3},
			query{per("min", "", s.of(historyWritable)), "history"}).Mappings([]dashboard.ValueMapping{history}),
		lamp(head{"Held back", "Endpoints that are not measured because an operator has paused them or because their " +
			"tokens of the day are used up.", plain, 6, 3},
			query{fmt.Sprintf("count(%s == 1 or %s == 0) or vector(0)", per("max", byEndpoint, s.of(probePaused)),
				per("min", byEndpoint, s.of(tokensLeft))), "endpoints"}).Thresholds(from("green", step{1, "yellow"})),
		lamp(head{"Host", "Whether the hosts let inferprobe send and read in time when it started. One that does not makes " +
			"stages invalid; `inferprobe selfcheck` tells more.", words, 6, 3},
			query{notNaN(per("min", "", s.of(hostTrusted))), "host"}).
			Mappings([]dashboard.ValueMapping{host}).NoValue("not looked at"),
		late("Schedule delay", "How much later than due requests left: the 99th percentile over the time shown.",
			scheduleDelay, step{0.005, "yellow"}, step{0.05, "red"}),
		late("Receive lag",
			"How much later than the kernel inferprobe saw data arrive: the 99th percentile over the time shown.",
			receiveLag, step{0.005, "yellow"}, step{0.05, "red"}),
		lamp(head{"Valid stages", "Share of the stages in the last cycles of all endpoints whose measurement can be trusted.",
			share, 6, 3}, query{per("avg", "", notNaN(s.of(stageValid))), "valid"}).
			Thresholds(from("orange", step{0.5, "yellow"}, step{0.8, "green"})).NoValue("none yet"),
	)
}

func (b *board) proberDelays(s scope) {
	quantiles := func(title, description, metric string) cog.Builder[dashboard.Panel] {
		return lines(head{title, description, seconds, 12, 8}, query{s.quantile(0.5, "instance", metric), "p50 {{instance}}"},
			query{s.quantile(0.99, "instance", metric), "p99 {{instance}}"})
	}
	b.add(
		heat(head{"Schedule delay, every request",
			"How much later than due requests of an open loop left. A stage is invalid whose 99th percentile is above the " +
				"largest of 1 ms, a quarter of the gap between sends, and 5 % of the median time to first token.",
			seconds, 12, 8}, s.buckets(scheduleDelay)),
		heat(head{"Receive lag, every arrival",
			"How much later than the kernel inferprobe saw data arrive. Times are the kernel's, so that a small lag " +
				"does no harm.", seconds, 12, 8}, s.buckets(receiveLag)),
		quantiles("Schedule delay, quantiles", "How much later than due requests of an open loop left.", scheduleDelay),
		quantiles("Receive lag, quantiles", "How much later than the kernel inferprobe saw data arrive.", receiveLag),
	)
}

func (b *board) proberSchedule(s scope) {
	running := mapping(meaning{1, "cycle runs", "blue"}, meaning{0, "waits", "transparent"})
	paused := mapping(meaning{1, "paused", "light-blue"}, meaning{0, "", "transparent"})
	of := func(metric string) string { return per("max", byEndpoint, s.of(metric)) }
	shown := func(counter string) string {
		return "round(" + per("sum", byEndpoint, "increase("+s.of(counter)+"[$__range])") + ")"
	}
	b.add(
		states(head{"When each endpoint was measured", "The cycles of each endpoint. Those of one group never overlap.",
			words, 24, 7}, running, query{of(cycleInProgress), "{{endpoint}}"}),
		grid(head{"Schedule", "When each endpoint was measured, for how long, and when it is due again. Cycles and failed ones " +
			"are those of the time shown. The last whole cycle, whose values are shown, is an older one where later ones failed.", plain, 24, 8},
			order{"Ended, ago", true}, []column{
				{name: "Endpoint", label: "endpoint", link: toEndpoint("${__value.text}")},
				{name: "Cycles", expr: shown(cycles), width: 70},
				{name: "Failed", expr: shown(cycleFailures),
					colour: from("transparent", step{1, "semi-dark-orange"}), width: 70},
				{name: "Ended, ago", expr: "time() - (" + of(cycleLastEnd) + " > 0)", unit: seconds, width: 105},
				{name: "Whole one, ago", expr: "time() - (" + of(cycleLastCompleted) + " > 0)", unit: seconds, width: 120},
				{name: "Took", expr: s.last(byEndpoint, cycleDuration), unit: seconds, width: 90},
				{name: "Next in", expr: of(cycleNextStart) + " - time() > 0", unit: seconds, width: 95},
				{name: "Operator", expr: of(probePaused), values: &paused, width: 90},
				{name: "Tokens left", expr: notNaN(per("min", byEndpoint, s.of(tokensLeft))), unit: number,
					colour: noTokens(), width: 95},
			}...),
		bars(head{"Cycles skipped", skippedText, number, 12, 6},
			query{per("sum", "endpoint, reason", increase(s.of(runsSkipped))) + " > 0", "{{endpoint}} {{reason}}"}).
			NoValue("none"),
		bars(head{"Cycles failed",
			"Cycles that could not be run to their end. `tokenizer`, `context_length` and `internal` are the prober's " +
				"own trouble.", number, 12, 6},
			query{per("sum", "endpoint, reason", increase(s.of(cycleFailures))) + " > 0", "{{endpoint}} {{reason}}"}).
			NoValue("none"),
		steps(head{"Findings on measurements",
			"Stages in the last cycles of all endpoints that have a finding, by which: why they are not valid, or what else " +
				"to know of them.", plain, 12, 8},
			query{per("sum", "reason", notNaN(s.of(cycleFindings))) + " > 0", "{{reason}}"}).NoValue("no findings"),
		steps(head{"Duration of a cycle", "How long the last whole cycle of each endpoint took.", seconds, 12, 8},
			query{s.last(byEndpoint, cycleDuration), "{{endpoint}}"}),
	)
}

// skippedText explains the reasons of runsSkipped.
const skippedText = "Cycles that were due and not started. `overrun`: the one before still ran; make the interval " +
	"longer, or the stages shorter. `paused`: by an operator. `token_budget`: the tokens of the day are used up. " +
	"`window`: its window had closed before it could begin."

func (b *board) proberProcess(s scope) {
	b.add(
		lines(head{"CPU", "Cores in use. A stage that throttling held back by more than 1 % is invalid; set no CPU limit.",
			plain, 8, 8}, query{per("sum", "instance", rate(s.of("process_cpu_seconds_total"))), "{{instance}}"}),
		lines(head{"Memory", "Resident memory of the process, and the part of it that Go's heap takes.", bytesUnit, 8, 8},
			query{per("sum", "instance", s.of("process_resident_memory_bytes")), "resident {{instance}}"},
			query{per("sum", "instance", s.of("go_memstats_heap_inuse_bytes")), "heap {{instance}}"}),
		lines(head{"Goroutines", "Some for each request in flight; a number that only grows is a leak.", number, 8, 8},
			query{per("sum", "instance", s.of("go_goroutines")), "{{instance}}"}),
		lines(head{"Network",
			"Bytes per second that the process's network namespace received and sent.", bytesPerSecond, 8, 8},
			query{per("sum", "instance", rate(s.of("process_network_receive_bytes_total"))), "received {{instance}}"},
			query{per("sum", "instance", rate(s.of("process_network_transmit_bytes_total"))), "sent {{instance}}"}),
		lines(head{"Open files", "Open file descriptors, most of them connections, against their limit.", number, 8, 8},
			query{per("sum", "instance", s.of("process_open_fds")), "open {{instance}}"},
			query{per("sum", "instance", s.of("process_max_fds")), "limit {{instance}}"}).
			OverrideByRegexp("limit .*", colour("gray", true)),
		lines(head{"Series", "Time series that a scrape brings: the budget that Prometheus pays for.", number, 8, 8},
			query{per("sum", "instance", foreign("scrape_samples_scraped", s.vars)), "{{instance}}"}),
		b.versions(s),
	)
}

// versions lists what runs.
func (b *board) versions(s scope) cog.Builder[dashboard.Panel] {
	return grid(head{"Versions", "What runs where, and since when its configuration is in force.", plain, 24, 5},
		order{column: "Instance"}, []column{
			{name: "Instance", label: "instance"},
			{name: "Version", label: "version"},
			{name: "Revision", label: "revision"},
			{name: "Go", label: "goversion"},
			{name: "Configuration loaded, ago", unit: seconds, expr: fmt.Sprintf(
				"time() - %s * on (instance) group_left (version, revision, goversion) %s",
				per("max", "instance", s.of(reloadTime)), per("max", "instance, version, revision, goversion", s.of(buildInfo)))},
		}...)
}
