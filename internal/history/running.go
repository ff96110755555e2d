package history

import (
	"errors"
	"io/fs"
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
	_, starts := s.Unfinished(endpoint)
	return s.setMark(markRunning, endpoint, runningJSON{runningSchema, started.UTC(), starts + 1})
}

// End forgets what Begin wrote down: the process has seen the cycle end.
func (s *Store) End(endpoint string) { _ = s.removeMark(markRunning, endpoint) }

// Unfinished returns when the last cycle of the endpoint began that was not seen to end, and how many of them followed
// each other; 0 if the last one was. A file that cannot be used counts as none.
func (s *Store) Unfinished(endpoint string) (started time.Time, starts int) {
	var j runningJSON
	err := s.readMark(markRunning, endpoint, &j)
	if errors.Is(err, fs.ErrNotExist) {
		return time.Time{}, 0
	}
	if err == nil && (j.Schema != runningSchema || j.Starts < 1) {
		err = errors.New("not of the schema " + runningSchema)
	}
	if err != nil {
		s.log.Warn("history: it is not known whether the last cycle was finished", "file", s.mark(markRunning, endpoint),
			"err", err)
		return time.Time{}, 0
	}
	return j.Started, j.Starts
}
