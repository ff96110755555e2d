package daemon

import (
	"context"
	"sync"
)

// gate lets a bounded number of holders in at a time.
type gate chan struct{}

func newGate(n int) gate { return make(gate, max(1, n)) }

// enter waits for a place, and reports false if ctx ended first.
func (g gate) enter(ctx context.Context) bool {
	if ctx.Err() != nil {
		return false
	}
	select {
	case g <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (g gate) leave() { <-g }

// group is endpoints that share hardware and are never measured at the same time.
type group struct {
	turn gate // the next cycle's, while it waits for what all share
	busy gate // held while a cycle or a canary's request runs
}

func newGroup() *group { return &group{turn: newGate(1), busy: newGate(1)} }

// groups are the groups by name. They stay for as long as the daemon: a reload may move endpoints among them while
// others run.
type groups struct {
	mu     sync.Mutex
	byName map[string]*group
}

// of returns the group of that name. An endpoint without one is a group by itself.
func (g *groups) of(name string) *group {
	if name == "" {
		return newGroup()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.byName == nil {
		g.byName = make(map[string]*group)
	}
	if g.byName[name] == nil {
		g.byName[name] = newGroup()
	}
	return g.byName[name]
}
