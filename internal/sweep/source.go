package sweep

import (
	"math/rand/v2"

	"github.com/inferprobe/inferprobe/internal/openai"
	"github.com/inferprobe/inferprobe/internal/probe"
	"github.com/inferprobe/inferprobe/internal/prompt"
)

// sampled is how many of a stage's prompts are kept to be encoded in full after it.
const sampled = 4

// source makes the request bodies of a cycle. It never calls the tokenizer: the pool's words are proven to be one token
// each, and a sample of what was sent is verified when the stage is over.
type source struct {
	encoder *openai.Encoder
	pool    *prompt.Pool
	words   *prompt.Generator
	prompts *prompt.Lengths
	outputs *prompt.Lengths
	shared  int // tokens at the start of all prompts

	rng    *rand.Rand
	made   int
	keeps  int // prompts for verify, 0 = none
	sample []sample
	length int                 // of the prompt being appended
	append func([]byte) []byte // appendPrompt, bound once
}

type sample struct {
	text   []byte
	tokens int
}

func newSource(encoder *openai.Encoder, pool *prompt.Pool, w probe.Workload, seed uint64) *source {
	s := &source{
		encoder: encoder,
		pool:    pool,
		words:   pool.Generator(seed),
		prompts: prompt.NewLengths(w.PromptTokens, seed),
		outputs: prompt.NewLengths(w.OutputTokens, seed+1),
		rng:     rand.New(rand.NewPCG(seed, seed)),
		keeps:   sampled,
	}
	s.shared = w.SharedPrefixTokens
	s.words.Share(s.shared)
	s.append = s.appendPrompt
	return s
}

// Next fills in the next request.
func (s *source) Next(req *probe.Request) {
	s.length = s.prompts.Next()
	req.PromptTokens, req.SharedTokens, req.OutputTokens = s.length, s.shared, s.outputs.Next()
	req.Body = s.encoder.Append(req.Body, s.append, req.OutputTokens)
}

func (s *source) appendPrompt(dst []byte) []byte {
	from := len(dst)
	dst = s.words.Append(dst, s.length)
	s.keep(dst[from:])
	return dst
}

// keep holds on to a uniform sample of the stage's prompts (algorithm R).
func (s *source) keep(text []byte) {
	if s.keeps == 0 {
		return
	}
	s.made++
	if len(s.sample) < s.keeps {
		s.sample = append(s.sample, sample{append([]byte(nil), text...), s.length})
		return
	}
	if i := s.rng.IntN(s.made); i < s.keeps {
		s.sample[i].text = append(s.sample[i].text[:0], text...)
		s.sample[i].tokens = s.length
	}
}

// verify encodes the kept prompts in full, forgets them, and returns the first that is not as long as it should be.
func (s *source) verify() error {
	var first error
	for _, p := range s.sample {
		if err := s.pool.Verify(string(p.text), p.tokens); err != nil && first == nil {
			first = err
		}
	}
	s.made, s.sample = 0, s.sample[:0]
	return first
}
