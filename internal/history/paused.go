package history

import (
	"errors"
	"io/fs"
	"time"
)

const pausedSchema = "inferprobe/paused/v1"

// pausedJSON is the form of paused/<endpoint>.json, which is there while an operator has the endpoint paused.
type pausedJSON struct {
	Schema string    `json:"schema"`
	Since  time.Time `json:"since"`
}

// Pause writes down that an operator has paused the endpoint, so that a restart does not end that; Resume undoes it. An
// error has been logged if it is news.
func (s *Store) Pause(endpoint string, since time.Time) error {
	return s.setMark(markPaused, endpoint, pausedJSON{pausedSchema, since.UTC()})
}

// Resume forgets what Pause wrote down. An error has been logged if it is news.
func (s *Store) Resume(endpoint string) error { return s.removeMark(markPaused, endpoint) }

// Paused reports whether the endpoint has been paused and not resumed, by whatever process. A file that cannot be used
// counts: it does less harm not to measure.
func (s *Store) Paused(endpoint string) bool {
	var j pausedJSON
	err := s.readMark(markPaused, endpoint, &j)
	if errors.Is(err, fs.ErrNotExist) {
		return false
	}
	if err == nil && j.Schema != pausedSchema {
		err = errors.New("not of the schema " + pausedSchema)
	}
	if err != nil {
		s.log.Warn("history: the endpoint counts as paused", "file", s.mark(markPaused, endpoint), "err", err)
	}
	return true
}
