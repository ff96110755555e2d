package lease

import (
	"context"
	"errors"
	"log/slog"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var (
	errNotRenewed = errors.New("the lease could not be renewed in time")
	errTaken      = errors.New("the lease was deleted or given to another holder")
)

// term is one stretch of holding a Lease.
type term struct {
	leases   *Leases
	lease    *coordinationv1.Lease // the last version known; only the goroutine of serve uses it
	log      *slog.Logger
	run      context.Context // of the work
	cancel   context.CancelCauseFunc
	stop     *time.Timer     // ends the work before the Lease ends
	end      *time.Timer     // fires if the work still runs when the Lease ends
	handOver chan struct{}   // closed to ask the work to end when idle
	asked    bool            // handOver is closed; guarded by leases.mu
	done     chan struct{}   // closed when the work has ended
	news     chan struct{}   // asks for a renewal at once
	paused   map[string]bool // by endpoint: what SetPaused said; guarded by leases.mu
}

// serve runs the work of a Lease that was claimed by a request sent at the given time, and releases it afterwards.
func (l *Leases) serve(ctx context.Context, of subject, lease *coordinationv1.Lease, sent time.Time,
	run func(context.Context, <-chan struct{}),
) {
	t := &term{
		leases: l, lease: lease, log: l.log.With(of.component, of.name, "lease", lease.Name),
		handOver: make(chan struct{}), done: make(chan struct{}),
		news: make(chan struct{}, 1), paused: make(map[string]bool),
	}
	t.run, t.cancel = context.WithCancelCause(ctx)
	defer t.cancel(nil)
	t.stop = time.AfterFunc(time.Until(l.stopAt(sent)), t.notRenewed)
	t.end = time.AfterFunc(time.Until(sent.Add(l.duration)), t.overrun)
	l.begun(t)
	t.log.Info(of.component + " taken")

	go func() {
		defer close(t.done)
		run(t.run, t.handOver)
	}()
	err := t.renewUntilDone()
	t.stop.Stop()
	t.end.Stop()
	l.ended(t)
	if err == nil {
		err = t.release()
	}
	if err != nil {
		t.leave()
	}
	t.log.Info(of.component+" released", "because", t.why())
}

// stopAt is when work must stop after the last successful renewal was sent. What is left is the work's time to end, and
// the margin for clocks that run at different speeds.
func (l *Leases) stopAt(sent time.Time) time.Time { return sent.Add(l.duration * 2 / 3) }

// begun makes t the term of its Lease, until ended.
func (l *Leases) begun(t *term) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.terms[t.lease.Name] = t
	t.takeUp()
}

func (l *Leases) ended(t *term) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.terms, t.lease.Name)
}

func (t *term) notRenewed() {
	t.log.Warn("the lease could not be renewed in time; what it is for stops being measured", "after", t.leases.duration*2/3)
	t.cancel(errNotRenewed)
}

func (t *term) overrun() {
	select {
	case <-t.done: // only a renewal is still on its way
		return
	default:
	}
	t.log.Error("the lease has ended but a probe still runs: another replica may measure the same",
		"duration", t.leases.duration)
}

func (t *term) why() string {
	if cause := context.Cause(t.run); cause != nil {
		return cause.Error()
	}
	t.leases.mu.Lock()
	defer t.leases.mu.Unlock()
	if t.asked {
		return "another replica holds fewer"
	}
	return "nothing is to be measured any more"
}

// renewUntilDone renews the Lease until the work has ended, also while the work is being stopped: every renewal moves
// the end further away. It returns errTaken if the Lease is no longer ours.
func (t *term) renewUntilDone() error {
	wait, failures := jitter(t.leases.interval), 0
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		timer.Reset(wait)
		select {
		case <-t.done:
			return nil
		case <-timer.C:
		case <-t.news:
		}
		err := t.renew()
		t.leases.outage.report(err)
		switch {
		case err == nil:
			wait, failures = jitter(t.leases.interval), 0
		case errors.Is(err, errTaken):
			t.log.Error("the lease was deleted or given to another holder; what it is for stops being measured")
			t.cancel(errTaken)
			<-t.done
			return err
		default:
			wait = t.leases.backoff(failures)
			failures++
		}
	}
}

// renew writes the Lease once more. A conflict mostly is an earlier renewal of ours whose answer was lost.
func (t *term) renew() error {
	return t.write(renewed, func(sent time.Time) {
		if t.run.Err() == nil {
			t.stop.Reset(time.Until(t.leases.stopAt(sent)))
		}
		t.end.Reset(time.Until(sent.Add(t.leases.duration)))
	})
}

// release gives the Lease back, so that another can have it at once.
func (t *term) release() error {
	err := t.write(released, func(time.Time) {})
	t.leases.outage.report(err)
	if err != nil && !errors.Is(err, errTaken) {
		t.log.Warn("the lease could not be released; it will run out", "error", err)
	}
	return err
}

// write updates the Lease, a second time if it changed but is still ours, and calls written with the time when the
// successful request left.
func (t *term) write(change func(*coordinationv1.Lease) *coordinationv1.Lease, written func(sent time.Time)) error {
	l := t.leases
	ctx, cancel := l.requestContext(t.run)
	defer cancel()
	sent := time.Now()
	lease, err := l.api.Update(ctx, change(t.current()), metav1.UpdateOptions{})
	if apierrors.IsConflict(err) {
		if err = t.reread(ctx); err != nil {
			return err
		}
		sent = time.Now()
		lease, err = l.api.Update(ctx, change(t.current()), metav1.UpdateOptions{})
	}
	if apierrors.IsNotFound(err) {
		return errTaken
	}
	if err != nil {
		return err
	}
	t.lease = lease
	l.observe(lease)
	written(sent)
	return nil
}

func (t *term) reread(ctx context.Context) error {
	l := t.leases
	lease, err := l.api.Get(ctx, t.lease.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return errTaken
	}
	if err != nil {
		return err
	}
	l.observe(lease)
	if holder := lease.Spec.HolderIdentity; holder == nil || *holder != l.identity {
		return errTaken
	}
	t.lease = lease
	return nil
}
