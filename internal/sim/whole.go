package sim

import (
	"net/http"
	"strconv"
)

// whole sends the answer as one JSON object.
func (x *exchange) whole() {
	j := x.job
	n, finish := j.total, j.finish
	x.record.Status, x.record.Outcome = http.StatusOK, OutcomeCompleted
	if j.plan.body == bodyJSON {
		x.record.Outcome = OutcomeFault
	}
	switch j.plan.end {
	case endNone:
	case endStop:
		n, finish = 0, "stop"
	default:
		n, finish = x.cutAfter(), "abort"
	}
	x.out = x.plainSink()
	if !x.await(max(n, 1)) {
		if x.r.Context().Err() != nil {
			x.record.Outcome = OutcomeDisconnected
			return
		}
		n, finish, x.record.Outcome = int(x.q.granted.Load()), "abort", OutcomeAborted
	} else if j.plan.end != endNone && !x.endWhole() {
		return
	}
	x.record.FinishReason = finish
	usage := j.plan.usage != usageMissing
	body := x.enc.answer(x.buf[:0], string(x.id), x.received.Unix(), x.s.shapes.model, n, finish, usage)
	header := x.w.Header()
	header.Set("Content-Type", "application/json")
	header.Set("Content-Length", strconv.Itoa(len(body)))
	x.send(body, n)
}

// endWhole ends an answer that is no stream as the plan wants. It reports true if the answer is to be sent after all.
func (x *exchange) endWhole() bool {
	x.record.Outcome = OutcomeFault
	x.s.withdraw(x.q)
	switch e := x.job.plan.end; e {
	case endAbort:
		x.record.Outcome = OutcomeAborted
		return true
	case endStop:
		return true
	case endNotJSON:
		x.w.Write([]byte(engineFailure))
	case endErrorObject, endErrorString, endErrorNamed:
		x.refuse(x.s.statusError(http.StatusInternalServerError))
	case endHang, endEndless:
		x.hang()
	default:
		x.record.Status = 0
		x.cutConnection(e, nil)
	}
	return false
}
