package sim

import (
	"fmt"
	"strings"
	"testing"
)

// words returns n words, none of which another call has.
func words(name string, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, " %s%d", name, i)
	}
	return b.String()[1:]
}

func TestPrefixCache(t *testing.T) {
	c := newPrefixCache()
	shared := words("a", 40)
	for i, step := range []struct {
		template int
		text     string
		want     int
	}{
		{0, shared + " " + words("b", 60), 0},
		{0, shared + " " + words("c", 60), 32},         // two whole blocks of the forty
		{0, shared + " " + words("b", 60), 96},         // six whole blocks of the hundred
		{0, words("d", 1) + " " + shared, 0},           // the same words, but not at the start
		{0, "a0 a1", 0},                                // less than a block
		{4, shared + " " + words("b", 60), 0},          // behind a template blocks hold other words
		{4, shared + " " + words("e", 60), 32},         // the template's four tokens and 28 of the forty
		{0, strings.ToUpper(shared), 0},                // other words
		{0, strings.ReplaceAll(shared, " ", "  "), 32}, // blanks are no words
	} {
		if got := c.take(step.template, step.text); got != step.want {
			t.Errorf("step %d: %d tokens from the cache instead of %d", i, got, step.want)
		}
	}
}

// What has not been used for long is forgotten, and memory stays bounded.
func TestPrefixCacheForgets(t *testing.T) {
	c := newPrefixCache()
	first := words("first", cacheBlock)
	c.take(0, first)
	for i := range 2*cacheBlocks + 1 {
		c.take(0, words(fmt.Sprint("p", i, "."), cacheBlock))
	}
	if got := c.take(0, first); got != 0 {
		t.Errorf("%d tokens are still there", got)
	}
	if n := len(c.recent) + len(c.older); n > 2*cacheBlocks {
		t.Errorf("%d blocks are kept", n)
	}
}

func TestNoPrefixCache(t *testing.T) {
	var off *prefixCache
	for range 2 {
		if got := off.take(0, words("a", 100)); got != 0 {
			t.Errorf("%d tokens from no cache", got)
		}
	}
}
