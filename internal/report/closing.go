package report

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/inferprobe/inferprobe/internal/probe"
)

// A section of the closing block: a title over rows of a key and what there is to say about it.
type section struct {
	title string
	rows  []row
}

type row struct{ key, text string }

func (s *section) add(key, format string, args ...any) {
	s.rows = append(s.rows, row{key, fmt.Sprintf(format, args...)})
}

// columns draws the section with its texts below each other. A key that repeats the one above is left out.
func (s *section) columns(width int) []string {
	var widest int
	for _, r := range s.rows {
		widest = max(widest, displayWidth(r.key))
	}
	widest = min(widest, width/3)
	lines := wrap(s.title, width)
	last := ""
	for _, r := range s.rows {
		keys, texts := wrap(r.key, widest), wrap(r.text, width-widest-4)
		if r.key == last {
			keys = nil
		}
		last = r.key
		for i := range max(len(keys), len(texts)) {
			var key, text string
			if i < len(keys) {
				key = keys[i]
			}
			if i < len(texts) {
				text = texts[i]
			}
			lines = append(lines, "  "+pad(key, widest)+"  "+text)
		}
	}
	return lines
}

// list draws the section for a narrow terminal.
func (s *section) list(width int) []string {
	lines := wrap(s.title, width)
	for _, r := range s.rows {
		lines = append(lines, indent(r.key+": "+r.text, "  ", width)...)
	}
	return lines
}

// closing returns the sections that have something to say. The stages are in the order of the tables.
func closing(c *probe.Cycle, stages []probe.Stage) []section {
	invalid, notes := findings(stages)
	all := []section{summary(c, stages), answers(stages), regression(c.Regression), invalid, notes, failures(stages),
		skipped(c)}
	return slices.DeleteFunc(all, func(s section) bool { return len(s.rows) == 0 })
}

func summary(c *probe.Cycle, stages []probe.Stage) section {
	s := section{title: "Summary"}
	s.add("Cycle", "%s", ending(c))
	switch {
	case c.Capacity.RequestsPerSecond > 0:
		s.add("Capacity", "%s req/sec%s, %s tokens/sec%s", fixed(c.Capacity.RequestsPerSecond, 2),
			interval(c.Capacity.RequestsInterval), fixed(c.Capacity.OutputTokensPerSecond, 2), mark(stages))
	case c.Profile == probe.ProfileSweep || c.Profile == probe.ProfileThroughput:
		s.add("Capacity", "not measured")
	}
	if !c.Objectives.IsZero() && len(stages) > 0 {
		s.add("Objectives", "%s", withinObjectives(c))
	}
	if len(stages) > 0 {
		s.add("Validity", "%s", validity(stages))
	}
	if text := ownDelays(stages); text != "" {
		s.add("Own delays", "%s", text)
	}
	if n := c.Workload.SharedPrefixTokens; n > 0 && len(stages) > 0 {
		s.add("Prefix cache", "the first %s of every prompt are the same; %s", count(n, "token"), fromCache(stages))
	}
	if text := connections(stages); text != "" {
		s.add("Connections", "%s", text)
	}
	var retries int
	for i := range stages {
		retries += stages[i].Retries
	}
	if retries > 0 {
		s.add("Repeated sends", "%d, on a fresh connection because the server had closed a kept one", retries)
	}
	return s
}

// ownDelays says by how much this process sent and read late in the stages where it did most; "" if it did neither.
func ownDelays(stages []probe.Stage) string {
	var parts []string
	for _, delay := range []struct {
		name string
		of   func(s *probe.Stage) *probe.Distribution
	}{
		{"sent", func(s *probe.Stage) *probe.Distribution { return &s.ScheduleDelay }},
		{"read", func(s *probe.Stage) *probe.Distribution { return &s.ReceiveLag }},
	} {
		worst := -1
		for i := range stages {
			if d := delay.of(&stages[i]); d.Count > 0 && (worst < 0 || d.P99 > delay.of(&stages[worst]).P99) {
				worst = i
			}
		}
		if worst >= 0 {
			parts = append(parts, fmt.Sprintf("%s up to %s ms late (p99, %s)", delay.name,
				fixed(1000*delay.of(&stages[worst]).P99, 2), labels(stages)[worst]))
		}
	}
	return strings.Join(parts, ", ")
}

// answers returns the times to the first answer token of stages in which these are not those to the first token: the
// model reasons.
func answers(stages []probe.Stage) section {
	quantiles := []quantile{timeQuantiles()[3], timeQuantiles()[4], timeQuantiles()[6]}
	s := section{title: "Time to First Answer Token, past the Reasoning [" + names(quantiles) + "] (ms)"}
	for i, label := range labels(stages) {
		first, answer := &stages[i].TimeToFirstToken, &stages[i].TimeToFirstAnswerToken
		if *first == *answer {
			continue
		}
		text := percentiles(answer, stages[i].Completed, quantiles, 1000, 1)
		if none := first.Count - answer.Count; none > 0 {
			text += fmt.Sprintf("; %d of %s ended within their reasoning", none, count(first.Count, "request"))
		}
		s.add(label, "%s", text)
	}
	return s
}

// connections says what the connections took that requests had to open; "" if there were none. Of all stages together
// only mean and maximum are known.
func connections(stages []probe.Stage) string {
	var opened int
	for i := range stages {
		opened += stages[i].NewConnections
	}
	var parts []string
	for _, phase := range []struct {
		name string
		of   func(s *probe.Stage) *probe.Distribution
	}{
		{"DNS", func(s *probe.Stage) *probe.Distribution { return &s.DNS }},
		{"connect", func(s *probe.Stage) *probe.Distribution { return &s.Connect }},
		{"TLS", func(s *probe.Stage) *probe.Distribution { return &s.TLS }},
	} {
		var count, sum, most float64
		for i := range stages {
			if d := phase.of(&stages[i]); d.Count > 0 {
				count, sum, most = count+float64(d.Count), sum+float64(d.Count)*d.Mean, max(most, d.Max)
			}
		}
		if count > 0 {
			parts = append(parts, fmt.Sprintf("%s %s (%s) ms", phase.name, fixed(1000*sum/count, 2), fixed(1000*most, 2)))
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return fmt.Sprintf("%d new, mean (max): %s; not part of any latency", opened, strings.Join(parts, ", "))
}

// fromCache says what part of the prompts the server did not have to work on, as far as it tells.
func fromCache(stages []probe.Stage) string {
	var cached, all float64
	for i := range stages {
		s := &stages[i]
		cached += float64(s.CachedTokens)
		all += float64(s.ServerPromptTokens.Count) * s.ServerPromptTokens.Mean
	}
	if cached == 0 || all == 0 {
		return "the server reported none from its cache"
	}
	return fmt.Sprintf("the server took %s %% of all prompt tokens from its cache", fixed(100*cached/all, 1))
}

// mark says so where the capacity is not to be relied on.
func mark(stages []probe.Stage) string {
	for i := range stages {
		s := &stages[i]
		if s.Profile != probe.ProfileThroughput {
			continue
		}
		switch {
		case slices.Contains(invalidReasons(s), string(probe.FindingNotSettled)):
			return " (not settled)"
		case !s.Valid():
			return " (not valid)"
		}
	}
	return ""
}

// withinObjectives says up to which rate the objectives are met, as far as that could be judged.
func withinObjectives(c *probe.Cycle) string {
	ofRate := func(s probe.Stage) bool { return s.Profile != probe.ProfileThroughput }
	switch rate := c.Capacity.ObjectiveRequestsPerSecond; {
	case rate > 0:
		return fmt.Sprintf("met up to %s req/sec%s", fixed(rate, 2), share(c.Capacity))
	case c.ObjectivesJudged():
		return "met at no rate"
	case !slices.ContainsFunc(c.Stages, ofRate):
		return "could not be judged: no benchmark has a rate of its own"
	}
	return "could not be judged: no benchmark that has a rate of its own can tell"
}

// interval says where a rate lies with 95 % confidence, if that is known.
func interval(i probe.Interval) string {
	if i.IsZero() {
		return ""
	}
	return fmt.Sprintf(" (95 %% interval %s to %s)", fixed(i.Low, 2), fixed(i.High, 2))
}

// share says how much of the capacity can be used within the objectives, if that is known.
func share(c probe.Capacity) string {
	part, ok := c.ObjectiveShare()
	if !ok {
		return ""
	}
	return fmt.Sprintf(", %s %% of the capacity", fixed(100*part, 0))
}

// regression says what has changed against the baseline.
func regression(r *probe.Regression) section {
	var s section
	if r == nil {
		return s
	}
	s.title = "Against the Baseline"
	if b := &r.Baseline; len(b.Cycles) > 0 {
		s.title += fmt.Sprintf(" of %s from %s to %s", count(len(b.Cycles), "cycle"), minute(b.From), minute(b.To))
	}
	var detected, alone []string
	for _, c := range r.Changes {
		s.add(signalInWords(c.Signal), "%s (p %s, %s against %d)", change(c.Ratio), pValue(c.PValue),
			samples(c), c.BaselineSamples)
		switch {
		case c.Detected:
			detected = append(detected, signalInWords(c.Signal))
		case c.Worse:
			alone = append(alone, signalInWords(c.Signal))
		}
	}
	if len(detected) > 0 {
		s.add("Regression", "worse in two cycles in a row: %s", strings.Join(detected, ", "))
	}
	if len(alone) > 0 {
		s.add("Worse", "in this cycle, but not in the one before: %s", strings.Join(alone, ", "))
	}
	if len(r.Changes) > 0 && len(detected)+len(alone) == 0 {
		s.add("Regression", "none")
	}
	if note := clean(r.Note); note != "" {
		s.add("Note", "%s", note)
	}
	return s
}

func minute(t time.Time) string { return t.Local().Format("2006-01-02 15:04") }

func signalInWords(signal probe.Signal) string {
	switch signal {
	case probe.SignalTimeToFirstToken:
		return "Time to first token"
	case probe.SignalTimePerOutputToken:
		return "Time per output token"
	case probe.SignalRequestDuration:
		return "Request latency"
	case probe.SignalCapacity:
		return "Capacity"
	}
	return clean(string(signal))
}

// change writes a ratio as a change with its sign.
func change(ratio float64) string {
	if math.IsNaN(ratio) || math.IsInf(ratio, 0) {
		return nothing
	}
	return fmt.Sprintf("%+.1f %%", 100*(ratio-1))
}

// pValue has as many digits as mean something.
func pValue(p float64) string {
	if p < 0.001 {
		return "< 0.001"
	}
	return fixed(p, 3)
}

// samples says what was held against the baseline.
func samples(c probe.Change) string {
	if c.Signal == probe.SignalCapacity {
		return count(c.Samples, "cycle")
	}
	return count(c.Samples, "request")
}

// ending says how the cycle ended.
func ending(c *probe.Cycle) string {
	text := count(len(c.Stages), "benchmark")
	if n := len(c.Skipped); n > 0 {
		text += fmt.Sprintf(" (%d skipped)", n)
	}
	if !c.Started.IsZero() && !c.Ended.IsZero() {
		text += " in " + c.Ended.Sub(c.Started).Round(time.Second).String()
	}
	switch f := c.Failure; {
	case f == nil:
		return "complete, " + text
	case f.Reason == probe.CycleInterrupted:
		return withDetail("interrupted after "+text, f.Detail)
	default:
		return withDetail("failed after "+text, clean(f.Reason), f.Detail)
	}
}

func validity(stages []probe.Stage) string {
	var valid int
	for i := range stages {
		if stages[i].Valid() {
			valid++
		}
	}
	switch {
	case valid == len(stages) && valid == 1:
		return "the benchmark is valid"
	case valid == len(stages):
		return fmt.Sprintf("all %d benchmarks are valid", valid)
	}
	if len(stages) == 1 {
		return "the benchmark is not valid; do not rely on it"
	}
	return fmt.Sprintf("%d of %d benchmarks valid; do not rely on the others", valid, len(stages))
}

// findings returns what makes stages invalid, and what else a reader must know of them.
func findings(stages []probe.Stage) (invalid, notes section) {
	invalid.title, notes.title = "Invalid Benchmarks", "Notes"
	for i, label := range labels(stages) {
		if name := clean(stages[i].Name); name != "" && name != label {
			label = name + ", " + label
		}
		for _, f := range stages[i].Findings {
			text := withDetail(inWords(f.Name), f.Detail)
			if f.Invalidates {
				invalid.add(label, "%s", text)
			} else {
				notes.add(label, "%s", text)
			}
		}
	}
	return invalid, notes
}

func inWords(name probe.FindingName) string {
	switch name {
	case probe.FindingScheduleDelay:
		return "requests left late"
	case probe.FindingReceiveLag:
		return "answers were seen late"
	case probe.FindingCPUThrottled:
		return "the prober's CPU was throttled"
	case probe.FindingTokenMismatch:
		return "prompts are not as long as the tokenizer says"
	case probe.FindingTooFewSamples:
		return "too few requests"
	case probe.FindingOutputLength:
		return "outputs are not as long as was asked for"
	case probe.FindingClientOverload:
		return "the prober's limit on requests in flight was reached"
	case probe.FindingNotSettled:
		return "the rate had not settled"
	case probe.FindingCachedPrompts:
		return "prompts came from the server's prefix cache"
	case probe.FindingNoServerUsage:
		return "the server did not count its output tokens"
	case probe.FindingTokensPerEvent:
		return "several tokens came in one event"
	case probe.FindingEndedByGuard:
		return "a guard ended the stage"
	case probe.FindingCarryOver:
		return "the endpoint was still busy with the stage before"
	case probe.FindingCensored:
		return "percentiles leave out requests that would have taken longer"
	case probe.FindingForeignLoad:
		return "requests of other users were there, too"
	}
	return clean(string(name))
}

// failures returns the failed requests of all stages by reason, the most frequent first, with an example of each.
func failures(stages []probe.Stage) section {
	counts, examples := map[probe.Reason]int{}, map[probe.Reason]string{}
	for i := range stages {
		for reason, n := range stages[i].Failures {
			counts[reason] += n
			examples[reason] = cmp.Or(examples[reason], stages[i].FailureDetails[reason])
		}
	}
	var reasons []probe.Reason
	for reason, n := range counts {
		if n > 0 {
			reasons = append(reasons, reason)
		}
	}
	slices.SortFunc(reasons, func(a, b probe.Reason) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b))
	})
	s := section{title: "Failed Requests"}
	for _, reason := range reasons {
		s.add(clean(string(reason)), "%s", withDetail(count(counts[reason], "request"), examples[reason]))
	}
	return s
}

func skipped(c *probe.Cycle) section {
	s := section{title: "Skipped Benchmarks"}
	for _, skip := range c.Skipped {
		s.add(clean(skip.Stage), "%s", withDetail(clean(skip.Reason), skip.Detail))
	}
	return s
}

// withDetail joins what is said with the details behind it.
func withDetail(text string, details ...string) string {
	for _, detail := range details {
		if detail = clean(detail); detail != "" {
			text = strings.TrimPrefix(text+": "+detail, ": ")
		}
	}
	return text
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
