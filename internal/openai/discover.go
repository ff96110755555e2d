package openai

import (
	"context"
	"strings"
)

// Model is one entry of /models.
type Model struct {
	ID        string
	MaxLength int // tokens of context, prompt and answer together; 0 where the server does not say
}

// Server is what Discover found.
type Server struct {
	BaseURL string  // without a trailing slash: requests go to BaseURL + "/chat/completions" or "/completions"
	Model   Model   // the one to measure: as configured, else the first served
	Models  []Model // all that are served
	Dialect Dialect
	Version string // as the server tells it; empty where it does not
	Note    string // what a user should know about this server; often empty
}

// String names the server as reports do: "vllm 0.32.0", or empty where nothing is known.
func (s Server) String() string {
	if s.Dialect == DialectGeneric || s.Dialect == "" {
		return s.Version
	}
	return strings.TrimSpace(string(s.Dialect) + " " + s.Version)
}

// Discover asks the endpoint at opts.BaseURL what it is and which models it serves.
func Discover(ctx context.Context, opts Options, model string) (Server, error) {
	u, err := parseBase(opts.BaseURL)
	if err != nil {
		return Server{}, err
	}
	return Server{BaseURL: u.String(), Model: Model{ID: model}, Dialect: DialectGeneric}, nil
}
