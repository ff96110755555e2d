package sweep

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

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

// Pools hands out word pools by tokenizer; the daemon shares one among all endpoints. The error says what to do about it.
type Pools interface {
	Pool(ctx context.Context, ref string) (*prompt.Pool, error)
}

// ready is a target that can be measured: discovered, with a client and prompts.
type ready struct {
	server   openai.Server
	client   *openai.Client
	source   *source
	forced   bool // the dialect can force the length of an answer, and the server took it
	workload probe.Workload
}

// prepare finds out what answers at the target's URL, loads the tokenizer and agrees on a request body. A failure is
// the reason for which the cycle fails.
func prepare(ctx context.Context, t *Target, pools Pools, seed uint64, log *slog.Logger) (*ready, *probe.CycleFailure) {
	server, err := openai.Discover(ctx, t.Client, t.Model)
	if err != nil {
		return nil, failure(ctx, probe.CycleDiscovery, err)
	}
	if t.Dialect != "" {
		server.Dialect = t.Dialect
	}
	if server.Note != "" {
		log.Warn(server.Note, "endpoint", t.Name)
	}
	r := &ready{server: server, workload: t.Workload}
	if r.workload.Tokenizer = t.Tokenizer; r.workload.Tokenizer == "" {
		r.workload.Tokenizer = server.Model.ID
	}
	if fail := fits(r.workload, server.Model); fail != nil {
		return r, fail
	}
	pool, err := pools.Pool(ctx, r.workload.Tokenizer)
	if err != nil {
		return r, failure(ctx, probe.CycleTokenizer, err)
	}
	opts := t.Client
	opts.BaseURL = server.BaseURL
	if r.client, err = openai.New(opts); err != nil {
		return r, failure(ctx, probe.CycleDiscovery, err)
	}
	encoder := openai.NewEncoder(openai.API(t.Workload.API), server.Dialect, server.Model.ID)
	r.source = newSource(encoder, pool, r.workload, seed)
	if err := r.calibrate(ctx, t, log); err != nil {
		r.client.Close()
		return r, failure(ctx, probe.CycleDiscovery, err)
	}
	return r, nil
}

// calibrate agrees with the server on the extras of a request body.
func (r *ready) calibrate(ctx context.Context, t *Target, log *slog.Logger) error {
	r.source.length = r.source.prompts.Next()
	agreed, err := r.client.Calibrate(ctx, r.source.encoder, r.source.append, r.source.length)
	if err != nil {
		return err
	}
	if len(agreed.Dropped) > 0 {
		log.Warn("the server refuses some of its dialect's options; measuring without them", "endpoint", t.Name,
			"dialect", r.server.Dialect, "dropped", agreed.Dropped)
	}
	r.source.encoder = agreed.Encoder
	for _, extra := range agreed.Encoder.Extras() {
		r.forced = r.forced || extra == "ignore_eos"
	}
	if agreed.Counted {
		log.Debug("calibrated", "endpoint", t.Name, "template_tokens", agreed.Overhead)
	}
	return r.source.verify()
}

// fits checks the longest request against the model's context, where the server says how long that is.
func fits(w probe.Workload, model openai.Model) *probe.CycleFailure {
	longest := max(w.PromptTokens.Mean, w.PromptTokens.Max) + max(w.OutputTokens.Mean, w.OutputTokens.Max)
	if model.MaxLength == 0 || longest <= model.MaxLength {
		return nil
	}
	return &probe.CycleFailure{
		Reason: probe.CycleContext,
		Detail: fmt.Sprintf("%d prompt and output tokens do not fit the %d tokens that %s allows; ask for fewer",
			longest, model.MaxLength, model.ID),
	}
}

// failure turns an error into a cycle's failure: with the request's reason where it has one.
func failure(ctx context.Context, otherwise string, err error) *probe.CycleFailure {
	fail := &probe.CycleFailure{Reason: otherwise, Detail: err.Error()}
	var e *openai.Error
	switch {
	case ctx.Err() != nil:
		fail.Reason = probe.CycleInterrupted
	case errors.As(err, &e):
		fail.Detail = e.Detail
		if e.Reason != "" {
			fail.Reason = string(e.Reason)
		}
	}
	return fail
}
