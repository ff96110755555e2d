package openai

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/inferprobe/inferprobe/internal/probe"
)

// strict is a server that takes only some fields, and complains in the words of a real one.
func strict(t *testing.T, complaint string, refused ...string) *rawServer {
	t.Helper()
	return startRaw(t, func(c *rawConn) {
		var body map[string]any
		if err := json.Unmarshal(c.body, &body); err != nil {
			t.Error(err)
		}
		options, _ := body["stream_options"].(map[string]any)
		for _, field := range refused {
			if body[field] == nil && options[field] == nil {
				continue
			}
			text := strings.ReplaceAll(complaint, "FIELD", field)
			c.document(400, "application/json", text)
			return
		}
		c.send(streamHead)
		c.chunk(`data: {"choices":[{"delta":{"content":"a"},"finish_reason":"length"}]}`, "\n\n")
		if options != nil {
			c.chunk(`data: {"choices":[],"usage":{"prompt_tokens":24,"completion_tokens":1}}`, "\n\n")
		}
		c.send("0\r\n\r\n")
	})
}

// TestCalibrateGoesOn: a server that is busy is not asked again. It is said when to, and what is known by then is not
// forgotten.
func TestCalibrateGoesOn(t *testing.T) {
	var server *rawServer
	server = startRaw(t, func(c *rawConn) {
		switch server.requests.Load() {
		case 1:
			c.document(400, "", "max_tokens is not supported")
		case 2:
			c.send("HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n")
		case 3:
			c.document(400, "", "max_completion_tokens with ignore_eos")
		default:
			c.send(streamHead)
			c.chunk(`data: {"choices":[{"text":"a","finish_reason":"length"}],"usage":{"prompt_tokens":5}}`, "\n\n")
			c.send("0\r\n\r\n")
		}
	})
	client := newClient(t, server.url(), Options{})
	agreed, err := client.Calibrate(t.Context(), NewEncoder(APIChat, DialectVLLM, "m", ""), prompt, 3, ignore)
	var e *Error
	if !errors.As(err, &e) || e.Reason != probe.ReasonRateLimited || e.RetryAfter != 7*time.Second || !e.Temporary() {
		t.Errorf("%#v", err)
	}
	if n := server.requests.Load(); n != 2 || !cmp.Equal(agreed.Dropped, []string{"max_tokens"}) {
		t.Fatalf("%d requests; dropped: %q", n, agreed.Dropped)
	}
	agreed, err = client.Calibrate(t.Context(), agreed.Encoder, prompt, 3, ignore)
	if err != nil || !cmp.Equal(agreed.Dropped, []string{"ignore_eos"}) || !agreed.Counted {
		t.Errorf("%+v, %v", agreed, err)
	}
}

func TestCalibrate(t *testing.T) {
	const (
		pydantic = `{"object":"error","message":"[{'type': 'extra_forbidden', 'loc': ('body', 'FIELD'), ` +
			`'msg': 'Extra inputs are not permitted'}]"}`
		openAI  = `{"error":{"message":"Unrecognized request argument supplied: FIELD","type":"invalid_request_error"}}`
		silent  = `{"error":"bad request"}`
		renamed = `{"error":{"message":"Unsupported parameter: 'max_tokens' is not supported with this model. ` +
			`Use 'max_completion_tokens' instead."}}`
	)
	for _, test := range []struct {
		name      string
		dialect   Dialect
		complaint string
		refused   []string
		dropped   []string
		requests  int64
		counted   bool
	}{
		{"all is taken", DialectVLLM, "", nil, nil, 1, true},
		{"one is refused", DialectVLLM, pydantic, []string{"min_tokens"}, []string{"min_tokens"}, 2, true},
		{"one after the other", DialectVLLM, openAI, []string{"continuous_usage_stats", "min_tokens", "ignore_eos"},
			[]string{"continuous_usage_stats", "min_tokens", "ignore_eos"}, 4, true},
		{"refused without a word", DialectVLLM, silent, []string{"ignore_eos"},
			[]string{"continuous_usage_stats", "min_tokens", "ignore_eos"}, 2, true},
		{"no stream_options", DialectGeneric, openAI, []string{"stream_options"}, []string{"stream_options"}, 2, false},
		{"no stream_options, without a word", DialectLlamaCpp, silent, []string{"stream_options"},
			[]string{"stream_options", "ignore_eos", "cache_prompt"}, 3, false},
		{"max_tokens has another name", DialectGeneric, renamed, []string{"max_tokens"}, []string{"max_tokens"}, 2, true},
		{"max_completion_tokens is not known", DialectOpenAI, pydantic, []string{"max_completion_tokens"},
			[]string{"max_completion_tokens"}, 2, true},
		{"no padding", DialectOpenAI, openAI, []string{"include_obfuscation"}, []string{"include_obfuscation"}, 2, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := strict(t, test.complaint, test.refused...)
			client := newClient(t, server.url(), Options{})
			got, err := client.Calibrate(t.Context(), NewEncoder(APIChat, test.dialect, "m", ""), prompt, 10, ignore)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.dropped, got.Dropped); diff != "" || server.requests.Load() != test.requests {
				t.Errorf("%d requests, want %d; dropped (-want +got):\n%s", server.requests.Load(), test.requests, diff)
			}
			if got.Counted != test.counted || got.Counted && got.Overhead != 14 {
				t.Errorf("overhead %d, counted %v", got.Overhead, got.Counted)
			}
			body := string(got.Encoder.Append(nil, prompt, 5))
			for _, field := range test.refused {
				if strings.Contains(body, `"`+field+`"`) {
					t.Errorf("the encoder still sends %s: %s", field, body)
				}
			}
		})
	}
}

func TestCalibrateErrors(t *testing.T) {
	for _, test := range []struct {
		name     string
		answer   func(c *rawConn)
		reason   probe.Reason
		detail   string
		requests int64
	}{
		{"prompt too long", func(c *rawConn) { c.document(400, "", "too long") }, probe.ReasonHTTP4xx, "too long", 3},
		{"no such model", func(c *rawConn) { c.document(404, "", "model") }, probe.ReasonNotFound, "404: model", 1},
		{"not up yet", func(c *rawConn) { c.document(503, "", "loading") }, probe.ReasonHTTP5xx, "loading", 1},
		{"max_tokens is never right", func(c *rawConn) { c.document(400, "", "max_tokens max_completion_tokens") },
			probe.ReasonHTTP4xx, "max_tokens", 4},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := startRaw(t, test.answer)
			client := newClient(t, server.url(), Options{})
			_, err := client.Calibrate(t.Context(), NewEncoder(APIChat, DialectVLLM, "m", ""), prompt, 10, ignore)
			var e *Error
			if !errors.As(err, &e) || e.Reason != test.reason || !strings.Contains(e.Detail, test.detail) {
				t.Errorf("%#v, want %q, %q", err, test.reason, test.detail)
			}
			if n := server.requests.Load(); n != test.requests {
				t.Errorf("%d requests, want %d", n, test.requests)
			}
		})
	}
}

// TestCalibrateRecorded is transformers serve, which refuses ignore_eos, as it was recorded.
func TestCalibrateRecorded(t *testing.T) {
	refusal := readRecording(t, "testdata/wire/transformers-serve-5.19.0/err-ignore-eos.jsonl")[0]
	answer := readRecording(t, "testdata/wire/transformers-serve-5.19.0/chat-stream-usage.jsonl")[0]
	server := startRaw(t, func(c *rawConn) {
		if strings.Contains(string(c.body), "ignore_eos") {
			replay(c, refusal)
			return
		}
		replay(c, answer)
	})
	client := newClient(t, server.url(), Options{})
	got, err := client.Calibrate(t.Context(), NewEncoder(APIChat, DialectLMDeploy, "m", ""), prompt, 3, ignore)
	if err != nil || !cmp.Equal(got.Dropped, []string{"ignore_eos"}) || got.Overhead != 17 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestCalibrateIsCancelled(t *testing.T) {
	server := startRaw(t, func(c *rawConn) { c.hang() })
	cause := errors.New("shutting down")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	client := newClient(t, server.url(), Options{})
	if _, err := client.Calibrate(ctx, NewEncoder(APIChat, DialectVLLM, "m", ""), prompt, 3, ignore); err != cause {
		t.Errorf("%v, want the cause", err)
	}
}

func ignore(*probe.Result) {}
