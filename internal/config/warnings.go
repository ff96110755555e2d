package config

import (
	"maps"
	"slices"
	"strings"
)

// notInEffect are the keys that are read and checked, so that files can carry them, but change nothing yet.
func notInEffect() []string {
	return []string{
		"sweep.cron", "sweep.windows", "canary", "guards.tokens_per_day", "guards.yield_to_users", "history",
	}
}

// warnings names what the file sets in vain.
func (d *document) warnings() Errors {
	var found Errors
	for _, path := range slices.Sorted(maps.Keys(d.at)) {
		key := path
		section, rest, _ := strings.Cut(path, ".")
		if section == "defaults" || strings.HasPrefix(section, "endpoints[") {
			key = rest
		}
		if n := d.at[path]; slices.Contains(notInEffect(), key) && !isNull(n) {
			found = append(found, Error{Source: d.path, Line: n.Line, Column: n.Column, Key: path,
				Message: "is read and checked, but has no effect yet"})
		}
	}
	found.sort()
	return found
}
