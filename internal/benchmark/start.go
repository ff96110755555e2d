package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// start: from the start of the process to the first request, where the tokenizer's file is in the system's cache.
func start(ctx context.Context, p programs, runs int) error {
	url, stop, err := simulator(ctx, p, "--fixed", "1ms,1ms")
	if err != nil {
		return err
	}
	defer stop()
	dir, err := os.MkdirTemp("", "benchmark")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := linkLlama(ctx, dir); err != nil {
		return err
	}
	small, err := firstRequest(ctx, p, url, "builtin:demo", runs)
	if err != nil {
		return err
	}
	large, err := firstRequest(ctx, p, url, dir, runs)
	if err != nil {
		return err
	}
	fmt.Printf("Start: first request after %.2f s with the demo's tokenizer, %.2f s with Llama 3's (9 MB)\n",
		small, large)
	return nil
}

// linkLlama makes dir a folder of Llama 3's tokenizer, which comes with the Go module of the tokenizer library.
func linkLlama(ctx context.Context, dir string) error {
	const module = "github.com/daulet/tokenizers"
	out, _, err := run(ctx, "go", "list", "-m", "-f", "{{.Dir}}", module)
	if err != nil {
		return err
	}
	file := filepath.Join(strings.TrimSpace(string(out)), "test", "data", "Meta-Llama-3-8B-Instruct.json")
	return os.Symlink(file, filepath.Join(dir, "tokenizer.json"))
}

// firstRequest returns the median of the seconds from the start of the process to its first request. A start that is
// not counted brings what is read into the system's cache.
func firstRequest(ctx context.Context, p programs, url, tokenizer string, runs int) (float64, error) {
	var seconds []float64
	for range 1 + runs {
		began := time.Now()
		_, _, err := inferprobe(ctx, p, url, "--tokenizer", tokenizer, "--profile", "constant", "--rate", "1",
			"--max-requests", "1")
		if err != nil {
			return 0, err
		}
		at, err := firstReceived(url, began)
		if err != nil {
			return 0, err
		}
		seconds = append(seconds, at.Sub(began).Seconds())
	}
	return middle(seconds[1:]), nil
}

// firstReceived asks the simulator's record for the first request since began.
func firstReceived(url string, began time.Time) (time.Time, error) {
	response, err := http.Get(fmt.Sprintf("%s/truth?since=%d", url, began.UnixNano()))
	if err != nil {
		return time.Time{}, err
	}
	defer response.Body.Close()
	var first int64
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var record struct {
			Received int64 `json:"received_ns"`
		}
		if err := json.Unmarshal(bytes.TrimSpace(lines.Bytes()), &record); err != nil {
			return time.Time{}, err
		}
		if first == 0 || record.Received < first {
			first = record.Received
		}
	}
	if first == 0 {
		return time.Time{}, fmt.Errorf("the simulator has no record of a request")
	}
	return time.Unix(0, first), lines.Err()
}
