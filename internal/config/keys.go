package config

import (
	"reflect"
	"regexp"
	"strings"
)

// field is a key of a section and the type of its value.
type field struct {
	key string
	typ reflect.Type
}

// fieldsOf returns the keys of a section in their documented order.
func fieldsOf(t reflect.Type) []field {
	var fields []field
	for f := range t.Fields() {
		if key := f.Tag.Get("mapstructure"); key != "" && key != "-" {
			fields = append(fields, field{key, f.Type})
		}
	}
	return fields
}

// isSection reports types that are a mapping of keys and nothing else.
func isSection(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && t != lengthType && t != windowType
}

// join appends key to a path.
func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

var shortKey = regexp.MustCompile(`^[A-Za-z0-9_./-]{1,64}$`)

// shownKey returns key as messages show it: anything but a word is quoted and cut.
func shownKey(key string) string {
	if shortKey.MatchString(key) {
		return key
	}
	return quoted(key)
}

// unknownKey says what a key that section t does not have was probably meant to be.
func unknownKey(key string, t reflect.Type) string {
	if t == reflect.TypeFor[Endpoint]() && plainKey(key) == "apikey" {
		return "the key itself does not belong into a configuration file; put it into a file of its own and write " +
			"api_key_file, or name an environment variable with api_key_env"
	}
	if meant := meantKeys(key, t); len(meant) > 0 {
		return "unknown key; did you mean " + oneOf(meant) + "?"
	}
	var known []string
	for _, f := range fieldsOf(t) {
		known = append(known, f.key)
	}
	return "unknown key; the keys here are " + strings.Join(known, ", ")
}

// meantKeys returns the key of section t that is spelt most like key, else those of that name in the sections below t.
func meantKeys(key string, t reflect.Type) []string {
	plain := plainKey(key)
	best, distance := "", max(2, len(plain)/3)+1
	var below []string
	for _, f := range fieldsOf(t) {
		if d := editDistance(plain, plainKey(f.key)); d < distance {
			best, distance = f.key, d
		}
		if !isSection(f.typ) {
			continue
		}
		for _, inner := range fieldsOf(f.typ) {
			if plainKey(inner.key) == plain {
				below = append(below, join(f.key, inner.key))
			}
		}
	}
	if len(below) > 0 || best == "" {
		return below
	}
	return []string{best}
}

// plainKey removes what differs between the habits of writing names: promptTokens, prompt-tokens, prompt_tokens.
func plainKey(key string) string {
	return strings.NewReplacer("_", "", "-", "").Replace(strings.ToLower(key))
}

// editDistance is the number of insertions, deletions, replacements and swaps of neighbours between a and b (optimal
// string alignment). Long texts count as infinitely far apart.
func editDistance(a, b string) int {
	const longest = 64
	if len(a) > longest || len(b) > longest {
		return longest
	}
	var before, last []int
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, last, row = last, row, make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
	}
	return row[len(b)]
}
