package sweep

import (
	"maps"
	"math"
	"time"

	"github.com/inferprobe/inferprobe/internal/load"
	"github.com/inferprobe/inferprobe/internal/probe"
	"github.com/inferprobe/inferprobe/internal/stats"
)

// window is the part of a stage over which rates are taken, as offsets from its start.
type window struct{ from, to time.Duration }

func (w window) length() time.Duration { return w.to - w.from }

// shortestWindow is what a window must at least be to be called steady.
const shortestWindow = 5 * binWidth

// summarise returns the stage as the report shows it, without its findings. It is called once the stage is over.
func (c *collector) summarise(s named, out load.Outcome, settled *settler) probe.Stage {
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
		StreamStallP99:         c.stallP99(),
		TimeToFirstTokenExcess: c.slowFirst.result(), InterTokenLatencyExcess: c.slowGaps.result(),
		RequestDurationExcess: c.slow.result(),
		ScheduleDelay:         distribution(&c.delay),
		ReceiveLag:            distribution(&c.lag),
		NewConnections:        c.connections,
		DNS:                   distribution(&c.dns),
		Connect:               distribution(&c.connect),
		TLS:                   distribution(&c.tls),
		ServerPromptTokens:    distribution(&c.serverPrompt),
		CachedTokens:          c.prompts.reported,
		TokensByTokenizer:     c.outputs.byUs.answers - c.outputs.byEvents,
		TokensByEvents:        c.outputs.byEvents,
	}
	w := c.window(s, out, settled)
	stage.WindowStart, stage.WindowEnd = w.from, w.to
	if w.length() > 0 {
		stage.InFlight = c.line.inFlight(w.from, w.to)
		stage.RequestsPerSecond, stage.OutputTokensPerSecond = c.rates(w)
	}
	if settled != nil && settled.settled {
		stage.RequestsInterval = c.rateInterval(w, settled.rampOver())
	}
	if s.Profile == probe.ProfileSynchronous {
		stage.Requests = c.requests.inOrder()
	}
	return stage
}

// window chooses the measured part of a stage, where the endpoint is as busy as the stage makes it: for one request
// after another, from the first send to the last completion; for a throughput stage the windows over which its rate
// settled, else the second half; for an open loop from when requests in flight have reached their number to the end, or
// all of it where that is too short.
func (c *collector) window(s named, out load.Outcome, settled *settler) window {
	end := min(out.Ended.Sub(out.Started), s.MaxDuration)
	switch {
	case c.sent == 0:
		return window{}
	case c.completed == 0:
		return window{c.firstSent, end}
	case s.Profile == probe.ProfileSynchronous:
		return c.whole()
	case settled != nil && settled.settled:
		return window{settled.window[0], settled.window[1]}
	}
	open := s.Profile != probe.ProfileThroughput
	w := window{c.firstDone, end}
	switch {
	case open:
		w = c.openWindow(s, out, end)
	case out.Ending == load.EndedByRequests: // from here on places stay free
		w.to = c.lastSent
	default:
		w.from = max(w.from, end/2)
	}
	switch { // few requests: no steady part to speak of
	case w.length() >= shortestWindow:
		return w
	case open: // each request that was sent stands for a gap, also the last
		return window{0, max(end, c.lastSent+seconds(1/s.Rate))}
	}
	return c.whole()
}

// whole is the window that holds all that was completed.
func (c *collector) whole() window { return window{c.firstSent, c.lastDone} }

// openWindow is the window of an open loop. A request stays for its latency, so that the number in flight grows for as
// long; the p90 stands for it, with those that were cut off, or half the stage where an overloaded endpoint gets ever
// slower. The window is a whole number of gaps between sends, so that it holds as many requests as were sent in its
// length wherever it begins.
func (c *collector) openWindow(s named, out load.Outcome, end time.Duration) window {
	if s.Rate*end.Seconds() < 1 {
		return window{}
	}
	gap := 1 / s.Rate // seconds
	if out.Ending == load.EndedByRequests {
		end = min(end, c.lastSent)
	}
	from := max(c.firstDone, min(seconds(c.durations().Quantile(0.9)), end/2))
	const rounding = 1e-6
	gaps := math.Floor((end-from).Seconds()/gap + rounding)
	return window{from, from + seconds(max(0, gaps)*gap)}
}

func seconds(s float64) time.Duration { return time.Duration(math.Round(s * float64(time.Second))) }

// rates returns requests and output tokens per second over the window. A request counts by its tokens as they arrive:
// completions come in waves when a batch of equal requests ends at once, tokens come all the time, so that the rate
// does not depend on whether the window holds one wave more or less. Tokens of failed requests are output, but no
// requests.
func (c *collector) rates(w window) (requests, tokens float64) {
	length := w.length().Seconds()
	switch {
	case c.completed == 0:
		return 0, c.line.tokens(w.from, w.to) / length
	case w == c.whole(), c.incomplete == 0 && w.from <= c.firstSent && w.to >= c.lastDone: // exact, however short
		return float64(c.completed) / length, float64(c.doneTokens) / length
	}
	return c.line.served(w.from, w.to, c.worth()) / length, c.line.tokens(w.from, w.to) / length
}

// worth returns how many requests the tokens are worth that an incomplete request asked for. One where lengths are
// forced; else answers may have ended before. How long those would have become that the end of the stage cut off tell
// the completed ones that are longer: the short ones are no measure, since most of those were done.
func (c *collector) worth() float64 {
	lengths := stats.NewSurvival(&c.lengths, c.cut.lengths)
	var requests, came float64
	for _, share := range c.cut.lengths {
		if share > 0 {
			requests += share * lengths.MeanInverse(share, 1)
			came += share
		}
	}
	if came == 0 {
		return 1
	}
	return requests / came
}

// durations returns the distribution of request durations in seconds, of which those cut off were at least as long as
// they had waited.
func (c *collector) durations() *stats.Survival { return stats.NewSurvival(&c.duration, c.cut.whole) }

// mostBatches is into how many parts a settled window is cut at most for the interval of its rate. In the usual stage of
// 120 s each lasts 3.6 s: a server that is faster and slower by turns of a second or two makes shorter ones depend on
// each other.
const mostBatches = 5

// rateInterval returns the 95 % interval of the rate of a settled window. Its random part is by batch means: the rates
// of parts of the time since the ramp differ by chance, and say so how much the window may be off. Parts are whole times
// as long as a batch of requests takes to renew itself, which the window holds three times: others would depend on each
// other, and on where in a batch they begin. The parts before the window count, too: those in it have been chosen for
// being alike. Half of what they may differ by is added, which is how far the choice may lead astray. It tells of chance
// within a stage, not of what differs from cycle to cycle.
func (c *collector) rateInterval(w window, rampOver time.Duration) probe.Interval {
	part := w.length() / settleWindows
	if _, period := c.turnover(); period > 0 {
		part = min(part, period*max(1, w.length()/mostBatches/period))
	}
	var rates []float64
	worth := c.worth()
	for to := w.to; to-part >= min(w.from, rampOver); to -= part {
		rates = append(rates, c.line.served(to-part, to, worth)/part.Seconds())
	}
	low, high := stats.MeanInterval(rates, 0.95)
	chance := (high - low) / 2 * math.Sqrt(float64(len(rates))*part.Seconds()/w.length().Seconds())
	rate := c.line.served(w.from, w.to, worth) / w.length().Seconds()
	return probe.Interval{Low: max(0, rate-chance-settleSpread/2*rate), High: rate + chance + settleSpread/2*rate}
}

func distribution(s *stats.Sample) probe.Distribution {
	if s.Count() == 0 {
		return probe.Distribution{}
	}
	return probe.Distribution{
		Count: s.Count(), Mean: s.Mean(), Min: s.Min(), Max: s.Max(),
		P01: s.Quantile(0.01), P05: s.Quantile(0.05), P10: s.Quantile(0.10), P25: s.Quantile(0.25), P50: s.Quantile(0.50),
		P75: s.Quantile(0.75), P90: s.Quantile(0.90), P95: s.Quantile(0.95), P99: s.Quantile(0.99),
	}
}
