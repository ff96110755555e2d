package history

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

const runningSchema = "inferprobe/running/v1"

// runningJSON is the form of running/<endpoint>.json, which is there while a cycle runs and after a kill.
type runningJSON struct {
	Schema  string    `json:"schema"`
	Started time.Time `json:"started"`
	Starts  int       `json:"starts"`
}

// Begin writes down that a cycle of the endpoint begins, so that it is known after a kill. End undoes it. An error has
// been logged if it is news; it is no reason not to measure.
func (s *Store) Begin(endpoint string, started time.Time) error {
	if s.dir == "" || !validName(endpoint) {
		return nil
	}
	_, starts := s.Unfinished(endpoint)
	data, err := json.Marshal(runningJSON{runningSchema, started.UTC(), starts + 1})
	if err == nil {
		err = os.MkdirAll(filepath.Dir(s.running(endpoint)), 0o777)
	}
	if err == nil {
		err = writeFile(s.running(endpoint), layOut(data))
	}
	if err != nil {
		s.health.set(err)
	}
	return err
}

// End forgets what Begin wrote down: the process has seen the cycle end.
func (s *Store) End(endpoint string) {
	if s.dir == "" || !validName(endpoint) {
		return
	}
	if err := os.Remove(s.running(endpoint)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.health.set(err)
	}
}

// Unfinished returns when the last cycle of the endpoint began that was not seen to end, and how many of them followed
// each other; 0 if the last one was. A file that cannot be used counts as none.
func (s *Store) Unfinished(endpoint string) (started time.Time, starts int) {
	if s.dir == "" || !validName(endpoint) {
		return time.Time{}, 0
	}
	data, _, err := readFile(s.running(endpoint))
	if errors.Is(err, fs.ErrNotExist) {
		return time.Time{}, 0
	}
	var j runningJSON
	if err == nil {
		err = json.Unmarshal(data, &j)
	}
	if err == nil && (j.Schema != runningSchema || j.Starts < 1) {
		err = errors.New("not of the schema " + runningSchema)
	}
	if err != nil {
		s.log.Warn("history: it is not known whether the last cycle was finished", "file", s.running(endpoint), "err", err)
		return time.Time{}, 0
	}
	return j.Started, j.Starts
}

func (s *Store) running(endpoint string) string {
	return filepath.Join(filepath.Dir(s.dir), "running", endpoint+suffix)
}
