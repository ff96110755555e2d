package sim

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestRecordSurvivesCompressionAndJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ns := func(name string) time.Time {
			return time.Unix(0, 1.7e18+rapid.Int64Range(0, 1e12).Draw(t, name)) // also backwards: clocks get set
		}
		want := Record{
			ID: "chatcmpl-x", RequestID: "x", Received: ns("received"), PromptTokens: 3, Status: 200,
			Fault: "none", Outcome: OutcomeCompleted, FinishReason: "length", Writes: []Write{},
		}
		e := entry{Record: want, last: want.Received.UnixNano()}
		for range rapid.IntRange(0, 20).Draw(t, "writes") {
			w := Write{ns("before"), ns("after"), rapid.IntRange(0, 1000).Draw(t, "tokens")}
			want.Writes = append(want.Writes, w)
			want.OutputTokens += w.Tokens
			e.add(w.Before, w.After, w.Tokens)
		}
		if diff := cmp.Diff(want, e.record()); diff != "" {
			t.Fatalf("record (-want +got):\n%s", diff)
		}
		data, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		var got Record
		if err := json.Unmarshal(data, &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("record after JSON (-want +got):\n%s", diff)
		}
	})
}

func TestRecordIsSmall(t *testing.T) {
	e := entry{Record: Record{Received: time.Now()}}
	e.last = e.Received.UnixNano()
	for i := range 1000 {
		at := e.Received.Add(60*ms + time.Duration(i)*9*ms)
		e.add(at, at.Add(8*time.Microsecond), 1)
	}
	if perToken := float64(len(e.writes)) / 1000; perToken > 8 {
		t.Errorf("a write takes %.1f bytes, want at most 8", perToken)
	}
}

func TestTruthIsBounded(t *testing.T) {
	s := atOnce(t, Options{TruthRecords: 3})
	ids := func(since time.Time) (list []string) {
		for _, r := range s.Truth(since) {
			list = append(list, r.RequestID)
		}
		return list
	}
	for i := range 5 {
		ask(t.Context(), s, fmt.Sprint(i), 1, "none")
	}
	if diff := cmp.Diff([]string{"2", "3", "4"}, ids(time.Time{})); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
	last := s.Truth(time.Time{})[2].Received
	if diff := cmp.Diff([]string{"4"}, ids(last)); diff != "" {
		t.Errorf("records since the last one (-want +got):\n%s", diff)
	}
	s.ClearTruth()
	ask(t.Context(), s, "5", 1, "none")
	if diff := cmp.Diff([]string{"5"}, ids(time.Time{})); diff != "" {
		t.Errorf("records after clearing (-want +got):\n%s", diff)
	}
}

// TestTruthAgainstRawClients has clients note their own times, and holds them against the record: what a client does
// before and after a write must lie before and after it by the record, too.
func TestTruthAgainstRawClients(t *testing.T) {
	s, address := serve(t, Options{Fixed: fixed(5*ms, ms)})
	type times struct {
		sent     time.Time
		received []time.Time // of each token event
	}
	var mu sync.Mutex
	seen := map[string]times{}
	var clients sync.WaitGroup
	for client := range 8 {
		clients.Go(func() {
			conn, err := net.Dial("tcp", address)
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			r := bufio.NewReader(conn)
			for i := range 5 {
				id := fmt.Sprintf("%d-%d", client, i)
				request := strings.Replace(rawRequest(chat, "none", true), "golden", id, 1)
				got := times{sent: time.Now()}
				if _, err := io.WriteString(conn, request); err != nil {
					t.Error(err)
					return
				}
				for line := ""; line != "0\r\n"; {
					if line, err = r.ReadString('\n'); err != nil {
						t.Error(err)
						return
					}
					if strings.Contains(line, `"delta":{"content":`) {
						got.received = append(got.received, time.Now())
					}
				}
				if _, err := r.Discard(2); err != nil {
					t.Error(err)
				}
				mu.Lock()
				seen[id] = got
				mu.Unlock()
			}
		})
	}
	clients.Wait()
	records := s.Truth(time.Time{}) // no wait: answers that were read to the end have their records
	if len(records) != 40 {
		t.Errorf("there are %d records, want 40", len(records))
	}
	for _, r := range records {
		client := seen[r.RequestID]
		if r.ID != "chatcmpl-"+r.RequestID {
			t.Errorf("record %s has id %s", r.RequestID, r.ID)
		}
		if r.Received.Before(client.sent.Round(0)) {
			t.Errorf("request %s was received %v before it was sent", r.RequestID, client.sent.Sub(r.Received))
		}
		last, i := r.Received, 0
		for _, w := range r.Writes {
			if w.Before.Before(last) || w.After.Before(w.Before) {
				t.Errorf("request %s has a write from %v to %v after %v", r.RequestID, w.Before, w.After, last)
			}
			last = w.After
			if w.Tokens == 1 {
				if client.received[i].Round(0).Before(w.Before) {
					t.Errorf("token %d of request %s was seen before it was written", i, r.RequestID)
				}
				i++
			}
		}
		if i != len(client.received) || i != 4 {
			t.Errorf("request %s: %d writes with a token, %d seen, want 4", r.RequestID, i, len(client.received))
		}
	}
}

// TestDisconnect is TestDisconnectFreesTheSlotAtOnce with a real connection.
func TestDisconnect(t *testing.T) {
	s, address := serve(t, Options{Slots: 1, DecodeStep: ms})
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	request := strings.Replace(rawRequest(chat, "none", true), `"max_tokens":4`, `"max_tokens":8000`, 1)
	head, body, _ := strings.Cut(request, "\r\n\r\n")
	length := fmt.Sprintf("Content-Length: %d", len(body))
	head = regexp.MustCompile(`Content-Length: \d+`).ReplaceAllString(head, length)
	request = head + "\r\n\r\n" + body
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(conn)
	for line := ""; !strings.Contains(line, `"delta":{"content":`); { // it holds the only slot now
		if line, err = r.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	conn.Close()
	if _, end := exchangeRaw(t, address, rawRequest(chat, "none", true), ""); end != "open" {
		t.Errorf("the next answer's connection is %s, want open", end)
	}
	records := wait(t, s)
	if records[0].Outcome != OutcomeDisconnected {
		t.Errorf("the first record has outcome %s, want disconnected", records[0].Outcome)
	}
	if records[1].Outcome != OutcomeCompleted {
		t.Errorf("the second record has outcome %s, want completed", records[1].Outcome)
	}
}

func TestServeEndsStreamsInOrder(t *testing.T) {
	s, err := New(Options{Fixed: fixed(ms, time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	served := make(chan error)
	go func() { served <- s.Serve(ctx, l) }()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, rawRequest(chat, "none", true)); err != nil {
		t.Fatal(err)
	}
	r, all := bufio.NewReader(conn), ""
	for !strings.Contains(all, `"delta":{"content":`) {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		all += line
	}
	cancel()
	rest, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`(?s)"finish_reason":"abort".*data: \[DONE\]\n\n\r\n0\r\n\r\n$`).Match(rest) {
		t.Errorf("the stream did not end in order: %s", rest)
	}
	if err := <-served; err != nil {
		t.Errorf("Serve: %v", err)
	}
}

func TestServeReportsItsListener(t *testing.T) {
	s, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := s.Serve(t.Context(), l); err == nil {
		t.Error("Serve on a closed listener returned no error")
	}
}

func TestWait(t *testing.T) {
	s := atOnce(t, Options{})
	e := s.truth.begin(time.Now())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Wait(ctx); err != context.Canceled {
		t.Errorf("Wait returned %v while a request is served, want context canceled", err)
	}
	done := make(chan error)
	go func() { done <- s.Wait(t.Context()) }()
	s.truth.end(e)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := s.Wait(ctx); err != nil {
		t.Errorf("Wait returned %v without requests", err)
	}
}

func FuzzRecordJSON(f *testing.F) {
	f.Add([]byte(`{"id":"a","received_ns":5,"writes":[[1,2,3]]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var r Record
		if r.UnmarshalJSON(data) != nil {
			t.Skip()
		}
		if _, err := r.MarshalJSON(); err != nil {
			t.Error(err)
		}
	})
}

func TestTruthOverHTTP(t *testing.T) {
	s := atOnce(t, Options{})
	ask(t.Context(), s, "a", 3, "none")
	ask(t.Context(), s, "b", 3, "none")
	want := s.Truth(time.Time{})
	for since, records := range map[string][]Record{
		"": want, fmt.Sprintf("?since=%d", want[1].Received.UnixNano()): want[1:],
	} {
		lines := json.NewDecoder(get(s, "GET", "/truth"+since).Body)
		var got []Record
		for lines.More() {
			var r Record
			if err := lines.Decode(&r); err != nil {
				t.Fatal(err)
			}
			got = append(got, r)
		}
		if diff := cmp.Diff(records, got); diff != "" {
			t.Errorf("GET /truth%s (-want +got):\n%s", since, diff)
		}
	}
	if code := get(s, "GET", "/truth?since=yesterday").Code; code != http.StatusBadRequest {
		t.Errorf("GET /truth?since=yesterday has status %d, want 400", code)
	}
	if code := get(s, "DELETE", "/truth").Code; code != http.StatusNoContent || len(s.Truth(time.Time{})) != 0 {
		t.Errorf("DELETE /truth has status %d and leaves %d records", code, len(s.Truth(time.Time{})))
	}
}

// get sends a request without a body.
func get(s *Server, method, path string) *httptest.ResponseRecorder {
	response := httptest.NewRecorder()
	s.ServeHTTP(response, httptest.NewRequest(method, path, nil))
	return response
}
