package sweep

import (
	"fmt"
	"sync"

	"github.com/inferprobe/inferprobe/internal/probe"
)

// Budget is what may still be spent on an endpoint.
type Budget interface {
	// Left returns the tokens that are left, prompt and output together. It is called before each request and must bear
	// many callers at once. What was spent is learnt from Observer.Record.
	Left() int64
}

// LeastBudget returns the tokens that must be left of a budget for a cycle to begin, or a canary: for the requests that
// calibrate and for one that measures, each as long as they come.
func LeastBudget(prompts, outputs probe.Length) int64 {
	prompt, output := longest(prompts), longest(outputs)
	return int64(prompt + 1 + prompt/2 + 1 + prompt + output)
}

// allowance keeps what is asked of an endpoint within its budget, however many requests are in flight: what a request
// may cost is promised to it when it is sent, and what it has cost is known when it has ended. It may be used from many
// goroutines.
type allowance struct {
	budget   Budget // nil = no limit
	template int    // tokens that the server adds to each prompt

	mu       sync.Mutex
	promised int64  // tokens, to the requests in flight
	short    string // why a request was refused; "" = none was. All that follow it are, too
}

// take promises req, which is about to be sent, what it may cost. It reports false where what is left does not cover
// that: req must not be sent.
func (a *allowance) take(req *probe.Request) bool {
	if a.budget == nil {
		return true
	}
	cost := a.cost(req)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.short != "" {
		return false
	}
	left := a.budget.Left() - a.promised
	if left < cost {
		a.short = fmt.Sprintf("the endpoint's tokens are used up: %d are left, and the next request may cost %d",
			max(0, left), cost)
		return false
	}
	a.promised += cost
	return true
}

// settle takes back what was promised to req, which has ended. What it has cost is spent by then.
func (a *allowance) settle(req *probe.Request) {
	if a.budget == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.promised -= a.cost(req)
}

func (a *allowance) cost(req *probe.Request) int64 {
	return int64(a.template + req.PromptTokens + req.OutputTokens)
}

// refused returns why a request was refused, or "".
func (a *allowance) refused() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.short
}

// exhausted returns why nothing more may be asked of the endpoint, or "".
func (a *allowance) exhausted() (reason, detail string) {
	detail = a.refused()
	if detail == "" && a.budget != nil && a.budget.Left() <= 0 {
		detail = "the endpoint's tokens are used up"
	}
	if detail == "" {
		return "", ""
	}
	return skipBudget, detail
}
