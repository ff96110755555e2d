package web

import "time"

// State is what the server shows. Its methods are called from many goroutines.
type State interface {
	// Endpoints returns every endpoint in the order in which it is to be shown.
	Endpoints() []EndpointStatus
	// Report returns the report of a cycle as JSON, false if there is none of that ID.
	Report(id string) (json []byte, ok bool)
}

// EndpointStatus is an endpoint as of now.
type EndpointStatus struct {
	Name      string        `json:"name"`
	Model     string        `json:"model"` // "" while it is not known
	URL       string        `json:"url"`
	State     string        `json:"state"`                // a word: "waiting", "running", "stopped"
	Stage     string        `json:"stage,omitempty"`      // the one that runs
	NextStart time.Time     `json:"next_start,omitzero"`  // zero if no cycle is due
	LastCycle *CycleStatus  `json:"last_cycle,omitempty"` // nil before the first
	Cycles    []CycleStatus `json:"cycles"`               // those that have a report, newest first
}

// CycleStatus is a cycle that ended.
type CycleStatus struct {
	ID                    string    `json:"id"`
	Started               time.Time `json:"started_at"`
	Ended                 time.Time `json:"ended_at"`
	Failure               string    `json:"failure,omitempty"`        // one line; "" if it ran to its end
	Valid                 bool      `json:"valid"`                    // every stage's measurement can be trusted
	RequestsPerSecond     float64   `json:"requests_per_second"`      // capacity; 0 if it was not measured
	OutputTokensPerSecond float64   `json:"output_tokens_per_second"` // capacity
}
