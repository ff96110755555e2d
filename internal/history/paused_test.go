package history

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestPaused: what one process paused is paused for the next one, until it is resumed.
func TestPaused(t *testing.T) {
	dir := t.TempDir()
	open := func() *Store { return Open(dir, Limits{}, slog.New(slog.DiscardHandler)) }
	check := func(want map[string]bool) {
		t.Helper()
		for endpoint, paused := range want {
			if got := open().Paused(endpoint); got != paused {
				t.Errorf("%s: paused %v, want %v", endpoint, got, paused)
			}
		}
	}
	since := time.Date(2026, 3, 1, 2, 4, 5, 0, time.UTC)
	for range 2 {
		if err := open().Pause("a", since); err != nil {
			t.Fatal(err)
		}
		check(map[string]bool{"a": true, "b": false})
	}
	for range 2 {
		if err := open().Resume("a"); err != nil {
			t.Fatal(err)
		}
		check(map[string]bool{"a": false, "b": false})
	}
	for content, want := range map[string]bool{
		`{"schema":"inferprobe/paused/v1","since":"2026-03-01T02:04:05Z"}`: true,
		`{"schema":"inferprobe/paused/v2"}`:                                true,
		``:                                                                 true,
	} {
		if err := os.WriteFile(filepath.Join(dir, "paused", "b.json"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		check(map[string]bool{"b": want})
	}
	if err := open().Healthy(); err != nil {
		t.Error(err)
	}
}

// Where nothing is written a pause ends with the process.
func TestPausedInMemory(t *testing.T) {
	s := Open("", Limits{}, slog.New(slog.DiscardHandler))
	if err := s.Pause("a", time.Now()); err != nil {
		t.Error(err)
	}
	if err := s.Resume("a"); err != nil {
		t.Error(err)
	}
	if s.Paused("a") {
		t.Error("paused")
	}
}

// A pause that cannot be written is an error that shows.
func TestPauseIsNotWritable(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "paused"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s := Open(dir, Limits{}, slog.New(slog.DiscardHandler))
	if err := s.Pause("a", time.Now()); err == nil || s.Healthy() == nil {
		t.Errorf("%v, healthy: %v", err, s.Healthy())
	}
}
