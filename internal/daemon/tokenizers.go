package daemon

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/inferprobe/inferprobe/internal/prompt"
	"github.com/inferprobe/inferprobe/internal/tokenizer"
	"github.com/inferprobe/inferprobe/internal/tokenizer/demo"
)

// DemoTokenizer is the reference of the tokenizer that the binary carries.
const DemoTokenizer = "builtin:demo"

// pools loads tokenizers and builds their word pools, each once and one at a time: a big tokenizer takes a second of CPU
// and some hundred megabytes. A failure is not kept, so that the next cycle tries again.
type pools struct {
	hub *tokenizer.Hub
	log *slog.Logger

	mu     sync.Mutex
	byName map[string]*prompt.Pool
}

func newPools(hub *tokenizer.Hub, log *slog.Logger) *pools {
	return &pools{hub: hub, log: log, byName: make(map[string]*prompt.Pool)}
}

// Pool returns the word pool of the tokenizer that ref names.
func (p *pools) Pool(ctx context.Context, ref string) (*prompt.Pool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if pool, ok := p.byName[ref]; ok {
		return pool, nil
	}
	started := time.Now()
	tok, err := p.load(ctx, ref)
	if err != nil {
		return nil, p.withoutToken(err)
	}
	pool, err := prompt.NewPool(tok)
	if err != nil {
		tok.Close()
		return nil, err
	}
	p.byName[ref] = pool
	p.log.Info("tokenizer ready", "tokenizer", ref, "took", time.Since(started).Round(time.Millisecond))
	return pool, nil
}

func (p *pools) load(ctx context.Context, ref string) (*tokenizer.Tokenizer, error) {
	if ref == DemoTokenizer {
		json, err := demo.Tokenizer()
		if err != nil {
			return nil, err
		}
		return tokenizer.FromBytes(ref, json)
	}
	return tokenizer.Load(ctx, ref, p.hub)
}

// withoutToken returns err without the Hub's token, which a Hub, or a proxy in its place, may repeat in its answer. The
// text goes into reports.
func (p *pools) withoutToken(err error) error {
	if token := p.hub.Token; token != "" && strings.Contains(err.Error(), token) {
		return errors.New(strings.ReplaceAll(err.Error(), token, "[redacted]"))
	}
	return err
}
