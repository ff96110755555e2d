package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// usage is what a child process cost.
type usage struct {
	cpu time.Duration
	rss float64 // MB, at most
}

// run runs a program to its end and returns its standard output.
func run(ctx context.Context, argv ...string) ([]byte, usage, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "HF_HUB_OFFLINE=1")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return nil, usage{}, fmt.Errorf("%s: %w\n%s", strings.Join(argv, " "), err, stderr.Bytes())
	}
	u := usage{cpu: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()}
	if r, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		u.rss = float64(r.Maxrss) / 1024 // kB on Linux
	}
	return stdout.Bytes(), u, nil
}

// simulator runs inferprobe sim until the returned function is called.
func simulator(ctx context.Context, p programs, flags ...string) (url string, stop func(), err error) {
	return serve(ctx, append(append([]string{p.inferprobe, "sim"}, flags...), "--listen")...)
}

// serve runs a program until the returned function is called. The address to listen at is its last argument.
func serve(ctx context.Context, argv ...string) (url string, stop func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		return "", nil, err
	}
	cmd := exec.CommandContext(ctx, argv[0], append(argv[1:], address)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	stop = func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	}
	for range 100 {
		if response, err := http.Get("http://" + address); err == nil {
			response.Body.Close()
			return "http://" + address, stop, nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	stop()
	return "", nil, fmt.Errorf("%s %s does not answer at %s", argv[0], argv[1], address)
}

// stage is what the report says of a stage, as far as it is looked at here.
type stage struct {
	Started       time.Time `json:"started_at"`
	Rate          float64   `json:"requests_per_second"`
	Tokens        float64   `json:"output_tokens_per_second"`
	Duration      float64   `json:"duration_seconds"`
	Requests      struct{ Completed, Failed, Incomplete int }
	ScheduleDelay quantiles `json:"schedule_delay_seconds"`
	ReceiveLag    quantiles `json:"receive_lag_seconds"`
}

type quantiles struct{ P50, P99, Max *float64 }

// inferprobe measures url once and returns its stages. Of flags that are given twice the last counts.
func inferprobe(ctx context.Context, p programs, url string, flags ...string) ([]stage, usage, error) {
	argv := append([]string{p.inferprobe, "run", "--url", url, "--tokenizer", "builtin:demo", "--output", "json"}, flags...)
	out, u, err := run(ctx, argv...)
	if err != nil {
		return nil, u, err
	}
	var report struct{ Stages []stage }
	if err := json.Unmarshal(out, &report); err != nil {
		return nil, u, err
	}
	if len(report.Stages) == 0 || report.Stages[0].Requests.Completed == 0 {
		return nil, u, fmt.Errorf("%s measured nothing:\n%s", strings.Join(argv, " "), out)
	}
	return report.Stages, u, nil
}

var heyRate = regexp.MustCompile(`Requests/sec:\s+([0-9.]+)`)

// hey posts body to url for d and returns requests per second.
func hey(ctx context.Context, p programs, url, body string, d time.Duration) (figure, error) {
	out, u, err := run(ctx, p.hey, "-z", d.String(), "-c", "64", "-m", "POST", "-T", "application/json", "-D", body, url)
	if err != nil {
		return figure{}, err
	}
	m := heyRate.FindSubmatch(out)
	if m == nil {
		return figure{}, fmt.Errorf("hey printed no rate:\n%s", out)
	}
	rate, err := strconv.ParseFloat(string(m[1]), 64)
	return figure{rate, microseconds(u.cpu) / (rate * d.Seconds()), u.rss}, err
}

// requestBody writes a body of about what a 512-token prompt takes, and returns its file.
func requestBody(dir string, outputTokens int) (string, error) {
	body, err := json.Marshal(map[string]any{
		"model": "sim", "stream": true, "max_tokens": outputTokens, "ignore_eos": true,
		"stream_options": map[string]bool{"include_usage": true},
		"messages":       []map[string]string{{"role": "user", "content": strings.TrimSpace(strings.Repeat("little words ", 256))}},
	})
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "body.json")
	return path, os.WriteFile(path, body, 0o600)
}
