package openai

import (
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestRedact(t *testing.T) {
	for _, test := range []struct{ name, text, keys, want string }{
		{"plain", "all is well", "", "all is well"},
		{"one line", " a\r\n\tb  c\n", "", "a b c"},
		{"colours", "\x1b[1;31mred\x1b[0m", "", "red"},
		{"title of the terminal", "\x1b]0;owned\x07a\x1b]8;;x\x1b\\b", "", "ab"},
		{"cut sequences", "a\x1b[31", "", "a"},
		{"lone escape", "a\x1b", "", "a"},
		{"control characters", "a\x00b\x08c\u009bd\u202ee\u200bf", "", "abcdef"},
		{"not UTF-8", "a\xffb", "", "ab"},
		{"key", "your key sk-1 is bad", "sk-1", "your key [redacted] is bad"},
		{"keys", "sk-12, and sk-1", "sk-1 sk-12", "[redacted], and [redacted]"},
		{"short keys", "an error", "e an", "an error"},
		{"hidden key", "sk\x1b[0m-1 s\x00k-1", "sk-1", "[redacted] [redacted]"},
		{"key at the cut", strings.Repeat("x", 295) + "sk-secret", "sk-secret", strings.Repeat("x", 295) + "[r…"},
		{"long", strings.Repeat("ä", 200), "", strings.Repeat("ä", 148) + "…"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := redact(test.text, secretsOf(&Options{Secrets: strings.Fields(test.keys)}))
			if got != test.want || len(got) > maxDetail {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}

func FuzzRedact(f *testing.F) {
	f.Add("a\x1b[31mb\n", "key")
	f.Add(strings.Repeat("é", 400), "é")
	f.Fuzz(func(t *testing.T, text, key string) {
		got := redact(text, secretsOf(&Options{APIKey: key}))
		if len(got) > maxDetail || !utf8.ValidString(got) || strings.ContainsAny(got, "\x1b\n\r\t\x00\x7f") {
			t.Errorf("%q becomes %q", text, got)
		}
	})
}

func TestMessages(t *testing.T) {
	for _, test := range []struct{ body, want string }{
		{`{"error":{"message":"a","type":"b","code":400}}`, "a"},
		{`{"error":"Unauthorized"}`, "Unauthorized"},
		{`{"error":"a","error_type":"validation"}`, "a"},
		{`{"object":"error","message":"a"}`, "a"},
		{`{"detail":"a"}`, "a"},
		{`{"detail":[{"loc":["body","x"],"msg":"a"},{"msg":"b"}]}`, "a (x); b"},
		{`{"error":{"type":"no_message"}}`, "no_message"},
		{`{"error":{"code":503}}`, `{"error":{"code":503}}`},
		{`{"error":{"error":{"message":"inner"}}}`, "inner"},
		{`{}`, "{}"},
		{`Internal Server Error`, "Internal Server Error"},
		{` `, "no body"},
		{`<html><head><title>502 Bad Gateway</title></head></html>`, "an HTML page, 502 Bad Gateway"},
		{`<html></html>`, "an HTML page"},
	} {
		if got := bodyMessage(http.Header{}, []byte(test.body)); got != test.want {
			t.Errorf("%s: %q, want %q", test.body, got, test.want)
		}
	}
}
