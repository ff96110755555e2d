package openai

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestWatch(t *testing.T) {
	opts := Options{FirstTokenTimeout: 10 * time.Second, IdleTimeout: 2 * time.Second, TotalTimeout: 30 * time.Second}
	for _, test := range []struct {
		name   string
		tokens []time.Duration // when they come
		end    time.Duration   // when the answer ends, 0 = never
		cause  error
		after  time.Duration
	}{
		{"no token", nil, 0, errFirstToken, 10 * time.Second},
		{"one token", []time.Duration{time.Second}, 0, errIdle, 3 * time.Second},
		{"late first token", []time.Duration{9 * time.Second}, 0, errIdle, 11 * time.Second},
		{"some tokens", []time.Duration{time.Second, 2500 * time.Millisecond, 4 * time.Second}, 0, errIdle, 6 * time.Second},
		{"tokens for ever", everySecond(40), 0, errTotal, 30 * time.Second},
		{"no end", []time.Duration{time.Second, 2 * time.Second}, 2 * time.Second, errTail, 2*time.Second + drainWait},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, abort := context.WithCancel(t.Context())
				start := time.Now()
				var w watch
				w.begin(&opts, abort)
				var group sync.WaitGroup
				group.Go(func() {
					for _, at := range test.tokens {
						time.Sleep(time.Until(start.Add(at)))
						if ctx.Err() == nil {
							w.tokenAt(time.Now())
						}
					}
					if test.end > 0 {
						w.end(drainWait)
					}
				})
				<-ctx.Done()
				if cause := w.why(); !errors.Is(cause, test.cause) || time.Since(start) != test.after {
					t.Errorf("aborted after %v: %v; want after %v: %v", time.Since(start), cause, test.after, test.cause)
				}
				w.stop()
				group.Wait()
			})
		})
	}
}

func everySecond(n int) (all []time.Duration) {
	for i := range n {
		all = append(all, time.Duration(i+1)*time.Second)
	}
	return all
}

func TestStoppedWatchLeavesNothingBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		opts := Options{FirstTokenTimeout: time.Second, IdleTimeout: time.Second, TotalTimeout: time.Second}
		var w watch
		w.begin(&opts, func() { t.Error("a stopped watch aborts") })
		w.stop()
		time.Sleep(time.Minute)
		if why := w.why(); why != nil {
			t.Errorf("a stopped watch says %v", why)
		}
	})
}
