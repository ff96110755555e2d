package sweep

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/inferprobe/inferprobe/internal/probe"
	"github.com/inferprobe/inferprobe/internal/stats"
)

// collector turns the results of one stage into its summary. Record may be called from many goroutines.
type collector struct {
	mu      sync.Mutex
	started time.Time
	now     func() time.Time
	line    timeline

	completed, failed, incomplete int
	failures                      map[probe.Reason]int
	details                       map[probe.Reason]string
	retries, connections          int
	incompleteTokens              int

	promptTokens, outputTokens, serverPrompt stats.Sample
	duration, ttft, ttfa, itl, tpot, stall   stats.Sample // seconds
	delay, lag                               stats.Sample // seconds
	dns, connect, tls                        stats.Sample // seconds, of new connections
	firstError                               stats.Sample // of times to a first token, for having been read late, seconds
	stallLeast, stallMost                    stats.Sample // between which the stalls lie, seconds
	firstReads, reads                        reads
	requests                                 reservoir
	lengths                                  stats.Sample // of completed answers: tokens by tokens asked for
	cut                                      censored
	slowFirst, slowGaps, slow                excess

	sent                int
	firstSent, lastSent time.Duration // since started
	firstDone, lastDone time.Duration // of completed requests
	doneTokens          int           // of requests that are not incomplete
	service             time.Duration // sum of first token → end over completed requests
	quickest            time.Duration // shortest time to a first token of completed requests

	prompts promptCounts
	outputs outputCounts
}

func newCollector(started time.Time, limits probe.Objectives) *collector {
	return &collector{
		started:  started,
		now:      time.Now,
		failures: make(map[probe.Reason]int),
		details:  make(map[probe.Reason]string),
		// Which requests are kept may be the same every time: they do not know.
		requests:  reservoir{random: rand.New(rand.NewPCG(1, probe.MaxRequestSamples))},
		slowFirst: excess{limit: limits.TimeToFirstTokenP90},
		slowGaps:  excess{limit: limits.InterTokenLatencyP90},
		slow:      excess{limit: limits.RequestDurationP90},
	}
}

// Record adds one finished request.
func (c *collector) Record(r *probe.Result) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.retries += r.Retries
	c.addOwnDelays(r)
	c.addConnection(r)
	if !r.Sent.IsZero() {
		c.place(r)
	}
	if r.Outcome != probe.Incomplete {
		c.doneTokens += r.OutputTokens
	}
	switch r.Outcome {
	case probe.Completed:
		c.addCompleted(r)
	case probe.Incomplete:
		c.incomplete++
		c.incompleteTokens += r.OutputTokens
		c.cut.add(r, c.now())
	default:
		c.failed++
		c.failures[r.Reason]++
		if _, ok := c.details[r.Reason]; !ok && r.Detail != "" {
			c.details[r.Reason] = r.Detail
		}
	}
}

// addOwnDelays takes how late this process sent and saw things.
func (c *collector) addOwnDelays(r *probe.Result) {
	if d, ok := r.ScheduleDelay(); ok {
		c.delay.Add(max(0, d).Seconds())
	}
	for i := range r.Arrivals {
		if lag := r.Arrivals[i].Lag; lag > 0 { // known
			c.lag.Add(lag.Seconds())
		}
	}
	if len(r.Arrivals) > 0 {
		c.firstError.Add(firstTokenError(r).Seconds())
	}
	c.firstReads.addFirst(r)
	c.reads.add(r)
}

// addConnection takes the times of setting up a connection that the request had to open. A phase that it did not need,
// such as TLS, is none.
func (c *collector) addConnection(r *probe.Result) {
	if !r.NewConn {
		return
	}
	c.connections++
	for _, phase := range []struct {
		took time.Duration
		all  *stats.Sample
	}{{r.Phases.DNS, &c.dns}, {r.Phases.Connect, &c.connect}, {r.Phases.TLS, &c.tls}} {
		if phase.took > 0 {
			phase.all.Add(phase.took.Seconds())
		}
	}
}

// place puts a request that was sent and its tokens on the timeline.
func (c *collector) place(r *probe.Result) {
	sent := r.Sent.Sub(c.started)
	if c.sent == 0 {
		c.firstSent = sent
	}
	c.sent++
	c.firstSent, c.lastSent = min(c.firstSent, sent), max(c.lastSent, sent)
	c.line.begin(sent)
	switch r.Outcome {
	case probe.Completed:
		c.line.end(sent + r.End)
	case probe.Failed: // its end may have been a silence that no event marks
		c.line.end(c.now().Sub(c.started))
	}
	c.placeTokens(r, sent)
}

// placeTokens spreads the answer's tokens over its arrivals: as the server counted them event by event, or evenly over
// the events. With no arrival they came at the end.
func (c *collector) placeTokens(r *probe.Result, sent time.Duration) {
	put := func(at time.Duration, tokens float64) {
		b := c.line.at(sent + at)
		b.tokens += tokens
		switch r.Outcome {
		case probe.Completed:
			b.served += tokens / float64(r.OutputTokens)
		case probe.Incomplete:
			b.unfinished += tokens / asked(r)
		}
	}
	var parts int
	for i := range r.Arrivals {
		parts += partsOf(&r.Arrivals[i])
	}
	switch {
	case r.OutputTokens == 0:
	case parts == 0:
		put(r.End, float64(r.OutputTokens))
	default:
		perPart := float64(r.OutputTokens) / float64(parts)
		for i := range r.Arrivals {
			put(r.Arrivals[i].At, perPart*float64(partsOf(&r.Arrivals[i])))
		}
	}
}

// asked returns the output tokens that were asked for.
func asked(r *probe.Result) float64 { return float64(max(1, r.Request.OutputTokens)) }

// partsOf returns what an arrival counts for among those of its request.
func partsOf(a *probe.Arrival) int {
	if a.Tokens > 0 {
		return a.Tokens
	}
	return a.Events
}

func (c *collector) addCompleted(r *probe.Result) {
	end := r.Sent.Sub(c.started) + r.End
	if c.completed == 0 {
		c.firstDone, c.quickest = end, r.FirstToken
	}
	c.firstDone, c.lastDone = min(c.firstDone, end), max(c.lastDone, end)
	c.completed++
	done := c.line.at(end)
	done.completed++
	done.latency += r.End.Seconds()
	c.service += r.End - r.FirstToken
	c.quickest = min(c.quickest, r.FirstToken)

	c.promptTokens.Add(float64(r.Request.PromptTokens))
	c.outputTokens.Add(float64(r.OutputTokens))
	c.lengths.Add(float64(r.OutputTokens) / asked(r))
	if r.PromptTokens > 0 {
		c.serverPrompt.Add(float64(r.PromptTokens))
	}
	c.prompts.add(r)
	c.outputs.add(r)
	c.duration.Add(r.End.Seconds())
	addDuration(&c.ttft, r.TimeToFirstToken)
	addDuration(&c.ttfa, r.TimeToFirstAnswerToken)
	addDuration(&c.tpot, r.TimePerOutputToken)
	addDuration(&c.stall, r.Stall)
	if len(r.Arrivals) > 1 {
		least, most := stallBounds(r)
		c.stallLeast.Add(least.Seconds())
		c.stallMost.Add(most.Seconds())
	}
	c.requests.add(r)
	for latency, n := range r.InterTokenLatencies {
		c.itl.AddN(latency.Seconds(), n)
	}
	c.slowFirst.of(one(r.TimeToFirstToken))
	c.slowGaps.of(r.InterTokenLatencies)
	c.slow.of(one(func() (time.Duration, bool) { return r.End, true }))
}

func addDuration(s *stats.Sample, get func() (time.Duration, bool)) {
	if d, ok := get(); ok {
		s.Add(d.Seconds())
	}
}

// reservoir keeps a uniform sample of at most probe.MaxRequestSamples requests out of any number (Vitter, "Random
// Sampling with a Reservoir", ACM Transactions on Mathematical Software 11, 1985, algorithm R).
type reservoir struct {
	random *rand.Rand
	seen   int
	kept   []keptRequest
}

// keptRequest is a request with its place among all.
type keptRequest struct {
	place  int
	sample probe.RequestSample
}

func (s *reservoir) add(r *probe.Result) {
	first, _ := r.TimeToFirstToken()
	each, _ := r.TimePerOutputToken()
	k := keptRequest{s.seen, probe.RequestSample{TimeToFirstToken: first.Seconds(), TimePerOutputToken: each.Seconds(),
		Duration: r.End.Seconds()}}
	s.seen++
	if len(s.kept) < probe.MaxRequestSamples {
		s.kept = append(s.kept, k)
	} else if i := s.random.IntN(s.seen); i < len(s.kept) {
		s.kept[i] = k
	}
}

// inOrder returns the requests that were kept as they came, nil if there were none.
func (s *reservoir) inOrder() []probe.RequestSample {
	slices.SortFunc(s.kept, func(a, b keptRequest) int { return cmp.Compare(a.place, b.place) })
	var samples []probe.RequestSample
	for _, k := range s.kept {
		samples = append(samples, k.sample)
	}
	return samples
}

// cacheBlock is how many tokens beyond its template a prompt may share with another by chance: the first words are few,
// and caches work in blocks of as many tokens (vLLM's default).
const cacheBlock = 16

// promptCounts compares the lengths of prompts with what the server made of them.
type promptCounts struct {
	overhead spread
	counted  int // tokens of the prompts that the server counted, by our count
	reported int // tokens that the server took from its cache, as it said
	cached   int // of these, beyond the chat template, what prompts share on purpose, and a block
}

func (p *promptCounts) add(r *probe.Result) {
	p.reported += r.CachedTokens
	if r.PromptTokens == 0 {
		return
	}
	over := r.PromptTokens - r.Request.PromptTokens
	p.overhead.add(over)
	p.counted += r.Request.PromptTokens
	if extra := r.CachedTokens - max(0, over) - r.Request.SharedTokens; extra > cacheBlock {
		p.cached += extra
	}
}

// spread is the extremes of some numbers.
type spread struct{ count, least, most int }

func (s *spread) add(n int) {
	if s.count == 0 {
		s.least, s.most = n, n
	}
	s.count++
	s.least, s.most = min(s.least, n), max(s.most, n)
}

// outputCounts compares the lengths of answers with those asked for and with their events.
type outputCounts struct {
	byServer struct{ answers, asked, got, off int } // off: tokens missing or too many
	byUs     struct{ answers, asked, got int }      // where the server did not say
	byEvents int                                    // of these answers, those that the tokenizer could not count

	// Of answers whose tokens were not counted event by event.
	events, eventTokens int
}

func (o *outputCounts) add(r *probe.Result) {
	asked, got := r.Request.OutputTokens, r.OutputTokens
	if r.TokenSource == probe.TokensFromServer {
		o.byServer.answers++
		o.byServer.asked += asked
		o.byServer.got += got
		o.byServer.off += max(asked-got, got-asked)
	} else {
		o.byUs.answers++
		o.byUs.asked += asked
		o.byUs.got += got
	}
	if r.TokenSource == probe.TokensFromEvents {
		o.byEvents++
		return
	}
	var events int
	for i := range r.Arrivals {
		if r.Arrivals[i].Tokens > 0 {
			return
		}
		events += r.Arrivals[i].Events
	}
	if events > 0 {
		o.events += events
		o.eventTokens += r.StreamedTokens()
	}
}

// turnover returns how many requests have completed, and the time in which a batch of equal requests renews itself:
// that of a lone prefill and of the mean request from its first token to its end. It leaves out the time in a queue.
func (c *collector) turnover() (completed int, period time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.completed, c.quickest + c.service/time.Duration(max(1, c.completed))
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
