package sim

import (
	"slices"
	"time"
)

// batch is continuous batching with chunked prefill, as vLLM and its kin schedule: the engine works in steps; a
// sequence joins the running ones at a step boundary when a slot is free; a step gives each decoding sequence one token
// and prefills one chunk of prompts; the longer a step takes, the longer the gap between tokens for everyone.
type batch struct {
	slots       int
	prefillRate float64 // tokens/s
	chunk       int
	step        time.Duration
	perSequence time.Duration
	pace        *pace

	waiting []*sequence // in order of arrival
	running []*sequence // in order of admission

	stepping    bool
	end         time.Duration // of the current step
	resume      time.Duration // with no step under way: when one can begin; negative if only an arrival can bring one
	frozenUntil time.Duration
}

func newBatch(o *Options, p *pace) *batch {
	return &batch{
		slots: o.Slots, prefillRate: o.PrefillTokensPerSecond, chunk: o.PrefillChunk,
		step: o.DecodeStep, perSequence: o.DecodePerSequence, pace: p, resume: -1,
	}
}

func (b *batch) add(q *sequence, arrived time.Duration) {
	q.arrived = max(arrived, b.end) // no step can begin before the last one ended
	b.waiting = append(b.waiting, q)
	if !b.stepping && (b.resume < 0 || arrived < b.resume) {
		b.resume = arrived
	}
}

func (b *batch) remove(q *sequence, now time.Duration) bool {
	for _, list := range []*[]*sequence{&b.running, &b.waiting} {
		if i := slices.Index(*list, q); i >= 0 {
			*list = slices.Delete(*list, i, i+1)
			if !b.stepping {
				b.resume = now // the slot may be somebody else's
			}
			return true
		}
	}
	return false
}

func (b *batch) clear(each func(*sequence)) {
	for _, q := range slices.Concat(b.running, b.waiting) {
		each(q)
	}
	b.running, b.waiting, b.stepping, b.resume = nil, nil, false, -1
}

func (b *batch) next() (time.Duration, bool) {
	if b.stepping {
		return b.end, true
	}
	return b.resume, b.resume >= 0
}

// advance lets steps follow each other without a gap: the next one begins when the last one was due to end, however
// late that is noticed, so that throughput does not depend on the machine.
func (b *batch) advance(now time.Duration) {
	for {
		at, ok := b.next()
		if !ok || at > now {
			return
		}
		if b.stepping {
			b.finishStep()
		}
		b.beginStep(at)
	}
}

func (b *batch) freeze(now, until time.Duration) {
	from := max(now, b.frozenUntil)
	if until <= from {
		return
	}
	if b.stepping {
		b.end += until - from
	}
	b.frozenUntil = until
}

// beginStep admits sequences and starts a step at time at, if there is work.
func (b *batch) beginStep(at time.Duration) {
	for len(b.running) < b.slots && len(b.waiting) > 0 && b.waiting[0].arrived <= at {
		b.running = append(b.running, b.waiting[0])
		b.waiting[0] = nil
		b.waiting = b.waiting[1:]
	}
	cost, decoding, budget := b.step, 0, b.chunk
	for _, q := range b.running {
		q.chunk = min(q.prompt-q.prefilled, budget)
		budget -= q.chunk
		q.decoding = q.prefilled == q.prompt && q.stalledUntil <= at
		if q.decoding {
			decoding++
		}
	}
	prefill := b.chunk - budget
	if prefill == 0 && decoding == 0 {
		b.idle(at)
		return
	}
	cost += time.Duration(decoding)*b.perSequence + time.Duration(float64(prefill)/b.prefillRate*float64(time.Second))
	b.stepping = true
	b.end = max(at, b.frozenUntil) + max(b.pace.vary(cost), 1)
}

// idle notes when a step can begin though none can at time at: when a stall ends or somebody arrives.
func (b *batch) idle(at time.Duration) {
	b.stepping, b.resume = false, -1
	until := func(t time.Duration) {
		if t > at && (b.resume < 0 || t < b.resume) {
			b.resume = t
		}
	}
	for _, q := range b.running {
		until(q.stalledUntil)
	}
	if len(b.waiting) > 0 && len(b.running) < b.slots {
		until(b.waiting[0].arrived)
	}
}

// finishStep grants the tokens of the step that has ended and lets go of the sequences that are complete.
func (b *batch) finishStep() {
	b.running = slices.DeleteFunc(b.running, func(q *sequence) bool {
		q.prefilled += q.chunk
		first := q.chunk > 0 && q.prefilled == q.prompt
		if !first && !q.decoding {
			return false
		}
		q.stalledUntil = b.end + b.pace.drawStall()
		return q.grant()
	})
}

func (b *batch) load() load {
	l := load{running: len(b.running), waiting: len(b.waiting)}
	for _, q := range b.running {
		l.tokens += q.prefilled + int(q.granted.Load())
	}
	return l
}
