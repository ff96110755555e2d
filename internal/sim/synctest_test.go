package sim

import (
	"context"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// inBubble runs f in synthetic time with a running server: times are exact and nothing waits.
func inBubble(t *testing.T, opts Options, f func(t *testing.T, s *Server)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s, err := newServer(opts, newTimerAlarm)
		if err != nil {
			t.Fatal(err)
		}
		ran := make(chan error)
		go func() { ran <- s.Run(t.Context()) }()
		f(t, s)
		s.Close()
		if err := <-ran; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

// ask sends a streamed chat request that wants n tokens, and returns the answer when it is complete.
func ask(ctx context.Context, s *Server, id string, n int, fault string) *httptest.ResponseRecorder {
	body := fmt.Sprintf(`{"messages":[{"role":"user","content":"one two"}],"stream":true,`+
		`"stream_options":{"include_usage":true},"max_tokens":%d,"ignore_eos":true}`, n)
	request := httptest.NewRequestWithContext(ctx, "POST", "/v1/chat/completions", strings.NewReader(body))
	request.Header.Set("X-Request-Id", id)
	request.Header.Set(FaultHeader, fault)
	response := httptest.NewRecorder()
	s.ServeHTTP(response, request)
	return response
}

// recordOf returns the record of request id.
func recordOf(t *testing.T, s *Server, id string) Record {
	t.Helper()
	for _, r := range s.Truth(time.Time{}) {
		if r.RequestID == id {
			return r
		}
	}
	t.Fatalf("no record of request %s", id)
	return Record{}
}

// tokenTimes are the times of the writes that held tokens, since the request was received.
func tokenTimes(r Record) []time.Duration {
	var times []time.Duration
	for _, w := range r.Writes {
		if w.Tokens > 0 {
			times = append(times, w.Before.Sub(r.Received))
		}
	}
	return times
}

func wantTimes(t *testing.T, r Record, times ...time.Duration) {
	t.Helper()
	if diff := cmp.Diff(times, tokenTimes(r)); diff != "" {
		t.Errorf("writes with tokens of %s (-want +got):\n%s", r.RequestID, diff)
	}
}

func fixed(ttft, itl time.Duration) *FixedTiming { return &FixedTiming{ttft, itl} }

func TestFixedTimes(t *testing.T) {
	inBubble(t, Options{Fixed: fixed(60*ms, 9*ms)}, func(t *testing.T, s *Server) {
		response := ask(t.Context(), s, "a", 128, "none")
		wantTimes(t, recordOf(t, s, "a"), every(60*ms, 9*ms, 128)...)
		if n := strings.Count(response.Body.String(), `"delta":{"content":`); n != 128 {
			t.Errorf("the answer has %d token events, want 128", n)
		}
	})
}

func TestAtOnce(t *testing.T) {
	inBubble(t, Options{Fixed: fixed(0, 0)}, func(t *testing.T, s *Server) {
		response := ask(t.Context(), s, "a", 128, "none")
		r := recordOf(t, s, "a")
		if len(r.Writes) != 1 || r.Writes[0].Tokens != 128 || r.OutputTokens != 128 {
			t.Errorf("got %d writes, first with %d tokens; want one with 128", len(r.Writes), r.Writes[0].Tokens)
		}
		if n := strings.Count(response.Body.String(), `"delta":{"content":`); n != 128 {
			t.Errorf("the answer has %d token events, want 128", n)
		}
	})
}

func TestTokensPerEvent(t *testing.T) {
	inBubble(t, Options{Fixed: fixed(60*ms, 9*ms), TokensPerEvent: 4}, func(t *testing.T, s *Server) {
		ask(t.Context(), s, "a", 24, "none")
		r := recordOf(t, s, "a")
		// As vLLM with stream_interval 4: the first token at once, the rest when it is there.
		wantTimes(t, r, 60*ms, 96*ms, 132*ms, 168*ms, 204*ms, 240*ms, 267*ms)
		var tokens []int
		for _, w := range r.Writes {
			tokens = append(tokens, w.Tokens)
		}
		if diff := cmp.Diff([]int{0, 1, 4, 4, 4, 4, 4, 3, 0}, tokens); diff != "" {
			t.Errorf("tokens per write (-want +got):\n%s", diff)
		}
	})
}

func TestBatchingOverHTTP(t *testing.T) {
	opts := Options{Slots: 1, DecodeStep: 10 * ms, PrefillTokensPerSecond: 1000, PrefillChunk: 100}
	inBubble(t, opts, func(t *testing.T, s *Server) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			ask(t.Context(), s, "first", 3, "none")
		}()
		synctest.Wait()
		ask(t.Context(), s, "second", 2, "none")
		<-done
		// A prompt has 10 tokens: two words and the chat template.
		wantTimes(t, recordOf(t, s, "first"), 20*ms, 30*ms, 40*ms)
		wantTimes(t, recordOf(t, s, "second"), 60*ms, 70*ms)
	})
}

func TestDisconnectFreesTheSlotAtOnce(t *testing.T) {
	opts := Options{Slots: 1, DecodeStep: 10 * ms, PrefillTokensPerSecond: 1000, PrefillChunk: 100}
	inBubble(t, opts, func(t *testing.T, s *Server) {
		ctx, cancel := context.WithTimeout(t.Context(), 35*ms)
		defer cancel()
		go ask(ctx, s, "gone", 1000, "none")
		synctest.Wait()
		ask(t.Context(), s, "next", 1, "none")
		gone := recordOf(t, s, "gone")
		wantTimes(t, gone, 20*ms, 30*ms)
		if gone.Outcome != OutcomeDisconnected {
			t.Errorf("outcome is %q, want %q", gone.Outcome, OutcomeDisconnected)
		}
		wantTimes(t, recordOf(t, s, "next"), 60*ms) // the step that runs at 35 ms ends at 40
	})
}

func TestFreezeAndSlowdown(t *testing.T) {
	inBubble(t, Options{Fixed: fixed(60*ms, 10*ms)}, func(t *testing.T, s *Server) {
		go func() {
			time.Sleep(65 * ms)
			s.Freeze(2 * time.Second)
			if err := s.SetSlowdown(3); err != nil {
				t.Error(err)
			}
		}()
		ask(t.Context(), s, "a", 4, "none")
		wantTimes(t, recordOf(t, s, "a"), 60*ms, 2070*ms, 2100*ms, 2130*ms)
		if err := s.SetSlowdown(0); err == nil {
			t.Error("a slowdown of 0 was taken")
		}
	})
}

func TestCloseAbortsStreamsInOrder(t *testing.T) {
	inBubble(t, Options{Fixed: fixed(60*ms, 10*ms)}, func(t *testing.T, s *Server) {
		time.AfterFunc(85*ms, func() { s.Close() })
		response := ask(t.Context(), s, "a", 600, "none")
		r := recordOf(t, s, "a")
		if r.Outcome != OutcomeAborted || r.FinishReason != "abort" || r.OutputTokens != 3 {
			t.Errorf("got %q, %q and %d tokens; want aborted, abort and 3", r.Outcome, r.FinishReason, r.OutputTokens)
		}
		body := response.Body.String()
		for _, want := range []string{`"finish_reason":"abort"`, `"completion_tokens":3,`, "data: [DONE]\n\n"} {
			if !strings.Contains(body, want) {
				t.Errorf("the stream does not hold %s:\n%s", want, body)
			}
		}
		if late := ask(t.Context(), s, "b", 1, "none"); late.Code != 503 {
			t.Errorf("a request after Close got status %d, want 503", late.Code)
		}
	})
}

func TestRunEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := newServer(Options{}, newTimerAlarm)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := s.Run(ctx); err != nil {
			t.Error(err)
		}
		if response := ask(t.Context(), s, "a", 1, "none"); response.Code != 503 {
			t.Errorf("status after Run is %d, want 503", response.Code)
		}
	})
}

func TestCommentsAndHangs(t *testing.T) {
	opts := Options{Fixed: fixed(60*ms, 9*ms)}
	inBubble(t, opts, func(t *testing.T, s *Server) {
		response := ask(t.Context(), s, "a", 5, "comments=25ms")
		wantTimes(t, recordOf(t, s, "a"), every(60*ms, 9*ms, 5)...)
		body := response.Body.String()
		if n := strings.Count(body, ": keep-alive\n\n"); n != 3 { // at 25, 50 and 75 ms
			t.Errorf("the answer has %d comments, want 3:\n%s", n, body)
		}
		if !strings.HasPrefix(body, ": keep-alive\n\n: keep-alive\n\ndata: ") {
			t.Errorf("the answer does not start with two comments:\n%s", body)
		}
	})
	inBubble(t, opts, func(t *testing.T, s *Server) {
		ask(t.Context(), s, "a", 2, "slow_headers=1s")
		wantTimes(t, recordOf(t, s, "a"), 1000*ms, 1000*ms) // the tokens were due long before
	})
	inBubble(t, opts, func(t *testing.T, s *Server) {
		ask(t.Context(), s, "a", 2, "early_role")
		r := recordOf(t, s, "a")
		if got := r.Writes[0].Before.Sub(r.Received); got != 0 || r.Writes[0].Tokens != 0 {
			t.Errorf("the role event came after %v, want at once", got)
		}
		wantTimes(t, r, 60*ms, 69*ms)
	})
}

func TestCachedTokensNeedNoPrefill(t *testing.T) {
	opts := Options{DecodeStep: 10 * ms, PrefillTokensPerSecond: 1000}
	inBubble(t, opts, func(t *testing.T, s *Server) {
		response := ask(t.Context(), s, "a", 1, "cached_tokens=8")
		wantTimes(t, recordOf(t, s, "a"), 12*ms)
		if want := `"prompt_tokens_details":{"cached_tokens":8}`; !strings.Contains(response.Body.String(), want) {
			t.Errorf("usage does not hold %s:\n%s", want, response.Body)
		}
	})
}

func TestEarlyStop(t *testing.T) {
	inBubble(t, Options{Fixed: fixed(0, 0), EarlyStop: 1}, func(t *testing.T, s *Server) {
		for i := range 50 {
			id := fmt.Sprint(i)
			request := httptest.NewRequest("POST", completions, strings.NewReader(`{"prompt":"a b","max_tokens":9}`))
			request.Header.Set("X-Request-Id", id)
			s.ServeHTTP(httptest.NewRecorder(), request)
			if r := recordOf(t, s, id); r.FinishReason != "stop" || r.OutputTokens < 1 || r.OutputTokens > 8 {
				t.Fatalf("got %d tokens and %q, want 1…8 and stop", r.OutputTokens, r.FinishReason)
			}
		}
		ask(t.Context(), s, "whole", 9, "none")
		if r := recordOf(t, s, "whole"); r.OutputTokens != 9 || r.FinishReason != "length" {
			t.Errorf("with ignore_eos: %d tokens and %q, want 9 and length", r.OutputTokens, r.FinishReason)
		}
	})
}

func TestFaultsAtRandom(t *testing.T) {
	opts := Options{Fixed: fixed(0, 0), Seed: 7, Faults: []FaultRate{{"short", 0.1}, {"no_done", 0.2}}}
	fates := func() (list []string) {
		inBubble(t, opts, func(t *testing.T, s *Server) {
			for range 1000 {
				ask(t.Context(), s, "", 8, "")
			}
			ask(t.Context(), s, "", 8, "none")
			for _, r := range s.Truth(time.Time{}) {
				list = append(list, r.Fault)
			}
		})
		return list
	}
	first := fates()
	counts := map[string]int{}
	for _, f := range first {
		counts[f]++
	}
	if s, d := counts["short"], counts["no_done"]; s < 70 || s > 130 || d < 150 || d > 250 {
		t.Errorf("of 1000 requests %d are short and %d without [DONE], want about 100 and 200", s, d)
	}
	if diff := cmp.Diff(first, fates()); diff != "" {
		t.Error("the same seed gave other faults")
	}
}
