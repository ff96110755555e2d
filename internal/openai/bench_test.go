package openai

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/inferprobe/inferprobe/internal/probe"
)

const benchTokens = 128

// benchAnswer is a chat answer of benchTokens tokens with a running total, as vLLM sends it, in the pieces in which a
// server writes it.
func benchAnswer() (pieces [][]byte) {
	event := func(data string) {
		data = "data: " + data + "\n\n"
		pieces = append(pieces, fmt.Appendf(nil, "%x\r\n%s\r\n", len(data), data))
	}
	const chunk = `{"id":"chatcmpl-9843490c2ed12124","object":"chat.completion.chunk","created":1795507541,` +
		`"model":"tiny","choices":[%s],"usage":{"prompt_tokens":512,"total_tokens":%d,"completion_tokens":%d}}`
	event(fmt.Sprintf(chunk, `{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}`, 512, 0))
	pieces[0] = append([]byte(streamHead), pieces[0]...)
	for i := 1; i <= benchTokens; i++ {
		finish := "null"
		if i == benchTokens {
			finish = `"length"`
		}
		choice := fmt.Sprintf(`{"index":0,"delta":{"content":" word"},"logprobs":null,"finish_reason":%s}`, finish)
		event(fmt.Sprintf(chunk, choice, 512+i, i))
	}
	event(fmt.Sprintf(chunk, "", 512+benchTokens, benchTokens))
	event("[DONE]")
	return append(pieces, []byte("0\r\n\r\n"))
}

// benchServer answers every request with the given writes, and does as little else as possible.
func benchServer(b *testing.B, writes [][]byte) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				r := bufio.NewReaderSize(conn, 16<<10)
				for skipRequest(r) == nil {
					for _, w := range writes {
						conn.Write(w)
					}
				}
			}()
		}
	}()
	return "http://" + listener.Addr().String() + "/v1"
}

func skipRequest(r *bufio.Reader) error {
	length := 0
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return err
		}
		if value, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			length, _ = strconv.Atoi(string(bytes.TrimSpace(value)))
		}
		if len(line) == 2 {
			_, err := r.Discard(length)
			return err
		}
	}
}

// BenchmarkStream measures whole requests, 64 at a time, against a server in the same process: Do, and beside it the
// floor, a bare loop over net/http's transport that reads the same bytes and looks at none.
func BenchmarkStream(b *testing.B) {
	pieces := benchAnswer()
	body := []byte(`{"messages":[{"role":"user","content":"` + strings.Repeat("word ", 512) + `"}]}`)
	for _, shape := range []struct {
		name   string
		writes [][]byte
	}{{"one-write", [][]byte{bytes.Join(pieces, nil)}}, {"event-a-write", pieces}} {
		b.Run(shape.name+"/do", func(b *testing.B) {
			client := newClient(b, benchServer(b, shape.writes), Options{MaxInFlight: 64})
			var live atomic.Int64
			inParallel(b, func() func() {
				req, res := &probe.Request{Body: body, OutputTokens: benchTokens, Events: &live}, new(probe.Result)
				return func() {
					if client.Do(b.Context(), req, res); res.Outcome != probe.Completed || res.OutputTokens != benchTokens {
						b.Fatal(res.Outcome, res.Detail)
					}
				}
			})
		})
		b.Run(shape.name+"/floor", func(b *testing.B) {
			url := benchServer(b, shape.writes) + "/chat/completions"
			transport := &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}
			defer transport.CloseIdleConnections()
			inParallel(b, func() func() {
				buffer := make([]byte, 16<<10)
				return func() {
					request, err := http.NewRequestWithContext(b.Context(), http.MethodPost, url, bytes.NewReader(body))
					if err != nil {
						b.Fatal(err)
					}
					response, err := transport.RoundTrip(request)
					if err != nil {
						b.Fatal(err)
					}
					for err == nil {
						_, err = response.Body.Read(buffer)
					}
					if response.Body.Close(); err != io.EOF {
						b.Fatal(err)
					}
				}
			})
		})
	}
}

// inParallel runs 64 workers and reports requests and tokens a second, and the processor time of a request, the
// server's included: the figure to compare where the machine has other work.
func inParallel(b *testing.B, worker func() func()) {
	b.SetParallelism(64 / runtime.GOMAXPROCS(0))
	b.ReportAllocs()
	before := cpuTime()
	b.RunParallel(func(pb *testing.PB) {
		once := worker()
		for pb.Next() {
			once()
		}
	})
	b.ReportMetric(float64((cpuTime()-before).Microseconds())/float64(b.N), "cpu-µs/req")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
	b.ReportMetric(float64(b.N)*benchTokens/b.Elapsed().Seconds(), "tokens/s")
}
