package daemon

import (
	"net/http"

	"github.com/inferprobe/inferprobe/internal/config"
	"github.com/inferprobe/inferprobe/internal/metrics"
	"github.com/inferprobe/inferprobe/internal/openai"
	"github.com/inferprobe/inferprobe/internal/probe"
	"github.com/inferprobe/inferprobe/internal/sweep"
)

// target maps a configured endpoint to what a cycle needs.
func target(e *config.Endpoint, version string) *sweep.Target {
	dialect := openai.Dialect(e.Dialect)
	if e.Dialect == "auto" {
		dialect = ""
	}
	return &sweep.Target{
		Name: e.Name,
		Client: openai.Options{
			BaseURL:           e.URL,
			API:               openai.API(e.API),
			APIKey:            e.APIKey.Value(),
			Header:            header(e),
			Secrets:           e.Secrets(),
			TLS:               e.TLS.Client(),
			Version:           version,
			MaxInFlight:       e.Guards.MaxInFlight,
			ConnectTimeout:    e.Timeouts.Connect,
			FirstTokenTimeout: e.Timeouts.FirstToken,
			IdleTimeout:       e.Timeouts.Idle,
			TotalTimeout:      e.Timeouts.Total,
		},
		Model:     e.Model,
		Dialect:   dialect,
		Tokenizer: e.Tokenizer,
		Workload: probe.Workload{
			API:          e.API,
			PromptTokens: probe.Length(e.Sweep.PromptTokens),
			OutputTokens: probe.Length(e.Sweep.OutputTokens),

			SharedPrefixTokens: e.Sweep.SharedPrefixTokens,
			ExtraBody:          string(e.ExtraBody),
		},
		Objectives: e.Objectives.Probe(),
		Guards: sweep.Guards{
			MaxErrorRate: float64(e.Guards.MaxErrorRate), TimeToFirstToken: e.Guards.TimeToFirstToken,
			YieldToUsers: e.Guards.YieldToUsers == config.YieldAuto,
		},
		Plan: sweep.Plan{
			Profile:        e.Sweep.Profile,
			Rates:          e.Sweep.Rates,
			RateList:       e.Sweep.Rate,
			Arrival:        e.Sweep.Arrival,
			MaxDuration:    e.Sweep.MaxDuration,
			MaxRequests:    e.Sweep.MaxRequests,
			MaxConcurrency: e.Sweep.MaxConcurrency,
			MaxInFlight:    e.Guards.MaxInFlight,
		},
	}
}

// header returns what the endpoint's requests carry, by names in the case in which they were written.
func header(e *config.Endpoint) http.Header {
	out := make(http.Header)
	for _, h := range e.Headers {
		out[h.Name] = []string{h.Text()}
	}
	return out
}

func labels(e *config.Endpoint) []metrics.Label {
	out := make([]metrics.Label, len(e.Labels))
	for i, l := range e.Labels {
		out[i] = metrics.Label{Name: l.Name, Value: l.Value}
	}
	return out
}
