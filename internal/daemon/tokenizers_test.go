package daemon

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/inferprobe/inferprobe/internal/prompt/prompttest"
	"github.com/inferprobe/inferprobe/internal/tokenizer"
)

// silentHub takes requests and answers none, until it is told to refuse them.
type silentHub struct {
	mu     sync.Mutex
	asked  int
	refuse chan struct{}
}

func (h *silentHub) RoundTrip(r *http.Request) (*http.Response, error) {
	h.mu.Lock()
	h.asked++
	h.mu.Unlock()
	select {
	case <-h.refuse:
		return &http.Response{StatusCode: http.StatusNotFound, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}

func silentPools(t *testing.T) (*pools, *silentHub) {
	hub := &silentHub{refuse: make(chan struct{})}
	p := newPools(&tokenizer.Hub{Transport: hub, MetadataTimeout: time.Hour}, slog.New(slog.DiscardHandler))
	p.byName[tokenizerOfWords] = prompttest.Pool(t, prompttest.NewWords())
	return p, hub
}

// Of endpoints with three tokenizers two do not wait for the one whose tokenizer does not come.
func TestTokenizersDoNotWaitForEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, hub := silentPools(t)
		var waiting sync.WaitGroup
		ctx, stop := context.WithCancel(t.Context())
		waiting.Go(func() {
			if _, err := p.Pool(ctx, "org/never"); err == nil {
				t.Error("a tokenizer that never came is there")
			}
		})
		synctest.Wait()
		if pool, err := p.Pool(t.Context(), tokenizerOfWords); pool == nil || err != nil {
			t.Errorf("the one that is there: %v", err)
		}
		if _, err := p.Pool(t.Context(), t.TempDir()); err == nil || !strings.Contains(err.Error(), "tokenizer.json") {
			t.Errorf("a folder without a tokenizer: %v", err)
		}
		stop()
		waiting.Wait()
		if hub.asked != 1 {
			t.Errorf("the hub was asked %d times", hub.asked)
		}
	})
}

// Those who want the same tokenizer share an attempt, and one who is told to stop leaves it to the others.
func TestTokenizerIsFetchedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, hub := silentPools(t)
		first, stopFirst := context.WithCancel(t.Context())
		hasty, stopHasty := context.WithCancel(t.Context())
		var waiting sync.WaitGroup
		ask := func(ctx context.Context, want string) {
			waiting.Go(func() {
				if _, err := p.Pool(ctx, "org/shared"); err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("error %v, want %s", err, want)
				}
			})
			synctest.Wait()
		}
		ask(first, "cancel")
		ask(hasty, "cancel")
		for range 3 {
			ask(t.Context(), "answers")
		}
		stopHasty()
		stopFirst()
		synctest.Wait()
		if hub.asked != 2 {
			t.Errorf("the hub was asked %d times, want once, and once more by one of those who wait on", hub.asked)
		}
		close(hub.refuse)
		waiting.Wait()
		if hub.asked != 2 {
			t.Errorf("the hub was asked %d times, want as often", hub.asked)
		}
	})
}
