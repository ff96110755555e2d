// Package logging sets up log/slog: coloured lines on a terminal, JSON elsewhere, with secrets and control characters
// kept out of both.
package logging

import (
	"encoding"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/lmittmann/tint"
	"golang.org/x/term"
)

// The formats of New.
const (
	FormatAuto = "auto" // text on a terminal, JSON otherwise
	FormatText = "text" // one line for people, coloured on a terminal unless NO_COLOR is set or TERM is dumb
	FormatJSON = "json" // one JSON object a line
)

// Formats returns every format, for flags and messages.
func Formats() []string { return []string{FormatAuto, FormatText, FormatJSON} }

// Levels returns the names of the levels from the most talkative on, for flags and messages.
func Levels() []string { return []string{"debug", "info", "warn", "error"} }

// New returns a logger that writes to w in one of Formats, from one of Levels on. Secrets that redact knows are
// replaced in messages and values; redact may be nil. The error says what would have been right.
func New(w io.Writer, format, level string, redact *Redactor) (*slog.Logger, error) {
	min, err := parseLevel(level)
	if err != nil {
		return nil, err
	}
	terminal := isTerminal(w)
	switch format {
	case FormatAuto, FormatText, FormatJSON:
	default:
		return nil, fmt.Errorf("log format %q is not known; use %s", format, strings.Join(Formats(), ", "))
	}
	if format == FormatJSON || format == FormatAuto && !terminal {
		return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: min, ReplaceAttr: redact.replaceJSON})), nil
	}
	return slog.New(tint.NewTextHandler(w, &tint.Options{
		Level:       min,
		TimeFormat:  time.RFC3339,
		NoColor:     !terminal || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb",
		ReplaceAttr: redact.replaceText,
	})), nil
}

func parseLevel(name string) (slog.Level, error) {
	switch name {
	case "debug":
		return slog.LevelDebug, nil
	case "info":
		return slog.LevelInfo, nil
	case "warn":
		return slog.LevelWarn, nil
	case "error":
		return slog.LevelError, nil
	}
	return 0, fmt.Errorf("log level %q is not known; use %s", name, strings.Join(Levels(), ", "))
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(interface{ Fd() uintptr })
	return ok && term.IsTerminal(int(f.Fd()))
}

// replaceJSON cleans an attribute and writes durations as "1.5s": slog's JSON has bare nanoseconds, whose unit nobody
// can guess.
func (r *Redactor) replaceJSON(groups []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		return slog.String(a.Key, a.Value.Duration().String())
	}
	return r.replace(groups, a)
}

// replaceText cleans an attribute and paints errors red.
func (r *Redactor) replaceText(groups []string, a slog.Attr) slog.Attr {
	_, failed := a.Value.Any().(error)
	if a = r.replace(groups, a); failed {
		const brightRed = 9
		return tint.Attr(brightRed, a)
	}
	return a
}

// replace cleans everything that can carry foreign text and leaves numbers, times and the handler's own values alone.
func (r *Redactor) replace(_ []string, a slog.Attr) slog.Attr {
	switch a.Value.Kind() {
	case slog.KindString:
		return slog.String(a.Key, r.String(a.Value.String()))
	case slog.KindAny:
	default:
		return a
	}
	switch v := a.Value.Any().(type) {
	case nil, slog.Level, *slog.Source:
		return a
	case []string:
		clean := make([]string, len(v))
		for i, s := range v {
			clean[i] = r.String(s)
		}
		return slog.Any(a.Key, clean)
	default:
		return slog.String(a.Key, r.String(plain(v)))
	}
}

// plain returns v as text, by the first of its own methods that gives one. A method that panics, as those of nil
// pointers do, must not take the process down for the sake of a log line.
func plain(v any) (text string) {
	defer func() {
		if p := recover(); p != nil {
			text = fmt.Sprintf("!PANIC: %v", p)
		}
	}()
	switch v := v.(type) {
	case error:
		return v.Error()
	case fmt.Stringer:
		return v.String()
	case encoding.TextMarshaler:
		if b, err := v.MarshalText(); err == nil {
			return string(b)
		}
	case []byte:
		return string(v)
	}
	return fmt.Sprintf("%+v", v)
}
