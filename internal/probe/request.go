// Package probe is the vocabulary of inferprobe: what an endpoint, a request, a result, a stage and a cycle are. Every
// other package speaks it; it imports the standard library only and does nothing but answer questions about its data.
package probe

import (
	"errors"
	"sync/atomic"
	"time"
)

// ErrStageEnded is the cause with which a request's context is cancelled when its stage ends: such a request is
// Incomplete. One that is cancelled for any other cause is Failed with ReasonCancelled.
var ErrStageEnded = errors.New("the stage ended")

// Endpoint names what is measured. Name and Model are the metric labels of everything measured on it.
type Endpoint struct {
	Name  string
	Model string
	URL   string // base URL, shown in reports; never carries credentials
}

// Request is one request about to be sent.
type Request struct {
	Seq          uint64    // position in its stage, from 0
	Due          time.Time // when the schedule wants it sent; zero in a closed loop
	Body         []byte    // the JSON body, valid until the Result has been recorded
	PromptTokens int       // tokens of the synthetic prompt by the local tokenizer, without any chat template
	SharedTokens int       // of these, the first ones that all prompts of the cycle share on purpose
	OutputTokens int       // tokens asked for
	Flight       *Flight   // where set, told when the request is sent and when its first token comes
	Events       *atomic.Int64
	// Events, where set, counts token events as they arrive: live progress, and what the throughput stage settles on.
}

// TokenSource says who counted the output tokens.
type TokenSource string

// The sources of a count of output tokens.
const (
	TokensFromServer    TokenSource = "server"    // usage of the response: the truth
	TokensFromTokenizer TokenSource = "tokenizer" // the text by the local tokenizer, where the server sent no usage
	// Where there is neither, as in an answer that was cut off: by its events, as many an event as answers hold of which it
	// is known, or one.
	TokensFromEvents TokenSource = "events"
)

// Together is how soon after the one before an event belongs to the same arrival. What a server sends in one go comes in
// one segment or in several, some hundredths of a millisecond apart. Whether the kernel has merged these when they are read
// is chance, which must not decide what the gap between two tokens is.
const Together = 100 * time.Microsecond

// Arrival is token events that arrived together.
type Arrival struct {
	At     time.Duration // of its last event, since Result.Sent
	Lag    time.Duration // how much later than At this process saw it; 0 where the kernel's time is not to be had
	Events int           // events that carried output
	Tokens int           // tokens in these events where the server counted them event by event, else 0
}

// Phases are the times of setting up a new connection; zero where one was reused.
type Phases struct {
	DNS, Connect, TLS time.Duration
}

// Result is everything measured about one request. All durations count from Sent, the clock just before the first byte
// of the request was written on a ready connection. Times come from the connection (the kernel's receive time where it
// can be had), never from the parser.
type Result struct {
	Request   *Request
	ID        string    // X-Request-Id of the last send, by which servers and proxies name it in their logs
	TraceID   string    // of the last send's traceparent: 32 hexadecimal digits, by which they name it in their traces
	Sent      time.Time // zero if nothing was written
	Phases    Phases
	NewConn   bool          // the request had to open its connection
	Retries   int           // sends on a stale pooled connection that were repeated on a fresh one
	Repeated  time.Duration // what such a send took before Sent
	Status    int           // HTTP status, 0 if none arrived
	Outcome   Outcome
	Reason    Reason        // of a failure
	Detail    string        // of a failure, one line, for logs and reports; no secrets, no control characters
	RetryTime time.Duration // Retry-After of a 429 or 503, 0 if absent

	FirstToken  time.Duration // first event that carried output; 0 if none
	FirstAnswer time.Duration // first event that carried output past any reasoning; 0 if none
	LastToken   time.Duration // last event that carried output; 0 if none
	End         time.Duration // last event with a token or the finish reason: the request's latency

	Arrivals     []Arrival
	FinishReason string

	PromptTokens    int // as the server counted them, chat template included; 0 if it did not say
	CachedTokens    int // prompt tokens the server took from its prefix cache
	ReasoningTokens int
	HiddenTokens    int // output tokens that were never streamed: reasoning that the server keeps to itself
	OutputTokens    int // by TokenSource, the hidden ones included
	TokenSource     TokenSource
}

// Reset clears r for reuse and keeps the memory of its arrivals.
func (r *Result) Reset() {
	*r = Result{Arrivals: r.Arrivals[:0]}
}

// TimeToFirstToken returns FirstToken, and false if no token came.
func (r *Result) TimeToFirstToken() (time.Duration, bool) { return r.FirstToken, len(r.Arrivals) > 0 }

// TimeToFirstAnswerToken returns FirstAnswer, and false if no token past the reasoning came.
func (r *Result) TimeToFirstAnswerToken() (time.Duration, bool) {
	return r.FirstAnswer, r.FirstAnswer > 0
}

// ScheduleDelay returns how much later than due this process sent the request, and false for a closed loop or an unsent
// request. What a connection took to open, and a send that found its connection closed, are the network's and the
// server's, and not in it.
func (r *Result) ScheduleDelay() (time.Duration, bool) {
	if r.Sent.IsZero() || r.Request == nil || r.Request.Due.IsZero() {
		return 0, false
	}
	return r.Sent.Sub(r.Request.Due) - r.Phases.DNS - r.Phases.Connect - r.Phases.TLS - r.Repeated, true
}

// TimePerOutputToken is (last token − first token) / (n − 1), the decode speed that chunking cannot bend, with n from
// the server's usage, less the tokens that were not streamed. It is undefined, and false, for n < 2.
func (r *Result) TimePerOutputToken() (time.Duration, bool) {
	n := r.StreamedTokens()
	if n < 2 || len(r.Arrivals) == 0 {
		return 0, false
	}
	return (r.LastToken - r.FirstToken) / time.Duration(n-1), true
}

// Cost returns the tokens that the request has cost the endpoint, prompt and output, as the server counted them. Where it
// did not count the prompt it is ours without a chat template: of an answer that was cut off, and of one that we no longer
// waited for, since the server may have been at it for as long.
func (r *Result) Cost() int {
	prompt := r.PromptTokens
	if prompt == 0 && r.Request != nil && (len(r.Arrivals) > 0 || r.givenUp()) {
		prompt = r.Request.PromptTokens
	}
	return prompt + r.OutputTokens
}

// givenUp reports whether the request was sent and ended by us.
func (r *Result) givenUp() bool {
	switch r.Reason {
	case ReasonTimeoutFirstToken, ReasonTimeoutIdle, ReasonTimeoutTotal, ReasonCancelled:
		return !r.Sent.IsZero()
	}
	return !r.Sent.IsZero() && r.Outcome == Incomplete
}

// StreamedTokens returns the output tokens that came over the wire.
func (r *Result) StreamedTokens() int { return max(0, r.OutputTokens-r.HiddenTokens) }

// OutputTokensPerSecond is OutputTokens over the request's whole latency, and false where there is none.
func (r *Result) OutputTokensPerSecond() (float64, bool) {
	if r.OutputTokens == 0 || r.End <= 0 {
		return 0, false
	}
	return float64(r.OutputTokens) / r.End.Seconds(), true
}

// Stall is the longest gap between two arrivals, and false where there are fewer than two. An arrival that was read late
// may hold events that did not come together, of which only the time of the last is known: what they usually take one
// after another is taken off its gap, so that a pause of this process is not the server's. Where the kernel's times are
// not to be had, lateness cannot be told, and is in it.
func (r *Result) Stall() (time.Duration, bool) {
	if len(r.Arrivals) < 2 {
		return 0, false
	}
	last := len(r.Arrivals) - 1
	later := r.events() - r.Arrivals[0].Events
	usual := (r.Arrivals[last].At - r.Arrivals[0].At) / time.Duration(max(1, later))
	var longest time.Duration
	for i := 1; i <= last; i++ {
		a := &r.Arrivals[i]
		gap := a.At - r.Arrivals[i-1].At
		if a.Events > 1 && a.Lag > PromptLag(usual) {
			events := time.Duration(a.Events)
			gap = max(gap/events, gap-(events-1)*usual)
		}
		longest = max(longest, gap)
	}
	return longest, true
}

// PromptLag is the lag up to which a read cannot have met a second event where events follow each other by gap: a tenth
// of it, or what a scheduler needs.
func PromptLag(gap time.Duration) time.Duration { return max(gap/10, 500*time.Microsecond) }

// Tokens returns the tokens that arrival i held, and whether that is known: the server counted event by event, or the
// answer had as many events as tokens.
func (r *Result) Tokens(i int) (n int, known bool) {
	if a := r.Arrivals[i]; a.Tokens > 0 {
		return a.Tokens, true
	}
	return r.Arrivals[i].Events, r.TokenSource != TokensFromEvents && r.events() == r.StreamedTokens()
}

// InterTokenLatencies yields the inter-token latencies as (value, how many samples of it): an arrival of k tokens after
// a gap g is k samples of g/k where k is known, else one sample of g. Nothing is floored and nothing is dropped.
func (r *Result) InterTokenLatencies(yield func(latency time.Duration, samples int) bool) {
	exact := r.TokenSource != TokensFromEvents && r.events() == r.StreamedTokens()
	for i := 1; i < len(r.Arrivals); i++ {
		gap, n := r.Arrivals[i].At-r.Arrivals[i-1].At, 1
		if r.Arrivals[i].Tokens > 0 {
			n = r.Arrivals[i].Tokens
		} else if exact {
			n = r.Arrivals[i].Events
		}
		if !yield(gap/time.Duration(n), n) {
			return
		}
	}
}

func (r *Result) events() int {
	var n int
	for i := range r.Arrivals {
		n += r.Arrivals[i].Events
	}
	return n
}
