package lease

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
)

// TestStopsBeforeTheLeaseEnds takes the API server away in the middle.
func TestStopsBeforeTheLeaseEnds(t *testing.T) {
	for _, test := range []struct {
		name  string
		slow  time.Duration // of the work to end
		fault func(*apiClient)
		loud  int
	}{
		{"nothing listens", 0, func(c *apiClient) { c.refused = true }, 0},
		{"requests vanish", 0, func(c *apiClient) { c.blackHole = true }, 0},
		{"answers are slower than a request may take", 0, func(c *apiClient) { c.latency = 100 * duration }, 0},
		{"work that takes all its time to end", interval - time.Second, func(c *apiClient) { c.refused = true }, 0},
		{"work that does not end in time", interval + time.Second, func(c *apiClient) { c.refused = true }, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFleet(t, 0)
				r := f.start("a")
				ctx, cancel := context.WithCancel(t.Context())
				began, ended := make(chan struct{}), make(chan error)
				r.done.Go(func() {
					first := true
					r.leases.Hold(ctx, "x", "", func(ctx context.Context, _ <-chan struct{}) {
						if !first {
							<-ctx.Done()
							return
						}
						first = false
						close(began)
						<-ctx.Done()
						ended <- context.Cause(ctx)
						time.Sleep(test.slow)
					})
				})
				<-began
				r.client.fault(func(c *apiClient) { c.latency = interval / 4 })
				time.Sleep(time.Hour)
				r.client.fault(test.fault)
				if cause := <-ended; !errors.Is(cause, errNotRenewed) {
					t.Errorf("the work ended because %v", cause)
				}
				if took := time.Since(r.client.lastRenewed()); took != duration*2/3 {
					t.Errorf("the work was told to end %v after the last renewal was sent", took)
				}
				time.Sleep(duration)
				cancel()
				r.client.fault(heal)
				f.stopAll()
				time.Sleep(200 * duration) // slow answers
				if n := countLog(r, "still runs"); n != test.loud {
					t.Errorf("logged %d times that the work outlived its lease, want %d:\n%s", n, test.loud, r.log)
				}
			})
		})
	}
}

func TestLogsAnOutageOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 20)
		r := f.start("a")
		for range 3 {
			time.Sleep(10 * interval)
			r.client.fault(func(c *apiClient) { c.refused = true })
			time.Sleep(time.Hour)
			r.client.fault(func(c *apiClient) { c.refused = false })
		}
		time.Sleep(10 * interval)
		if lost, back := countLog(r, "API fails"), countLog(r, "API answers again"); lost != 3 || back != 3 {
			t.Errorf("3 outages were logged %d times, their ends %d times", lost, back)
		}
		f.checkSpread()
		f.stopAll()
	})
}

// TestRenewsWhileWorkStops holds a lease for longer than its duration after the end was asked for.
func TestRenewsWhileWorkStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 1)
		a := f.start("a")
		time.Sleep(2 * interval)
		f.start("b")
		time.Sleep(4 * interval)
		// a has the endpoint and takes its time to stop.
		ctx, cancel := context.WithCancel(t.Context())
		held := make(chan struct{})
		a.done.Go(func() {
			a.leases.Hold(ctx, "slow", "", func(ctx context.Context, _ <-chan struct{}) {
				f.watcher.begin("slow", "a")
				defer f.watcher.end("slow", "a")
				close(held)
				<-ctx.Done()
				time.Sleep(10 * duration)
			})
		})
		<-held
		b := f.replicas["b"]
		bctx, bcancel := context.WithCancel(t.Context())
		b.done.Go(func() {
			b.leases.Hold(bctx, "slow", "", func(ctx context.Context, _ <-chan struct{}) {
				f.watcher.begin("slow", "b")
				defer f.watcher.end("slow", "b")
				<-ctx.Done()
			})
		})
		time.Sleep(duration)
		cancel()
		time.Sleep(9 * duration)
		if holder := b.leases.Holder("slow", ""); holder != a.leases.Identity() {
			t.Errorf("%q holds the lease while a stops, want %q", holder, a.leases.Identity())
		}
		time.Sleep(2 * duration)
		if holder := b.leases.Holder("slow", ""); holder != b.leases.Identity() {
			t.Errorf("%q holds the lease after a has stopped", holder)
		}
		bcancel()
		f.stopAll()
	})
}

func TestLeasesEditedByHand(t *testing.T) {
	for _, test := range []struct {
		name string
		edit func(*fleet)
		cut  int
	}{
		{"an annotation", func(f *fleet) {
			f.server.edit(func(l *coordinationv1.Lease) { l.Annotations = map[string]string{"note": "x"} })
		}, 0},
		{"no labels", func(f *fleet) { f.server.edit(func(l *coordinationv1.Lease) { l.Labels = nil }) }, 0},
		{"another holder", func(f *fleet) {
			f.server.edit(func(l *coordinationv1.Lease) {
				if l.Labels[labelComponent] == componentEndpoint {
					other := "somebody"
					l.Spec.HolderIdentity = &other
				}
			})
		}, 3},
		{"deleted", func(f *fleet) {
			f.server.mu.Lock()
			defer f.server.mu.Unlock()
			clear(f.server.leases)
		}, 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFleet(t, 3)
				f.start("a")
				f.start("b")
				f.start("c")
				time.Sleep(2 * interval)
				f.watcher.forget()
				test.edit(f)
				time.Sleep(2*duration + 4*interval)
				f.checkSpread()
				if _, cut := f.watcher.forget(); cut != test.cut {
					t.Errorf("%d runs were cut off, want %d", cut, test.cut)
				}
				f.kill("b")
				time.Sleep(duration + 2*interval)
				f.checkSpread()
				f.stopAll()
			})
		})
	}
}

// TestTakesOverWithoutLabels lets nobody renew, so that the lists never show the Leases again.
func TestTakesOverWithoutLabels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 3)
		f.start("a")
		time.Sleep(2 * interval)
		f.kill("a")
		f.server.edit(func(l *coordinationv1.Lease) { l.Labels = nil })
		f.start("b")
		time.Sleep(duration + 4*interval)
		f.checkSpread()
		f.stopAll()
	})
}

func TestSecondHoldWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 1)
		r := f.start("a")
		time.Sleep(2 * interval)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		r.leases.Hold(ctx, "ENDPOINT-00", "", func(context.Context, <-chan struct{}) { t.Error("held twice") })
		f.stopAll()
	})
}

func TestWorkThatEndsByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 0)
		r := f.start("a")
		ctx, cancel := context.WithTimeout(t.Context(), 100*interval)
		defer cancel()
		n := 0
		r.leases.Hold(ctx, "x", "", func(context.Context, <-chan struct{}) { n++ })
		if n < 20 || n > 100 {
			t.Errorf("ran %d times in 100 intervals", n)
		}
		f.stopAll()
	})
}

func TestMissingRights(t *testing.T) {
	for _, verb := range []string{"get", "list", "create", "update", "delete"} {
		synctest.Test(t, func(t *testing.T) {
			client := newAPIClient(newAPIServer(), 1, 0)
			client.forbidden = verb
			o := Options{Client: client, Namespace: "probes", Identity: "a", Log: slog.New(slog.DiscardHandler)}
			l, err := New(o)
			if err != nil {
				t.Fatal(err)
			}
			err = l.Run(t.Context())
			want := "this pod's service account may not " + verb + " leases in namespace probes: bind it to a Role " +
				"that grants get, list, create, update and delete on leases of coordination.k8s.io: "
			if !strings.HasPrefix(errorText(err), want) {
				t.Errorf("%s: %v", verb, err)
			}
			time.Sleep(time.Minute)
		})
	}
}

func TestWaitsForTheServerAtStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 2)
		client := newAPIClient(f.server, 1, 0)
		client.refused = true
		r := f.startWith("a", client)
		time.Sleep(time.Hour)
		client.fault(func(c *apiClient) { c.refused = false })
		time.Sleep(3 * interval)
		f.checkSpread()
		if countLog(r, "API fails") != 1 {
			t.Error(r.log)
		}
		f.stopAll()
	})
}

// TestStaleLeasesAreDeleted lets replicas come and go, and endpoints too.
func TestStaleLeasesAreDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 30)
		for range 30 {
			f.start("a")
			time.Sleep(3 * interval)
			f.kill("a")
		}
		f.endpoints = f.endpoints[:2]
		f.start("a")
		time.Sleep(12 * duration)
		if n, _ := f.server.count(); n != 3 {
			t.Errorf("%d leases are left of two endpoints and one replica", n)
		}
		f.stopAll()
	})
}

// TestLoad counts what the package comment says.
func TestLoad(t *testing.T) {
	for _, test := range []struct{ endpoints, writes, reads float64 }{{100, 12, 0.7}, {10, 1.8, 0.7}} {
		synctest.Test(t, func(t *testing.T) {
			f := newFleet(t, int(test.endpoints))
			f.start("a")
			f.start("b")
			f.start("c")
			time.Sleep(10 * duration)
			f.server.count()
			const window = time.Hour
			time.Sleep(window)
			_, n := f.server.count()
			writes, reads := float64(n["update"])/window.Seconds(), float64(n["list"]+n["get"])/window.Seconds()
			t.Logf("%v endpoints: %.2f writes/s, %.2f reads/s %v", test.endpoints, writes, reads, n)
			if writes > test.writes || reads > test.reads || n["create"]+n["delete"] > 0 {
				t.Errorf("%v endpoints cost %.2f writes and %.2f reads a second", test.endpoints, writes, reads)
			}
			f.stopAll()
		})
	}
}
