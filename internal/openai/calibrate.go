package openai

import (
	"context"
	"net/http"
	"slices"
	"strings"

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
// requests for one token each: one where all is well, and one more for each time that a strict server rejects
// something. appendPrompt is as for Encoder.Append, promptTokens its length by the local tokenizer. record is called
// with each result, which it must not keep. An error is an *Error, or the cause with which ctx ended; what had been agreed
// on before is returned with it, so that another call can go on from there.
func (c *Client) Calibrate(
	ctx context.Context, enc *Encoder, appendPrompt func(dst []byte) []byte, promptTokens int, record func(*probe.Result),
) (Calibration, error) {
	for tried := enc; ; {
		var res probe.Result
		c.Do(ctx, &probe.Request{
			Body: tried.Append(nil, appendPrompt, 1), PromptTokens: promptTokens, OutputTokens: 1,
		}, &res)
		record(&res)
		agreed := Calibration{Encoder: tried, Dropped: missing(enc, tried)}
		switch {
		case ctx.Err() != nil:
			return agreed, context.Cause(ctx)
		case res.Outcome == probe.Completed, res.Reason == probe.ReasonEmpty:
			agreed.Overhead, agreed.Counted = res.PromptTokens-promptTokens, res.PromptTokens > 0
			return agreed, nil
		}
		next := tried
		if rejects(&res) {
			next = relent(tried, res.Detail)
		}
		if next == tried {
			return agreed, &Error{
				Reason: res.Reason, Detail: "a first short request failed: " + res.Detail, RetryAfter: res.RetryTime,
			}
		}
		tried = next
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
func relent(enc *Encoder, complaint string) *Encoder {
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
	case strings.Contains(complaint, length) && !enc.renamed:
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
