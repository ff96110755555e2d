package sweep

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/inferprobe/inferprobe/internal/openai"
	"github.com/inferprobe/inferprobe/internal/probe"
)

// TestPatiently: who is asked again, how often and after how long.
func TestPatiently(t *testing.T) {
	trouble := func(reason probe.Reason, after time.Duration) error {
		return &openai.Error{Reason: reason, RetryAfter: after}
	}
	stopped := errors.New("told to stop")
	busy, overrun := trouble(probe.ReasonRateLimited, 0), trouble(probe.ReasonRateLimited, time.Hour)
	loading := trouble(probe.ReasonHTTP5xx, 3*time.Second)
	refused, unheard := trouble(probe.ReasonHTTP4xx, time.Second), trouble(probe.ReasonConnect, 0)
	for name, test := range map[string]struct {
		answers []error
		stop    time.Duration // 0 = never
		asked   int
		took    time.Duration
		err     error
	}{
		"all is well":           {answers: []error{nil}, asked: 1},
		"busy for a moment":     {answers: []error{busy, nil}, asked: 2, took: time.Second},
		"busy for two":          {answers: []error{busy, busy, nil}, asked: 3, took: 2 * time.Second},
		"busy for good":         {answers: []error{busy, busy, busy, nil}, asked: 3, took: 2 * time.Second, err: busy},
		"still loading":         {answers: []error{loading, nil}, asked: 2, took: 3 * time.Second},
		"busy for an hour":      {answers: []error{overrun, nil}, asked: 2, took: 10 * time.Second},
		"the connection is cut": {answers: []error{trouble(probe.ReasonReset, 0), nil}, asked: 2, took: time.Second},
		"refused":               {answers: []error{refused, nil}, asked: 1, err: refused},
		"nobody listens":        {answers: []error{unheard, nil}, asked: 1, err: unheard},
		"told to stop meanwhile": {
			answers: []error{busy, nil}, stop: 300 * milli, asked: 1, took: 300 * milli, err: stopped,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				if test.stop > 0 {
					time.AfterFunc(test.stop, func() { cancel(stopped) })
				}
				started, asked := time.Now(), 0
				err := patiently(ctx, func() error { asked++; return test.answers[asked-1] })
				if fmt.Sprintf("%#v", err) != fmt.Sprintf("%#v", test.err) {
					t.Errorf("%v, want %v", err, test.err)
				}
				if took := time.Since(started); asked != test.asked || took != test.took {
					t.Errorf("asked %d times in %v, want %d in %v", asked, took, test.asked, test.took)
				}
			})
		})
	}
}

// TestCalibratesABusyServer: one that is busy for a moment is measured, without what it has refused before.
func TestCalibratesABusyServer(t *testing.T) {
	for busy, good := range map[int64]bool{1: true, 2: true, 3: false} {
		var asked atomic.Int64
		mux := http.NewServeMux()
		mux.HandleFunc("GET /v1/models", func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, `{"data":[{"id":"m","owned_by":"vllm"}]}`)
		})
		mux.HandleFunc("POST /v1/chat/completions", func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			switch n := asked.Add(1); {
			case n == 1 != strings.Contains(string(body), "ignore_eos"):
				t.Errorf("request %d: %s", n, body)
			case n == 1:
				http.Error(w, "no ignore_eos here", http.StatusBadRequest)
			case n <= 1+busy:
				w.Header().Set("Retry-After-Ms", "10")
				w.WriteHeader(http.StatusTooManyRequests)
			default:
				answerWhole(w, r)
			}
		})
		target := targetAt(strings.TrimSuffix(serveEach(t, mux.ServeHTTP), "/v1"), Plan{})
		target.Dialect = openai.DialectVLLM
		c := newCycle(target, new(observer), discardLog())
		if ready := c.prepare(t.Context(), wordPools{}); ready != good {
			t.Errorf("busy for %d requests: ready %v, %v", busy, ready, c.Failure)
		}
		c.close()
		if !good && (c.Failure == nil || c.Failure.Reason != string(probe.ReasonRateLimited)) {
			t.Errorf("busy for %d requests: %+v", busy, c.Failure)
		}
		want := 1 + busy
		if good {
			want += 2 // a request for each of two lengths
		}
		if n := asked.Load(); n != want {
			t.Errorf("busy for %d requests: %d were sent, want %d", busy, n, want)
		}
	}
}
