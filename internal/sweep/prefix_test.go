package sweep

import (
	"strings"
	"testing"

	"github.com/inferprobe/inferprobe/internal/probe"
	"github.com/inferprobe/inferprobe/internal/report"
	"github.com/inferprobe/inferprobe/internal/sim"
	"github.com/inferprobe/inferprobe/internal/sim/simtest"
)

// TestSharedPrefix measures a server with a prefix cache that prefills 1,000 tokens a second: prompts that share 448 of
// their 512 tokens wait for 64 or so, others for all.
func TestSharedPrefix(t *testing.T) {
	measure := func(shared int) *probe.Cycle {
		_, url := simtest.Start(t, sim.Options{PrefixCache: true, PrefillTokensPerSecond: 1000})
		target := targetAt(url, Plan{Profile: probe.ProfileSynchronous, MaxRequests: 4, MaxDuration: 30e9})
		sharing(shared, 512)(target)
		c := run(t.Context(), t, target, &observer{})
		if len(c.Stages) != 1 || c.Stages[0].Completed != 4 {
			t.Fatalf("stages %+v, failure %+v", c.Stages, c.Failure)
		}
		if has(&c.Stages[0], probe.FindingCachedPrompts) || has(&c.Stages[0], probe.FindingTokenMismatch) {
			t.Errorf("with %d shared tokens: %v", shared, c.Stages[0].Findings)
		}
		return c
	}
	unique, shared := measure(0), measure(448)
	if n := unique.Stages[0].CachedTokens; n != 0 {
		t.Errorf("unique prompts took %d tokens from the cache", n)
	}
	// Four tokens of the template and 444 of the prefix are 28 whole blocks. The calibration has put them there.
	if n := shared.Stages[0].CachedTokens; n != 4*448 {
		t.Errorf("four prompts took %d tokens from the cache instead of 4 × 448", n)
	}
	if first, all := shared.Stages[0].TimeToFirstToken.Min, unique.Stages[0].TimeToFirstToken.Min; first > all/2 {
		t.Errorf("the first token takes %g s with a cached prefix, %g s without", first, all)
	}
	for c, want := range map[*probe.Cycle][]string{
		shared: {"prompt_tokens=512,shared_prefix_tokens=448,", "the first 448 tokens of every prompt are the same; " +
			"the server took 86.2 % of all prompt tokens from its cache"}, // 448 of 520
		unique: {"prompt_tokens=512,generated_tokens"},
	} {
		var text strings.Builder
		if err := report.Text(&text, c, 400); err != nil {
			t.Fatal(err)
		}
		for _, part := range want {
			if !strings.Contains(text.String(), part) {
				t.Errorf("the report does not say %q:\n%s", part, text.String())
			}
		}
	}
}
