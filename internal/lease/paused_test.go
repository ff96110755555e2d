package lease

import (
	"context"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
)

// TestPaused: a pause goes with the Lease from one holder to the next, until the holder of the time ends it.
func TestPaused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 2)
		one, other := f.endpoints[0], f.endpoints[1]
		a := f.start("a")
		time.Sleep(2 * interval)
		a.leases.SetPaused(one, "", true)
		time.Sleep(time.Second) // no renewal is waited for
		if got := annotations(f.server); !maps.Equal(got, map[string]string{one: `["` + one + `"]`}) {
			t.Errorf("the leases say %v", got)
		}
		check := func(r *replica) {
			t.Helper()
			if !r.leases.Paused(one, "") || r.leases.Paused(other, "") {
				t.Errorf("paused: %v and %v", r.leases.Paused(one, ""), r.leases.Paused(other, ""))
			}
		}
		check(a)
		f.start("b")
		f.kill("a")
		time.Sleep(duration + 3*interval)
		b := f.replicas["b"]
		check(b)
		b.leases.SetPaused(other, "", true)
		b.leases.SetPaused(other, "", false)
		time.Sleep(2 * interval)
		check(b)
		b.leases.SetPaused(one, "", false)
		f.stop("b") // in order, and before the next renewal
		if got := annotations(f.server); len(got) > 0 {
			t.Errorf("after the end the leases say %v", got)
		}
		c := f.start("c")
		time.Sleep(2 * interval)
		if c.leases.Paused(one, "") {
			t.Error("still paused")
		}
		f.stopAll()
	})
}

// TestPausedInAGroup: the Lease of a group says which of its endpoints are paused.
func TestPausedInAGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 0)
		g := &groupRuns{t: t, running: make(map[string]string)}
		r := f.start("a")
		ctx, cancel := context.WithCancel(t.Context())
		for _, endpoint := range []string{"x", "y", "z"} {
			r.done.Go(func() { g.hold(ctx, r, endpoint, "g") })
		}
		time.Sleep(2 * interval)
		r.leases.SetPaused("z", "g", true)
		r.leases.SetPaused("x", "g", true)
		time.Sleep(time.Second)
		for endpoint, want := range map[string]bool{"x": true, "y": false, "z": true} {
			if got := r.leases.Paused(endpoint, "g"); got != want {
				t.Errorf("%s: paused %v", endpoint, got)
			}
		}
		if got := annotations(f.server); !maps.Equal(got, map[string]string{"g": `["x","z"]`}) {
			t.Errorf("the leases say %v", got)
		}
		cancel()
		f.stopAll()
	})
}

// TestSetPausedWithoutTheLease: only the holder may say so.
func TestSetPausedWithoutTheLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 1)
		f.start("a")
		time.Sleep(2 * interval)
		b := f.start("b")
		time.Sleep(2 * interval)
		if b.leases.SetPaused(f.endpoints[0], "", true) {
			t.Error("it is said to be")
		}
		time.Sleep(2 * interval)
		if got := annotations(f.server); len(got) > 0 || b.leases.Paused(f.endpoints[0], "") {
			t.Errorf("the leases say %v", got)
		}
		f.stopAll()
	})
}

// TestPausedWithoutTheServer: a pause that could not be written holds when this replica has the Lease again, unless
// another one has had it meanwhile. A Lease that somebody deleted has nobody's word.
func TestPausedWithoutTheServer(t *testing.T) {
	for _, test := range []struct {
		name string
		lost func(f *fleet, a *replica)
		want bool
	}{
		{"nobody else", func(*fleet, *replica) { time.Sleep(2 * duration) }, true},
		{"another replica", func(f *fleet, _ *replica) {
			f.start("b")
			time.Sleep(duration + 3*interval)
			f.stop("b")
		}, false},
		{"deleted", func(f *fleet, a *replica) {
			f.server.mu.Lock()
			defer f.server.mu.Unlock()
			delete(f.server.leases, a.leases.leaseName(subjectOf(f.endpoints[0], "")))
		}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFleet(t, 1)
				one := f.endpoints[0]
				a := f.start("a")
				time.Sleep(2 * interval)
				a.client.fault(func(c *apiClient) { c.refused = true })
				if !a.leases.SetPaused(one, "", true) || !a.leases.Paused(one, "") {
					t.Error("the holder does not take it")
				}
				test.lost(f, a)
				a.client.fault(heal)
				time.Sleep(duration + 3*interval)
				if runs := f.watcher.runs(); runs < 2 || f.watcher.loads()[a.name] != 1 {
					t.Fatalf("%d runs, %v", runs, f.watcher.loads())
				}
				if got := annotations(f.server)[one] != ""; got != test.want || a.leases.Paused(one, "") != test.want {
					t.Errorf("paused: %v by the Lease, %v by its holder", got, a.leases.Paused(one, ""))
				}
				f.stopAll()
			})
		})
	}
}

// TestMove: a pause goes with an endpoint to the Lease of its new group, whichever replica has that first, and is not
// brought back by one that has it later.
func TestMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 1)
		one := f.endpoints[0]
		g := &groupRuns{t: t, running: make(map[string]string)}
		a := f.start("a")
		time.Sleep(2 * interval)
		b := f.start("b")
		time.Sleep(2 * interval)
		a.leases.SetPaused(one, "", true)
		time.Sleep(2 * interval)
		a.leases.Move(one, "", "g")
		b.leases.Move(one, "", "g")
		end := g.begin(b, one, "g")
		want := map[string]string{one: `["` + one + `"]`, "g": `["` + one + `"]`}
		if got := annotations(f.server); !maps.Equal(got, want) || !b.leases.Paused(one, "g") {
			t.Errorf("the leases say %v", got)
		}
		b.leases.SetPaused(one, "g", false)
		time.Sleep(interval)
		end()
		time.Sleep(interval)
		end = g.begin(a, one, "g")
		if _, by := g.endpoints(); by != a.name || a.leases.Paused(one, "g") {
			t.Errorf("%s holds the Lease, and says that the endpoint is paused", by)
		}
		a.leases.Move(one, "", "g")
		if !a.leases.Paused(one, "g") {
			t.Error("a pause does not go to a Lease that is held")
		}
		a.leases.Move(one, "unknown", "g")
		if a.leases.Paused(one, "g") {
			t.Error("the end of a pause does not go to a Lease that is held")
		}
		end()
		f.stopAll()
	})
}

// TestResumeAfterMove: what ends a pause in one group ends it for the groups in which the endpoint was before.
func TestResumeAfterMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 1)
		one := f.endpoints[0]
		g := &groupRuns{t: t, running: make(map[string]string)}
		a := f.start("a")
		time.Sleep(2 * interval)
		a.leases.SetPaused(one, "", true)
		time.Sleep(interval)
		a.leases.Move(one, "", "g")
		end := g.begin(a, one, "g")
		if !a.leases.Paused(one, "g") {
			t.Fatal("the pause is lost")
		}
		a.leases.SetPaused(one, "g", false)
		if a.leases.Paused(one, "") {
			t.Error("a Lease that is held still says that the endpoint is paused")
		}
		a.leases.SetPaused(one, "g", true)
		time.Sleep(interval)
		end()
		time.Sleep(interval)
		a.leases.Move(one, "g", "h")
		end = g.begin(a, one, "h")
		a.leases.SetPaused(one, "h", false)
		a.leases.Move(one, "h", "g")
		if a.leases.Paused(one, "g") {
			t.Error("a Lease that nobody holds brings the pause back")
		}
		end()
		f.stopAll()
	})
}

func TestPausedOn(t *testing.T) {
	for text, want := range map[string][]string{
		`["a","b"]`: {"a", "b"}, `[]`: {}, ``: nil, `true`: nil, `[1]`: nil, `{`: nil,
	} {
		lease := &coordinationv1.Lease{}
		lease.Annotations = map[string]string{annotationPaused: text}
		if got := pausedOn(lease); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
	}
	if got := pausedOn(nil); got != nil {
		t.Errorf("no lease: %v", got)
	}
}

// annotations returns what Leases say of pauses, by endpoint or group.
func annotations(server *apiServer) map[string]string {
	found := make(map[string]string)
	server.edit(func(l *coordinationv1.Lease) {
		if text, ok := l.Annotations[annotationPaused]; ok {
			found[l.Annotations[annotationPrefix+l.Labels[labelComponent]]] = text
		}
	})
	return found
}
