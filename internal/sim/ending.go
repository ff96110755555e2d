package sim

import (
	"bytes"
	"crypto/tls"
	"net"
	"net/http"
	"strconv"
)

// cutAfter is the number of tokens after which the plan ends the answer, always before its end; -1 if it does not.
func (x *exchange) cutAfter() int {
	p := &x.job.plan
	if p.end == endNone {
		return -1
	}
	return min(p.of(p.endAfter, x.job.total), x.job.total-1)
}

// interrupted ends a stream whose tokens stopped coming after the first n: the client has gone, or the server closes.
func (x *exchange) interrupted(n int) {
	if x.record.Outcome == OutcomeDisconnected || x.r.Context().Err() != nil {
		x.record.Outcome = OutcomeDisconnected
		return
	}
	x.abort(n)
}

// abort ends a stream after n tokens as vLLM does when it is told to stop.
func (x *exchange) abort(n int) {
	x.record.Outcome = OutcomeAborted
	x.finish(n, "abort")
}

// finish ends a stream after n tokens with an event that has nothing but a finish reason, and the tail.
func (x *exchange) finish(n int, reason string) {
	x.record.FinishReason = reason
	if x.send(x.enc.closeTokens(x.enc.open(x.buf[:0]), n, reason, false), 0) {
		x.tail(n)
	}
}

// end ends a stream after n tokens as a fault wants.
func (x *exchange) end(e ending, n int) {
	x.record.Outcome = OutcomeFault
	x.s.withdraw(x.q)
	switch e {
	case endAbort:
		x.abort(n)
	case endStop:
		x.finish(n, "stop")
	case endErrorObject, endErrorString, endErrorNamed, endNotJSON:
		events := x.enc.failureEvent(x.buf[:0], e)
		if !x.job.plan.noDone {
			events = x.enc.done(events)
		}
		x.send(events, 0)
	case endHang:
		x.hang()
	case endEndless:
		x.endless()
	default:
		if x.out.release() == nil {
			x.cutConnection(e, x.enc.tokens(x.buf[:0], n, n+1, "", false))
		}
	}
}

// hang is silence until the client goes away or the server closes, and with it the connection.
func (x *exchange) hang() {
	if x.out.release() != nil {
		return
	}
	select {
	case <-x.r.Context().Done():
	case <-x.s.closing:
	}
	panic(http.ErrAbortHandler)
}

// endless sends an event without an end until the client goes away or the server closes.
func (x *exchange) endless() {
	if !x.send(x.enc.open(x.buf[:0]), 0) || x.out.release() != nil {
		return
	}
	text := bytes.Repeat([]byte{'x'}, 64<<10)
	for !x.s.isClosing() {
		if _, err := x.out.w.Write(text); err != nil || x.out.flush() != nil {
			return
		}
	}
	panic(http.ErrAbortHandler) // no end, not even of the body
}

// cutConnection closes the connection under the answer: in order, by a reset, or inside the chunk with this event.
func (x *exchange) cutConnection(e ending, event []byte) {
	conn := x.hijack()
	switch {
	case e == endRST:
		setLinger(conn)
	case e == endChunkCut && event != nil:
		chunk := append(strconv.AppendInt(nil, int64(len(event)), 16), "\r\n"...)
		_, _ = conn.Write(append(chunk, event[:len(event)/2]...))
	}
}

// hijack takes the connection over, which release closes.
func (x *exchange) hijack() net.Conn {
	conn, _, err := http.NewResponseController(x.w).Hijack()
	if err != nil { // HTTP/2: the stream is reset
		panic(http.ErrAbortHandler)
	}
	x.hijacked = conn
	return conn
}

// setLinger makes the close of conn a reset.
func setLinger(conn net.Conn) {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	if t, ok := conn.(interface{ SetLinger(sec int) error }); ok {
		_ = t.SetLinger(0)
	}
}
