package openai

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/inferprobe/inferprobe/internal/http1"
	"github.com/inferprobe/inferprobe/internal/probe"
	"github.com/inferprobe/inferprobe/internal/wiretime"
)

// recording is what a server sent over one connection, read by read. Those in testdata/wire were recorded from real
// servers; those in testdata/scripted are written by hand, after what the servers' sources and issues say.
type recording struct {
	name         string // server/case#connection
	path         string // of the request
	outputTokens int    // asked for
	stream       bool   // asked for
	reads        []recordedRead
	end          string // complete, eof, reset, idle-close, client-abort or timeout
}

type recordedRead struct {
	at   time.Duration // since the request was written
	data []byte
}

// recordedRow is one line of a recording.
type recordedRow struct {
	Meta         json.RawMessage `json:"meta"`
	Connection   int             `json:"c"`
	Dir          string          `json:"dir"`
	Millis       float64         `json:"t_ms"`
	Data         string          `json:"data"`
	Base64       string          `json:"data_b64"`
	Event        string          `json:"event"`
	Request      string          `json:"request"`
	OutputTokens int             `json:"output_tokens"`
	Stream       bool            `json:"stream"`
}

func readRecordings(t testing.TB) []*recording {
	t.Helper()
	files, err := filepath.Glob("testdata/*/*/*.jsonl")
	if err != nil || len(files) == 0 {
		t.Fatalf("no recordings: %v", err)
	}
	var all []*recording
	for _, file := range files {
		all = append(all, readRecording(t, file)...)
	}
	return all
}

// readRecording returns the connections of one file.
func readRecording(t testing.TB, file string) []*recording {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var all []*recording
	lines := json.NewDecoder(bytes.NewReader(data))
	for lines.More() {
		var row recordedRow
		if err := lines.Decode(&row); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if row.Meta != nil {
			continue
		}
		for len(all) <= row.Connection {
			server := filepath.Base(filepath.Dir(file))
			all = append(all, &recording{
				name: fmt.Sprintf("%s/%s#%d", server, strings.TrimSuffix(filepath.Base(file), ".jsonl"), len(all)),
			})
		}
		all[row.Connection].add(t, &row)
	}
	return all
}

func (r *recording) add(t testing.TB, row *recordedRow) {
	switch row.Dir {
	case "out":
		r.path = strings.Fields(row.Request)[1]
		r.outputTokens, r.stream = row.OutputTokens, row.Stream
	case "in":
		data := []byte(row.Data)
		if row.Base64 != "" {
			var err error
			if data, err = base64.StdEncoding.DecodeString(row.Base64); err != nil {
				t.Fatal(err)
			}
		}
		r.reads = append(r.reads, recordedRead{time.Duration(row.Millis * 1e6), data})
	case "ev":
		if row.Event != "kill" {
			r.end = row.Event
		}
	}
}

// player plays a recording back as if its reads happened now, at the recorded times after base.
type player struct {
	*recording
	base   time.Time
	now    time.Time // the time of the last read
	cancel context.CancelCauseFunc
	next   int
}

func (p *player) Read(b []byte) (int, error) {
	if p.next == len(p.reads) {
		switch p.end {
		case "client-abort":
			p.cancel(probe.ErrStageEnded)
			return 0, context.Canceled
		case "timeout":
			p.cancel(errIdle)
			return 0, context.Canceled
		case "reset":
			return 0, &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}
		}
		return 0, io.EOF
	}
	read := &p.reads[p.next]
	n := copy(b, read.data)
	p.now = p.base.Add(read.at)
	if read.data = read.data[n:]; len(read.data) == 0 {
		p.next++
	}
	return n, nil
}

// play measures a recording with its own times.
func (r *recording) play(t testing.TB) *probe.Result {
	t.Helper()
	client, err := New(Options{BaseURL: "http://localhost/v1"})
	if err != nil {
		t.Fatal(err)
	}
	res := new(probe.Result)
	r.playWith(client, &probe.Request{OutputTokens: r.outputTokens}, res)
	return res
}

func (r *recording) playWith(client *Client, req *probe.Request, res *probe.Result) {
	ctx, cancel := context.WithCancelCause(context.Background())
	copied := *r
	copied.reads = slices.Clone(r.reads)
	p := &player{recording: &copied, base: time.Now(), cancel: cancel}
	res.Request, res.Sent = req, p.base
	a := &attempt{
		client: client, req: req, res: res, ctx: ctx,
		times: wiretime.NewExchange(0), stamp: func() (time.Time, time.Duration) { return p.now, 0 },
	}
	a.watch.begin(&client.opts, func() {})
	defer a.watch.stop()
	response, err := http1.ReadResponse(bufio.NewReader(p), &http.Request{Method: http.MethodPost, URL: client.base})
	if err != nil {
		a.unanswered(err, p.now.IsZero())
		return
	}
	res.Status = response.StatusCode
	a.answer(response)
}

// verdict is what does not depend on times.
func verdict(res *probe.Result) string {
	s := fmt.Sprintf("%d %s", res.Status, res.Outcome)
	if res.Reason != "" {
		s += " " + string(res.Reason)
	}
	if res.FinishReason != "" {
		s += " finish=" + res.FinishReason
	}
	events := 0
	for _, arrival := range res.Arrivals {
		events += arrival.Events
	}
	if events > 0 || res.OutputTokens > 0 {
		s += fmt.Sprintf(" events=%d output=%d/%s", events, res.OutputTokens, res.TokenSource)
	}
	if res.PromptTokens > 0 {
		s += fmt.Sprintf(" prompt=%d", res.PromptTokens)
	}
	if res.CachedTokens > 0 {
		s += fmt.Sprintf(" cached=%d", res.CachedTokens)
	}
	if res.ReasoningTokens > 0 {
		s += fmt.Sprintf(" reasoning=%d", res.ReasoningTokens)
	}
	return s
}

// timeline is what does.
func timeline(res *probe.Result) string {
	if res.End == 0 {
		return ""
	}
	counted, tokens := 0, 0
	for _, arrival := range res.Arrivals {
		if arrival.Tokens > 0 {
			counted++
			tokens += arrival.Tokens
		}
	}
	s := fmt.Sprintf(" first=%v answer=%v last=%v end=%v arrivals=%d",
		res.FirstToken, res.FirstAnswer, res.LastToken, res.End, len(res.Arrivals))
	if counted > 0 {
		s += fmt.Sprintf(" counted=%d in %d", tokens, counted)
	}
	return s
}

// TestRecordings plays every recording back, with its own times, and compares what is measured with what has been
// checked against the recording.
func TestRecordings(t *testing.T) {
	var got bytes.Buffer
	for _, r := range readRecordings(t) {
		res := r.play(t)
		fmt.Fprintf(&got, "%s: %s%s\n", r.name, verdict(res), timeline(res))
		if res.Detail != "" {
			fmt.Fprintf(&got, "\t%s\n", res.Detail)
		}
		checkAgainstReference(t, r, res)
	}
	const golden = "testdata/recordings.golden"
	if *update {
		if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got.String(), "\n")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// referenceEvent is an event for the reference below.
type referenceEvent struct {
	Choices []struct {
		Text         *string
		TokenIDs     []int   `json:"token_ids"`
		FinishReason *string `json:"finish_reason"`
		Delta        struct {
			Content            json.RawMessage // a string, or parts
			Reasoning, Refusal *string
			ReasoningContent   *string           `json:"reasoning_content"`
			ToolCalls          []json.RawMessage `json:"tool_calls"`
			FunctionCall       json.RawMessage   `json:"function_call"`
		}
		Usage *referenceCounts
		Error json.RawMessage
	}
	Usage *referenceCounts
	Groq  struct {
		Usage *referenceCounts
		Error string
	} `json:"x_groq"`
	Error json.RawMessage
}

type referencePart struct {
	Text              string
	Thinking, Summary []json.RawMessage
}

type referenceCounts struct {
	Prompt     int `json:"prompt_tokens"`
	Completion int `json:"completion_tokens"`
}

func given(value json.RawMessage) bool { return len(value) > 0 && string(value) != "null" }

func (ev *referenceEvent) failed() bool {
	failed := given(ev.Error) || ev.Groq.Error != ""
	for _, c := range ev.Choices {
		failed = failed || given(c.Error)
	}
	return failed
}

func (ev *referenceEvent) token() bool {
	for _, c := range ev.Choices {
		for _, s := range []*string{c.Text, c.Delta.Reasoning, c.Delta.ReasoningContent, c.Delta.Refusal} {
			if s != nil && *s != "" {
				return true
			}
		}
		if len(c.TokenIDs) > 0 || len(c.Delta.ToolCalls) > 0 || given(c.Delta.FunctionCall) {
			return true
		}
		var content string
		var parts []referencePart
		if json.Unmarshal(c.Delta.Content, &content) == nil && content != "" {
			return true
		}
		_ = json.Unmarshal(c.Delta.Content, &parts)
		for _, part := range parts {
			if part.Text != "" || len(part.Thinking) > 0 || len(part.Summary) > 0 {
				return true
			}
		}
	}
	return false
}

func (ev *referenceEvent) counts() referenceCounts {
	all := []*referenceCounts{ev.Usage, ev.Groq.Usage}
	for _, c := range ev.Choices {
		all = append(all, c.Usage)
	}
	for _, counts := range all {
		if counts != nil {
			return *counts
		}
	}
	return referenceCounts{}
}

// checkAgainstReference reads a recording a second time, in the plainest way, and compares the times and counts that
// follow from the definitions.
func checkAgainstReference(t *testing.T, r *recording, res *probe.Result) {
	var first, last, end time.Duration
	var events, total, running int
	var zero, continuous bool
	var body []byte
	for i := range r.reads { // the events that each read completes are those that the reads before it do not have
		whole := slices.Concat(readsData(r.reads[:i+1])...)
		response, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(whole)), nil)
		if err != nil {
			continue
		}
		now, _ := io.ReadAll(response.Body)
		now = bytes.ReplaceAll(now, []byte("\r\n"), []byte("\n"))
		complete := bytes.LastIndex(now, []byte("\n\n")) + 1
		if i == len(r.reads)-1 {
			complete = len(now)
		}
		if complete <= len(body) {
			continue
		}
		fresh := now[len(body):complete]
		body = now[:complete]
		for line := range strings.Lines(string(fresh)) {
			var ev referenceEvent
			data, isData := strings.CutPrefix(strings.TrimSpace(line), "data:")
			if !isData || json.Unmarshal([]byte(data), &ev) != nil || ev.failed() {
				continue
			}
			token, finished := ev.token(), false
			for _, c := range ev.Choices {
				finished = finished || c.FinishReason != nil && *c.FinishReason != ""
			}
			counts := ev.counts()
			zero = zero || len(ev.Choices) > 0 && counts.Prompt > 0 && counts.Completion == 0
			if counts.Completion > 0 {
				total = counts.Completion
				if len(ev.Choices) > 0 && end == 0 || continuous {
					continuous = continuous || (zero || !finished) && (token || events == 0)
					token = token || continuous && len(ev.Choices) > 0 && total > running
					running = total
				}
			}
			if token {
				if events == 0 {
					first = r.reads[i].at
				}
				events++
				last = r.reads[i].at
			}
			if token || finished {
				end = r.reads[i].at
			}
		}
	}
	counted := 0
	for _, arrival := range res.Arrivals {
		counted += arrival.Events
	}
	type summary struct {
		First, Last, End time.Duration
		Events, Total    int
	}
	want := summary{first, last, end, events, total}
	got := summary{res.FirstToken, res.LastToken, res.End, counted, res.OutputTokens}
	if total == 0 {
		want.Total = res.OutputTokens
	}
	if res.Status == 200 && r.stream && got != want && !strings.Contains(r.name, "gzip") {
		t.Errorf("%s: measured %+v, the reference says %+v", r.name, got, want)
	}
}

func readsData(reads []recordedRead) [][]byte {
	var all [][]byte
	for _, read := range reads {
		all = append(all, read.data)
	}
	return all
}
