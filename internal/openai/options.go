package openai

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/inferprobe/inferprobe/internal/probe"
)

// API is the endpoint that is measured.
type API string

// The APIs.
const (
	APIChat        API = "chat"        // POST /chat/completions
	APICompletions API = "completions" // POST /completions
)

// path is what follows the base URL.
func (a API) path() string {
	if a == APICompletions {
		return "/completions"
	}
	return "/chat/completions"
}

// Limits that hold where Options leave them at zero.
const (
	DefaultConnectTimeout    = 10 * time.Second
	DefaultFirstTokenTimeout = 60 * time.Second
	DefaultIdleTimeout       = 30 * time.Second
	DefaultTotalTimeout      = 10 * time.Minute
	DefaultMaxInFlight       = 512
)

// Options of a Client and of Discover. Everything but BaseURL has a usable zero value.
type Options struct {
	BaseURL string      // for Discover as a user writes it, for New as Discover returned it
	API     API         // default APIChat
	APIKey  string      // bearer token, sent to BaseURL's host only; none if empty
	Header  http.Header // sent likewise with every request, by the names as they are; none of those that a Client sets
	Secrets []string    // in Header: no detail shows them, nor the key
	TLS     *tls.Config // nil trusts the system's roots
	Version string      // of this program, for User-Agent

	// CountTokens returns the tokens of a text. Where the server does not count those of its answers it is asked, after
	// the last read of each. nil: events count. It must bear concurrent use.
	CountTokens func(text string) (int, error)

	// MaxInFlight is how many connections are kept open between requests: as many as requests may be in flight.
	MaxInFlight int

	ConnectTimeout    time.Duration // for name lookup and connection together, and once more for TLS
	FirstTokenTimeout time.Duration // from the send to the first token
	IdleTimeout       time.Duration // from one token to the next
	TotalTimeout      time.Duration // from the send to the end
}

// withDefaults returns o with every zero value filled in.
func (o Options) withDefaults() Options {
	o.API = cmp.Or(o.API, APIChat)
	o.Version = cmp.Or(o.Version, "dev")
	o.MaxInFlight = cmp.Or(o.MaxInFlight, DefaultMaxInFlight)
	o.ConnectTimeout = cmp.Or(o.ConnectTimeout, DefaultConnectTimeout)
	o.FirstTokenTimeout = cmp.Or(o.FirstTokenTimeout, DefaultFirstTokenTimeout)
	o.IdleTimeout = cmp.Or(o.IdleTimeout, DefaultIdleTimeout)
	o.TotalTimeout = cmp.Or(o.TotalTimeout, DefaultTotalTimeout)
	return o
}

// Error is why Discover, New or Calibrate could not do its work.
type Error struct {
	Reason probe.Reason // empty where the trouble is not one a request can meet: a bad URL, a model that is not served
	Detail string       // one line; no secrets, no control characters
	// RetryAfter is how long the server asks to be left alone; 0 if it does not.
	RetryAfter time.Duration

	missing bool // what was asked for does not exist on this server
}

// Error returns the detail.
func (e *Error) Error() string { return e.Detail }

// Temporary reports whether the trouble may be over in a moment, so that trying again can help.
func (e *Error) Temporary() bool {
	switch e.Reason {
	case probe.ReasonRateLimited, probe.ReasonHTTP5xx, probe.ReasonReset:
		return true
	}
	return false
}

func errorf(reason probe.Reason, format string, args ...any) *Error {
	return &Error{Reason: reason, Detail: fmt.Sprintf(format, args...)}
}

// parseBase checks a base URL and strips its trailing slashes.
func parseBase(raw string) (*url.URL, error) {
	u, err := url.Parse(strings.TrimSpace(raw))
	switch {
	case raw == "":
		return nil, errorf("", "the endpoint has no URL")
	case err != nil:
		// url.Error repeats the whole URL, which may carry a password.
		return nil, errorf("", "the endpoint's URL cannot be parsed; write it like http://host:8000/v1")
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, errorf("", "the endpoint's URL must begin with http:// or https://, as in http://host:8000/v1")
	case u.Host == "":
		return nil, errorf("", "the endpoint's URL names no host; write it like http://host:8000/v1")
	case u.User != nil:
		return nil, errorf("", "the endpoint's URL carries a user or password; give the key apart from the URL")
	case u.Fragment != "":
		return nil, errorf("", "the endpoint's URL must end with its path or query: no fragment")
	case strings.ContainsFunc(u.RawQuery, func(r rune) bool { return r <= ' ' || r >= 0x7f }):
		return nil, errorf("", "the endpoint's URL has a query with characters that must be written like %%20")
	}
	u.Path = strings.TrimRight(u.Path, "/")
	u.RawPath, u.ForceQuery = "", false
	return u, nil
}

// under returns base with path added, and its query behind that. (URL.JoinPath makes a relative URL of a base without a
// path.)
func under(base *url.URL, path string) *url.URL {
	u := *base
	u.Path += path
	return &u
}
