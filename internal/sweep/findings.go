package sweep

import (
	"fmt"
	"math"
	"time"

	"github.com/inferprobe/inferprobe/internal/probe"
)

// Limits of the verdict on a stage's validity: none of its quantiles may be off by more than 5 %. Each compares our own
// trouble with what is measured; docs/validity.md tells operators.
const (
	ownShare       = 0.05             // of the median TTFT: how late requests may leave or first tokens seem to come (p99)
	delayFloor     = time.Millisecond // how late requests may leave in any case: twice what a quiet machine needs
	gapShare       = 0.25             // … or of the gap between two sends: so long before they bunch
	firstShare     = 0.01             // of the first tokens, that may have been read together with others because they were late
	mergedShare    = 0.10             // of the reads, that may have held several tokens because they were late
	stallShare     = 0.05             // by which the bounds of the longest gaps (p99) may differ before a note tells it
	throttledShare = 0.01             // of the stage, that the cgroup may have stopped us
	lengthShare    = 0.02             // of the output tokens asked for, that may be missing or too many
	leastLow       = 0.01             // of the mean duration, that must be missing before a note on lengths tells it
	overheadShare  = 0.01             // of the prompt: by how much what the server adds to it may differ …
	overheadLeast  = 4                // … or by so many tokens
	cachedShare    = 0.05             // of the prompts' tokens, that a prefix cache may have served
	servedShare    = 0.05             // of the requests sent in an open loop, that may be served beyond them
	littleShare    = 0.15             // between requests in flight and rate × latency
	littleFailures = 0.05             // of the requests: with more, rate × latency means nothing
	eventsShare    = 0.05             // tokens beyond one an event, before gaps are called gaps of events
	noUsageShare   = 0.05             // of the answers, that may lack usage: the end of a stage cuts off some
)

// measurement is what is known about a stage's measurement beside its results.
type measurement struct {
	settled   *settler      // of a throughput stage
	throttled time.Duration // by the CPU quota, during the stage
	guard     string        // the guard that ended the stage, with its numbers; "" if none did
	verify    error         // of a sample of the prompts sent, by a full encode
	overhead  spread        // what the server added to prompts of different lengths before the stage
	forced    bool          // the server was told to produce exactly the length asked for
}

// judge returns what a reader must know about the measurement of stage, which is over.
func (c *collector) judge(s *probe.Stage, m measurement) []probe.Finding {
	j := &judgement{collector: c, stage: s, lasted: s.Ended.Sub(s.Started)}
	j.samples()
	j.censored()
	j.scheduleDelay()
	j.receiveLag()
	j.throttling(m.throttled)
	j.overload()
	if m.settled != nil {
		j.settled(m.settled)
	}
	j.workedOff()
	if m.guard != "" {
		j.note(probe.FindingEndedByGuard, "after %s: %s", round(j.lasted), m.guard)
	}
	j.promptLengths(m.verify, m.overhead)
	j.cachedPrompts()
	j.outputLengths(m.forced)
	j.tokenCounts()
	return j.findings
}

type judgement struct {
	*collector
	stage    *probe.Stage
	lasted   time.Duration
	findings []probe.Finding
}

func (j *judgement) invalid(name probe.FindingName, format string, args ...any) {
	j.findings = append(j.findings, probe.Finding{Name: name, Detail: fmt.Sprintf(format, args...), Invalidates: true})
}

func (j *judgement) note(name probe.FindingName, format string, args ...any) {
	j.findings = append(j.findings, probe.Finding{Name: name, Detail: fmt.Sprintf(format, args...)})
}

func (j *judgement) samples() {
	if need := probe.MinSamples(0.90); j.completed < need {
		j.invalid(probe.FindingTooFewSamples, "%d completed requests; a 90th percentile needs %d", j.completed, need)
	}
}

// scheduleDelay looks at how late requests left. Latencies count from the send and hold none of it, but requests that
// leave together by mistake wait for each other at the endpoint, for up to as long. They keep apart while they are late
// by little of the gap between them.
func (j *judgement) scheduleDelay() {
	limit := delayFloor.Seconds()
	if j.stage.TargetRate > 0 {
		limit = max(limit, gapShare/j.stage.TargetRate)
	}
	if j.ttft.Count() > 0 {
		limit = max(limit, ownShare*j.ttft.Quantile(0.5))
	}
	if late := j.delay.Quantile(0.99); late > limit {
		j.invalid(probe.FindingScheduleDelay, "requests left up to %s late (p99), more than %s", ms(late), ms(limit))
	}
}

// receiveLag looks at what late reads have done to the times of tokens.
func (j *judgement) receiveLag() {
	if j.ttft.Count() == 0 {
		return
	}
	late, limit := j.firstError.Quantile(0.99), ownShare*j.ttft.Quantile(0.5)
	if late > limit && j.firstReads.merged() > firstShare {
		j.invalid(probe.FindingReceiveLag, "first tokens were read late, together with later ones: their times are off by "+
			"up to %s (p99), more than %s", ms(late), ms(limit))
	}
	if merged := j.reads.merged(); merged > mergedShare {
		j.invalid(probe.FindingReceiveLag, "%.0f %% of the reads were so late that they held several tokens, whose gaps are "+
			"not known", 100*merged)
		return
	}
	if bounds := j.stage.StreamStallP99; !bounds.IsZero() {
		j.note(probe.FindingReceiveLag, "tokens behind the longest gaps were read together, and may have been read late: the "+
			"p99 of the stalls is known only to be from %s to %s", ms(bounds.Low), ms(bounds.High))
	}
}

func (j *judgement) throttling(throttled time.Duration) {
	if throttled.Seconds() > throttledShare*j.lasted.Seconds() {
		j.invalid(probe.FindingCPUThrottled, "the CPU quota stopped this process for %s of %s, all cores taken together",
			round(throttled), round(j.lasted))
	}
}

func (j *judgement) overload() {
	if n := j.failures[probe.ReasonClientOverload]; n > 0 {
		j.invalid(probe.FindingClientOverload, "%d requests were not sent: the in-flight limit was reached", n)
	}
}

// settled checks the throughput stage: that its rate came to rest, and Little's law over the window, which also holds
// the latencies against the rate.
func (j *judgement) settled(s *settler) {
	if !s.settled {
		j.invalid(probe.FindingNotSettled, "%s", s.unsettled(j.lasted))
		return
	}
	completed, latency := j.line.latency(j.stage.WindowStart, j.stage.WindowEnd)
	if completed == 0 || float64(j.failed) > littleFailures*float64(j.completed) {
		return
	}
	expected := j.stage.RequestsPerSecond * latency
	if math.Abs(j.stage.InFlight-expected) > littleShare*j.stage.InFlight {
		j.note(probe.FindingNotSettled, "the rate has settled but latencies have not: %.1f requests in flight, where rate × "+
			"latency is %.1f (Little's law)", j.stage.InFlight, expected)
	}
}

// workedOff looks for an open loop whose window served more than was sent in it: it worked off what had piled up before,
// of which its latencies hold the time in a queue that its rate does not make. By chance as many requests leave a window
// as enter it but for the square root of them, as with requests that pile up: see saturation.
func (j *judgement) workedOff() {
	window := j.stage.WindowEnd - j.stage.WindowStart
	sent, chance := j.stage.TargetRate*window.Seconds(), float64(chanceConstant)
	if j.stage.Profile == probe.ProfilePoisson {
		chance = chancePoisson
	}
	excess := j.stage.RequestsPerSecond*window.Seconds() - sent
	if sent > 0 && j.completed >= probe.MinSamples(0.90) && excess > max(servedShare*sent, chance*math.Sqrt(sent)) {
		j.invalid(probe.FindingNotSettled, "%.2f requests/s were served where %.2f were sent: requests from before the "+
			"measured window had piled up and were worked off in it", j.stage.RequestsPerSecond, j.stage.TargetRate)
	}
}

// promptLengths compares prompt lengths by the server's count and by the tokenizer. A chat template adds the same to
// every prompt; a tokenizer that is not the model's is off by more for longer prompts, or by chance.
func (j *judgement) promptLengths(verify error, before spread) {
	if verify != nil {
		j.invalid(probe.FindingTokenMismatch, "a prompt sent is not as long as asked for: %v", verify)
	}
	if j.prompts.overhead.count == 0 {
		return
	}
	over := j.prompts.overhead
	if before.count > 0 {
		over.add(before.least)
		over.add(before.most)
	}
	limit := max(overheadLeast, int(overheadShare*j.promptTokens.Mean()))
	if over.least < -limit || over.most-over.least > limit {
		j.invalid(probe.FindingTokenMismatch, "the server counts %+d to %+d tokens on top of the tokenizer's; a chat "+
			"template adds the same to every prompt: this is not the model's tokenizer", over.least, over.most)
	}
}

func (j *judgement) cachedPrompts() {
	if cached, all := j.prompts.cached, j.prompts.counted; float64(cached) > cachedShare*float64(all) {
		j.invalid(probe.FindingCachedPrompts, "the server took %.0f %% of the prompts' tokens from its cache",
			100*float64(cached)/float64(all))
	}
}

// outputLengths compares the answers' lengths with those asked for. Where the protocol has no way to force a length, as
// with hosted APIs, a difference is told but does not invalidate the stage.
func (j *judgement) outputLengths(forced bool) {
	o := &j.outputs.byServer
	if float64(o.off) <= lengthShare*float64(o.asked) {
		return
	}
	tell, latencies := j.note, j.cutOff()
	if forced {
		tell, latencies = j.invalid, ""
	}
	n := float64(o.answers)
	tell(probe.FindingOutputLength, "%.1f output tokens a request where %.1f were asked for, %.1f too few or too many%s",
		float64(o.got)/n, float64(o.asked)/n, float64(o.off)/n, latencies)
}

// cutOff says what the lack of requests that the end of the stage cut off does to durations, "" if hardly anything.
func (j *judgement) cutOff() string {
	mean, all := j.duration.Mean(), j.durations().Mean()
	if low := 1 - mean/all; low >= leastLow {
		return fmt.Sprintf("; the end of the stage cuts off the longer ones: requests take %s on average, those that completed "+
			"%.0f %% less", ms(all), 100*low)
	}
	return ""
}

func (j *judgement) tokenCounts() {
	if o := &j.outputs.byUs; float64(o.answers) > noUsageShare*float64(j.completed) {
		n, by := float64(o.answers), "the tokenizer"
		switch events := j.outputs.byEvents; {
		case events == o.answers:
			by = "events"
		case events > 0:
			by = fmt.Sprintf("the tokenizer, in %d answers by events", events)
		}
		j.note(probe.FindingNoServerUsage, "no usage in %d of %d answers: output tokens are counted by %s, %.1f a "+
			"request where %.1f tokens were asked for", o.answers, j.completed, by, float64(o.got)/n, float64(o.asked)/n)
	}
	if tokens, events := float64(j.outputs.eventTokens), float64(j.outputs.events); tokens > (1+eventsShare)*events {
		j.note(probe.FindingTokensPerEvent, "%.1f tokens an event, not counted by the server: gaps are between events",
			tokens/events)
	}
}

// ms formats seconds as milliseconds.
func ms(seconds float64) string { return fmt.Sprintf("%.1f ms", 1000*seconds) }

func round(d time.Duration) time.Duration { return d.Round(time.Millisecond) }
