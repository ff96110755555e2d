package sweep

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/inferprobe/inferprobe/internal/openai"
	"github.com/inferprobe/inferprobe/internal/probe"
	"github.com/inferprobe/inferprobe/internal/prompt/prompttest"
)

func newTestSource(t *testing.T, tok *prompttest.Words) *source {
	t.Helper()
	w := probe.Workload{
		API: "chat", PromptTokens: probe.Length{Mean: 20, Min: 10, Max: 30},
		OutputTokens: probe.Length{Mean: 8, Min: 4, Max: 12},
	}
	encoder := openai.NewEncoder(openai.APIChat, openai.DialectGeneric, "model", "")
	return newSource(encoder, prompttest.Pool(t, tok), w, 1)
}

// TestSourceMakesWhatItSays: bodies are JSON of the lengths that the request tells, each with another prompt.
func TestSourceMakesWhatItSays(t *testing.T) {
	s := newTestSource(t, prompttest.NewWords())
	seen := make(map[string]bool)
	var shortest, longest = 1 << 20, 0
	for range 500 {
		var req probe.Request
		s.Next(&req)
		var body struct {
			Messages  []struct{ Content string }
			MaxTokens int `json:"max_tokens"`
		}
		if err := json.Unmarshal(req.Body, &body); err != nil {
			t.Fatalf("%v: %s", err, req.Body)
		}
		prompt := body.Messages[0].Content
		if n := len(strings.Fields(prompt)); n != req.PromptTokens || body.MaxTokens != req.OutputTokens {
			t.Errorf("%d and %d tokens, said to be %d and %d", n, body.MaxTokens, req.PromptTokens, req.OutputTokens)
		}
		if seen[prompt] {
			t.Errorf("twice: %s", prompt)
		}
		seen[prompt] = true
		shortest, longest = min(shortest, req.PromptTokens), max(longest, req.PromptTokens)
	}
	if shortest != 10 || longest != 30 {
		t.Errorf("prompts of %d to %d tokens, want 10 to 30", shortest, longest)
	}
}

// TestSourceVerifiesASample of each stage: of all of it, and of nothing before it.
func TestSourceVerifiesASample(t *testing.T) {
	tok := prompttest.NewWords()
	s := newTestSource(t, tok)
	next := func(n int) {
		for range n {
			var req probe.Request
			s.Next(&req)
		}
	}
	next(sampled)
	first := make(map[string]bool)
	for _, kept := range s.sample {
		first[string(kept.text)] = true
	}
	next(1000)
	var early int
	for _, kept := range s.sample {
		if first[string(kept.text)] {
			early++
		}
	}
	if len(s.sample) != sampled || early == sampled {
		t.Errorf("%d are kept, %d of them among the first", len(s.sample), early)
	}
	if err := s.verify(); err != nil || len(s.sample) != 0 {
		t.Errorf("%v, %d still kept", err, len(s.sample))
	}
	next(1)
	if len(s.sample) != 1 {
		t.Errorf("%d kept of a new stage of one", len(s.sample))
	}
	tok.Forget()
	if s.verify() == nil {
		t.Error("a prompt that is not as long as it should be passes")
	}
	if err := s.verify(); err != nil {
		t.Errorf("what was verified is verified again: %v", err)
	}
}
