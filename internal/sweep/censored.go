package sweep

import (
	"math"
	"time"

	"github.com/inferprobe/inferprobe/internal/probe"
	"github.com/inferprobe/inferprobe/internal/stats"
)

// Requests that the end of a stage cuts off are right-censored observations: what they had waited is less than what they
// would have taken. With these lower bounds a quantile of all is a lower bound itself. In a stage that is steady it is
// hardly more than the quantile of the requests that completed: as many are cut off as are always in flight, and few of
// these are slow ones.
const (
	censoredQuantile = 0.90
	censoredShare    = 0.05 // by which the lower bound must exceed the quantile that is reported …
	// … and as many of those cut off by so many standard errors of the quantile's rank, sqrt(q (1 − q) n): of fewer it is
	// chance whether they are in the stage.
	censoredErrors = 2
)

// censored is of the requests that were cut off: no more than may be in flight at once.
type censored struct {
	first   []float64 // seconds for which they had waited for a first token that had not come
	whole   []float64 // … for the end
	lengths []float64 // tokens that had come by tokens asked for
}

// add takes a request that was cut off now.
func (n *censored) add(r *probe.Result, now time.Time) {
	if r.Sent.IsZero() {
		return
	}
	waited := now.Sub(r.Sent).Seconds()
	n.whole = append(n.whole, waited)
	n.lengths = append(n.lengths, float64(r.OutputTokens)/asked(r))
	if len(r.Arrivals) == 0 {
		n.first = append(n.first, waited)
	}
}

// censored looks for quantiles that are too low for want of the requests that were cut off.
func (j *judgement) censored() {
	if !j.censoredBy("first token", j.cut.first, &j.ttft) { // those without one have no end either
		j.censoredBy("end", j.cut.whole, &j.duration)
	}
}

func (j *judgement) censoredBy(what string, cut []float64, seen *stats.Sample) bool {
	if seen.Count() == 0 || len(cut) == 0 {
		return false
	}
	reported := seen.Quantile(censoredQuantile)
	limit, longer := (1+censoredShare)*reported, 0
	var all stats.Sample
	all.Merge(seen)
	for _, waited := range cut {
		if all.Add(waited); waited > limit {
			longer++
		}
	}
	chance := censoredErrors * math.Sqrt(censoredQuantile*(1-censoredQuantile)*float64(seen.Count()))
	least := all.Quantile(censoredQuantile)
	if least <= limit || float64(longer) <= chance {
		return false
	}
	j.invalid(probe.FindingCensored, "%d requests that the end of the stage cut off had waited for their %s for longer "+
		"than the p90 of the %d completed ones, %s: with them it is %s at least, and how much more is not known", longer, what,
		seen.Count(), ms(reported), ms(least))
	return true
}
