package prompt

import "math/rand/v2"

// Generator makes the prompts of one cycle. It is not safe for concurrent use.
type Generator struct {
	pool   *Pool
	random *rand.PCG
	first  uint64 // start words come as first, first + step, … modulo their number, with which step has no divisor in
	step   uint64 // common: each once before one comes again, and no list of them for each generator
	salt   uint64
	count  uint64 // prompts made
	prefix []byte // what prompts begin with that are longer than shared tokens
	shared int
}

// Generator returns a generator of its own sequence of prompts: the same one for the same seed. Its first prompts have
// pairwise different first tokens, for as long as the pool has start words; with the words that follow, the first 2^32
// prompts have pairwise different beginnings of a few tokens (two with a large vocabulary, up to six with the smallest
// pool), so that none is another's prefix in a cache by blocks. Prompts shorter than that repeat once they must.
func (p *Pool) Generator(seed uint64) *Generator {
	g := &Generator{pool: p, random: rand.NewPCG(seed, scramble(seed)), salt: scramble(^seed)}
	starts := uint64(p.starts.len())
	g.first, g.step = g.random.Uint64()%starts, g.random.Uint64()%starts
	for divisor(g.step, starts) != 1 {
		g.step = (g.step + 1) % starts
	}
	return g
}

// Share makes every further prompt of more than n tokens begin with the same n, drawn from the seed, as the requests
// under one system prompt do. What follows them is unique from its own first tokens. Shorter prompts share nothing.
func (g *Generator) Share(n int) {
	g.shared = 0
	g.prefix = g.Append(nil, n)
	g.shared = max(n, 0)
}

// divisor returns the greatest common divisor of a and b.
func divisor(a, b uint64) uint64 {
	for b > 0 {
		a, b = b, a%b
	}
	return a
}

// Append appends the next prompt of exactly n tokens to dst and returns the result. It holds nothing that a JSON
// string would have to escape, and allocates nothing where dst has room. With n < 1 it appends nothing.
func (g *Generator) Append(dst []byte, n int) []byte {
	if n < 1 {
		return dst
	}
	var lead int
	if g.shared > 0 && n > g.shared {
		dst = append(dst, g.prefix...)
		n -= g.shared
		lead = min(n, g.pool.behind)
		dst = g.number(dst, g.count, g.salt, lead)
	} else {
		starts := uint64(g.pool.starts.len())
		first := (g.first + g.count%starts*g.step) % starts
		dst = g.pool.starts.append(dst, uint32(first))
		lead = min(n, g.pool.lead)
		dst = g.number(dst, g.count/starts, g.salt+first, lead-1) // among the prompts with the same first word
	}
	g.count++
	return g.fill(dst, n-lead)
}

// number appends n words that tell a prompt from others: which of them it is, written in base len(words). The salt makes
// that look like any other prompt.
func (g *Generator) number(dst []byte, which, salt uint64, n int) []byte {
	words := &g.pool.words
	size := uint64(words.len())
	for range n {
		salt = scramble(salt)
		dst = words.append(dst, uint32((which%size+salt%size)%size))
		which /= size
	}
	return dst
}

// fill appends n words at random. One draw gives two, each a 32-bit fraction of the list: uneven by at most size/2^32,
// which is nothing here.
func (g *Generator) fill(dst []byte, n int) []byte {
	words := &g.pool.words
	size := uint64(words.len())
	for i := 0; i < n; i += 2 {
		draw := g.random.Uint64()
		dst = words.append(dst, uint32((draw>>32)*size>>32))
		if i+1 < n {
			dst = words.append(dst, uint32((draw&(1<<32-1))*size>>32))
		}
	}
	return dst
}

// scramble is the output function of SplitMix64 (Steele, Lea and Flood, 2014): neighbouring seeds become unrelated.
func scramble(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
