package sweep

import (
	"time"

	"github.com/inferprobe/inferprobe/internal/probe"
)

// What it means to read late. The kernel merges the segments that wait to be read and gives all of them the time of the
// last, so that a late read is exact as long as it holds one token. One that holds several has the time of the last of
// them: the gaps between them are averaged, and a first token among them seems to have come later than it did. The lag
// of such a read does not tell how late it was, since it counts from the last token, too; how many tokens it holds
// does.

// reads counts reads: those that were prompt and those that were late, and of either those that held several token
// events.
type reads struct{ prompt, promptSeveral, late, lateSeveral int }

// add takes the reads after that of the first token.
func (n *reads) add(r *probe.Result) {
	gap := eventGap(r, 1)
	for i := range r.Arrivals {
		if a := &r.Arrivals[i]; i > 0 && a.Lag > 0 { // there is a gap before it, and a time from the kernel
			n.count(a.Lag > probe.PromptLag(gap), a.Events > 1)
		}
	}
}

// addFirst takes the first two reads as one: an event too many in either moves the first token.
func (n *reads) addFirst(r *probe.Result) {
	if len(r.Arrivals) == 0 {
		return
	}
	first := &r.Arrivals[0]
	if len(r.Arrivals) == 1 {
		n.count(first.Lag > probe.PromptLag(0), first.Events > 1)
		return
	}
	second := &r.Arrivals[1]
	n.count(max(first.Lag, second.Lag) > probe.PromptLag(eventGap(r, 2)), first.Events+second.Events > 2)
}

func (n *reads) count(late, several bool) {
	all, some := &n.prompt, &n.promptSeveral
	if late {
		all, some = &n.late, &n.lateSeveral
	}
	*all++
	if several {
		*some++
	}
}

// merged returns the share of the reads that held several events because they were late: what late reads have more than
// prompt ones, which have what the server sends together. Where hardly a read is prompt that cannot be told, and every
// late one that held several counts.
func (n *reads) merged() float64 {
	together := 0.0
	if n.prompt > n.late {
		together = float64(n.promptSeveral) / float64(n.prompt) * float64(n.late)
	}
	return max(0, float64(n.lateSeveral)-together) / float64(max(1, n.prompt+n.late))
}

// stallBounds returns between which values the longest gap between two tokens of an answer lies: of so many events that
// were read together one came after that part of the gap or more, and none after more than all of it. Whether such a read
// was late its lag does not tell, which may be short when the last of them has just come. Those that the server usually
// sends together, as prompt reads show, count as one.
func stallBounds(r *probe.Result) (least, most time.Duration) {
	limit := probe.PromptLag(eventGap(r, 1))
	var prompt, events int
	for i := 1; i < len(r.Arrivals); i++ {
		if a := &r.Arrivals[i]; a.Lag <= limit {
			prompt++
			events += a.Events
		}
	}
	together := max(1, (events+prompt/2)/max(1, prompt))
	for i := 1; i < len(r.Arrivals); i++ {
		a := &r.Arrivals[i]
		gap, parts := a.At-r.Arrivals[i-1].At, 1
		if a.Lag > 0 { // there is a time from the kernel
			parts = max(1, (a.Events+together-1)/together)
		}
		least, most = max(least, gap/time.Duration(parts)), max(most, gap)
	}
	return least, most
}

// stallP99 returns the bounds of the p99 of the stalls, where they are far enough apart to tell.
func (c *collector) stallP99() probe.Interval {
	least, most := c.stallLeast.Quantile(0.99), c.stallMost.Quantile(0.99)
	if most-least > stallShare*least {
		return probe.Interval{Low: least, High: most}
	}
	return probe.Interval{}
}

// firstTokenError estimates by how much the time of the first token is late because it was read late together with
// others: it came as many gaps before the end of the second arrival as there are events between.
func firstTokenError(r *probe.Result) time.Duration {
	if len(r.Arrivals) == 0 {
		return 0
	}
	first := &r.Arrivals[0]
	if len(r.Arrivals) == 1 { // a whole answer in one read: no gap is known
		if first.Events > 1 {
			return first.Lag
		}
		return 0
	}
	second, gap := &r.Arrivals[1], eventGap(r, 2)
	between := first.Events + second.Events - 1
	if between == 1 || max(first.Lag, second.Lag) <= probe.PromptLag(gap) {
		return 0
	}
	came := second.At - time.Duration(between)*gap
	return min(r.FirstToken, max(0, r.FirstToken-came))
}

// eventGap returns the mean gap between token events behind the first arrivals, so many of them, or behind the first
// where there are no more; 0 where there is no gap at all.
func eventGap(r *probe.Result, behind int) time.Duration {
	last := len(r.Arrivals) - 1
	if last < 1 {
		return 0
	}
	from := min(behind, last) - 1
	var events int
	for i := from + 1; i <= last; i++ {
		events += r.Arrivals[i].Events
	}
	return (r.Arrivals[last].At - r.Arrivals[from].At) / time.Duration(max(1, events))
}
