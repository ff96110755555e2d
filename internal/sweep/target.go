package sweep

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/inferprobe/inferprobe/internal/load"
	"github.com/inferprobe/inferprobe/internal/openai"
	"github.com/inferprobe/inferprobe/internal/probe"
	"github.com/inferprobe/inferprobe/internal/prompt"
)

// Target says what to measure.
type Target struct {
	Name       string
	Client     openai.Options // how to reach it; BaseURL as the user wrote it
	Model      string         // "" = the first that the server lists
	Dialect    openai.Dialect // "" = detect
	Tokenizer  string         // "" = the model's name
	Workload   probe.Workload // API and Tokenizer are filled in
	Objectives probe.Objectives
	Guards     Guards
	Plan       Plan
}

// Pools hands out word pools by tokenizer; the daemon shares one among all endpoints. The error says what to do about
// it.
type Pools interface {
	Pool(ctx context.Context, ref string) (*prompt.Pool, error)
}

// ready is what a cycle needs to measure its target. The server is known as soon as it has been found.
type ready struct {
	allowance *allowance
	observe   Observer // learns what calibrating costs

	server   openai.Server
	workload probe.Workload
	client   *openai.Client
	source   *source
	forced   bool   // the dialect can force the length of an answer, and the server took it
	overhead spread // prompt tokens that the server counted beyond ours
}

// prepare finds out what answers at the target's URL, loads the tokenizer and agrees on a request body, from requests
// with so many different lengths of prompt. A failure is the reason for which the cycle fails.
func (r *ready) prepare(
	ctx context.Context, t *Target, pools Pools, seed uint64, lengths int, log *slog.Logger,
) *probe.CycleFailure {
	if fail := r.find(ctx, t, pools, seed, log); fail != nil {
		return fail
	}
	if fail := r.calibrate(ctx, lengths, log); fail != nil {
		return fail
	}
	return r.fits() // with the chat template, too
}

// find finds the server and what it takes to make requests to it.
func (r *ready) find(
	ctx context.Context, t *Target, pools Pools, seed uint64, log *slog.Logger,
) *probe.CycleFailure {
	server, err := openai.Discover(ctx, t.Client, t.Model)
	if err != nil {
		return failure(ctx, probe.CycleDiscovery, err)
	}
	if t.Dialect != "" {
		server.Dialect = t.Dialect
	}
	if server.Note != "" {
		log.Warn(server.Note)
	}
	r.server, r.workload = server, t.Workload
	if r.workload.Tokenizer = t.Tokenizer; r.workload.Tokenizer == "" {
		r.workload.Tokenizer = server.Model.ID
	}
	if fail := r.fits(); fail != nil {
		return fail
	}
	pool, err := pools.Pool(ctx, r.workload.Tokenizer)
	if err != nil {
		return failure(ctx, probe.CycleTokenizer, err)
	}
	opts := t.Client
	opts.BaseURL, opts.CountTokens = server.BaseURL, pool.CountTokens
	if r.client, err = openai.New(opts); err != nil {
		return failure(ctx, probe.CycleDiscovery, err)
	}
	encoder := openai.NewEncoder(openai.API(t.Workload.API), server.Dialect, server.Model.ID, t.Workload.ExtraBody)
	if r.workload.SharedPrefixTokens > 0 {
		encoder = encoder.WithPrefixCache()
	}
	r.source = newSource(encoder, pool, r.workload, seed)
	return nil
}

// close frees what prepare has got.
func (r *ready) close() {
	if r.client != nil {
		r.client.Close()
	}
}

// calibrate agrees with the server on the extras of a request body, and learns from prompts of different lengths, each
// half of the one before, what its chat template adds: the same to all, if the tokenizer is the model's.
func (r *ready) calibrate(ctx context.Context, lengths int, log *slog.Logger) *probe.CycleFailure {
	longest := r.source.prompts.Next()
	for i := range lengths {
		r.source.length = max(1, longest>>i)
		asked := probe.Request{PromptTokens: r.source.length, OutputTokens: 1}
		if !r.allowance.take(&asked) {
			return nil // and nothing else will be sent
		}
		var agreed openai.Calibration
		var dropped []string
		err := patiently(ctx, func() (err error) {
			agreed, err = r.client.Calibrate(ctx, r.source.encoder, r.source.append, r.source.length, r.spent)
			r.source.encoder, dropped = agreed.Encoder, append(dropped, agreed.Dropped...)
			return err
		})
		r.allowance.settle(&asked)
		if err != nil {
			fail := failure(ctx, probe.CycleDiscovery, err)
			if r.tooLong(fail) {
				fail.Reason = probe.CycleContext
			}
			return fail
		}
		if len(dropped) > 0 {
			log.Warn("the server refuses some of its dialect's options; measuring without them",
				"dialect", r.server.Dialect, "dropped", dropped)
		}
		if agreed.Counted {
			r.overhead.add(agreed.Overhead)
		}
	}
	r.allowance.template = max(0, r.overhead.most)
	r.forced = slices.Contains(r.source.encoder.Extras(), "ignore_eos")
	log.Debug("calibrated", "template_tokens_least", r.overhead.least,
		"template_tokens_most", r.overhead.most)
	if err := r.source.verify(); err != nil {
		return failure(ctx, probe.CycleTokenizer, err)
	}
	return nil
}

// patiently asks once, and up to twice more where the server's trouble may be over in a moment: after as long as it
// wants, but not for long. It returns the last error, or the cause with which ctx ended meanwhile.
func patiently(ctx context.Context, ask func() error) error {
	const usual, most = time.Second, 10 * time.Second
	for again := 2; ; again-- {
		err := ask()
		var e *openai.Error
		if again == 0 || !errors.As(err, &e) || !e.Temporary() {
			return err
		}
		if !load.Sleep(ctx, min(cmp.Or(e.RetryAfter, usual), most)) {
			return context.Cause(ctx)
		}
	}
}

// spent tells what a request that calibrates has cost.
func (r *ready) spent(res *probe.Result) { r.observe.Record(probe.StageNone, res) }

// fits checks the longest request against the model's context, where the server says how long that is.
func (r *ready) fits() *probe.CycleFailure {
	model := &r.server.Model
	prompts, outputs := longest(r.workload.PromptTokens), longest(r.workload.OutputTokens)
	template := max(0, r.overhead.least)
	if model.MaxLength == 0 || prompts+outputs+template <= model.MaxLength {
		return nil
	}
	return &probe.CycleFailure{
		Reason: probe.CycleContext,
		Detail: fmt.Sprintf("%d prompt tokens, %d of the chat template and %d output tokens do not fit the %d tokens that "+
			"%s allows; ask for fewer", prompts, template, outputs, model.MaxLength, model.ID),
	}
}

// tooLong reports whether the server has refused a first request for its length: it says so in one of the servers'
// ways, or what it says of its context leaves no room for a chat template.
func (r *ready) tooLong(fail *probe.CycleFailure) bool {
	if fail.Reason != string(probe.ReasonHTTP4xx) && fail.Reason != string(probe.ReasonErrorEvent) {
		return false
	}
	text := strings.ToLower(fail.Detail)
	for _, words := range [...]string{
		"context length", "context_length", "context size", "context window", "`max_new_tokens` must be",
		"`inputs` must have less than",
	} {
		if strings.Contains(text, words) {
			return true
		}
	}
	const template = 64 // tokens, which is much for one
	limit := r.server.Model.MaxLength
	return limit > 0 && r.source.length+template > limit
}

// longest returns the greatest length that has to be reckoned with: five standard deviations above the mean come up
// once in millions.
func longest(l probe.Length) int {
	most := max(l.Mean, l.Min, l.Max)
	if l.Variance > 0 && l.Max <= l.Mean {
		const deviations = 5
		most = max(l.Mean, l.Min) + int(math.Ceil(deviations*math.Sqrt(float64(l.Variance))))
	}
	return most
}

// failure turns an error into a cycle's failure: with the request's reason where it has one. Where ctx has ended, that is
// why.
func failure(ctx context.Context, otherwise string, err error) *probe.CycleFailure {
	if ctx.Err() != nil {
		return toldToStop()
	}
	fail := &probe.CycleFailure{Reason: otherwise, Detail: err.Error()}
	if e := (*openai.Error)(nil); errors.As(err, &e) {
		fail.Detail = e.Detail
		if e.Reason != "" {
			fail.Reason = string(e.Reason)
		}
	}
	return fail
}
