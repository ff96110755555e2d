// Package config turns a configuration file, or the environment and the command line, into one immutable value, or into
// the list of everything that is wrong with it.
//
// The strict reader in document.go keeps the place of every value; viper puts the layers on top of each other
// (built-in defaults, the file's defaults, the endpoint; or defaults, environment, flags); validate.go judges the
// result and names the place where each wrong value came from.
package config

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/inferprobe/inferprobe/internal/probe"
	"github.com/inferprobe/inferprobe/internal/schedule"
)

// Config is a valid configuration. It does not change once it is loaded.
type Config struct {
	Endpoints []Endpoint
	Limits    Limits
	Metrics   Metrics
	History   History
	Warnings  Errors   // what is allowed and hardly meant, in the order of the file
	Files     []string // what it was read from: the file, and those that hold keys
	Digest    Digest   // of the Files as they were read
}

// Secrets returns every secret value, so that it can be kept out of logs.
func (c *Config) Secrets() []string {
	var secrets []string
	for i := range c.Endpoints {
		secrets = append(secrets, c.Endpoints[i].Secrets()...)
	}
	return secrets
}

// file is the shape of the configuration file: what document.go allows in it.
type file struct {
	Endpoints []Endpoint `mapstructure:"endpoints"`
	Defaults  Defaults   `mapstructure:"defaults"`
	Limits    Limits     `mapstructure:"limits"`
	Metrics   Metrics    `mapstructure:"metrics"`
	History   History    `mapstructure:"history"`
}

// Defaults are the settings that the file's `defaults` may change for all endpoints at once.
type Defaults struct {
	Objectives Objectives `mapstructure:"objectives"`
	Sweep      Sweep      `mapstructure:"sweep"`
	Canary     Canary     `mapstructure:"canary"`
	Guards     Guards     `mapstructure:"guards"`
	Timeouts   Timeouts   `mapstructure:"timeouts"`
}

// Endpoint is one endpoint to measure and how.
type Endpoint struct {
	Name       string     `mapstructure:"name"`         // unique; letters, digits, dots, dashes and underscores
	URL        string     `mapstructure:"url"`          // base URL without a trailing slash
	Model      string     `mapstructure:"model"`        // "" = the first of /models
	Tokenizer  string     `mapstructure:"tokenizer"`    // "" = the model; a Hub repository, a folder or a file
	API        string     `mapstructure:"api"`          // "chat" or "completions"
	Dialect    string     `mapstructure:"dialect"`      // "auto" or one of Dialects
	APIKeyFile string     `mapstructure:"api_key_file"` // absolute, or as the file's folder makes it
	APIKeyEnv  string     `mapstructure:"api_key_env"`  // name of a variable
	Headers    []Header   `mapstructure:"headers"`      // sent with every request
	TLS        TLS        `mapstructure:"tls"`          // beyond what the system trusts
	ExtraBody  Object     `mapstructure:"extra_body"`   // fields of every request body beside inferprobe's own
	Group      string     `mapstructure:"group"`        // endpoints of one group are never measured at the same time
	Labels     []Label    `mapstructure:"labels"`
	Objectives Objectives `mapstructure:"objectives"`
	Sweep      Sweep      `mapstructure:"sweep"`
	Canary     Canary     `mapstructure:"canary"`
	Guards     Guards     `mapstructure:"guards"`
	Timeouts   Timeouts   `mapstructure:"timeouts"`

	// APIKey is the key as its source held it when the configuration was loaded; empty for none.
	APIKey Secret `mapstructure:"-" json:"-"`
}

// Secrets returns every secret value that requests to the endpoint carry.
func (e *Endpoint) Secrets() []string {
	secrets := nonEmpty(e.APIKey.Value())
	for _, h := range e.Headers {
		secrets = append(secrets, h.secrets()...)
	}
	return secrets
}

// SameSecrets reports whether two loads of the same settings have found the same secrets.
func (e *Endpoint) SameSecrets(other *Endpoint) bool {
	return e.APIKey == other.APIKey && slices.Equal(e.Headers, other.Headers) && e.TLS == other.TLS
}

// Fingerprint returns the SHA-256, in hex, of every setting of the endpoint with its defaults filled in. Secrets are no
// part of it, only where they come from.
func (e *Endpoint) Fingerprint() string {
	text, err := json.Marshal(e)
	if err != nil {
		panic("config: an endpoint does not marshal: " + err.Error()) // a field of a new type without a JSON form
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// Label is a label of the user's own, shown by inferprobe_endpoint_info.
type Label struct {
	Name  string `mapstructure:"name"`
	Value string `mapstructure:"value"`
}

// Objectives are the limits that an endpoint should keep; zero where none is set.
type Objectives struct {
	TimeToFirstTokenP90  time.Duration `mapstructure:"time_to_first_token_p90"`
	InterTokenLatencyP90 time.Duration `mapstructure:"inter_token_latency_p90"`
	RequestDurationP90   time.Duration `mapstructure:"request_duration_p90"`
	ErrorRate            Ratio         `mapstructure:"error_rate"` // of completed and failed requests
}

// Probe returns the objectives as the sweep takes them.
func (o Objectives) Probe() probe.Objectives {
	return probe.Objectives{
		TimeToFirstTokenP90:  o.TimeToFirstTokenP90,
		InterTokenLatencyP90: o.InterTokenLatencyP90,
		RequestDurationP90:   o.RequestDurationP90,
		ErrorRate:            float64(o.ErrorRate),
	}
}

// Sweep says when a whole cycle runs and what it is made of.
type Sweep struct {
	Interval       time.Duration `mapstructure:"interval"` // from start to start, 0 = no cycles; of no meaning beside Cron
	Cron           string        `mapstructure:"cron"`     // five fields or a descriptor; "" = by Interval
	Windows        []Window      `mapstructure:"windows"`  // when cycles may run; none = always
	PromptTokens   Length        `mapstructure:"prompt_tokens"`
	OutputTokens   Length        `mapstructure:"output_tokens"`
	Profile        probe.Profile `mapstructure:"profile"`
	Rates          int           `mapstructure:"rates"`        // number of numbered stages of the sweep profile
	Rate           []float64     `mapstructure:"rate"`         // requests/s, one stage each: constant and poisson profiles
	Arrival        probe.Profile `mapstructure:"arrival"`      // constant or poisson: of a sweep's numbered stages
	MaxDuration    time.Duration `mapstructure:"max_duration"` // of each stage
	MaxRequests    int           `mapstructure:"max_requests"` // of each stage, 0 = no limit
	MaxConcurrency int           `mapstructure:"max_concurrency"`

	SharedPrefixTokens int `mapstructure:"shared_prefix_tokens"` // with which every prompt of a cycle begins; 0 = none
}

// Plan returns when the cycles of the endpoint of that name are due.
func (s Sweep) Plan(name string) schedule.Plan {
	p := schedule.Plan{Name: name, Interval: s.Interval}
	if s.Cron != "" {
		p.Cron, _ = cron.ParseStandard(s.Cron) // a valid configuration has no other
	}
	for _, w := range s.Windows {
		p.Windows = append(p.Windows, w.Window)
	}
	return p
}

// Scheduled reports whether cycles are wanted at all.
func (s Sweep) Scheduled() bool { return s.Interval > 0 || s.Cron != "" }

// Canary says how the light requests between sweeps look.
type Canary struct {
	Interval     time.Duration `mapstructure:"interval"` // from start to start, 0 = no canary
	PromptTokens Length        `mapstructure:"prompt_tokens"`
	OutputTokens Length        `mapstructure:"output_tokens"`
}

// Guards protect the endpoint and its users from the measurement; zero switches one off.
type Guards struct {
	TokensPerDay     Count         `mapstructure:"tokens_per_day"` // prompt and output tokens together
	MaxInFlight      int           `mapstructure:"max_in_flight"`
	MaxErrorRate     Ratio         `mapstructure:"max_error_rate"` // of completed and failed requests of a stage
	TimeToFirstToken time.Duration `mapstructure:"time_to_first_token"`
	YieldToUsers     string        `mapstructure:"yield_to_users"` // "auto" or "never"
}

// Timeouts end a single request.
type Timeouts struct {
	Connect    time.Duration `mapstructure:"connect"`     // for name lookup and connection, and once more for TLS
	FirstToken time.Duration `mapstructure:"first_token"` // from the send to the first token
	Idle       time.Duration `mapstructure:"idle"`        // from one token to the next
	Total      time.Duration `mapstructure:"total"`       // from the send to the end
}

// Metrics says how metrics are exposed.
type Metrics struct {
	Histograms string `mapstructure:"histograms"` // "both", "native" or "classic"
}

// Limits are those of the whole process.
type Limits struct {
	ConcurrentSweeps int `mapstructure:"concurrent_sweeps"` // cycles that run at the same time
}

// History says where cycles are kept and how many of them.
type History struct {
	Dir    string        `mapstructure:"dir"`     // "" = in memory only
	Cycles int           `mapstructure:"cycles"`  // of each endpoint
	MaxAge time.Duration `mapstructure:"max_age"` // 0 = no limit
}

// Length is a number of tokens with its spread, as probe.Length has it; the file gives a number or a mapping.
type Length struct {
	Mean     int `mapstructure:"mean"`
	Variance int `mapstructure:"variance"`
	Min      int `mapstructure:"min"` // 0 = not set
	Max      int `mapstructure:"max"` // 0 = not set
}
