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
		b.leases.SetPaused(f.endpoints[0], "", true)
		time.Sleep(2 * interval)
		if got := annotations(f.server); len(got) > 0 || b.leases.Paused(f.endpoints[0], "") {
			t.Errorf("the leases say %v", got)
		}
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
