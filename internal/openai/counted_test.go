package openai

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/inferprobe/inferprobe/internal/probe"
)

// TestGathered: what an answer's output is, by the rules of JSON and of the servers.
func TestGathered(t *testing.T) {
	for name, test := range map[string]struct {
		events []string
		want   string
	}{
		"content": {[]string{`{"choices":[{"delta":{"content":"one"}}]}`, `{"choices":[{"delta":{"content":" two"}}]}`}, "one two"},
		"text":    {[]string{`{"choices":[{"text":"one"}]}`, `{"choices":[{"text":""}]}`}, "one"},
		"escapes": {[]string{`{"choices":[{"text":"a\"\\\n\u00e4"}]}`, `{"choices":[{"text":"ß"}]}`}, "a\"\\\näß"},
		"reasoning, then an answer": {[]string{
			`{"choices":[{"delta":{"reasoning":"why"}}]}`, `{"choices":[{"delta":{"content":" so"}}]}`,
		}, "why so"},
		"reasoning under two names": {[]string{`{"choices":[{"delta":{"reasoning":"why","reasoning_content":"why"}}]}`}, "why"},
		"a tool call, whose tokens nobody knows": {[]string{
			`{"choices":[{"delta":{"content":"one"}}]}`, `{"choices":[{"delta":{"tool_calls":[{"index":0}]}}]}`,
		}, ""},
		"content in parts": {[]string{`{"choices":[{"delta":{"content":[{"type":"text","text":"a"}]}}]}`}, "a"},
		"reasoning in parts": {[]string{
			`{"choices":[{"delta":{"content":[{"type":"thinking","thinking":[{"type":"text","text":"a"}]}]}}]}`,
		}, ""},
		"parts that are no text": {[]string{`{"choices":[{"delta":{"content":[{"type":"text","text":"a"},{"type":"b"}]}}]}`}, ""},
		"nothing":                {nil, ""},
		"too much": {[]string{
			`{"choices":[{"text":"` + strings.Repeat("a", maxGathered) + `"}]}`, `{"choices":[{"text":"b"}]}`,
		}, ""},
	} {
		var d decoder
		for range 2 { // the second answer starts afresh
			d.begin(true)
			for _, event := range test.events {
				if !d.decode([]byte(event)) {
					t.Fatalf("%s: not valid", name)
				}
			}
			if got := d.gathered(); got != test.want {
				t.Errorf("%s: %.40q, want %q", name, got, test.want)
			}
		}
		d.begin(false)
		for _, event := range test.events {
			d.decode([]byte(event))
		}
		if got := d.gathered(); got != "" {
			t.Errorf("%s: %.40q although it was not to be gathered", name, got)
		}
	}
}

// TestGatheringGivesMemoryBack: one long answer does not cost its memory for good.
func TestGatheringGivesMemoryBack(t *testing.T) {
	var d decoder
	for _, length := range []int{keptGathered / 2, 2 * keptGathered} {
		d.begin(true)
		if !d.decode([]byte(`{"choices":[{"text":"` + strings.Repeat("a", length) + `"}]}`)) {
			t.Fatal("not valid")
		}
		if got := len(d.gathered()); got != length {
			t.Errorf("%d bytes gathered instead of %d", got, length)
		}
	}
	if d.begin(true); cap(d.text) > keptGathered {
		t.Errorf("%d bytes are kept", cap(d.text))
	}
}

// TestIDsNeedNoTokenizer: where the server gives the tokens' ids it has counted them, usage or not.
func TestIDsNeedNoTokenizer(t *testing.T) {
	server := startRaw(t, func(c *rawConn) {
		body := `data: {"choices":[{"text":"a b","token_ids":[1,2,3]}]}` + "\n\n" +
			`data: {"choices":[{"text":" c","token_ids":[4],"finish_reason":"length"}]}` + "\n\ndata: [DONE]\n\n"
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	})
	client := newClient(t, server.url(), Options{CountTokens: func(string) (int, error) {
		t.Error("the tokenizer was asked")
		return 1, nil
	}})
	for range 3 { // as each answer could be the one from which on the output is gathered
		if res := do(t, client, 4); res.OutputTokens != 4 || res.TokenSource != probe.TokensFromServer {
			t.Errorf("%d tokens by %q", res.OutputTokens, res.TokenSource)
		}
	}
}

// TestTokenizerStandsIn: from the second answer without usage on the tokenizer counts, and no longer once the server does.
func TestTokenizerStandsIn(t *testing.T) {
	const events = 3
	var usage atomic.Bool
	server := startRaw(t, func(c *rawConn) {
		var body strings.Builder
		for i := range events {
			fmt.Fprintf(&body, "data: {\"choices\":[{\"delta\":{\"content\":\" w%d x y z\"}}]}\n\n", i)
		}
		body.WriteString("data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"length\"}]}\n\n")
		if usage.Load() {
			body.WriteString("data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":11}}\n\n")
		}
		body.WriteString("data: [DONE]\n\n")
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n%s", body.Len(), body.String())
	})
	asked := 0
	var broken error
	client, err := New(Options{BaseURL: server.url(), CountTokens: func(text string) (int, error) {
		asked++
		return len(strings.Fields(text)), broken
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for i, step := range []struct {
		usage  bool
		broken error
		tokens int
		source probe.TokenSource
		asked  int
	}{
		{false, nil, events, probe.TokensFromEvents, 0}, // nobody knew
		{false, nil, 4 * events, probe.TokensFromTokenizer, 1},
		{false, nil, 4 * events, probe.TokensFromTokenizer, 2},
		{true, nil, 11, probe.TokensFromServer, 2},
		{false, nil, 12, probe.TokensFromEvents, 2}, // 12.0 by the three before
		{false, errors.New("broken"), 12, probe.TokensFromEvents, 3},
	} {
		usage.Store(step.usage)
		broken = step.broken
		var res probe.Result
		client.Do(t.Context(), &probe.Request{Body: []byte("{}"), OutputTokens: 12}, &res)
		if res.Outcome != probe.Completed || res.OutputTokens != step.tokens || res.TokenSource != step.source {
			t.Errorf("answer %d: %s, %d tokens by %q, want %d by %q", i, res.Outcome, res.OutputTokens, res.TokenSource,
				step.tokens, step.source)
		}
		if asked != step.asked {
			t.Errorf("answer %d: the tokenizer was asked %d times, want %d", i, asked, step.asked)
		}
		if tpot, ok := res.TimePerOutputToken(); !ok || tpot > time.Second {
			t.Errorf("answer %d: time per output token %v, %v", i, tpot, ok)
		}
	}
}

// TestDensity: events stand for as many tokens as they held in the last answers, and never for more than were asked for.
func TestDensity(t *testing.T) {
	var d density
	if got := d.tokens(5, 100); got != 5 {
		t.Errorf("%d tokens in 5 events before any answer was counted", got)
	}
	d.learn(1, 1) // calibration
	for range 3 {
		d.learn(256, 33)
	}
	for _, test := range []struct{ events, asked, want int }{
		{0, 256, 1}, {1, 256, 8}, {16, 256, 123}, {40, 256, 256}, {40, 0, 308}, {300, 256, 300},
	} {
		if got := d.tokens(test.events, test.asked); got != test.want {
			t.Errorf("%d events of an answer of %d tokens: %d, want %d", test.events, test.asked, got, test.want)
		}
	}
	for range 5 * memory {
		d.learn(64, 64)
	}
	if got := d.tokens(50, 256); got != 50 {
		t.Errorf("50 events are %d tokens by long forgotten answers", got)
	}
}

// TestCutOffAnswerCountsLikeWholeOnes: with usage at the end only, what came of an answer that was cut off is not
// counted by its events.
func TestCutOffAnswerCountsLikeWholeOnes(t *testing.T) {
	const whole = `data: {"choices":[{"text":"a b c d"}]}` + "\n\n" + `data: {"choices":[{"text":"e f g h","finish_reason":"length"}]}` +
		"\n\n" + `data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":8}}` + "\n\ndata: [DONE]\n\n"
	cut, _, _ := strings.Cut(whole, `data: {"choices":[{"text":"e`)
	var answers atomic.Int32
	server := startRaw(t, func(c *rawConn) {
		body := whole
		if answers.Add(1) == 2 {
			body = cut
		}
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	})
	client := newClient(t, server.url(), Options{})
	for i, want := range []struct {
		outcome probe.Outcome
		tokens  int
	}{{probe.Completed, 8}, {probe.Failed, 4}, {probe.Completed, 8}} {
		if res := do(t, client, 8); res.Outcome != want.outcome || res.OutputTokens != want.tokens {
			t.Errorf("answer %d: %s with %d tokens, want %s with %d", i, res.Outcome, res.OutputTokens, want.outcome, want.tokens)
		}
	}
}
