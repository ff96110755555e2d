package sim

import (
	"hash/maphash"
	"strings"
	"sync"
)

// Sizes of the prefix cache.
const (
	cacheBlock  = 16      // tokens, vLLM's default
	cacheBlocks = 1 << 16 // how many the cache forgets at once, when it holds twice as many
)

// prefixCache knows which beginnings of prompts have been prefilled, by blocks of tokens, as vLLM's automatic prefix
// caching does. Words separated by blanks stand for the tokens. A nil cache is off.
type prefixCache struct {
	seed maphash.Seed

	mu            sync.Mutex
	recent, older map[uint64]struct{} // a block by the hash of the prompt up to its end
}

func newPrefixCache() *prefixCache {
	return &prefixCache{seed: maphash.MakeSeed(), recent: make(map[uint64]struct{})}
}

// take puts a prompt into the cache and returns how many of its leading tokens were there. The text follows so many
// tokens of a template.
func (c *prefixCache) take(template int, text string) (cached int) {
	if c == nil {
		return 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var hash maphash.Hash
	hash.SetSeed(c.seed)
	tokens, hit := template, true
	for word := range strings.FieldsSeq(text) {
		_, _ = hash.WriteString(word)
		_ = hash.WriteByte(' ')
		if tokens++; tokens%cacheBlock != 0 {
			continue
		}
		if hit = c.know(hash.Sum64()) && hit; hit {
			cached = tokens
		}
	}
	return cached
}

// know reports whether a block is in the cache, and puts it there.
func (c *prefixCache) know(block uint64) bool {
	_, recent := c.recent[block]
	_, older := c.older[block]
	if !recent {
		if len(c.recent) == cacheBlocks {
			c.recent, c.older = make(map[uint64]struct{}), c.recent
		}
		c.recent[block] = struct{}{}
	}
	return recent || older
}
