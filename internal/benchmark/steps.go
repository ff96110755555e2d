package main

import (
	"context"
	"encoding/json"
	"fmt"
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
	return withBody(outputTokens, func(body string) error {
		return compare("request", runs, []string{"hey", "net/http floor", "inferprobe"}, []func() (figure, error){
			func() (figure, error) { return hey(ctx, p, url+"/v1/chat/completions", body, loadTime) },
			func() (figure, error) {
				r, u, err := runFloor(ctx, p, url, body, "-c", "64", "-z", loadTime.String())
				return figure{float64(r.Requests) / r.Seconds, microseconds(u.cpu) / float64(r.Requests), u.rss}, err
			},
			func() (figure, error) {
				s, u, err := throughput(ctx, p, url, 64)
				sent := float64(s.Requests.Completed + s.Requests.Incomplete)
				return figure{s.Rate, microseconds(u.cpu) / sent, u.rss}, err
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
	return withBody(outputTokens, func(body string) error {
		return compare("event", runs, []string{"net/http floor", "inferprobe"}, []func() (figure, error){
			func() (figure, error) {
				r, u, err := runFloor(ctx, p, url, body, "-c", "64", "-z", loadTime.String())
				return figure{float64(r.Events) / r.Seconds, microseconds(u.cpu) / float64(r.Events), u.rss}, err
			},
			func() (figure, error) {
				s, u, err := throughput(ctx, p, url, 64)
				return figure{s.Tokens, microseconds(u.cpu) / (s.Tokens * s.Duration), u.rss}, err
			},
		})
	})
}

func microseconds(d time.Duration) float64 { return 1e6 * d.Seconds() }

// withBody gives do the file of a request body that asks for so many tokens.
func withBody(tokens int, do func(path string) error) error {
	dir, err := os.MkdirTemp("", "benchmark")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	body, err := requestBody(dir, tokens)
	if err != nil {
		return err
	}
	return do(body)
}

func runFloor(ctx context.Context, p programs, url, body string, flags ...string) (floorResult, usage, error) {
	argv := append([]string{p.self, "floor", "-url", url + "/v1/chat/completions", "-body", body}, flags...)
	out, u, err := run(ctx, argv...)
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

// lateness: how late an open loop sends, by inferprobe's report up to the first byte that is written, and in the floor up
// to the start of the request's goroutine.
func lateness(ctx context.Context, p programs, runs int) error {
	url, stop, err := simulator(ctx, p, "--fixed", "60ms,9ms")
	if err != nil {
		return err
	}
	defer stop()
	const tokens, seconds = 16, "8"
	fmt.Printf("Open loop: how late requests leave, answers of %d tokens at 9 ms\n", tokens)
	fmt.Printf("  %-28s %12s %12s %12s\n", "", "p50 ms", "p99 ms", "max ms")
	return withBody(tokens, func(body string) error {
		for _, rate := range []string{"20", "100", "1000"} {
			var bare, ours []quantiles
			for range runs {
				r, _, err := runFloor(ctx, p, url, body, "-rate", rate, "-z", seconds+"s")
				if err != nil {
					return err
				}
				stages, _, err := inferprobe(ctx, p, url, "--profile", "constant", "--rate", rate, "--output-tokens",
					strconv.Itoa(tokens), "--max-seconds", seconds)
				if err != nil {
					return err
				}
				bare, ours = append(bare, r.Late), append(ours, stages[0].ScheduleDelay)
			}
			printLateness("net/http floor, "+rate+" req/s", bare)
			printLateness("inferprobe, "+rate+" req/s", ours)
		}
		return nil
	})
}

func printLateness(name string, late []quantiles) {
	fmt.Printf("  %-28s %12.3f %12.3f %12.3f\n", name,
		1000*middleOf(late, func(q quantiles) float64 { return *q.P50 }),
		1000*middleOf(late, func(q quantiles) float64 { return *q.P99 }),
		1000*middleOf(late, func(q quantiles) float64 { return *q.Max }))
}

// held is what a client takes that holds streams open, and of inferprobe alone how it keeps up with them.
type held struct {
	rss       float64 // MB, at most
	perSecond float64 // events
	lag       float64 // p99 of how late it reads, in seconds
}

// streams: thousands of open streams, each with 20 events a second once it has begun to answer.
func streams(ctx context.Context, p programs, runs int) error {
	url, stop, err := simulator(ctx, p, "--fixed", "1s,50ms")
	if err != nil {
		return err
	}
	defer stop()
	return withBody(outputTokens, func(body string) error {
		sizes := []int{1, 1000, 5000}
		bare, ours := make([][]held, len(sizes)), make([][]held, len(sizes))
		for range runs {
			for i, n := range sizes {
				b, o, err := hold(ctx, p, url, body, n)
				if err != nil {
					return err
				}
				bare[i], ours[i] = append(bare[i], b), append(ours[i], o)
			}
		}
		printStreams(sizes, bare, ours)
		return nil
	})
}

// hold has the floor and inferprobe hold n streams open, one after the other.
func hold(ctx context.Context, p programs, url, body string, n int) (bare, ours held, err error) {
	_, u, err := runFloor(ctx, p, url, body, "-c", strconv.Itoa(n), "-z", "15s")
	if err != nil {
		return bare, ours, err
	}
	s, of, err := throughput(ctx, p, url, n)
	if err != nil {
		return bare, ours, err
	}
	return held{rss: u.rss}, held{of.rss, s.Tokens, *s.ReceiveLag.P99}, nil
}

// printStreams prints medians for all sizes but the first, which is 1: what a stream takes is counted from there.
func printStreams(sizes []int, bare, ours [][]held) {
	const life = 1 + (outputTokens-1)*0.05 // seconds of a stream, the first of them silent
	rss := func(runs []held) float64 { return middleOf(runs, func(h held) float64 { return h.rss }) }
	fmt.Println("Open streams: 20 events/s each after a second of silence")
	fmt.Printf("  %-28s %12s %14s %12s %12s %16s\n", "", "RSS MB", "kB a stream", "events/s", "of at most",
		"read lag p99 ms")
	for i, n := range sizes[1:] {
		row := func(client string, one, many []held) {
			fmt.Printf("  %-28s %12.0f %14.1f", fmt.Sprintf("%s, %d streams", client, n), rss(many),
				1024*(rss(many)-rss(one))/float64(n))
		}
		row("net/http floor", bare[0], bare[i+1])
		fmt.Println()
		row("inferprobe", ours[0], ours[i+1])
		fmt.Printf(" %12.0f %12.0f %16.1f\n", middleOf(ours[i+1], func(h held) float64 { return h.perSecond }),
			float64(n)*outputTokens/life, 1000*middleOf(ours[i+1], func(h held) float64 { return h.lag }))
	}
}

// idle: how long nothing is asked of the server between the stages of a sweep, most of which end with requests that are
// cut off. The simulator's metrics say when it is done with these; of a server without any inferprobe asks it by a
// request.
func idle(ctx context.Context, p programs, runs int) error {
	url, stop, err := simulator(ctx, p)
	if err != nil {
		return err
	}
	defer stop()
	var gaps []float64
	var cutOff int
	for range runs {
		stages, _, err := inferprobe(ctx, p, url, "--profile", "sweep", "--rates", "5", "--max-concurrency", "64",
			"--max-seconds", "4")
		if err != nil {
			return err
		}
		for i, s := range stages[1:] {
			before := stages[i]
			gaps = append(gaps, s.Started.Sub(before.Started).Seconds()-before.Duration)
			cutOff += before.Requests.Incomplete
		}
	}
	if len(gaps) == 0 {
		return fmt.Errorf("no sweep had a second stage")
	}
	fmt.Printf("Idle: %.1f ms between stages of a sweep, median of %d gaps; %.1f ms at most; %d requests were cut off\n",
		1000*middle(gaps), len(gaps), 1000*slices.Max(gaps), cutOff)
	return nil
}

// middleOf returns the median of what get takes from each run.
func middleOf[T any](runs []T, get func(T) float64) float64 {
	values := make([]float64, len(runs))
	for i, r := range runs {
		values[i] = get(r)
	}
	return middle(values)
}

func middle(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}
