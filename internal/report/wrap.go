package report

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/rivo/uniseg"
)

// displayWidth returns the number of terminal columns that s takes.
func displayWidth(s string) int {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return uniseg.StringWidth(s)
		}
	}
	return len(s) // nearly always, and 27 times as fast for a row label
}

// pad appends spaces to s until it is width columns wide.
func pad(s string, width int) string {
	return s + strings.Repeat(" ", max(0, width-displayWidth(s)))
}

// wrap folds s into lines of at most width columns. It loses nothing but spaces: lines break at spaces; a word that is
// wider than a line breaks after a comma, '=', '@' or '/'; a piece that is still too wide breaks anywhere between two
// characters. An empty s is one empty line.
func wrap(s string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(s) {
		switch {
		case line == "" && displayWidth(word) <= width:
			line = word
		case line != "" && displayWidth(line+" "+word) <= width:
			line += " " + word
		case displayWidth(word) <= width:
			lines, line = append(lines, line), word
		default:
			if line != "" {
				line += " "
			}
			folded := foldWord(line, word, width)
			last := len(folded) - 1
			lines, line = append(lines, folded[:last]...), folded[last]
		}
	}
	return append(lines, line)
}

// foldWord appends a word that is wider than a line to the text before it on the line.
func foldWord(line, word string, width int) []string {
	var lines []string
	end := func() {
		if line = strings.TrimRight(line, " "); line != "" {
			lines = append(lines, line)
		}
		line = ""
	}
	for _, piece := range pieces(word) {
		if displayWidth(line+piece) > width {
			end()
		}
		if displayWidth(piece) <= width {
			line += piece
			continue
		}
		for graphemes := uniseg.NewGraphemes(piece); graphemes.Next(); {
			if displayWidth(line+graphemes.Str()) > width {
				end()
			}
			line += graphemes.Str()
		}
	}
	return append(lines, line)
}

// pieces cuts a word after each comma, '=', '@' and '/'.
func pieces(word string) []string {
	var all []string
	start, end := 0, 0
	for graphemes := uniseg.NewGraphemes(word); graphemes.Next(); {
		_, end = graphemes.Positions()
		if c := graphemes.Str(); c == "," || c == "=" || c == "@" || c == "/" {
			all, start = append(all, word[start:end]), end
		}
	}
	if start < end {
		all = append(all, word[start:])
	}
	return all
}

// narrowest returns the smallest width at which wrap need not break s inside a piece.
func narrowest(s string) int {
	var widest int
	for _, word := range strings.Fields(s) {
		for _, piece := range pieces(word) {
			widest = max(widest, displayWidth(piece))
		}
	}
	return widest
}

// clean makes text from elsewhere fit for a terminal: one line, without escape sequences, control characters or the
// invisible characters that reorder text.
func clean(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		if n := escapeSequence(s); n > 0 {
			s = s[n:]
			continue
		}
		r, size := utf8.DecodeRuneInString(s)
		s = s[size:]
		switch {
		case unicode.IsSpace(r), r == '\u0085', r == '\u2028', r == '\u2029':
			b.WriteByte(' ')
		case unicode.IsControl(r), isReordering(r):
		default:
			b.WriteRune(r) // U+FFFD where the bytes were not UTF-8
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

// isReordering reports whether r changes the direction of the text around it, or is a byte order mark.
func isReordering(r rune) bool {
	return r >= '\u202a' && r <= '\u202e' || r >= '\u2066' && r <= '\u2069' || r == '\u200e' || r == '\u200f' ||
		r == '\u061c' || r == '\ufeff'
}

// escapeSequence returns the length of the ECMA-48 control sequence or string at the start of s, 0 if there is none.
// One that does not end is only its introducer, so that the text after it is not lost.
func escapeSequence(s string) int {
	if len(s) < 2 || s[0] != '\x1b' {
		return 0
	}
	switch s[1] {
	case '[': // control sequence: parameters and intermediates, then one final byte
		for i := 2; i < len(s); i++ {
			if s[i] >= 0x40 && s[i] <= 0x7e {
				return i + 1
			}
			if s[i] < 0x20 || s[i] > 0x7e {
				break
			}
		}
	case ']', 'P', 'X', '^', '_': // string, up to BEL or ESC \
		for i := 2; i < len(s); i++ {
			if s[i] == '\a' {
				return i + 1
			}
			if s[i] == '\x1b' && i+1 < len(s) && s[i+1] == '\\' {
				return i + 2
			}
		}
	}
	return 2
}
