package sweep

import (
	"fmt"
	"iter"
	"sync"
	"time"

	"github.com/inferprobe/inferprobe/internal/probe"
)

// Guards end a stage, and the higher rates after it, before a measurement does harm. Zero switches a guard off.
type Guards struct {
	MaxErrorRate     float64       // failed / (completed + failed), 0…1
	TimeToFirstToken time.Duration // what the slowest tenth of the requests may not exceed
	YieldToUsers     bool          // give way where other users' requests wait, as the server's own metrics tell
	Budget           Budget        // nil = none
	Until            time.Time     // the end of a window: no stage begins after it, and a running one ends at it
}

// closed returns that the window has ended, or "".
func (g *Guards) closed(now time.Time) (reason, detail string) {
	if g.Until.IsZero() || now.Before(g.Until) {
		return "", ""
	}
	return skipWindow, "the window ended at " + g.Until.Format(time.RFC3339)
}

// Reasons of a skipped stage.
const (
	skipErrorRate   = "error_rate"
	skipTTFT        = "time_to_first_token"
	skipNoRate      = "no_rate"
	skipInterrupted = "interrupted"
	skipFailed      = "failed"
	skipBudget      = "token_budget"
	skipWindow      = "window"
	skipYielded     = "yielded_to_users"
	skipSaturated   = "over_saturated"
)

const (
	guardFailLeast = 3 // failures before a share of them counts
	guardSlowLeast = 3 // requests above the TTFT ceiling before it counts
	guardSlowShare = 0.1
	guardLookEvery = 100 * time.Millisecond // at requests in flight
)

// guard watches one stage. It may be used from many goroutines.
type guard struct {
	Guards
	inFlight  func() int64 // requests that are on their way; nil = none
	mu        sync.Mutex
	completed int
	failed    int
	answered  int // requests that got a first token, or waited for it in vain
	slow      int // of these, too long
	lost      int // failures since the last success
	looked    time.Time
	reason    string
	detail    string
}

// record counts one finished request. Requests that our own limit failed say nothing about the endpoint.
func (g *guard) record(r *probe.Result) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case r.Outcome == probe.Completed:
		g.completed++
		g.lost = 0
	case r.Outcome == probe.Failed && r.Reason != probe.ReasonClientOverload:
		g.failed++
		g.lost++
	}
	if ttft, ok := r.TimeToFirstToken(); ok || r.Reason == probe.ReasonTimeoutFirstToken {
		g.answered++
		if !ok || ttft > g.TimeToFirstToken {
			g.slow++
		}
	}
	if g.reason == "" {
		g.reason, g.detail = g.judge()
	}
}

// look takes in the requests in flight, which are no result yet: those that have waited for their first token for too
// long, or did and go on, and those whose first token came in time. It may be called as often as one likes.
func (g *guard) look(now time.Time, flights iter.Seq[*probe.Flight]) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.TimeToFirstToken == 0 || g.reason != "" || now.Sub(g.looked) < guardLookEvery {
		return
	}
	g.looked = now
	answered, slow := g.answered, g.slow
	for f := range flights { // none of which is recorded meanwhile
		waited, came := f.TimeToFirstToken(now)
		if waited > g.TimeToFirstToken {
			slow++
			came = true
		}
		if came {
			answered++
		}
	}
	g.reason, g.detail = g.judgeFirstTokens(answered, slow)
}

// judge returns why the stage must end as things stand, or "". A failure is mostly quicker than a success, so that the
// requests in flight count as ones that may succeed.
func (g *guard) judge() (reason, detail string) {
	sent := g.completed + g.failed
	if g.inFlight != nil {
		sent += int(g.inFlight())
	}
	if g.MaxErrorRate > 0 && g.failed >= guardFailLeast && probe.Exceeds(g.failed, sent, g.MaxErrorRate) {
		return skipErrorRate, fmt.Sprintf("%d of %d requests failed, more than %.3g %%", g.failed, sent, 100*g.MaxErrorRate)
	}
	return g.judgeFirstTokens(g.answered, g.slow)
}

func (g *guard) judgeFirstTokens(answered, slow int) (reason, detail string) {
	if g.TimeToFirstToken == 0 || slow < guardSlowLeast || float64(slow) <= guardSlowShare*float64(answered) {
		return "", ""
	}
	return skipTTFT, fmt.Sprintf("%d of %d first tokens took longer than %s", slow, answered, g.TimeToFirstToken)
}

// trip ends the stage for a reason, unless it has one; "" is none.
func (g *guard) trip(reason, detail string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.reason == "" {
		g.reason, g.detail = reason, detail
	}
}

// unbroken returns how many requests have failed since the last that completed.
func (g *guard) unbroken() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.lost
}

// tripped returns why the stage must end, or "".
func (g *guard) tripped() (reason, detail string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.reason, g.detail
}
