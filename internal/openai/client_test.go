package openai

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/inferprobe/inferprobe/internal/config/configtest"
	"github.com/inferprobe/inferprobe/internal/probe"
	"github.com/inferprobe/inferprobe/internal/sse"
)

// TestReplay sends a request for every recording over a real connection: the server writes each recorded read as one
// write. What does not depend on times must be as it is with the recorded ones.
func TestReplay(t *testing.T) {
	for _, r := range readRecordings(t) {
		t.Run(r.name, func(t *testing.T) {
			played := r.play(t)
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			var opts Options
			if r.end == "timeout" {
				opts.IdleTimeout = 50 * time.Millisecond
			}
			var events atomic.Int64
			if r.end == "client-abort" {
				go cancelAfter(cancel, &events, countEvents(played))
			}
			server := startRaw(t, func(c *rawConn) { replay(c, r) })
			res := new(probe.Result)
			newClient(t, server.url(), opts).Do(ctx, &probe.Request{OutputTokens: r.outputTokens, Events: &events}, res)
			if diff := cmp.Diff(verdict(played), verdict(res)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if len(res.Arrivals) > len(r.reads) {
				t.Errorf("%d arrivals from %d writes", len(res.Arrivals), len(r.reads))
			}
		})
	}
}

func replay(c *rawConn, r *recording) {
	for _, read := range r.reads {
		c.send(string(read.data))
	}
	switch r.end {
	case "complete":
	case "client-abort", "timeout":
		c.hang()
	case "reset":
		c.reset()
	default:
		c.close()
	}
}

// cancelAfter ends the stage once n events have come.
func cancelAfter(cancel context.CancelCauseFunc, events *atomic.Int64, n int) {
	for events.Load() < int64(n) {
		time.Sleep(time.Millisecond)
	}
	cancel(probe.ErrStageEnded)
}

func countEvents(res *probe.Result) (n int) {
	for _, arrival := range res.Arrivals {
		n += arrival.Events
	}
	return n
}

// TestOutcomes is everything that can go wrong, each with the one reason that it must have.
func TestOutcomes(t *testing.T) {
	const finish = `data: {"choices":[{"delta":{},"finish_reason":"stop"}]}` + "\n\n"
	json := func(status int, body string) func(*rawConn) {
		return func(c *rawConn) { c.document(status, "application/json", body) }
	}
	const closing = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: text/event-stream\r\n"
	for _, test := range []struct {
		name   string
		answer func(c *rawConn)
		opts   Options
		reason probe.Reason // empty: completed
		events int
		detail string // part of it
	}{
		{"whole", func(c *rawConn) { c.whole(3) }, Options{}, "", 3, ""},
		{"bytewise", func(c *rawConn) {
			for _, b := range []byte(closing + "\r\n" + role + token + finish) {
				c.send(string(b))
			}
			c.close()
		}, Options{}, "", 1, ""},
		{"mark, CR, no type", func(c *rawConn) {
			c.send("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n\ufeff: hello\r\r", strings.ReplaceAll(token+finish, "\n", "\r"))
			c.close()
		}, Options{}, "", 1, ""},
		{"text/plain, but a stream", func(c *rawConn) {
			c.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: text/plain\r\n\r\nevent: message\n", token, finish)
			c.close()
		}, Options{}, "", 1, ""},
		{"16 MB event", func(c *rawConn) {
			c.send(streamHead)
			c.chunk(`data: {"choices":[{"delta":{"content":"`, strings.Repeat("a", 16<<20), `"}}]}`, "\n\n")
			c.finish()
		}, Options{}, "", 1, ""},
		{"many long events", func(c *rawConn) {
			c.send(streamHead)
			for range 50 {
				c.chunk(`data: {"choices":[{"text":"a"}],"prompt_token_ids":[`, strings.Repeat("12345,", 1000), "1]}\n\n")
			}
			c.finish()
		}, Options{}, "", 50, ""},
		{"endless event", func(c *rawConn) {
			c.send(streamHead)
			c.chunk(token)
			for piece := strings.Repeat("x", 1<<20); !c.closed; {
				if _, err := fmt.Fprintf(c.Conn, "%x\r\n%s\r\n", len(piece), piece); err != nil {
					c.close()
				}
			}
		}, Options{}, probe.ReasonMalformed, 1, "longer than 32 MiB"},
		{"closed before the response", (*rawConn).close, Options{}, probe.ReasonReset, 0, "before the response"},
		{"reset before the response", (*rawConn).reset, Options{}, probe.ReasonReset, 0, "reset by peer"},
		{"closed within the head", func(c *rawConn) { c.send("HTTP/1.1 200 OK\r\nContent-Ty"); c.close() }, Options{},
			probe.ReasonReset, 0, "within the response's head"},
		{"not HTTP", func(c *rawConn) { c.send("SSH-2.0-OpenSSH_9.6\r\n"); c.hang() }, Options{}, probe.ReasonMalformed, 0,
			"no HTTP response"},
		{"endless head", func(c *rawConn) {
			c.send("HTTP/1.1 200 OK\r\n", strings.Repeat("X-Filler: "+strings.Repeat("x", 1000)+"\r\n", 200))
			c.hang()
		}, Options{}, probe.ReasonMalformed, 0, "longer than 64 KiB"},
		{"closed in the stream", func(c *rawConn) { c.send(streamHead); c.chunk(token); c.close() }, Options{},
			probe.ReasonTruncated, 1, "unexpected EOF"},
		{"closed in the stream, before a token", func(c *rawConn) { c.send(streamHead); c.chunk(role); c.close() }, Options{},
			probe.ReasonTruncated, 0, "unexpected EOF"},
		{"closed in a chunk", func(c *rawConn) { c.send(streamHead, "ff\r\n", token); c.close() }, Options{},
			probe.ReasonTruncated, 1, "unexpected EOF"},
		{"bad chunk", func(c *rawConn) { c.send(streamHead); c.chunk(token); c.send("zz\r\n"); c.hang() }, Options{},
			probe.ReasonTruncated, 1, "invalid byte in chunk length"},
		{"no head in time", func(c *rawConn) { c.hang() }, Options{FirstTokenTimeout: 50 * time.Millisecond},
			probe.ReasonTimeoutFirstToken, 0, "within 50ms"},
		{"slow head", func(c *rawConn) {
			c.send("HTTP/1.1 200 OK\r\n")
			for i := 0; i < 100 && !c.closed; i++ {
				if _, err := io.WriteString(c.Conn, "X: y\r\n"); err != nil {
					c.close()
				}
				c.wait(10 * time.Millisecond)
			}
		}, Options{FirstTokenTimeout: 50 * time.Millisecond}, probe.ReasonTimeoutFirstToken, 0, ""},
		{"comments and roles, no token", func(c *rawConn) { c.send(streamHead); chatter(c, ": ping\n\n", role) },
			Options{FirstTokenTimeout: 50 * time.Millisecond}, probe.ReasonTimeoutFirstToken, 0, "no token within"},
		{"tokens, then comments", func(c *rawConn) { c.send(streamHead); c.chunk(token); chatter(c, ": ping\n\n", role) },
			Options{IdleTimeout: 50 * time.Millisecond}, probe.ReasonTimeoutIdle, 1, "no token for 50ms after 1 arrivals"},
		{"tokens for ever", func(c *rawConn) { c.send(streamHead); chatter(c, token) },
			Options{TotalTimeout: 80 * time.Millisecond}, probe.ReasonTimeoutTotal, -1, "not done within 80ms"},
		{"no end after the finish reason", func(c *rawConn) { c.send(streamHead); c.chunk(token, finish); c.hang() },
			Options{IdleTimeout: 50 * time.Millisecond}, "", 1, ""},
		{"no end after [DONE]", func(c *rawConn) { c.send(streamHead); c.chunk(token, finish, "data: [DONE]\n\n"); c.hang() },
			Options{}, "", 1, ""},
		{"[DONE] without a finish reason", func(c *rawConn) {
			c.send(streamHead)
			c.chunk(token, "data: [DONE]\n\n")
			c.send("0\r\n\r\n")
		}, Options{}, probe.ReasonTruncated, 1, "without a finish reason"},
		{"[DONE] alone, and no end", func(c *rawConn) { c.send(streamHead); c.chunk("data: [DONE]\n\n"); c.hang() }, Options{},
			probe.ReasonEmpty, 0, "without a token"},
		{"an error between events, and no end", func(c *rawConn) {
			c.send(streamHead)
			c.chunk(token, "error: {\"message\":\"it broke\"}\n\n")
			c.hang()
		}, Options{IdleTimeout: 50 * time.Millisecond}, probe.ReasonErrorEvent, 1, "it broke"},
		{"an error between events, and the end", func(c *rawConn) {
			c.send(streamHead)
			c.chunk(token, `{"error":{"message":"it broke"}}`, "\n")
			c.close()
		}, Options{}, probe.ReasonErrorEvent, 1, "it broke"},
		{"a ping with the time of day", func(c *rawConn) {
			c.send(streamHead)
			c.chunk("event: ping\ndata: 2026-11-29 11:00:00\n\n", token)
			c.finish()
		}, Options{}, "", 1, ""},
		{"an answer's event that is no JSON", func(c *rawConn) { c.send(streamHead); c.chunk("event: message\ndata: oops\n\n"); c.finish() },
			Options{}, probe.ReasonMalformed, 0, "an event is not JSON: oops"},
		{"another line between events", func(c *rawConn) { c.send(streamHead); c.chunk("hello\n\n", token); c.finish() },
			Options{}, "", 1, ""},
		{"a token in a part of a chunk", func(c *rawConn) { c.send(streamHead, "fff\r\n", token); c.hang() },
			Options{IdleTimeout: 50 * time.Millisecond}, probe.ReasonTimeoutIdle, 1, "no token for 50ms after 1 arrivals"},
		{"no event", func(c *rawConn) { c.send(streamHead, "0\r\n\r\n") }, Options{}, probe.ReasonEmpty, 0, ""},
		{"empty body", func(c *rawConn) { c.send("HTTP/1.1 204 X\r\n\r\n") }, Options{}, probe.ReasonEmpty, 0, "204"},
		{"gzip", func(c *rawConn) {
			var b bytes.Buffer
			w := gzip.NewWriter(&b)
			io.WriteString(w, token)
			w.Close()
			c.send(closing, "Content-Encoding: gzip\r\n\r\n", b.String())
			c.close()
		}, Options{}, probe.ReasonMalformed, 0, "compressed (gzip)"},
		{"redirect", func(c *rawConn) {
			c.send("HTTP/1.1 307 X\r\nLocation: https://elsewhere.example/v1/x?token=secret\r\nContent-Length: 0\r\n\r\n")
		}, Options{}, probe.ReasonNotAStream, 0, "redirects to elsewhere.example"},
		{"JSON", json(200, `{"object":"chat.completion","choices":[]}`), Options{}, probe.ReasonNotAStream, 0,
			"application/json instead of an event stream"},
		{"error in JSON", json(200, `{"error":{"message":"it broke"}}`), Options{}, probe.ReasonErrorEvent, 0, "it broke"},
		{"HTML", func(c *rawConn) { c.document(200, "text/html", "<html><title>Chat with me</title></html>") }, Options{},
			probe.ReasonNotAStream, 0, "an HTML page, Chat with me"},
		{"401", json(401, `{"error":"Unauthorized"}`), Options{}, probe.ReasonUnauthorized, 0, "401: Unauthorized"},
		{"403", json(403, `{}`), Options{}, probe.ReasonUnauthorized, 0, "403"},
		{"404", json(404, `{"detail":"Not Found"}`), Options{}, probe.ReasonNotFound, 0, "404: Not Found"},
		{"400", json(400, `{"object":"error","message":"bad","type":"BadRequestError"}`), Options{},
			probe.ReasonHTTP4xx, 0, "400: bad"},
		{"422", json(422, `{"detail":[{"loc":["body","ignore_eos"],"msg":"Extra inputs are not permitted"}]}`), Options{},
			probe.ReasonHTTP4xx, 0, "Extra inputs are not permitted (ignore_eos)"},
		{"429", json(429, `{"error":{"message":"slow down"}}`), Options{}, probe.ReasonRateLimited, 0, "slow down"},
		{"500", json(500, ``), Options{}, probe.ReasonHTTP5xx, 0, "500: no body"},
		{"503", json(503, "\x1b[31mred\x1b[0m\r\n and\x07 dead"), Options{}, probe.ReasonHTTP5xx, 0, "503: red and dead"},
		{"429 whose body does not end", func(c *rawConn) {
			c.send("HTTP/1.1 429 X\r\nContent-Length: 99\r\n\r\n", `{"error":"slow down"}`)
			c.hang()
		}, Options{FirstTokenTimeout: 50 * time.Millisecond}, probe.ReasonRateLimited, 0, "slow down"},
		{"key in an error", json(400, `{"error":"bad key sk-geheim\u0000-1234"}`), Options{APIKey: "sk-geheim-1234"},
			probe.ReasonHTTP4xx, 0, "bad key [redacted]"},
		{"key in an event", func(c *rawConn) { c.send(streamHead); c.chunk(`data: {"error":"bad key sk-geheim"}`, "\n\n") },
			Options{APIKey: "sk-geheim"}, probe.ReasonErrorEvent, 0, "bad key [redacted]"},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := startRaw(t, test.answer)
			res := do(t, newClient(t, server.url(), test.opts), 1000)
			if res.Reason != test.reason || (res.Reason == "") != (res.Outcome == probe.Completed) {
				t.Errorf("%v %q (%s), want reason %q", res.Outcome, res.Reason, res.Detail, test.reason)
			}
			if n := countEvents(res); n != test.events && test.events >= 0 {
				t.Errorf("%d events, want %d", n, test.events)
			}
			if !strings.Contains(res.Detail, test.detail) || strings.Contains(res.Detail, "geheim") {
				t.Errorf("detail %q, want %q in it", res.Detail, test.detail)
			}
			if res.Sent.IsZero() || !res.NewConn || res.Phases.Connect <= 0 || res.Retries != 0 {
				t.Errorf("sent %v, new connection %v with %+v, %d retries", res.Sent, res.NewConn, res.Phases, res.Retries)
			}
		})
	}
}

// chatter sends the texts again and again until the client goes.
func chatter(c *rawConn, texts ...string) {
	for i := 0; !c.closed; i++ {
		text := texts[i%len(texts)]
		if _, err := fmt.Fprintf(c.Conn, "%x\r\n%s\r\n", len(text), text); err != nil {
			c.close()
		}
		c.wait(5 * time.Millisecond)
	}
}

func TestRequest(t *testing.T) {
	for api, path := range map[API]string{APIChat: "/v1/chat/completions", APICompletions: "/v1/completions"} {
		requests := make(chan rawConn, 1)
		server := startRaw(t, func(c *rawConn) { requests <- *c; c.whole(1) })
		res := do(t, newClient(t, server.url()+"/", Options{
			API: api, APIKey: "sk-1", Header: http.Header{"x-tenant": {"search & rank"}}, Version: "1.2.3",
		}), 1)
		sent := <-requests
		got, body := sent.request, string(sent.body)
		want := http.Header{
			"Accept": {"text/event-stream"}, "Accept-Encoding": {"identity"}, "Authorization": {"Bearer sk-1"},
			"Content-Type": {"application/json"}, "Content-Length": {"15"}, "User-Agent": {"inferprobe/1.2.3"},
			"X-Request-Id": {res.ID}, "X-Tenant": {"search & rank"},
		}
		if !strings.HasPrefix(res.ID, "inferprobe-") {
			t.Errorf("request id %q", res.ID)
		}
		if parent := got.Header.Get("Traceparent"); res.TraceID == "" || !strings.HasPrefix(parent, "00-"+res.TraceID+"-") {
			t.Errorf("traceparent %q of trace %q", parent, res.TraceID)
		}
		got.Header.Del("Traceparent")
		if diff := cmp.Diff(want, got.Header); diff != "" || got.URL.String() != path || got.Method != "POST" {
			t.Errorf("%s %s, headers (-want +got):\n%s", got.Method, got.URL, diff)
		}
		if body != `{"stream":true}` {
			t.Errorf("body %q", body)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	for _, opts := range []Options{
		{BaseURL: "http://localhost/v1", APIKey: "sk-geheim\r\nX-Admin: yes"},
		{BaseURL: "http://localhost/v1", APIKey: "sk-geheim\x00"},
		{BaseURL: "http://localhost/v1", Header: http.Header{"Api-Key": {"geheim\n"}}},
		{BaseURL: "http://a b/v1"},
	} {
		var e *Error
		if _, err := New(opts); !errors.As(err, &e) || strings.Contains(e.Detail, "geheim") {
			t.Errorf("%+v: %v", opts, err)
		}
	}
}

func TestTimes(t *testing.T) {
	const gap = 20 * time.Millisecond
	server := startRaw(t, func(c *rawConn) {
		c.send(streamHead)
		c.chunk(role)
		c.wait(gap)
		c.chunk(`data: {"choices":[{"delta":{"reasoning":"a"}}]}` + "\n\n")
		c.wait(gap)
		c.chunk(token)
		c.wait(gap)
		c.chunk(token, `data: {"choices":[{"delta":{"content":"b"},"finish_reason":"length"}]}`, "\n\n")
		c.wait(gap)
		c.finish()
	})
	before := time.Now()
	res := do(t, newClient(t, server.url(), Options{}), 4)
	after := time.Now()
	if res.Outcome != probe.Completed || res.FinishReason != "length" || len(res.Arrivals) != 3 || countEvents(res) != 4 {
		t.Fatalf("%v, finish reason %q, arrivals %+v", res.Outcome, res.FinishReason, res.Arrivals)
	}
	if res.Sent.Before(before) || res.Sent.Add(res.End).After(after) {
		t.Errorf("sent %v after the call, end %v before the return", res.Sent.Sub(before), after.Sub(res.Sent.Add(res.End)))
	}
	times := []time.Duration{0, res.FirstToken, res.FirstAnswer, res.LastToken}
	for i, d := range times[1:] {
		if d-times[i] < gap {
			t.Errorf("times %v: there are %v between each and the next, at least", times, gap)
		}
	}
	if res.End < res.LastToken || res.End-res.LastToken > 0 && res.End-res.LastToken < gap {
		t.Errorf("end %v, last token %v", res.End, res.LastToken)
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		header, value string
		want          time.Duration
	}{
		{"Retry-After", "3", 3 * time.Second},
		{"Retry-After", "0.5", 500 * time.Millisecond},
		{"Retry-After", "Tue, 24 Nov 2026 10:01:00 GMT", time.Minute},
		{"Retry-After", "Tue, 24 Nov 2026 09:00:00 GMT", 0},
		{"Retry-After", "-3", 0},
		{"Retry-After", "soon", 0},
		{"Retry-After", "NaN", 0},
		{"Retry-After", "1e300", 24 * time.Hour},
		{"Retry-After-Ms", "250", 250 * time.Millisecond},
		{"Retry-After-Ms", "NaN", 0},
	} {
		if got := retryAfter(http.Header{test.header: {test.value}}, now); got != test.want {
			t.Errorf("%s: %s gives %v, want %v", test.header, test.value, got, test.want)
		}
	}
	server := startRaw(t, func(c *rawConn) { c.send("HTTP/1.1 429 X\r\nRetry-After: 2\r\nContent-Length: 0\r\n\r\n") })
	if res := do(t, newClient(t, server.url(), Options{}), 1); res.RetryTime != 2*time.Second {
		t.Errorf("retry time %v, want 2s", res.RetryTime)
	}
}

func TestConnectionIsReused(t *testing.T) {
	server := startRaw(t, func(c *rawConn) {
		if c.number == 1 && c.server.requests.Load() == 3 {
			c.send("HTTP/1.1 400 X\r\nContent-Length: 3\r\n\r\nbad")
			return
		}
		if c.server.requests.Load() == 4 {
			c.send(streamHead)
			c.chunk(`data: {"error":"x"}`, "\n\n", "data: [DONE]\n\n")
			c.send("0\r\n\r\n")
			return
		}
		c.whole(2)
	})
	client := newClient(t, server.url(), Options{})
	for i := range 5 {
		res := do(t, client, 2)
		if res.NewConn != (i == 0) || (res.Phases != probe.Phases{}) != (i == 0) {
			t.Errorf("request %d: new connection %v, phases %+v", i, res.NewConn, res.Phases)
		}
	}
	if n := server.conns.Load(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}

// TestStaleConnection has the server close the pooled connection as the next request comes.
func TestStaleConnection(t *testing.T) {
	for name, end := range map[string]func(c *rawConn){"FIN": (*rawConn).close, "RST": (*rawConn).reset} {
		t.Run(name, func(t *testing.T) {
			server := startRaw(t, func(c *rawConn) {
				if c.number == 1 && c.server.requests.Load() == 2 {
					c.wait(20 * time.Millisecond)
					end(c)
					return
				}
				c.whole(1)
			})
			client := newClient(t, server.url(), Options{})
			do(t, client, 1)
			before := time.Now()
			res := do(t, client, 1)
			if res.Outcome != probe.Completed || res.Retries != 1 || !res.NewConn || res.Phases.Connect <= 0 {
				t.Errorf("%v (%s), %d retries, new connection %v", res.Outcome, res.Detail, res.Retries, res.NewConn)
			}
			if res.Repeated < 20*time.Millisecond {
				t.Errorf("the first send took %v, want 20ms or more", res.Repeated)
			}
			if res.Sent.Sub(before) < 20*time.Millisecond {
				t.Errorf("the start is that of the first send, %v after the call", res.Sent.Sub(before))
			}
			if n := server.requests.Load(); n != 3 {
				t.Errorf("%d requests reached the server, want 3", n)
			}
		})
	}
}

// TestRequestThatIsGivenUp has the server work on a request for a while and then crash: that is no stale connection.
func TestRequestThatIsGivenUp(t *testing.T) {
	checkReset(t, func(c *rawConn) { c.wait(5 * staleWithin) })
}

// checkReset has the server close a pooled connection after what it does on the second request, which must be no retry.
func checkReset(t *testing.T, second func(c *rawConn)) {
	t.Helper()
	server := startRaw(t, func(c *rawConn) {
		if c.server.requests.Load() == 2 {
			second(c)
			c.close()
			return
		}
		c.whole(1)
	})
	client := newClient(t, server.url(), Options{})
	do(t, client, 1)
	if res := do(t, client, 1); res.Reason != probe.ReasonReset || res.Retries != 0 {
		t.Errorf("%v %q with %d retries, want reset with none", res.Outcome, res.Reason, res.Retries)
	}
}

// TestReasoningThatIsHidden tells reasoning that is only counted from such as comes like the rest of the answer.
func TestReasoningThatIsHidden(t *testing.T) {
	const usage = `data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":12,` +
		`"completion_tokens_details":{"reasoning_tokens":8}}}` + "\n\n"
	for _, test := range []struct{ events, hidden int }{{4, 8}, {12, 0}} {
		server := startRaw(t, func(c *rawConn) {
			c.send(streamHead)
			c.chunk(strings.Repeat(token, test.events), `data: {"choices":[{"delta":{},"finish_reason":"stop"}]}`, "\n\n", usage)
			c.send("0\r\n\r\n")
		})
		res := do(t, newClient(t, server.url(), Options{}), 12)
		if res.HiddenTokens != test.hidden || res.OutputTokens != 12 || res.ReasoningTokens != 8 {
			t.Errorf("%d events: %d hidden of %d tokens, want %d", test.events, res.HiddenTokens, res.OutputTokens, test.hidden)
		}
	}
}

func TestStaleConnectionIsRetriedOnce(t *testing.T) {
	server := startRaw(t, func(c *rawConn) {
		if c.server.requests.Load() > 1 {
			c.close()
			return
		}
		c.whole(1)
	})
	client := newClient(t, server.url(), Options{})
	do(t, client, 1)
	if res := do(t, client, 1); res.Reason != probe.ReasonReset || res.Retries != 1 {
		t.Errorf("%v %q with %d retries, want reset with 1", res.Outcome, res.Reason, res.Retries)
	}
	if n := server.requests.Load(); n != 3 {
		t.Errorf("%d requests reached the server, want 3", n)
	}
}

// TestCutAnswerIsNotRetried closes a pooled connection after the first byte of the answer.
func TestCutAnswerIsNotRetried(t *testing.T) {
	checkReset(t, func(c *rawConn) { c.send("H") })
}

func TestServerRestarts(t *testing.T) {
	server := startRaw(t, func(c *rawConn) { c.whole(1) })
	client := newClient(t, server.url(), Options{})
	if res := do(t, client, 1); res.Outcome != probe.Completed {
		t.Fatal(res.Detail)
	}
	server.stop()
	if res := do(t, client, 1); res.Reason != probe.ReasonConnect || !strings.Contains(res.Detail, "refused") {
		t.Errorf("while the server is down: %v %q (%s)", res.Outcome, res.Reason, res.Detail)
	}
	startRawAt(t, server.listener.Addr().String(), func(c *rawConn) { c.whole(1) })
	if res := do(t, client, 1); res.Outcome != probe.Completed || !res.NewConn {
		t.Errorf("after the restart: %v %q (%s)", res.Outcome, res.Reason, res.Detail)
	}
}

func TestNameDoesNotResolve(t *testing.T) {
	// Go's resolver refuses a name with an empty label without asking anybody.
	res := do(t, newClient(t, "http://no..such.host/v1", Options{}), 1)
	if res.Reason != probe.ReasonDNS || !strings.Contains(res.Detail, "no such host") || !res.Sent.IsZero() {
		t.Errorf("%v %q (%s)", res.Outcome, res.Reason, res.Detail)
	}
}

func TestTLS(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		io.WriteString(w, token+`data: {"choices":[{"delta":{},"finish_reason":"stop"}]}`+"\n\n")
	}))
	server.Config.ErrorLog = discard
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()

	res := do(t, newClient(t, server.URL, Options{}), 1)
	if res.Reason != probe.ReasonTLS || !strings.Contains(res.Detail, "certificate") || res.Status != 0 {
		t.Errorf("unknown authority: %v %q (%s)", res.Outcome, res.Reason, res.Detail)
	}

	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	client := newClient(t, server.URL, Options{TLS: &tls.Config{RootCAs: roots}})
	for i := range 2 {
		res = do(t, client, 1)
		first := i == 0
		if res.Outcome != probe.Completed || res.NewConn != first || (res.Phases.TLS > 0) != first || res.Sent.IsZero() {
			t.Errorf("request %d: %v (%s), new connection %v, %+v", i, res.Outcome, res.Detail, res.NewConn, res.Phases)
		}
	}

	plain := startRaw(t, func(c *rawConn) { c.whole(1) })
	res = do(t, newClient(t, strings.Replace(plain.url(), "http:", "https:", 1), Options{}), 1)
	if res.Reason != probe.ReasonTLS {
		t.Errorf("TLS to a server without: %v %q (%s)", res.Outcome, res.Reason, res.Detail)
	}
}

// TestRefusedCertificate: with TLS 1.3 a server that asks for a certificate refuses us after the handshake.
func TestRefusedCertificate(t *testing.T) {
	authority := configtest.NewAuthority(t, "authority")
	certificate, key := authority.Issue(t, "server")
	pair, err := tls.X509KeyPair([]byte(certificate), []byte(key))
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for conn, err := listener.Accept(); err == nil; conn, err = listener.Accept() {
			serving.Go(func() {
				tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAnyClientCert}).Handshake()
				io.Copy(io.Discard, conn) // a request that nobody has read would make a reset of the end
				conn.Close()
			})
		}
	})
	defer serving.Wait()
	defer listener.Close()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(authority.PEM))
	opts := Options{BaseURL: "https://" + listener.Addr().String() + "/v1", TLS: &tls.Config{RootCAs: roots}}
	res := do(t, newClient(t, opts.BaseURL, opts), 1)
	if res.Reason != probe.ReasonTLS || !strings.Contains(res.Detail, "certificate required") {
		t.Errorf("%v %q (%s)", res.Outcome, res.Reason, res.Detail)
	}
	var e *Error
	if _, err := Discover(t.Context(), opts, "m"); !errors.As(err, &e) || e.Reason != probe.ReasonTLS {
		t.Errorf("discovery: %v", err)
	}
}

func TestCancelled(t *testing.T) {
	other := errors.New("shutting down")
	for _, test := range []struct {
		name   string
		answer func(c *rawConn)
		events int
	}{
		{"before the head", func(c *rawConn) { c.hang() }, 0},
		{"before the first token", func(c *rawConn) { c.send(streamHead); c.chunk(role); c.hang() }, 0},
		{"in the stream", func(c *rawConn) { c.send(streamHead); c.chunk(token); c.chunk(token); c.hang() }, 2},
		{"in an error's body", func(c *rawConn) { c.send("HTTP/1.1 500 X\r\nContent-Length: 9\r\n\r\nx"); c.hang() }, 0},
		{"in another body", func(c *rawConn) { c.send("HTTP/1.1 200 X\r\nContent-Length: 9\r\n\r\nx"); c.hang() }, 0},
	} {
		for _, cause := range []error{probe.ErrStageEnded, other} {
			t.Run(fmt.Sprintf("%s/%v", test.name, cause), func(t *testing.T) {
				answered := make(chan struct{})
				server := startRaw(t, func(c *rawConn) { close(answered); test.answer(c) })
				ctx, cancel := context.WithCancelCause(t.Context())
				var events atomic.Int64
				go func() {
					<-answered
					for events.Load() < int64(test.events) {
						time.Sleep(time.Millisecond)
					}
					time.Sleep(10 * time.Millisecond)
					cancel(cause)
				}()
				res := new(probe.Result)
				newClient(t, server.url(), Options{}).Do(ctx, &probe.Request{Events: &events, OutputTokens: 9}, res)
				want := fmt.Sprint(probe.Incomplete, "")
				if cause == other {
					want = fmt.Sprint(probe.Failed, probe.ReasonCancelled)
				}
				if got := fmt.Sprint(res.Outcome, res.Reason); got != want {
					t.Errorf("%s (%s), want %s", got, res.Detail, want)
				}
				if n := countEvents(res); n != test.events || res.OutputTokens != n {
					t.Errorf("%d events and %d tokens, want %d", n, res.OutputTokens, test.events)
				}
				if res.Sent.IsZero() {
					t.Error("a request that was sent has no start")
				}
			})
		}
	}
}

func TestCancelledBeforeItIsSent(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(probe.ErrStageEnded)
	server := startRaw(t, func(c *rawConn) { c.whole(1) })
	res := new(probe.Result)
	newClient(t, server.url(), Options{}).Do(ctx, new(probe.Request), res)
	if res.Outcome != probe.Incomplete || !res.Sent.IsZero() {
		t.Errorf("%v, sent %v", res.Outcome, res.Sent)
	}
}

// TestArrivals takes events with times and lags of all kinds.
func TestArrivals(t *testing.T) {
	sent := time.Now()
	s := &stream{res: new(probe.Result), sent: sent, decoder: new(decoder)}
	for _, event := range []struct {
		at, lag time.Duration
		tokens  int
		known   bool
	}{
		{10, 5, 1, true}, {10, 6, 2, true}, // one read
		{200, 3, 1, true}, {200, 3, 0, false}, // one of two events is not counted
		{300, 9, 0, true}, {300, 4, 2, true}, // text that was held back, then tokens
		{400, 0, 0, false},
		{500, 1, 1, true}, {599, 2, 1, true}, {650, 1, 1, true}, // sent in one go, read one by one
	} {
		s.arrive(&sse.Event{At: sent.Add(event.at * time.Microsecond), Lag: event.lag}, event.tokens, event.known)
	}
	want := []probe.Arrival{
		{At: 10, Lag: 6, Events: 2, Tokens: 3}, {At: 200, Lag: 3, Events: 2}, {At: 300, Lag: 9, Events: 2, Tokens: 2},
		{At: 400, Events: 1}, {At: 650, Lag: 2, Events: 3, Tokens: 3},
	}
	for i := range want {
		want[i].At *= time.Microsecond
	}
	if diff := cmp.Diff(want, s.res.Arrivals); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if s.res.FirstToken != 10*time.Microsecond || s.res.LastToken != 650*time.Microsecond || s.res.End != s.res.LastToken {
		t.Errorf("first %v, last %v, end %v", s.res.FirstToken, s.res.LastToken, s.res.End)
	}
}

func TestWarm(t *testing.T) {
	const n = 20
	server := startRaw(t, func(c *rawConn) {
		if c.request.Method == http.MethodGet {
			c.send("HTTP/1.1 404 X\r\nContent-Length: 2\r\n\r\n{}")
			return
		}
		c.whole(1)
	})
	client := newClient(t, server.url(), Options{MaxInFlight: n})
	if opened, failed := client.Warm(t.Context(), n); opened != n || failed != 0 || server.conns.Load() != n {
		t.Fatalf("%d opened, %d failed, %d connections at the server", opened, failed, server.conns.Load())
	}
	var group sync.WaitGroup
	for range n {
		group.Go(func() {
			if res := do(t, client, 1); res.NewConn {
				t.Error("a request had to open a connection")
			}
		})
	}
	group.Wait()
	server.stop()
	if opened, failed := newClient(t, server.url(), Options{}).Warm(t.Context(), 3); opened != 0 || failed != 3 {
		t.Errorf("no server: %d opened, %d failed", opened, failed)
	}
}

// TestManyAtOnce is for the race detector: streams of all kinds, some cancelled, over one client.
func TestManyAtOnce(t *testing.T) {
	server := startRaw(t, func(c *rawConn) {
		switch c.server.requests.Load() % 5 {
		case 0:
			c.close()
		case 1:
			c.send(streamHead)
			c.chunk(token)
			c.hang()
		default:
			c.whole(20)
		}
	})
	client := newClient(t, server.url(), Options{MaxInFlight: 8})
	var group sync.WaitGroup
	var completed atomic.Int64
	for range 8 {
		group.Go(func() {
			res, req := new(probe.Result), &probe.Request{OutputTokens: 20}
			for i := range 40 {
				ctx, cancel := context.WithTimeoutCause(t.Context(), 20*time.Millisecond, probe.ErrStageEnded)
				req.Body = append(req.Body[:0], strings.Repeat("x", 100+i)...)
				client.Do(ctx, req, res)
				cancel()
				if res.Outcome == probe.Completed {
					completed.Add(1)
				}
			}
		})
	}
	group.Wait()
	if completed.Load() == 0 {
		t.Error("not one answer was whole")
	}
}

// TestEventsAllocateNothing compares a long answer with a short one.
func TestEventsAllocateNothing(t *testing.T) {
	continuous := `data: {"id":"1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"a"},` +
		`"finish_reason":null}],"usage":{"prompt_tokens":3,"completion_tokens":%d}}` + "\n\n"
	allocs := func(events int) float64 {
		r := &recording{outputTokens: events}
		r.reads = append(r.reads, recordedRead{0, []byte("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")})
		for i := range events {
			r.reads = append(r.reads, recordedRead{time.Duration(i) * probe.Together, fmt.Appendf(nil, continuous, i+1)})
		}
		client := newClient(t, "http://localhost/v1", Options{})
		res := &probe.Result{Arrivals: make([]probe.Arrival, 0, events)}
		var live atomic.Int64
		return testing.AllocsPerRun(20, func() {
			res.Reset()
			if r.playWith(client, &probe.Request{OutputTokens: events, Events: &live}, res); len(res.Arrivals) != events {
				t.Fatalf("%d arrivals of %d events: %s", len(res.Arrivals), events, res.Detail)
			}
		})
	}
	runtime.GC()
	if short, long := allocs(10), allocs(5010); long-short > 5 {
		t.Errorf("%v allocations for 10 events, %v for 5010", short, long)
	}
}
