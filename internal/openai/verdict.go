package openai

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/inferprobe/inferprobe/internal/http1"
	"github.com/inferprobe/inferprobe/internal/probe"
)

const (
	maxErrorBody = 64 << 10 // of an answer that is no stream
	maxFinish    = 64       // bytes of a finish reason
)

// whole reports whether a finish reason means a whole answer. Beside OpenAI's own words there are TGI's, Mistral's for
// a context that is full, and those of servers that pass their engine's on.
func whole(finish string) bool {
	switch finish {
	case "stop", "length", "tool_calls", "function_call", "eos_token", "stop_sequence", "eos", "model_length":
		return true
	}
	return false
}

// answer reads a response and says how the request ended.
func (a *attempt) answer(response *http.Response) {
	status := response.StatusCode
	if status < 200 || status > 299 {
		a.refused(response)
		return
	}
	if encoding := response.Header.Get("Content-Encoding"); compressed(encoding) {
		a.fail(probe.ReasonMalformed, "the answer is compressed (%s) although that was refused: a proxy that compresses "+
			"a stream holds its tokens back, so their times mean nothing", encoding)
		return
	}
	body, ok := eventStream(response)
	if !ok {
		a.notAStream(response, body)
		return
	}
	s := a.read(body)
	s.tally(&a.client.density)
	a.judge(s)
}

// compressed reports whether a content coding is one. Some frameworks send "none", which keeps proxies from compressing.
func compressed(encoding string) bool {
	return encoding != "" && !strings.EqualFold(encoding, "identity") && !strings.EqualFold(encoding, "none")
}

// refused is an answer with a status that is no success.
func (a *attempt) refused(response *http.Response) {
	status := response.StatusCode
	if status < 400 {
		detail := fmt.Sprintf("%d", status)
		if location, err := response.Location(); err == nil {
			detail += " redirects to " + location.Host + ", which is not followed; use the URL that it leads to"
		}
		a.fail(probe.ReasonNotAStream, "%s", detail)
		return
	}
	a.res.RetryTime = retryAfter(response.Header, time.Now())
	body, _ := io.ReadAll(io.LimitReader(response.Body, maxErrorBody))
	if cause := context.Cause(a.ctx); cause != nil { // one of our own limits leaves the status what it is
		a.interrupted(cause)
		return
	}
	a.fail(reasonOf(status), "%d: %s", status, bodyMessage(response.Header, body))
}

func reasonOf(status int) probe.Reason {
	switch {
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return probe.ReasonUnauthorized
	case status == http.StatusNotFound:
		return probe.ReasonNotFound
	case status == http.StatusTooManyRequests:
		return probe.ReasonRateLimited
	case status < 500:
		return probe.ReasonHTTP4xx
	}
	return probe.ReasonHTTP5xx
}

// retryAfter returns how long the server asks to be left alone: Retry-After in seconds or as a date, or OpenAI's
// retry-after-ms.
func retryAfter(header http.Header, now time.Time) time.Duration {
	const most = 24 * time.Hour
	limit := func(d time.Duration) time.Duration { return min(max(d, 0), most) }
	if ms, err := strconv.ParseFloat(header.Get("Retry-After-Ms"), 64); err == nil && ms < float64(most.Milliseconds()) {
		return limit(time.Duration(ms * float64(time.Millisecond)))
	}
	value := header.Get("Retry-After")
	if seconds, err := strconv.ParseFloat(value, 64); err == nil {
		return limit(time.Duration(min(seconds, most.Seconds()) * float64(time.Second)))
	}
	if date, err := http.ParseTime(value); err == nil {
		return limit(date.Sub(now))
	}
	return 0
}

// notAStream is a success that is no event stream.
func (a *attempt) notAStream(response *http.Response, body io.Reader) {
	text, err := io.ReadAll(io.LimitReader(body, maxErrorBody))
	if cause := a.cause(); cause != nil {
		a.interrupted(cause)
		return
	}
	switch {
	case len(text) == 0 && err != nil:
		a.fail(probe.ReasonTruncated, "the answer was cut off before its first byte: %v", err)
	case len(text) == 0:
		a.fail(probe.ReasonEmpty, "an empty answer with status %d", response.StatusCode)
	default:
		a.document(kindName(response.Header.Get("Content-Type")), bodyMessage(response.Header, text), text)
	}
}

// document is a success with text that is no event stream, and with what it has to say.
func (a *attempt) document(kind, message string, text []byte) {
	var d decoder
	if d.decode(text) && d.event.err {
		a.fail(probe.ReasonErrorEvent, "%s", messageOf(text))
		return
	}
	a.fail(probe.ReasonNotAStream, "%s instead of an event stream: %s", kind, message)
}

func kindName(contentType string) string {
	kind, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return "an answer without a type"
	}
	return kind
}

func hasType(header http.Header, want string) bool {
	kind, _, _ := strings.Cut(header.Get("Content-Type"), ";")
	return strings.EqualFold(strings.TrimSpace(kind), want)
}

// judge says how a stream ended. A whole answer is whole no matter what came after it.
func (a *attempt) judge(s *stream) {
	res, finish := a.res, a.res.FinishReason
	cause := a.cause()
	switch {
	case s.errorSent:
		a.fail(probe.ReasonErrorEvent, "%s", s.problem)
	case s.malformed && s.problem == "":
		a.fail(probe.ReasonMalformed, "%v", s.cut)
	case s.malformed:
		a.fail(probe.ReasonMalformed, "%s", s.problem)
	case finish != "" && !whole(finish):
		a.fail(probe.ReasonAborted, "the server ended the answer with finish reason %q after %d output tokens", finish,
			res.OutputTokens)
	case finish != "" && res.OutputTokens == 0:
		a.fail(probe.ReasonEmpty, "finish reason %q without a token", finish)
	case finish != "", a.req.OutputTokens > 0 && s.atLeast() >= a.req.OutputTokens:
		res.Outcome = probe.Completed
	case cause != nil && !s.ended: // what comes behind [DONE] is not waited for
		a.interrupted(cause)
	case s.ended && s.events == 0 && len(s.stray) > 0:
		a.document("text", bodyMessage(nil, s.stray), s.stray)
	case s.ended && s.events == 0:
		a.fail(probe.ReasonEmpty, "the stream ended without a token and without a finish reason")
	default:
		a.truncated(s)
	}
}

func (a *attempt) truncated(s *stream) {
	how := "the stream ended"
	if s.cut != nil {
		how = "the stream was cut off (" + s.cut.Error() + ")"
	}
	a.fail(probe.ReasonTruncated, "%s after %d events with output, without a finish reason", how, s.events)
}

// interrupted is the end of a request whose context ended: by one of our limits, with its stage, or from outside.
func (a *attempt) interrupted(cause error) {
	limits, tokens := &a.client.opts, len(a.res.Arrivals)
	switch {
	case errors.Is(cause, probe.ErrStageEnded):
		a.res.Outcome = probe.Incomplete
	case errors.Is(cause, errFirstToken):
		a.fail(probe.ReasonTimeoutFirstToken, "no token within %v", limits.FirstTokenTimeout)
	case errors.Is(cause, errIdle):
		a.fail(probe.ReasonTimeoutIdle, "no token for %v after %d arrivals", limits.IdleTimeout, tokens)
	case errors.Is(cause, errTotal):
		a.fail(probe.ReasonTimeoutTotal, "not done within %v, after %d arrivals", limits.TotalTimeout, tokens)
	case errors.Is(cause, errTail):
		a.fail(probe.ReasonTruncated, "the stream stopped without a finish reason")
	default:
		a.fail(probe.ReasonCancelled, "%v", cause)
	}
}

// unconnected is a request that got no connection.
func (a *attempt) unconnected(err error) {
	if cause := a.cause(); cause != nil {
		a.interrupted(cause)
		return
	}
	a.fail(connectReason(err), "%v", err)
}

// unanswered is a request that got no response, or, where the server was not silent, none that can be read.
func (a *attempt) unanswered(err error, silent bool) {
	if cause := a.cause(); cause != nil {
		a.interrupted(cause)
		return
	}
	reason, where := answerReason(err), "the connection ended before the response: "
	if !silent {
		where = "the connection ended within the response's head: "
		if !a.times.Ended() {
			reason, where = probe.ReasonMalformed, "no HTTP response: "
		}
	}
	a.fail(reason, "%s%v", where, err)
}

// connectReason classifies an error that came in place of a connection.
func connectReason(err error) probe.Reason {
	var dns *net.DNSError
	var handshake *http1.TLSError
	switch {
	case errors.As(err, &dns):
		return probe.ReasonDNS
	case errors.As(err, &handshake):
		return probe.ReasonTLS
	}
	return probe.ReasonConnect
}

// answerReason classifies an error that came in place of an answer. A server that asks for a certificate refuses the one
// it gets, or none, only then (RFC 8446, 4.4.2.4): by an alert.
func answerReason(err error) probe.Reason {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "remote error" { // as crypto/tls calls one
		return probe.ReasonTLS
	}
	return probe.ReasonReset
}

func (a *attempt) fail(reason probe.Reason, format string, args ...any) {
	a.res.Outcome, a.res.Reason = probe.Failed, reason
	a.res.Detail = cmp.Or(redact(fmt.Sprintf(format, args...), a.client.secrets), "the server gave no readable reason")
}
