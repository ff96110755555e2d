package selfcheck

import (
	"context"

	"github.com/inferprobe/inferprobe/internal/prompt"
	"github.com/inferprobe/inferprobe/internal/tokenizer"
	"github.com/inferprobe/inferprobe/internal/tokenizer/demo"
)

// builtin hands out the word pool of the tokenizer that the binary carries, whatever is asked for.
type builtin struct{ pool *prompt.Pool }

func newBuiltin() (builtin, error) {
	json, err := demo.Tokenizer()
	if err != nil {
		return builtin{}, err
	}
	tok, err := tokenizer.FromBytes("builtin", json)
	if err != nil {
		return builtin{}, err
	}
	pool, err := prompt.NewPool(tok)
	return builtin{pool}, err
}

// Pool returns the one pool.
func (b builtin) Pool(context.Context, string) (*prompt.Pool, error) { return b.pool, nil }
