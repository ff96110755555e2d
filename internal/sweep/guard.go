package sweep

import (
	"fmt"
	"sync"
	"time"

	"github.com/inferprobe/inferprobe/internal/probe"
)

// Guards end a stage, and the higher rates after it, before a measurement does harm. Zero switches a guard off.
type Guards struct {
	MaxErrorRate     float64       // failed / (completed + failed), 0…1
	TimeToFirstToken time.Duration // what the slowest tenth of the requests may not exceed
}

// Reasons of a skipped stage.
const (
	skipErrorRate   = "error_rate"
	skipTTFT        = "time_to_first_token"
	skipNoRate      = "no_rate"
	skipInterrupted = "interrupted"
	skipFailed      = "failed"
)

const (
	guardRequests  = 10 // finished requests before a guard judges by a share of them
	guardAllFailed = 3  // …but these many failures without one success are enough
	guardSlowLeast = 3  // requests above the TTFT ceiling before it counts
	guardSlowShare = 0.1
)

// guard watches one stage.
type guard struct {
	Guards
	mu        sync.Mutex
	completed int
	failed    int
	slow      int
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
		if g.TimeToFirstToken > 0 && r.FirstToken > g.TimeToFirstToken {
			g.slow++
		}
	case r.Outcome == probe.Failed && r.Reason != probe.ReasonClientOverload:
		g.failed++
	}
	g.judge()
}

func (g *guard) judge() {
	finished := g.completed + g.failed
	if g.reason != "" || finished == 0 {
		return
	}
	enough := finished >= guardRequests || g.completed == 0 && g.failed >= guardAllFailed
	if rate := float64(g.failed) / float64(finished); enough && g.MaxErrorRate > 0 && rate > g.MaxErrorRate {
		g.reason = skipErrorRate
		g.detail = fmt.Sprintf("%d of %d requests failed, more than %.3g %%", g.failed, finished, 100*g.MaxErrorRate)
	}
	if g.slow >= guardSlowLeast && float64(g.slow) > guardSlowShare*float64(g.completed) {
		g.reason = skipTTFT
		g.detail = fmt.Sprintf("%d of %d first tokens took longer than %s", g.slow, g.completed, g.TimeToFirstToken)
	}
}

// tripped returns why the stage must end, or "".
func (g *guard) tripped() (reason, detail string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.reason, g.detail
}
