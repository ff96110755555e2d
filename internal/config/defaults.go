package config

import (
	"time"

	"github.com/inferprobe/inferprobe/internal/probe"
)

// The words that keys take.
const (
	APIChat        = "chat"
	APICompletions = "completions"
	DialectAuto    = "auto"
	YieldAuto      = "auto"
	YieldNever     = "never"
	HistogramsBoth = "both"
)

// Dialects returns what `dialect` takes. A dialect says which extras a server understands in a request.
func Dialects() []string {
	return []string{
		DialectAuto, "vllm", "sglang", "tgi", "llamacpp", "ollama", "trtllm", "lmdeploy", "openai", "generic",
	}
}

// Histograms returns what `metrics.histograms` takes.
func Histograms() []string { return []string{HistogramsBoth, "native", "classic"} }

// defaults are the built-in values by key. Keys that are missing here are empty unless they are set.
func defaults() map[string]any {
	return map[string]any{
		"api":                        APIChat,
		"dialect":                    DialectAuto,
		"sweep.interval":             6 * time.Hour,
		"sweep.prompt_tokens":        Length{Mean: 512},
		"sweep.output_tokens":        Length{Mean: 128},
		"sweep.profile":              probe.ProfileSweep,
		"sweep.rates":                9,
		"sweep.arrival":              probe.ProfileConstant,
		"sweep.max_duration":         2 * time.Minute,
		"sweep.max_concurrency":      512,
		"canary.interval":            time.Minute,
		"canary.prompt_tokens":       Length{Mean: 128},
		"canary.output_tokens":       Length{Mean: 32},
		"guards.max_in_flight":       512,
		"guards.max_error_rate":      Ratio(0.1),
		"guards.time_to_first_token": 30 * time.Second,
		"guards.yield_to_users":      YieldAuto,
		"timeouts.connect":           10 * time.Second,
		"timeouts.first_token":       time.Minute,
		"timeouts.idle":              30 * time.Second,
		"timeouts.total":             10 * time.Minute,
	}
}

// fileDefaults are the built-in values of the file's keys outside of endpoints.
func fileDefaults() map[string]any {
	return map[string]any{
		"limits.concurrent_sweeps": 8,
		"metrics.histograms":       HistogramsBoth,
		"history.dir":              "/var/lib/inferprobe",
		"history.cycles":           500,
		"history.max_age":          90 * 24 * time.Hour,
	}
}
