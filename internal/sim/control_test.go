package sim

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestEndpoints(t *testing.T) {
	s := atOnce(t, Options{Model: "llama", MaxModelLen: 4096, APIKey: "key"})
	var models struct {
		Data []struct {
			ID          string `json:"id"`
			OwnedBy     string `json:"owned_by"`
			MaxModelLen int    `json:"max_model_len"`
		}
	}
	request := httptest.NewRequest("GET", "/v1/models", nil)
	for _, key := range []string{"", "Bearer other", "Bearer keys", "key"} {
		request.Header.Set("Authorization", key)
		response := httptest.NewRecorder()
		s.ServeHTTP(response, request)
		if response.Code != http.StatusUnauthorized || response.Body.String() != `{"error":"Unauthorized"}` {
			t.Errorf("with Authorization %q: %d %s", key, response.Code, response.Body)
		}
	}
	if code := post(t, s, chat, `{"messages":[]}`).Code; code != http.StatusUnauthorized {
		t.Errorf("chat without the key has status %d, want 401", code)
	}
	request.Header.Set("Authorization", "Bearer key")
	response := httptest.NewRecorder()
	s.ServeHTTP(response, request)
	if err := json.Unmarshal(response.Body.Bytes(), &models); err != nil {
		t.Fatal(err)
	}
	if m := models.Data[0]; m.ID != "llama" || m.OwnedBy != "inferprobe-sim" || m.MaxModelLen != 4096 {
		t.Errorf("the model is %+v", m)
	}
	for path, want := range map[string]int{
		"/health": 200, "/version": 200, "/metrics": 200, "/nothing": 404, "/v1/chat/completions": 404,
	} {
		if code := get(s, "GET", path).Code; code != want {
			t.Errorf("GET %s has status %d, want %d", path, code, want)
		}
	}
	s.Close()
	if code := get(s, "GET", "/health").Code; code != 503 {
		t.Errorf("GET /health after Close has status %d, want 503", code)
	}
}

func TestMetrics(t *testing.T) {
	opts := Options{Slots: 2, MaxModelLen: 100, DecodeStep: 10 * ms, PrefillTokensPerSecond: 1000}
	inBubble(t, opts, func(t *testing.T, s *Server) {
		for range 3 {
			go ask(t.Context(), s, "", 4, "none")
			synctest.Wait()
		}
		ask(t.Context(), s, "", 1, "status=500")
		time.Sleep(45 * ms) // prompts of 10 tokens: the first sequence gets its first token at 20 ms, the second at 40
		want := map[string]string{
			`vllm:num_requests_running{engine="0",model_name="sim"}`:    "2",
			`vllm:num_requests_waiting{engine="0",model_name="sim"}`:    "1",
			`vllm:kv_cache_usage_perc{engine="0",model_name="sim"}`:     "0.115", // 10 + 2 and 10 + 1 of 200
			`vllm:generation_tokens_total{engine="0",model_name="sim"}`: "0",
		}
		checkMetrics(t, s, want)
		time.Sleep(time.Second)
		checkMetrics(t, s, map[string]string{
			`vllm:num_requests_running{engine="0",model_name="sim"}`:                           "0",
			`vllm:kv_cache_usage_perc{engine="0",model_name="sim"}`:                            "0",
			`vllm:prompt_tokens_total{engine="0",model_name="sim"}`:                            "30",
			`vllm:generation_tokens_total{engine="0",model_name="sim"}`:                        "12",
			`vllm:request_success_total{engine="0",finished_reason="length",model_name="sim"}`: "3",
		})
	})
}

func checkMetrics(t *testing.T, s *Server, want map[string]string) {
	t.Helper()
	got := map[string]string{}
	for line := range strings.Lines(get(s, "GET", "/metrics").Body.String()) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && want[name] != "" {
			got[name] = value
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
}

func TestControl(t *testing.T) {
	s := atOnce(t, Options{})
	var state faultState
	read := func(body io.Reader) {
		t.Helper()
		state = faultState{}
		if err := json.NewDecoder(body).Decode(&state); err != nil {
			t.Fatal(err)
		}
	}
	read(get(s, "GET", "/sim/faults").Body)
	if diff := cmp.Diff(Faults(), state.Known); diff != "" || len(state.Faults) != 0 {
		t.Errorf("faults at first: %v, and of the known ones (-want +got):\n%s", state.Faults, diff)
	}
	read(post(t, s, "/sim/faults", `{"faults":[{"fault":"status=500","probability":1}]}`).Body)
	if diff := cmp.Diff([]FaultRate{{"status=500", 1}}, state.Faults); diff != "" {
		t.Errorf("faults as set (-want +got):\n%s", diff)
	}
	if code := post(t, s, chat, `{"messages":[]}`).Code; code != 500 {
		t.Errorf("a request has status %d, want the fault's 500", code)
	}
	for path, body := range map[string]string{
		"/sim/faults":            `{"faults":[{"fault":"nonsense","probability":1}]}`,
		"/sim/slowdown":          "",
		"/sim/slowdown?factor=0": "",
		"/sim/freeze":            "",
		"/sim/freeze?for=-1s":    "",
		"/sim/users":             "",
		"/sim/users?n=-1":        "",
	} {
		response := post(t, s, path, body)
		if response.Code != 400 || !regexp.MustCompile(`POST /sim/|must be like`).Match(response.Body.Bytes()) {
			t.Errorf("POST %s: %d %s; want 400 and what would be right", path, response.Code, response.Body)
		}
	}
	if code := post(t, s, "/sim/faults", `{"fault":[]}`).Code; code != 400 {
		t.Errorf("an unknown field has status %d, want 400", code)
	}
	if code := post(t, s, "/sim/faults", `{"faults":[]}`).Code; code != 200 {
		t.Errorf("no faults has status %d, want 200", code)
	}
}

func TestControlOfTime(t *testing.T) {
	inBubble(t, Options{Fixed: fixed(60*ms, 10*ms)}, func(t *testing.T, s *Server) {
		if code := post(t, s, "/sim/slowdown?factor=2", "").Code; code != 204 {
			t.Errorf("slowdown has status %d, want 204", code)
		}
		if code := post(t, s, "/sim/freeze?for=1s", "").Code; code != 204 {
			t.Errorf("freeze has status %d, want 204", code)
		}
		ask(t.Context(), s, "a", 3, "none")
		wantTimes(t, recordOf(t, s, "a"), 1120*ms, 1140*ms, 1160*ms)
	})
}
