package sim

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// FaultHeader is the request header that asks for faults: "name" or "name=arg", several separated by commas, or "none"
// to be spared those that the server gives at random. The body field "sim_fault" means the same; the header wins.
const FaultHeader = "X-Sim-Fault"

// FaultInfo describes one fault.
type FaultInfo struct {
	Name        string `json:"name"`
	Arg         string `json:"arg,omitempty"` // what the argument means, and its default; empty if it takes none
	Description string `json:"description"`   // one line
}

// FaultRate is a fault that a share of requests gets at random.
type FaultRate struct {
	Fault       string  `json:"fault"`       // as in FaultHeader
	Probability float64 `json:"probability"` // 0…1
}

// Faults lists every fault.
func Faults() []FaultInfo {
	kinds := faultKinds()
	infos := make([]FaultInfo, len(kinds))
	for i := range kinds {
		infos[i] = kinds[i].FaultInfo
	}
	return infos
}

// ending is how an answer ends before its time.
type ending int

const (
	endNone ending = iota
	endFIN
	endRST
	endChunkCut
	endErrorObject
	endErrorString
	endErrorNamed
	endNotJSON
	endHang
	endAbort
	endStop
	endEndless
)

// substitute is a body sent in place of the answer.
type substitute int

const (
	bodyAnswer substitute = iota
	bodyJSON
	bodyError
	bodyHTML
	bodyNone
	bodyNotHTTP
	bodyDone
	bodyNothing
)

// usageShape is how usage is reported.
type usageShape int

const (
	usageAsAsked usageShape = iota
	usageMissing
	usageZero
	usageImpossible
	usageInChoice
)

// half stands for half of the number that an argument counts: tokens of the answer, or of the prompt for cached_tokens.
const half = -1

// plan is what the faults of one request come to. The zero value is none, but for eol: newPlan sets it.
type plan struct {
	faults string // as asked for

	status      int // answer with this status instead
	retryAfter  int // seconds, 0 = no header
	redirect    string
	slowHeaders time.Duration
	body        substitute
	gzip        bool

	eol       string // line end
	bom       bool
	split     int // bytes a write, half = random
	splitting bool
	earlyRole bool
	comments  time.Duration // gap between comments while waiting, 0 = none
	bigEvent  int           // bytes of text of one token

	end      ending
	endAfter int    // tokens
	tail     ending // after the finish reason, in place of usage
	stop     bool
	short    bool
	overrun  bool
	noFinish bool
	noDone   bool
	usage    usageShape
	cached   int // prompt tokens reported as cached
}

func newPlan() plan { return plan{eol: "\n"} }

// faultKind is a fault and what it does to a plan.
type faultKind struct {
	FaultInfo
	apply func(p *plan, arg string) error
}

// faultKinds is the catalogue.
func faultKinds() []faultKind {
	return slices.Concat(statusFaults(), endingFaults(), tailFaults(), contentFaults(), framingFaults())
}

// statusFaults replace the answer or its head.
func statusFaults() []faultKind {
	body := func(b substitute) func(*plan, string) error {
		return noArg(func(p *plan) { p.body = b })
	}
	return []faultKind{
		{FaultInfo{"status", "CODE or CODE:SECONDS; with 429 and 503 the latter, 1 by default, go into Retry-After",
			"an error status with vLLM's body"}, setStatus},
		{FaultInfo{"redirect", "URL, by default a host that does not exist", "307 to another host"}, setRedirect},
		{FaultInfo{"slow_headers", "duration, by default 5s", "the response head comes late"},
			duration(5*time.Second, func(p *plan, d time.Duration) { p.slowHeaders = d })},
		{FaultInfo{"json_200", "", "200 with a JSON answer although a stream was asked for"}, body(bodyJSON)},
		{FaultInfo{"error_200", "", "200 with a JSON error object"}, body(bodyError)},
		{FaultInfo{"html_200", "", "200 with an HTML page"}, body(bodyHTML)},
		{FaultInfo{"no_content", "", "204, which has no body"}, body(bodyNone)},
		{FaultInfo{"not_http", "", "a line that is not HTTP, then the end of the connection (FIN)"}, body(bodyNotHTTP)},
		{FaultInfo{"empty", "", "a stream of [DONE] only"}, body(bodyDone)},
		{FaultInfo{"nothing", "", "a stream without one byte"}, body(bodyNothing)},
	}
}

// endingFaults end an answer before its time.
func endingFaults() []faultKind {
	const after = "tokens before it, by default half of the answer; 0 = in place of the first token"
	end := func(e ending) func(*plan, string) error {
		return count(half, func(p *plan, n int) { p.end, p.endAfter = e, n })
	}
	withoutDone := func(e ending) func(*plan, string) error {
		return count(half, func(p *plan, n int) { p.end, p.endAfter, p.noDone = e, n, true })
	}
	return []faultKind{
		{FaultInfo{"fin", after, "the connection is closed (FIN) in the middle of the stream"}, end(endFIN)},
		{FaultInfo{"rst", after, "the connection is reset (RST) in the middle of the stream"}, end(endRST)},
		{FaultInfo{"chunk_cut", after, "the connection is closed inside a chunk of the body"}, end(endChunkCut)},
		{FaultInfo{"error_event", after, "an error object in the stream, then [DONE]"}, end(endErrorObject)},
		{FaultInfo{"error_event_no_done", after, "an error object in the stream, without [DONE]"},
			withoutDone(endErrorObject)},
		{FaultInfo{"error_string", after, "an error that is a string in the stream, then [DONE]"},
			end(endErrorString)},
		{FaultInfo{"error_string_no_done", after, "an error that is a string in the stream, without [DONE]"},
			withoutDone(endErrorString)},
		{FaultInfo{"error_named", after, "an event that is an error by its name only, then [DONE]"}, end(endErrorNamed)},
		{FaultInfo{"not_json", after, "an event that is not JSON, then [DONE]"}, end(endNotJSON)},
		{FaultInfo{"abort", after, "finish reason abort, usage of the short answer, [DONE]: vLLM on SIGTERM"},
			end(endAbort)},
		{FaultInfo{"hang", "", "the head, then silence until the client gives up"},
			noArg(func(p *plan) { p.end, p.endAfter = endHang, 0 })},
		{FaultInfo{"hang_after", after, "tokens, then silence until the client gives up"}, end(endHang)},
		{FaultInfo{"endless_event", after, "an event that never ends, as fast as the client reads"}, end(endEndless)},
		{FaultInfo{"no_tokens", "", "finish reason stop without a token"},
			noArg(func(p *plan) { p.end, p.endAfter = endStop, 0 })},
	}
}

// tailFaults come after the finish reason, in place of usage.
func tailFaults() []faultKind {
	tail := func(e ending) func(*plan, string) error {
		return noArg(func(p *plan) { p.tail = e })
	}
	return []faultKind{
		{FaultInfo{"error_after_finish", "", "an error object after the finish reason, then [DONE]"}, tail(endErrorObject)},
		{FaultInfo{"fin_after_finish", "", "the connection is closed (FIN) after the finish reason"}, tail(endFIN)},
		{FaultInfo{"hang_after_finish", "", "silence after the finish reason until the client gives up"}, tail(endHang)},
	}
}

// contentFaults change what a complete stream says.
func contentFaults() []faultKind {
	usage := func(u usageShape) func(*plan, string) error {
		return noArg(func(p *plan) { p.usage = u })
	}
	return []faultKind{
		{FaultInfo{"no_finish", "", "no event has a finish reason"}, noArg(func(p *plan) { p.noFinish = true })},
		{FaultInfo{"no_done", "", "no [DONE]"}, noArg(func(p *plan) { p.noDone = true })},
		{FaultInfo{"short", "", "half of the tokens asked for, finish reason stop"},
			noArg(func(p *plan) { p.short = true })},
		{FaultInfo{"ignore_eos_ignored", "", "an end at a random length, finish reason stop, whatever ignore_eos says"},
			noArg(func(p *plan) { p.stop = true })},
		{FaultInfo{"ignore_max_tokens", "", "twice the tokens asked for"}, noArg(func(p *plan) { p.overrun = true })},
		{FaultInfo{"usage_missing", "", "no usage although it was asked for"}, usage(usageMissing)},
		{FaultInfo{"usage_zero", "", "usage with all counts 0"}, usage(usageZero)},
		{FaultInfo{"usage_impossible", "", "usage with 100000000000 output tokens"}, usage(usageImpossible)},
		{FaultInfo{"usage_in_choice", "", "usage inside the event with the finish reason"}, usage(usageInChoice)},
		{FaultInfo{"cached_tokens", "tokens, by default half of the prompt",
			"a part of the prompt comes from the prefix cache: no prefill, and usage says so"},
			count(half, func(p *plan, n int) { p.cached = n })},
		{FaultInfo{"early_role", "", "the role event comes at once, before the prefill"},
			noArg(func(p *plan) { p.earlyRole = true })},
	}
}

// framingFaults change how events are laid on the wire. All but big_event are legal and must not matter.
func framingFaults() []faultKind {
	eol := func(s string) func(*plan, string) error {
		return noArg(func(p *plan) { p.eol = s })
	}
	return []faultKind{
		{FaultInfo{"comments", "duration between two, by default 1s",
			"keep-alive comments while the next token is awaited"},
			duration(time.Second, func(p *plan, d time.Duration) { p.comments = d })},
		{FaultInfo{"crlf", "", "lines end in CR LF"}, eol("\r\n")},
		{FaultInfo{"cr", "", "lines end in CR"}, eol("\r")},
		{FaultInfo{"bom", "", "a byte order mark before the first event"}, noArg(func(p *plan) { p.bom = true })},
		{FaultInfo{"split", "bytes a write, by default random", "each event is cut into several writes"},
			count(half, func(p *plan, n int) { p.splitting, p.split = true, n })},
		{FaultInfo{"big_event", "bytes of text, by default 16777216", "one token in the middle has a very long text"},
			count(16<<20, func(p *plan, n int) { p.bigEvent = n })},
		{FaultInfo{"gzip", "", "the stream is compressed, asked for or not"}, noArg(func(p *plan) { p.gzip = true })},
	}
}

// noArg is the apply of a fault without an argument.
func noArg(set func(*plan)) func(*plan, string) error {
	return func(p *plan, arg string) error {
		if arg != "" {
			return fmt.Errorf("takes no argument, not %q", arg)
		}
		set(p)
		return nil
	}
}

// count is the apply of a fault whose argument is a number.
func count(byDefault int, set func(*plan, int)) func(*plan, string) error {
	return func(p *plan, arg string) error {
		if arg == "" {
			set(p, byDefault)
			return nil
		}
		n, err := strconv.Atoi(arg)
		if err != nil || n < 0 {
			return fmt.Errorf("takes a whole number that is not negative, not %q", arg)
		}
		set(p, n)
		return nil
	}
}

// duration is the apply of a fault whose argument is a time.
func duration(byDefault time.Duration, set func(*plan, time.Duration)) func(*plan, string) error {
	return func(p *plan, arg string) error {
		if arg == "" {
			set(p, byDefault)
			return nil
		}
		d, err := time.ParseDuration(arg)
		if err != nil || d <= 0 {
			return fmt.Errorf(`takes a positive duration such as "100ms", not %q`, arg)
		}
		set(p, d)
		return nil
	}
}

func setStatus(p *plan, arg string) error {
	code, seconds, hasSeconds := strings.Cut(arg, ":")
	var err error
	if p.status, err = strconv.Atoi(code); err != nil || p.status < 400 || p.status > 599 {
		return fmt.Errorf("takes a status from 400 to 599, not %q", arg)
	}
	p.retryAfter = 0
	if p.status == http.StatusTooManyRequests || p.status == http.StatusServiceUnavailable {
		p.retryAfter = 1
	}
	if hasSeconds {
		if p.retryAfter, err = strconv.Atoi(seconds); err != nil || p.retryAfter < 0 {
			return fmt.Errorf("takes whole seconds after the colon, not %q", arg)
		}
	}
	return nil
}

func setRedirect(p *plan, arg string) error {
	p.redirect = arg
	if arg == "" {
		p.redirect = "http://elsewhere.invalid/v1/chat/completions"
	}
	return nil
}

// parseFaults returns the plan for a list of faults as in FaultHeader.
func parseFaults(list string) (plan, error) {
	p := newPlan()
	if list == "none" {
		return p, nil
	}
	p.faults = list
	kinds := faultKinds()
	for item := range strings.SplitSeq(list, ",") {
		name, arg, _ := strings.Cut(strings.TrimSpace(item), "=")
		i := slices.IndexFunc(kinds, func(k faultKind) bool { return k.Name == name })
		if i < 0 {
			return plan{}, fmt.Errorf("fault %q is not known; GET /sim/faults lists them", name)
		}
		if err := kinds[i].apply(&p, arg); err != nil {
			return plan{}, fmt.Errorf("fault %s %w", name, err)
		}
	}
	return p, nil
}

// rolledFault is a FaultRate made ready.
type rolledFault struct {
	FaultRate
	plan plan
}

// SetFaults replaces the faults that requests get at random: each request gets at most one of the list, so the
// probabilities may not add up to more than 1.
func (s *Server) SetFaults(rates []FaultRate) error {
	faults := make([]rolledFault, len(rates))
	var sum float64
	for i, r := range rates {
		if !(r.Probability >= 0 && r.Probability <= 1) {
			return fmt.Errorf("sim: probability of fault %q is %v, must be in [0, 1]", r.Fault, r.Probability)
		}
		sum += r.Probability
		p, err := parseFaults(r.Fault)
		if err != nil {
			return fmt.Errorf("sim: %w", err)
		}
		faults[i] = rolledFault{r, p}
	}
	if sum > 1+1e-9 {
		return fmt.Errorf("sim: probabilities of faults add up to %v, must not exceed 1", sum)
	}
	s.faults.Store(&faults)
	return nil
}

// rollFault returns the plan that the draw u, in [0, 1), picks.
func (s *Server) rollFault(u float64) plan {
	for _, f := range *s.faults.Load() {
		if u < f.Probability {
			return f.plan
		}
		u -= f.Probability
	}
	return newPlan()
}
