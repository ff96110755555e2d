package lease

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// join writes this replica's own Lease for the first time. It uses every right that is needed later, so that one that
// is missing is known at start.
func (l *Leases) join(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, l.interval)
	defer cancel()
	name := l.replicaLease()
	err := l.api.Delete(ctx, name, metav1.DeleteOptions{}) // of an attempt whose answer was lost
	if err != nil && !apierrors.IsNotFound(err) {
		return l.refused("delete", err)
	}
	created, err := l.api.Create(ctx, l.newReplicaLease(), metav1.CreateOptions{})
	if err != nil {
		return l.refused("create", err)
	}
	if _, err = l.api.Get(ctx, name, metav1.GetOptions{}); err != nil {
		return l.refused("get", err)
	}
	if l.own, err = l.api.Update(ctx, renewed(created), metav1.UpdateOptions{}); err != nil {
		return l.refused("update", err)
	}
	if _, err = l.api.List(ctx, l.selector()); err != nil {
		return l.refused("list", err)
	}
	l.outage.report(nil)
	return nil
}

// refused explains what went wrong at start.
func (l *Leases) refused(verb string, err error) error {
	l.outage.report(err)
	if apierrors.IsForbidden(err) {
		return fmt.Errorf("this pod's service account may not %s leases in namespace %s: bind it to a Role that grants "+
			"get, list, create, update and delete on leases of coordination.k8s.io: %w", verb, l.namespace, err)
	}
	return fmt.Errorf("cannot %s leases in namespace %s: %w", verb, l.namespace, err)
}

// permanent reports whether an error at start will not go away by itself.
func permanent(err error) bool {
	return apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) || apierrors.IsInvalid(err) ||
		apierrors.IsNotFound(err) // the namespace
}

// beat renews this replica's own Lease. Nothing but the spread of endpoints hangs on it.
func (l *Leases) beat(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, l.interval/2)
	defer cancel()
	name := l.replicaLease()
	lease, err := l.api.Update(ctx, renewed(l.own), metav1.UpdateOptions{})
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) { // an answer was lost, or others deleted it as stale
		lease, err = l.api.Get(ctx, name, metav1.GetOptions{})
	}
	if apierrors.IsNotFound(err) {
		lease, err = l.api.Create(ctx, l.newReplicaLease(), metav1.CreateOptions{})
	}
	if err == nil {
		l.own = lease
	}
	l.reportUnlessEnded(ctx, err)
}

// refresh lists the Leases, wakes those who wait for one, asks for hand-overs and deletes what is stale.
// It returns false if the list failed.
func (l *Leases) refresh(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, l.interval/2)
	defer cancel()
	list, err := l.api.List(ctx, l.selector())
	l.reportUnlessEnded(ctx, err)
	if err != nil {
		return false
	}
	l.mu.Lock()
	now := time.Now()
	l.view.observeAll(list.Items, now)
	l.view.deal(now, now.Add(l.interval/2))
	l.askHandOvers(now)
	stale := l.view.stale(now)
	close(l.changed)
	l.changed = make(chan struct{})
	l.mu.Unlock()
	for _, lease := range stale {
		unchanged := metav1.Preconditions{UID: &lease.UID, ResourceVersion: &lease.ResourceVersion}
		err := l.api.Delete(ctx, lease.Name, metav1.DeleteOptions{Preconditions: &unchanged})
		if err == nil {
			l.log.Info("stale lease deleted", "lease", lease.Name)
		}
	}
	return true
}

// askHandOvers asks as many holders as this replica has too many Leases. The caller has locked l.mu.
func (l *Leases) askHandOvers(now time.Time) {
	ask := l.view.excess(now)
	for _, t := range l.terms {
		if t.asked {
			ask--
		}
	}
	for _, name := range slices.Sorted(maps.Keys(l.terms)) {
		if t := l.terms[name]; ask > 0 && !t.asked {
			ask--
			t.asked = true
			close(t.handOver)
		}
	}
}

// leave takes this replica out of the others' reckoning at once, so that the endpoints it releases are not meant for
// it.
func (l *Leases) leave(ctx context.Context) {
	ctx, cancel := l.requestContext(ctx)
	defer cancel()
	err := l.api.Delete(ctx, l.replicaLease(), metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		l.log.Warn("this replica's own lease could not be deleted; it will run out", "error", err)
	}
}

func (l *Leases) selector() metav1.ListOptions {
	return metav1.ListOptions{LabelSelector: labels.SelectorFromSet(labels.Set{
		labelManagedBy: "inferprobe", labelInstance: l.prefix,
	}).String()}
}

func (l *Leases) reportUnlessEnded(ctx context.Context, err error) {
	if !errors.Is(ctx.Err(), context.Canceled) {
		l.outage.report(err)
	}
}

// outage logs once when requests have failed for some time, and once when they succeed again.
type outage struct {
	log   *slog.Logger
	after time.Duration

	mu    sync.Mutex
	since time.Time // of the first failure since the last success
	told  bool
}

// report takes the outcome of a request. That a Lease is another's is an answer, not a failure.
func (o *outage) report(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch now := time.Now(); {
	case err == nil || errors.Is(err, errTaken):
		if o.told {
			o.log.Info("the Kubernetes API answers again", "after", now.Sub(o.since).Round(time.Second))
		}
		o.since, o.told = time.Time{}, false
	case o.since.IsZero():
		o.since = now
	case !o.told && now.Sub(o.since) >= o.after:
		o.told = true
		o.log.Warn("the Kubernetes API fails: leases cannot be renewed", "since", o.since, "error", err)
	}
}
