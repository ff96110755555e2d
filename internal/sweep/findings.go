package sweep

import (
	"fmt"
	"math"
	"time"

	"github.com/inferprobe/inferprobe/internal/probe"
)

// Limits of the verdict on a stage's validity. Each compares our own trouble with what is measured.
const (
	delayShare     = 0.05 // of the median request: how late requests may leave (p99)
	delayFloor     = 5 * time.Millisecond
	lagShare       = 0.05 // of the median TTFT: how late answers may be seen (p99), unless gaps are longer
	throttledShare = 0.01 // of the stage, that the cgroup may have stopped us
	lengthShare    = 0.02 // of the output tokens asked for, that may be missing or too many
	overheadMost   = 512  // prompt tokens a chat template may add
	overheadSpread = 4    // by how many tokens that addition may differ between requests
	cachedShare    = 0.10 // of the prompt tokens, that a prefix cache may have served
	littleShare    = 0.15 // between requests in flight and rate × latency
	eventsShare    = 0.05 // tokens beyond one an event, before gaps are called gaps of events
)

// measurement is what is known about a stage's measurement beside its results.
type measurement struct {
	settled   *settler      // of a throughput stage
	throttled time.Duration // by the CPU quota, during the stage
	verify    error         // of a sample of the prompts sent, by a full encode
	forced    bool          // the server was told to produce exactly the length asked for
}

// judge returns what a reader must know about the measurement of stage.
func (c *collector) judge(s *probe.Stage, m measurement) []probe.Finding {
	c.mu.Lock()
	defer c.mu.Unlock()
	j := &judgement{stage: s}
	j.samples()
	j.scheduleDelay()
	j.receiveLag()
	if limit := throttledShare * s.Ended.Sub(s.Started).Seconds(); m.throttled.Seconds() > limit {
		j.invalid(probe.FindingCPUThrottled, "the CPU quota stopped this process for %s of %s",
			round(m.throttled), round(s.Ended.Sub(s.Started)))
	}
	if n := s.Failures[probe.ReasonClientOverload]; n > 0 {
		j.invalid(probe.FindingClientOverload, "%d requests were not sent: the in-flight limit was reached", n)
	}
	if m.settled != nil {
		j.settled(c, m.settled)
	}
	j.prompts(c, m.verify)
	j.outputs(c, m.forced)
	return j.findings
}

type judgement struct {
	stage    *probe.Stage
	findings []probe.Finding
}

func (j *judgement) invalid(name probe.FindingName, format string, args ...any) {
	j.findings = append(j.findings, probe.Finding{Name: name, Detail: fmt.Sprintf(format, args...), Invalidates: true})
}

func (j *judgement) note(name probe.FindingName, format string, args ...any) {
	j.findings = append(j.findings, probe.Finding{Name: name, Detail: fmt.Sprintf(format, args...)})
}

func (j *judgement) samples() {
	if need := probe.MinSamples(0.90); j.stage.Completed < need {
		j.invalid(probe.FindingTooFewSamples, "%d completed requests; a 90th percentile needs %d", j.stage.Completed, need)
	}
}

func (j *judgement) scheduleDelay() {
	d := j.stage.ScheduleDelay
	if d.Count == 0 {
		return
	}
	if limit := max(delayFloor.Seconds(), delayShare*j.stage.RequestDuration.P50); d.P99 > limit {
		j.invalid(probe.FindingScheduleDelay, "requests left up to %s late (p99), more than %s", ms(d.P99), ms(limit))
	}
}

// receiveLag compares how late this process saw answers with what it measures: a lag below the gap between tokens, or
// below a twentieth of the time to the first one, leaves the kernel's times what they are.
func (j *judgement) receiveLag() {
	lag := j.stage.ReceiveLag
	if lag.Count == 0 || j.stage.TimeToFirstToken.Count == 0 {
		return
	}
	limit := max(lagShare*j.stage.TimeToFirstToken.P50, j.stage.TimePerOutputToken.P50)
	if lag.P99 > limit {
		j.invalid(probe.FindingReceiveLag, "answers were read up to %s late (p99), more than %s", ms(lag.P99), ms(limit))
	}
}

// settled checks the throughput stage: that its rate came to rest, and Little's law over the window.
func (j *judgement) settled(c *collector, s *settler) {
	if !s.settled {
		j.invalid(probe.FindingNotSettled, "the rate did not settle within %s", round(j.stage.Ended.Sub(j.stage.Started)))
		return
	}
	from, to := j.stage.WindowStart, j.stage.WindowEnd
	completed, latency := c.line.latency(from, to)
	expected := float64(completed) / (to - from).Seconds() * latency
	if math.Abs(j.stage.InFlight-expected) > littleShare*j.stage.InFlight {
		j.note(probe.FindingNotSettled, "%.1f requests in flight, but rate × latency is %.1f (Little's law)",
			j.stage.InFlight, expected)
	}
}

func (j *judgement) prompts(c *collector, verify error) {
	if verify != nil {
		j.invalid(probe.FindingTokenMismatch, "a prompt sent is not as long as asked for: %v", verify)
	}
	if c.serverPrompt.Count() > 0 {
		least, most := c.overhead.least, c.overhead.most
		if least < 0 || most > overheadMost || most-least > overheadSpread {
			j.invalid(probe.FindingTokenMismatch,
				"the server counted %+d to %+d tokens against the tokenizer's %.0f; is it the model's?",
				least, most, c.promptTokens.Mean())
		}
		if share := float64(c.cached) / (c.serverPrompt.Mean() * float64(c.serverPrompt.Count())); share > cachedShare {
			j.invalid(probe.FindingCachedPrompts, "the server took %.0f %% of the prompt tokens from its cache", 100*share)
		}
	}
}

// outputs compares the answers' lengths with those asked for. Where the protocol has no way to force a length, as with
// hosted APIs, a difference is told but does not invalidate the stage.
func (j *judgement) outputs(c *collector, forced bool) {
	if c.completed == 0 {
		return
	}
	got := c.outputTokens.Mean() * float64(c.completed)
	if off := got/float64(c.asked) - 1; math.Abs(off) > lengthShare {
		tell := j.note
		if forced {
			tell = j.invalid
		}
		tell(probe.FindingOutputLength, "%.1f output tokens a request where %.1f were asked for",
			c.outputTokens.Mean(), float64(c.asked)/float64(c.completed))
	}
	if c.byEvents > 0 {
		j.note(probe.FindingNoServerUsage, "no usage in %d of %d answers: output tokens are counted by events",
			c.byEvents, c.completed)
	}
	if float64(c.eventedTokens) > (1+eventsShare)*float64(c.tokenEvents) {
		j.note(probe.FindingTokensPerEvent, "%.1f tokens an event, not counted by the server: gaps are between events",
			float64(c.eventedTokens)/float64(c.tokenEvents))
	}
}

// ms formats seconds as milliseconds.
func ms(seconds float64) string { return fmt.Sprintf("%.1f ms", 1000*seconds) }

func round(d time.Duration) time.Duration { return d.Round(time.Millisecond) }
