package selfcheck

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/inferprobe/inferprobe/internal/probe"
	"github.com/inferprobe/inferprobe/internal/sim"
)

// Outcome is what a scenario reported beside what is true. Durations are in seconds.
type Outcome struct {
	Scenario Scenario
	Stage    probe.Stage // as a sweep reports it, with its verdict
	Requests int         // compared; the others failed
	Failed   int

	TTFT, ITL, E2E, Stall Comparison
	// StallMost is what the stalls may have been at most: a write may leave the server at any time before its end.
	StallMost Quantiles

	// Lateness is how much later than due requests reached the server, by its record; GapCV the coefficient of variation
	// of the gaps between them.
	Lateness Quantiles
	GapCV    float64
	Rate     float64 // requests/s that reached the server
	Cores    float64 // that this process used on average
}

// Quantiles of observations, in seconds.
type Quantiles struct{ P50, P95, P99, Max float64 }

// Comparison is one kind of latency.
type Comparison struct {
	True Quantiles
	// Error is each reported quantile less the true one.
	Error Quantiles
	// Single is the quantiles of the errors of single requests, without their signs; zero where they are not compared.
	Single Quantiles
}

// truth is what really happened to one request.
type truth struct {
	received       time.Time
	ttft, duration float64   // seconds
	gaps           []float64 // of tokens
	stall          float64
	stallMost      float64 // where the write at its end left only when it returned
}

// truthOf reads a record. Writes that follow each other at once are one arrival of several tokens, each of which takes its
// share of the gap before it: that is what probe.Result.InterTokenLatencies means.
func truthOf(r *sim.Record) truth {
	t := truth{received: r.Received, gaps: make([]float64, 0, r.OutputTokens)}
	var last, before time.Time // write of a token, and the last one of the arrival before
	var returned time.Time     // the last write
	var tokens int             // of this arrival
	arrived := func() {
		if before.IsZero() {
			return
		}
		gap := last.Sub(before).Seconds()
		t.stall = max(t.stall, gap)
		t.stallMost = max(t.stallMost, returned.Sub(before).Seconds())
		for range tokens {
			t.gaps = append(t.gaps, gap/float64(tokens))
		}
	}
	for _, w := range r.Writes {
		switch {
		case w.Tokens == 0:
			continue
		case last.IsZero():
			t.ttft = w.Before.Sub(r.Received).Seconds()
		case w.Before.Sub(last) >= probe.Together:
			arrived()
			before, tokens = last, 0
		}
		last, returned = w.Before, w.After
		tokens += w.Tokens
	}
	arrived()
	t.duration = last.Sub(r.Received).Seconds()
	return t
}

// compare joins what the client and the simulator say about each request.
func compare(s *Scenario, stage *probe.Stage, w *witness, records []sim.Record) (*Outcome, error) {
	byID := make(map[string]*sim.Record, len(records))
	for i := range records {
		byID[records[i].RequestID] = &records[i]
	}
	o := &Outcome{Scenario: *s, Stage: *stage, Cores: w.cores}
	slices.SortFunc(w.seen, func(a, b seen) int { return a.due.Compare(b.due) })
	var all joined
	for _, request := range w.seen {
		if !request.completed {
			o.Failed++
			continue
		}
		record, ok := byID[request.id]
		if !ok {
			return nil, fmt.Errorf("%s: the simulator has no record of request %q", s.Name, request.id)
		}
		all.add(&request, truthOf(record))
	}
	if o.Requests = len(all.ttft); o.Requests == 0 {
		return nil, fmt.Errorf("%s: none of %d requests was completed", s.Name, o.Failed)
	}
	o.TTFT = against(stage.TimeToFirstToken, all.ttft, all.ttftErrors)
	o.ITL = against(stage.InterTokenLatency, all.gaps, nil)
	o.E2E = against(stage.RequestDuration, all.duration, all.durationErrors)
	o.Stall = against(stage.StreamStall, all.stall, nil)
	o.StallMost = quantiles(all.stallMost)
	o.Lateness = quantiles(all.lateness)
	o.Rate, o.GapCV = regularity(all.received)
	return o, nil
}

// joined is the observations of every request that both sides know.
type joined struct {
	ttft, gaps, duration, stall []float64 // true
	stallMost                   []float64
	ttftErrors, durationErrors  []float64 // of single requests
	lateness                    []float64
	received                    []time.Time // in the order in which they were due
}

func (j *joined) add(s *seen, t truth) {
	j.ttft = append(j.ttft, t.ttft)
	j.gaps = append(j.gaps, t.gaps...)
	j.duration = append(j.duration, t.duration)
	if len(t.gaps) > 0 {
		j.stall = append(j.stall, t.stall)
		j.stallMost = append(j.stallMost, t.stallMost)
	}
	j.ttftErrors = append(j.ttftErrors, math.Abs(s.ttft.Seconds()-t.ttft))
	j.durationErrors = append(j.durationErrors, math.Abs(s.duration.Seconds()-t.duration))
	j.lateness = append(j.lateness, t.received.Sub(s.due).Seconds())
	j.received = append(j.received, t.received)
}

// against compares a reported distribution with the true observations.
func against(reported probe.Distribution, observed, singleErrors []float64) Comparison {
	c := Comparison{True: quantiles(observed), Single: quantiles(singleErrors)}
	c.Error = Quantiles{
		reported.P50 - c.True.P50, reported.P95 - c.True.P95, reported.P99 - c.True.P99, reported.Max - c.True.Max,
	}
	return c
}

// quantiles sorts observations and returns their quantiles by the definition that reports have (probe.Distribution).
func quantiles(observed []float64) Quantiles {
	if len(observed) == 0 {
		return Quantiles{}
	}
	slices.Sort(observed)
	at := func(p float64) float64 {
		position := p * float64(len(observed)-1)
		below := int(position)
		above := min(below+1, len(observed)-1)
		return observed[below] + (position-float64(below))*(observed[above]-observed[below])
	}
	return Quantiles{at(0.50), at(0.95), at(0.99), observed[len(observed)-1]}
}

// regularity returns the rate of arrivals and the coefficient of variation of the gaps between them.
func regularity(arrivals []time.Time) (rate, cv float64) {
	n := len(arrivals) - 1
	if n < 1 {
		return 0, 0
	}
	mean := arrivals[n].Sub(arrivals[0]).Seconds() / float64(n)
	var squares float64
	for i := range n {
		deviation := arrivals[i+1].Sub(arrivals[i]).Seconds() - mean
		squares += deviation * deviation
	}
	return 1 / mean, math.Sqrt(squares/float64(n)) / mean
}
