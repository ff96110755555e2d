package main

import (
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/inferprobe/inferprobe/internal/report"
)

// fakeTerminal is a stream whose size is known, with what it shows: every line ever written, as if it were endlessly
// high. It knows the control characters and sequences that a screen writes, and fails the test at any other one.
type fakeTerminal struct {
	t             *testing.T
	columns, rows int // 0: it does not say
	lines         []string
	row, column   int
	broken        error // of every write
}

func (f *fakeTerminal) Fd() uintptr { return ^uintptr(0) } // of nothing

func (f *fakeTerminal) Size() (columns, rows int, ok bool) { return f.columns, f.rows, f.columns > 0 }

func (f *fakeTerminal) Write(b []byte) (int, error) {
	if f.broken != nil {
		return 0, f.broken
	}
	for rest := string(b); rest != ""; {
		rest = f.take(rest)
	}
	return len(b), nil
}

// take shows the first character or sequence of text and returns what follows it.
func (f *fakeTerminal) take(text string) (rest string) {
	for f.row >= len(f.lines) {
		f.lines = append(f.lines, "")
	}
	switch {
	case text[0] == '\r':
		f.column = 0
		return text[1:]
	case text[0] == '\n':
		f.row, f.column = f.row+1, 0
		return text[1:]
	case strings.HasPrefix(text, "\x1b[J"):
		f.lines = f.lines[:f.row+1]
		f.lines[f.row] = string([]rune(f.lines[f.row])[:f.column])
		return text[len("\x1b[J"):]
	case text[0] == '\x1b':
		return f.sequence(text)
	}
	r := []rune(text)[0]
	if f.columns > 0 && f.column == f.columns {
		f.row, f.column = f.row+1, 0
		return text
	}
	line := []rune(f.lines[f.row])
	if f.column < len(line) {
		line[f.column] = r
	} else {
		line = append(line, r)
	}
	f.lines[f.row] = string(line)
	f.column++
	return text[len(string(r)):]
}

// sequence obeys a sequence that ends in A, up, and leaves out one that ends in m, a colour.
func (f *fakeTerminal) sequence(text string) (rest string) {
	known := regexp.MustCompile(`^\x1b\[([0-9;]*)([Am])`).FindStringSubmatch(text)
	if known == nil {
		f.t.Fatalf("an escape sequence that is not known: %q", text)
	}
	if known[2] == "A" {
		up, _ := strconv.Atoi(known[1])
		if f.row -= up; f.row < 0 {
			f.t.Fatal("the cursor left the terminal")
		}
	}
	return text[len(known[0]):]
}

// shows checks what is on the terminal.
func (f *fakeTerminal) shows(want ...string) {
	f.t.Helper()
	got := f.lines
	if n := len(got); n > 0 && got[n-1] == "" {
		got = got[:n-1]
	}
	if diff := cmp.Diff(want, got); diff != "" {
		f.t.Errorf("-want +got:\n%s", diff)
	}
}

// newFakeScreen returns a screen on one terminal for both streams.
func newFakeScreen(t *testing.T, columns, rows int, env ...string) (*screen, *fakeTerminal) {
	f := &fakeTerminal{t: t, columns: columns, rows: rows}
	s := newScreen(f, f, func(name string) string {
		for i := 0; i < len(env); i += 2 {
			if env[i] == name {
				return env[i+1]
			}
		}
		return ""
	})
	s.log = slog.New(slog.NewTextHandler(s, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
	return s, f
}

func progress(endpoint string, done int) report.Progress {
	return report.Progress{Endpoint: endpoint, Stage: "synchronous", Completed: done}
}

// The live view stays below the log and the reports, with a line for each endpoint, and leaves nothing behind.
func TestLiveView(t *testing.T) {
	s, f := newFakeScreen(t, 60, 10, "TERM", "xterm")
	line := func(endpoint string, done int) string { return progress(endpoint, done).Line(59) }

	s.progress(progress("a", 1))
	f.shows(line("a", 1))
	s.log.Info("one")
	f.shows("level=INFO msg=one", line("a", 1))
	s.progress(progress("b", 1))
	s.progress(progress("a", 2))
	f.shows("level=INFO msg=one", line("a", 2), line("b", 1))
	s.finished("a")
	f.shows("level=INFO msg=one", line("b", 1))

	s.log.Info(strings.Repeat("x", 60)) // wraps
	above := []string{"level=INFO msg=one", "level=INFO msg=" + strings.Repeat("x", 45), strings.Repeat("x", 15)}
	f.shows(append(above, line("b", 1))...)
	if err := s.print([]byte("report\nof a\n")); err != nil {
		t.Fatal(err)
	}
	above = append(above, "report", "of a")
	f.shows(append(above, line("b", 1))...)
	s.finished("b")
	s.finished("c") // never seen
	f.shows(above...)
	if f.column != 0 {
		t.Errorf("the cursor is left in column %d", f.column)
	}
	s.log.Info("two")
	f.shows(append(above, "level=INFO msg=two")...)
}

// A live view that fills the terminal would scroll, and could not be erased any more.
func TestLiveViewIsLowerThanTheTerminal(t *testing.T) {
	s, f := newFakeScreen(t, 80, 3, "TERM", "xterm")
	for i := range 5 {
		s.progress(progress(fmt.Sprint("endpoint-", i), i))
	}
	f.shows(progress("endpoint-0", 0).Line(79), progress("endpoint-1", 1).Line(79))
	f.rows, f.columns = 2, 20 // resized
	s.progress(progress("endpoint-0", 9))
	f.shows(progress("endpoint-0", 9).Line(19))
}

// Where lines cannot be rewritten progress is a line of the log now and then.
func TestProgressWithoutALiveView(t *testing.T) {
	for _, test := range []struct {
		name          string
		columns, rows int
		term          string
	}{
		{"no terminal", 0, 0, "xterm"},
		{"dumb terminal", 80, 24, "dumb"},
		{"unknown terminal", 80, 24, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, f := newFakeScreen(t, test.columns, test.rows, "TERM", test.term)
				f.columns = 1000 * min(test.columns, 1) // nothing is wrapped
				for done := range 31 {
					s.progress(report.Progress{Endpoint: "a", Stage: "synchronous", Index: 1, Of: 11, Completed: done,
						Elapsed: time.Duration(done) * time.Second, TokensPerSecond: 2.5})
					time.Sleep(time.Second)
				}
				s.finished("a")
				time.Sleep(time.Hour)
				s.progress(progress("a", 0)) // of the next cycle, which has only begun
				const line = "level=INFO msg=measuring endpoint=a stage=synchronous of=1/11 elapsed=%ds completed=%d failed=0 " +
					"in_flight=0 tokens_per_second=2"
				f.shows(fmt.Sprintf(line, 15, 15), fmt.Sprintf(line, 30, 30))
			})
		})
	}
}

func TestWidth(t *testing.T) {
	for _, test := range []struct {
		columns, rows int
		env           string
		report, file  int
	}{
		{0, 0, "", 130, 130},
		{0, 0, "70", 70, 70},
		{0, 0, "wide", 130, 130},
		{0, 0, "-1", 130, 130},
		{200, 50, "70", 200, 70},
		{20, 50, "", 20, 130},
	} {
		s, _ := newFakeScreen(t, test.columns, test.rows, "COLUMNS", test.env)
		if s.width() != test.report || s.fileWidth() != test.file {
			t.Errorf("%d columns, COLUMNS=%q: report %d, file %d; want %d, %d", test.columns, test.env, s.width(), s.fileWidth(),
				test.report, test.file)
		}
	}
}

// A report that cannot be written is an error; a log that cannot be written is none.
func TestBrokenStreams(t *testing.T) {
	s, f := newFakeScreen(t, 80, 24, "TERM", "xterm")
	s.progress(progress("a", 1))
	f.broken = errors.New("broken")
	if err := s.print([]byte("report")); !errors.Is(err, f.broken) {
		t.Errorf("print: %v", err)
	}
	s.log.Info("lost")
	s.progress(progress("a", 2))
	s.finished("a")
}
