package main

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/inferprobe/inferprobe/internal/report"
)

// defaultWidth is the width of reports where nothing says another: from 130 columns on every label is whole.
const defaultWidth = 130

// logEvery is how often progress is logged where there is no live view.
const logEvery = 15 * time.Second

// stream is standard output or standard error.
type stream interface {
	io.Writer
	Fd() uintptr
	// Size returns the terminal's columns and rows; ok is false if the stream is no terminal, or one that does not say.
	Size() (columns, rows int, ok bool)
}

// file is a stream of the process.
type file struct{ *os.File }

func (f file) Size() (columns, rows int, ok bool) {
	columns, rows, err := term.GetSize(int(f.Fd()))
	return columns, rows, err == nil && columns > 0 && rows > 0
}

// screen shares standard output and standard error among the log, the live view and the reports. The live view is a
// line for each endpoint being measured, below everything else and rewritten in place. It needs a terminal; elsewhere
// progress is a line of the log now and then.
type screen struct {
	out, err stream
	getenv   func(string) string
	log      *slog.Logger
	logEvery time.Duration

	mu     sync.Mutex
	lines  []report.Progress // of the live view, in the order in which endpoints began
	drawn  int               // lines on the terminal now
	logged map[string]time.Time
}

func newScreen(out, err stream, getenv func(string) string) *screen {
	return &screen{out: out, err: err, getenv: getenv, logEvery: logEvery, logged: make(map[string]time.Time)}
}

// live reports whether lines can be rewritten.
func (s *screen) live() bool {
	_, _, ok := s.err.Size()
	switch s.getenv("TERM") {
	case "", "dumb":
		return false
	}
	return ok
}

// Write writes a line of the log above the live view.
func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.drawn == 0 {
		return s.err.Write(b)
	}
	if err := s.redraw(b); err != nil {
		return 0, err
	}
	return len(b), nil
}

// Fd lets the log see whether it goes to a terminal.
func (s *screen) Fd() uintptr { return s.err.Fd() }

// print writes a report to standard output in one piece.
func (s *screen) print(report []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.erase()
	_, err := s.out.Write(report)
	_ = s.redraw(nil)
	return err
}

// progress shows how far a stage is.
func (s *screen) progress(p report.Progress) {
	if !s.live() {
		s.logProgress(p)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := s.line(p.Endpoint); i >= 0 {
		s.lines[i] = p
	} else {
		s.lines = append(s.lines, p)
	}
	_ = s.redraw(nil)
}

// finished takes the line of an endpoint away.
func (s *screen) finished(endpoint string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.logged, endpoint)
	if i := s.line(endpoint); i >= 0 {
		s.lines = slices.Delete(s.lines, i, i+1)
		_ = s.redraw(nil)
	}
}

func (s *screen) line(endpoint string) int {
	return slices.IndexFunc(s.lines, func(p report.Progress) bool { return p.Endpoint == endpoint })
}

func (s *screen) logProgress(p report.Progress) {
	s.mu.Lock()
	last, ok := s.logged[p.Endpoint]
	now := time.Now()
	due := ok && now.Sub(last) >= s.logEvery
	if due || !ok {
		s.logged[p.Endpoint] = now
	}
	s.mu.Unlock() // the log writes to this screen
	if due {
		s.log.Info("measuring", "endpoint", p.Endpoint, "stage", p.Stage, "of", fmt.Sprintf("%d/%d", p.Index, p.Of),
			"elapsed", p.Elapsed.Round(time.Second), "completed", p.Completed, "failed", p.Failed,
			"in_flight", p.InFlight, "tokens_per_second", int(p.TokensPerSecond))
	}
}

// erase takes the live view off the terminal. The cursor is left where the next line of output begins.
func (s *screen) erase() {
	if s.drawn > 0 {
		_, _ = s.err.Write(eraser(s.drawn))
		s.drawn = 0
	}
}

// eraser returns what erases the line that the cursor is on and those above it, lines in all.
func eraser(lines int) []byte {
	b := []byte{'\r'}
	if lines > 1 {
		b = fmt.Appendf(b, "\x1b[%dA", lines-1)
	}
	return append(b, "\x1b[J"...)
}

// redraw writes above in place of the live view, and the live view anew below it. All is one write, so that nothing
// flickers. The last line has no line feed, and the last column stays free: a terminal would scroll.
func (s *screen) redraw(above []byte) error {
	var b bytes.Buffer
	if s.drawn > 0 {
		b.Write(eraser(s.drawn))
	}
	b.Write(above)
	columns, rows, _ := s.err.Size()
	s.drawn = min(len(s.lines), max(rows-1, 0))
	for i := range s.drawn {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(s.lines[i].Line(columns - 1))
	}
	if b.Len() == 0 {
		return nil
	}
	_, err := s.err.Write(b.Bytes())
	return err
}

// width returns the columns of a report on standard output: the terminal's, else COLUMNS, else defaultWidth.
func (s *screen) width() int {
	if columns, _, ok := s.out.Size(); ok {
		return columns
	}
	return s.fileWidth()
}

// fileWidth returns the columns of a report in a file.
func (s *screen) fileWidth() int {
	if columns, err := strconv.Atoi(s.getenv("COLUMNS")); err == nil && columns > 0 {
		return columns
	}
	return defaultWidth
}
