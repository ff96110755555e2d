package sweep

import (
	"math"
	"time"

	"github.com/inferprobe/inferprobe/internal/probe"
	"github.com/inferprobe/inferprobe/internal/stats"
)

// Requests that the end of a stage cuts off are right-censored observations: all that is known of their times is that
// they are longer. A quantile over those that completed holds as long as hardly one of the others had waited for longer
// than it: in a stage that is steady, as many are cut off as are always in flight, and few of these are slow ones.
const (
	censoredQuantile = 0.90
	censoredSlack    = 0.05 // above the quantile, which requests in step with each other reach together
	// censoredErrors is how many standard errors of a quantile's rank, sqrt(q (1 − q) n), must be exceeded by the requests
	// that had waited longer: by less the quantile is off by chance alone.
	censoredErrors = 2
)

// censored is how long requests had waited that were cut off: no more than may be in flight at once.
type censored struct {
	first []time.Duration // for a first token that had not come
	whole []time.Duration // for the end
}

// add takes a request that was cut off now.
func (n *censored) add(r *probe.Result, now time.Time) {
	if r.Sent.IsZero() {
		return
	}
	waited := now.Sub(r.Sent)
	n.whole = append(n.whole, waited)
	if len(r.Arrivals) == 0 {
		n.first = append(n.first, waited)
	}
}

// censored looks for quantiles that requests cut off make too low.
func (j *judgement) censored() {
	for _, s := range []struct {
		what string
		cut  []time.Duration
		seen *stats.Sample
	}{
		{"a first token", j.cut.first, &j.ttft},
		{"the end of the answer", j.cut.whole, &j.duration},
	} {
		if s.seen.Count() == 0 {
			continue
		}
		reported := s.seen.Quantile(censoredQuantile)
		limit, longer, longest := seconds((1+censoredSlack)*reported), 0, time.Duration(0)
		for _, waited := range s.cut {
			if waited > limit {
				longer, longest = longer+1, max(longest, waited)
			}
		}
		n := float64(s.seen.Count())
		if float64(longer) <= censoredErrors*math.Sqrt(censoredQuantile*(1-censoredQuantile)*n) {
			continue
		}
		j.invalid(probe.FindingCensored, "%d requests that the end of the stage cut off had waited for %s for up to %s, "+
			"longer than the p90 of the %d completed ones, %s: the true p90 is higher, by how much is not known",
			longer, s.what, round(longest), s.seen.Count(), ms(reported))
		return // those without a first token have no end either
	}
}
