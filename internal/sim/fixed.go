package sim

import (
	"container/heap"
	"time"
)

// timetable gives each sequence its tokens at fixed times after its arrival, whatever the load. Times are kept in a
// heap, the next token first.
type timetable struct {
	timing      FixedTiming
	pace        *pace
	due         byTime
	tokens      int
	frozenUntil time.Duration
}

func newTimetable(timing FixedTiming, p *pace) *timetable { return &timetable{timing: timing, pace: p} }

func (t *timetable) add(q *sequence, arrived time.Duration) {
	q.at = max(arrived, t.frozenUntil) + t.pace.vary(t.timing.TimeToFirstToken)
	t.tokens += q.prompt
	heap.Push(&t.due, q)
}

func (t *timetable) remove(q *sequence, _ time.Duration) bool {
	if q.index >= len(t.due) || t.due[q.index] != q {
		return false
	}
	heap.Remove(&t.due, q.index)
	t.tokens -= q.prompt + int(q.granted.Load())
	return true
}

func (t *timetable) clear(each func(*sequence)) {
	for _, q := range t.due {
		each(q)
	}
	t.due, t.tokens = nil, 0
}

func (t *timetable) next() (time.Duration, bool) {
	if len(t.due) == 0 {
		return 0, false
	}
	return t.due[0].at, true
}

func (t *timetable) advance(now time.Duration) {
	for len(t.due) > 0 && t.due[0].at <= now {
		q := t.due[0]
		t.tokens++
		q.at += t.pace.vary(t.timing.InterTokenLatency) + t.pace.drawStall()
		if q.grant() {
			heap.Pop(&t.due)
			t.tokens -= q.prompt + q.total
		} else {
			heap.Fix(&t.due, 0)
		}
	}
}

func (t *timetable) freeze(now, until time.Duration) {
	from := max(now, t.frozenUntil)
	if until <= from {
		return
	}
	for _, q := range t.due {
		q.at += until - from // all by the same amount: the heap's order stands
	}
	t.frozenUntil = until
}

func (t *timetable) load() load { return load{running: len(t.due), tokens: t.tokens} }

// byTime is a heap of sequences, the one whose next token is due first on top.
type byTime []*sequence

func (h byTime) Len() int           { return len(h) }
func (h byTime) Less(i, j int) bool { return h[i].at < h[j].at }
func (h byTime) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *byTime) Push(x any) {
	q := x.(*sequence) //nolint:forcetypeassert // heap.Push is given nothing else
	q.index = len(*h)
	*h = append(*h, q)
}

func (h *byTime) Pop() any {
	last := len(*h) - 1
	q := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return q
}
