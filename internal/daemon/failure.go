package daemon

import (
	"fmt"
	"strings"

	"github.com/inferprobe/inferprobe/internal/config"
	"github.com/inferprobe/inferprobe/internal/probe"
)

// conclude makes a cycle a failed one if not one of its requests completed, and adds to the detail of a failed one what
// its operator can do. Both take the configuration, which the sweep does not know.
func conclude(c *probe.Cycle, e *config.Endpoint) {
	if c.Failure == nil && len(c.Stages) > 0 {
		c.Failure = nothingMeasured(c)
	}
	if c.Failure == nil {
		return
	}
	if what := advice(e, c.Failure.Reason); what != "" {
		c.Failure.Detail = strings.TrimPrefix(strings.TrimRight(c.Failure.Detail, ". ")+"; "+what, "; ")
	}
}

// nothingMeasured returns why not one request of a cycle completed, or nil if one did.
func nothingMeasured(c *probe.Cycle) *probe.CycleFailure {
	var worst probe.Reason
	var most int
	var detail string
	for i := range c.Stages {
		s := &c.Stages[i]
		if s.Completed > 0 {
			return nil
		}
		for _, reason := range probe.Reasons() {
			if n := s.Failures[reason]; n > most {
				worst, most, detail = reason, n, s.FailureDetails[reason]
			}
		}
	}
	if most > 0 {
		return &probe.CycleFailure{Reason: string(worst), Detail: detail}
	}
	return &probe.CycleFailure{
		Reason: string(probe.ReasonTimeoutTotal),
		Detail: fmt.Sprintf("not one request was done within the %v of a stage; allow more time with sweep.max_duration "+
			"(--max-seconds), or ask for fewer sweep.output_tokens (--output-tokens)", c.MaxDuration),
	}
}

// advice says what an operator can do about a failed cycle, "" where the detail says it or nothing helps.
func advice(e *config.Endpoint, reason string) string {
	switch reason {
	case string(probe.ReasonDNS):
		return "check the host name in the URL"
	case string(probe.ReasonConnect):
		return "see that the server is running, and that host and port of the URL are right"
	case string(probe.ReasonTLS):
		return "see whether the URL begins with http:// or https:// rightly; the certificate of an authority of your own, " +
			"and that to show to the endpoint, are named under tls"
	case string(probe.ReasonUnauthorized):
		return keyAdvice(e)
	case string(probe.ReasonMalformed):
		return "look with curl at what the server, or a proxy before it, sends; the API's base URL mostly ends in /v1"
	case string(probe.ReasonNotFound), string(probe.ReasonNotAStream):
		text := "see that the URL is the API's base URL, which mostly ends in /v1"
		if reason == string(probe.ReasonNotFound) && e.Model == "" {
			text += "; where that lists no models, as Azure's, set model (--model, MODEL)"
		}
		return text
	case string(probe.ReasonRateLimited):
		return "wait, or have the limit of this key or address raised"
	case string(probe.ReasonHTTP5xx), string(probe.ReasonErrorEvent), string(probe.ReasonTruncated),
		string(probe.ReasonReset), string(probe.ReasonAborted), string(probe.ReasonEmpty):
		return "the log of the server should say more"
	case string(probe.ReasonTimeoutFirstToken):
		return "see that the server is not stuck; if it is only slow, raise timeouts.first_token"
	case string(probe.ReasonTimeoutIdle):
		return "see that the server is not stuck; if it is only slow, raise timeouts.idle"
	case probe.CycleTokenizer:
		if e.Tokenizer == "" {
			return "no tokenizer is configured, so the model's name was taken: set tokenizer (--tokenizer, TOKENIZER)"
		}
	}
	return ""
}

// keyAdvice names the place of the key.
func keyAdvice(e *config.Endpoint) string {
	switch {
	case e.APIKeyFile != "":
		return "see that the file " + e.APIKeyFile + " holds the right key"
	case e.APIKeyEnv != "":
		return "see that the variable " + e.APIKeyEnv + " holds the right key"
	case len(e.Secrets()) > 0:
		return "see that the endpoint's headers hold the right key"
	}
	return "set the variable OPENAI_API_KEY or, beside a configuration file, its key api_key_env or api_key_file"
}
