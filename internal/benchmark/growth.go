package main

import (
	"bufio"
	"context"
	"fmt"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// footprint is what a process takes.
type footprint struct{ rss, heap, goroutines, requests float64 }

// growth runs the daemon for d with one throughput stage after another against a server that answers at once, and
// prints what it takes after a tenth of that time and at its end.
func growth(ctx context.Context, p programs, d time.Duration) error {
	url, stop, err := simulator(ctx, p, "--fixed", "0s,0s")
	if err != nil {
		return err
	}
	defer stop()
	metrics, end, err := daemon(ctx, p, url)
	if err != nil {
		return err
	}
	defer end()
	began := time.Now()
	fmt.Printf("Growth: the daemon at its full rate for %s\n", d)
	fmt.Printf("  %-16s %12s %12s %12s %12s\n", "after", "RSS MB", "heap MB", "goroutines", "requests")
	for _, after := range []time.Duration{d / 10, d} {
		f, err := watch(ctx, metrics, began.Add(after-d/20), began.Add(after))
		if err != nil {
			return err
		}
		fmt.Printf("  %-16s %12.0f %12.1f %12.0f %12.0f\n", after, f.rss/1e6, f.heap/1e6, f.goroutines, f.requests)
	}
	return nil
}

// daemon runs inferprobe serve on the server at url until the returned function is called, and returns where its
// metrics are.
func daemon(ctx context.Context, p programs, url string) (metrics string, end func(), err error) {
	dir, err := os.MkdirTemp("", "benchmark")
	if err != nil {
		return "", nil, err
	}
	config := filepath.Join(dir, "inferprobe.yaml")
	err = os.WriteFile(config, []byte(`endpoints:
  - url: `+url+`
    tokenizer: builtin:demo
    sweep: {profile: throughput, interval: 10s, max_duration: 40s, max_concurrency: 64}
    canary: {interval: 0s}
`), 0o600)
	if err != nil {
		return "", nil, err
	}
	address, stop, err := serve(ctx, p.inferprobe, "serve", "--config.file", config, "--history.dir",
		filepath.Join(dir, "history"), "--log.level", "error", "--web.listen-address")
	if err != nil {
		os.RemoveAll(dir)
		return "", nil, err
	}
	return address + "/metrics", func() {
		stop()
		os.RemoveAll(dir)
	}, nil
}

// watch samples the metrics once a second from one time to the other. What a collection leaves of the heap, and what is
// always there of goroutines, is the least of what was seen.
func watch(ctx context.Context, url string, from, to time.Time) (footprint, error) {
	f := footprint{heap: math.Inf(1), goroutines: math.Inf(1)}
	if err := wait(ctx, time.Until(from)); err != nil {
		return f, err
	}
	for {
		now, err := scrape(url)
		if err != nil {
			return f, err
		}
		f.rss, f.requests = max(f.rss, now.rss), now.requests
		f.heap, f.goroutines = min(f.heap, now.heap), min(f.goroutines, now.goroutines)
		if !time.Now().Before(to) {
			return f, nil
		}
		if err := wait(ctx, time.Second); err != nil {
			return f, err
		}
	}
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// scrape reads the footprint of a daemon from its metrics.
func scrape(url string) (footprint, error) {
	var f footprint
	response, err := http.Get(url)
	if err != nil {
		return f, err
	}
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		name := line[:max(0, strings.IndexAny(line, "{ "))]
		of := map[string]*float64{
			"process_resident_memory_bytes": &f.rss, "go_memstats_heap_alloc_bytes": &f.heap,
			"go_goroutines": &f.goroutines, "inferprobe_requests_total": &f.requests,
		}[name]
		if of == nil {
			continue
		}
		v, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64)
		if err != nil {
			return f, fmt.Errorf("%s: %w", line, err)
		}
		*of += v
	}
	return f, lines.Err()
}
