package sweep

import (
	"sync"
	"time"

	"github.com/inferprobe/inferprobe/internal/probe"
	"github.com/inferprobe/inferprobe/internal/stats"
)

// collector turns the results of one stage into its summary. Record may be called from many goroutines.
type collector struct {
	mu      sync.Mutex
	started time.Time
	line    timeline

	completed, failed, incomplete int
	failures                      map[probe.Reason]int
	details                       map[probe.Reason]string
	retries                       int
	incompleteTokens              int

	promptTokens, outputTokens, serverPrompt stats.Sample
	duration, ttft, ttfa, itl, tpot, stall   stats.Sample // seconds
	delay, lag                               stats.Sample // seconds

	firstSent, lastSent time.Duration // since started
	firstDone, lastDone time.Duration // of completed requests
	done                bool
	service             time.Duration // sum of first token → end over completed requests

	cached        int
	byEvents      int
	tokenEvents   int // of completed requests whose tokens the server counted
	eventedTokens int // tokens of these

	asked    int // output tokens asked for by completed requests
	overhead struct{ least, most int }
}

func newCollector(started time.Time) *collector {
	return &collector{
		started:  started,
		failures: make(map[probe.Reason]int),
		details:  make(map[probe.Reason]string),
	}
}

// Record adds one finished request.
func (c *collector) Record(r *probe.Result) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.retries += r.Retries
	if d, ok := r.ScheduleDelay(); ok {
		c.delay.Add(d.Seconds())
	}
	for i := range r.Arrivals {
		if lag := r.Arrivals[i].Lag; lag > 0 {
			c.lag.Add(lag.Seconds())
		}
	}
	c.place(r)
	switch r.Outcome {
	case probe.Completed:
		c.addCompleted(r)
	case probe.Incomplete:
		c.incomplete++
		c.incompleteTokens += r.OutputTokens
	default:
		c.failed++
		c.failures[r.Reason]++
		if _, ok := c.details[r.Reason]; !ok && r.Detail != "" {
			c.details[r.Reason] = r.Detail
		}
	}
}

// place puts the request and its tokens on the timeline.
func (c *collector) place(r *probe.Result) {
	if r.Sent.IsZero() {
		return
	}
	sent := r.Sent.Sub(c.started)
	if c.line.bins == nil {
		c.firstSent = sent
	}
	c.firstSent, c.lastSent = min(c.firstSent, sent), max(c.lastSent, sent)
	last := r.End
	if n := len(r.Arrivals); n > 0 {
		last = max(last, r.Arrivals[n-1].At)
	}
	c.line.at(sent).began++
	if r.Outcome != probe.Incomplete {
		c.line.at(sent+last).closed++
	}

	// Where the server did not count event by event, its total is spread over the events.
	perEvent := 1.0
	if events := eventsOf(r); events > 0 && r.TokenSource == probe.TokensFromServer {
		perEvent = float64(r.OutputTokens) / float64(events)
	}
	for i := range r.Arrivals {
		a := &r.Arrivals[i]
		tokens := float64(a.Tokens)
		if a.Tokens == 0 {
			tokens = perEvent * float64(a.Events)
		}
		c.line.at(sent + a.At).tokens += tokens
	}
}

func eventsOf(r *probe.Result) (n int) {
	for i := range r.Arrivals {
		n += r.Arrivals[i].Events
	}
	return n
}

func (c *collector) addCompleted(r *probe.Result) {
	end := r.Sent.Sub(c.started) + r.End
	if !c.done {
		c.firstDone, c.done = end, true
	}
	c.firstDone, c.lastDone = min(c.firstDone, end), max(c.lastDone, end)
	c.completed++
	done := c.line.at(end)
	done.completed++
	done.latency += r.End.Seconds()
	c.service += r.End - r.FirstToken
	c.addTokens(r)
	c.duration.Add(r.End.Seconds())
	addDuration(&c.ttft, r.TimeToFirstToken)
	addDuration(&c.ttfa, r.TimeToFirstAnswerToken)
	addDuration(&c.tpot, r.TimePerOutputToken)
	addDuration(&c.stall, r.Stall)
	for latency, n := range r.InterTokenLatencies {
		c.itl.AddN(latency.Seconds(), n)
	}
}

func addDuration(s *stats.Sample, get func() (time.Duration, bool)) {
	if d, ok := get(); ok {
		s.Add(d.Seconds())
	}
}

func (c *collector) addTokens(r *probe.Result) {
	c.promptTokens.Add(float64(r.Request.PromptTokens))
	c.outputTokens.Add(float64(r.OutputTokens))
	c.asked += r.Request.OutputTokens
	c.cached += r.CachedTokens
	if r.TokenSource != probe.TokensFromServer {
		c.byEvents++
	} else if events := eventsOf(r); events > 0 && r.Arrivals[0].Tokens == 0 {
		c.tokenEvents += events
		c.eventedTokens += r.OutputTokens
	}
	if r.PromptTokens == 0 {
		return
	}
	over := r.PromptTokens - r.Request.PromptTokens
	if c.serverPrompt.Count() == 0 {
		c.overhead.least, c.overhead.most = over, over
	}
	c.overhead.least, c.overhead.most = min(c.overhead.least, over), max(c.overhead.most, over)
	c.serverPrompt.Add(float64(r.PromptTokens))
}

// served returns how many requests have completed and how long they took on average from their first token to their
// end: the period with which a batch of equal requests renews itself.
func (c *collector) served() (completed int, service time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.completed, c.service / time.Duration(max(1, c.completed))
}

// counts returns how many requests have completed and failed so far.
func (c *collector) counts() (completed, failed int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.completed, c.failed
}

// worstFailure returns the most frequent reason with its example.
func (c *collector) worstFailure() (probe.Reason, string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var worst probe.Reason
	for _, reason := range probe.Reasons() {
		if c.failures[reason] > c.failures[worst] {
			worst = reason
		}
	}
	return worst, c.details[worst]
}
