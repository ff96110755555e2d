package lease

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
)

// groupRuns knows which replica runs which endpoints of one group, and complains when two replicas do.
type groupRuns struct {
	t       *testing.T
	mu      sync.Mutex
	running map[string]string // endpoint to replica
}

func (g *groupRuns) hold(ctx context.Context, r *replica, endpoint, group string) {
	r.leases.Hold(ctx, endpoint, group, func(ctx context.Context, handOver <-chan struct{}) {
		g.mu.Lock()
		for other, by := range g.running {
			if by != r.name || other == endpoint {
				g.t.Errorf("%s begins to run %s while %s runs %s", r.name, endpoint, by, other)
			}
		}
		g.running[endpoint] = r.name
		g.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-handOver:
		}
		time.Sleep(rand.N(duration / 4))
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.running[endpoint] == r.name { // else it was killed
			delete(g.running, endpoint)
		}
	})
}

// begin has r hold the endpoint in the group until the returned function is called.
func (g *groupRuns) begin(r *replica, endpoint, group string) (end func()) {
	ctx, cancel := context.WithCancel(g.t.Context())
	r.done.Go(func() { g.hold(ctx, r, endpoint, group) })
	time.Sleep(3 * interval)
	return cancel
}

func (g *groupRuns) endpoints() (running []string, by string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for endpoint, replica := range g.running {
		running, by = append(running, endpoint), replica
	}
	slices.Sort(running)
	return running, by
}

func (g *groupRuns) killed(replica string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for endpoint, by := range g.running {
		if by == replica {
			delete(g.running, endpoint)
		}
	}
}

// TestGroupIsOfOneReplica: all endpoints of a group are one replica's, through a kill, an end in order and hand-overs.
func TestGroupIsOfOneReplica(t *testing.T) {
	for range 10 {
		synctest.Test(t, func(t *testing.T) {
			f := newFleet(t, 5)
			g := &groupRuns{t: t, running: make(map[string]string)}
			start := func(pod string) {
				r := f.start(pod)
				ctx, cancel := context.WithCancel(t.Context())
				all := r.cancel
				r.cancel = func() { cancel(); all() }
				for i := range 4 {
					r.done.Go(func() { g.hold(ctx, r, fmt.Sprint("shared-", i), "endpoint-00") })
				}
			}
			check := func(when string) {
				t.Helper()
				if running, _ := g.endpoints(); len(running) != 4 {
					t.Errorf("%s: %v run", when, running)
				}
			}
			for _, pod := range []string{"a", "b", "c"} {
				start(pod)
			}
			time.Sleep(4 * interval)
			check("after the start")
			_, by := g.endpoints()
			pod := by[:1]
			g.killed(by)
			f.kill(pod)
			time.Sleep(duration + 3*interval)
			check("after a kill")
			start(pod)
			time.Sleep(8 * interval)
			check("after another has come")
			_, by = g.endpoints()
			f.stop(by[:1])
			time.Sleep(3 * interval)
			check("after an end in order")
			f.stopAll()
			f.server.edit(func(l *coordinationv1.Lease) {
				if l.Spec.HolderIdentity != nil && l.Labels[labelComponent] == componentGroup {
					t.Errorf("%s is still held", l.Name)
				}
			})
		})
	}
}

// TestGroupMembersComeAndGo: one that leaves a group or joins it does not disturb the others, and the last one takes the
// Lease with it.
func TestGroupMembersComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 0)
		r := f.start("a")
		g := &groupRuns{t: t, running: make(map[string]string)}
		join := func(endpoint string) (leave func()) {
			ctx, cancel := context.WithCancel(t.Context())
			left := make(chan struct{})
			go func() { g.hold(ctx, r, endpoint, "g"); close(left) }()
			return func() { cancel(); <-left }
		}
		check := func(want ...string) {
			t.Helper()
			if running, _ := g.endpoints(); !slices.Equal(running, want) {
				t.Errorf("%v run, want %v", running, want)
			}
		}
		leaveX := join("x")
		time.Sleep(2 * interval)
		check("x")
		leaveY := join("y")
		time.Sleep(time.Millisecond) // no Lease is waited for
		check("x", "y")
		leaveX()
		check("y")
		if holder := r.leases.Holder("x", "g"); holder != r.leases.Identity() {
			t.Errorf("held by %q while y runs", holder)
		}
		leaveX = join("x")
		time.Sleep(time.Millisecond)
		check("x", "y")
		if n := countLog(r, "group taken"); n != 1 {
			t.Errorf("taken %d times", n)
		}
		leaveX()
		leaveY()
		check()
		if holder := r.leases.Holder("x", "g"); holder != "" {
			t.Errorf("held by %q when all have left", holder)
		}
		leaveX = join("x")
		time.Sleep(2 * interval)
		check("x")
		leaveX()
		f.stopAll()
	})
}

// TestGroupOutage: when the API server is away, the work of all that share a Lease ends in time.
func TestGroupOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 0)
		r := f.start("a")
		ctx, cancel := context.WithCancel(t.Context())
		causes := make(chan error, 3)
		for i := range 3 {
			r.done.Go(func() {
				r.leases.Hold(ctx, fmt.Sprint(i), "g", func(ctx context.Context, _ <-chan struct{}) {
					<-ctx.Done()
					causes <- context.Cause(ctx)
				})
			})
		}
		time.Sleep(4 * interval)
		r.client.fault(func(c *apiClient) { c.refused = true })
		time.Sleep(duration)
		cancel()
		if len(causes) != 3 {
			t.Errorf("the work of %d of 3 has ended", len(causes))
		}
		for range len(causes) {
			if cause := <-causes; cause != errNotRenewed {
				t.Errorf("it ended because %v", cause)
			}
		}
		r.client.fault(heal)
		f.stopAll()
	})
}
