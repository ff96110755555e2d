package sweep

import (
	"time"

	"github.com/inferprobe/inferprobe/internal/load"
	"github.com/inferprobe/inferprobe/internal/probe"
)

// epoch is when hand-made stages start.
var epoch = time.Unix(1_800_000_000, 0)

// answer describes the Result of a request made by hand: tokens arrive one an event at ttft, ttft + gap, …
type answer struct {
	sent      time.Duration // since epoch
	ttft, gap time.Duration
	tokens    int
	asked     int           // 0 = tokens
	cut       time.Duration // the answer is incomplete from this time since epoch on; 0 = it is whole
	prompt    int           // 0 = 100
	overhead  int           // of the prompt, as the server counts it; below −prompt it does not count
	due       time.Duration // since epoch; 0 = none
	lag       time.Duration // of every read
}

func (a answer) result() *probe.Result {
	if a.prompt == 0 {
		a.prompt = 100
	}
	if a.asked == 0 {
		a.asked = a.tokens
	}
	r := &probe.Result{
		Request: &probe.Request{PromptTokens: a.prompt, OutputTokens: a.asked},
		Sent:    epoch.Add(a.sent), Status: 200, Outcome: probe.Completed, FinishReason: "length",
		PromptTokens: max(0, a.prompt+a.overhead),
	}
	if a.due > 0 {
		r.Request.Due = epoch.Add(a.due)
	}
	for i := range a.tokens {
		at := a.ttft + time.Duration(i)*a.gap
		if a.cut > 0 && a.sent+at >= a.cut {
			r.Outcome, r.FinishReason = probe.Incomplete, ""
			break
		}
		if n := len(r.Arrivals); n > 0 && r.Arrivals[n-1].At == at {
			r.Arrivals[n-1].Events++
		} else {
			r.Arrivals = append(r.Arrivals, probe.Arrival{At: at, Events: 1, Lag: a.lag})
		}
		r.OutputTokens++
		r.LastToken, r.End = at, at
	}
	if len(r.Arrivals) > 0 {
		r.FirstToken, r.FirstAnswer, r.TokenSource = r.Arrivals[0].At, r.Arrivals[0].At, probe.TokensFromServer
	}
	return r
}

// failed is a request that fails for a reason after some tokens.
func (a answer) failed(reason probe.Reason, tokens int) *probe.Result {
	a.asked, a.tokens = max(a.asked, a.tokens), tokens
	r := a.result()
	r.Outcome, r.Reason, r.FinishReason, r.Detail = probe.Failed, reason, "", "because"
	return r
}

// collect records results as those of a stage that began at epoch.
func collect(results ...*probe.Result) *collector {
	c := newCollector(epoch, probe.Objectives{})
	for _, r := range results {
		last := r.Sent.Add(r.End)
		c.now = func() time.Time { return last }
		c.Record(r)
	}
	return c
}

// endedBy is the Outcome of a stage that lasted for so long.
func endedBy(ending load.Ending, lasted time.Duration) load.Outcome {
	return load.Outcome{Started: epoch, Ended: epoch.Add(lasted), Ending: ending}
}

func constantAt(rate float64, limit time.Duration) named {
	return named{"constant-1", load.Stage{Profile: probe.ProfileConstant, Rate: rate, MaxDuration: limit}}
}

func throughputFor(limit time.Duration) named {
	return named{probe.StageThroughput, load.Stage{Profile: probe.ProfileThroughput, MaxInFlight: 8, MaxDuration: limit}}
}

func synchronousFor(limit time.Duration) named {
	return named{probe.StageSynchronous, load.Stage{Profile: probe.ProfileSynchronous, MaxDuration: limit}}
}
