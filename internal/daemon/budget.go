package daemon

import (
	"time"

	"github.com/inferprobe/inferprobe/internal/probe"
)

// budget is what is left of the tokens that an endpoint may be asked for in a day. It implements sweep.Budget.
type budget struct {
	daemon *Daemon
	probe  *endpointProbe
}

// Left returns the tokens that are left.
func (b budget) Left() int64 {
	limit := int(b.probe.config.Guards.TokensPerDay)
	return int64(max(0, limit-b.daemon.ledger.Spent(b.probe.config.Name, time.Now())))
}

// affordable reports whether the endpoint has tokens left of the day, and shows how many.
func (d *Daemon) affordable(p *endpointProbe) bool {
	if p.config.Guards.TokensPerDay == 0 {
		return true
	}
	left := budget{d, p}.Left()
	p.series().TokenBudget(left)
	return left > 0
}

// spend puts down what a request has cost the endpoint: the tokens that it worked on.
func (d *Daemon) spend(p *endpointProbe, r *probe.Result) {
	prompt := r.PromptTokens
	if prompt == 0 && len(r.Arrivals) > 0 && r.Request != nil {
		prompt = r.Request.PromptTokens
	}
	if tokens := prompt + r.OutputTokens; tokens > 0 {
		d.ledger.Spend(p.config.Name, tokens, time.Now())
	}
}
