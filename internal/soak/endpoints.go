package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"math"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/inferprobe/inferprobe/internal/schedule"
	"github.com/inferprobe/inferprobe/internal/sim"
)

const (
	canaryInterval = time.Minute
	// The simulated answer to a canary.
	firstToken, tokenGap = 60 * time.Millisecond, 9 * time.Millisecond
)

// setting is one row of the benchmark.
type setting struct {
	endpoints  int
	histograms string
	sweeps     bool // whether the series of a whole sweep exist, too
	broken     bool // whether one endpoint is dead and one hangs
}

func (s setting) String() string {
	text := fmt.Sprintf("%d endpoints, %s", s.endpoints, s.histograms)
	if s.sweeps {
		text += ", series of 12 stages"
	}
	if s.broken {
		text += ", one dead, one hanging"
	}
	return text
}

func endpointsMain(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("endpoints", flag.ExitOnError)
	program := flags.String("inferprobe", "bin/inferprobe", "path of inferprobe")
	length := flags.Duration("for", 2*time.Minute, "how long each setting is measured, after a minute of warm-up")
	only := flags.Int("only", 0, "number of the one `setting` to measure; 0 = all")
	_ = flags.Parse(args) // exits on an error
	settings := []setting{
		{endpoints: 50, histograms: "both"},
		{endpoints: 50, histograms: "both", broken: true},
		{endpoints: 1000, histograms: "both"},
		{endpoints: 1000, histograms: "native"},
		{endpoints: 1000, histograms: "both", sweeps: true},
		{endpoints: 1000, histograms: "native", sweeps: true},
	}
	if *only < 0 || *only > len(settings) {
		return fmt.Errorf("-only is %d, want 1 to %d", *only, len(settings))
	}
	fmt.Printf("%d CPUs, %s, %s; daemon and simulator share the machine\n",
		runtime.NumCPU(), runtime.Version(), time.Now().Format(time.DateOnly))
	for i, s := range settings {
		if *only == 0 || *only == i+1 {
			if err := measure(ctx, *program, *length, s); err != nil {
				return fmt.Errorf("%v: %w", s, err)
			}
		}
	}
	return nil
}

// measure runs a daemon with so many endpoints and prints what it cost and how punctual it was.
func measure(ctx context.Context, program string, length time.Duration, s setting) error {
	dir, remove, err := workFolder("")
	if err != nil {
		return err
	}
	server, err := startMany(ctx)
	if err != nil {
		return err
	}
	defer server.stop()
	if err := os.WriteFile(filepath.Join(dir, "inferprobe.yaml"), server.config(s), 0o666); err != nil {
		return err
	}
	began := time.Now()
	d, err := startDaemon(ctx, program, dir)
	if err != nil {
		return err
	}
	defer d.kill()
	started := time.Since(began)
	const warm = canaryInterval + 10*time.Second // each endpoint has been found out about
	if err := sleep(ctx, warm); err != nil {
		return err
	}
	if err := observe(ctx, d, server, s, length, started); err != nil {
		return err
	}
	took, err := d.terminate(10 * time.Second)
	if err != nil {
		return err
	}
	fmt.Printf("  %-28s %.2f s\n", "end at SIGTERM", took.Seconds())
	return remove()
}

// observe looks at a daemon that is warm.
func observe(ctx context.Context, d *daemon, server *many, s setting, length, started time.Duration) error {
	before, err := d.footprint()
	if err != nil {
		return err
	}
	scrapeBefore, err := d.scrape(ttft, "go_goroutines")
	if err != nil {
		return err
	}
	from := time.Now()
	if err := sleep(ctx, length); err != nil {
		return err
	}
	to := time.Now()
	after, err := d.footprint()
	if err != nil {
		return err
	}
	if err := sleep(ctx, time.Second); err != nil { // for what is under way
		return err
	}
	scrapeAfter, err := d.scrape(ttft, "go_goroutines")
	if err != nil {
		return err
	}
	fmt.Printf("\n%v\n", s)
	fmt.Printf("  %-28s %.2f s\n", "start until ready", started.Seconds())
	fmt.Printf("  %-28s %.3f cores\n", "CPU without scrapes", (after.cpu-before.cpu).Seconds()/to.Sub(from).Seconds())
	fmt.Printf("  %-28s %.0f MB, %.0f before\n", "RSS", after.rss, before.rss)
	fmt.Printf("  %-28s %.0f\n", "goroutines", scrapeAfter.values["go_goroutines{}"])
	fmt.Printf("  %-28s %d\n", "file descriptors", after.fds)
	if info, err := os.Stat(d.log); err == nil {
		fmt.Printf("  %-28s %.0f kB\n", "log since the start", float64(info.Size())/1000)
	}
	server.punctuality(s, from, to)
	truth := server.sim.Truth(from)
	printTTFT(scrapeBefore, scrapeAfter, truth)
	for _, e := range expositions() {
		c, err := d.cost(e)
		if err != nil {
			fmt.Printf("  %-28s %v\n", "/metrics, "+e.name, err)
			continue
		}
		fmt.Printf("  %-28s %.0f ms, %.2f s of CPU, %.2f MB", "/metrics, "+e.name, c.took.Seconds()*1000, c.cpu.Seconds(),
			float64(c.size)/1e6)
		if c.series > 0 {
			fmt.Printf(", %d series", c.series)
		}
		fmt.Println()
	}
	end, err := d.footprint()
	fmt.Printf("  %-28s %.0f MB\n", "RSS after ten scrapes", end.rss)
	return err
}

const ttft = "inferprobe_time_to_first_token_seconds"

// printTTFT holds the mean time to first token that the daemon reports against the server's record.
func printTTFT(before, after *scrape, truth []sim.Record) {
	n := after.sum(ttft+"_count", "canary") - before.sum(ttft+"_count", "canary")
	reported := (after.sum(ttft+"_sum", "canary") - before.sum(ttft+"_sum", "canary")) / n
	var sum float64
	var records int
	for _, r := range truth {
		if len(r.Writes) > 0 {
			sum += r.Writes[0].After.Sub(r.Received).Seconds()
			records++
		}
	}
	fmt.Printf("  %-28s %.2f ms by %.0f canaries, %.2f ms by the server's record of %d\n", "mean time to first token",
		reported*1000, n, sum/float64(records)*1000, records)
}

// many is one simulated server that thousands of endpoints lead to, each by a path of its own.
type many struct {
	sim    *sim.Server
	http   *http.Server
	url    string
	silent net.Listener // takes connections and never answers
	ended  sync.WaitGroup
	end    context.CancelFunc

	mu       sync.Mutex
	arrivals map[string][]time.Time // of generation requests, by endpoint
}

func startMany(ctx context.Context) (*many, error) {
	timing := sim.FixedTiming{TimeToFirstToken: firstToken, InterTokenLatency: tokenGap}
	server, err := sim.New(sim.Options{Fixed: &timing, TruthRecords: 100_000})
	if err != nil {
		return nil, err
	}
	l, err1 := net.Listen("tcp", "127.0.0.1:0")
	silent, err2 := net.Listen("tcp", "127.0.0.1:0")
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	m := &many{sim: server, url: "http://" + l.Addr().String(), silent: silent, arrivals: map[string][]time.Time{}}
	mux := http.NewServeMux()
	mux.HandleFunc("/{endpoint}/", m.serve)
	m.http = &http.Server{Handler: mux, ErrorLog: log.New(io.Discard, "", 0)}
	ctx, m.end = context.WithCancel(ctx)
	m.ended.Go(func() { _ = server.Run(ctx) })
	m.ended.Go(func() { _ = m.http.Serve(l) })
	return m, nil
}

func (m *many) stop() {
	m.end()
	m.http.Close()
	m.silent.Close()
	m.ended.Wait()
}

// serve notes which endpoint a request is for and hands it to the simulator.
func (m *many) serve(w http.ResponseWriter, r *http.Request) {
	now, name := time.Now(), r.PathValue("endpoint")
	if strings.HasSuffix(r.URL.Path, "/chat/completions") {
		m.mu.Lock()
		m.arrivals[name] = append(m.arrivals[name], now)
		m.mu.Unlock()
	}
	http.StripPrefix("/"+name, m.sim).ServeHTTP(w, r)
}

func endpointName(i int) string { return fmt.Sprintf("endpoint-%04d", i) }

// healthy returns the names of the endpoints that answer.
func (s setting) healthy() []string {
	var names []string
	first := 0
	if s.broken {
		first = 2
	}
	for i := first; i < s.endpoints; i++ {
		names = append(names, endpointName(i))
	}
	return names
}

// config returns the daemon's configuration. The windows let no cycle run: a week's hour that is not now.
func (m *many) config(s setting) []byte {
	var b strings.Builder
	sweep := "{interval: 0s}"
	if s.sweeps {
		closed := time.Now().UTC().Add(48 * time.Hour).Format("Mon")
		sweep = fmt.Sprintf(`{interval: 6h, windows: ["%s 00:00-01:00"]}`, closed)
	}
	fmt.Fprintf(&b, "metrics: {histograms: %s}\nhistory: {dir: \"\"}\ndefaults:\n  canary: {interval: %v}\n  sweep: %s\n",
		s.histograms, canaryInterval, sweep)
	fmt.Fprint(&b, "endpoints:\n")
	for i := range s.endpoints {
		url := fmt.Sprintf("%s/%s/v1", m.url, endpointName(i))
		if s.broken && i == 0 {
			url = "http://127.0.0.1:1/v1"
		}
		if s.broken && i == 1 {
			url = "http://" + m.silent.Addr().String() + "/v1"
		}
		fmt.Fprintf(&b, "  - {name: %s, url: %s, model: %s, tokenizer: \"builtin:demo\"}\n", endpointName(i), url,
			sim.DefaultModel)
	}
	return []byte(b.String())
}

// punctuality prints how many of the canaries that were due came, and how late.
func (m *many) punctuality(s setting, from, to time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var due, came int
	var late []float64 // ms
	for _, name := range s.healthy() {
		plan := schedule.Plan{Name: name + " canary", Interval: canaryInterval} // as internal/daemon plans it
		for at := plan.Next(from); at.Before(to); at = plan.Next(at) {
			due++
			if lateness, ok := m.lateness(name, at); ok {
				came++
				late = append(late, lateness.Seconds()*1000)
			}
		}
	}
	fmt.Printf("  %-28s %d of %d due\n", "canaries of healthy endpoints", came, due)
	fmt.Printf("  %-28s p50 %.1f ms, p99 %.1f ms, max %.1f ms\n", "lateness at the server", quantile(late, 0.5),
		quantile(late, 0.99), quantile(late, 1))
}

// lateness returns how long after it was due an endpoint's canary arrived.
func (m *many) lateness(name string, due time.Time) (time.Duration, bool) {
	least := time.Duration(math.MaxInt64)
	for _, at := range m.arrivals[name] {
		if late := at.Sub(due); late >= 0 && late < canaryInterval {
			least = min(least, late)
		}
	}
	return least, least < math.MaxInt64
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
