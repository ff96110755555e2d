package logging

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"unicode"
	"unicode/utf8"
)

// Redacted is what stands in place of a secret.
const Redacted = "[redacted]"

// minSecret is the length in bytes below which a secret is not looked for: a text is full of such strings, and what
// remained would tell the secret by its gaps.
const minSecret = 4

// Redactor replaces secrets in text and strips what could fool a terminal. It is the second line of defence: secrets
// are not logged in the first place, but servers echo them in their error texts. The zero value is ready, and so is
// nil, which knows no secret. It may be used from many goroutines.
type Redactor struct {
	mu       sync.Mutex
	secrets  []string // for good
	rotated  []string // those of the last Rotate last
	replacer atomic.Pointer[strings.Replacer]
}

// remembered is how many secrets that were replaced by others are still looked for: what is in flight may show them.
const remembered = 1000

// Add adds secrets to those that are replaced. Secrets of fewer than four bytes are ignored: they cannot be told from
// ordinary text. What a logger has already formatted, as slog's With does, stays as it is.
func (r *Redactor) Add(secrets ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.secrets = merge(r.secrets, secrets)
	r.rebuild()
}

// Rotate is Add for secrets that others will take the place of. Of those before them it remembers a thousand: keys that
// change by the hour would else add up for as long as the process lives.
func (r *Redactor) Rotate(secrets ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rotated = merge(r.rotated, secrets)
	if most := len(secrets) + remembered; len(r.rotated) > most {
		r.rotated = slices.Delete(r.rotated, 0, len(r.rotated)-most)
	}
	r.rebuild()
}

// merge returns known without the secrets and these behind it.
func merge(known, secrets []string) []string {
	news := make(map[string]bool, len(secrets))
	for _, s := range secrets {
		news[s] = len(s) >= minSecret
	}
	known = slices.DeleteFunc(known, func(s string) bool { return news[s] })
	for _, s := range secrets {
		if news[s] {
			known = append(known, s)
			news[s] = false
		}
	}
	return known
}

// rebuild makes the replacer anew.
func (r *Redactor) rebuild() {
	secrets := slices.Concat(r.secrets, r.rotated)
	if len(secrets) == 0 {
		return
	}
	// The replacer prefers what comes first: of two secrets that begin alike the longer one has to.
	slices.SortFunc(secrets, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	pairs := make([]string, 0, 2*len(secrets))
	for _, s := range secrets {
		pairs = append(pairs, s, Redacted)
	}
	r.replacer.Store(strings.NewReplacer(pairs...))
}

// String returns s on one line, without escape sequences, control and bidirectional formatting characters and invalid
// UTF-8, and with every known secret replaced by Redacted.
func (r *Redactor) String(s string) string {
	s = Clean(s)
	if r == nil {
		return s
	}
	if replacer := r.replacer.Load(); replacer != nil {
		return replacer.Replace(s)
	}
	return s
}

// Clean returns s on one line, without ANSI escape sequences, control and bidirectional formatting characters and
// invalid UTF-8. A run of line breaks and tabs becomes one space.
func Clean(s string) string {
	if !needsCleaning(s) {
		return s
	}
	var b strings.Builder
	b.Grow(len(s))
	for i := 0; i < len(s); {
		if n := escapeSequence(s[i:]); n > 0 {
			i += n
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		i += size
		switch {
		case r == '\n' || r == '\r' || r == '\t':
			if b.Len() > 0 && !strings.HasSuffix(b.String(), " ") {
				b.WriteByte(' ')
			}
		case !unsafeRune(r):
			b.WriteRune(r) // U+FFFD for invalid UTF-8
		}
	}
	return strings.TrimRight(b.String(), " ")
}

func needsCleaning(s string) bool {
	return !utf8.ValidString(s) || strings.ContainsFunc(s, unsafeRune)
}

// unsafeRune reports control characters of both sets, and those that reorder the text around them.
func unsafeRune(r rune) bool {
	return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029'
}

// escapeSequence returns the length of the ANSI escape sequence (ECMA-48) that s begins with, 0 if there is none. One
// that never ends reaches to the end of s.
func escapeSequence(s string) int {
	var intro, rest string
	switch {
	case strings.HasPrefix(s, "\x1b") && len(s) > 1:
		intro, rest = s[1:2], s[2:]
	case strings.HasPrefix(s, "\u009b"): // CSI as one character
		intro, rest = "[", s[len("\u009b"):]
	case strings.HasPrefix(s, "\u009d"): // OSC as one character
		intro, rest = "]", s[len("\u009d"):]
	default:
		return 0
	}
	head := len(s) - len(rest)
	switch intro {
	case "[": // control sequence: parameters, then one final byte
		for i := range len(rest) {
			if c := rest[i]; c >= 0x40 && c <= 0x7e {
				return head + i + 1
			} else if c < 0x20 || c > 0x7e {
				return head + i
			}
		}
		return len(s)
	case "]", "P", "X", "^", "_": // strings, up to BEL or ST
		end := strings.IndexAny(rest, "\a\x1b\u009c")
		if end < 0 {
			return len(s)
		}
		if rest[end] == 0x1b {
			return head + end // the terminator is a sequence of its own
		}
		_, size := utf8.DecodeRuneInString(rest[end:])
		return head + end + size
	}
	// Everything else is intermediate bytes and a final one, such as ESC ( B.
	for i := 1; i < len(s); i++ {
		if c := s[i]; c >= 0x30 && c <= 0x7e {
			return i + 1
		} else if c < 0x20 || c > 0x7e {
			return i
		}
	}
	return len(s)
}
