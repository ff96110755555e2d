package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Error is one thing that is wrong, and where.
type Error struct {
	Source       string // the file, a flag ("--url") or a variable; empty for none
	Line, Column int    // in the file, from 1; 0 where unknown
	Key          string // such as endpoints[0].sweep.interval; empty where Source says it all
	Message      string // what is wrong and what would be right, on one line
}

// Error returns "file.yaml:12:5: endpoints[0].sweep.interval: what is wrong", without the parts that are unknown.
func (e Error) Error() string {
	var b strings.Builder
	if e.Source != "" {
		b.WriteString(e.Source)
		if e.Line > 0 {
			fmt.Fprintf(&b, ":%d", e.Line)
		}
		if e.Column > 0 {
			fmt.Fprintf(&b, ":%d", e.Column)
		}
		b.WriteString(": ")
	}
	if e.Key != "" {
		b.WriteString(e.Key + ": ")
	}
	return b.String() + e.Message
}

// Errors is everything that is wrong with a configuration, in the order of the file.
type Errors []Error

// Error returns one line an error.
func (es Errors) Error() string {
	lines := make([]string, len(es))
	for i, e := range es {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}

// maxErrors is how many errors are kept. Nobody reads more, and a file that is no configuration has one in every line.
const maxErrors = 100

// add appends an error, unless the same place already has one: what follows from a wrong value is noise.
func (es *Errors) add(e Error) {
	same := func(o Error) bool { return o.Source == e.Source && o.Line == e.Line && o.Key == e.Key }
	if !slices.ContainsFunc(*es, same) {
		es.append(e)
	}
}

// append appends an error. The one after the last that is kept says that there are more.
func (es *Errors) append(e Error) {
	switch n := len(*es); {
	case n < maxErrors:
		*es = append(*es, e)
	case n == maxErrors:
		*es = append(*es, Error{Source: e.Source, Line: e.Line, Column: e.Column,
			Message: fmt.Sprintf("there are more than %d mistakes; the others are not shown", maxErrors)})
	}
}

// sort puts the errors into the order of the file.
func (es Errors) sort() {
	slices.SortStableFunc(es, func(a, b Error) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}

// quoted returns s in quotes, cut after some 60 characters: a mistaken value can be a whole document.
func quoted(s string) string {
	const most = 60
	if r := []rune(s); len(r) > most {
		s = string(r[:most]) + "…"
	}
	return fmt.Sprintf("%q", s)
}

// oneOf lists words as "a, b or c".
func oneOf[T ~string](words []T) string {
	var b strings.Builder
	for i, w := range words {
		switch i {
		case 0:
		case len(words) - 1:
			b.WriteString(" or ")
		default:
			b.WriteString(", ")
		}
		b.WriteString(string(w))
	}
	return b.String()
}
