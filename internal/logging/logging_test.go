package logging_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/inferprobe/inferprobe/internal/logging"
)

const secret = "sk-test-7f3a9c"

func newLogger(t *testing.T, w *bytes.Buffer, format string, secrets ...string) *slog.Logger {
	t.Helper()
	redact := new(logging.Redactor)
	redact.Add(secrets...)
	logger, err := logging.New(w, format, "debug", redact)
	if err != nil {
		t.Fatal(err)
	}
	return logger
}

func TestFormats(t *testing.T) {
	for _, tt := range []struct {
		format string
		json   bool
	}{
		{"auto", true}, // a buffer is no terminal
		{"json", true},
		{"text", false},
	} {
		t.Run(tt.format, func(t *testing.T) {
			var buf bytes.Buffer
			newLogger(t, &buf, tt.format).Info("the cycle ended", "endpoint", "llama", "took", 1500*time.Millisecond)
			if got := json.Valid(buf.Bytes()); got != tt.json {
				t.Errorf("is JSON: %v, want %v: %s", got, tt.json, &buf)
			}
			if strings.Contains(buf.String(), "\x1b") {
				t.Errorf("colours without a terminal: %q", &buf)
			}
			if !strings.Contains(buf.String(), "1.5s") {
				t.Errorf("the duration has no unit: %s", &buf)
			}
		})
	}
}

func TestTerminal(t *testing.T) {
	tty, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip("no pseudo-terminal here: ", err)
	}
	defer tty.Close()
	for _, tt := range []struct{ name, noColor, term, format, want string }{
		{"colours", "", "xterm", "auto", "\x1b["},
		{"NO_COLOR", "1", "xterm", "auto", "INF the cycle ended"},
		{"dumb", "", "dumb", "auto", "INF the cycle ended"},
		{"json", "", "xterm", "json", `"msg":"the cycle ended"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("NO_COLOR", tt.noColor)
			t.Setenv("TERM", tt.term)
			tee := &teeTerminal{File: tty}
			logger, err := logging.New(tee, tt.format, "info", nil)
			if err != nil {
				t.Fatal(err)
			}
			logger.Info("the cycle ended")
			if !strings.Contains(tee.written.String(), tt.want) {
				t.Errorf("got %q, want %q in it", &tee.written, tt.want)
			}
			if colours := strings.Contains(tee.written.String(), "\x1b["); colours != (tt.name == "colours") {
				t.Errorf("coloured: %v: %q", colours, &tee.written)
			}
		})
	}
}

// teeTerminal is a terminal that keeps what was written to it.
type teeTerminal struct {
	*os.File
	written bytes.Buffer
}

func (t *teeTerminal) Write(p []byte) (int, error) { return t.written.Write(p) }

func TestLevels(t *testing.T) {
	for i, level := range logging.Levels() {
		var buf bytes.Buffer
		logger, err := logging.New(&buf, "json", level, nil)
		if err != nil {
			t.Fatal(err)
		}
		logger.Debug("d")
		logger.Info("i")
		logger.Warn("w")
		logger.Error("e")
		if got, want := strings.Count(buf.String(), "\n"), len(logging.Levels())-i; got != want {
			t.Errorf("%s: %d lines, want %d", level, got, want)
		}
	}
}

func TestBadOptions(t *testing.T) {
	for _, tt := range []struct{ format, level, want string }{
		{"xml", "info", `log format "xml" is not known; use auto, text, json`},
		{"json", "loud", `log level "loud" is not known; use debug, info, warn, error`},
		{"json", "", `log level "" is not known; use debug, info, warn, error`},
	} {
		if _, err := logging.New(new(bytes.Buffer), tt.format, tt.level, nil); err == nil || err.Error() != tt.want {
			t.Errorf("%s, %s: got %v, want %s", tt.format, tt.level, err, tt.want)
		}
	}
}

type stringer struct{ s string }

func (s *stringer) String() string { return s.s }

type valuer struct{ s string }

func (v valuer) LogValue() slog.Value {
	return slog.GroupValue(slog.String("inner", v.s), slog.Int("n", 1))
}

func TestSecretsStayOut(t *testing.T) {
	text := "401: key " + secret + " is not valid"
	for name, log := range map[string]func(*slog.Logger){
		"message":    func(l *slog.Logger) { l.Info(text) },
		"string":     func(l *slog.Logger) { l.Info("m", "k", text) },
		"error":      func(l *slog.Logger) { l.Info("m", "err", errors.New(text)) },
		"joined":     func(l *slog.Logger) { l.Info("m", "err", errors.Join(errors.New(text), errors.New("b"))) },
		"strings":    func(l *slog.Logger) { l.Info("m", "k", []string{"a", text}) },
		"bytes":      func(l *slog.Logger) { l.Info("m", "k", []byte(text)) },
		"struct":     func(l *slog.Logger) { l.Info("m", "k", struct{ Body string }{text}) },
		"map":        func(l *slog.Logger) { l.Info("m", "k", map[string]any{"h": text}) },
		"stringer":   func(l *slog.Logger) { l.Info("m", "k", &stringer{text}) },
		"log valuer": func(l *slog.Logger) { l.Info("m", "k", valuer{text}) },
		"group":      func(l *slog.Logger) { l.Info("m", slog.Group("g", "k", text)) },
		"with":       func(l *slog.Logger) { l.With("k", text).WithGroup("g").Info("m", "k", text) },
	} {
		for _, format := range []string{"json", "text"} {
			t.Run(name+"/"+format, func(t *testing.T) {
				var buf bytes.Buffer
				log(newLogger(t, &buf, format, secret))
				if strings.Contains(buf.String(), secret) || !strings.Contains(buf.String(), logging.Redacted) {
					t.Errorf("got %s", &buf)
				}
			})
		}
	}
}

func TestValuesThatAreNotText(t *testing.T) {
	var nobody *stringer
	var buf bytes.Buffer
	newLogger(t, &buf, "json").Info("m", "n", 3, "f", 0.5, "b", true, "nil", nil, "panics", nobody,
		"at", time.Date(2026, 8, 22, 12, 0, 0, 0, time.UTC), "list", []string{"a"})
	var got map[string]any
	if err := json.Unmarshal(buf.Bytes(), &got); err != nil {
		t.Fatalf("%v: %s", err, &buf)
	}
	delete(got, "time")
	want := map[string]any{"level": "INFO", "msg": "m", "n": 3.0, "f": 0.5, "b": true, "nil": nil,
		"at": "2026-08-22T12:00:00Z", "list": []any{"a"},
		"panics": "!PANIC: runtime error: invalid memory address or nil pointer dereference"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func TestRedactor(t *testing.T) {
	for _, tt := range []struct {
		name    string
		secrets []string
		in      string
		want    string
	}{
		{"none", nil, "plain", "plain"},
		{"longer first", []string{"abcd", "abcdef"}, "x abcdef abcd", "x [redacted] [redacted]"},
		{"too short", []string{"", "abc"}, "abc", "abc"},
		{"split by an escape sequence", []string{secret}, "sk-test\x1b[0m-7f3a9c", logging.Redacted},
	} {
		t.Run(tt.name, func(t *testing.T) {
			redact := new(logging.Redactor)
			redact.Add(tt.secrets...)
			if got := redact.String(tt.in); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	if got := (*logging.Redactor)(nil).String("a\nb"); got != "a b" {
		t.Errorf("nil: got %q", got)
	}
}

// Keys that are replaced again and again do not add up, and those that stay, or have only just gone, are not forgotten.
func TestRedactorForgetsOldSecrets(t *testing.T) {
	redact := new(logging.Redactor)
	redact.Add("for-good")
	key := func(i int) string { return fmt.Sprintf("sk-%06d", i) }
	for i := range 3000 {
		redact.Rotate(key(i), "the-same")
	}
	for text, want := range map[string]string{
		"for-good": logging.Redacted, "the-same": logging.Redacted, key(2999): logging.Redacted,
		key(2100): logging.Redacted, key(1900): key(1900), key(0): key(0),
	} {
		if got := redact.String(text); got != want {
			t.Errorf("%s becomes %s, want %s", text, got, want)
		}
	}
	many := make([]string, 5000)
	for i := range many {
		many[i] = key(i)
	}
	redact.Rotate(many...)
	if got := redact.String(key(0) + key(4999)); got != logging.Redacted+logging.Redacted {
		t.Errorf("of many keys at once some are forgotten: %s", got)
	}
}

func TestRedactorIsConcurrent(t *testing.T) {
	redact := new(logging.Redactor)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			s := fmt.Sprintf("secret-%d", i)
			redact.Add(s)
			if got := redact.String("a " + s); got != "a "+logging.Redacted {
				t.Errorf("got %q", got)
			}
		})
	}
	wg.Wait()
}

func TestClean(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"", ""},
		{"größer 日本 👩‍💻", "größer 日本 👩‍💻"},
		{"two\nlines\r\n\tand more\n", "two lines and more"},
		{"\x1b[31mred\x1b[0m", "red"},
		{"\x1b]0;title\arest", "rest"},
		{"\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"},
		{"\u009b31mred", "red"},
		{"\u009dtitle\u009crest", "rest"},
		{"\x1b(Bdone", "done"},
		{"cut \x1b[31", "cut"},
		{"cut \x1b]0;title", "cut"},
		{"bell\a nul\x00 del\x7f back\b", "bell nul del back"},
		{"\x1b", ""},
		{"a\x1b\nb", "a b"},
		{"user\u202egnp.exe", "usergnp.exe"},
		{"bad \xff utf-8", "bad \ufffd utf-8"},
	} {
		if got := logging.Clean(tt.in); got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.in, got, tt.want)
		}
	}
}

func FuzzClean(f *testing.F) {
	for _, s := range []string{"plain", "\x1b[31mred\x1b[0m", "\x1b]0;t\a", "\u009b1m", "\x1bP\x1b\\", "a\nb", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := logging.Clean(s)
		if strings.ContainsAny(got, "\x1b\n\r\t\a\x00\u009b") {
			t.Errorf("%q: got %q", s, got)
		}
		if again := logging.Clean(got); again != got {
			t.Errorf("%q: %q became %q", s, got, again)
		}
	})
}
