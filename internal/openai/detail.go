package openai

import (
	"bytes"
	"cmp"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxDetail is the length in bytes of a detail.
const maxDetail = 300

// redact makes text that may repeat what a server sent fit for a detail: one line, bounded, without control characters
// and without the secrets, which are in the order of secretsOf.
func redact(text string, secrets []string) string {
	// They are looked for once the text is clean, so that nothing between their letters hides them, and before it is cut.
	text = clean(text, len(text))
	for _, secret := range secrets {
		text = strings.ReplaceAll(text, secret, "[redacted]")
	}
	return clean(text, maxDetail)
}

// minSecret is the length in bytes below which a secret is not looked for: texts are full of such strings.
const minSecret = 4

// secretsOf returns what details must not show, the longest first: one secret may be the beginning of another.
func secretsOf(o *Options) []string {
	short := func(s string) bool { return len(s) < minSecret }
	secrets := slices.DeleteFunc(append(slices.Clone(o.Secrets), o.APIKey), short)
	slices.SortFunc(secrets, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	return secrets
}

// clean returns text on one line, without control and invisible characters and terminal escape sequences, at most limit
// bytes long.
func clean(text string, limit int) string {
	var b strings.Builder
	space := false
	for i := 0; i < len(text); {
		if n := escapeSequence(text[i:]); n > 0 {
			i += n
			continue
		}
		r, n := utf8.DecodeRuneInString(text[i:])
		i += n
		switch {
		case unicode.IsSpace(r):
			space = b.Len() > 0
		case unicode.IsControl(r), unicode.Is(unicode.Cf, r), r == utf8.RuneError && n == 1:
		default:
			if space {
				b.WriteByte(' ')
				space = false
			}
			b.WriteRune(r)
		}
	}
	return cut(b.String(), limit)
}

// cut shortens s to limit bytes, at a character and with an ellipsis.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	const ellipsis = "…"
	end := max(0, limit-len(ellipsis))
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + ellipsis
}

// escapeSequence returns the length of the terminal escape sequence at the start of s, 0 if there is none.
func escapeSequence(s string) int {
	if len(s) < 2 || s[0] != 0x1b {
		return 0
	}
	switch s[1] {
	case '[': // control sequence: up to a letter or the like
		for i := 2; i < len(s); i++ {
			if s[i] >= 0x40 && s[i] <= 0x7e {
				return i + 1
			}
		}
		return len(s)
	case ']': // operating system command: up to BEL or ESC \
		for i := 2; i < len(s); i++ {
			if s[i] == 0x07 {
				return i + 1
			}
			if s[i] == 0x1b {
				return min(i+2, len(s))
			}
		}
		return len(s)
	}
	return 2
}

// messageOf returns the message of an error in JSON, whatever its shape, else the text itself.
func messageOf(data []byte) string {
	var value any
	if json.Unmarshal(data, &value) != nil {
		return string(data)
	}
	return cmp.Or(messageAt(value), string(data))
}

// messageAt finds the message in what has an error object: at its top, in a choice (OpenRouter), in x_groq, or in a list
// (Gemini).
func messageAt(value any) string {
	switch v := value.(type) {
	case map[string]any:
		for _, key := range []string{"error", "message", "detail"} {
			if message := messageIn(v[key]); message != "" {
				return message
			}
		}
		return cmp.Or(messageAt(v["choices"]), messageAt(v["x_groq"]))
	case []any:
		for _, element := range v {
			if message := messageAt(element); message != "" {
				return message
			}
		}
	}
	return ""
}

// messageIn finds the message in a value of an error object: the value itself, or one inside it.
func messageIn(value any) string {
	switch v := value.(type) {
	case string:
		return v
	case map[string]any:
		for _, key := range []string{"message", "msg", "detail", "error", "type", "code"} {
			if message := messageIn(v[key]); message != "" {
				return message
			}
		}
	case []any: // FastAPI's list of what does not validate
		var all []string
		for _, element := range v {
			if message := messageIn(element); message != "" {
				all = append(all, message+place(element))
			}
		}
		return strings.Join(all, "; ")
	}
	return ""
}

// place names the field that an entry of FastAPI's list is about.
func place(element any) string {
	entry, _ := element.(map[string]any)
	path, _ := entry["loc"].([]any)
	if len(path) == 0 {
		return ""
	}
	if field, ok := path[len(path)-1].(string); ok {
		return " (" + field + ")"
	}
	return ""
}

// bodyMessage returns what a body that is no event stream has to say.
func bodyMessage(header http.Header, body []byte) string {
	switch {
	case len(bytes.TrimSpace(body)) == 0:
		return "no body"
	case hasType(header, "text/html") || bytes.HasPrefix(bytes.TrimSpace(body), []byte("<")):
		return "an HTML page" + titleOf(body)
	}
	return messageOf(body)
}

// titleOf returns the title of an HTML page, with what goes before it in a sentence.
func titleOf(page []byte) string {
	lower := bytes.ToLower(page)
	start := bytes.Index(lower, []byte("<title>"))
	end := bytes.Index(lower, []byte("</title>"))
	if start < 0 || end < start || len(lower) != len(page) {
		return ""
	}
	return ", " + string(page[start+len("<title>"):end])
}
