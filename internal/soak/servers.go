package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/inferprobe/inferprobe/internal/sim"
)

// server is a simulated server that keeps its address, and what its record says, over restarts.
type server struct {
	name    string
	address string
	seed    uint64

	mu     sync.Mutex
	sim    *sim.Server // nil while it is down
	end    context.CancelFunc
	served chan error
	key    string
	seen   map[string]interval // by request
}

// interval is when a server was busy with a request.
type interval struct {
	server   string
	from, to time.Time
}

func newServer(name string, seed uint64) (*server, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	s := &server{name: name, address: address, seed: seed, seen: map[string]interval{}}
	return s, s.start("")
}

// start starts the server, which asks for the key from now on.
func (s *server) start(key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sim != nil {
		return nil
	}
	simulator, err := sim.New(sim.Options{
		APIKey: key, Seed: s.seed, Slots: 4, DecodeStep: 6 * time.Millisecond, DecodePerSequence: 500 * time.Microsecond,
	})
	if err != nil {
		return err
	}
	l, err := listen(s.address)
	if err != nil {
		return err
	}
	ctx, end := context.WithCancel(context.Background())
	s.sim, s.end, s.key, s.served = simulator, end, key, make(chan error, 1)
	go func() { s.served <- simulator.Serve(ctx, l) }()
	return nil
}

// listen opens an address that was free, once the connection of somebody else that may have got it has ended.
func listen(address string) (l net.Listener, err error) {
	for range 100 {
		if l, err = net.Listen("tcp", address); err == nil {
			return l, nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return nil, err
}

// stop ends the server, as a crash or a deployment does.
func (s *server) stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sim == nil {
		return nil
	}
	s.end()
	err := <-s.served
	s.collect()
	s.sim = nil
	return err
}

// calm ends every fault.
func (s *server) calm() error {
	s.mu.Lock()
	key := s.key
	s.mu.Unlock()
	return errors.Join(s.start(key), s.do(func(m *sim.Server) error {
		return errors.Join(m.SetFaults(nil), m.SetSlowdown(1))
	}))
}

// do changes the running simulator; one that is down stays so.
func (s *server) do(change func(*sim.Server) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sim == nil {
		return nil
	}
	return change(s.sim)
}

// collect takes over what the record has that is new. s.mu must be held.
func (s *server) collect() {
	for _, r := range s.sim.Truth(time.Time{}) {
		if _, known := s.seen[r.RequestID]; !known {
			s.seen[r.RequestID] = s.busy(&r)
		}
	}
}

// hangUp is how long a server may go on with an answer after the client has hung up.
const hangUp = 500 * time.Millisecond

// busy returns from when to when the client must have been at a request: to the last write of a token, which it cannot
// have seen before it began. Where it hung up, it may have done so a little before that.
func (s *server) busy(r *sim.Record) interval {
	i := interval{s.name, r.Received, r.Received}
	for _, w := range r.Writes {
		if w.Tokens > 0 {
			i.to = w.Before
		}
	}
	if r.Outcome == sim.OutcomeDisconnected || r.Outcome == sim.OutcomeFault {
		i.to = i.to.Add(-hangUp)
	}
	return i
}

// intervals returns when the server was busy, and forgets what is older than the time given.
func (s *server) intervals(forget time.Time) []interval {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sim != nil {
		s.collect()
	}
	var all []interval
	for id, i := range s.seen {
		all = append(all, i)
		if i.from.Before(forget) {
			delete(s.seen, id)
		}
	}
	return all
}

// overlaps returns where two servers were busy at the same time. It finds for each interval at least one of those that
// it overlaps with.
func overlaps(all []interval) []string {
	slices.SortFunc(all, func(a, b interval) int { return a.from.Compare(b.from) })
	var found []string
	latest := map[string]interval{} // by server: the one that ends last
	for _, i := range all {
		for name, other := range latest {
			if name != i.server && other.to.After(i.from) {
				found = append(found, fmt.Sprintf("%s and %s were measured at the same time: %s to %s, and from %s on",
					name, i.server, clock(other.from), clock(other.to), clock(i.from)))
			}
		}
		if last, ok := latest[i.server]; !ok || i.to.After(last.to) {
			latest[i.server] = i
		}
	}
	return found
}

func clock(t time.Time) string { return t.Format("15:04:05.000000") }
