//go:build cgo && hftokenizers

package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/inferprobe/inferprobe/internal/sim"
	"github.com/inferprobe/inferprobe/internal/sim/simtest"
)

// openTerminal returns both sides of a pseudo-terminal: the one that a user sits at, and the one for a program.
func openTerminal(t *testing.T, columns uint16) (user, program *os.File) {
	t.Helper()
	user, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo-terminal: %v", err)
	}
	t.Cleanup(func() { user.Close() })
	fd := int(user.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 40, Col: columns}); err != nil {
		t.Fatal(err)
	}
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return user, program
}

// runOn runs inferprobe against url with standard error on a new terminal, and standard output as well unless stdout is
// given. It returns every byte that the terminal got.
func runOn(t *testing.T, columns uint16, stdout *os.File, url string, env ...string) []byte {
	t.Helper()
	user, program := openTerminal(t, columns)
	if stdout == nil {
		stdout = program
	}
	p := start(t, stdout, program, env, "run", "--url", url, "--prompt-tokens", "16", "--output-tokens", "4",
		"--profile", "synchronous", "--max-seconds", "2")
	program.Close()
	raw, _ := io.ReadAll(user) // its end is an error, since nobody has the other side open any more
	if code := p.code(t); code != exitDone {
		t.Errorf("exit code %d\n%s", code, raw)
	}
	return raw
}

// stageShown is in every line of the live view, and nowhere else.
const stageShown = "synchronous (1/1)"

func TestOnATerminal(t *testing.T) {
	t.Parallel()
	_, url := simtest.Start(t, sim.Options{Fixed: new(sim.FixedTiming)})
	colour := regexp.MustCompile(`\x1b\[[0-9;]*m`)
	for _, test := range []struct {
		name          string
		columns       uint16
		env           []string
		live, colours bool
	}{
		{"20 columns", 20, []string{"TERM=xterm"}, true, true},
		{"40 columns", 40, []string{"TERM=xterm"}, true, true},
		{"200 columns", 200, []string{"TERM=xterm"}, true, true},
		{"NO_COLOR", 80, []string{"TERM=xterm", "NO_COLOR=1"}, true, false},
		{"dumb", 80, []string{"TERM=dumb"}, false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			raw := runOn(t, test.columns, nil, url, test.env...)
			if colours := colour.Match(raw); colours != test.colours {
				t.Errorf("colours: %v", colours)
			}
			if live := bytes.Contains(raw, []byte(stageShown)); live != test.live {
				t.Errorf("live view: %v", live)
			}
			if escapes := bytes.Contains(raw, []byte("\x1b")); escapes != (test.live || test.colours) {
				t.Errorf("escape sequences: %v", escapes)
			}
			checkShown(t, raw, int(test.columns))
		})
	}
}

// checkShown makes sure that the log, the report and nothing else is left on the terminal, in this order.
func checkShown(t *testing.T, raw []byte, columns int) {
	t.Helper()
	terminal := &fakeTerminal{t: t, columns: columns}
	terminal.Write(raw)
	shown := strings.Join(terminal.lines, "\n")
	if strings.Contains(shown, stageShown) {
		t.Errorf("a line of the live view is left:\n%s", shown)
	}
	if terminal.column != 0 {
		t.Errorf("the cursor is left in column %d:\n%s", terminal.column, shown)
	}
	log, report, found := strings.Cut(string(raw), "inferprobe")
	if !found || !strings.Contains(log, "INF") || strings.Contains(report, "INF") {
		t.Errorf("not first the log and then the report:\n%s", shown)
	}
	for line := range strings.SplitSeq(report, "\r\n") {
		if utf8.RuneCountInString(line) > columns {
			t.Errorf("wider than the terminal: %q", line)
		}
	}
}

// A report in a file has no escape sequences, and leaves the terminal to the log.
func TestReportInAFile(t *testing.T) {
	t.Parallel()
	_, url := simtest.Start(t, sim.Options{Fixed: new(sim.FixedTiming)})
	path := filepath.Join(t.TempDir(), "report.txt")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	raw := runOn(t, 100, file, url, "TERM=xterm")
	report, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(report, []byte("Benchmark Report")) || bytes.Contains(report, []byte("\x1b")) {
		t.Errorf("the file:\n%q", report)
	}
	if bytes.Contains(raw, []byte("Benchmark Report")) || !bytes.Contains(raw, []byte(stageShown)) {
		t.Errorf("the terminal:\n%q", raw)
	}
}
