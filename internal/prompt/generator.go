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
	starts := uint64(g.pool.starts.len())
	first := (g.first + g.count%starts*g.step) % starts
	dst = g.pool.starts.append(dst, uint32(first))

	// Prompts with the same first word are told apart by which they are among them, written in base len(words) by the
	// words that follow. The salt of the first word makes that look like any other prompt.
	words := &g.pool.words
	size := uint64(words.len())
	lead := min(n, g.pool.lead)
	salt := g.salt + first
	for rest, i := g.count/starts, 1; i < lead; i++ {
		salt = scramble(salt)
		dst = words.append(dst, uint32((rest%size+salt%size)%size))
		rest /= size
	}
	g.count++

	// One draw gives two words, each a 32-bit fraction of the list: uneven by at most size/2^32, which is nothing here.
	for i := lead; i < n; i += 2 {
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
