package openai

import (
	"regexp"
	"testing"
)

func TestNewTrace(t *testing.T) {
	pattern := regexp.MustCompile(`^00-([0-9a-f]{32})-([0-9a-f]{16})-01$`)
	seen := make(map[string]bool)
	for range 100 {
		parent, id := newTrace()
		fields := pattern.FindStringSubmatch(parent)
		if fields == nil || fields[1] != id {
			t.Fatalf("traceparent %q of trace %q", parent, id)
		}
		if seen[fields[1]] || seen[fields[2]] {
			t.Fatalf("%q has an id that was there before", parent)
		}
		seen[fields[1]], seen[fields[2]] = true, true
	}
}

func BenchmarkNewTrace(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		newTrace()
	}
}
