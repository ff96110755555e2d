// Package lease spreads endpoints over the replicas of the daemon: a Kubernetes Lease for each endpoint, or for all
// endpoints of a group together, makes exactly one replica measure it.
//
// # Promises
//
// No two replicas ever run the same endpoint, or endpoints of the same group; as long as they are told different
// groups of an endpoint, while a change of the configuration reaches one after another, this does not hold for it. A
// holder stops two thirds of the lease's duration after it sent its last successful renewal, and leaves its work the
// last third to end. Others take a Lease only if it has not changed for its whole duration since they saw it, and the
// API server refuses the write if it changed after all. Every duration is of the observer's own monotonic clock; the
// times inside a Lease are written for people and never read, so wrong clocks do no harm. What no lease can give: a
// process that is frozen (SIGSTOP, a paused machine) while its requests are in flight cannot stop them, and whoever
// deletes a held Lease by hand may, until the next renewal, have two holders.
//
// The renewal interval is a third of the duration. When a holder dies, another replica takes over after one duration
// and half an interval at most; in the rare case that replicas disagree whose turn it is, after one duration and one
// and a half intervals. A holder that ends in order releases the Lease, and the next one has it within an interval.
//
// # Spread
//
// Each replica keeps a Lease of its own as its sign of life and lists all Leases twice in a renewal interval. From the
// list every replica works out the same order: a free Lease is for the live replica that holds the fewest, ties broken
// by a hash; the next in order try a little later. A replica with two Leases or more above the one with the fewest asks
// its work to hand some over when idle. A group counts as one. There is no coordinator, and a wrong guess costs a
// conflict, never a second holder. Leases of replicas and endpoints that are gone are deleted after ten durations.
//
// # Why not client-go's leaderelection
//
// It counts the renewal deadline from when it begins to try, a retry period after the last answer arrived, and not from
// when that renewal was sent: with slow answers a leader outlives its lease. It starts the work in a goroutine and
// does not wait for it, so that ReleaseOnCancel frees a lease whose work still runs. And each elector polls its own
// Lease: 100 endpoints and 3 replicas would be 20 reads/s beside the renewals, where one list does.
//
// # Load
//
// With the default duration of 30 s, 100 endpoints and 3 replicas ask the API server for 11.8 writes and 0.7 lists a
// second; with 10 endpoints for 1.8 writes (TestLoad).
//
// # Rights
//
// The service account needs the verbs get, list, create, update and delete on leases of coordination.k8s.io in its own
// namespace, and nothing else.
package lease

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"strings"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// DefaultDuration is how long a Lease lasts without a renewal.
const DefaultDuration = 30 * time.Second

// minDuration leaves every deadline some hundred milliseconds at least.
const minDuration = 3 * time.Second

// Options of New.
type Options struct {
	Client    Client // see InCluster
	Namespace string
	// Name of this installation: replicas with the same one share their endpoints. Names of Leases begin with it, and
	// it is their label app.kubernetes.io/instance. Default: inferprobe.
	Name string
	// Identity is the pod's name. New adds a random part, since two processes of one identity would both be the holder.
	Identity string
	// Duration is how long a Lease lasts without a renewal, in whole seconds, 3 s at least. An API server that is away
	// for longer than a third of it ends the work of every holder. Default: DefaultDuration.
	Duration time.Duration
	Log      *slog.Logger
}

// Leases are the Leases of one replica.
type Leases struct {
	api       Client
	namespace string
	prefix    string
	identity  string
	duration  time.Duration
	interval  time.Duration // between renewals
	log       *slog.Logger
	ready     chan struct{} // closed once endpoints may be taken
	outage    outage
	own       *coordinationv1.Lease // this replica's sign of life; only Run's goroutine uses it

	mu      sync.Mutex
	view    *view
	shares  map[string]*share // by Lease: those that are wanted
	terms   map[string]*term  // by Lease: those held now
	left    map[string]left   // by Lease: what is left to say of pauses on those not held now
	changed chan struct{}     // closed when the view has changed, then replaced
}

// New returns the Leases of a replica. Run must be called for Hold to do anything. An error says which option is wrong.
func New(o Options) (*Leases, error) {
	if o.Name == "" {
		o.Name = "inferprobe"
	}
	if o.Duration == 0 {
		o.Duration = DefaultDuration
	}
	if o.Duration < minDuration || o.Duration%time.Second != 0 {
		return nil, fmt.Errorf("the duration of leases is %v: it must be whole seconds, and %v at least", o.Duration,
			minDuration)
	}
	if o.Identity == "" || o.Namespace == "" {
		return nil, errors.New("leases need the name of this pod and its namespace")
	}
	random := make([]byte, 4)
	rand.Read(random) // never fails
	l := &Leases{
		api: o.Client, namespace: o.Namespace, prefix: o.Name,
		identity: o.Identity + "-" + hex.EncodeToString(random),
		duration: o.Duration, interval: o.Duration / 3,
		log: o.Log, ready: make(chan struct{}),
		shares: make(map[string]*share), terms: make(map[string]*term), left: make(map[string]left),
		changed: make(chan struct{}),
	}
	l.outage = outage{log: o.Log, after: l.interval}
	l.view = newView(l.identity, o.Duration, l.interval)
	return l, nil
}

// Identity returns the name under which this replica holds Leases: the pod's with a random part.
func (l *Leases) Identity() string { return l.identity }

// Holder returns the identity of the replica that holds the Lease of an endpoint, or of its group, as far as this replica
// knows; "" if nobody does.
func (l *Leases) Holder(endpoint, group string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.view.holder(l.leaseName(subjectOf(endpoint, group)), time.Now())
}

// Run shows this replica to the others and follows their Leases until ctx ends. It returns an error at once if the
// service account lacks a right; an API server that is away is waited for. Its ctx is to end with those of Hold, or
// later.
func (l *Leases) Run(ctx context.Context) error {
	for failures := 0; ; failures++ {
		err := l.join(ctx)
		if err == nil {
			break
		}
		if permanent(err) {
			return err
		}
		if !sleep(ctx, l.backoff(failures)) {
			return nil
		}
	}
	// Replicas that start together see each other before the first one takes every endpoint.
	settled := time.Now().Add(l.interval * 3 / 4)
	for open := false; sleep(ctx, jitter(l.interval/2)); {
		l.beat(ctx)
		if l.refresh(ctx) && !open && time.Now().After(settled) {
			open = true
			l.open()
		}
	}
	l.leave(ctx)
	return nil
}

// open lets Hold begin. All turns count from now on.
func (l *Leases) open() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.view.from = time.Now()
	close(l.ready)
}

// Hold blocks until ctx ends. Whenever this replica holds the endpoint's Lease, Hold calls run. The endpoints of a group
// have one Lease, so that all of them are one replica's: whatever keeps them from being measured at the same time there
// holds for all replicas. Without a group, "", the Lease is the endpoint's own. It is released after run has returned,
// and so have those of all others that share it.
//
// The context of run ends with ctx, and early enough before the Lease does: run must return within a third of the
// duration then, else another replica may begin while it still runs. context.Cause says why it ended. Closed, handOver
// asks run to return as soon as it is idle, because another replica holds fewer Leases; work in hand is to be finished
// first. run may return of its own accord too: when all that share the Lease have, it is free for a while.
//
// A second Hold of an endpoint waits until the first one has returned.
func (l *Leases) Hold(ctx context.Context, endpoint, group string,
	run func(ctx context.Context, handOver <-chan struct{}),
) {
	m := &member{ctx: ctx, run: run, left: make(chan struct{})}
	name := strings.ToLower(endpoint)
	if s := l.enter(ctx, subjectOf(endpoint, group), name, m); s != nil {
		<-ctx.Done()
		l.exit(s, name, m)
	}
}

// hold runs the work of a Lease whenever this replica holds it, until ctx ends.
func (l *Leases) hold(ctx context.Context, name string, of subject, run func(context.Context, <-chan struct{})) {
	select {
	case <-l.ready:
	case <-ctx.Done():
		return
	}
	failures := 0
	for l.await(ctx, name) {
		lease, sent, err := l.claim(ctx, name, of)
		switch {
		case err != nil:
			sleep(ctx, l.backoff(failures))
			failures++
		case lease != nil:
			failures = 0
			l.serve(ctx, of, lease, sent, run)
			sleep(ctx, l.interval) // the others' turn
		}
	}
}

// await blocks until it is this replica's turn to take a Lease. It returns false if ctx ended.
func (l *Leases) await(ctx context.Context, name string) bool {
	for ctx.Err() == nil {
		l.mu.Lock()
		now := time.Now()
		turn, changed := l.view.turn(name, now), l.changed
		l.mu.Unlock()
		if !turn.After(now) {
			return true
		}
		timer := time.NewTimer(turn.Sub(now))
		select {
		case <-timer.C:
		case <-changed:
		case <-ctx.Done():
		}
		timer.Stop()
	}
	return false
}

// claim tries to take a Lease and returns it with the time when the request left. Without an error and a Lease another
// replica was faster.
func (l *Leases) claim(ctx context.Context, name string, of subject) (*coordinationv1.Lease, time.Time, error) {
	l.mu.Lock()
	known := l.view.lease(name)
	l.dropOutdated(name)
	l.mu.Unlock()
	// The end of ctx must not tear the request: the answer would be lost, and the Lease ours without anybody to release
	// it.
	ctx, cancel := l.requestContext(ctx)
	defer cancel()
	var lease *coordinationv1.Lease
	var err error
	sent := time.Now()
	if known == nil {
		lease, err = l.api.Create(ctx, l.newSubjectLease(name, of), metav1.CreateOptions{})
	} else {
		lease, err = l.api.Update(ctx, l.taken(known, of), metav1.UpdateOptions{})
	}
	switch {
	case err == nil:
		l.observe(lease)
	case apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err) && known != nil:
		lease = nil
		err = l.look(ctx, name)
	}
	l.outage.report(err)
	if err != nil {
		return nil, sent, err
	}
	return lease, sent, nil
}

// look reads one Lease that is not as it was thought to be.
func (l *Leases) look(ctx context.Context, name string) error {
	lease, err := l.api.Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.view.absent(name, time.Now())
		return nil
	}
	if err == nil {
		l.observe(lease)
	}
	return err
}

func (l *Leases) observe(lease *coordinationv1.Lease) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.view.observe(lease, time.Now())
}

// requestContext limits one request, so that a hanging one leaves time for another before the deadline. It does not end
// with ctx.
func (l *Leases) requestContext(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), l.interval/2)
}

// backoff grows from a tenth of the renewal interval to half of it.
func (l *Leases) backoff(failures int) time.Duration {
	return jitter(min(l.interval/10<<min(failures, 8), l.interval/2))
}

// jitter returns between 80 and 100 % of d, so that requests that began together do not stay together.
func jitter(d time.Duration) time.Duration {
	return d - mathrand.N(d/5)
}

// sleep returns false if ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
