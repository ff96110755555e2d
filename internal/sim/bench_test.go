package sim_test

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/inferprobe/inferprobe/internal/sim"
	"github.com/inferprobe/inferprobe/internal/sim/simtest"
)

// benchmarkStreams has 64 connections of a plain net/http client read streams of 128 tokens to their end, in the same
// process as the simulator.
func benchmarkStreams(b *testing.B, opts sim.Options) {
	const connections, tokens = 64, 128
	_, url := simtest.Start(b, opts)
	body := []byte(`{"model":"sim","stream":true,"stream_options":{"include_usage":true},"max_tokens":128,"ignore_eos":true,` +
		`"messages":[{"role":"user","content":"` + strings.Repeat("some words to read ", 128) + `"}]}`)
	transport := &http.Transport{MaxIdleConnsPerHost: connections, DisableCompression: true}
	defer transport.CloseIdleConnections()
	b.ReportAllocs()
	b.ResetTimer()
	start := time.Now()
	var next atomic.Int64
	var clients sync.WaitGroup
	for range connections {
		clients.Go(func() {
			buf := make([]byte, 32<<10)
			for next.Add(1) <= int64(b.N) {
				request, _ := http.NewRequest(http.MethodPost, url+"/v1/chat/completions", bytes.NewReader(body))
				response, err := transport.RoundTrip(request)
				if err != nil {
					b.Error(err)
					return
				}
				if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, response.Body, buf); err != nil {
					b.Error(err)
				}
				response.Body.Close()
			}
		})
	}
	clients.Wait()
	elapsed := time.Since(start).Seconds()
	b.ReportMetric(float64(b.N)/elapsed, "answers/s")
	b.ReportMetric(float64(b.N)*tokens/elapsed, "events/s")
}

// BenchmarkAnswersAtOnce is the simulator's ceiling for answers in one write.
func BenchmarkAnswersAtOnce(b *testing.B) {
	benchmarkStreams(b, sim.Options{Fixed: &sim.FixedTiming{}})
}

// BenchmarkEvents is its ceiling for events, each in a write of its own.
func BenchmarkEvents(b *testing.B) {
	benchmarkStreams(b, sim.Options{Fixed: &sim.FixedTiming{TimeToFirstToken: 1, InterTokenLatency: 1}})
}
