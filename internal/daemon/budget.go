package daemon

import (
	"time"

	"github.com/inferprobe/inferprobe/internal/config"
	"github.com/inferprobe/inferprobe/internal/probe"
	"github.com/inferprobe/inferprobe/internal/sweep"
)

// budget is what is left of the tokens that an endpoint may be asked for in a day. It implements sweep.Budget.
type budget struct {
	daemon *Daemon
	probe  *endpointProbe
}

// budget returns the endpoint's budget, nil if it has no limit.
func (d *Daemon) budget(p *endpointProbe) sweep.Budget {
	if p.config.Guards.TokensPerDay == 0 {
		return nil
	}
	return budget{d, p}
}

// Left returns the tokens that are left.
func (b budget) Left() int64 {
	limit := int(b.probe.config.Guards.TokensPerDay)
	return int64(max(0, limit-b.daemon.ledger.Spent(b.probe.config.Name, time.Now())))
}

// cycleTokens and canaryTokens return what must be left of the day for a cycle, or a canary, to begin.
func cycleTokens(e *config.Endpoint) int64 {
	return sweep.LeastBudget(probe.Length(e.Sweep.PromptTokens), probe.Length(e.Sweep.OutputTokens))
}

func canaryTokens(e *config.Endpoint) int64 {
	return sweep.LeastBudget(probe.Length(e.Canary.PromptTokens), probe.Length(e.Canary.OutputTokens))
}

// remaining returns the tokens of the day that can be used: none, where too few are left for a cycle and for a canary.
func (b budget) remaining() int64 {
	left, least := b.Left(), cycleTokens(b.probe.config)
	if b.probe.config.Canary.Interval > 0 {
		least = min(least, canaryTokens(b.probe.config))
	}
	if left < least {
		return 0
	}
	return left
}

// affordable reports whether so many tokens of the day remain of the endpoint's, and shows how many do.
func (d *Daemon) affordable(p *endpointProbe, tokens int64) bool {
	if p.config.Guards.TokensPerDay == 0 {
		return true
	}
	remaining := budget{d, p}.remaining()
	p.series().TokenBudget(remaining)
	return remaining >= tokens
}

// showBudget shows how many tokens of the day are left.
func (d *Daemon) showBudget(p *endpointProbe) { d.affordable(p, 0) }

// spend puts down what a request has cost the endpoint.
func (d *Daemon) spend(p *endpointProbe, r *probe.Result) {
	if tokens := r.Cost(); tokens > 0 {
		d.ledger.Spend(p.config.Name, tokens, time.Now())
	}
}
