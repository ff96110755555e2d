// Package prompt makes emulated data: prompts of exactly as many tokens as asked for, every one unique from its start.
//
// A prompt is words with single spaces between them. A Pool proves once, when a tokenizer is loaded, which words are
// one token each whatever stands beside them. From then on a prompt of n tokens is n words, appended in microseconds
// without the tokenizer, as has to be during a measurement.
package prompt

import (
	"fmt"
	"iter"
	"strings"

	"github.com/inferprobe/inferprobe/internal/tokenizer"
)

// Tokenizer is what a pool asks of a tokenizer: *tokenizer.Tokenizer, or a stand-in in a test.
type Tokenizer interface {
	Name() string
	Encode(text string) ([]uint32, error)
	Pieces() iter.Seq[tokenizer.Piece]
}

// Sizes of a pool. Below the wanted ones a tokenizer has too few words and other pieces of text are taken too; below
// the least ones prompts would repeat themselves too much to be worth a measurement.
const (
	wantWords, wantStarts   = 256, 64
	leastWords, leastStarts = 64, 16
)

// uniquePrompts is how many prompts of a generator are distinct by construction, if they are long enough.
const uniquePrompts = 1 << 32

// Pool is the words that prompts of one tokenizer are made of. It is immutable and safe for concurrent use.
type Pool struct {
	tok    Tokenizer
	words  list // each with the space before it: one token behind any other word
	starts list // without a space: one token at the start of a text
	lead   int  // so many leading words make a prompt unique
	behind int  // likewise of those behind a prefix that prompts share
}

// NewPool finds and proves the words of a tokenizer. It takes a fraction of a second and fails, saying why, if the
// tokenizer has too few of them.
func NewPool(tok Tokenizer) (*Pool, error) {
	var found *proven
	for _, alphabet := range []alphabet{lowerCase, printable} {
		p := &prover{tok: tok, alphabet: alphabet}
		var err error
		if found, err = p.prove(); err != nil {
			return nil, fmt.Errorf("prompts cannot be made with tokenizer %s: %w", tok.Name(), err)
		}
		if len(found.words) >= wantWords && len(found.starts) >= wantStarts {
			break
		}
	}
	if len(found.words) < leastWords || len(found.starts) < leastStarts {
		return nil, fmt.Errorf("prompts cannot be made with tokenizer %s: only %d words are one token each and %d of them "+
			"at the start of a text; %d and %d are needed", tok.Name(), len(found.words), len(found.starts), leastWords,
			leastStarts)
	}
	pool := &Pool{tok: tok, lead: 1}
	for _, w := range found.words {
		pool.words.add(" " + w.text)
	}
	for _, w := range found.starts {
		pool.starts.add(w.text)
	}
	for n := uint64(pool.starts.len()); n < uniquePrompts; n *= uint64(pool.words.len()) {
		pool.lead++
	}
	for n := uint64(1); n < uniquePrompts; n *= uint64(pool.words.len()) {
		pool.behind++
	}
	return pool, nil
}

// Words returns the number of words, and how many of them can start a prompt.
func (p *Pool) Words() (words, starts int) { return p.words.len(), p.starts.len() }

// Verify encodes text as a whole and returns an error unless it has n tokens. It costs a few microseconds per token,
// so it has no place in a running stage.
func (p *Pool) Verify(text string, n int) error {
	ids, err := p.tok.Encode(text)
	if err != nil {
		return err
	}
	if len(ids) != n {
		return fmt.Errorf("a prompt of %d tokens has %d by tokenizer %s: %.60q", n, len(ids), p.tok.Name(), text)
	}
	return nil
}

// CountTokens returns how many tokens a text has. It costs a few microseconds per token.
func (p *Pool) CountTokens(text string) (int, error) {
	ids, err := p.tok.Encode(text)
	return len(ids), err
}

// list is many short texts laid out in one, which keeps them close together in memory.
type list struct {
	text strings.Builder
	ends []uint32 // ends[i] is where text i ends
}

func (l *list) add(s string) {
	l.text.WriteString(s)
	l.ends = append(l.ends, uint32(l.text.Len()))
}

func (l *list) len() int { return len(l.ends) }

func (l *list) append(dst []byte, i uint32) []byte {
	var start uint32
	if i > 0 {
		start = l.ends[i-1]
	}
	text, size := l.text.String()[start:], int(l.ends[i]-start)
	// Most texts are short. A fixed number of bytes, of which the first size count, is copied without a call.
	const piece = 16
	if end := len(dst); size <= piece && len(text) >= piece && cap(dst)-end >= piece {
		copy(dst[end:end+piece], text[:piece])
		return dst[:end+size]
	}
	return append(dst, text[:size]...)
}
