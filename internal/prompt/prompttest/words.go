// Package prompttest makes prompts for tests, without a tokenizer of a real model.
package prompttest

import (
	"fmt"
	"iter"
	"strings"
	"testing"

	"github.com/inferprobe/inferprobe/internal/prompt"
	"github.com/inferprobe/inferprobe/internal/tokenizer"
)

// Words is a tokenizer that takes each of its 300 words for one token, as the simulator does, and spells out any other.
type Words struct {
	// Encoding, where set, is called before each text is encoded.
	Encoding func()
	// AnyWord makes it take any other word for one token, too, as the simulator counts what it says.
	AnyWord bool

	pieces []string // words, and each once more behind a space
	ids    map[string]uint32
}

// NewWords returns a Words.
func NewWords() *Words {
	w := &Words{ids: make(map[string]uint32)}
	for c := range byte(128) {
		w.add(string(c))
	}
	for i := range 300 {
		word := fmt.Sprintf("w%c%c", 'a'+i/26, 'a'+i%26)
		w.add(word)
		w.add("Ġ" + word)
	}
	return w
}

func (w *Words) add(piece string) {
	w.ids[piece] = uint32(len(w.pieces))
	w.pieces = append(w.pieces, piece)
}

// Forget makes every word be spelled out from now on.
func (w *Words) Forget() { clear(w.ids) }

// Name returns "words".
func (w *Words) Name() string { return "words" }

// Pieces yields the vocabulary.
func (w *Words) Pieces() iter.Seq[tokenizer.Piece] {
	return func(yield func(tokenizer.Piece) bool) {
		for id, piece := range w.pieces {
			if !yield(tokenizer.Piece{ID: uint32(id), Text: piece}) {
				return
			}
		}
	}
}

// Encode returns the ids of a text. It never fails.
func (w *Words) Encode(text string) ([]uint32, error) {
	if w.Encoding != nil {
		w.Encoding()
	}
	var ids []uint32
	for i, word := range strings.Split(text, " ") {
		if i > 0 {
			word = "Ġ" + word
		}
		if id, ok := w.ids[word]; ok {
			ids = append(ids, id)
			continue
		}
		if w.AnyWord {
			ids = append(ids, 0)
			continue
		}
		for _, c := range strings.Replace(word, "Ġ", " ", 1) {
			ids = append(ids, w.ids[string(c)])
		}
	}
	return ids, nil
}

// Pool returns the pool of a tokenizer.
func Pool(tb testing.TB, tok prompt.Tokenizer) *prompt.Pool {
	tb.Helper()
	pool, err := prompt.NewPool(tok)
	if err != nil {
		tb.Fatal(err)
	}
	return pool
}
