// Package regress holds a cycle against those before it and says whether the endpoint has become worse. What it does,
// how often it is wrong and how soon it sees a slowdown is in docs/regression.md.
package regress

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/inferprobe/inferprobe/internal/probe"
	"github.com/inferprobe/inferprobe/internal/stats"
)

// Options say what to hold a cycle against. Fields that are zero take their default.
type Options struct {
	Baseline int     // cycles that make a baseline at most; default 15
	Least    int     // cycles that it needs; default 3, and not less
	Effect   float64 // least relative change that matters; default 0.05
}

const (
	defaultBaseline = 15
	defaultLeast    = 3
	defaultEffect   = 0.05

	// A cycle alone has changed if the p-values of its signals, two-sided and corrected for their number, say so at this
	// level.
	significance = 0.02
	// All recent cycles together have changed if their cumulative sum (see stats.Page) reaches so many standard
	// deviations, of which a cycle counts for three at most. A change of one is what it is to see soonest.
	pageLimit = 7
	pageMost  = 3
	pageShift = 1
	// After so many cycles what is worse is the new normal.
	standing = 10
)

func (o Options) withDefaults() Options {
	o.Least = max(o.Least, defaultLeast)
	o.Baseline = max(cmp.Or(o.Baseline, defaultBaseline), o.Least)
	o.Effect = cmp.Or(o.Effect, defaultEffect)
	return o
}

// Judge holds c against the cycles before it, oldest first, and reads what was found of these in their Regression. They
// may be of any endpoint and may have failed: those that can be compared are chosen. The result is never nil.
func Judge(c *probe.Cycle, earlier []*probe.Cycle, o Options) *probe.Regression {
	o = o.withDefaults()
	v := &verdict{options: o, result: new(probe.Regression)}
	if c.Failure != nil {
		v.result.Note = "no verdict: the cycle failed"
		return v.result
	}
	if c.Profile != probe.ProfileSweep && c.Profile != probe.ProfileSynchronous && c.Profile != probe.ProfileThroughput {
		v.result.Note = fmt.Sprintf("no verdict: a %s cycle has no stage that is compared", c.Profile)
		return v.result
	}
	comparable := comparableTo(c, earlier)
	for _, p := range properties() {
		if p.stage == c.Profile || c.Profile == probe.ProfileSweep {
			v.judge(&p, c, comparable)
		}
	}
	v.decide()
	return v.result
}

// lacks begins the reason of a signal that has too few earlier cycles.
const lacks = "the baseline still lacks"

// Starting reports whether r judges nothing because there are too few earlier cycles as yet. Every cycle like the one
// judged adds to them, so that this ends, unless the history is not kept or something else is asked for each time.
func Starting(r *probe.Regression) bool {
	return r != nil && len(r.Changes) == 0 && strings.Contains(r.Note, lacks)
}

// comparableTo returns those of the cycles that ran to their end and were asked for the same as c.
func comparableTo(c *probe.Cycle, earlier []*probe.Cycle) []*probe.Cycle {
	var comparable []*probe.Cycle
	fingerprint := Fingerprint(c)
	for _, e := range earlier {
		if e.Failure == nil && e.ID != c.ID && Fingerprint(e) == fingerprint {
			comparable = append(comparable, e)
		}
	}
	return comparable
}

type verdict struct {
	options    Options
	result     *probe.Regression
	used       []*probe.Cycle // of any baseline
	properties []property     // by change
	before     []evidence     // by change
	noVerdict  reasons
	notes      []string
}

// evidence is what the cycles before say about a change of one signal.
type evidence struct {
	wasWorse bool // the cycle before alone was worse
	drifted  bool // all recent cycles together are, this one with them, and the last two by the least effect
}

// judge adds the change of one signal, without correction for the others, or why there is none.
func (v *verdict) judge(p *property, c *probe.Cycle, comparable []*probe.Cycle) {
	now, why := p.observe(c)
	if why != "" {
		v.noVerdict.add(why, p.signal)
		return
	}
	l := level{size: v.options.Baseline, least: v.options.Least}
	for _, e := range comparable {
		if o, why := p.observe(e); why == "" {
			o.moved = p.found(e, v.options.Effect)
			l.add(o)
		}
	}
	if missing := l.missing(); missing > 0 {
		v.noVerdict.add(fmt.Sprintf(lacks+" %d comparable cycles", missing), p.signal)
		return
	}
	if l.replaced {
		v.notes = append(v.notes, fmt.Sprintf("%s: what has changed has lasted for %d cycles, which are the baseline from "+
			"now on", p.signal, len(l.baseline)))
	}
	v.result.Changes = append(v.result.Changes, compare(p, now, l.baseline))
	v.properties = append(v.properties, *p)
	v.before = append(v.before, evidence{l.wasWorse(), l.drifted(now, v.options.Effect)})
	for _, o := range l.baseline {
		if !slices.Contains(v.used, o.cycle) {
			v.used = append(v.used, o.cycle)
		}
	}
}

// compare tests whether a signal has changed. Two things may be chance: which requests were measured, which the rank
// test of all requests tells, and what the endpoint was like during the cycle, which the test against the spread
// between the cycles of the baseline tells. Only what neither can explain is a change, so that the larger p-value
// counts.
func compare(p *property, now observation, baseline []observation) probe.Change {
	var pooled []float64
	for _, o := range baseline {
		pooled = p.appendTo(pooled, o)
	}
	fresh, centres := p.appendTo(nil, now), centresOf(baseline)
	shift := now.centre - mean(centres)
	change := probe.Change{
		Signal: p.signal, Samples: len(fresh), BaselineSamples: len(pooled),
		Ratio: math.Exp(p.sign * shift), PValue: stats.PredictionTest(centres, now.centre),
	}
	if p.request != nil {
		change.PValue = max(change.PValue, stats.MannWhitney(fresh, pooled))
	}
	return change
}

// decide corrects the p-values for the number of signals, and gives the verdict.
func (v *verdict) decide() {
	r := v.result
	p := make([]float64, len(r.Changes))
	for i := range r.Changes {
		p[i] = r.Changes[i].PValue
	}
	for i, corrected := range stats.Holm(p) {
		change := &r.Changes[i]
		change.PValue = corrected
		change.Worse = v.properties[i].moved(change, v.options.Effect) == worse
		change.Detected = change.Worse && v.before[i].wasWorse || v.before[i].drifted
	}
	slices.SortStableFunc(v.used, func(a, b *probe.Cycle) int { return a.Started.Compare(b.Started) })
	for _, c := range v.used {
		r.Baseline.Cycles = append(r.Baseline.Cycles, c.ID)
	}
	if n := len(v.used); n > 0 {
		r.Baseline.From, r.Baseline.To = v.used[0].Started, v.used[n-1].Started
	}
	r.Note = strings.Join(append(v.noVerdict.texts(len(r.Changes) == 0), v.notes...), "; ")
}

// reasons collects why there is no verdict on signals.
type reasons struct {
	order   []string
	signals map[string][]string
}

func (r *reasons) add(why string, signal probe.Signal) {
	if r.signals == nil {
		r.signals = make(map[string][]string)
	}
	if r.signals[why] == nil {
		r.order = append(r.order, why)
	}
	r.signals[why] = append(r.signals[why], string(signal))
}

// texts returns each reason with its signals, which are left out where one reason holds for all.
func (r *reasons) texts(all bool) []string {
	if all && len(r.order) == 1 {
		return []string{"no verdict: " + r.order[0]}
	}
	var texts []string
	for _, why := range r.order {
		texts = append(texts, "no verdict on "+strings.Join(r.signals[why], ", ")+": "+why)
	}
	return texts
}
