package config

import (
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/robfig/cron/v3"

	"github.com/inferprobe/inferprobe/internal/probe"
)

// Limits of what makes sense. They catch slips of the pen, not ambition.
const (
	maxTokens      = 10_000_000
	maxStages      = 50 // each stage has series of its own
	maxConcurrency = 65_536
	maxRate        = 100_000
	maxName        = 63
	maxCycles      = 1_000_000
	maxLabels      = 30
	maxHeaders     = 30
)

// locator says where the value of a key came from, and whether it was set at all.
type locator func(key string) (at Error, set bool)

// checker judges decoded settings and collects what is wrong with them.
type checker struct {
	errors   Errors
	warnings Errors
	locate   locator
	files    pointed           // that the settings name
	names    map[string]string // by name in lower case: where it is
}

// fail records that the value of key is wrong.
func (c *checker) fail(key, format string, args ...any) {
	e, _ := c.locate(key)
	e.Message = fmt.Sprintf(format, args...)
	c.errors.add(e)
}

// endpoint completes and judges one endpoint.
func (c *checker) endpoint(e *Endpoint, locate locator) {
	c.locate = locate
	host := c.url(e)
	c.identity(e, host)
	c.key(e)
	c.headers(e)
	c.tls(e)
	c.extraBody(e.ExtraBody)
	c.labels(e.Labels)
	c.sweep(&e.Sweep)
	c.atLeastOrNone("canary.interval", e.Canary.Interval, time.Second)
	c.length("canary.prompt_tokens", e.Canary.PromptTokens)
	c.length("canary.output_tokens", e.Canary.OutputTokens)
	if _, set := c.locate("guards.max_in_flight"); !set {
		// Who asks for a higher concurrency means it.
		e.Guards.MaxInFlight = max(e.Guards.MaxInFlight, e.Sweep.MaxConcurrency)
	}
	c.guards(e.Guards)
	c.timeouts(e.Timeouts)
}

// url checks and normalises the base URL and returns its host. Messages never repeat it: it may carry a password.
func (c *checker) url(e *Endpoint) (host string) {
	const example = "such as http://host:8000/v1"
	if e.URL == "" {
		c.fail("url", "is missing; give the base URL of the endpoint, "+example)
		return ""
	}
	u, err := url.Parse(strings.TrimSpace(e.URL))
	switch {
	case err != nil:
		c.fail("url", "is not a URL; write a base URL "+example)
	case u.Scheme != "http" && u.Scheme != "https":
		c.fail("url", "must begin with http:// or https://, "+example)
	case u.Hostname() == "":
		c.fail("url", "names no host; write a base URL "+example)
	case u.User != nil:
		c.fail("url", "carries a user name or password; give the key with api_key_file or api_key_env")
	case u.Fragment != "":
		c.fail("url", "must end with its path or query, without a fragment")
	case !validPort(u.Port()):
		c.fail("url", "has the port %s; a port is 1 to 65535", u.Port())
	case callOf(u) != "":
		c.fail("url", "is that of a call; give the base URL, without %q", callOf(u))
	case !validQuery(u.RawQuery):
		c.fail("url", "has a query that is none; write it like ?api-version=2024-10-21, and other characters like %%20")
	case secretParameter(u) != "":
		c.fail("url", "has a query with %s, and is shown in reports and metrics; send the key in a header",
			quoted(secretParameter(u)))
	default:
		path, query, _ := strings.Cut(u.String(), "?")
		if e.URL = strings.TrimRight(path, "/"); query != "" {
			e.URL += "?" + query
		}
		return u.Host
	}
	return ""
}

func validPort(port string) bool {
	if port == "" {
		return true
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0
}

// callOf returns the path of an API's call with which a URL ends that should be that of the API, or "".
func callOf(u *url.URL) string {
	path := strings.TrimRight(u.Path, "/")
	for _, call := range []string{"/chat/completions", "/completions", "/embeddings", "/responses", "/models"} {
		if strings.HasSuffix(path, call) {
			return call
		}
	}
	return ""
}

// validQuery reports whether a query can be sent as it is.
func validQuery(query string) bool {
	_, err := url.ParseQuery(query)
	return err == nil && !strings.ContainsFunc(query, func(r rune) bool { return r <= ' ' || r >= 0x7f })
}

// secretParameter returns the parameter of a URL's query that by its name is a secret, "" if there is none.
func secretParameter(u *url.URL) string {
	for _, name := range slices.Sorted(maps.Keys(u.Query())) {
		if isSecret(name) {
			return name
		}
	}
	return ""
}

var namePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

const nameRule = "use up to 63 letters, digits, dots, dashes and underscores, beginning with a letter or digit"

// identity checks what names the endpoint, and names it if it has no name.
func (c *checker) identity(e *Endpoint, host string) {
	if e.Name == "" && host != "" {
		e.Name = defaultName(host, e.Model)
	}
	if e.Name != "" {
		c.name("name", e.Name)
		c.unique(e.Name)
	}
	if e.Group != "" {
		c.name("group", e.Group)
	}
	c.text("model", e.Model)
	c.text("tokenizer", e.Tokenizer)
	word(c, "api", e.API, []string{APIChat, APICompletions})
	word(c, "dialect", e.Dialect, Dialects())
}

func (c *checker) name(key, name string) {
	if len(name) > maxName || !namePattern.MatchString(name) {
		c.fail(key, "%s cannot be a name; %s", quoted(name), nameRule)
	}
}

// unique refuses a second endpoint of a name. Case does not count: names become file names.
func (c *checker) unique(name string) {
	if c.names == nil {
		c.names = make(map[string]string)
	}
	here, _ := c.locate("name")
	lower := strings.ToLower(name)
	if first, taken := c.names[lower]; taken {
		c.fail("name", "%s is the name of %s already; give each endpoint a name of its own", quoted(name), first)
		return
	}
	c.names[lower] = strings.TrimSuffix(here.Key, ".name")
}

func (c *checker) text(key, s string) {
	const longest = 1024
	if len(s) > longest || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		c.fail(key, "%s is too long, or has characters that cannot be printed", quoted(s))
	}
}

// word checks that a value is one of a closed set.
func word[T ~string](c *checker, key string, value T, words []T) {
	if !slices.Contains(words, value) {
		c.fail(key, "%s is not known; use %s", quoted(string(value)), oneOf(words))
	}
}

var labelPattern = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)

// labels checks the user's labels. Those of inferprobe's own and those that Prometheus puts on every target are taken.
func (c *checker) labels(labels []Label) {
	if len(labels) > maxLabels {
		c.fail("labels", "%d are too many; use up to %d", len(labels), maxLabels)
		return
	}
	taken := []string{"endpoint", "model", "url", "server", "stage", "instance", "job", "le", "quantile"}
	for i, l := range labels {
		key := fmt.Sprintf("labels[%d].name", i)
		switch {
		case l.Name == "":
			c.fail(key, "is missing; write {name: team, value: search}")
		case !labelPattern.MatchString(l.Name) || strings.HasPrefix(l.Name, "__"):
			c.fail(key, "%s cannot be a label; use letters, digits and underscores, not two underscores in front",
				quoted(l.Name))
		case slices.Contains(taken, l.Name):
			c.fail(key, "%s is taken; use another name", quoted(l.Name))
		case slices.ContainsFunc(labels[:i], func(o Label) bool { return o.Name == l.Name }):
			c.fail(key, "%s is here twice", quoted(l.Name))
		}
		c.text(fmt.Sprintf("labels[%d].value", i), l.Value)
	}
}

func (c *checker) sweep(s *Sweep) {
	c.atLeastOrNone("sweep.interval", s.Interval, time.Second)
	if s.Cron != "" {
		c.cron(s.Cron)
	}
	c.length("sweep.prompt_tokens", s.PromptTokens)
	c.length("sweep.output_tokens", s.OutputTokens)
	c.sharedPrefix(s)
	c.profile(s)
	word(c, "sweep.arrival", s.Arrival, []probe.Profile{probe.ProfileConstant, probe.ProfilePoisson})
	c.between("sweep.rates", s.Rates, 1, maxStages)
	c.rates(s)
	c.atLeast("sweep.max_duration", s.MaxDuration, time.Second)
	if s.MaxDuration > longestStage {
		c.fail("sweep.max_duration", "%v is too long, as a stage is kept in memory until it ends; use at most %v",
			s.MaxDuration, longestStage)
	}
	c.between("sweep.max_requests", s.MaxRequests, 0, 1<<31-1)
	c.between("sweep.max_concurrency", s.MaxConcurrency, 1, maxConcurrency)
}

// longestStage takes some 80 MB.
const longestStage = 4 * time.Hour

// sharedPrefix refuses a prefix that leaves the shortest prompt nothing of its own.
func (c *checker) sharedPrefix(s *Sweep) {
	const key = "sweep.shared_prefix_tokens"
	switch least := probe.Length(s.PromptTokens).Least(); {
	case s.SharedPrefixTokens < 0:
		c.fail(key, "%d is not a number of tokens; use 0 for prompts that share nothing", s.SharedPrefixTokens)
	case s.SharedPrefixTokens > 0 && s.SharedPrefixTokens >= least:
		c.fail(key, "%d leaves the shortest prompt, of %d, nothing of its own; use less than that, or longer prompts "+
			"(sweep.prompt_tokens, its min where it has a variance)", s.SharedPrefixTokens, least)
	}
}

// cron refuses, beside what is no schedule, one that never comes due, and "@every", which would start anew with each
// restart.
func (c *checker) cron(text string) {
	parsed, err := cron.ParseStandard(text)
	switch {
	case err != nil:
		why := strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r == ' ' || !unicode.IsPrint(r) }), " ")
		c.fail("sweep.cron", "%s is not a schedule: %s; write for example %q", quoted(text), why, "0 3 * * *")
	case strings.Contains(text, "@every"):
		c.fail("sweep.cron", "%s is an interval; write it as sweep.interval", quoted(text))
	case parsed.Next(time.Now()).IsZero():
		c.fail("sweep.cron", "%s never comes due; write for example %q", quoted(text), "0 3 * * *")
	}
}

// profile refuses GuideLLM's concurrent profile with what does the same here.
func (c *checker) profile(s *Sweep) {
	if s.Profile != "concurrent" {
		word(c, "sweep.profile", s.Profile, probe.Profiles())
		return
	}
	inFlight := "N"
	if len(s.Rate) == 1 {
		inFlight = strconv.FormatFloat(s.Rate[0], 'f', -1, 64)
	}
	write := "profile: throughput and max_concurrency: " + inFlight
	if e, _ := c.locate("sweep.profile"); e.Key == "" {
		write = "--profile throughput --max-concurrency " + inFlight
	}
	c.fail("sweep.profile", `"concurrent" is not known; for a fixed number of requests in flight write %s`, write)
}

// rates checks the rates of the open-loop profiles, which need them, against the profile.
func (c *checker) rates(s *Sweep) {
	openLoop := s.Profile == probe.ProfileConstant || s.Profile == probe.ProfilePoisson
	switch {
	case openLoop && len(s.Rate) == 0:
		c.fail("sweep.rate", "is missing; the profile %s needs one or more rates in requests per second", s.Profile)
	case !openLoop && len(s.Rate) > 0 && slices.Contains(probe.Profiles(), s.Profile):
		c.fail("sweep.rate", "has no meaning in the profile %s; use the profile constant or poisson", s.Profile)
	case len(s.Rate) > maxStages:
		c.fail("sweep.rate", "has %d rates; use up to %d", len(s.Rate), maxStages)
	}
	for i, r := range s.Rate {
		if r <= 0 || r > maxRate {
			c.fail(fmt.Sprintf("sweep.rate[%d]", i),
				"%v is not a rate; use more than 0 and up to %d requests per second", r, maxRate)
		}
	}
}

func (c *checker) guards(g Guards) {
	c.between("guards.max_in_flight", g.MaxInFlight, 1, maxConcurrency)
	word(c, "guards.yield_to_users", g.YieldToUsers, []string{YieldAuto, YieldNever})
}

func (c *checker) timeouts(t Timeouts) {
	c.atLeast("timeouts.connect", t.Connect, time.Millisecond)
	c.atLeast("timeouts.first_token", t.FirstToken, time.Millisecond)
	c.atLeast("timeouts.idle", t.Idle, time.Millisecond)
	c.atLeast("timeouts.total", t.Total, time.Millisecond)
	if _, set := c.locate("timeouts.first_token"); set && t.FirstToken > t.Total {
		c.fail("timeouts.first_token", "%v is longer than timeouts.total, %v", t.FirstToken, t.Total)
	}
	if _, set := c.locate("timeouts.idle"); set && t.Idle > t.Total {
		c.fail("timeouts.idle", "%v is longer than timeouts.total, %v", t.Idle, t.Total)
	}
}

func (c *checker) length(key string, l Length) {
	switch {
	case l.Mean < 1 || l.Mean > maxTokens:
		c.fail(key, "%d is not a number of tokens; use 1 to %d", l.Mean, maxTokens)
	case l.Variance < 0 || l.Variance > maxTokens*maxTokens:
		c.fail(key, "the variance %d is negative or too large", l.Variance)
	case l.Min < 0 || l.Max < 0 || l.Max > maxTokens:
		c.fail(key, "min %d and max %d are not numbers of tokens; use 1 to %d", l.Min, l.Max, maxTokens)
	case l.Min > l.Mean:
		c.fail(key, "min %d is above the mean, %d", l.Min, l.Mean)
	case l.Max != 0 && l.Max < l.Mean:
		c.fail(key, "max %d is below the mean, %d", l.Max, l.Mean)
	}
}

func (c *checker) atLeast(key string, d, least time.Duration) {
	if d < least {
		c.fail(key, "%v is too short; use at least %v", d, least)
	}
}

func (c *checker) atLeastOrNone(key string, d, least time.Duration) {
	if d != 0 && d < least {
		c.fail(key, "%v is too short; use at least %v, or 0s for none", d, least)
	}
}

func (c *checker) between(key string, n, least, most int) {
	if n < least || n > most {
		c.fail(key, "%d is out of range; use %d to %d", n, least, most)
	}
}

// file judges the settings outside of endpoints.
func (c *checker) file(cfg *Config, d *document) {
	c.locate = d.locator("")
	_, set := c.locate("endpoints")
	if len(cfg.Endpoints) == 0 && d.at["endpoints[0]"] == nil && (set || len(d.errors) == 0) {
		c.fail("endpoints", "there is none; the least is an endpoint with its url: [{url: http://host:8000/v1}]")
	}
	word(c, "metrics.histograms", cfg.Metrics.Histograms, Histograms())
	c.between("limits.concurrent_sweeps", cfg.Limits.ConcurrentSweeps, 1, maxConcurrency)
	c.between("history.cycles", cfg.History.Cycles, 1, maxCycles)
	c.atLeastOrNone("history.max_age", cfg.History.MaxAge, time.Hour)
}
