// Package sim is an OpenAI-compatible inference simulator. It answers in the shapes that vLLM puts on the wire, at a
// pace that comes either from a model of continuous batching or from a fixed timetable, and it can misbehave in every
// way that servers are known to. It keeps a record of the times at which it really wrote each token, so that what a
// client reports can be compared with what happened.
//
// The pace is decided by an engine in virtual time (batch.go, fixed.go). One goroutine, Run, moves it along real time
// and wakes the goroutines of the requests, which do the writing (stream.go).
package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Defaults of Options.
const (
	DefaultModel                  = "sim"
	DefaultMaxModelLen            = 8192
	DefaultSlots                  = 32
	DefaultPrefillTokensPerSecond = 20_000
	DefaultPrefillChunk           = 512
	DefaultDecodeStep             = 8 * time.Millisecond
	DefaultDecodePerSequence      = 250 * time.Microsecond
	DefaultTruthRecords           = 10_000
)

// ChatTemplateTokens is what the simulated chat template adds to the tokens of the messages.
const ChatTemplateTokens = 8

// Options describe a simulated server. The zero value of every field is useful.
type Options struct {
	Model       string           // name under which the model is served; "" = DefaultModel
	APIKey      string           // bearer token that /v1/… asks for; "" = none
	MaxModelLen int              // tokens of prompt and answer together; 0 = DefaultMaxModelLen
	CountTokens func(string) int // tokens of a text; nil counts words separated by blanks. Must bear concurrent use

	// Fixed gives every request the same times whatever the load. nil simulates continuous batching.
	Fixed *FixedTiming

	// Continuous batching. A step takes DecodeStep + DecodePerSequence × sequences that decode in it + prompt tokens
	// that are prefilled in it / PrefillTokensPerSecond, and gives each decoding sequence one token.
	Slots                  int           // sequences that run at once, the rest wait in order; 0 = DefaultSlots
	PrefillTokensPerSecond float64       // 0 = DefaultPrefillTokensPerSecond
	PrefillChunk           int           // prompt tokens prefilled in one step at most; 0 = DefaultPrefillChunk
	DecodeStep             time.Duration // with DecodePerSequence also 0: the two defaults
	DecodePerSequence      time.Duration
	PrefixCache            bool // prompts that begin as earlier ones did need less prefill, as with vLLM's cache

	// TokensPerEvent is the number of tokens in an event, as vLLM's --stream-interval: the first token and the last
	// ones leave at once. 0 = 1.
	TokensPerEvent int
	// Jitter varies each step, or each gap under Fixed, evenly by up to this fraction in both directions. Below 1.
	Jitter float64
	// StallFraction is the fraction of gaps between two tokens of a request that last Stall longer. 0…1.
	StallFraction float64
	Stall         time.Duration
	// Slowdown multiplies every step and gap; SetSlowdown changes it. 0 = 1.
	Slowdown float64
	// EarlyStop is the fraction of answers without ignore_eos that end before max_tokens, at a length drawn evenly,
	// with finish reason "stop". 0…1.
	EarlyStop float64

	Faults []FaultRate // faults to give to requests that ask for none themselves; SetFaults changes them
	Seed   uint64      // of everything drawn at random

	TruthRecords int // finished requests that Truth remembers; 0 = DefaultTruthRecords
	// SendTimes records when the kernel sent each write, where it says so (Linux): on a busy machine a write leaves
	// milliseconds after its system call was about to begin. It is not for answers larger than the socket's buffer: what
	// the kernel tells of a write then looks like a broken connection.
	SendTimes bool
}

// FixedTiming is a timetable that does not depend on load. With both zero an answer is sent at once, in one write.
type FixedTiming struct {
	TimeToFirstToken  time.Duration // from the request's arrival
	InterTokenLatency time.Duration
}

// withDefaults fills in what was left zero.
func (o Options) withDefaults() Options {
	setDefault(&o.Model, DefaultModel)
	setDefault(&o.MaxModelLen, DefaultMaxModelLen)
	setDefault(&o.Slots, DefaultSlots)
	setDefault(&o.PrefillTokensPerSecond, DefaultPrefillTokensPerSecond)
	setDefault(&o.PrefillChunk, DefaultPrefillChunk)
	setDefault(&o.TokensPerEvent, 1)
	setDefault(&o.Slowdown, 1)
	setDefault(&o.TruthRecords, DefaultTruthRecords)
	if o.DecodeStep == 0 && o.DecodePerSequence == 0 {
		o.DecodeStep, o.DecodePerSequence = DefaultDecodeStep, DefaultDecodePerSequence
	}
	if o.CountTokens == nil {
		o.CountTokens = countWords
	}
	return o
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// validate reports every field that makes no sense.
func (o *Options) validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(o.MaxModelLen > 1, "MaxModelLen is %d, must be at least 2", o.MaxModelLen)
	check(o.Slots > 0, "Slots is %d, must be positive", o.Slots)
	check(o.PrefillTokensPerSecond > 0, "PrefillTokensPerSecond is %v, must be positive", o.PrefillTokensPerSecond)
	check(o.PrefillChunk > 0, "PrefillChunk is %d, must be positive", o.PrefillChunk)
	check(o.DecodeStep >= 0, "DecodeStep is %v, must not be negative", o.DecodeStep)
	check(o.DecodePerSequence >= 0, "DecodePerSequence is %v, must not be negative", o.DecodePerSequence)
	check(o.TokensPerEvent > 0, "TokensPerEvent is %d, must be positive", o.TokensPerEvent)
	check(o.Jitter >= 0 && o.Jitter < 1, "Jitter is %v, must be in [0, 1)", o.Jitter)
	check(o.StallFraction >= 0 && o.StallFraction <= 1, "StallFraction is %v, must be in [0, 1]", o.StallFraction)
	check(o.Stall >= 0, "Stall is %v, must not be negative", o.Stall)
	check(o.EarlyStop >= 0 && o.EarlyStop <= 1, "EarlyStop is %v, must be in [0, 1]", o.EarlyStop)
	check(o.TruthRecords > 0, "TruthRecords is %d, must be positive", o.TruthRecords)
	if f := o.Fixed; f != nil {
		check(f.TimeToFirstToken >= 0, "Fixed.TimeToFirstToken is %v, must not be negative", f.TimeToFirstToken)
		check(f.InterTokenLatency >= 0, "Fixed.InterTokenLatency is %v, must not be negative", f.InterTokenLatency)
	}
	return errors.Join(append(errs, checkSlowdown(o.Slowdown))...)
}

// atOnce reports whether answers are to be sent whole, in one write.
func (o *Options) atOnce() bool { return o.Fixed != nil && *o.Fixed == FixedTiming{} }

// Server is a simulated inference server: an http.Handler whose answers move only while Run is running.
type Server struct {
	opts    Options
	mux     *http.ServeMux
	shapes  shapes
	started time.Time // time zero of the engine
	created int64     // Unix seconds, of the model

	mu     sync.Mutex // guards engine, pace, alarm's setting and closed
	engine engine
	pace   *pace
	alarm  alarm
	closed bool

	prefixes  *prefixCache // nil = none
	faults    atomic.Pointer[[]rolledFault]
	arrived   atomic.Uint64 // requests so far; numbers them for the random draws
	served    counters
	truth     truth
	users     users
	exchanges sync.Pool     // of *exchange
	closing   chan struct{} // closed when the server shuts down
}

// New returns a server that answers as opts say. Its Run must be running for answers to be sent.
func New(opts Options) (*Server, error) { return newServer(opts, newAlarm) }

// newServer is New with a choice of the alarm, for tests in synthetic time.
func newServer(opts Options, newAlarm func() (alarm, error)) (*Server, error) {
	opts = opts.withDefaults()
	if err := opts.validate(); err != nil {
		return nil, fmt.Errorf("sim: %w", err)
	}
	now := time.Now()
	s := &Server{opts: opts, started: now, created: now.Unix(), closing: make(chan struct{})}
	if err := s.SetFaults(opts.Faults); err != nil {
		return nil, err
	}
	var err error
	if s.alarm, err = newAlarm(); err != nil {
		return nil, fmt.Errorf("sim: timer: %w", err)
	}
	if opts.PrefixCache {
		s.prefixes = newPrefixCache()
	}
	s.pace = &pace{
		slowdown: opts.Slowdown, jitter: opts.Jitter, stallFraction: opts.StallFraction, stall: opts.Stall,
		random: rand.New(rand.NewPCG(opts.Seed, 0)),
	}
	if opts.Fixed != nil {
		s.engine = newTimetable(*opts.Fixed, s.pace)
	} else {
		s.engine = newBatch(&opts, s.pace)
	}
	s.truth.size = opts.TruthRecords
	s.shapes = newShapes(opts.Model)
	s.served = newCounters(opts.Model)
	s.mux = s.routes()
	return s, nil
}

// Run moves the simulated engine along until ctx ends or Close is called, and returns nil. What is in flight then ends
// as vLLM ends it on SIGTERM: with finish reason "abort", usage of what was generated, and [DONE]. Requests that come
// later get 503. Run may be called once.
func (s *Server) Run(ctx context.Context) error {
	defer context.AfterFunc(ctx, s.shutDown)()
	for s.alarm.wait() {
		s.mu.Lock()
		s.turn()
		s.mu.Unlock()
	}
	s.shutDown()
	s.users.wait()
	return nil
}

// Close ends Run, and what is in flight, as described there.
func (s *Server) Close() error {
	s.shutDown()
	return nil
}

func (s *Server) shutDown() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	close(s.closing)
	s.engine.clear((*sequence).abort)
	s.alarm.close()
}

// Freeze stops every step for d from now, or for longer if it is frozen for longer already.
func (s *Server) Freeze(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.turn()
	now := s.now()
	s.engine.freeze(now, now+d)
	s.turn()
}

// SetSlowdown multiplies every step and gap that begins from now on by factor, which must be positive.
func (s *Server) SetSlowdown(factor float64) error {
	if err := checkSlowdown(factor); err != nil {
		return fmt.Errorf("sim: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pace.slowdown = factor
	return nil
}

func checkSlowdown(factor float64) error {
	if !(factor > 0 && factor <= 1e6) {
		return fmt.Errorf("slowdown factor is %v, must be positive and at most 1e6", factor)
	}
	return nil
}

// now is the engine's time.
func (s *Server) now() time.Duration { return time.Since(s.started) }

// turn brings the engine up to date and sets the alarm for its next event. s.mu must be held.
func (s *Server) turn() {
	now := s.now()
	s.engine.advance(now)
	if at, ok := s.engine.next(); ok {
		s.alarm.set(at - now)
	}
}

// submit hands q to the engine, which grants it tokens from then on. It reports false if the server is shutting down.
func (s *Server) submit(q *sequence, arrived time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.engine.add(q, arrived.Sub(s.started))
	s.turn()
	return true
}

// withdraw takes q from the engine, which frees its slot, and ends it.
func (s *Server) withdraw(q *sequence) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.engine.remove(q, s.now()) {
		s.turn()
	}
	q.abort()
}
