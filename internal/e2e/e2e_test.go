//go:build e2e

// Package e2e runs the built program against real software: llama.cpp's server and Prometheus. `make e2e` installs both
// and sets the variables; a variable that is not set fails the tests instead of skipping them.
package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// setting returns the path that make e2e put into an environment variable.
func setting(t *testing.T, name string) string {
	t.Helper()
	path := os.Getenv(name)
	if path == "" {
		t.Fatalf("%s is not set; run these tests by `make e2e`", name)
	}
	return path
}

// program is a running process whose output is kept for the failure message.
type program struct {
	name   string
	cmd    *exec.Cmd
	output bytes.Buffer
	lines  chan string
	exited chan error
}

// start runs a program until the test ends, then sends SIGTERM and, if need be, SIGKILL.
func start(t *testing.T, name string, env []string, argv ...string) *program {
	t.Helper()
	p := &program{name: name, lines: make(chan string, 4096), exited: make(chan error, 1)}
	p.cmd = exec.Command(argv[0], argv[1:]...)
	p.cmd.Env = append(os.Environ(), env...)
	read, write := io.Pipe()
	p.cmd.Stdout, p.cmd.Stderr = write, write
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	scanned := make(chan struct{})
	go func() {
		defer close(scanned)
		s := bufio.NewScanner(read)
		s.Buffer(nil, 1<<20)
		for s.Scan() {
			fmt.Fprintln(&p.output, s.Text())
			select {
			case p.lines <- s.Text():
			default:
			}
		}
	}()
	go func() {
		err := p.cmd.Wait()
		write.Close()
		<-scanned
		p.exited <- err
		close(p.exited)
	}()
	t.Cleanup(func() {
		p.stop()
		if t.Failed() {
			t.Logf("output of %s:\n%s", name, p.output.String())
		}
	})
	return p
}

// stop ends the program and returns its exit code, -1 if it had to be killed.
func (p *program) stop() int {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.exited:
	case <-time.After(20 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.exited
	}
	return p.cmd.ProcessState.ExitCode()
}

// wait returns when the program prints a line that contains text.
func (p *program) wait(t *testing.T, text string, limit time.Duration) string {
	t.Helper()
	timeout := time.After(limit)
	for {
		select {
		case line := <-p.lines:
			if strings.Contains(line, text) {
				return line
			}
		case <-p.exited:
			t.Fatalf("%s ended before it printed %q", p.name, text)
		case <-timeout:
			t.Fatalf("%s did not print %q within %s", p.name, text, limit)
		}
	}
}

// run runs the program to its end and returns its standard output and exit code; standard error goes to the test's log.
func run(t *testing.T, env []string, argv ...string) (stdout []byte, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatalf("%v: %v", argv, err)
	}
	t.Logf("%s\n%s", strings.Join(argv, " "), stderr.Bytes())
	return stdout, cmd.ProcessState.ExitCode()
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// get decodes a JSON answer.
func get(url string, into any) error {
	resp, err := http.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s: %s", url, resp.Status, body)
	}
	return json.Unmarshal(body, into)
}

// eventually tries until check succeeds.
func eventually(t *testing.T, limit time.Duration, check func() error) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %s: %v", limit, err)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// reported is the part of report/v1 that these tests look at.
type reported struct {
	Schema  string
	Model   string
	Server  string
	Failure *struct{ Reason, Detail string }
	Stages  []stage
	Skipped []struct{ Stage, Reason string }
}

type stage struct {
	Name           string
	Target         *float64 `json:"target_requests_per_second"`
	InvalidReasons []string `json:"invalid_reasons"`
	Requests       struct{ Completed, Failed, Incomplete int }
	Rate           float64      `json:"requests_per_second"`
	Tokens         float64      `json:"output_tokens_per_second"`
	Cached         int          `json:"cached_tokens"`
	Prompt         distribution `json:"prompt_tokens"`
	Output         distribution `json:"output_tokens"`
	Duration       distribution `json:"request_duration_seconds"`
	FirstToken     distribution `json:"time_to_first_token_seconds"`
	Gap            distribution `json:"inter_token_latency_seconds"`
	Lag            distribution `json:"receive_lag_seconds"`
}

type distribution struct {
	Count                                                       int
	Mean, Min, P01, P05, P10, P25, P50, P75, P90, P95, P99, Max *float64
}
