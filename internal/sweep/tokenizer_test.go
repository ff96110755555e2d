package sweep

import (
	"context"
	"fmt"
	"iter"
	"strings"
	"sync"
	"testing"

	"github.com/inferprobe/inferprobe/internal/prompt"
	"github.com/inferprobe/inferprobe/internal/tokenizer"
)

// wordTokenizer takes each of its words for a token, as the simulator does, and spells out any other.
type wordTokenizer struct {
	words []string // words, and each once more behind a space
	ids   map[string]uint32
}

func newWordTokenizer() *wordTokenizer {
	w := &wordTokenizer{ids: make(map[string]uint32)}
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

func (w *wordTokenizer) add(word string) {
	w.ids[word] = uint32(len(w.words))
	w.words = append(w.words, word)
}

func (w *wordTokenizer) Name() string { return "words" }

func (w *wordTokenizer) Pieces() iter.Seq[tokenizer.Piece] {
	return func(yield func(tokenizer.Piece) bool) {
		for id, word := range w.words {
			if !yield(tokenizer.Piece{ID: uint32(id), Text: word}) {
				return
			}
		}
	}
}

func (w *wordTokenizer) Encode(text string) ([]uint32, error) {
	var ids []uint32
	for i, word := range strings.Split(text, " ") {
		if i > 0 {
			word = "Ġ" + word
		}
		if id, ok := w.ids[word]; ok {
			ids = append(ids, id)
			continue
		}
		for _, c := range strings.Replace(word, "Ġ", " ", 1) {
			ids = append(ids, w.ids[string(c)])
		}
	}
	return ids, nil
}

var words = sync.OnceValues(func() (*prompt.Pool, error) { return prompt.NewPool(newWordTokenizer()) })

// wordPools hands out the pool of a wordTokenizer, whatever is asked for.
type wordPools struct{}

func (wordPools) Pool(context.Context, string) (*prompt.Pool, error) { return words() }

func wordPool(t testing.TB) *prompt.Pool {
	t.Helper()
	pool, err := words()
	if err != nil {
		t.Fatal(err)
	}
	return pool
}
