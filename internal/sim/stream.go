package sim

import (
	"context"
	"io"
	"net/http"
	"strconv"
	"time"
)

// answer does what j says.
func (x *exchange) answer(j *job) {
	x.job = j
	x.record.PromptTokens, x.record.Fault = j.prompt, j.plan.faults
	x.pause(j.plan.slowHeaders)
	if x.replaced(&j.plan) {
		return
	}
	if !x.join() {
		x.refuse(x.s.statusError(http.StatusServiceUnavailable))
		return
	}
	x.record.writes = make([]byte, 0, min(8*(j.total/x.s.opts.TokensPerEvent+4), 4096))
	q, s := x.q, x.s
	defer s.withdraw(q)
	defer context.AfterFunc(x.r.Context(), func() { s.withdraw(q) })()
	x.enc = encoder{
		chat: j.chat, continuous: j.continuous, eol: j.plan.eol, head: x.enc.head,
		prompt: j.prompt, cached: j.cached, usage: j.plan.usage, word: j.word,
	}
	if j.stream && j.plan.body != bodyJSON {
		x.stream()
	} else {
		x.whole()
	}
}

// replaced sends what the plan has in place of an answer, and reports whether it has something.
func (x *exchange) replaced(p *plan) bool {
	header := x.w.Header()
	switch {
	case p.status != 0:
		if p.retryAfter > 0 {
			header.Set("Retry-After", strconv.Itoa(p.retryAfter))
		}
		x.refuse(x.s.statusError(p.status))
	case p.redirect != "":
		x.fault(http.StatusTemporaryRedirect)
		header.Set("Location", p.redirect)
		x.w.WriteHeader(http.StatusTemporaryRedirect)
	case p.body == bodyError:
		x.fault(http.StatusOK)
		writeJSON(x.w, http.StatusOK, errorObject)
	case p.body == bodyHTML:
		x.fault(http.StatusOK)
		header.Set("Content-Type", "text/html")
		x.w.Write([]byte("<!DOCTYPE html><html><body><h1>It works!</h1></body></html>\n"))
	case p.body == bodyNone:
		x.fault(http.StatusNoContent)
		x.w.WriteHeader(http.StatusNoContent)
	case p.body == bodyNotHTTP:
		x.fault(0)
		_, _ = io.WriteString(x.hijack(), "SSH-2.0-inferprobe-sim\r\n")
	default:
		return false
	}
	return true
}

// fault records that a fault replaces the answer, with this status; 0 = none.
func (x *exchange) fault(status int) { x.record.Outcome, x.record.Status = OutcomeFault, status }

// pause waits for d, or until the client goes away or the server closes.
func (x *exchange) pause(d time.Duration) {
	if d == 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-x.r.Context().Done():
	case <-x.s.closing:
	}
}

// join makes the request's sequence and submits it to the engine. It reports false if the server is shutting down.
func (x *exchange) join() bool {
	x.q = newSequence(x.job.prompt, x.job.total, x.s.opts.TokensPerEvent)
	x.q.prefilled = x.job.cached
	if x.s.opts.atOnce() {
		x.q.granted.Store(int32(x.job.total))
		return true
	}
	return x.s.submit(x.q, x.received)
}

// await waits for the n-th token, sending comments meanwhile if the plan wants some. It reports false if the token will
// not come.
func (x *exchange) await(n int) bool {
	for int(x.q.granted.Load()) < n {
		if x.q.over.Load() {
			return false
		}
		if x.comments == nil {
			<-x.q.wake
			continue
		}
		select {
		case <-x.q.wake:
		case <-x.comments:
			if !x.send(x.enc.comment(x.buf[:0]), 0) {
				return false
			}
		}
	}
	return true
}

// send sends events that hold so many tokens, and reports false if the client is gone. It keeps the memory of events
// for the next ones.
func (x *exchange) send(events []byte, tokens int) bool {
	x.buf = events
	if x.out.send(events, tokens) != nil {
		x.record.Outcome = OutcomeDisconnected
		return false
	}
	return true
}

// stream sends the answer as events.
func (x *exchange) stream() {
	p := &x.job.plan
	x.record.Status, x.record.Outcome = http.StatusOK, OutcomeCompleted
	x.enc.begin(string(x.id), x.received.Unix(), x.s.shapes.model)
	header := x.w.Header()
	header["Content-Type"] = []string{"text/event-stream; charset=utf-8"}
	if p.gzip {
		header["Content-Encoding"] = []string{"gzip"}
	}
	closeSink := x.openSink(x.s.opts.atOnce())
	if p.comments > 0 {
		ticker := time.NewTicker(p.comments)
		defer ticker.Stop()
		x.comments = ticker.C
	}
	x.w.WriteHeader(http.StatusOK)
	if !x.out.hold && x.out.flush() != nil { // the head leaves before there is a token, as vLLM's does
		x.record.Outcome = OutcomeDisconnected
		return
	}
	x.events(p)
	if x.hijacked == nil && closeSink() != nil {
		x.record.Outcome = OutcomeDisconnected
	}
}

// events sends everything that the stream holds.
func (x *exchange) events(p *plan) {
	if p.bom && !x.send(append(x.buf[:0], "\ufeff"...), 0) {
		return
	}
	switch p.body {
	case bodyNothing:
		x.record.Outcome = OutcomeFault
	case bodyDone:
		x.record.Outcome = OutcomeFault
		x.send(x.enc.done(x.buf[:0]), 0)
	default:
		x.tokens()
	}
}

// tokens sends the events with tokens, as they are granted, and what follows them.
func (x *exchange) tokens() {
	j, p := x.job, &x.job.plan
	cut, big := x.cutAfter(), -1
	if p.bigEvent > 0 {
		big = j.total / 2
	}
	role := j.chat
	if role && p.earlyRole {
		role = false
		if !x.send(x.enc.role(x.buf[:0]), 0) {
			return
		}
	}
	for written := 0; written < j.total; {
		next := x.q.next(written)
		if written < cut {
			next = min(next, cut)
		}
		early := written == cut
		if wait := !early || p.end != endHang; wait && !x.await(next) {
			x.interrupted(written)
			return
		}
		if early {
			x.end(p.end, written)
			return
		}
		if role && !x.send(x.enc.role(x.buf[:0]), 0) {
			return
		}
		role = false
		finish := ""
		if next == j.total && !p.noFinish {
			finish = j.finish
		}
		event := x.tokenEvent(written, next, finish, written <= big && big < next)
		if !x.send(event, next-written) {
			return
		}
		x.record.FinishReason = finish
		written = next
	}
	if p.tail != endNone {
		x.end(p.tail, j.total)
		return
	}
	x.tail(j.total)
}

// tokenEvent is the event with these tokens; with big set their text is very long.
func (x *exchange) tokenEvent(from, to int, finish string, big bool) []byte {
	p := &x.job.plan
	usage := to == x.job.total && p.usage == usageInChoice && x.job.usage
	if !big {
		return x.enc.tokens(x.buf[:0], from, to, finish, usage)
	}
	event := appendFiller(x.enc.open(x.buf[:0]), p.bigEvent)
	return x.enc.closeTokens(event, to, finish, usage)
}

// tail ends a stream of n tokens: usage if it was asked for, and [DONE].
func (x *exchange) tail(n int) {
	events := x.buf[:0]
	if p := &x.job.plan; x.job.usage && p.usage != usageInChoice {
		events = x.enc.usageEvent(events, n)
	}
	if !x.job.plan.noDone {
		events = x.enc.done(events)
	}
	if len(events) > 0 {
		x.send(events, 0)
	}
}
