package history

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// The kinds of marks: folders beside that of the cycles, in which a file named after an endpoint says one thing of it.
const (
	markRunning = "running"
	markPaused  = "paused"
)

func (s *Store) mark(kind, endpoint string) string {
	return filepath.Join(filepath.Dir(s.dir), kind, endpoint+suffix)
}

// marks reports whether there can be marks of the endpoint.
func (s *Store) marks(endpoint string) bool { return s.dir != "" && validName(endpoint) }

// setMark writes a mark. An error has been logged if it is news.
func (s *Store) setMark(kind, endpoint string, content any) error {
	if !s.marks(endpoint) {
		return nil
	}
	path := s.mark(kind, endpoint)
	data, err := json.Marshal(content)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(path), 0o777)
	}
	if err == nil {
		err = writeFile(path, layOut(data))
	}
	if err != nil {
		s.health.set(err)
	}
	return err
}

// removeMark removes a mark, if there is one. An error has been logged if it is news.
func (s *Store) removeMark(kind, endpoint string) error {
	if !s.marks(endpoint) {
		return nil
	}
	err := os.Remove(s.mark(kind, endpoint))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		s.health.set(err)
	}
	return err
}

// readMark reads a mark. The error is fs.ErrNotExist where there is none.
func (s *Store) readMark(kind, endpoint string, content any) error {
	if !s.marks(endpoint) {
		return fs.ErrNotExist
	}
	data, _, err := readFile(s.mark(kind, endpoint))
	if err != nil {
		return err
	}
	return json.Unmarshal(data, content)
}
