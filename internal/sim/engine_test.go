package sim

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

const ms = time.Millisecond

// bench drives an engine in virtual time and notes when each sequence got its tokens.
type bench struct {
	engine engine
	now    time.Duration
	all    []*sequence
	grants map[*sequence][]time.Duration
}

func newBench(e engine) *bench { return &bench{engine: e, grants: map[*sequence][]time.Duration{}} }

// add has a sequence arrive now.
func (b *bench) add(prompt, total int) *sequence {
	q := newSequence(prompt, total, 1)
	b.all = append(b.all, q)
	b.engine.add(q, b.now)
	b.step(b.now)
	return q
}

// until runs the engine to time t.
func (b *bench) until(t time.Duration) {
	for {
		at, ok := b.engine.next()
		if !ok || at > t {
			b.now = t
			return
		}
		b.step(at)
	}
}

// finish runs the engine until nothing is left to do.
func (b *bench) finish() {
	for {
		at, ok := b.engine.next()
		if !ok {
			return
		}
		b.step(at)
	}
}

func (b *bench) step(at time.Duration) {
	b.now = max(b.now, at)
	b.engine.advance(b.now)
	for _, q := range b.all {
		for len(b.grants[q]) < int(q.granted.Load()) {
			b.grants[q] = append(b.grants[q], b.now)
		}
	}
}

func (b *bench) want(t *testing.T, name string, q *sequence, times ...time.Duration) {
	t.Helper()
	if diff := cmp.Diff(times, b.grants[q]); diff != "" {
		t.Errorf("tokens of %s (-want +got):\n%s", name, diff)
	}
}

// every returns n times: first, first+gap, …
func every(first, gap time.Duration, n int) []time.Duration {
	times := make([]time.Duration, n)
	for i := range times {
		times[i] = first + time.Duration(i)*gap
	}
	return times
}

func steady() *pace { return &pace{slowdown: 1, random: rand.New(rand.NewPCG(1, 1))} }

func TestBatchPrefillsInChunks(t *testing.T) {
	o := Options{Slots: 4, PrefillTokensPerSecond: 1000, PrefillChunk: 50, DecodeStep: 10 * ms}
	b := newBench(newBatch(&o, steady()))
	q := b.add(120, 4)
	b.finish()
	// Chunks of 50, 50 and 20 tokens at 1 ms a token, each in a step of 10 ms: 60 + 60 + 30 ms.
	b.want(t, "q", q, every(150*ms, 10*ms, 4)...)
}

func TestBatchAdmitsInOrderAtStepBoundaries(t *testing.T) {
	o := Options{Slots: 2, PrefillTokensPerSecond: 1000, PrefillChunk: 100, DecodeStep: 10 * ms}
	b := newBench(newBatch(&o, steady()))
	first := b.add(0, 5)
	b.until(3 * ms)
	second := b.add(0, 2)
	b.until(4 * ms)
	third := b.add(0, 1)
	b.until(5 * ms)
	if got, want := b.engine.load(), (load{running: 1, waiting: 2}); got != want {
		t.Errorf("load within the first step is %+v, want %+v", got, want)
	}
	b.finish()
	b.want(t, "first", first, every(10*ms, 10*ms, 5)...)
	b.want(t, "second, which joins at 10 ms", second, 20*ms, 30*ms)
	b.want(t, "third, which gets the slot at 30 ms", third, 40*ms)
}

// TestBatchIsNotMovedByLateness has the engine hear of things later than they happened.
func TestBatchIsNotMovedByLateness(t *testing.T) {
	o := Options{Slots: 2, PrefillTokensPerSecond: 1000, PrefillChunk: 100, DecodeStep: 10 * ms}
	e := newBatch(&o, steady())
	first, second := newSequence(0, 5, 1), newSequence(0, 1, 1)
	e.add(first, 0)
	e.advance(0)
	e.add(second, 12*ms)
	e.advance(29 * ms)
	if n := first.granted.Load(); n != 2 {
		t.Errorf("at 29 ms the first has %d tokens, want 2", n)
	}
	if second.granted.Load() != 0 {
		t.Error("the second joined a step that began before it arrived")
	}
	e.advance(30 * ms)
	if second.granted.Load() != 1 {
		t.Error("the second did not join the step that began at 20 ms")
	}
	e.advance(50 * ms)
	third := newSequence(0, 1, 1)
	e.add(third, 45*ms) // when the last step was under way
	if e.advance(59 * ms); third.granted.Load() != 0 {
		t.Error("the third joined a step that began before the last one ended")
	}
	if e.advance(60 * ms); third.granted.Load() != 1 {
		t.Error("the third did not join the step that began at 50 ms")
	}
}

func TestBatchSlowsDownWithLoad(t *testing.T) {
	o := Options{Slots: 8, PrefillTokensPerSecond: 1000, PrefillChunk: 40, DecodeStep: 10 * ms, DecodePerSequence: ms}
	b := newBench(newBatch(&o, steady()))
	old := b.add(0, 6)
	b.until(11 * ms)
	young := b.add(40, 3)
	b.finish()
	// Alone 11 ms a step; one step with 40 ms of prefill; then 12 ms a step for two.
	b.want(t, "old", old, 11*ms, 22*ms, 73*ms, 85*ms, 97*ms, 108*ms)
	b.want(t, "young", young, 73*ms, 85*ms, 97*ms)
}

func TestBatchSaturates(t *testing.T) {
	for _, slots := range []int{1, 8, 32} {
		o := Options{
			Slots: slots, PrefillTokensPerSecond: 1, PrefillChunk: 1, DecodeStep: 4 * ms, DecodePerSequence: ms,
		}
		b := newBench(newBatch(&o, steady()))
		const perSlot, tokens = 5, 20
		for range perSlot * slots {
			b.add(0, tokens)
		}
		// The first sequence has the first step for itself; what it is ahead by is lost at the end.
		b.finish()
		step := 4*ms + time.Duration(slots)*ms
		limit := float64(slots) / step.Seconds()
		got := float64(perSlot*slots*tokens) / b.now.Seconds()
		if got > 1.001*limit || got < 0.95*limit {
			t.Errorf("%d slots: %.0f tokens/s, want just below slots/step = %.0f", slots, got, limit)
		}
	}
}

func TestBatchRemoveFreesTheSlot(t *testing.T) {
	o := Options{Slots: 1, PrefillTokensPerSecond: 1000, PrefillChunk: 1000, DecodeStep: 10 * ms}
	b := newBench(newBatch(&o, steady()))
	hog := b.add(0, 1000)
	waiting := b.add(0, 2)
	gone := b.add(0, 2)
	b.until(25 * ms)
	for _, q := range []*sequence{hog, gone} {
		if !b.engine.remove(q, b.now) {
			t.Fatal("a sequence in the engine was not found")
		}
	}
	if b.engine.remove(hog, b.now) {
		t.Error("a sequence was removed twice")
	}
	b.finish()
	b.want(t, "hog", hog, 10*ms, 20*ms)
	b.want(t, "waiting", waiting, 40*ms, 50*ms)
	b.want(t, "gone", gone)
}

func TestBatchRemoveOfAStalledSequence(t *testing.T) {
	o := Options{Slots: 1, PrefillTokensPerSecond: 1000, PrefillChunk: 1000, DecodeStep: 10 * ms}
	p := steady()
	p.stallFraction, p.stall = 1, time.Hour
	b := newBench(newBatch(&o, p))
	stalled := b.add(0, 2)
	next := b.add(0, 1)
	b.until(time.Minute)
	b.want(t, "stalled", stalled, 10*ms)
	b.want(t, "next", next)
	b.engine.remove(stalled, b.now)
	b.finish()
	b.want(t, "next", next, time.Minute+10*ms)
}

func TestBatchStallHoldsOneSequenceOnly(t *testing.T) {
	o := Options{Slots: 2, PrefillTokensPerSecond: 1000, PrefillChunk: 1000, DecodeStep: 10 * ms}
	p := steady()
	b := newBench(newBatch(&o, p))
	stalled, other := b.add(0, 3), b.add(0, 5)
	p.stallFraction, p.stall = 1, 25*ms
	b.until(10 * ms) // the first step is of the first sequence alone
	p.stallFraction = 0
	b.finish()
	b.want(t, "stalled", stalled, 10*ms, 50*ms, 60*ms)
	b.want(t, "other", other, every(20*ms, 10*ms, 5)...)
}

func TestBatchFreeze(t *testing.T) {
	o := Options{Slots: 2, PrefillTokensPerSecond: 1000, PrefillChunk: 1000, DecodeStep: 10 * ms}
	b := newBench(newBatch(&o, steady()))
	q := b.add(0, 3)
	b.until(15 * ms)
	b.engine.freeze(b.now, b.now+2*time.Second)
	b.until(time.Second)
	b.engine.freeze(b.now, b.now+time.Second) // ends before the other: no effect
	late := b.add(0, 1)
	b.finish()
	b.want(t, "q", q, 10*ms, 2020*ms, 2030*ms)
	b.want(t, "late", late, 2030*ms)

	b = newBench(newBatch(&o, steady()))
	b.engine.freeze(0, time.Second)
	b.until(ms)
	q = b.add(0, 1)
	b.finish()
	b.want(t, "q of an idle engine", q, 1010*ms)
}

func TestTimetable(t *testing.T) {
	p := steady()
	b := newBench(newTimetable(FixedTiming{60 * ms, 9 * ms}, p))
	q := b.add(10, 4)
	b.until(5 * ms)
	other := b.add(10, 2)
	if got, want := b.engine.load(), (load{running: 2, tokens: 20}); got != want {
		t.Errorf("load is %+v, want %+v", got, want)
	}
	b.until(70 * ms)
	gone := b.add(10, 2)
	if !b.engine.remove(gone, b.now) || b.engine.remove(gone, b.now) {
		t.Error("want the sequence to be removed once")
	}
	b.engine.freeze(b.now, 100*ms)
	b.finish()
	b.want(t, "q", q, 60*ms, 69*ms, 108*ms, 117*ms)
	b.want(t, "other", other, 65*ms, 104*ms)
	b.want(t, "gone", gone)
	if got := b.engine.load(); got != (load{}) {
		t.Errorf("load at the end is %+v, want none", got)
	}

	p.slowdown = 2
	b = newBench(newTimetable(FixedTiming{60 * ms, 9 * ms}, p))
	slow := b.add(10, 2)
	b.finish()
	b.want(t, "slow", slow, 120*ms, 138*ms)
}

func TestStallsAndJitterOfATimetable(t *testing.T) {
	p := steady()
	p.stallFraction, p.stall, p.jitter = 0.1, time.Second, 0.2
	b := newBench(newTimetable(FixedTiming{60 * ms, 10 * ms}, p))
	q := b.add(0, 5001)
	b.finish()
	stalls, times := 0, b.grants[q]
	for i := 1; i < len(times); i++ {
		gap := times[i] - times[i-1]
		if gap > time.Second {
			stalls++
			gap -= time.Second
		}
		if gap < 8*ms || gap > 12*ms {
			t.Fatalf("gap %d is %v, want 10 ms ± 20 %%", i, gap)
		}
	}
	if stalls < 400 || stalls > 600 { // 500 ± 4.7 standard deviations; the seed is fixed anyway
		t.Errorf("%d of 5000 gaps have a stall, want about 500", stalls)
	}
}

// TestBatchServesEverybody checks on random arrivals what no schedule may break: every sequence gets its tokens, one a
// step at most, the first ones in order of arrival, and never more sequences run than there are slots.
func TestBatchServesEverybody(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := Options{
			Slots:                  rapid.IntRange(1, 4).Draw(t, "slots"),
			PrefillTokensPerSecond: 1000,
			PrefillChunk:           rapid.IntRange(1, 50).Draw(t, "chunk"),
			DecodeStep:             time.Duration(rapid.IntRange(0, 10).Draw(t, "step")) * ms,
			DecodePerSequence:      ms,
		}
		p := steady()
		p.jitter, p.stallFraction, p.stall = 0.5, 0.2, 30*ms
		b := newBench(newBatch(&o, p))
		for range rapid.IntRange(1, 20).Draw(t, "sequences") {
			b.add(rapid.IntRange(0, 100).Draw(t, "prompt"), rapid.IntRange(1, 10).Draw(t, "tokens"))
			b.until(b.now + time.Duration(rapid.IntRange(0, 40).Draw(t, "gap"))*ms)
			if n := b.engine.load().running; n > o.Slots {
				t.Fatalf("%d sequences run in %d slots", n, o.Slots)
			}
		}
		b.finish()
		for i, q := range b.all {
			times := b.grants[q]
			if len(times) != q.total {
				t.Fatalf("sequence %d got %d tokens of %d", i, len(times), q.total)
			}
			if !slices.IsSorted(times) || len(slices.Compact(slices.Clone(times))) != len(times) {
				t.Fatalf("sequence %d got its tokens at %v", i, times)
			}
			if o.Slots == 1 && i > 0 {
				before := b.grants[b.all[i-1]]
				if times[0] <= before[len(before)-1] {
					t.Fatalf("sequence %d began before the one ahead of it ended", i)
				}
			}
		}
		if got := b.engine.load(); got != (load{}) {
			t.Fatalf("load at the end is %+v, want none", got)
		}
	})
}

func TestSequenceWakesOncePerEvent(t *testing.T) {
	q := newSequence(0, 9, 4)
	var wakes []int
	for n := 1; n <= 9; n++ {
		if last := q.grant(); last != (n == 9) {
			t.Errorf("grant %d says last = %v", n, last)
		}
		select {
		case <-q.wake:
			wakes = append(wakes, n)
		default:
		}
	}
	if diff := cmp.Diff([]int{1, 5, 9}, wakes); diff != "" {
		t.Errorf("tokens that complete an event (-want +got):\n%s", diff)
	}
	events := []int{}
	for n := 0; n < 9; {
		n = q.next(n)
		events = append(events, n)
	}
	if diff := cmp.Diff(wakes, events); diff != "" {
		t.Errorf("ends of events by next (-want +got):\n%s", diff)
	}
}
