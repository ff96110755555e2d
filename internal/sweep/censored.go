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

// censored looks for latencies that are too low for want of the requests that were cut off. A throughput stage is there
// for its rate, which is right all the same: of the ends of its requests a note will do.
func (j *judgement) censored() {
	if j.censoredBy(j.invalid, "first token", j.cut.first, &j.ttft) { // those without one have no end either
		return
	}
	tell := j.invalid
	if j.stage.Profile == probe.ProfileThroughput {
		tell = j.note
	}
	if !j.censoredBy(tell, "end", j.cut.whole, &j.duration) && (j.stage.Profile != probe.ProfileThroughput || !j.asAsked()) {
		j.cutShort(tell)
	}
}

// asAsked reports whether answers are as long as asked for. The durations of a throughput stage then differ by its ramp
// alone, in which the queue was shorter: settled looks at that.
func (j *judgement) asAsked() bool { return math.Abs(j.lengths.Mean()-1) <= lengthShare }

type teller func(name probe.FindingName, format string, args ...any)

func (j *judgement) censoredBy(tell teller, what string, cut []float64, seen *stats.Sample) bool {
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
	tell(probe.FindingCensored, "%d requests that the end of the stage cut off had waited for their %s for longer "+
		"than the p90 of the %d completed ones, %s: with them it is %s at least, and how much more is not known", longer, what,
		seen.Count(), ms(reported), ms(least))
	return true
}

// cutShort estimates how long the requests that were cut off would have taken: as long as completed ones that took
// longer than they had waited. Where lengths differ, the end of a stage cuts off the long ones above all, although none
// of them need have waited for long. The mean tells that best, but for the chance in how many of n are in flight at the
// end, √n; that the p90 is too low as well tells it from a few requests that hang.
func (j *judgement) cutShort(tell teller) {
	if j.completed < probe.MinSamples(censoredQuantile) || len(j.cut.whole) == 0 {
		return
	}
	all, mean, p90 := j.durations(), j.duration.Mean(), j.duration.Quantile(censoredQuantile)
	missing := (all.Mean() - mean) * (1 - 1/math.Sqrt(float64(len(j.cut.whole))))
	if missing <= censoredShare*mean || all.Above((1+censoredShare)*p90) <= 1-censoredQuantile {
		return
	}
	tell(probe.FindingCensored, "the end of the stage cut off %d requests, and of long ones more than of short ones: as long "+
		"ones that completed say, requests take %s on average, not %s, and their p90 is %s, not %s", len(j.cut.whole),
		ms(all.Mean()), ms(mean), ms(all.Quantile(censoredQuantile)), ms(p90))
}
