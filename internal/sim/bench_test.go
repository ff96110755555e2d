package sim_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/inferprobe/inferprobe/internal/sim"
	"github.com/inferprobe/inferprobe/internal/sim/simtest"
)

// client is a plain net/http client that keeps so many connections.
func client(tb testing.TB, connections int) *http.Transport {
	transport := &http.Transport{MaxIdleConnsPerHost: connections, DisableCompression: true}
	tb.Cleanup(transport.CloseIdleConnections)
	return transport
}

// read sends a chat request and reads the answer to its end.
func read(tb testing.TB, transport *http.Transport, url string, body, buf []byte) {
	request, err := http.NewRequest(http.MethodPost, url+"/v1/chat/completions", bytes.NewReader(body))
	if err != nil {
		tb.Error(err)
		return
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		tb.Error(err)
		return
	}
	defer response.Body.Close()
	if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, response.Body, buf); err != nil {
		tb.Error(err)
	}
}

// benchmarkStreams has 64 clients in the same process read streams of 128 tokens, one after another.
func benchmarkStreams(b *testing.B, opts sim.Options) {
	const clients, tokens = 64, 128
	_, url := simtest.Start(b, opts)
	transport := client(b, clients)
	prompt := strings.Repeat("some words to read ", 128)
	body := fmt.Appendf(nil, `{"stream":true,"stream_options":{"include_usage":true},"max_tokens":%d,"ignore_eos":true,`+
		`"messages":[{"role":"user","content":%q}]}`, tokens, prompt)
	b.ReportAllocs()
	b.ResetTimer()
	var next atomic.Int64
	var running sync.WaitGroup
	for range clients {
		running.Go(func() {
			buf := make([]byte, 32<<10)
			for next.Add(1) <= int64(b.N) {
				read(b, transport, url, body, buf)
			}
		})
	}
	running.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "answers/s")
	b.ReportMetric(float64(b.N)*tokens/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkAnswersAtOnce is the simulator's ceiling for answers in one write.
func BenchmarkAnswersAtOnce(b *testing.B) {
	benchmarkStreams(b, sim.Options{Fixed: &sim.FixedTiming{}})
}

// BenchmarkEvents is its ceiling for events, each in a write of its own.
func BenchmarkEvents(b *testing.B) {
	benchmarkStreams(b, sim.Options{Fixed: &sim.FixedTiming{TimeToFirstToken: 1, InterTokenLatency: 1}})
}

// BenchmarkLateness is how much later than the timetable the simulator writes, with clients in the same process.
func BenchmarkLateness(b *testing.B) {
	for _, c := range []struct {
		streams int
		itl     time.Duration
	}{{1, 9 * time.Millisecond}, {25, 9 * time.Millisecond}, {1000, 50 * time.Millisecond}} {
		b.Run(fmt.Sprintf("streams=%d", c.streams), func(b *testing.B) {
			timing := sim.FixedTiming{TimeToFirstToken: 60 * time.Millisecond, InterTokenLatency: c.itl}
			s, url := simtest.Start(b, sim.Options{Fixed: &timing, TruthRecords: b.N * c.streams})
			transport := client(b, c.streams)
			body := []byte(`{"stream":true,"max_tokens":128,"ignore_eos":true,"messages":[{"content":"one two"}]}`)
			b.ResetTimer()
			var running sync.WaitGroup
			for i := range c.streams {
				running.Go(func() {
					time.Sleep(time.Second * time.Duration(i) / time.Duration(c.streams))
					buf := make([]byte, 4<<10)
					for range b.N {
						read(b, transport, url, body, buf)
					}
				})
			}
			running.Wait()
			reportLateness(b, simtest.Truth(b, s), timing)
		})
	}
}

// reportLateness reports percentiles of the lateness of every write with a token.
func reportLateness(b *testing.B, records []sim.Record, timing sim.FixedTiming) {
	var late []time.Duration
	for _, r := range records {
		due := r.Received.Add(timing.TimeToFirstToken)
		for _, w := range r.Writes {
			if w.Tokens > 0 {
				late = append(late, w.Before.Sub(due))
				due = due.Add(timing.InterTokenLatency)
			}
		}
	}
	slices.Sort(late)
	for _, percent := range []int{50, 99} {
		b.ReportMetric(late[len(late)*percent/100].Seconds()*1e3, fmt.Sprintf("p%d-late-ms", percent))
	}
}
