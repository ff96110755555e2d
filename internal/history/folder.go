package history

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/inferprobe/inferprobe/internal/probe"
)

const (
	suffix     = ".json"
	timeLayout = "20060102T150405.000Z" // of a cycle's ID: sorts by time as text
)

// maxFile is the size in bytes above which a file is not read; a cycle with every sample has less than a hundredth.
const maxFile = 16 << 20

var namePattern = regexp.MustCompile(`^[A-Za-z0-9._-]{1,128}$`)

// validName reports whether an endpoint of that name can have a folder, whose files' names are not too long then.
func validName(endpoint string) bool {
	return namePattern.MatchString(endpoint) && endpoint != "." && endpoint != ".."
}

// parseID splits the ID of a cycle into the endpoint's name and the time of the start.
func parseID(id string) (endpoint string, started time.Time, ok bool) {
	cut := len(id) - len(timeLayout) - 1
	if cut < 1 || id[cut] != '-' || !validName(id[:cut]) {
		return "", time.Time{}, false
	}
	started, ok = parseTime(id[cut+1:])
	return id[:cut], started, ok
}

func parseTime(text string) (t time.Time, ok bool) {
	t, err := time.Parse(timeLayout, text)
	return t, err == nil && t.Format(timeLayout) == text
}

// isCycle reports whether a file of that name in the endpoint's folder is one of the endpoint's cycles.
func isCycle(endpoint, name string) bool {
	started, hasPrefix := strings.CutPrefix(name, endpoint+"-")
	started, hasSuffix := strings.CutSuffix(started, suffix)
	_, ok := parseTime(started)
	return hasPrefix && hasSuffix && ok
}

// fileState is what is known of a file: that it is a whole cycle, which is the zero value, or that it is not as long as
// its size and time stay the same.
type fileState struct {
	bad      bool
	size     int64
	modified int64 // ns since 1970
}

func badState(info fs.FileInfo) fileState {
	return fileState{bad: true, size: info.Size(), modified: info.ModTime().UnixNano()}
}

func (s *Store) note(endpoint, name string, state fileState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.files[endpoint] == nil {
		s.files[endpoint] = map[string]fileState{}
	}
	s.files[endpoint][name] = state
}

func (s *Store) noted(endpoint, name string) (state fileState, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	state, ok = s.files[endpoint][name]
	return state, ok
}

// forget drops what is known of files that are no longer there.
func (s *Store) forget(endpoint string, entries []fs.DirEntry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.files[endpoint]
	s.files[endpoint] = map[string]fileState{}
	for _, e := range entries {
		if state, ok := old[e.Name()]; ok {
			s.files[endpoint][e.Name()] = state
		}
	}
}

// skip remembers that the file is no cycle, and names it if that is news.
func (s *Store) skip(endpoint, name string, state fileState, why error) {
	if known, ok := s.noted(endpoint, name); ok && known == state {
		return
	}
	s.note(endpoint, name, state)
	s.log.Warn("history: not a cycle that can be read, left as it is",
		"file", filepath.Join(s.dir, endpoint, name), "err", why)
}

// scan returns the names of the endpoint's cycles on disk, oldest first, without those known to be unreadable.
func (s *Store) scan(endpoint string) []string {
	if s.dir == "" || !validName(endpoint) {
		return nil
	}
	entries, err := os.ReadDir(filepath.Join(s.dir, endpoint))
	if err != nil && !isMissing(err) {
		s.skip(endpoint, "", fileState{bad: true}, err)
		return nil
	}
	s.forget(endpoint, entries)
	var names []string
	for _, e := range entries {
		if temporaryOf(e.Name()) != "" {
			continue
		}
		ours := e.Type().IsRegular() && isCycle(endpoint, e.Name())
		state, _ := s.noted(endpoint, e.Name())
		if ours && !state.bad {
			names = append(names, e.Name())
			continue
		}
		info, err := e.Info()
		switch {
		case err != nil: // removed since, by another process
		case !ours:
			s.skip(endpoint, e.Name(), badState(info), errors.New("not the name of one of the endpoint's cycles"))
		case state != badState(info):
			names = append(names, e.Name())
		}
	}
	return names
}

// isMissing reports whether there is nothing to be read. Where there is a file in place of a folder, writing says so.
func isMissing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// read returns the cycle in the file, or nil.
func (s *Store) read(endpoint, name string) *probe.Cycle {
	c, info, err := readCycle(filepath.Join(s.dir, endpoint, name))
	switch {
	case isMissing(err):
		return nil
	case err != nil:
		state := fileState{bad: true}
		if info != nil {
			state = badState(info)
		}
		s.skip(endpoint, name, state, err)
		return nil
	}
	s.note(endpoint, name, fileState{})
	return c
}

func readCycle(path string) (*probe.Cycle, fs.FileInfo, error) {
	data, info, err := readFile(path)
	if err != nil {
		return nil, info, err
	}
	c, err := decode(data)
	if err == nil && c.ID+suffix != filepath.Base(path) {
		err = fmt.Errorf("holds the cycle %q", c.ID)
	}
	return c, info, err
}

// prune removes the oldest cycles of the endpoint beyond the limits, but not the file keep: after a jump of the clock
// the cycle just saved may look like the oldest. Only a file that can be read as a cycle is counted and removed.
func (s *Store) prune(endpoint, keep string) error {
	s.removeLeftovers(endpoint)
	names := s.scan(endpoint)
	count := len(names)
	if s.limits.Cycles > 0 && count > s.limits.Cycles {
		for _, name := range names {
			if !s.countable(endpoint, name) {
				count--
			}
		}
	}
	for _, name := range names {
		_, started, _ := parseID(strings.TrimSuffix(name, suffix))
		old := s.limits.Age > 0 && time.Since(started) > s.limits.Age
		if !old && (s.limits.Cycles <= 0 || count <= s.limits.Cycles) {
			return nil
		}
		if state, known := s.noted(endpoint, name); name == keep || known && state.bad {
			continue
		}
		if s.read(endpoint, name) != nil {
			err := os.Remove(filepath.Join(s.dir, endpoint, name))
			if err != nil && !errors.Is(err, fs.ErrNotExist) { // another process may have been faster
				return err
			}
		}
		count--
	}
	return nil
}

// countable reports whether the file is a cycle as far as its two ends tell: hundreds of files are not read for a
// count. One whose ends look wrong is read.
func (s *Store) countable(endpoint, name string) bool {
	if state, known := s.noted(endpoint, name); known {
		return !state.bad
	}
	if hasBothEnds(filepath.Join(s.dir, endpoint, name)) {
		s.note(endpoint, name, fileState{})
		return true
	}
	return s.read(endpoint, name) != nil
}

// hasBothEnds reports whether the file begins and ends as encode makes it.
func hasBothEnds(path string) bool {
	f, err := openRegular(path)
	if err != nil {
		return false
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() < int64(len(opening)+len(closing)) {
		return false
	}
	head, tail := make([]byte, len(opening)), make([]byte, len(closing))
	if _, err := f.ReadAt(head, 0); err != nil || string(head) != opening {
		return false
	}
	_, err = f.ReadAt(tail, info.Size()-int64(len(tail)))
	return err == nil && string(tail) == closing
}

// removeLeftovers removes files that an interrupted write left in the endpoint's folder.
func (s *Store) removeLeftovers(endpoint string) {
	removeLeftovers(filepath.Join(s.dir, endpoint), func(name string) bool { return isCycle(endpoint, name) })
}

// readFile returns what is in the file. The FileInfo is that of the file read, nil if it could not be opened.
func readFile(path string) ([]byte, fs.FileInfo, error) {
	f, err := openRegular(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("larger than %d MiB", maxFile>>20)
	}
	return data, info, err
}
