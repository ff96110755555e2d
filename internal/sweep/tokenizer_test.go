package sweep

import (
	"context"
	"sync"
	"testing"

	"github.com/inferprobe/inferprobe/internal/prompt"
	"github.com/inferprobe/inferprobe/internal/prompt/prompttest"
)

var words = sync.OnceValues(func() (*prompt.Pool, error) { return prompt.NewPool(prompttest.NewWords()) })

// wordPools hands out the pool of a tokenizer of words, whatever is asked for.
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
