package sweep

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/inferprobe/inferprobe/internal/load"
	"github.com/inferprobe/inferprobe/internal/openai"
	"github.com/inferprobe/inferprobe/internal/probe"
	"github.com/inferprobe/inferprobe/internal/sim"
	"github.com/inferprobe/inferprobe/internal/sim/simtest"
)

// trouble is something that happens to a request for 8 tokens, and what is reported of it. docs/failures.md has the
// same rows: TestFailuresAreDocumented compares them.
type trouble struct {
	fault   string // as the simulator takes it, or with do a name of ours
	row     string // of the document, where it is not the fault itself
	outcome probe.Outcome
	reason  probe.Reason
	finding probe.FindingName // that a stage of such requests has, "" for none
	tokens  int               // output tokens, −1 = any number
	by      probe.TokenSource
	retries int

	options openai.Options
	do      func(t *testing.T) *probe.Result // instead of a request to the simulator
	check   func(t *testing.T, r *probe.Result)
}

const (
	server = probe.TokensFromServer
	events = probe.TokensFromEvents
)

// failures is every fault of the simulator and what else can go wrong.
func failures() []trouble {
	const limit = 100 * milli
	early := openai.Options{FirstTokenTimeout: limit}
	idle := openai.Options{IdleTimeout: limit}
	total := openai.Options{TotalTimeout: limit}
	return slices.Concat(statusFailures(), []trouble{
		{fault: "redirect", outcome: probe.Failed, reason: probe.ReasonNotAStream},
		{
			fault: "slow_headers=200ms", row: "slow_headers", outcome: probe.Completed, tokens: 8, by: server,
			check: notBefore(200 * milli),
		},
		{
			fault: "slow_headers=10s", row: "slow_headers beyond the limit", outcome: probe.Failed,
			reason: probe.ReasonTimeoutFirstToken, options: early,
		},
		{fault: "json_200", outcome: probe.Failed, reason: probe.ReasonNotAStream},
		{fault: "error_200", outcome: probe.Failed, reason: probe.ReasonErrorEvent},
		{fault: "html_200", outcome: probe.Failed, reason: probe.ReasonNotAStream},
		{fault: "no_content", outcome: probe.Failed, reason: probe.ReasonEmpty},
		{
			fault: "an empty body", row: "no_content", outcome: probe.Failed, reason: probe.ReasonEmpty,
			do: func(t *testing.T) *probe.Result {
				return sendTo(t, serveEach(t, func(http.ResponseWriter, *http.Request) {}))
			},
		},
		{fault: "not_http", outcome: probe.Failed, reason: probe.ReasonMalformed},
		{fault: "empty", outcome: probe.Failed, reason: probe.ReasonEmpty},
		{fault: "nothing", outcome: probe.Failed, reason: probe.ReasonEmpty},
	}, endings(early, idle, total), tails(idle), contents(), framings(), connections(), ends())
}

func statusFailures() []trouble {
	status := func(code string, reason probe.Reason) trouble {
		return trouble{fault: "status=" + code, outcome: probe.Failed, reason: reason}
	}
	limited := status("429:7", probe.ReasonRateLimited)
	limited.row, limited.check = "status=429", func(t *testing.T, r *probe.Result) {
		if r.RetryTime != 7*time.Second {
			t.Errorf("Retry-After is %s, want 7s", r.RetryTime)
		}
	}
	return []trouble{
		status("401", probe.ReasonUnauthorized), status("403", probe.ReasonUnauthorized),
		status("404", probe.ReasonNotFound), limited, status("400", probe.ReasonHTTP4xx),
		status("422", probe.ReasonHTTP4xx), status("500", probe.ReasonHTTP5xx), status("503", probe.ReasonHTTP5xx),
	}
}

// endings are streams that end before their time: by default after half of the tokens.
func endings(early, idle, total openai.Options) []trouble {
	var all []trouble
	for name, reason := range map[string]probe.Reason{
		"fin": probe.ReasonTruncated, "rst": probe.ReasonTruncated, "chunk_cut": probe.ReasonTruncated,
		"error_event": probe.ReasonErrorEvent, "error_event_no_done": probe.ReasonErrorEvent,
		"error_string": probe.ReasonErrorEvent, "error_string_no_done": probe.ReasonErrorEvent,
		"error_named": probe.ReasonErrorEvent, "not_json": probe.ReasonMalformed,
		"abort": probe.ReasonAborted,
	} {
		half := trouble{fault: name, outcome: probe.Failed, reason: reason, tokens: 4, by: events}
		if name == "abort" {
			half.by = server
		}
		if name == "rst" { // what has not been read yet is lost with the connection
			half.tokens = -1
		}
		none := trouble{fault: name + "=0", row: name, outcome: probe.Failed, reason: reason}
		all = append(all, half, none)
	}
	return append(all,
		trouble{fault: "hang", outcome: probe.Failed, reason: probe.ReasonTimeoutFirstToken, options: early},
		trouble{
			fault: "hang,comments=10ms", row: "hang", outcome: probe.Failed, reason: probe.ReasonTimeoutFirstToken,
			options: early,
		},
		trouble{
			fault: "hang_after", outcome: probe.Failed, reason: probe.ReasonTimeoutIdle, tokens: 4, by: events,
			options: idle,
		},
		trouble{
			fault: "hang_after", row: "not done within the limit", outcome: probe.Failed, reason: probe.ReasonTimeoutTotal,
			tokens: 4, by: events, options: total,
		},
		trouble{fault: "endless_event", outcome: probe.Failed, reason: probe.ReasonMalformed, tokens: 4, by: events},
		trouble{
			fault: "long events in more than four streams", outcome: probe.Failed, reason: probe.ReasonMalformed, tokens: 4,
			by: events, do: fifthLong, check: func(t *testing.T, r *probe.Result) {
				if !strings.Contains(r.Detail, "other streams") {
					t.Error(r.Detail)
				}
			},
		},
		trouble{fault: "no_tokens", outcome: probe.Failed, reason: probe.ReasonEmpty},
	)
}

// tails are what comes, or stays away, after the finish reason.
func tails(idle openai.Options) []trouble {
	whole := trouble{outcome: probe.Completed, tokens: 8, by: events, finding: probe.FindingNoServerUsage}
	fin, hang := whole, whole
	fin.fault = "fin_after_finish"
	hang.fault, hang.options = "hang_after_finish", idle
	return []trouble{
		{fault: "error_after_finish", outcome: probe.Failed, reason: probe.ReasonErrorEvent, tokens: 8, by: events},
		fin, hang,
	}
}

// contents are streams that come to their end, but say something else than they should.
func contents() []trouble {
	return []trouble{
		{fault: "no_finish", outcome: probe.Completed, tokens: 8, by: server},
		{
			fault: "no_finish,short", row: "no_finish and short", outcome: probe.Failed, reason: probe.ReasonTruncated,
			tokens: 4, by: server,
		},
		{fault: "no_done", outcome: probe.Completed, tokens: 8, by: server},
		{fault: "short", outcome: probe.Completed, tokens: 4, by: server, finding: probe.FindingOutputLength},
		{fault: "ignore_eos_ignored", outcome: probe.Completed, tokens: -1, by: server, finding: probe.FindingOutputLength},
		{fault: "ignore_max_tokens", outcome: probe.Completed, tokens: 16, by: server, finding: probe.FindingOutputLength},
		{fault: "usage_missing", outcome: probe.Completed, tokens: 8, by: events, finding: probe.FindingNoServerUsage},
		{fault: "usage_zero", outcome: probe.Completed, tokens: 8, by: events, finding: probe.FindingNoServerUsage},
		{fault: "usage_impossible", outcome: probe.Failed, reason: probe.ReasonMalformed, tokens: 8, by: events},
		{fault: "usage_in_choice", outcome: probe.Completed, tokens: 8, by: server},
		{
			fault: "cached_tokens=32", row: "cached_tokens", outcome: probe.Completed, tokens: 8, by: server,
			finding: probe.FindingCachedPrompts,
		},
		{fault: "early_role", outcome: probe.Completed, tokens: 8, by: server, check: notBefore(10 * milli)},
	}
}

// framings are legal and make no difference, but for what no client should have to bear.
func framings() []trouble {
	whole := func(fault string) trouble {
		row, _, _ := strings.Cut(fault, "=")
		return trouble{fault: fault, row: row, outcome: probe.Completed, tokens: 8, by: server, check: notBefore(10 * milli)}
	}
	return []trouble{
		whole("comments=2ms"), whole("crlf"), whole("cr"), whole("bom"), whole("split"), whole("split=1"), whole("big_event"),
		{
			fault: "events with another name", outcome: probe.Completed, tokens: 8, by: server,
			do: func(t *testing.T) *probe.Result { return sendTo(t, serveEach(t, answerWithPing)) },
		},
		{fault: "gzip", outcome: probe.Failed, reason: probe.ReasonMalformed},
	}
}

// notBefore checks that the first token came no earlier than the simulator lets it.
func notBefore(d time.Duration) func(*testing.T, *probe.Result) {
	return func(t *testing.T, r *probe.Result) {
		if r.FirstToken < d {
			t.Errorf("first token after %s, but it leaves after %s", r.FirstToken, d)
		}
	}
}

// connections are troubles before there is an answer.
func connections() []trouble {
	failed := func(name string, reason probe.Reason, do func(t *testing.T) *probe.Result) trouble {
		return trouble{fault: name, outcome: probe.Failed, reason: reason, do: do}
	}
	return []trouble{
		// Go's resolver refuses a name with an empty label without asking anybody.
		failed("no such host", probe.ReasonDNS, func(t *testing.T) *probe.Result {
			return sendTo(t, "http://no..such.host/v1")
		}),
		failed("nobody listens", probe.ReasonConnect, func(t *testing.T) *probe.Result {
			return sendTo(t, closedAddress(t))
		}),
		failed("a certificate that is not trusted", probe.ReasonTLS, func(t *testing.T) *probe.Result {
			s := httptest.NewUnstartedServer(http.NotFoundHandler())
			s.Config.ErrorLog = log.New(io.Discard, "", 0)
			s.StartTLS()
			t.Cleanup(s.Close)
			return sendTo(t, s.URL+"/v1")
		}),
		failed("the connection ends before an answer", probe.ReasonReset, func(t *testing.T) *probe.Result {
			return sendTo(t, serveEach(t, hangUp))
		}),
		{
			fault: "a kept connection that has ended", outcome: probe.Completed, tokens: 8, by: server, retries: 1,
			do: func(t *testing.T) *probe.Result { return sendTwice(t, serveEach(t, answerWhole, hangUp, answerWhole)) },
		},
		{
			fault: "a kept connection that has ended, and the next", outcome: probe.Failed, reason: probe.ReasonReset,
			retries: 1, do: func(t *testing.T) *probe.Result { return sendTwice(t, serveEach(t, answerWhole, hangUp)) },
		},
	}
}

// ends are requests that we end ourselves.
func ends() []trouble {
	cancelled := func(cause error) func(t *testing.T) *probe.Result {
		return func(t *testing.T) *probe.Result {
			ctx, cancel := context.WithCancelCause(t.Context())
			return send(ctx, t, openai.Options{BaseURL: serveEach(t, func(_ http.ResponseWriter, r *http.Request) {
				io.Copy(io.Discard, r.Body) // only then the server notices that the client goes away
				cancel(cause)
				<-r.Context().Done()
			})})
		}
	}
	return []trouble{
		{
			fault: "in flight when its stage ends", outcome: probe.Incomplete, do: cancelled(probe.ErrStageEnded),
		},
		{
			fault: "cancelled", outcome: probe.Failed, reason: probe.ReasonCancelled, do: cancelled(errors.New("told to stop")),
		},
		{
			fault: "more in flight than allowed", outcome: probe.Failed, reason: probe.ReasonClientOverload,
			finding: probe.FindingClientOverload, do: overload,
		},
	}
}

// overload returns the request that finds another one in flight where only one may be.
func overload(t *testing.T) *probe.Result {
	_, url := simtest.Start(t, fixedFault("hang"))
	client, err := openai.New(openai.Options{BaseURL: url + "/v1"})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	encoder := openai.NewEncoder(openai.APIChat, openai.DialectGeneric, sim.DefaultModel, "")
	pool := wordPool(t)
	var refused *probe.Result
	engine := load.Engine{
		Client: client, Source: newSource(encoder, pool, targetAt(url, Plan{}).Workload, 1),
		Recorder: recorderFunc(func(r *probe.Result) {
			if r.Outcome == probe.Failed {
				kept := *r
				refused = &kept
			}
		}),
	}
	engine.Run(t.Context(), load.Stage{
		Profile: probe.ProfileConstant, Rate: 100, MaxRequests: 2, MaxInFlight: 1, MaxDuration: 100 * milli,
	})
	return refused
}

type recorderFunc func(*probe.Result)

func (f recorderFunc) Record(r *probe.Result) { f(r) }

// fifthLong returns the request that gets a long event while four others of its client hold one.
func fifthLong(t *testing.T) *probe.Result {
	simulator, url := simtest.Start(t, steady())
	client, err := openai.New(openai.Options{BaseURL: url + "/v1"})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	var holding sync.WaitGroup
	defer holding.Wait()
	defer cancel()
	setFault(t, simulator, "big_event=4000000,hang_after=6") // the long one is the fifth of eight
	for range 4 {
		r := newRequest(t)
		holding.Go(func() { client.Do(ctx, r, new(probe.Result)) })
		for ctx.Err() == nil && r.Events.Load() < 6 {
			time.Sleep(milli)
		}
	}
	setFault(t, simulator, "big_event=4000000")
	return sendBy(ctx, t, client)
}

// serveEach serves the requests in turn, the last way for all that follow, and returns the base URL.
func serveEach(t *testing.T, each ...http.HandlerFunc) string {
	var served atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		each[min(int(served.Add(1)), len(each))-1](w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL + "/v1"
}

// hangUp closes the connection without an answer.
func hangUp(w http.ResponseWriter, _ *http.Request) {
	if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
		conn.Close()
	}
}

// answerWhole answers with eight tokens.
func answerWhole(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	for range 8 {
		fmt.Fprint(w, `data: {"choices":[{"delta":{"content":"a"}}]}`, "\n\n")
	}
	fmt.Fprint(w, `data: {"choices":[{"delta":{},"finish_reason":"length"}],`,
		`"usage":{"prompt_tokens":40,"completion_tokens":8}}`, "\n\ndata: [DONE]\n\n")
}

// answerWithPing answers with eight tokens after an event that is a sign of life.
func answerWithPing(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	fmt.Fprint(w, "event: ping\ndata: 12:00:00\n\n")
	answerWhole(w, r)
}

// sendTo sends a request for 8 tokens to the API at url.
func sendTo(t *testing.T, url string) *probe.Result {
	t.Helper()
	return send(t.Context(), t, openai.Options{BaseURL: url})
}

// send sends a request for 8 tokens.
func send(ctx context.Context, t *testing.T, o openai.Options) *probe.Result {
	t.Helper()
	client, err := openai.New(o)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	return sendBy(ctx, t, client)
}

func sendBy(ctx context.Context, t *testing.T, client *openai.Client) *probe.Result {
	r := new(probe.Result)
	client.Do(ctx, newRequest(t), r)
	return r
}

// newRequest returns a request for 8 tokens.
func newRequest(t *testing.T) *probe.Request {
	encoder := openai.NewEncoder(openai.APIChat, openai.DialectGeneric, sim.DefaultModel, "")
	generator := wordPool(t).Generator(1)
	prompt := func(dst []byte) []byte { return generator.Append(dst, 32) }
	return &probe.Request{
		PromptTokens: 32, OutputTokens: 8, Events: new(atomic.Int64), Body: encoder.Append(nil, prompt, 8),
	}
}

// sendTwice sends two requests over a connection that is kept, and returns what became of the second. It must have
// started when it was sent for the last time.
func sendTwice(t *testing.T, url string) *probe.Result {
	t.Helper()
	client, err := openai.New(openai.Options{BaseURL: url})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if first := sendBy(t.Context(), t, client); first.Outcome != probe.Completed {
		t.Fatalf("the first request: %s, %s", first.Outcome, first.Detail)
	}
	return sendBy(t.Context(), t, client)
}

func TestFailures(t *testing.T) {
	simulator, url := simtest.Start(t, steady())
	for _, f := range failures() {
		t.Run(f.fault, func(t *testing.T) {
			if f.do != nil {
				checkFailure(t, f, f.do(t))
				return
			}
			setFault(t, simulator, f.fault)
			f.options.BaseURL = url + "/v1"
			checkFailure(t, f, send(t.Context(), t, f.options))
		})
	}
}

// setFault gives every request this fault.
func setFault(t *testing.T, simulator *sim.Server, fault string) {
	t.Helper()
	if err := simulator.SetFaults([]sim.FaultRate{{Fault: fault, Probability: 1}}); err != nil {
		t.Fatal(err)
	}
}

// checkFailure compares the result, and the books of a stage that had only it, with what is expected.
func checkFailure(t *testing.T, f trouble, r *probe.Result) {
	t.Helper()
	if r.Outcome != f.outcome || r.Reason != f.reason || (r.Reason != "") != (r.Detail != "") || r.Retries != f.retries {
		t.Errorf("%s, %q (%s), %d retries; want %s, %q, %d", r.Outcome, r.Reason, r.Detail, r.Retries,
			f.outcome, f.reason, f.retries)
	}
	if f.tokens >= 0 && (r.OutputTokens != f.tokens || r.TokenSource != f.by) {
		t.Errorf("%d tokens by %q, want %d by %q", r.OutputTokens, r.TokenSource, f.tokens, f.by)
	}
	if f.check != nil {
		f.check(t, r)
	}
	checkStageOf(t, f, r)
}

// checkStageOf checks the books of a stage that had only this request.
func checkStageOf(t *testing.T, f trouble, r *probe.Result) {
	t.Helper()
	started := time.Now().Add(-time.Minute)
	c := newCollector(started, probe.Objectives{})
	c.Record(r)
	out := load.Outcome{Started: started, Ended: time.Now(), Ending: load.EndedByDuration}
	s := c.summarise(constantAt(1, 2*time.Minute), out, nil)
	want := map[probe.Outcome]int{f.outcome: 1}
	if s.Completed != want[probe.Completed] || s.Failed != want[probe.Failed] || s.Incomplete != want[probe.Incomplete] ||
		s.Failures[f.reason] != want[probe.Failed] || s.Retries != f.retries {
		t.Errorf("%d completed, %d failed, %d incomplete, %v, %d retries",
			s.Completed, s.Failed, s.Incomplete, s.Failures, s.Retries)
	}
	if s.RequestDuration.Count != s.Completed || s.OutputTokens.Count != s.Completed {
		t.Errorf("%d latencies and %d lengths of %d completed requests",
			s.RequestDuration.Count, s.OutputTokens.Count, s.Completed)
	}
	if got := c.line.tokens(0, 2*time.Minute); !near(got, float64(r.OutputTokens)) {
		t.Errorf("%v tokens count for the throughput, %d came", got, r.OutputTokens)
	}
	s.Findings = c.judge(&s, measurement{forced: true})
	for _, found := range s.Findings {
		if found.Name != probe.FindingTooFewSamples && found.Name != f.finding && !found.Ours() {
			t.Errorf("found %s: %s", found.Name, found.Detail)
		}
	}
	if f.finding != "" && !has(&s, f.finding) {
		t.Errorf("%s is not among %v", f.finding, s.Findings)
	}
}

// TestEveryFaultIsInTheTable keeps the table complete when the simulator learns a new fault.
func TestEveryFaultIsInTheTable(t *testing.T) {
	for _, fault := range sim.Faults() {
		if !slices.ContainsFunc(failures(), func(f trouble) bool {
			name, _, _ := strings.Cut(f.fault, "=")
			return name == fault.Name
		}) {
			t.Errorf("the simulator's fault %q is not in the table", fault.Name)
		}
	}
}

// reported is what docs/failures.md says of a trouble.
func (f *trouble) reported() string {
	text := f.outcome.String()
	if f.reason != "" {
		text += ", `" + string(f.reason) + "`"
	}
	if f.finding != "" {
		text += "; `" + string(f.finding) + "`"
	}
	if f.retries > 0 {
		text += "; sent twice"
	}
	return text
}

// TestFailuresAreDocumented compares the rows of docs/failures.md with the table, and with what a restart may cause:
// what is reported of each, and that none is missing.
func TestFailuresAreDocumented(t *testing.T) {
	document, err := os.ReadFile("../../docs/failures.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := documentedRows(t, string(document))
	want := map[string]string{"the server restarts in the middle of a stage": reportedOfRestart()}
	for _, f := range failures() {
		row := cmp.Or(f.row, f.fault)
		if other, ok := want[row]; ok && other != f.reported() {
			t.Errorf("%q is %q, but shares a row with what is %q", f.fault, f.reported(), other)
		}
		want[row] = f.reported()
	}
	if diff := gocmp.Diff(want, documented); diff != "" {
		t.Errorf("docs/failures.md is not the table (-table +document):\n%s", diff)
	}
	for _, reason := range probe.Reasons() {
		if !strings.Contains(string(document), ", `"+string(reason)+"`") {
			t.Errorf("docs/failures.md has no row that is reported as %q", reason)
		}
	}
}

// documentedRows returns what the document says is reported of each fault.
func documentedRows(t *testing.T, document string) map[string]string {
	t.Helper()
	documented := make(map[string]string)
	for line := range strings.Lines(document) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) == 1 || strings.HasPrefix(cells[1], " ---") || strings.TrimSpace(cells[1]) == "Fault" {
			continue
		}
		if len(cells) != 7 {
			t.Errorf("a row of %d cells instead of 5: %s", len(cells)-2, line)
			continue
		}
		for i, cell := range cells[1:6] {
			if strings.TrimSpace(cell) == "" {
				t.Errorf("cell %d is empty: %s", i+1, line)
			}
		}
		documented[strings.ReplaceAll(strings.TrimSpace(cells[1]), "`", "")] = strings.TrimSpace(cells[3])
	}
	return documented
}

// TestCredentialsDoNotFollow redirects to another server, which must not be asked.
func TestCredentialsDoNotFollow(t *testing.T) {
	elsewhere, other := simtest.Start(t, steady())
	_, url := simtest.Start(t, fixedFault("redirect="+other+"/v1/chat/completions"))
	r := send(t.Context(), t, openai.Options{
		BaseURL: url + "/v1", APIKey: "secret", Header: http.Header{"Api-Key": {"secret header"}},
	})
	if r.Reason != probe.ReasonNotAStream || strings.Contains(r.Detail, "secret") {
		t.Errorf("%s: %s", r.Reason, r.Detail)
	}
	if n := len(simtest.Truth(t, elsewhere)); n > 0 {
		t.Errorf("%d requests followed", n)
	}
}

// restartable is a simulator that can be stopped and started again at the same address.
type restartable struct {
	t       *testing.T
	address string
	truth   []sim.Record // of those that were stopped
	server  *sim.Server
	stop    func()
}

func (r *restartable) start() {
	listener, err := net.Listen("tcp", r.address)
	if err != nil {
		r.t.Error(err)
		return
	}
	r.address = listener.Addr().String()
	if r.server, err = sim.New(steady()); err != nil {
		r.t.Error(err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	server := r.server
	serving.Go(func() {
		if err := server.Serve(ctx, listener); err != nil {
			r.t.Error(err)
		}
	})
	r.stop = func() {
		cancel()
		serving.Wait()
		r.truth = append(r.truth, server.Truth(time.Time{})...)
	}
}

// restartReasons are why requests may fail when the server restarts: in flight, refused, and in between.
func restartReasons() []probe.Reason {
	return []probe.Reason{
		probe.ReasonAborted, probe.ReasonTruncated, probe.ReasonConnect, probe.ReasonReset, probe.ReasonHTTP5xx,
	}
}

// reportedOfRestart is what docs/failures.md says of a restart.
func reportedOfRestart() string {
	var names []string
	for _, reason := range restartReasons() {
		names = append(names, "`"+string(reason)+"`")
	}
	return "failed: " + strings.Join(names, " or ")
}

// TestServerRestartsInTheMiddleOfAStage stops the server while requests are in flight, and starts it again. Nothing is
// lost: what was in flight is aborted or breaks off, what comes meanwhile is refused, and afterwards all is well again.
func TestServerRestartsInTheMiddleOfAStage(t *testing.T) {
	r := &restartable{t: t, address: "127.0.0.1:0"}
	r.start()
	var done atomic.Int64
	restart := make(chan struct{})
	restarted := make(chan struct{})
	go func() {
		defer close(restarted)
		<-restart
		r.stop()
		time.Sleep(50 * milli)
		r.start()
	}()
	o := &observer{onRecord: func(string) {
		if done.Add(1) == 10 {
			close(restart)
		}
	}}
	target := targetAt("http://"+r.address, Plan{
		Profile: probe.ProfileConstant, RateList: []float64{100}, MaxRequests: 100, MaxDuration: 30 * time.Second,
		MaxInFlight: 100,
	})
	c := run(t.Context(), t, target, o)
	<-restarted
	r.stop()

	s := &c.Stages[0]
	if s.Completed+s.Failed != 100 || s.Completed < 10 || s.Failed == 0 {
		t.Errorf("%d of 100 requests completed and %d failed", s.Completed, s.Failed)
	}
	for reason := range s.Failures {
		if !slices.Contains(restartReasons(), reason) {
			t.Errorf("failures by %s: %s", reason, s.FailureDetails[reason])
		}
	}
	var completed int
	for _, truth := range r.truth {
		if o.results[truth.RequestID].outcome == probe.Completed && o.results[truth.RequestID].stage != probe.StageNone {
			completed++
			if truth.Outcome != sim.OutcomeCompleted {
				t.Errorf("a request that is %s at the server counts as completed", truth.Outcome)
			}
		}
	}
	if completed != s.Completed {
		t.Errorf("%d requests completed, the servers know of %d", s.Completed, completed)
	}
}
