package sweep

import (
	"maps"
	"time"

	"github.com/inferprobe/inferprobe/internal/load"
	"github.com/inferprobe/inferprobe/internal/probe"
	"github.com/inferprobe/inferprobe/internal/stats"
)

// window is the part of a stage over which rates are taken, as offsets from its start.
type window struct{ from, to time.Duration }

func (w window) seconds() float64 { return (w.to - w.from).Seconds() }

// summarise returns the stage as the report shows it, without its findings.
func (c *collector) summarise(s named, out load.Outcome, settled *settler) probe.Stage {
	c.mu.Lock()
	defer c.mu.Unlock()
	stage := probe.Stage{
		Name: s.name, Profile: s.Profile, TargetRate: s.Rate,
		Started: out.Started, Ended: out.Ended,
		Completed: c.completed, Failed: c.failed, Incomplete: c.incomplete,
		Failures: maps.Clone(c.failures), FailureDetails: maps.Clone(c.details),
		Retries:                c.retries,
		IncompleteOutputTokens: c.incompleteTokens,
		PromptTokens:           distribution(&c.promptTokens),
		OutputTokens:           distribution(&c.outputTokens),
		RequestDuration:        distribution(&c.duration),
		TimeToFirstToken:       distribution(&c.ttft),
		TimeToFirstAnswerToken: distribution(&c.ttfa),
		InterTokenLatency:      distribution(&c.itl),
		TimePerOutputToken:     distribution(&c.tpot),
		StreamStall:            distribution(&c.stall),
		ScheduleDelay:          distribution(&c.delay),
		ReceiveLag:             distribution(&c.lag),
		ServerPromptTokens:     distribution(&c.serverPrompt),
		CachedTokens:           c.cached,
		TokensByEvents:         c.byEvents,
	}
	w := c.window(s, out, settled)
	stage.WindowStart, stage.WindowEnd = w.from, w.to
	if w.to > w.from {
		stage.InFlight = c.line.inFlight(w.from, w.to)
		stage.OutputTokensPerSecond = c.line.tokens(w.from, w.to) / w.seconds()
		stage.RequestsPerSecond = c.requestRate(s, w, stage.OutputTokensPerSecond)
	}
	return stage
}

// window chooses the measured part of a stage: for the throughput stage the settled windows, or its second half; for an
// open loop the time from the first completion, when the requests in flight have reached their steady number, to the
// last send or the end; for the synchronous stage first send to last completion.
func (c *collector) window(s named, out load.Outcome, settled *settler) window {
	length := out.Ended.Sub(out.Started)
	switch {
	case !c.done:
		return window{}
	case s.Profile == probe.ProfileSynchronous:
		return window{c.firstSent, c.lastDone}
	case settled != nil && settled.settled:
		return window{settled.window[0], settled.window[1]}
	}
	end := min(length, s.MaxDuration)
	if out.Ending == load.EndedByRequests {
		end = c.lastSent
	}
	w := window{c.firstDone, end}
	if s.Profile == probe.ProfileThroughput && out.Ending != load.EndedByRequests {
		w.from = max(w.from, end/2)
	}
	if w.to-w.from < 5*binWidth { // few requests: no steady part to speak of
		return window{c.firstSent, c.lastDone}
	}
	return w
}

// requestRate returns requests per second over the window: the token rate in units of a mean answer. Tokens arrive all
// the time, completions in waves, so that this is steady where a count of completions is not.
func (c *collector) requestRate(s named, w window, tokenRate float64) float64 {
	tokens := c.outputTokens.Mean()
	if s.Profile == probe.ProfileSynchronous || tokens == 0 {
		return float64(c.completed) / w.seconds()
	}
	return tokenRate / tokens
}

func distribution(s *stats.Sample) probe.Distribution {
	if s.Count() == 0 {
		return probe.Distribution{}
	}
	return probe.Distribution{
		Count: int(s.Count()), Mean: s.Mean(), Min: s.Min(), Max: s.Max(),
		P01: s.Quantile(0.01), P05: s.Quantile(0.05), P10: s.Quantile(0.10), P25: s.Quantile(0.25), P50: s.Quantile(0.50),
		P75: s.Quantile(0.75), P90: s.Quantile(0.90), P95: s.Quantile(0.95), P99: s.Quantile(0.99),
	}
}
