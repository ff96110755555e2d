// Package history keeps what must outlast the process on disk: the cycles of every endpoint, one JSON file each, the
// tokens spent a day, which cycles began and were not seen to end, and what an operator has paused. All survive a kill at
// any instant, a disk that is full or read-only, and files that are not theirs. docs/history.md describes the files for
// people.
package history

import (
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/inferprobe/inferprobe/internal/probe"
)

// Limits bound the cycles of each endpoint on disk.
type Limits struct {
	Cycles int           // 0 = none
	Age    time.Duration // of a cycle, since its start; 0 = none
}

// Store is cycles on disk, in cycles/<endpoint>/<cycle ID>.json below its folder. What cannot be written is kept in
// memory, the newest cycles of each endpoint only, and is written when it can be. The folder of an endpoint that is
// measured no more stays: history is the user's. Several processes may share a folder as long as each endpoint is
// measured by one of them at a time. All methods may be called from many goroutines.
type Store struct {
	dir    string // "" = nothing is written
	limits Limits
	log    *slog.Logger
	health *health
	saving sync.Mutex // held while files are written and removed

	mu      sync.Mutex
	unsaved map[string][]unsaved            // by endpoint, in the order of Save
	files   map[string]map[string]fileState // by endpoint and file name: what is known of a file without reading it
}

// unsaved is a cycle that waits to be written.
type unsaved struct {
	*probe.Cycle
	data []byte
}

// maxUnsaved is how many cycles of an endpoint are kept in memory while they cannot be written.
const maxUnsaved = 32

// Open returns the store in dir, which is made if it does not exist, and removes what interrupted writes left there.
// A folder that cannot be used is logged and reported by Healthy; it is no reason not to measure. With "" for dir the
// newest cycles of each endpoint are kept in memory and nothing else.
func Open(dir string, limits Limits, log *slog.Logger) *Store {
	s := &Store{
		limits: limits, log: log,
		health:  &health{what: "history", log: log},
		unsaved: map[string][]unsaved{}, files: map[string]map[string]fileState{},
	}
	if dir == "" {
		return s
	}
	s.dir = filepath.Join(dir, "cycles")
	s.health.set(checkWritable(s.dir))
	for _, kind := range []string{markRunning, markPaused} {
		removeLeftovers(filepath.Join(dir, kind), func(name string) bool { return strings.HasSuffix(name, suffix) })
	}
	folders, _ := os.ReadDir(s.dir) // one that cannot be read has just been logged, or will be by whoever reads it
	for _, folder := range folders {
		if folder.IsDir() && validName(folder.Name()) {
			s.removeLeftovers(folder.Name())
		}
	}
	return s
}

// Save writes c, which must not be changed any more, and then removes the oldest cycles of its endpoint beyond the
// limits. Saving a cycle again replaces it. An error says that c is not on disk, or that old cycles cannot be removed;
// it has been logged if it is news, and c is kept in memory.
func (s *Store) Save(c *probe.Cycle) error {
	endpoint, _, ok := parseID(c.ID)
	if !ok || endpoint != c.Endpoint.Name {
		err := fmt.Errorf("history: the ID of a cycle of %q is %q, want its name and start as in %s-%s",
			c.Endpoint.Name, c.ID, c.Endpoint.Name, timeLayout)
		s.log.Error("a cycle cannot be kept", "err", err)
		return err
	}
	data, err := encode(c)
	if err != nil {
		err = fmt.Errorf("history: cycle %s: %w", c.ID, err)
		s.log.Error("a cycle cannot be kept", "err", err)
		return err
	}
	s.saving.Lock()
	defer s.saving.Unlock()
	s.keep(endpoint, unsaved{c, data})
	if s.dir == "" {
		return nil
	}
	var first, own error
	for _, name := range s.waiting() {
		err := s.write(name)
		if name == endpoint {
			own = err
		}
		if first == nil {
			first = err
		}
	}
	s.health.set(first)
	return own
}

// Healthy returns nil if the last attempt to write worked, else what was in its way.
func (s *Store) Healthy() error { return s.health.get() }

// Last returns the newest n cycles of the endpoint, oldest first, without reading more files than that. A file that is
// no whole cycle is passed over, and named once in the log.
func (s *Store) Last(endpoint string, n int) []*probe.Cycle {
	inMemory := map[string]*probe.Cycle{}
	s.mu.Lock()
	for _, c := range s.unsaved[endpoint] { // before the files: a cycle moves from here to there
		inMemory[c.ID] = c.Cycle
	}
	s.mu.Unlock()
	ids := slices.Collect(maps.Keys(inMemory))
	for _, name := range s.scan(endpoint) {
		ids = append(ids, strings.TrimSuffix(name, suffix))
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	var cycles []*probe.Cycle
	for _, id := range slices.Backward(ids) {
		if len(cycles) >= n {
			break
		}
		c := inMemory[id]
		if c == nil {
			c = s.read(endpoint, id+suffix)
		}
		if c != nil {
			cycles = append(cycles, c)
		}
	}
	slices.Reverse(cycles)
	return cycles
}

// Cycle returns the cycle of that ID, nil if there is none that can be read.
func (s *Store) Cycle(id string) *probe.Cycle {
	endpoint, _, ok := parseID(id)
	if !ok {
		return nil
	}
	s.mu.Lock()
	for _, c := range s.unsaved[endpoint] {
		if c.ID == id {
			s.mu.Unlock()
			return c.Cycle
		}
	}
	s.mu.Unlock()
	if s.dir == "" {
		return nil
	}
	return s.read(endpoint, id+suffix)
}

// keep puts c among the cycles that wait to be written.
func (s *Store) keep(endpoint string, c unsaved) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := slices.DeleteFunc(slices.Clone(s.unsaved[endpoint]), func(old unsaved) bool { return old.ID == c.ID })
	kept = append(kept, c)
	if len(kept) > maxUnsaved {
		if s.dir != "" {
			s.log.Warn("history: a cycle that could not be written is given up for newer ones", "cycle", kept[0].ID)
		}
		kept = slices.Delete(kept, 0, 1)
	}
	s.unsaved[endpoint] = kept
}

// next returns the cycle of the endpoint that is to be written next.
func (s *Store) next(endpoint string) (c unsaved, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.unsaved[endpoint]) == 0 {
		return unsaved{}, false
	}
	return s.unsaved[endpoint][0], true
}

// waiting returns the endpoints with cycles that wait to be written, or with too many on disk.
func (s *Store) waiting() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.unsaved))
}

// write writes what waits of the endpoint and removes what is too much of it; the latter also where the disk is full.
func (s *Store) write(endpoint string) error {
	newest, err := s.writeWaiting(endpoint)
	if errPrune := s.prune(endpoint, newest); err == nil {
		err = errPrune
	}
	if err == nil {
		s.mu.Lock()
		delete(s.unsaved, endpoint)
		s.mu.Unlock()
	}
	return err
}

// writeWaiting returns the name of the file written last.
func (s *Store) writeWaiting(endpoint string) (newest string, err error) {
	if err := s.makeFolder(endpoint); err != nil {
		return "", err
	}
	for c, ok := s.next(endpoint); ok; c, ok = s.next(endpoint) {
		name := c.ID + suffix
		if err := writeFile(filepath.Join(s.dir, endpoint, name), c.data); err != nil {
			return newest, err
		}
		newest = name
		s.note(endpoint, name, fileState{})
		s.mu.Lock()
		s.unsaved[endpoint] = s.unsaved[endpoint][1:]
		s.mu.Unlock()
	}
	return newest, nil
}

// makeFolder makes the endpoint's folder, and makes sure that a crash does not take it away with what is in it.
func (s *Store) makeFolder(endpoint string) error {
	if err := os.MkdirAll(s.dir, 0o777); err != nil {
		return err
	}
	switch err := os.Mkdir(filepath.Join(s.dir, endpoint), 0o777); {
	case err == nil:
		return syncFolder(s.dir)
	case os.IsExist(err):
		return nil
	default:
		return err
	}
}
