package sim

import (
	"testing"
	"time"
)

// TestUsers: others take slots and make everybody slower, until there are none any more.
func TestUsers(t *testing.T) {
	opts := Options{Slots: 3, DecodeStep: 10 * ms, PrefillTokensPerSecond: 1e6}
	inBubble(t, opts, func(t *testing.T, s *Server) {
		load := func(running, waiting string) {
			t.Helper()
			checkMetrics(t, s, map[string]string{
				`vllm:num_requests_running{engine="0",model_name="sim"}`: running,
				`vllm:num_requests_waiting{engine="0",model_name="sim"}`: waiting,
			})
		}
		if code := post(t, s, "/sim/users?n=5", "").Code; code != 204 {
			t.Errorf("users have status %d, want 204", code)
		}
		time.Sleep(10 * time.Second) // several answers
		load("3", "2")
		if err := s.SetUsers(1); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Second)
		load("1", "0")
		ask(t.Context(), s, "a", 3, "none")
		if n := len(s.Truth(time.Time{})); n != 1 {
			t.Errorf("%d records, want ours only", n)
		}
		if err := s.SetUsers(0); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Second)
		load("0", "0")
		s.SetUsers(4) // are gone with the server
	})
}

func TestUsersThatCannotBe(t *testing.T) {
	timed, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer timed.Close()
	for name, err := range map[string]error{
		"negative": timed.SetUsers(-1), "too many": timed.SetUsers(mostUsers + 1), "at once": atOnce(t, Options{}).SetUsers(1),
	} {
		if err == nil {
			t.Errorf("%s: were taken", name)
		}
	}
	timed.Close()
	if err := timed.SetUsers(3); err != nil { // of no effect
		t.Error(err)
	}
}
