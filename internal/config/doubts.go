package config

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/inferprobe/inferprobe/internal/probe"
)

// warn records that the value of key is allowed, but does something else than it seems to.
func (c *checker) warn(key, format string, args ...any) {
	e, _ := c.locate(key)
	e.Message = fmt.Sprintf(format, args...)
	c.warnings.add(e)
}

// doubts warns of what is valid and yet hardly meant. The configuration must be without mistakes; at returns the locator
// of a section.
func (c *checker) doubts(cfg *Config, at func(section string) locator) {
	var need time.Duration // of a day, for the cycles of all endpoints
	near := neighbours{}
	for i := range cfg.Endpoints {
		e := &cfg.Endpoints[i]
		cost := e.Cost()
		need += time.Duration(cost.CyclesPerDay * float64(cost.LongestCycle))
		c.locate = at(fmt.Sprintf("endpoints[%d]", i))
		c.doubtSecrets(e)
		c.doubtShares(e)
		c.doubtLatencies(e)
		c.doubtBudget(e, cost.CanaryTokens)
		if !e.Sweep.Scheduled() {
			continue
		}
		c.doubtConcurrency(e)
		c.doubtPlaces(e, cost.TokensPerRequest)
		c.doubtInterval(e)
		c.doubtWindows(e, cost.LongestCycle)
		if o := near.before(cfg.Endpoints, i); o >= 0 && cfg.Limits.ConcurrentSweeps > 1 {
			c.warn("url", "has the host of endpoints[%d], %s, and the two have no group in common: their cycles can run at the "+
				"same time and slow each other down; give both the same group, or each its own if they share no hardware",
				o, cfg.Endpoints[o].Name)
		}
	}
	c.locate = at("")
	c.doubtLoad(need, cfg.Limits.ConcurrentSweeps)
	c.warnings.sort()
	cfg.Warnings = c.warnings
}

func (c *checker) doubtSecrets(e *Endpoint) {
	if e.TLS.InsecureSkipVerify {
		c.warn("tls.insecure_skip_verify", "nobody looks at the endpoint's certificate: whoever stands in between can read "+
			"the key, and answer; name the authority that has signed it with tls.ca_file")
	}
	for _, name := range e.ExtraBody.Names() {
		if strings.HasSuffix(plainKey(name), "apikey") {
			c.warn(join("extra_body", name), "is a key by its name, and extra_body is in reports and in the history; send it as a "+
				"header, see headers")
		}
	}
	for i, h := range e.Headers {
		if h.Value != "" && isSecret(h.Name) {
			c.warn(fmt.Sprintf("headers[%d].value", i), "by its name %s is a secret, which is shown to whoever may read this "+
				"file; put it into a file of its own with value_file, or into the environment with value_env", h.Name)
		}
	}
}

func (c *checker) doubtShares(e *Endpoint) {
	if e.Objectives.ErrorRate == 1 {
		c.warn("objectives.error_rate", "is 100 %%, which is always kept; write 1%% for one request in a hundred")
	}
	if e.Guards.MaxErrorRate == 1 {
		c.warn("guards.max_error_rate",
			"is 100 %%, which nothing exceeds; write 1%% for one request in a hundred, or 0 to switch the guard off")
	}
}

// latency is a key whose value is the time of one request or less.
type latency struct {
	key     string
	longest time.Duration // that makes sense; what is longer has probably m for ms
	of      func(e *Endpoint) time.Duration
}

func latencies() []latency {
	return []latency{
		{"objectives.time_to_first_token_p90", 10 * time.Minute,
			func(e *Endpoint) time.Duration { return e.Objectives.TimeToFirstTokenP90 }},
		{"objectives.inter_token_latency_p90", 30 * time.Second,
			func(e *Endpoint) time.Duration { return e.Objectives.InterTokenLatencyP90 }},
		{"objectives.request_duration_p90", 10 * time.Minute,
			func(e *Endpoint) time.Duration { return e.Objectives.RequestDurationP90 }},
		{"guards.time_to_first_token", 10 * time.Minute,
			func(e *Endpoint) time.Duration { return e.Guards.TimeToFirstToken }},
	}
}

// isLatency reports whether the value at path is one of latencies.
func isLatency(path string) bool {
	return slices.ContainsFunc(latencies(), func(l latency) bool { return strings.HasSuffix("."+path, "."+l.key) })
}

func (c *checker) doubtLatencies(e *Endpoint) {
	for _, l := range latencies() {
		d := l.of(e)
		if d <= l.longest {
			continue
		}
		meant := ""
		if d%time.Minute == 0 {
			meant = fmt.Sprintf("; m is minutes: is %dms meant?", d/time.Minute)
		}
		c.warn(l.key, "%v is longer than any such time should be%s", d, meant)
	}
}

func (c *checker) doubtBudget(e *Endpoint, canary float64) {
	if limit := float64(e.Guards.TokensPerDay); limit > 0 && limit < canary {
		c.warn("guards.tokens_per_day", "%.0f tokens a day are fewer than the canary alone spends, %.0f: from then on the "+
			"endpoint is left alone until midnight UTC; allow more, or raise canary.interval", limit, canary)
	}
}

// doubtPlaces: the throughput stage settles once each of its places has had a request, and its tokens.
func (c *checker) doubtPlaces(e *Endpoint, request int) {
	places := min(e.Guards.MaxInFlight, e.Sweep.MaxConcurrency)
	limit := int(e.Guards.TokensPerDay)
	if throughput(e) && limit > 0 && limit < places*request {
		c.warn("guards.tokens_per_day", "%d tokens a day are fewer than the throughput stage has in flight at once, %d: it "+
			"will not settle, and nothing comes after it; allow more, or lower sweep.max_concurrency", limit, places*request)
	}
}

func throughput(e *Endpoint) bool {
	return e.Sweep.Profile == probe.ProfileSweep || e.Sweep.Profile == probe.ProfileThroughput
}

func (c *checker) doubtConcurrency(e *Endpoint) {
	most, wanted := e.Guards.MaxInFlight, e.Sweep.MaxConcurrency
	if throughput(e) && most < wanted {
		c.warn("guards.max_in_flight", "the throughput stage has %d requests in flight, not the %d of sweep.max_concurrency; "+
			"set both to the number that is meant", most, wanted)
	}
}

func (c *checker) doubtInterval(e *Endpoint) {
	cronAt, _ := c.locate("sweep.cron")
	intervalAt, set := c.locate("sweep.interval")
	shared := func(at Error) bool { return strings.HasPrefix(at.Key, "defaults.") }
	// A cron of the endpoint's own in place of an interval that is everyone's is what defaults are for.
	if e.Sweep.Cron != "" && set && (shared(cronAt) || !shared(intervalAt)) {
		c.warn("sweep.interval", `is ignored: %s, %s, decides when cycles run; leave one of them out, or write cron: "" `+
			"where the interval is to count", cronAt.Key, quoted(e.Sweep.Cron))
	}
}

func (c *checker) doubtWindows(e *Endpoint, longest time.Duration) {
	for i, w := range e.Sweep.Windows {
		if open := e.shortest(w); open < longest {
			c.warn(fmt.Sprintf("sweep.windows[%d]", i), "is open for %v, and a cycle may take %v: stages that do not fit are "+
				"skipped; make it longer, or the cycle shorter with sweep.rates and sweep.max_duration", open, longest)
		}
	}
}

// shortest returns how long cycles may at least run from when the window opens, be it in further windows. On the days on
// which clocks change it may be other than that.
func (e *Endpoint) shortest(w Window) time.Duration {
	const always = 7 * 24 * time.Hour
	least, plan := always, e.Sweep.Plan(e.Name)
	for _, day := range w.Days {
		// A week in which no zone changes its clocks; its first day is a Sunday.
		from := time.Date(2026, time.January, 11+int(day), 0, int(w.From.Minutes()), 0, 0, w.Location)
		if until, open := plan.Open(from); open && !until.IsZero() {
			least = min(least, until.Sub(from))
		}
	}
	return least
}

// neighbours are the endpoints of each host that have been seen: the first of all, and the first without a group.
type neighbours map[string]struct{ first, alone int }

// before returns the first endpoint before i on its host that can be measured while i is, -1 if there is none. Where both
// have groups that differ somebody thought of it.
func (n neighbours) before(endpoints []Endpoint, i int) int {
	host, group := hostOf(&endpoints[i]), endpoints[i].Group
	seen, ok := n[host]
	if !ok {
		seen.first, seen.alone = i, -1
	}
	found := seen.alone
	if ok && group == "" {
		found = seen.first
	}
	if group == "" && seen.alone < 0 {
		seen.alone = i
	}
	n[host] = seen
	return found
}

// hostOf returns the host of the endpoint without its port: servers on different ports of a host share its hardware.
func hostOf(e *Endpoint) string {
	u, err := url.Parse(e.URL)
	if err != nil {
		return e.URL
	}
	return strings.ToLower(u.Hostname())
}

// doubtLoad warns if the cycles of all endpoints together may not find the time that they are due in.
func (c *checker) doubtLoad(need time.Duration, atOnce int) {
	const day = 24 * time.Hour
	if have := time.Duration(atOnce) * day; need > have {
		c.warn("limits.concurrent_sweeps", "the cycles may need up to %.0f hours a day, and %d at a time have %.0f: what is "+
			"not in time is skipped; raise the limit, or the intervals, or share the endpoints between replicas",
			need.Hours(), atOnce, have.Hours())
	}
}
