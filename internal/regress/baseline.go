package regress

import (
	"math"
	"slices"

	"github.com/inferprobe/inferprobe/internal/probe"
	"github.com/inferprobe/inferprobe/internal/stats"
)

// observation is one signal of one cycle.
type observation struct {
	cycle  *probe.Cycle
	stage  *probe.Stage
	centre float64   // logarithm of the signal; the sign is such that more is worse
	moved  direction // as the cycle was judged when it was new
}

// direction is where a signal has gone.
type direction int

const (
	same direction = iota
	worse
	better
)

// level is what a signal has been like. It is fed with observations from the oldest to the newest.
//
// A cycle becomes part of the baseline once it and the next one were not found changed. From the first change on,
// cycles are held back, until two in a row are as before, when those held back are forgotten, or until as many were
// held back that they are the new normal and replace the baseline.
type level struct {
	size     int           // cycles that a baseline holds at most
	least    int           // cycles that it must hold; so many better ones are a new normal
	baseline []observation // oldest first
	held     []observation // newer than baseline
	scores   []float64     // of every observation, against the baseline as it was then
	replaced bool          // the last observation has made a new normal of those held back
}

func (l *level) add(o observation) {
	l.replaced = false
	if len(l.baseline) >= l.least {
		l.scores = append(l.scores, l.score(o))
	}
	l.held = append(l.held, o)
	n := len(l.held)
	if n >= 2 && l.held[n-1].moved == same && l.held[n-2].moved == same {
		l.baseline = newest(append(l.baseline, l.held[n-2]), l.size)
		l.held = l.held[n-1:]
		return
	}
	first := slices.IndexFunc(l.held, func(o observation) bool { return o.moved != same })
	if first < 0 {
		return
	}
	changed, enough := l.held[first:], standing
	if !slices.ContainsFunc(changed, func(o observation) bool { return o.moved != better }) {
		enough = l.least
	}
	if len(changed) >= enough {
		*l = level{size: l.size, least: l.least, baseline: newest(changed, l.size), replaced: true}
	}
}

// newest returns the last n of all.
func newest(all []observation, n int) []observation { return all[max(0, len(all)-n):] }

// missing returns how many cycles must pass before one can be judged: those that the baseline lacks, and one that waits
// for the next.
func (l *level) missing() int {
	if lacks := l.least - len(l.baseline); lacks > 0 {
		return lacks + 1 - min(1, len(l.held))
	}
	return 0
}

// score returns by how many standard deviations o is above the baseline.
func (l *level) score(o observation) float64 {
	centres := centresOf(l.baseline)
	return math.Copysign(stats.Score(stats.PredictionTest(centres, o.centre)), o.centre-mean(centres))
}

// wasWorse reports whether the last observation was found worse than a baseline that still holds.
func (l *level) wasWorse() bool { return len(l.held) > 0 && l.held[len(l.held)-1].moved == worse }

// drifted reports whether now and the observation before it are worse by the least effect, and all recent ones together
// by more than chance explains.
func (l *level) drifted(now observation, effect float64) bool {
	if len(l.held) == 0 {
		return false
	}
	normal, last := mean(centresOf(l.baseline)), l.held[len(l.held)-1]
	return min(now.centre, last.centre)-normal >= math.Log1p(effect) &&
		stats.Page(append(slices.Clip(l.scores), l.score(now)), pageShift, pageMost, pageLimit)
}

func centresOf(observations []observation) []float64 {
	centres := make([]float64, len(observations))
	for i, o := range observations {
		centres[i] = o.centre
	}
	return centres
}

func mean(values []float64) float64 {
	var sum float64
	for _, v := range values {
		sum += v
	}
	return sum / float64(len(values))
}
