package sim

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// post sends body to a server whose answers take no time, and returns the answer.
func post(t testing.TB, s *Server, path, body string) *httptest.ResponseRecorder {
	t.Helper()
	response := httptest.NewRecorder()
	s.ServeHTTP(response, httptest.NewRequest("POST", path, strings.NewReader(body)))
	return response
}

func atOnce(t testing.TB, opts Options) *Server {
	t.Helper()
	opts.Fixed = fixed(0, 0)
	s, err := newServer(opts, newTimerAlarm)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

const (
	chat        = "/v1/chat/completions"
	completions = "/v1/completions"
)

func TestRefusals(t *testing.T) {
	s := atOnce(t, Options{Model: "llama", MaxModelLen: 20})
	long := strings.Repeat("word ", 20)
	for _, c := range []struct {
		name, path, body string
		status           int
		kind, message    string // of the error, the latter a part
	}{
		{"no JSON", chat, `{"messages": [`, 400, "Bad Request", "validation error"},
		{"wrong type", chat, `{"messages":[],"max_tokens":"4"}`, 400, "Bad Request", "max_tokens"},
		{"no messages", chat, `{"max_tokens":4}`, 400, "Bad Request", "'messages': Field required"},
		{"no prompt", completions, `{"max_tokens":4}`, 400, "Bad Request", "'prompt': Field required"},
		{"two prompts", completions, `{"prompt":["a","b"]}`, 400, "Bad Request", "one prompt a request"},
		{"prompt of a wrong type", completions, `{"prompt":{}}`, 400, "Bad Request", "text or token ids"},
		{"content of a wrong type", chat, `{"messages":[{"content":7}]}`, 400, "Bad Request", "array of parts"},
		{"other model", chat, `{"model":"gpt","messages":[]}`, 404, "NotFoundError", "The model `gpt` does not exist"},
		{"too long", completions, `{"prompt":"` + long + `"}`, 400, "BadRequestError",
			"maximum context length is 20 tokens. However, your prompt contains at least 20 input tokens"},
		{"too many tokens", completions, `{"prompt":"a b","max_tokens":19}`, 400, "BadRequestError",
			"requested 19 output tokens and your prompt contains at least 2 input tokens, for a total of at least 21"},
		{"no tokens", chat, `{"messages":[],"max_tokens":0}`, 400, "BadRequestError", "must be at least 1, got 0."},
		{"options without stream", chat, `{"messages":[],"stream_options":{}}`, 400, "BadRequestError", "`stream=True`"},
		{"two answers", chat, `{"messages":[],"n":2}`, 400, "BadRequestError", "n is 2"},
		{"unknown fault", chat, `{"messages":[],"sim_fault":"fni"}`, 400, "BadRequestError", `fault "fni" is not known`},
	} {
		t.Run(c.name, func(t *testing.T) {
			response := post(t, s, c.path, c.body)
			var got struct {
				Error struct {
					Message, Type string
					Code          int
				}
			}
			if err := json.Unmarshal(response.Body.Bytes(), &got); err != nil {
				t.Fatalf("%v in %s", err, response.Body)
			}
			if response.Code != c.status || got.Error.Code != c.status || got.Error.Type != c.kind {
				t.Errorf("got %s with status %d; want code and status %d, type %q", response.Body, response.Code, c.status, c.kind)
			}
			if !strings.Contains(got.Error.Message, c.message) {
				t.Errorf("the message is %q, want it to contain %q", got.Error.Message, c.message)
			}
		})
	}
}

func TestLengths(t *testing.T) {
	s := atOnce(t, Options{MaxModelLen: 600, CountTokens: func(text string) int { return len(text) }})
	const template = ChatTemplateTokens
	type usage struct {
		Prompt     int `json:"prompt_tokens"`
		Completion int `json:"completion_tokens"`
		Total      int `json:"total_tokens"`
	}
	for _, c := range []struct {
		name, path, body string
		prompt, tokens   int
		finish           string
	}{
		{"text", completions, `{"prompt":"12345","max_tokens":7}`, 5, 7, "length"},
		{"default of completions", completions, `{"prompt":"12345"}`, 5, 16, "length"},
		{"ids", completions, `{"prompt":[5,6,7],"max_tokens":7}`, 3, 7, "length"},
		{"one text in an array", completions, `{"prompt":["12345"],"max_tokens":7}`, 5, 7, "length"},
		{"one array of ids in an array", completions, `{"prompt":[[5,6,7]],"max_tokens":7}`, 3, 7, "length"},
		{"chat", chat, `{"messages":[{"content":"123"},{"content":"45"}],"max_tokens":7}`, 5 + template, 7, "length"},
		{"parts", chat, `{"messages":[{"content":[{"text":"123"}]}],"max_tokens":7}`, 3 + template, 7, "length"},
		{"no content", chat, `{"messages":[{"content":null},{}],"max_tokens":7}`, template, 7, "length"},
		{"default of chat", chat, `{"messages":[]}`, template, 256, "stop"},
		{"both limits", chat, `{"messages":[],"max_completion_tokens":3,"max_tokens":7}`, template, 3, "length"},
		{"no limit, no end", chat, `{"messages":[],"ignore_eos":true}`, template, 600 - template, "length"},
		{"fault in the body", chat, `{"messages":[],"max_tokens":8,"sim_fault":"short"}`, template, 4, "stop"},
	} {
		t.Run(c.name, func(t *testing.T) {
			response := post(t, s, c.path, c.body)
			var got struct {
				Choices []struct {
					FinishReason string `json:"finish_reason"`
					Text         string
					Message      struct{ Content string }
				}
				Usage usage
			}
			if err := json.Unmarshal(response.Body.Bytes(), &got); err != nil {
				t.Fatalf("%v in %s", err, response.Body)
			}
			want := usage{c.prompt, c.tokens, c.prompt + c.tokens}
			if diff := cmp.Diff(want, got.Usage); diff != "" {
				t.Errorf("usage (-want +got):\n%s", diff)
			}
			if got.Choices[0].FinishReason != c.finish {
				t.Errorf("finish reason is %q, want %q", got.Choices[0].FinishReason, c.finish)
			}
			if n := countWords(got.Choices[0].Text + got.Choices[0].Message.Content); n != c.tokens {
				t.Errorf("the text has %d words, want %d", n, c.tokens)
			}
		})
	}
}

func TestStreamOptions(t *testing.T) {
	s := atOnce(t, Options{})
	for _, c := range []struct {
		options string
		usages  int // of 3 tokens, a role event and a usage event
	}{
		{``, 0},
		{`,"stream_options":{"include_usage":false}`, 0},
		{`,"stream_options":{"include_usage":true}`, 1},
		{`,"stream_options":{}`, 1}, // vLLM's default
		{`,"stream_options":{"continuous_usage_stats":true}`, 5},
		{`,"stream_options":{"include_usage":false,"continuous_usage_stats":true}`, 0},
	} {
		body := post(t, s, chat, `{"messages":[],"max_tokens":3,"stream":true`+c.options+`}`).Body.String()
		if n := strings.Count(body, `"usage":{`); n != c.usages {
			t.Errorf("with %q there are %d usages, want %d:\n%s", c.options, n, c.usages, body)
		}
	}
}

// TestEventsAreJSON parses every event of every shape.
func TestEventsAreJSON(t *testing.T) {
	s := atOnce(t, Options{Model: `a "model"`})
	for _, path := range []string{chat, completions} {
		for _, fault := range []string{
			"none", "usage_in_choice", "abort=1", "error_event", "error_string", "big_event=100",
		} {
			body := `{"prompt":"a","messages":[],"max_tokens":3,"stream":true,"stream_options":{"continuous_usage_stats":true}}`
			request := httptest.NewRequest("POST", path, strings.NewReader(body))
			request.Header.Set(FaultHeader, fault)
			request.Header.Set("X-Request-Id", `quo"te`)
			response := httptest.NewRecorder()
			s.ServeHTTP(response, request)
			events := strings.Split(strings.TrimSuffix(response.Body.String(), "\n\n"), "\n\n")
			for _, event := range events {
				if data := strings.TrimPrefix(event, "data: "); data != "[DONE]" && !json.Valid([]byte(data)) {
					t.Errorf("%s with %s: no JSON: %s", path, fault, data)
				}
			}
			if events[len(events)-1] != "data: [DONE]" {
				t.Errorf("%s with %s ends in %q", path, fault, events[len(events)-1])
			}
		}
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for _, c := range []struct {
		opts Options
		want string
	}{
		{Options{MaxModelLen: 1}, "MaxModelLen is 1"},
		{Options{Slots: -1}, "Slots is -1"},
		{Options{PrefillTokensPerSecond: -1}, "PrefillTokensPerSecond is -1"},
		{Options{PrefillChunk: -1}, "PrefillChunk is -1"},
		{Options{DecodeStep: -1}, "DecodeStep is -1ns"},
		{Options{DecodePerSequence: -1}, "DecodePerSequence is -1ns"},
		{Options{TokensPerEvent: -1}, "TokensPerEvent is -1"},
		{Options{Jitter: 1}, "Jitter is 1"},
		{Options{StallFraction: 2}, "StallFraction is 2"},
		{Options{Stall: -1}, "Stall is -1ns"},
		{Options{EarlyStop: 1.5}, "EarlyStop is 1.5"},
		{Options{Slowdown: -1}, "slowdown factor is -1"},
		{Options{TruthRecords: -1}, "TruthRecords is -1"},
		{Options{Fixed: fixed(-1, 0)}, "Fixed.TimeToFirstToken is -1ns"},
		{Options{Fixed: fixed(0, -1)}, "Fixed.InterTokenLatency is -1ns"},
		{Options{Faults: []FaultRate{{"hang", 1.5}}}, `probability of fault "hang" is 1.5`},
		{Options{Faults: []FaultRate{{"hang", 0.6}, {"fin", 0.6}}}, "add up to 1.2"},
		{Options{Faults: []FaultRate{{"bang", 0.1}}}, `fault "bang" is not known`},
		{Options{Slots: -1, Stall: -1}, "Slots is -1, must be positive\nStall is -1ns"},
	} {
		if _, err := newServer(c.opts, newTimerAlarm); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("the error is %v, want it to contain %q", err, c.want)
		}
	}
}

func TestFaultArguments(t *testing.T) {
	for _, c := range []struct{ list, want string }{
		{"fin=-1", "fault fin takes a whole number that is not negative"},
		{"fin=x", "fault fin takes a whole number"},
		{"crlf=1", "fault crlf takes no argument"},
		{"comments=0s", "fault comments takes a positive duration"},
		{"slow_headers=5", `takes a positive duration such as "100ms", not "5"`},
		{"status", `fault status takes a status from 400 to 599, not ""`},
		{"status=200", "takes a status from 400 to 599"},
		{"status=429:soon", "whole seconds"},
		{"crlf,,bom", `fault "" is not known`},
		{"none,crlf", `fault "none" is not known`},
	} {
		if _, err := parseFaults(c.list); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: the error is %v, want it to contain %q", c.list, err, c.want)
		}
	}
	p, err := parseFaults("crlf, status=503:9 ,fin=3")
	if err != nil || p.eol != "\r\n" || p.status != 503 || p.retryAfter != 9 || p.end != endFIN || p.endAfter != 3 {
		t.Errorf("a list became %+v, %v", p, err)
	}
}

func TestBodyTooLarge(t *testing.T) {
	s := atOnce(t, Options{})
	request := httptest.NewRequest("POST", chat, strings.NewReader(`{"messages":[]}`))
	request.ContentLength = maxBody + 1
	response := httptest.NewRecorder()
	s.ServeHTTP(response, request)
	if response.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("status is %d, want 413", response.Code)
	}
}

func FuzzRequest(f *testing.F) {
	f.Add(chat, `{"messages":[{"role":"user","content":"hello there"}],"max_tokens":3,"stream":true,"stream_options":{}}`)
	f.Add(chat, `{"messages":[{"content":[{"text":"a"},{}]}],"max_completion_tokens":2,"ignore_eos":true}`)
	f.Add(completions, `{"prompt":[[1,2]],"n":1}`)
	f.Add(completions, `{"prompt":"a","sim_fault":"fin=1,crlf"}`)
	f.Add(completions, `{"prompt":["\ud800"],"max_tokens":-1}`)
	s := atOnce(f, Options{MaxModelLen: 100})
	f.Fuzz(func(t *testing.T, path, body string) {
		if path != chat {
			path = completions
		}
		if strings.Contains(body, "sim_fault") {
			t.Skip("faults may hang or break the connection")
		}
		response := post(t, s, path, body)
		switch response.Code {
		case http.StatusOK, http.StatusBadRequest, http.StatusNotFound:
		default:
			t.Errorf("status %d for %q", response.Code, body)
		}
		if response.Header().Get("Content-Type") == "application/json" && !json.Valid(response.Body.Bytes()) {
			t.Errorf("no JSON for %q: %s", body, response.Body)
		}
	})
}

func FuzzFaults(f *testing.F) {
	for _, info := range Faults() {
		f.Add(info.Name)
		f.Add(info.Name + "=3")
	}
	f.Add("status=429:7,crlf, bom")
	f.Fuzz(func(t *testing.T, list string) {
		p, err := parseFaults(list)
		if err == nil && p.eol == "" {
			t.Errorf("%q made a plan without a line end", list)
		}
	})
}
