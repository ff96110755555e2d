package openai

import (
	"math"
	"sync"

	"github.com/inferprobe/inferprobe/internal/probe"
)

// standIn counts the tokens of an answer that has come to its end and for which the server has no count. That takes a
// copy of the output, which is made once it is known that the server does not count: from the second such answer on.
func (c *Client) standIn(s *stream) {
	if c.opts.CountTokens == nil || !s.ended || s.events == 0 {
		return
	}
	silent := s.usage.completion == 0 && s.timings.completion == 0 && !s.byIDs()
	c.uncounted.Store(silent)
	if output := s.decoder.gathered(); silent && output != "" {
		if n, err := c.opts.CountTokens(output); err == nil { // else events stand in
			s.counted = n
		}
	}
}

// byIDs reports whether the server has counted all output arrival by arrival, if only by giving the tokens' ids.
func (s *stream) byIDs() bool { return s.exact > 0 && !s.inexact }

// tally moves the counts into the result.
func (s *stream) tally(d *density) {
	res := s.res
	total := s.usage
	if total.completion == 0 && total.prompt == 0 {
		total = s.timings
	}
	res.PromptTokens, res.CachedTokens, res.ReasoningTokens = total.prompt, total.cached, total.reasoning
	switch {
	case total.completion > 0:
		res.OutputTokens, res.TokenSource = total.completion, probe.TokensFromServer
	case s.byIDs():
		res.OutputTokens, res.TokenSource = s.exact, probe.TokensFromServer
	case s.counted > 0:
		res.OutputTokens, res.TokenSource = s.counted, probe.TokensFromTokenizer
	case s.events > 0:
		res.OutputTokens, res.TokenSource = d.tokens(s.events, res.Request.OutputTokens), probe.TokensFromEvents
	}
	if res.TokenSource != probe.TokensFromEvents && s.ended && s.events > 0 {
		d.learn(res.OutputTokens, s.events)
	}
	switch {
	case s.thought:
	case total.reasoning > 0:
		if s.events <= total.completion-total.reasoning { // else it came as if it were the answer
			res.HiddenTokens = total.reasoning
		}
	default: // without any reasoning the first token is the first of the answer, even if it could not be seen yet
		res.FirstAnswer = res.FirstToken
	}
}

// atLeast returns how many output tokens have come for certain.
func (s *stream) atLeast() int {
	if s.res.TokenSource == probe.TokensFromEvents {
		return s.events
	}
	return s.res.OutputTokens
}

// density is how many tokens the answers of a server hold an event. An answer that was cut off lacks the usage of those
// that came to their end, and holds as many tokens an event as they: by its events alone it would be worth less than it
// is in every rate and sum where servers send several tokens at a time.
type density struct {
	mu          sync.Mutex
	sum, events float64 // of the last answers above all: servers send more at a time when they are busy
}

// memory is of how many answers density is the mean, more or less.
const memory = 100

// learn takes an answer whose tokens were counted.
func (d *density) learn(tokens, events int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	const kept = 1 - 1.0/memory
	d.sum, d.events = kept*d.sum+float64(tokens), kept*d.events+float64(events)
}

// tokens returns how many tokens so many events hold, 1 or more and no more than were asked for, where that is known: as
// many as there are events where no answer was counted.
func (d *density) tokens(events, asked int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.events == 0 {
		return events
	}
	n := max(1, int(math.Round(float64(events)*d.sum/d.events)))
	if asked > 0 {
		n = min(n, max(asked, events))
	}
	return n
}
