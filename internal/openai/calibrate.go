package openai

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/inferprobe/inferprobe/internal/probe"
)

// Calibration is what a few short requests taught.
type Calibration struct {
	Encoder  *Encoder // whose bodies the server accepts
	Dropped  []string // extras that it rejected
	Overhead int      // prompt tokens as the server counts them, less ours: the chat template and special tokens
	Counted  bool     // the server reported prompt tokens, so Overhead is known
}

// Calibrate finds out which of enc's extras the server takes, and what its chat template adds to a prompt, with
// requests for one token each: one where all is well, one more for each time that a strict server rejects something,
// and up to two where the server is too busy for the moment. appendPrompt is as for Encoder.Append, promptTokens its
// length by the local tokenizer. record is called with each result, which it must not keep. An error is an *Error, or
// the cause with which ctx ended.
func (c *Client) Calibrate(
	ctx context.Context, enc *Encoder, appendPrompt func(dst []byte) []byte, promptTokens int, record func(*probe.Result),
) (Calibration, error) {
	swapped, patience := false, 2
	for tried := enc; ; {
		var res probe.Result
		c.Do(ctx, &probe.Request{
			Body: tried.Append(nil, appendPrompt, 1), PromptTokens: promptTokens, OutputTokens: 1,
		}, &res)
		record(&res)
		switch {
		case ctx.Err() != nil:
			return Calibration{}, context.Cause(ctx)
		case res.Outcome == probe.Completed, res.Reason == probe.ReasonEmpty:
			return Calibration{
				Encoder: tried, Dropped: missing(enc, tried),
				Overhead: res.PromptTokens - promptTokens, Counted: res.PromptTokens > 0,
			}, nil
		}
		if patience > 0 && passing(&res) {
			patience--
			if !pause(ctx, &res) {
				return Calibration{}, context.Cause(ctx)
			}
			continue
		}
		next := tried
		if rejects(&res) {
			next = relent(tried, res.Detail, &swapped)
		}
		if next == tried {
			return Calibration{}, &Error{Reason: res.Reason, Detail: "a first short request failed: " + res.Detail}
		}
		tried = next
	}
}

// passing reports whether a failure may be over in a moment.
func passing(res *probe.Result) bool {
	switch res.Reason {
	case probe.ReasonRateLimited, probe.ReasonHTTP5xx, probe.ReasonReset:
		return true
	}
	return false
}

// pause waits as long as the server asks for, but not for long; it reports false if ctx ended first.
func pause(ctx context.Context, res *probe.Result) bool {
	const usual, most = time.Second, 10 * time.Second
	timer := time.NewTimer(min(cmp.Or(res.RetryTime, usual), most))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// rejects reports whether a result may be due to a field of the request. In-stream errors are among them: TGI validates
// after it has begun to answer.
func rejects(res *probe.Result) bool {
	return res.Status == http.StatusBadRequest || res.Status == http.StatusUnprocessableEntity ||
		res.Reason == probe.ReasonErrorEvent
}

// relent returns an encoder that does without what the server complains about: the extras that it names, else the
// length by its other name, else all extras, else usage. It returns enc itself where there is nothing left to do
// without.
func relent(enc *Encoder, complaint string, swapped *bool) *Encoder {
	var extras, named []string
	for _, extra := range enc.extras {
		switch extra {
		case extraUsage, extraMaxTokens, extraCompletion:
		default:
			extras = append(extras, extra)
			if strings.Contains(complaint, extra) {
				named = append(named, extra)
			}
		}
	}
	length := extraMaxTokens
	if enc.has(extraCompletion) {
		length = extraCompletion
	}
	switch {
	case len(named) > 0:
		return enc.without(named...)
	case strings.Contains(complaint, length) && !*swapped:
		*swapped = true
		return enc.without(length)
	case enc.has(extraUsage) && strings.Contains(complaint, extraUsage):
		return enc.without(append(extras, extraUsage)...)
	case len(extras) > 0:
		return enc.without(extras...)
	case enc.has(extraUsage):
		return enc.without(extraUsage)
	}
	return enc
}

// missing lists what the first encoder sends and the second does not.
func missing(first, second *Encoder) []string {
	var dropped []string
	for _, extra := range first.extras {
		if !slices.Contains(second.extras, extra) {
			dropped = append(dropped, extra)
		}
	}
	return dropped
}
