package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/inferprobe/inferprobe/internal/report"
)

// defaultWidth is the width of reports where there is no terminal: from 130 columns on every label is whole.
const defaultWidth = 130

// logEvery is how often progress is logged where there is no terminal.
const logEvery = 15 * time.Second

// screen shares the terminal between the log, the progress line and the reports. Without a terminal progress becomes a
// line of the log now and then.
type screen struct {
	out, err *os.File
	terminal bool // err is one, so that a line can be rewritten
	log      *slog.Logger

	mu     sync.Mutex
	line   string // the progress line shown now
	logged map[string]time.Time
}

func newScreen() *screen {
	return &screen{
		out: os.Stdout, err: os.Stderr, terminal: term.IsTerminal(int(os.Stderr.Fd())),
		logged: make(map[string]time.Time),
	}
}

// Write writes a line of the log above the progress line.
func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.erase()
	n, err := s.err.Write(b)
	s.draw()
	return n, err
}

// Fd lets the log see whether it goes to a terminal.
func (s *screen) Fd() uintptr { return s.err.Fd() }

// report writes a report to standard output in one piece.
func (s *screen) report(write func(w io.Writer) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.erase()
	return write(s.out)
}

// progress shows how far a stage is.
func (s *screen) progress(p report.Progress) {
	if !s.terminal {
		s.logProgress(p)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.erase()
	s.line = p.Line(width(s.err) - 1)
	s.draw()
}

func (s *screen) logProgress(p report.Progress) {
	s.mu.Lock()
	due := time.Since(s.logged[p.Endpoint]) >= logEvery
	if due {
		s.logged[p.Endpoint] = time.Now()
	}
	s.mu.Unlock()
	if due {
		s.log.Info("measuring", "endpoint", p.Endpoint, "stage", p.Stage, "of", fmt.Sprintf("%d/%d", p.Index, p.Of),
			"elapsed", p.Elapsed.Round(time.Second), "completed", p.Completed, "failed", p.Failed,
			"in_flight", p.InFlight, "tokens_per_second", int(p.TokensPerSecond))
	}
}

// clear takes the progress line away.
func (s *screen) clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.erase()
	s.line = ""
}

func (s *screen) erase() {
	if s.line != "" {
		fmt.Fprint(s.err, "\r\x1b[K")
	}
}

func (s *screen) draw() {
	if s.line != "" {
		fmt.Fprint(s.err, s.line)
	}
}

// width returns the columns of a terminal, or defaultWidth.
func width(f *os.File) int {
	if w, _, err := term.GetSize(int(f.Fd())); err == nil && w > 0 {
		return w
	}
	return defaultWidth
}
