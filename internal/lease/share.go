package lease

import (
	"context"
	"time"
)

// share is what this replica's Holds of one Lease have in common: one of an endpoint by itself, or one for each endpoint
// of a group. Leases.mu guards it.
type share struct {
	members map[string]*member // by endpoint, in lower case
	cancel  context.CancelFunc // ends the holding
	closing bool               // the last member has left
	done    chan struct{}      // closed when the Lease is free for another share

	held     context.Context // of the work while the Lease is held, else nil
	handOver <-chan struct{}
	working  int           // members whose work runs
	idle     chan struct{} // closed when the last of them has returned
}

// member is one Hold.
type member struct {
	ctx  context.Context
	run  func(ctx context.Context, handOver <-chan struct{})
	done chan struct{} // closed when its work has returned; nil before the first
	left chan struct{} // closed when its Hold returns
}

// enter makes an endpoint a member of the share of its Lease, and begins its work where the Lease is held. It waits for
// an earlier member of the same endpoint to leave. It returns nil if ctx ended first.
func (l *Leases) enter(ctx context.Context, of subject, endpoint string, m *member) *share {
	name := l.leaseName(of)
	for ctx.Err() == nil {
		l.mu.Lock()
		s := l.shares[name]
		var earlier chan struct{}
		switch {
		case s == nil:
			s = l.newShare(ctx, name, of)
		case s.closing:
			earlier = s.done
		case s.members[endpoint] != nil:
			earlier = s.members[endpoint].left
		}
		if earlier == nil {
			s.members[endpoint] = m
			if s.held != nil {
				l.begin(s, m)
			}
			l.mu.Unlock()
			return s
		}
		l.mu.Unlock()
		select {
		case <-earlier:
		case <-ctx.Done():
		}
	}
	return nil
}

// newShare begins to hold a Lease. The caller has locked l.mu.
func (l *Leases) newShare(ctx context.Context, name string, of subject) *share {
	s := &share{members: make(map[string]*member), done: make(chan struct{})}
	ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	l.shares[name] = s
	l.view.want(name, time.Now())
	go func() {
		l.hold(ctx, name, of, func(held context.Context, handOver <-chan struct{}) { l.workAll(held, s, handOver) })
		l.mu.Lock()
		defer l.mu.Unlock()
		l.view.unwant(name)
		delete(l.shares, name)
		close(s.done)
	}()
	return s
}

// exit waits for the member's work to end. The last one takes the share with it, and waits until the Lease is
// released.
func (l *Leases) exit(s *share, endpoint string, m *member) {
	l.mu.Lock()
	done := m.done
	l.mu.Unlock()
	if done != nil {
		<-done
	}
	l.mu.Lock()
	delete(s.members, endpoint)
	close(m.left)
	s.closing = len(s.members) == 0
	last := s.closing
	l.mu.Unlock()
	if last {
		s.cancel()
		<-s.done
	}
}

// workAll is the work of a share while its Lease is held: that of each member. It returns when all of it has.
func (l *Leases) workAll(held context.Context, s *share, handOver <-chan struct{}) {
	l.mu.Lock()
	s.held, s.handOver, s.idle = held, handOver, make(chan struct{})
	for _, m := range s.members {
		l.begin(s, m)
	}
	if s.working == 0 { // all are leaving
		s.held = nil
		l.mu.Unlock()
		return
	}
	l.mu.Unlock()
	<-s.idle
}

// begin runs the work of a member unless it is leaving. The caller has locked l.mu.
func (l *Leases) begin(s *share, m *member) {
	if m.ctx.Err() != nil {
		return
	}
	done := make(chan struct{})
	m.done = done
	s.working++
	go func() {
		ctx, cancel := context.WithCancelCause(s.held)
		defer cancel(nil)
		defer context.AfterFunc(m.ctx, func() { cancel(context.Cause(m.ctx)) })()
		m.run(ctx, s.handOver)
		l.mu.Lock()
		defer l.mu.Unlock()
		close(done)
		if s.working--; s.working == 0 {
			s.held = nil
			close(s.idle)
		}
	}()
}
