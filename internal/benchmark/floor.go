package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// floorResult is what the floor prints.
type floorResult struct {
	Requests int64
	Events   int64
	Seconds  float64
	Late     quantiles // seconds from when requests of the open loop were due to when their goroutines ran
}

// floor is the bare loop: net/http sends the same body and reads every byte of the answer, counting the blank lines
// that end events, and does nothing else.
type floor struct {
	transport *http.Transport
	url       string
	body      []byte

	requests, events atomic.Int64
	failed           atomic.Pointer[error]
}

func floorMain(args []string) {
	fs := flag.NewFlagSet("floor", flag.ExitOnError)
	url := fs.String("url", "", "where to post")
	bodyFile := fs.String("body", "", "file of the body")
	concurrency := fs.Int("c", 64, "requests at a time")
	rate := fs.Float64("rate", 0, "requests per second of an open loop, in place of -c")
	duration := fs.Duration("z", 5*time.Second, "how long")
	_ = fs.Parse(args) // exits on an error
	body, err := os.ReadFile(*bodyFile)
	if err == nil {
		transport := &http.Transport{MaxIdleConnsPerHost: math.MaxInt, DisableCompression: true}
		f := &floor{transport: transport, url: *url, body: body}
		err = f.run(*concurrency, *rate, *duration)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "floor:", err)
		os.Exit(1)
	}
}

func (f *floor) run(concurrency int, rate float64, duration time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), duration)
	defer cancel()
	var r floorResult
	began := time.Now()
	if rate > 0 {
		r.Late = f.openLoop(ctx, rate, duration)
	} else {
		f.closedLoop(ctx, concurrency)
	}
	if err := f.failed.Load(); err != nil {
		return *err
	}
	r.Requests, r.Events, r.Seconds = f.requests.Load(), f.events.Load(), time.Since(began).Seconds()
	return json.NewEncoder(os.Stdout).Encode(r)
}

// closedLoop keeps so many requests in flight until ctx ends.
func (f *floor) closedLoop(ctx context.Context, concurrency int) {
	var workers sync.WaitGroup
	for range concurrency {
		workers.Go(func() {
			buffer := make([]byte, 32<<10)
			for f.send(ctx, buffer) {
			}
		})
	}
	workers.Wait()
}

// openLoop starts a goroutine for each request when it is due, and returns how late these ran.
func (f *floor) openLoop(ctx context.Context, rate float64, duration time.Duration) quantiles {
	late := make([]float64, int(rate*duration.Seconds()))
	var flying sync.WaitGroup
	began := time.Now()
	for i := range late {
		due := began.Add(time.Duration(float64(i) / rate * float64(time.Second)))
		time.Sleep(time.Until(due))
		flying.Go(func() {
			late[i] = time.Since(due).Seconds()
			f.send(ctx, make([]byte, 4<<10))
		})
	}
	flying.Wait()
	slices.Sort(late)
	at := func(q float64) *float64 { return &late[int(q*float64(len(late)-1))] }
	return quantiles{P50: at(0.5), P99: at(0.99), Max: at(1)}
}

// send sends one request and reads its answer, and reports whether another may follow.
func (f *floor) send(ctx context.Context, buffer []byte) bool {
	err := f.post(ctx, buffer)
	switch {
	case err == nil:
		f.requests.Add(1)
	case ctx.Err() == nil:
		f.failed.Store(&err)
	}
	return err == nil
}

func (f *floor) post(ctx context.Context, buffer []byte) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, f.url, bytes.NewReader(f.body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := f.transport.RoundTrip(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	var events int64
	defer func() { f.events.Add(events) }()
	for {
		n, err := response.Body.Read(buffer)
		events += int64(bytes.Count(buffer[:n], []byte("\n\n")))
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
