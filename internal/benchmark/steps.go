package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"time"
)

const (
	loadTime     = 6 * time.Second
	outputTokens = 128
)

// ceiling: how many requests a client can drive when the server answers at once, 128 tokens in one write.
func ceiling(ctx context.Context, p programs, runs int) error {
	url, stop, err := simulator(ctx, p, "--fixed", "0s,0s")
	if err != nil {
		return err
	}
	defer stop()
	fmt.Printf("Ceiling: 64 requests at a time, %d-token answers in one write\n", outputTokens)
	return withBody(func(body string) error {
		return compare("requests", runs, []string{"hey", "net/http floor", "inferprobe"}, []func() (figure, error){
			func() (figure, error) { return hey(ctx, p, url+"/v1/chat/completions", body, loadTime) },
			func() (figure, error) {
				r, u, err := runFloor(ctx, p, url, body)
				return figure{float64(r.Requests) / r.Seconds, u.cpu.Seconds() / float64(r.Requests) * 1000, u.rss}, err
			},
			func() (figure, error) {
				s, u, err := throughput(ctx, p, url, 64)
				sent := float64(s.Requests.Completed + s.Requests.Incomplete)
				return figure{s.Rate, u.cpu.Seconds() / sent * 1000, u.rss}, err
			},
		})
	})
}

// events: how many events a client can take in when each comes in a write of its own, as fast as the server can.
func events(ctx context.Context, p programs, runs int) error {
	url, stop, err := simulator(ctx, p, "--fixed", "100us,10us")
	if err != nil {
		return err
	}
	defer stop()
	fmt.Println("Events: 64 requests at a time, one event a write")
	return withBody(func(body string) error {
		return compare("events", runs, []string{"net/http floor", "inferprobe"}, []func() (figure, error){
			func() (figure, error) {
				r, u, err := runFloor(ctx, p, url, body)
				return figure{float64(r.Events) / r.Seconds, u.cpu.Seconds() / float64(r.Events) * 1000, u.rss}, err
			},
			func() (figure, error) {
				s, u, err := throughput(ctx, p, url, 64)
				return figure{s.Tokens, u.cpu.Seconds() / (s.Tokens * s.Duration) * 1000, u.rss}, err
			},
		})
	})
}

func withBody(do func(path string) error) error {
	dir, err := os.MkdirTemp("", "benchmark")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	body, err := requestBody(dir, outputTokens)
	if err != nil {
		return err
	}
	return do(body)
}

func runFloor(ctx context.Context, p programs, url, body string) (floorResult, usage, error) {
	out, u, err := run(ctx, p.self, "floor", "-url", url+"/v1/chat/completions", "-body", body, "-z", loadTime.String())
	var r floorResult
	if err == nil {
		err = json.Unmarshal(out, &r)
	}
	return r, u, err
}

// throughput runs inferprobe's throughput stage, which ends when its rate has settled: three windows of a twentieth of
// the limit.
func throughput(ctx context.Context, p programs, url string, concurrency int) (stage, usage, error) {
	limit := 20 * loadTime / 3
	stages, u, err := inferprobe(ctx, p, url, "--profile", "throughput", "--max-concurrency", strconv.Itoa(concurrency),
		"--max-seconds", strconv.Itoa(int(limit.Seconds())))
	if err != nil {
		return stage{}, u, err
	}
	return stages[0], u, nil
}

// lateness: how late an open loop sends.
func lateness(ctx context.Context, p programs, runs int) error {
	url, stop, err := simulator(ctx, p, "--fixed", "60ms,9ms")
	if err != nil {
		return err
	}
	defer stop()
	fmt.Println("Open loop: how late requests leave, answers of 16 tokens at 9 ms")
	fmt.Printf("  %-16s %12s %12s %12s\n", "rate", "p50 ms", "p99 ms", "max ms")
	for _, rate := range []string{"20", "100", "1000"} {
		var p50, p99, most []float64
		for range runs {
			stages, _, err := inferprobe(ctx, p, url, "--profile", "constant", "--rate", rate, "--output-tokens", "16", "--max-seconds", "8")
			if err != nil {
				return err
			}
			d := stages[0].ScheduleDelay
			p50, p99, most = append(p50, 1000**d.P50), append(p99, 1000**d.P99), append(most, 1000**d.Max)
		}
		fmt.Printf("  %-16s %12.3f %12.3f %12.3f\n", rate+" req/s", middle(p50), middle(p99), middle(most))
	}
	return nil
}

func middle(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

// streams: thousands of open streams, each with 20 events a second once it has begun to answer.
func streams(ctx context.Context, p programs, _ int) error {
	url, stop, err := simulator(ctx, p, "--fixed", "1s,50ms")
	if err != nil {
		return err
	}
	defer stop()
	_, idle, err := throughput(ctx, p, url, 1)
	if err != nil {
		return err
	}
	const life = 1 + (outputTokens-1)*0.05 // seconds of a stream, the first of them silent
	fmt.Println("Open streams: 20 events/s each after a second of silence")
	fmt.Printf("  %-16s %12s %12s %14s %16s %16s\n", "streams", "events/s", "of at most", "RSS MB", "kB a stream", "read lag p99 ms")
	for _, n := range []int{1000, 5000} {
		s, u, err := throughput(ctx, p, url, n)
		if err != nil {
			return err
		}
		fmt.Printf("  %-16d %12.0f %12.0f %14.0f %16.1f %16.1f\n", n, s.Tokens, float64(n)*outputTokens/life, u.rss,
			1024*(u.rss-idle.rss)/float64(n), 1000**s.ReceiveLag.P99)
	}
	return nil
}

// start: from the start of the process to the first request, with a warm tokenizer.
func start(ctx context.Context, p programs, runs int) error {
	url, stop, err := simulator(ctx, p, "--fixed", "1ms,1ms")
	if err != nil {
		return err
	}
	defer stop()
	var first []float64
	for range runs {
		began := time.Now()
		if _, _, err := inferprobe(ctx, p, url, "--profile", "constant", "--rate", "1", "--max-requests", "1"); err != nil {
			return err
		}
		at, err := firstReceived(url, began)
		if err != nil {
			return err
		}
		first = append(first, at.Sub(began).Seconds())
	}
	fmt.Printf("Start: first request after %.2f s\n", middle(first))
	return nil
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
