package boards

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// scope says which series a board looks at: those that its variables select.
type scope struct {
	known catalogue
	vars  []string // labels for which the board has a variable of the same name
	err   *error   // the first metric that does not exist
}

// Labels that Prometheus adds to what it scrapes.
func targetLabels() []string { return []string{"job", "instance"} }

// of returns the selector of a metric, with a matcher for each variable that applies to it and the ones given.
func (s scope) of(metric string, matchers ...string) string {
	labels, known := s.known[metric]
	if !known {
		*s.err = errors.Join(*s.err, fmt.Errorf("there is no metric %s", metric))
	}
	var all []string
	for _, v := range s.vars {
		if slices.Contains(targetLabels(), v) || slices.Contains(labels, v) {
			all = append(all, fmt.Sprintf(`%s=~"$%s"`, v, v))
		}
	}
	return metric + "{" + strings.Join(append(all, matchers...), ", ") + "}"
}

// foreign returns the selector of a metric that is not ours, with a matcher for each of the given variables.
func foreign(metric string, vars []string, matchers ...string) string {
	var all []string
	for _, v := range vars {
		all = append(all, fmt.Sprintf(`%s=~"$%s"`, v, v))
	}
	return metric + "{" + strings.Join(append(all, matchers...), ", ") + "}"
}

// without returns the scope without a matcher for one variable.
func (s scope) without(name string) scope {
	s.vars = slices.DeleteFunc(slices.Clone(s.vars), func(v string) bool { return v == name })
	return s
}

// What sets endpoints apart. A table shows their models too; over time that would tear an endpoint in two, as the
// model of one may be known only after its first cycle.
const (
	byEndpoint = "endpoint"
	byModel    = "endpoint, model"
)

// notNaN drops what is not known: NaN compares with nothing.
func notNaN(expr string) string { return expr + " >= 0" }

// per aggregates an expression; by may be empty.
func per(operator, by, expr string) string {
	if by == "" {
		return fmt.Sprintf("%s(%s)", operator, expr)
	}
	return fmt.Sprintf("%s by (%s) (%s)", operator, by, expr)
}

func rate(selector string) string { return "rate(" + selector + "[$__rate_interval])" }

func increase(selector string) string { return "increase(" + selector + "[$__rate_interval])" }

// recent is how far back "now" reaches: a canary a minute makes fifteen requests in it, enough for a median.
const recent = "[15m]"

// What selects the requests of the canary, and those of its failures that are not the prober's own.
const (
	ofCanary  = `stage="canary"`
	notOurOwn = `reason!~"client_overload|cancelled"`
)

// last returns values of the last cycle, the highest where several inferprobes measure the same; nothing where a value
// is not known.
func (s scope) last(by, metric string, matchers ...string) string {
	return notNaN(per("max", by, s.of(metric, matchers...)))
}

// quantile returns a quantile of a histogram: of its native buckets where they are scraped, else of its classic ones;
// nothing while nothing is observed.
func (s scope) quantile(q float64, by, metric string, matchers ...string) string {
	return s.quantileOver("[$__rate_interval]", q, by, metric, matchers...)
}

func (s scope) quantileOver(window string, q float64, by, metric string, matchers ...string) string {
	le := strings.TrimPrefix(by+", le", ", ")
	return fmt.Sprintf("histogram_quantile(%g, %s) >= 0\nor\nhistogram_quantile(%g, %s) >= 0",
		q, per("sum", by, "rate("+s.of(metric, matchers...)+window+")"),
		q, per("sum", le, "rate("+s.of(metric+"_bucket", matchers...)+window+")"))
}

// canary returns a quantile of what the canary's requests took lately.
func (s scope) canary(q float64, by, metric string) string {
	return s.quantileOver(recent, q, by, metric, ofCanary)
}

// canaryErrorRatio returns the share of the canary's requests that failed lately.
func (s scope) canaryErrorRatio(by string) string {
	return fmt.Sprintf("%s\n/ (%s > 0)", per("sum", by, "rate("+s.of(requestFailures, ofCanary, notOurOwn)+recent+")"),
		per("sum", by, "rate("+s.of(requests, ofCanary)+recent+")"))
}

// regressions returns how many signals are worse than the baseline; nothing where there is no verdict.
func (s scope) regressions(by string) string {
	on := "on (" + by + ")"
	return fmt.Sprintf("%s\nand %s\n%s > 0", per("sum", by, s.of(regressionDetected)), on,
		per("max", by, s.of(regressionBaseline)))
}

// buckets returns how many observations fell in each bucket: native ones where they are scraped, else classic ones.
func (s scope) buckets(metric string) string {
	return fmt.Sprintf("%s\nor on ()\n%s", per("sum", "", increase(s.of(metric))),
		per("sum", "le", increase(s.of(metric+"_bucket"))))
}

// valid drops the stages whose measurement cannot be trusted, of an expression that has their labels. The throughput
// stage goes too: its latency is that of a queue which we filled ourselves.
func (s scope) valid(metric string) string {
	return fmt.Sprintf("%s\nand on (job, instance, endpoint, model, stage)\n%s == 1",
		s.of(metric, `quantile="0.9"`, `stage!="throughput"`), s.of(stageValid))
}

// best returns the lowest 90th percentile of a signal among the valid stages: what the endpoint does under light load.
func (s scope) best(by, metric string) string { return per("min", by, s.valid(metric)) }

// ofObjective returns the same as a share of the objective; nothing where there is none.
func (s scope) ofObjective(by, metric, signal string) string {
	return notNaN(fmt.Sprintf("(%s) / %s", s.best(by, metric), per("max", by, s.of(objective, `signal="`+signal+`"`))))
}

// canaryOfObjective returns the median of the canary's requests as a share of the objective for the 90th percentile:
// above 1, more than half of them miss what nine of ten should keep.
func (s scope) canaryOfObjective(by, metric, signal string) string {
	on := "on (" + by + ")"
	if by == "" {
		on = "on ()"
	}
	return notNaN(fmt.Sprintf("(%s)\n/ %s %s", s.canary(0.5, by, metric), on,
		per("max", by, s.of(objective, `signal="`+signal+`"`))))
}

// errorRatio returns the share of requests that failed in the last cycle. Stages that ask for more than 90 % of the
// capacity are left out, as in the rules: an endpoint may well refuse what is too much for it.
func (s scope) errorRatio(by string) string {
	beyond := fmt.Sprintf("\nunless on (job, instance, endpoint, model, stage)\n"+
		"%s > on (job, instance, endpoint, model) group_left () (0.9 * %s)", s.of(stageTarget), s.of(capacityRequests))
	failed := s.of(stageFailures, `stage!="throughput"`)
	return notNaN(fmt.Sprintf("%s\n/\n%s", per("sum", by, notNaN(failed)+beyond),
		per("sum", by, notNaN(failed+" + "+s.of(stageSamples))+beyond)))
}

// withinObjectives returns the highest rate that keeps the objectives, where a valid stage can tell.
func (s scope) withinObjectives(by string) string {
	return fmt.Sprintf("%s\nand on (%s)\n%s == 1", s.last(by, objectiveCapacity), by,
		per("max", by, s.of(stageValid)))
}

// usualCapacity is the median capacity of the last seven days. A gauge that lasts from cycle to cycle weighs each by
// its time; NaN, the capacity before the first cycle, would be the lowest value, so that a subquery leaves it out.
func (s scope) usualCapacity(by string) string {
	return per("max", by, fmt.Sprintf("quantile_over_time(0.5, (%s)[7d:10m])", notNaN(s.of(capacityRequests))))
}

// overdue returns how many seconds ago a cycle was due that has not ended since. It may take as long as the one before,
// and wait for others of its group: it is overdue after twice that and an hour.
func (s scope) overdue(by string) string {
	return fmt.Sprintf("time() - (%s > 0)\n> 3600 + 2 * (%s or 0 * %s)", per("max", by, s.of(cycleNextStart)),
		s.last(by, cycleDuration), per("max", by, s.of(cycles)))
}

// silent returns for how many seconds the canary has said nothing, for more than an hour and twice its interval, although
// neither a cycle keeps it from that nor a want of tokens.
func (s scope) silent(by string) string {
	return fmt.Sprintf("time() - (%s > 0)\n> 3600 + 2 * (%s > 0)\nunless %s == 1 unless %s == 0",
		per("max", by, s.of(lastProbe)), per("max", by, s.of(canaryInterval)), per("max", by, s.of(cycleInProgress)),
		per("min", by, s.of(tokensLeft)))
}

// States of an endpoint, the worst one highest.
const (
	stateFine = iota
	stateWaiting
	statePaused
	stateNoTokens
	stateOverdue
	stateUntrusted
	stateWorse
	stateSlow
	stateFailing
	stateDown
	stateNoProber
)

// state returns the state of each endpoint: paused, of which nothing is known, or the worst one that applies. `or`
// keeps the first answer for an endpoint, and 0 × x gives a constant its labels.
func (s scope) state(by string) string {
	code := func(n int, condition string) string { return fmt.Sprintf("%d + 0 * (%s)", n, condition) }
	success := per("max", by, s.of(probeSuccess))
	limit := fmt.Sprintf("(%s > 0 or %.2f + 0 * %s)", per("max", by, s.of(objectiveError)), defaultErrorRatio,
		per("max", by, s.of(cycles)))
	// One request of the canary that fails may be chance.
	twice := per("sum", by, "increase("+s.of(requestFailures, ofCanary, notOurOwn)+recent+")") + " > 1.5"
	chain := []string{
		code(statePaused, per("max", by, s.of(probePaused))+" == 1"),
		code(stateDown, success+" == 0"),
		code(stateFailing, fmt.Sprintf("(%s)\n> %s and %s", s.canaryErrorRatio(by), limit, twice)),
		code(stateFailing, s.errorRatio(by)+"\n> "+limit),
	}
	for _, slow := range []string{
		s.canaryOfObjective(by, timeToFirstToken, signalFirstToken),
		s.canaryOfObjective(by, interTokenLatency, signalInterToken),
		s.ofObjective(by, stageTimeToFirstToken, signalFirstToken),
		s.ofObjective(by, stageInterTokenLatency, signalInterToken),
		s.ofObjective(by, stageRequestDuration, signalDuration),
	} {
		chain = append(chain, code(stateSlow, slow+" > 1"))
	}
	return strings.Join(append(chain,
		code(stateWorse, per("max", by, s.of(regressionDetected))+" == 1"),
		code(stateUntrusted, per("max", by, s.of(stageValid))+" == 0"),
		code(stateOverdue, s.overdue(by)),
		code(stateOverdue, s.silent(by)),
		code(stateNoTokens, per("min", by, s.of(tokensLeft))+" == 0"),
		code(stateFine, success+" == 1"),
		code(stateWaiting, per("max", by, s.of(cycles))),
	), "\nor\n")
}

// defaultErrorRatio is the share of failed requests from which on an endpoint without an objective counts as failing.
const defaultErrorRatio = 0.01
