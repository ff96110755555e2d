package report

import (
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestWrap(t *testing.T) {
	for _, test := range []struct {
		text  string
		width int
		want  []string
	}{
		{"", 5, []string{""}},
		{"   ", 5, []string{""}},
		{"asynchronous@2.99 req/sec", 25, []string{"asynchronous@2.99 req/sec"}},
		{"asynchronous@2.99 req/sec", 24, []string{"asynchronous@2.99", "req/sec"}},
		{"asynchronous@2.99 req/sec", 16, []string{"asynchronous@", "2.99 req/sec"}},
		{"asynchronous@2.99 req/sec", 6, []string{"asynch", "ronous", "@2.99", "req/", "sec"}},
		{"1.17, 1.17, 1.18", 11, []string{"1.17, 1.17,", "1.18"}},
		{"a=1,b=2", 4, []string{"a=1,", "b=2"}},
		{"error_rate=1%", 12, []string{"error_rate=", "1%"}},
		{"model meta-llama/Llama", 12, []string{"model", "meta-llama/", "Llama"}},
		{"通义千问", 5, []string{"通义", "千问"}},
		{"👩‍👩‍👧🇩🇪é", 3, []string{"👩‍👩‍👧", "🇩🇪é"}},
	} {
		if diff := cmp.Diff(test.want, wrap(test.text, test.width)); diff != "" {
			t.Errorf("wrap(%q, %d) (-want +got):\n%s", test.text, test.width, diff)
		}
	}
}

// TestWrapLosesNothing: but for spaces, the lines together are the text, and none is too wide.
func TestWrapLosesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringOf(rapid.OneOf(rapid.Rune(), rapid.RuneFrom([]rune("ab ,@/"), unicode.Han))).Draw(t, "text")
		width := rapid.IntRange(8, 40).Draw(t, "width")
		checkWrap(t, clean(text), width)
	})
}

func checkWrap(t interface{ Fatalf(string, ...any) }, text string, width int) {
	lines := wrap(text, width)
	unspaced := func(s string) string { return strings.Join(strings.Fields(s), "") }
	if got, want := unspaced(strings.Join(lines, "")), unspaced(text); got != want {
		t.Fatalf("wrap(%q, %d) has %q", text, width, got)
	}
	for _, line := range lines {
		if displayWidth(line) > width {
			t.Fatalf("wrap(%q, %d): %q is %d wide", text, width, line, displayWidth(line))
		}
	}
}

func TestClean(t *testing.T) {
	for text, want := range map[string]string{
		"":                        "",
		"plain":                   "plain",
		"a\r\n\tb\u0085c\u2028d":  "a b c d",
		"\x1b[1;31mred\x1b[0m":    "red",
		"\x1b]0;title\aafter":     "after",
		"\x1b]8;;http://x\x1b\\l": "l",
		"\x1b]0;never ends":       "0;never ends",
		"\x1b[12\nnever ends":     "12 never ends",
		"\x1bcreset\x1b":          "reset",
		"nul\x00bel\abs\bdel\x7f": "nulbelbsdel",
		"c1\u009b31mtext":         "c131mtext",
		"abc\u202egpj.exe\u2066":  "abcgpj.exe",
		"\ufeffbom":               "bom",
		"bad\xffbyte":             "bad\ufffdbyte",
		"family 👩‍👩‍👧 and 通义 e\u0301": "family 👩‍👩‍👧 and 通义 e\u0301",
	} {
		if got := clean(text); got != want {
			t.Errorf("clean(%q) = %q, want %q", text, got, want)
		}
	}
}

func FuzzClean(f *testing.F) {
	for _, seed := range []string{
		"", "\x1b[31mred\x1b[0m", "\x1b]0;t\a", "\x1bP\x1b", "通义\u202e\xff", "a,b@c/d \u200d",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		cleaned := clean(text)
		if strings.ContainsFunc(cleaned, func(r rune) bool { return unicode.IsControl(r) || isReordering(r) }) {
			t.Errorf("clean(%q) = %q", text, cleaned)
		}
		if again := clean(cleaned); again != cleaned {
			t.Errorf("clean(%q) = %q, and again %q", text, cleaned, again)
		}
		for _, width := range []int{8, 20, 80} {
			checkWrap(t, cleaned, width)
		}
	})
}
