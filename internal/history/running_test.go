package history

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestUnfinished: what began and was not seen to end is known to the next process, with how often that happened.
func TestUnfinished(t *testing.T) {
	dir := t.TempDir()
	began := time.Date(2026, 3, 1, 2, 4, 5, 0, time.UTC)
	check := func(s *Store, endpoint string, started time.Time, starts int) {
		t.Helper()
		if at, n := s.Unfinished(endpoint); n != starts || !at.Equal(started) {
			t.Errorf("%s: %d from %v, want %d from %v", endpoint, n, at, starts, started)
		}
	}
	for i := range 3 {
		s := Open(dir, Limits{}, slog.New(slog.DiscardHandler)) // the process before was killed
		at := began.Add(time.Duration(i) * time.Hour)
		if err := s.Begin("a", at); err != nil {
			t.Fatal(err)
		}
		check(s, "a", at, i+1)
		check(s, "b", time.Time{}, 0)
	}
	s := Open(dir, Limits{}, slog.New(slog.DiscardHandler))
	s.End("a")
	check(s, "a", time.Time{}, 0)
	s.End("a")
	if err := s.Healthy(); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "running", "a.json"), []byte(`{"schema":"other"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	check(s, "a", time.Time{}, 0)
	if err := s.Begin("a", began); err != nil {
		t.Fatal(err)
	}
	check(s, "a", began, 1)

	none := Open("", Limits{}, slog.New(slog.DiscardHandler))
	if err := none.Begin("a", began); err != nil {
		t.Error(err)
	}
	check(none, "a", time.Time{}, 0)
}
