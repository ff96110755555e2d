package sweep

import (
	"context"
	"testing"
	"time"

	"github.com/inferprobe/inferprobe/internal/probe"
	"github.com/inferprobe/inferprobe/internal/prompt"
	"github.com/inferprobe/inferprobe/internal/prompt/prompttest"
	"github.com/inferprobe/inferprobe/internal/sim"
	"github.com/inferprobe/inferprobe/internal/sim/simtest"
)

// anyWordPools hands out the pool of a tokenizer that counts the simulator's answers as the simulator does.
type anyWordPools struct{}

func (anyWordPools) Pool(context.Context, string) (*prompt.Pool, error) {
	words := prompttest.NewWords()
	words.AnyWord = true
	return prompt.NewPool(words)
}

// TestCutOffAnswersCountInTokens: the server sends several tokens an event and no usage, and the end of the stage cuts
// off a quarter of the answers. What it has sent of these counts as much as what it has sent of the others.
func TestCutOffAnswersCountInTokens(t *testing.T) {
	const rate, length = 50, 256
	server, url := simtest.Start(t, sim.Options{
		Fixed:          &sim.FixedTiming{TimeToFirstToken: 5 * milli, InterTokenLatency: 2 * milli},
		TokensPerEvent: 8,
		Faults:         []sim.FaultRate{{Fault: "usage_missing", Probability: 1}},
	})
	target := targetAt(url, Plan{Profile: probe.ProfileConstant, RateList: []float64{rate}, MaxDuration: 2 * time.Second})
	target.Workload.OutputTokens = probe.Length{Mean: length}
	p, o := &purse{}, &observer{}
	c := Run(t.Context(), target, anyWordPools{}, spender{o, p}, discardLog())
	checkBooks(t, c, target, o)

	var asked int
	for _, r := range simtest.Truth(t, server) {
		asked += r.PromptTokens - sim.ChatTemplateTokens + r.OutputTokens
	}
	if spent := -p.left.Load(); float64(spent) < 0.95*float64(asked) || float64(spent) > 1.02*float64(asked) {
		t.Errorf("%d tokens spent, of which the endpoint has %d on record", spent, asked)
	}
	stage := &c.Stages[0]
	if stage.Incomplete < rate/4 {
		t.Fatalf("%d requests cut off, want many more", stage.Incomplete)
	}
	if got := stage.RequestsPerSecond; got < 0.95*rate || got > 1.05*rate {
		t.Errorf("%.2f requests/s, sent at %d: %v", got, rate, stage.Findings)
	}
	if got := stage.OutputTokensPerSecond; got < 0.95*rate*length || got > 1.05*rate*length {
		t.Errorf("%.0f tokens/s, want %d", got, rate*length)
	}
	if least := stage.Incomplete * length / 4; stage.IncompleteOutputTokens < least {
		t.Errorf("%d output tokens of %d answers that were cut off, want %d", stage.IncompleteOutputTokens, stage.Incomplete, least)
	}
}
