package daemon

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/inferprobe/inferprobe/internal/config"
	"github.com/inferprobe/inferprobe/internal/probe"
)

func TestConclude(t *testing.T) {
	failed := func(reason probe.Reason, n int) probe.Stage {
		return probe.Stage{Failed: n, Failures: map[probe.Reason]int{reason: n},
			FailureDetails: map[probe.Reason]string{reason: "it said no."}}
	}
	for _, test := range []struct {
		name   string
		cycle  probe.Cycle
		config config.Endpoint
		want   *probe.CycleFailure
	}{
		{"all went well", probe.Cycle{Stages: []probe.Stage{{Completed: 1}}}, config.Endpoint{}, nil},
		{"some went well", probe.Cycle{Stages: []probe.Stage{{Completed: 1}, failed(probe.ReasonReset, 5)}},
			config.Endpoint{}, nil},
		{"nothing was done", probe.Cycle{MaxDuration: time.Second, Stages: []probe.Stage{{Incomplete: 1}, {Incomplete: 9}}},
			config.Endpoint{}, &probe.CycleFailure{Reason: "timeout_total", Detail: "not one request was done within the 1s of " +
				"a stage; allow more time with sweep.max_duration (--max-seconds), or ask for fewer sweep.output_tokens " +
				"(--output-tokens)"}},
		{"all failed late", probe.Cycle{Stages: []probe.Stage{{Incomplete: 1}, failed(probe.ReasonReset, 2),
			failed(probe.ReasonRateLimited, 3)}}, config.Endpoint{}, &probe.CycleFailure{Reason: "rate_limited",
			Detail: "it said no; wait, or have the limit of this key or address raised"}},
		{"failed already", probe.Cycle{Failure: &probe.CycleFailure{Reason: "timeout_idle", Detail: "it stopped"}},
			config.Endpoint{}, &probe.CycleFailure{Reason: "timeout_idle",
				Detail: "it stopped; see that the server is not stuck; if it is only slow, raise timeouts.idle"}},
		{"without a detail", probe.Cycle{Failure: &probe.CycleFailure{Reason: "dns"}}, config.Endpoint{},
			&probe.CycleFailure{Reason: "dns", Detail: "check the host name in the URL"}},
		{"interrupted", probe.Cycle{Failure: &probe.CycleFailure{Reason: "interrupted", Detail: "told to stop"}},
			config.Endpoint{}, &probe.CycleFailure{Reason: "interrupted", Detail: "told to stop"}},
		{"key from a file", probe.Cycle{Failure: &probe.CycleFailure{Reason: "unauthorized", Detail: "401"}},
			config.Endpoint{APIKeyFile: "/keys/llama"},
			&probe.CycleFailure{Reason: "unauthorized", Detail: "401; see that the file /keys/llama holds the right key"}},
		{"key in a header", probe.Cycle{Failure: &probe.CycleFailure{Reason: "unauthorized", Detail: "401"}},
			config.Endpoint{Headers: []config.Header{{Name: "api-key", Secret: "a"}}},
			&probe.CycleFailure{Reason: "unauthorized", Detail: "401; see that the endpoint's headers hold the right key"}},
		{"no list of models", probe.Cycle{Failure: &probe.CycleFailure{Reason: "not_found", Detail: "404"}},
			config.Endpoint{}, &probe.CycleFailure{Reason: "not_found", Detail: "404; see that the URL is the API's base URL, " +
				"which mostly ends in /v1; where that lists no models, as Azure's, set model (--model, MODEL)"}},
		{"no such URL", probe.Cycle{Failure: &probe.CycleFailure{Reason: "not_found", Detail: "404"}},
			config.Endpoint{Model: "m"}, &probe.CycleFailure{Reason: "not_found", Detail: "404; see that the URL is the API's " +
				"base URL, which mostly ends in /v1"}},
		{"a broken stream", probe.Cycle{Failure: &probe.CycleFailure{Reason: "malformed", Detail: "an event is not JSON: {"}},
			config.Endpoint{}, &probe.CycleFailure{Reason: "malformed", Detail: "an event is not JSON: {; look with curl at " +
				"what the server, or a proxy before it, sends; the API's base URL mostly ends in /v1"}},
		{"tokenizer of its own", probe.Cycle{Failure: &probe.CycleFailure{Reason: "tokenizer", Detail: "none"}},
			config.Endpoint{Tokenizer: "org/name"}, &probe.CycleFailure{Reason: "tokenizer", Detail: "none"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			conclude(&test.cycle, &test.config)
			if diff := cmp.Diff(test.want, test.cycle.Failure); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}
