package web

import "time"

// State is what the server shows. Its methods are called from many goroutines.
type State interface {
	// Endpoints returns every endpoint in the order in which it is to be shown.
	Endpoints() []EndpointStatus
	// Report returns the report of a cycle as JSON, false if there is none of that ID.
	Report(id string) (json []byte, ok bool)
	// Page returns the report of a cycle as a part of a page, false if there is none of that ID.
	Page(id string) (page Page, ok bool)
}

// Page is a part of an HTML document that the server puts into its frame.
type Page struct {
	Title string // plain text
	Style string // a style sheet that belongs to Body
	Body  string // HTML, shown as it is: whoever made it has escaped what is foreign. It cannot use style attributes
}

// EndpointStatus is an endpoint as of now.
type EndpointStatus struct {
	Name      string        `json:"name"`
	Model     string        `json:"model"` // "" while it is not known
	URL       string        `json:"url"`
	State     string        `json:"state"`                  // a word: "waiting", "running", "stopped", or "standby": another replica measures it
	Paused    bool          `json:"paused"`                 // by Control.Pause: no cycle starts by itself
	Stage     string        `json:"stage,omitempty"`        // the one that runs
	NextStart time.Time     `json:"next_start,omitzero"`    // zero if no cycle is due
	Tokens    *TokenBudget  `json:"token_budget,omitempty"` // nil without a limit, and where another replica measures it
	Canary    *CanaryStatus `json:"canary,omitempty"`       // nil before the first request, or without a canary
	LastCycle *CycleStatus  `json:"last_cycle,omitempty"`   // nil before the first
	Cycles    []CycleStatus `json:"cycles"`                 // those that have a report, newest first
}

// TokenBudget is what an endpoint may be asked for in a day of UTC.
type TokenBudget struct {
	PerDay      int64     `json:"tokens_per_day"` // of prompts and answers
	Remaining   int64     `json:"remaining"`      // 0 also where too few are left for anything: nothing is sent before Renewed
	CoversCycle bool      `json:"covers_cycle"`   // false: one that is due before Renewed is skipped
	Renewed     time.Time `json:"renewed_at"`     // midnight
}

// CanaryStatus is the last request of an endpoint's canary.
type CanaryStatus struct {
	At               time.Time `json:"at"`
	Success          bool      `json:"success"`
	Reason           string    `json:"reason,omitempty"`                      // of a failure
	TimeToFirstToken float64   `json:"time_to_first_token_seconds,omitempty"` // 0 if no token came
}

// CycleStatus is a cycle that ended.
type CycleStatus struct {
	ID                    string    `json:"id"`
	Started               time.Time `json:"started_at"`
	Ended                 time.Time `json:"ended_at"`
	Failure               string    `json:"failure,omitempty"`        // one line; "" if it ran to its end
	Valid                 bool      `json:"valid"`                    // every stage's measurement can be trusted
	Regressions           []string  `json:"regressions,omitempty"`    // signals that are worse than their baseline, again
	RequestsPerSecond     float64   `json:"requests_per_second"`      // capacity; 0 if it was not measured
	OutputTokensPerSecond float64   `json:"output_tokens_per_second"` // capacity
}
