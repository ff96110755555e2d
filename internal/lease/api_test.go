package lease

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

var leaseResource = coordinationv1.Resource("leases")

// apiServer keeps Leases as the real one does: every write has a new resource version, and an update of another one
// than the stored is a conflict; so is an update of a deleted Lease, whose UID is no more.
type apiServer struct {
	mu       sync.Mutex
	leases   map[string]*coordinationv1.Lease
	revision int
	requests map[string]int // by verb
}

func newAPIServer() *apiServer {
	return &apiServer{leases: make(map[string]*coordinationv1.Lease), requests: make(map[string]int)}
}

func (s *apiServer) stamp(l *coordinationv1.Lease) *coordinationv1.Lease {
	s.revision++
	l = l.DeepCopy()
	l.ResourceVersion = strconv.Itoa(s.revision)
	s.leases[l.Name] = l
	return l.DeepCopy()
}

func (s *apiServer) create(l *coordinationv1.Lease) (*coordinationv1.Lease, error) {
	if s.leases[l.Name] != nil {
		return nil, apierrors.NewAlreadyExists(leaseResource, l.Name)
	}
	l = l.DeepCopy()
	l.UID = types.UID(fmt.Sprint("uid-", s.revision))
	return s.stamp(l), nil
}

func (s *apiServer) update(l *coordinationv1.Lease) (*coordinationv1.Lease, error) {
	stored := s.leases[l.Name]
	if stored == nil || stored.UID != l.UID || stored.ResourceVersion != l.ResourceVersion {
		return nil, apierrors.NewConflict(leaseResource, l.Name, errors.New("the object has been modified"))
	}
	return s.stamp(l), nil
}

func (s *apiServer) get(name string) (*coordinationv1.Lease, error) {
	if l := s.leases[name]; l != nil {
		return l.DeepCopy(), nil
	}
	return nil, apierrors.NewNotFound(leaseResource, name)
}

func (s *apiServer) delete(name string, p *metav1.Preconditions) error {
	stored := s.leases[name]
	if stored == nil {
		return apierrors.NewNotFound(leaseResource, name)
	}
	if p != nil && (*p.UID != stored.UID || *p.ResourceVersion != stored.ResourceVersion) {
		return apierrors.NewConflict(leaseResource, name, errors.New("precondition failed"))
	}
	delete(s.leases, name)
	return nil
}

func (s *apiServer) list(selector string) (*coordinationv1.LeaseList, error) {
	wanted, err := labels.Parse(selector)
	if err != nil {
		return nil, err
	}
	list := new(coordinationv1.LeaseList)
	for _, l := range s.leases {
		if wanted.Matches(labels.Set(l.Labels)) {
			list.Items = append(list.Items, *l.DeepCopy())
		}
	}
	return list, nil
}

// edit changes the stored Leases as an administrator would.
func (s *apiServer) edit(change func(*coordinationv1.Lease)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.leases {
		l = l.DeepCopy()
		change(l)
		s.stamp(l)
	}
}

func (s *apiServer) count() (n int, requests map[string]int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	requests = s.requests
	s.requests = make(map[string]int)
	return len(s.leases), requests
}

// apiClient is one replica's way to the API server, with faults. It stands in for the typed client of client-go.
type apiClient struct {
	server *apiServer
	skew   time.Duration // of this replica's wall clock

	mu        sync.Mutex
	random    *rand.Rand
	latency   time.Duration // each way, at most
	refused   bool          // nothing listens
	blackHole bool          // requests or their answers vanish
	dead      bool          // the process is gone: nothing returns until it is released
	release   chan struct{}
	forbidden string // verb

	renewed time.Time // when the last update of a Lease of an endpoint was sent whose answer arrived
}

func newAPIClient(s *apiServer, seed uint64, skew time.Duration) *apiClient {
	return &apiClient{
		server: s, skew: skew, random: rand.New(rand.NewPCG(seed, seed)), release: make(chan struct{}),
		latency: 5 * time.Millisecond,
	}
}

func (c *apiClient) fault(set func(*apiClient)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	set(c)
}

func (c *apiClient) lastRenewed() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.renewed
}

func heal(c *apiClient) { c.refused, c.blackHole, c.latency = false, false, 5*time.Millisecond }

// trip is what happens to one request.
type trip struct {
	there, back              time.Duration
	refused, lostThere, dead bool
	lostBack, forbidden      bool
}

func (c *apiClient) trip(verb string) trip {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := trip{
		there: 1 + rand.N(c.latency), back: 1 + rand.N(c.latency),
		refused: c.refused, dead: c.dead, forbidden: c.forbidden == verb,
	}
	if c.blackHole {
		t.lostThere = c.random.IntN(2) == 0
		t.lostBack = !t.lostThere
	}
	return t
}

// call carries a request to the server and its answer back. What the client no longer waits for still arrives.
func call[T any](ctx context.Context, c *apiClient, verb string, apply func() (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	t := c.trip(verb)
	var none T
	switch {
	case t.dead:
		<-c.release
		return none, errors.New("the process is gone")
	case t.refused:
		time.Sleep(t.there)
		return none, errors.New("connection refused")
	case t.forbidden:
		return none, apierrors.NewForbidden(leaseResource, "", errors.New("no RBAC policy matched"))
	}
	answers := make(chan answer, 1)
	go func() {
		time.Sleep(t.there)
		if t.lostThere {
			return
		}
		c.server.mu.Lock()
		c.server.requests[verb]++
		value, err := apply()
		c.server.mu.Unlock()
		time.Sleep(t.back)
		if !t.lostBack {
			answers <- answer{value, err}
		}
	}()
	select {
	case a := <-answers:
		if c.trip(verb).dead {
			<-c.release
		}
		return a.value, a.err
	case <-ctx.Done():
		return none, ctx.Err()
	}
}

// skewed writes the times of a Lease as a replica with a wrong clock would.
func (c *apiClient) skewed(l *coordinationv1.Lease) *coordinationv1.Lease {
	l = l.DeepCopy()
	for _, t := range []*metav1.MicroTime{l.Spec.RenewTime, l.Spec.AcquireTime} {
		if t != nil {
			t.Time = t.Add(c.skew)
		}
	}
	return l
}

func (c *apiClient) Create(ctx context.Context, l *coordinationv1.Lease, _ metav1.CreateOptions) (
	*coordinationv1.Lease, error,
) {
	l = c.skewed(l)
	return call(ctx, c, "create", func() (*coordinationv1.Lease, error) { return c.server.create(l) })
}

func (c *apiClient) Update(ctx context.Context, l *coordinationv1.Lease, _ metav1.UpdateOptions) (
	*coordinationv1.Lease, error,
) {
	l = c.skewed(l)
	sent := time.Now()
	updated, err := call(ctx, c, "update", func() (*coordinationv1.Lease, error) { return c.server.update(l) })
	if err == nil && l.Labels[labelComponent] == componentEndpoint {
		c.fault(func(c *apiClient) { c.renewed = sent })
	}
	return updated, err
}

func (c *apiClient) Get(ctx context.Context, name string, _ metav1.GetOptions) (*coordinationv1.Lease, error) {
	return call(ctx, c, "get", func() (*coordinationv1.Lease, error) { return c.server.get(name) })
}

func (c *apiClient) List(ctx context.Context, o metav1.ListOptions) (*coordinationv1.LeaseList, error) {
	return call(ctx, c, "list", func() (*coordinationv1.LeaseList, error) { return c.server.list(o.LabelSelector) })
}

func (c *apiClient) Delete(ctx context.Context, name string, o metav1.DeleteOptions) error {
	_, err := call(ctx, c, "delete", func() (struct{}, error) {
		return struct{}{}, c.server.delete(name, o.Preconditions)
	})
	return err
}
