package openai

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/inferprobe/inferprobe/internal/probe"
	"github.com/inferprobe/inferprobe/internal/sse"
)

const (
	// tailWait is how long usage and the end of the stream may stay away after the finish reason.
	tailWait = 5 * time.Second
	// drainWait is how long the end of the body may stay away after [DONE]. Reading on to it lets the next request have
	// the connection.
	drainWait = 50 * time.Millisecond
)

// stream is what the events of an answer have told so far.
type stream struct {
	res     *probe.Result
	sent    time.Time
	decoder *decoder

	at      time.Time // of the last event that carried output
	known   bool      // the server counted every token of the last arrival
	events  int       // that carried output
	unsaid  int       // of these, not yet told to Request.Events
	plain   bool      // output came without a count: the server does not count event by event …
	tokens  int       // … or it does, and has come to so many …
	zero    bool      // … from none, of which it told, too
	exact   int       // tokens of all output, as the server counted them arrival by arrival, …
	inexact bool      // … unless there was one that it did not count
	thought bool      // there was reasoning text
	counted int       // tokens of the output by the tokenizer, where the server did not count them
	usage   usage     // the last non-zero value of each
	timings usage

	stray     []byte // what came and is no event, where no event came
	ended     bool   // with [DONE], or the stream's end in order
	cut       error  // what cut it off
	problem   string // an error event's message, or what is malformed
	errorSent bool
	malformed bool
}

// read reads the events of a body up to its end.
func (a *attempt) read(body io.Reader) *stream {
	scratch := a.client.takeScratch()
	defer a.client.scratch.Put(scratch)
	s := &stream{res: a.res, sent: a.res.Sent, decoder: &scratch.decoder}
	s.decoder.begin(a.client.uncounted.Load())
	reader := &scratch.reader
	reader.Reset(telling{body, a.req, s}, a.stamp)
	defer reader.Reset(nil, nil) // holds on to nothing of ours
	reader.LimitLong(a.client.long)
	for {
		e, err := reader.Next()
		switch {
		case err == io.EOF: //nolint:errorlint // Next does not wrap it
			s.ended, s.stray = true, bytes.Clone(reader.Stray())
		case err != nil:
			s.cut = err
			s.malformed = errors.Is(err, sse.ErrTooLong) || errors.Is(err, sse.ErrTooManyLong)
		case isDone(e.Data):
			s.ended = true
		case s.take(a, e):
			continue
		}
		s.takeStray(reader.Stray())
		if err == nil && (s.ended || s.errorSent) {
			a.drain(reader)
		}
		s.tell(a.req)
		a.client.standIn(s)
		return s
	}
}

// takeStray takes in what came outside of events. An error that came so is one nevertheless: as a field of its own, as
// llama.cpp wrote it until 2025, or as plain JSON, which Gemini breaks streams off with.
func (s *stream) takeStray(text []byte) {
	if len(text) == 0 || s.errorSent {
		return
	}
	text, isField := bytes.CutPrefix(text, []byte("error:"))
	var d decoder
	if text = bytes.TrimSpace(text); isField || d.decode(text) && d.event.err {
		s.errorSent, s.problem = true, messageOf(text)
	}
}

func isDone(data []byte) bool {
	const done = "[DONE]"
	return len(data) >= len(done) && data[0] != '{' && string(bytes.TrimSpace(data)) == done
}

// telling is a body before whose next read, which may wait, the live count of events is brought up to date.
type telling struct {
	body io.Reader
	req  *probe.Request
	s    *stream
}

func (t telling) Read(p []byte) (int, error) {
	t.s.tell(t.req)
	return t.body.Read(p)
}

func (s *stream) tell(req *probe.Request) {
	if s.unsaid > 0 && req.Events != nil {
		req.Events.Add(int64(s.unsaid))
	}
	s.unsaid = 0
}

func (a *attempt) lastRead() (at time.Time, lag time.Duration) {
	stamp := a.times.LastRead()
	return stamp.At, stamp.Lag
}

// drain reads what is left of the body, without waiting for long.
func (a *attempt) drain(reader *sse.Reader) {
	a.watch.end(drainWait)
	for {
		if _, err := reader.Next(); err != nil {
			return
		}
	}
}

// take takes in one event and reports whether to go on.
func (s *stream) take(a *attempt, e *sse.Event) bool {
	ev, valid := &s.decoder.event, s.decoder.decode(e.Data)
	switch {
	case string(e.Name) == "error" || valid && ev.err:
		s.errorSent, s.problem = true, messageOf(e.Data)
		return false
	case !valid && (len(bytes.TrimSpace(e.Data)) == 0 || isOther(e.Name)): // a sign of life
		return true
	case !valid && e.Unterminated:
		s.cut = io.ErrUnexpectedEOF
		return false
	case !valid:
		s.malformed, s.problem = true, "an event is not JSON: "+string(e.Data[:min(len(e.Data), maxDetail)])
		return false
	}
	if n := max(ev.usage.excessive(), ev.timings.excessive()); n > 0 {
		s.malformed, s.problem = true, fmt.Sprintf("no request has %d tokens, as the server claims", n)
		return false
	}
	tokens, known := s.count(ev)
	if ev.visible() || tokens > 0 {
		if s.events == 0 {
			a.times.LimitReads(0)
			a.req.Flight.FirstTokenAt(e.At)
		}
		if s.arrive(e, tokens, known) {
			a.watch.tokenAt(e.At)
		}
	}
	if ev.finish != "" {
		s.finish(s.since(e.At))
		a.watch.end(min(tailWait, a.watch.idle))
	}
	s.account(ev)
	return true
}

// isOther reports whether an event's name is not one of answers, which have none or that of the standard's default.
func isOther(name []byte) bool { return len(name) > 0 && string(name) != "message" }

// count returns how many tokens an event holds, and whether the server said so: by a running total on every event, or
// by their ids. A server that sends output without a total gives one at the end only, which is no arrival of tokens.
func (s *stream) count(ev *event) (tokens int, known bool) {
	total := ev.usage.completion
	s.plain = s.plain || ev.visible() && total == 0
	s.zero = s.zero || ev.choices > 0 && ev.usage.prompt > 0 && total == 0
	if total > 0 && ev.choices > 0 && !s.plain && (ev.visible() || s.counting(ev)) {
		tokens, known = max(0, total-s.tokens), true
		s.tokens = max(s.tokens, total)
	}
	if !known && ev.tokenIDs > 0 {
		tokens, known = ev.tokenIDs, true
	}
	return tokens, known
}

// counting reports whether the total of an event without visible output counts what that event holds. Where the answer
// has ended, or ends with this event and had no total before, not even of none, it is the total of the answer.
func (s *stream) counting(ev *event) bool {
	return s.res.FinishReason == "" && (ev.finish == "" || s.tokens > 0 || s.zero)
}

// arrive records an event that carries output and reports whether that is a new arrival, or one that came together with
// the one before.
func (s *stream) arrive(e *sse.Event, tokens int, known bool) (fresh bool) {
	res, ev := s.res, &s.decoder.event
	since := s.since(e.At)
	if s.events == 0 {
		res.FirstToken = since
	}
	res.LastToken, res.End = since, since
	if fresh = s.events == 0 || e.At.Sub(s.at) >= probe.Together; fresh {
		s.known = true
		res.Arrivals = append(res.Arrivals, probe.Arrival{})
	}
	s.at = e.At
	if res.FirstAnswer == 0 && ev.answer {
		res.FirstAnswer = res.LastToken
	}
	s.thought = s.thought || ev.reasoning
	s.events++
	s.unsaid++
	last := &res.Arrivals[len(res.Arrivals)-1]
	last.At = since
	last.Events++
	last.Lag = max(last.Lag, e.Lag)
	last.Tokens += tokens
	s.exact += tokens
	s.inexact = s.inexact || !known
	if s.known = s.known && known; !s.known {
		last.Tokens = 0
	}
	return fresh
}

// since returns the time of a read as an offset from the send.
func (s *stream) since(at time.Time) time.Duration { return max(1, at.Sub(s.sent)) }

// finish records a finish reason. The first counts, unless a later one is worse.
func (s *stream) finish(since time.Duration) {
	s.res.End = since
	if finish := s.decoder.event.finish; s.res.FinishReason == "" || whole(s.res.FinishReason) && !whole(finish) {
		s.res.FinishReason = clean(finish, maxFinish)
	}
}

// account keeps the last non-zero value of every count. Some servers send zeros until the end.
func (s *stream) account(ev *event) {
	if !ev.hasUsage && ev.timings == (usage{}) {
		return
	}
	keep := func(old *int, new int) {
		if new > 0 {
			*old = new
		}
	}
	keep(&s.usage.prompt, ev.usage.prompt)
	keep(&s.usage.completion, ev.usage.completion)
	keep(&s.usage.cached, ev.usage.cached)
	keep(&s.usage.reasoning, max(ev.usage.reasoning, ev.usage.reasoningFlat))
	keep(&s.timings.prompt, ev.timings.prompt+ev.timings.cached)
	keep(&s.timings.completion, ev.timings.completion)
	keep(&s.timings.cached, ev.timings.cached)
}

// eventStream returns the body to read if the answer is an event stream: it says so, or it looks like one.
func eventStream(response *http.Response) (body io.Reader, ok bool) {
	if hasType(response.Header, "text/event-stream") {
		return response.Body, true
	}
	head := make([]byte, 0, firstRead)
	for {
		n, err := response.Body.Read(head[len(head):cap(head)])
		head = head[:len(head)+n]
		start := bytes.TrimLeft(bytes.TrimPrefix(head, []byte("\ufeff")), " \t\r\n")
		if len(start) >= len("event:") || err != nil || len(head) == cap(head) {
			for _, prefix := range []string{"data:", "event:", "id:", "retry:", ":"} {
				ok = ok || bytes.HasPrefix(start, []byte(prefix))
			}
			return io.MultiReader(bytes.NewReader(head), response.Body), ok
		}
	}
}
