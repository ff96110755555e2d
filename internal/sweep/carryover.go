package sweep

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/inferprobe/inferprobe/internal/load"
	"github.com/inferprobe/inferprobe/internal/probe"
)

// A server may go on with requests whose client has left: proxies keep them, some servers never look. What is left of a
// stage would then be in the next one. Where the server's metrics cannot tell, single requests do: a request alone waits
// for its first token no longer than in an idle server once the queue is gone, and by its end those that ran beside it,
// no longer than itself, are done as well.
const (
	quietWait  = 30 * time.Second      // for the endpoint to be done with them
	quietTimes = 2                     // the usual time to a first token, in which prompts of different lengths differ …
	quietLeast = 50 * time.Millisecond // … or so much more, where that is less: chance, and nothing that a queue would be
	quietPause = 500 * time.Millisecond
	quietFails = 3 // failures in a row, after which the stage will show what is wrong
	aloneTries = 3 // requests that tell the usual time where no synchronous stage does
)

// lone is how one request fared that was sent between stages.
type lone struct {
	probe.Outcome
	reason     probe.Reason
	waited     time.Duration // for its first token, or in vain
	first      bool          // token came
	retryAfter time.Duration
}

// sendAlone sends one request of the kind that stages send, if the budget covers it. It costs tokens but is no stage's.
// When ctx ends, so does the request.
func (c *cycle) sendAlone(ctx context.Context) lone {
	inner, stop := untilStopped(ctx)
	defer stop()
	var req probe.Request
	var res probe.Result
	c.engine.Source.Next(&req)
	if !c.allowance.take(&req) {
		return lone{Outcome: probe.Incomplete}
	}
	c.users.note(1)
	began := time.Now()
	c.engine.Client.Do(inner, &req, &res)
	c.observe.Record(probe.StageNone, &res)
	c.allowance.settle(&req)
	l := lone{Outcome: res.Outcome, reason: res.Reason, retryAfter: res.RetryTime}
	if l.waited, l.first = res.TimeToFirstToken(); !l.first {
		l.waited = time.Since(began)
	}
	return l
}

// learnAlone finds out how long a request alone waits for its first token, for stages of which none is synchronous.
func (c *cycle) learnAlone(ctx context.Context) {
	var waits []time.Duration
	for range aloneTries {
		if c.over(ctx) {
			break
		}
		if l := c.sendAlone(ctx); l.first {
			waits = append(waits, l.waited)
		}
	}
	if slices.Sort(waits); len(waits) > 0 {
		c.alone = waits[len(waits)/2]
	}
}

// awaitQuiet waits until the endpoint is done with what the last stage left behind, and returns what must be said of the
// next one if it is not, or nil. An endpoint that fails is not waited for.
func (c *cycle) awaitQuiet(ctx context.Context) *probe.Finding {
	if c.alone == 0 || c.over(ctx) {
		return nil
	}
	left, began, limit := c.Stages[len(c.Stages)-1].Name, time.Now(), max(quietTimes*c.alone, c.alone+quietLeast)
	waiting, cancel := context.WithDeadline(ctx, c.quietUntil(began, limit))
	defer cancel()
	var last lone
	for failures := 0; waiting.Err() == nil; {
		l := c.sendAlone(waiting)
		if l.first || l.Outcome != probe.Incomplete || l.waited > limit { // else it says nothing
			last = l
		}
		switch {
		case c.over(ctx) || l.first && l.waited <= limit:
			return nil
		case l.first || l.Outcome == probe.Incomplete || l.reason == probe.ReasonTimeoutFirstToken:
			failures = 0
		case l.reason == probe.ReasonRateLimited || l.retryAfter > 0: // it has too much to do
			load.Sleep(waiting, max(quietPause, l.retryAfter))
		default:
			if failures++; failures == quietFails {
				c.log.Warn("requests between stages fail; whether the last stage's are done cannot be told", "after", left,
					"reason", l.reason)
				return nil
			}
			load.Sleep(waiting, quietPause)
		}
	}
	if c.over(ctx) {
		return nil
	}
	f := last.carryOver(left, time.Since(began), c.alone, c.users.left.others > 0)
	c.log.Warn("the endpoint is still busy after the last stage; the next one is not valid", "after", left,
		"detail", f.Detail)
	return f
}

// over reports whether no stage will begin any more.
func (c *cycle) over(ctx context.Context) bool {
	reason, _ := c.exhausted()
	return reason != "" || ctx.Err() != nil
}

// quietUntil is when awaitQuiet, which begins now, gives up: not before one request can have shown whether its first
// token comes within the limit.
func (c *cycle) quietUntil(now time.Time, limit time.Duration) time.Time {
	until := now.Add(max(c.quiet, 2*limit))
	if end := c.target.Guards.Until; !end.IsZero() && end.Before(until) {
		return end
	}
	return until
}

// carryOver is the finding on a stage that follows the one that left requests behind.
func (l lone) carryOver(left string, took, alone time.Duration, crowded bool) *probe.Finding {
	var how, others string
	if crowded {
		others = ", or at those of other users"
	}
	switch {
	case l.first:
		how = fmt.Sprintf("a request alone waited %s for its first token, where %s is usual", round(l.waited), round(alone))
	case l.Outcome == probe.Failed && l.reason != probe.ReasonTimeoutFirstToken:
		how = fmt.Sprintf("a request alone was refused (%s)", l.reason)
	default:
		how = fmt.Sprintf("a request alone had no first token after %s, where %s is usual", round(l.waited), round(alone))
	}
	return &probe.Finding{
		Name: probe.FindingCarryOver, Invalidates: true,
		Detail: fmt.Sprintf("%s after stage %s had ended, %s: the endpoint was still at requests that were cut off%s, whose "+
			"load is in what was measured", round(took), left, how, others),
	}
}
