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

// pools loads tokenizers and builds their word pools, each once. Tokenizers are fetched side by side, so that one that
// does not come delays only those who want it; they are built one at a time, which takes a second of CPU and some
// hundred megabytes for a big one. A failure is not kept, so that the next cycle tries again.
type pools struct {
	hub      *tokenizer.Hub
	log      *slog.Logger
	building gate

	mu       sync.Mutex
	byName   map[string]*prompt.Pool
	fetching map[string]*fetch // under way
}

// fetch is one attempt to get a pool.
type fetch struct {
	done    chan struct{}
	pool    *prompt.Pool
	err     error
	stopped bool // it says nothing: who made it was told to stop
}

func newPools(hub *tokenizer.Hub, log *slog.Logger) *pools {
	return &pools{
		hub: hub, log: log, building: newGate(1), byName: make(map[string]*prompt.Pool), fetching: make(map[string]*fetch),
	}
}

// Pool returns the word pool of the tokenizer that ref names. Those who want the same one share an attempt, unless that
// ends because the one who makes it is told to stop.
func (p *pools) Pool(ctx context.Context, ref string) (*prompt.Pool, error) {
	for {
		f, mine := p.join(ref)
		if mine {
			return p.attempt(ctx, ref, f)
		}
		select {
		case <-f.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if !f.stopped {
			return f.pool, f.err
		}
	}
}

// join returns the attempt that is under way or has succeeded, or a new one, which is then the caller's to make.
func (p *pools) join(ref string) (f *fetch, mine bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f = &fetch{done: make(chan struct{}), pool: p.byName[ref]}
	if f.pool != nil {
		close(f.done)
		return f, false
	}
	if other := p.fetching[ref]; other != nil {
		return other, false
	}
	p.fetching[ref] = f
	return f, true
}

func (p *pools) attempt(ctx context.Context, ref string, f *fetch) (*prompt.Pool, error) {
	defer p.leave(ref, f)
	f.err = errors.New("a fault of inferprobe ended the loading of the tokenizer; the log of another endpoint says more")
	pool, err := p.make(ctx, ref) // if it panics, those who wait get the error above
	f.pool, f.err, f.stopped = pool, err, err != nil && ctx.Err() != nil
	return pool, err
}

// leave tells those who wait for an attempt how it ended.
func (p *pools) leave(ref string, f *fetch) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if f.pool != nil {
		p.byName[ref] = f.pool
	}
	delete(p.fetching, ref)
	close(f.done)
}

func (p *pools) make(ctx context.Context, ref string) (*prompt.Pool, error) {
	started := time.Now()
	name, json, err := p.read(ctx, ref)
	if err != nil {
		return nil, p.withoutToken(err)
	}
	if !p.building.enter(ctx) {
		return nil, ctx.Err()
	}
	defer p.building.leave()
	tok, err := tokenizer.FromBytes(name, json)
	if err != nil {
		return nil, p.withoutToken(err)
	}
	pool, err := prompt.NewPool(tok)
	if err != nil {
		tok.Close()
		return nil, err
	}
	p.log.Info("tokenizer ready", "tokenizer", ref, "took", time.Since(started).Round(time.Millisecond))
	return pool, nil
}

func (p *pools) read(ctx context.Context, ref string) (name string, json []byte, err error) {
	if ref == DemoTokenizer {
		json, err = demo.Tokenizer()
		return ref, json, err
	}
	return tokenizer.Read(ctx, ref, p.hub)
}

// withoutToken returns err without the Hub's token, which a Hub, or a proxy in its place, may repeat in its answer. The
// text goes into reports.
func (p *pools) withoutToken(err error) error {
	if token := p.hub.Token; token != "" && strings.Contains(err.Error(), token) {
		return errors.New(strings.ReplaceAll(err.Error(), token, "[redacted]"))
	}
	return err
}
