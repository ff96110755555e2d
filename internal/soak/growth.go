package main

import (
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
)

// sample is what the daemon holds while it is at rest.
type sample struct {
	rss        float64 // MB
	heap       float64 // MB that the last garbage collection left
	goroutines float64
	fds        float64
	series     float64
	disk       float64 // MB of history
}

// quantity is a part of a sample, and by how much it may grow.
type quantity struct {
	name     string
	of       func(sample) float64
	share    float64 // of the first value
	absolute float64 // and this
}

// quantities are all of them. The heap and with it RSS depend on when the collector ran, the history on how much the
// last cycles found. Of goroutines a scrape or a timer may have some. Of the others nothing may remain.
func quantities() []quantity {
	return []quantity{
		{"RSS, MB", func(s sample) float64 { return s.rss }, 0.10, 8},
		{"heap after collection, MB", func(s sample) float64 { return s.heap }, 0.10, 1},
		{"goroutines", func(s sample) float64 { return s.goroutines }, 0, 3},
		{"file descriptors", func(s sample) float64 { return s.fds }, 0, 1},
		{"series", func(s sample) float64 { return s.series }, 0, 0},
		{"history on disk, MB", func(s sample) float64 { return s.disk }, 0.25, 0.1},
	}
}

// grown prints the medians of the first and the last quarter of the samples, and returns what grew beyond measure.
func grown(w io.Writer, samples []sample) []string {
	const least = 4
	if len(samples) < least {
		return []string{fmt.Sprintf("there are only %d samples to compare, want %d", len(samples), least)}
	}
	quarter := max(1, len(samples)/4)
	fmt.Fprintf(w, "\n%-28s %12s %12s %10s %14s\n", fmt.Sprintf("at rest, %d times", len(samples)), "first quarter",
		"last quarter", "change", "allowed")
	var found []string
	for _, q := range quantities() {
		values := make([]float64, len(samples))
		for i, s := range samples {
			values[i] = q.of(s)
		}
		first, last := median(values[:quarter]), median(values[len(values)-quarter:])
		allowed := q.share*first + q.absolute
		fmt.Fprintf(w, "%-28s %12.1f %12.1f %+10.1f %+14.1f\n", q.name, first, last, last-first, allowed)
		if last-first > allowed {
			found = append(found, fmt.Sprintf("%s grew from %.1f to %.1f", q.name, first, last))
		}
	}
	return found
}

// diskUsage returns the files below a folder and their size in MB.
func diskUsage(dir string) (files, megabytes float64, err error) {
	err = filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			files++
			megabytes += float64(info.Size()) / 1e6
		}
		return err
	})
	return files, megabytes, err
}
