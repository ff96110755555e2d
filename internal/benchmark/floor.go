package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// floorResult is what the floor prints.
type floorResult struct {
	Requests int64
	Events   int64
	Seconds  float64
}

// floorMain is the bare loop: net/http sends the same body and reads every byte of the answer, counting the blank lines
// that end events, and does nothing else.
func floorMain(args []string) {
	fs := flag.NewFlagSet("floor", flag.ExitOnError)
	url := fs.String("url", "", "where to post")
	body := fs.String("body", "", "file of the body")
	concurrency := fs.Int("c", 64, "requests at a time")
	duration := fs.Duration("z", 5*time.Second, "how long")
	_ = fs.Parse(args) // exits on an error
	if err := floor(*url, *body, *concurrency, *duration); err != nil {
		fmt.Fprintln(os.Stderr, "floor:", err)
		os.Exit(1)
	}
}

func floor(url, bodyFile string, concurrency int, duration time.Duration) error {
	body, err := os.ReadFile(bodyFile)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), duration)
	defer cancel()
	transport := &http.Transport{MaxIdleConnsPerHost: concurrency, DisableCompression: true}
	var requests, events atomic.Int64
	var workers sync.WaitGroup
	var failed atomic.Pointer[error]
	started := time.Now()
	for range concurrency {
		workers.Go(func() {
			buffer := make([]byte, 32<<10)
			for ctx.Err() == nil {
				n, err := post(ctx, transport, url, body, buffer)
				events.Add(n)
				if err == nil {
					requests.Add(1)
				} else if ctx.Err() == nil {
					failed.Store(&err)
					return
				}
			}
		})
	}
	workers.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	return json.NewEncoder(os.Stdout).Encode(floorResult{requests.Load(), events.Load(), time.Since(started).Seconds()})
}

func post(ctx context.Context, transport *http.Transport, url string, body, buffer []byte) (events int64, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := transport.RoundTrip(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	for {
		n, err := response.Body.Read(buffer)
		events += int64(bytes.Count(buffer[:n], []byte("\n\n")))
		if err == io.EOF {
			return events, nil
		}
		if err != nil {
			return events, err
		}
	}
}
