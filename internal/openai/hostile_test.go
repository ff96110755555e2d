package openai

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/inferprobe/inferprobe/internal/probe"
)

// forged is what a server may hope that a terminal, a browser, a spreadsheet or a log takes for something else.
const forged = "\x1b[2J\x1b]0;owned\a\r\nlevel=INFO msg=forged\x00\u009b31m\u202egnp.exe\u2028" +
	"</td><script>alert(1)</script>=1+1"

// TestHostileHeads: a head without end is given up after some 64 kB, also where it comes as interim answers.
func TestHostileHeads(t *testing.T) {
	for name, part := range map[string]string{
		"header bomb":     "X-Bomb: " + strings.Repeat("x", 1<<10) + "\r\n",
		"one long line":   strings.Repeat("x", 1<<10),
		"interim answers": "HTTP/1.1 103 Early Hints\r\nLink: " + strings.Repeat("x", 1<<10) + "\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			sent := make(chan int, 1)
			server := startRaw(t, func(c *rawConn) {
				start := "HTTP/1.1 200 OK\r\n"
				if name == "interim answers" {
					start = ""
				}
				n, err := io.WriteString(c.Conn, start)
				for err == nil {
					var more int
					more, err = io.WriteString(c.Conn, part)
					n += more
				}
				sent <- n
				c.close()
			})
			res := do(t, newClient(t, server.url(), Options{}), 1)
			if res.Outcome != probe.Failed || res.Detail == "" {
				t.Errorf("%v %s: %q", res.Outcome, res.Reason, res.Detail)
			}
			if n := <-sent; n > 8<<20 { // most of it is what the kernel took meanwhile; without a limit of ours it is 14 MB
				t.Errorf("it read some %d bytes", n)
			}
		})
	}
}

// TestHostileCounts: what a server claims to have counted can keep nobody busy, nor end in a report.
func TestHostileCounts(t *testing.T) {
	for _, counts := range []string{
		`"usage":{"completion_tokens":100000000000}`, `"usage":{"prompt_tokens":100000000000}`,
		`"usage":{"completion_tokens":1048577}`, `"timings":{"predicted_n":1e11}`,
		`"usage":{"completion_tokens":4,"completion_tokens_details":{"reasoning_tokens":100000000000}}`,
	} {
		server := startRaw(t, func(c *rawConn) {
			events := `data: {"choices":[{"text":"a"}]}` + "\n\n" + `data: {"choices":[{"text":"b"}],` + counts + "}\n\n" +
				`data: {"choices":[{"text":"","finish_reason":"length"}]}` + "\n\ndata: [DONE]\n\n"
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n%s",
				len(events), events)
		})
		res := do(t, newClient(t, server.url(), Options{}), 1)
		if res.Outcome != probe.Failed || res.Reason != probe.ReasonMalformed || !strings.Contains(res.Detail, "claims") {
			t.Errorf("%s: %s %s: %s", counts, res.Outcome, res.Reason, res.Detail)
		}
		if res.OutputTokens != 1 {
			t.Errorf("%s: %d tokens", counts, res.OutputTokens)
		}
	}
}

// TestHostileText: what a server says in place of an answer reaches the result as one short, harmless line, wherever it
// says it and however much it says.
func TestHostileText(t *testing.T) {
	long := strings.Repeat(forged, 20_000)
	quoted := fmt.Sprintf("%q", "\u202e\u009b<b>") // of Go, which is JSON here
	for name, answer := range map[string]func(c *rawConn){
		"error body":   func(c *rawConn) { c.document(500, "text/plain", long) },
		"error object": func(c *rawConn) { c.document(400, "application/json", `{"error":{"message":`+quoted+`}}`) },
		"error page":   func(c *rawConn) { c.document(502, "text/html", "<title>"+long+"</title>") },
		"no stream":    func(c *rawConn) { c.document(200, "text/plain", long) },
		"status line":  func(c *rawConn) { c.send("HTTP/1.1 500 \x1b[31m\u202e\r\nContent-Length: 0\r\n\r\n") },
		"content type": func(c *rawConn) { c.document(200, "text/\u202e\u009b", "x") },
		"redirect":     func(c *rawConn) { c.send("HTTP/1.1 302 X\r\nLocation: \u202e\u009b\r\nContent-Length: 0\r\n\r\n") },
		"error event":  func(c *rawConn) { c.send(streamHead); c.chunk(`data: {"error":` + quoted + "}\n\n"); c.finish() },
		"error event raw": func(c *rawConn) {
			c.send(streamHead)
			c.chunk("event: error\ndata: \x1b[31m\u202e\u009b\n\n")
			c.finish()
		},
		"finish reason": func(c *rawConn) {
			c.send(streamHead)
			c.chunk(token, `data: {"choices":[{"delta":{},"finish_reason":`+quoted+`}]}`, "\n\n")
			c.finish()
		},
		"malformed event": func(c *rawConn) { c.send(streamHead); c.chunk("data: {\u202e\u009b\x1b[31m\n\n"); c.finish() },
	} {
		t.Run(name, func(t *testing.T) {
			res := do(t, newClient(t, startRaw(t, answer).url(), Options{}), 1)
			if res.Outcome != probe.Failed || len(res.Detail) > maxDetail {
				t.Errorf("%v, a detail of %d bytes", res.Outcome, len(res.Detail))
			}
			checkHarmless(t, res.Detail)
		})
	}
}

func checkHarmless(t *testing.T, text string) {
	t.Helper()
	for _, r := range text {
		if !unicode.IsPrint(r) {
			t.Errorf("%q has %U", text, r)
		}
	}
}

// TestHostileStream: tokens without end are cut off by the limit on a request's time.
func TestHostileStream(t *testing.T) {
	server := startRaw(t, func(c *rawConn) {
		c.send(streamHead)
		for _, err := io.WriteString(c.Conn, ""); err == nil; {
			_, err = fmt.Fprintf(c.Conn, "%x\r\n%s\r\n", len(token), token)
		}
		c.close()
	})
	res := do(t, newClient(t, server.url(), Options{TotalTimeout: 50 * time.Millisecond}), 1<<30)
	if res.Outcome != probe.Failed || res.Reason != probe.ReasonTimeoutTotal {
		t.Errorf("%v %s", res.Outcome, res.Reason)
	}
}

// TestHostileModels: a server whose list of models is not what it should be neither breaks discovery nor gets a name
// through that is not plain text.
func TestHostileModels(t *testing.T) {
	deep := strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000)
	for name, document := range map[string]string{
		"control characters": list(`{"id":"\u001b[31mred"}`),
		"C1":                 list(`{"id":"a\u009b31m"}`),
		"bidi":               list(`{"id":"a\u202eb"}`),
		"two lines":          list(`{"id":"a\nb"}`),
		"line separator":     list(`{"id":"a\u2028b"}`),
		"NUL":                list(`{"id":"a\u0000"}`),
		"endless name":       list(`{"id":"` + strings.Repeat("m", 1<<20) + `"}`),
		"a number":           list(`{"id":7}`),
		"deep":               `{"data":` + deep + `}`,
		"deep extra":         `{"x":` + deep + `,"data":"no"}`,
		"number too large":   list(`{"id":"m","max_model_len":1e400}`),
		"null":               `{"data":null}`,
		"list of nulls":      list("null", "null"),
		"endless":            `{"data":[` + strings.Repeat(" ", 9<<20) + `]}`,
	} {
		t.Run(name, func(t *testing.T) {
			url := pages(t, map[string]string{"/v1/models": document, "/models": document})
			found, err := Discover(t.Context(), Options{BaseURL: url}, "")
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("%.200q is taken for a model, %v", found.Model.ID, err)
			}
			checkHarmless(t, e.Detail)
		})
	}
	url := pages(t, map[string]string{"/v1/models": list(`{"id":"bad\u001b"}`,
		`{"id":"<b>=good 🙂","max_model_len":-5}`)})
	found, err := Discover(t.Context(), Options{BaseURL: url}, "")
	if err != nil || found.Model != (Model{ID: "<b>=good 🙂"}) || len(found.Models) != 1 {
		t.Errorf("%+v, %v", found, err)
	}
	// What a server says of itself is cleaned, too.
	url = pages(t, map[string]string{"/v1/models": list(`{"id":"m","owned_by":"vllm"}`),
		"/version": `{"version":"` + strings.Repeat("9", 1000) + `\u001b[31m\u202e\u009b"}`})
	found, err = Discover(t.Context(), Options{BaseURL: url}, "")
	if err != nil || len(found.Version) > 64 {
		t.Errorf("%+v, %v", found, err)
	}
	checkHarmless(t, found.String())
}
