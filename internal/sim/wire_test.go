package sim

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
)

// serve runs a server on a loopback port until the test ends and returns it with its address.
func serve(t *testing.T, opts Options) (*Server, string) {
	t.Helper()
	s, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error)
	go func() { served <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return s, l.Addr().String()
}

// wait returns the records of s when it serves nobody any more.
func wait(t *testing.T, s *Server) []Record {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := s.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	return s.Truth(time.Time{})
}

// rawRequest is a request for 4 tokens as bytes.
func rawRequest(path, fault string, stream bool) string {
	body := `{"prompt":"one two","messages":[{"role":"user","content":"one two"}],"max_tokens":4,"ignore_eos":true`
	if stream {
		body += `,"stream":true,"stream_options":{"include_usage":true}`
	}
	if fault == "continuous" { // no fault, but a golden file of its own
		fault = "none"
		body = strings.Replace(body, `"include_usage":true`, `"continuous_usage_stats":true`, 1)
	}
	head := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: sim\r\nX-Request-Id: golden\r\n%s: %s\r\n", path, FaultHeader, fault)
	return fmt.Sprintf("%sContent-Length: %d\r\n\r\n%s}", head, len(body)+1, body)
}

// exchangeRaw sends a request over a connection of its own and returns the raw answer, and what became of the
// connection: "open", "closed" or "reset"; "silent" if the answer stopped at until, which is then the end of it.
func exchangeRaw(t *testing.T, address, request, until string) (raw []byte, end string) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(conn)
	for {
		b, err := r.ReadByte()
		switch {
		case errors.Is(err, io.EOF):
			return raw, "closed"
		case errors.Is(err, syscall.ECONNRESET):
			return raw, "reset"
		case err != nil:
			t.Fatalf("after %q: %v", raw, err)
		}
		raw = append(raw, b)
		if until != "" && bytes.HasSuffix(raw, []byte(until)) {
			return raw, "silent"
		}
		if until == "" && complete(raw) {
			return raw, "open"
		}
	}
}

// complete reports whether raw is a whole response.
func complete(raw []byte) bool {
	head, body, ok := bytes.Cut(raw, []byte("\r\n\r\n"))
	if !ok {
		return false
	}
	if _, length, ok := bytes.Cut(head, []byte("Content-Length: ")); ok {
		length, _, _ = bytes.Cut(length, []byte("\r\n"))
		n, _ := strconv.Atoi(string(length))
		return len(body) >= n
	}
	noContent := bytes.HasPrefix(head, []byte("HTTP/1.1 204"))
	return noContent || bytes.HasSuffix(body, []byte("0\r\n\r\n"))
}

// scrub replaces what differs from run to run by something of the same length.
func scrub(raw []byte) []byte {
	raw = regexp.MustCompile(`Date: [^\r]*`).ReplaceAll(raw, []byte("Date: Tue, 24 Nov 2026 00:00:00 GMT"))
	return regexp.MustCompile(`"created":\d{10}`).ReplaceAll(raw, []byte(`"created":1700000000`))
}

// unsplit joins the chunks of a response, which cut through what is to be scrubbed, and puts their sizes first.
func unsplit(raw []byte) []byte {
	head, body, _ := bytes.Cut(raw, []byte("\r\n\r\n"))
	var sizes, joined []byte
	for len(body) > 0 {
		size, rest, _ := bytes.Cut(body, []byte("\r\n"))
		n, _ := strconv.ParseInt(string(size), 16, 64)
		sizes = append(append(sizes, size...), ' ')
		joined = append(joined, rest[:n]...)
		body = rest[n+2:]
	}
	return slices.Concat(head, []byte("\nchunks: "), sizes, []byte("\n\n"), joined)
}

// golden compares got with a file, or writes it with -update.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", "wire", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff(strings.SplitAfter(string(want), "\n"), strings.SplitAfter(string(got), "\n")); diff != "" {
		t.Errorf("%s (-want +got), rewrite with -update:\n%s", path, diff)
	}
}

// wireCases has every fault, and the answers without one.
var wireCases = []struct {
	fault   string // also the name of the golden file
	path    string // "" = chat
	whole   bool   // no stream
	until   string // where the answer falls silent
	end     string // "" = open
	outcome Outcome
	tokens  int
	finish  string
}{
	{fault: "none", outcome: OutcomeCompleted, tokens: 4, finish: "length"},
	{fault: "none", path: "/v1/completions", outcome: OutcomeCompleted, tokens: 4, finish: "length"},
	{fault: "none", whole: true, outcome: OutcomeCompleted, tokens: 4, finish: "length"},
	{fault: "none", path: "/v1/completions", whole: true, outcome: OutcomeCompleted, tokens: 4, finish: "length"},
	{fault: "continuous", outcome: OutcomeCompleted, tokens: 4, finish: "length"},

	{fault: "status=429", outcome: OutcomeRejected},
	{fault: "status=429:7", outcome: OutcomeRejected},
	{fault: "status=500", outcome: OutcomeRejected},
	{fault: "status=503", outcome: OutcomeRejected},
	{fault: "status=401", outcome: OutcomeRejected},
	{fault: "status=404", outcome: OutcomeRejected},
	{fault: "redirect", outcome: OutcomeFault},
	{fault: "slow_headers=1ms", outcome: OutcomeCompleted, tokens: 4, finish: "length"},
	{fault: "json_200", outcome: OutcomeFault, tokens: 4, finish: "length"},
	{fault: "error_200", outcome: OutcomeFault},
	{fault: "html_200", outcome: OutcomeFault},
	{fault: "no_content", outcome: OutcomeFault},
	{fault: "not_http", end: "closed", outcome: OutcomeFault},
	{fault: "empty", outcome: OutcomeFault},
	{fault: "nothing", outcome: OutcomeFault},

	{fault: "fin=2", end: "closed", outcome: OutcomeFault, tokens: 2},
	{fault: "fin=0", end: "closed", outcome: OutcomeFault},
	{fault: "fin=99", end: "closed", outcome: OutcomeFault, tokens: 3},
	{fault: "fin", whole: true, end: "closed", outcome: OutcomeFault},
	{fault: "rst=2", end: "reset", outcome: OutcomeFault, tokens: 2},
	{fault: "rst", whole: true, end: "reset", outcome: OutcomeFault},
	{fault: "chunk_cut=2", end: "closed", outcome: OutcomeFault, tokens: 2},
	{fault: "error_event", outcome: OutcomeFault, tokens: 2},
	{fault: "error_event=0", outcome: OutcomeFault},
	{fault: "error_event", whole: true, outcome: OutcomeRejected},
	{fault: "error_event_no_done", outcome: OutcomeFault, tokens: 2},
	{fault: "error_string", outcome: OutcomeFault, tokens: 2},
	{fault: "error_string_no_done", outcome: OutcomeFault, tokens: 2},
	{fault: "error_named", outcome: OutcomeFault, tokens: 2},
	{fault: "crlf,error_named", outcome: OutcomeFault, tokens: 2},
	{fault: "not_json", outcome: OutcomeFault, tokens: 2},
	{fault: "not_json", whole: true, outcome: OutcomeFault},
	{fault: "abort=3", outcome: OutcomeAborted, tokens: 3, finish: "abort"},
	{fault: "abort=3", whole: true, outcome: OutcomeAborted, tokens: 3, finish: "abort"},
	{fault: "hang", until: "\r\n\r\n", end: "silent", outcome: OutcomeFault},
	{fault: "hang_after=1", until: `"token_ids":null}]}` + "\n\n\r\n", end: "silent", outcome: OutcomeFault, tokens: 1},
	{fault: "endless_event=1", until: strings.Repeat("x", 1000), end: "silent", outcome: OutcomeFault, tokens: 1},
	{fault: "no_tokens", outcome: OutcomeFault, finish: "stop"},
	{fault: "no_tokens", whole: true, outcome: OutcomeFault, finish: "stop"},

	{fault: "error_after_finish", outcome: OutcomeFault, tokens: 4, finish: "length"},
	{fault: "fin_after_finish", end: "closed", outcome: OutcomeFault, tokens: 4, finish: "length"},
	{
		fault: "hang_after_finish", until: `"stop_reason":null,"token_ids":null}]}` + "\n\n\r\n", end: "silent",
		outcome: OutcomeFault, tokens: 4, finish: "length",
	},

	{fault: "no_finish", outcome: OutcomeCompleted, tokens: 4},
	{fault: "no_done", outcome: OutcomeCompleted, tokens: 4, finish: "length"},
	{fault: "short", outcome: OutcomeCompleted, tokens: 2, finish: "stop"},
	{fault: "ignore_eos_ignored", outcome: OutcomeCompleted, tokens: 1, finish: "stop"},
	{fault: "ignore_max_tokens", outcome: OutcomeCompleted, tokens: 8, finish: "length"},
	{fault: "usage_missing", outcome: OutcomeCompleted, tokens: 4, finish: "length"},
	{fault: "usage_missing", whole: true, outcome: OutcomeCompleted, tokens: 4, finish: "length"},
	{fault: "usage_zero", outcome: OutcomeCompleted, tokens: 4, finish: "length"},
	{fault: "usage_impossible", outcome: OutcomeCompleted, tokens: 4, finish: "length"},
	{fault: "usage_in_choice", outcome: OutcomeCompleted, tokens: 4, finish: "length"},
	{fault: "cached_tokens", outcome: OutcomeCompleted, tokens: 4, finish: "length"},
	{fault: "early_role", outcome: OutcomeCompleted, tokens: 4, finish: "length"},

	{fault: "comments=1h", outcome: OutcomeCompleted, tokens: 4, finish: "length"},
	{fault: "crlf", outcome: OutcomeCompleted, tokens: 4, finish: "length"},
	{fault: "cr", outcome: OutcomeCompleted, tokens: 4, finish: "length"},
	{fault: "bom", outcome: OutcomeCompleted, tokens: 4, finish: "length"},
	{fault: "split", outcome: OutcomeCompleted, tokens: 4, finish: "length"},
	{fault: "split=100", outcome: OutcomeCompleted, tokens: 4, finish: "length"},
	{fault: "big_event=1000", outcome: OutcomeCompleted, tokens: 4, finish: "length"},
	{fault: "crlf,usage_in_choice,no_done", outcome: OutcomeCompleted, tokens: 4, finish: "length"},
}

func TestWire(t *testing.T) {
	for _, c := range wireCases {
		path, name := c.path, c.fault
		if path == "" {
			path = "/v1/chat/completions"
		} else {
			name = "completions-" + name
		}
		if c.whole {
			name = "whole-" + name
		}
		name = regexp.MustCompile(`[^a-z0-9_-]`).ReplaceAllString(name, "-")
		t.Run(name, func(t *testing.T) {
			s, address := serve(t, Options{Fixed: fixed(ms, ms)})
			raw, end := exchangeRaw(t, address, rawRequest(path, c.fault, !c.whole), c.until)
			if want := cmp.Or(c.end, "open"); end != want {
				t.Errorf("the connection is %s, want %s", end, want)
			}
			if strings.HasPrefix(c.fault, "split") {
				raw = unsplit(raw)
			}
			golden(t, name+".http", scrub(raw))
			r := wait(t, s)[0]
			got := fmt.Sprint(r.Outcome, r.OutputTokens, r.FinishReason)
			if want := fmt.Sprint(c.outcome, c.tokens, c.finish); got != want {
				t.Errorf("the record has outcome, tokens and finish reason %s, want %s", got, want)
			}
		})
	}
}

// TestWireKnowsEveryFault holds wireCases against the catalogue. gzip has a test of its own.
func TestWireKnowsEveryFault(t *testing.T) {
	tested := map[string]bool{"gzip": true}
	for _, c := range wireCases {
		name, _, _ := strings.Cut(c.fault, "=")
		tested[name] = true
	}
	for _, f := range Faults() {
		if !tested[f.Name] {
			t.Errorf("fault %s has no golden file", f.Name)
		}
		if f.Description == "" || strings.ContainsAny(f.Description, "\n") {
			t.Errorf("fault %s has no description of one line", f.Name)
		}
	}
}

func TestGzip(t *testing.T) {
	for _, timing := range []*FixedTiming{fixed(0, 0), fixed(ms, ms)} {
		s, address := serve(t, Options{Fixed: timing})
		var bodies [2]string
		for i, fault := range []string{"none", "gzip"} {
			raw, _ := exchangeRaw(t, address, rawRequest("/v1/chat/completions", fault, true), "")
			response, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(scrub(raw))), nil)
			if err != nil {
				t.Fatal(err)
			}
			body := io.Reader(response.Body)
			if fault == "gzip" {
				if got := response.Header.Get("Content-Encoding"); got != "gzip" {
					t.Errorf("Content-Encoding is %q, want gzip", got)
				}
				if body, err = gzip.NewReader(body); err != nil {
					t.Fatal(err)
				}
			}
			text, err := io.ReadAll(body)
			if err != nil {
				t.Fatal(err)
			}
			bodies[i] = regexp.MustCompile(`"content":"[ a-z]+"`).ReplaceAllString(string(scrub(text)), `"content":""`)
		}
		if diff := gocmp.Diff(bodies[0], bodies[1]); diff != "" {
			t.Errorf("compressed and plain stream differ (-plain +compressed):\n%s", diff)
		}
		if r := wait(t, s)[1]; r.Outcome != OutcomeCompleted || r.OutputTokens != 4 {
			t.Errorf("the record has outcome %s and %d tokens, want completed and 4", r.Outcome, r.OutputTokens)
		}
	}
}
