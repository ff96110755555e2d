//go:build cgo && hftokenizers

package main

import (
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// process is a running inferprobe whose streams are the test's to choose.
type process struct {
	*exec.Cmd
	exited chan struct{}
}

// start starts inferprobe with an environment of its own, and kills it when the test ends.
func start(t *testing.T, stdout, stderr *os.File, env []string, args ...string) *process {
	t.Helper()
	p := &process{Cmd: exec.Command("inferprobe", args...), exited: make(chan struct{})}
	p.Env = append([]string{"PATH=" + os.Getenv("PATH"), "GORACE=atexit_sleep_ms=0", "TOKENIZER=" + smallTokenizer}, env...)
	p.Stdout, p.Stderr = stdout, stderr
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.exited)
		_ = p.Wait() // ProcessState says all
	}()
	t.Cleanup(func() {
		_ = p.Process.Kill()
		<-p.exited
	})
	return p
}

// signal sends a signal.
func (p *process) signal(t *testing.T, s os.Signal) {
	t.Helper()
	if err := p.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// code waits for the end and returns the exit code.
func (p *process) code(t *testing.T) int {
	t.Helper()
	select {
	case <-p.exited:
	case <-time.After(time.Minute):
		t.Fatal("inferprobe did not end")
	}
	return p.ProcessState.ExitCode()
}

// eventually waits until a document matches.
func eventually(t *testing.T, url, pattern string) {
	t.Helper()
	match := regexp.MustCompile("(?m)" + pattern)
	var last string
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if last = get(url); match.MatchString(last) {
			return
		}
	}
	t.Fatalf("%s never matched %q; the last answer:\n%s", url, pattern, last)
}

// freePort returns an address that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// pipe returns both ends of a pipe, which are closed when the test ends.
func pipe(t *testing.T) (read, write *os.File) {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { read.Close(); write.Close() })
	return read, write
}

// A daemon whose reports and log nobody reads any more goes on measuring, and ends in order.
func TestServeSurvivesClosedOutput(t *testing.T) {
	t.Parallel()
	read, write := pipe(t)
	read.Close()
	address := freePort(t)
	p := start(t, write, write, []string{"OPENAI_API_BASE_URL=http://" + freePort(t)}, "serve", "--history.dir", t.TempDir(),
		"--web.listen-address", address)
	eventually(t, "http://"+address+"/metrics", `^inferprobe_cycles_total\{.*\} 1$`)
	eventually(t, "http://"+address+"/-/ready", "is ready")
	p.signal(t, syscall.SIGTERM)
	if code := p.code(t); code != exitDone {
		t.Errorf("exit code %d, want %d", code, exitDone)
	}
}

// startEnding starts a daemon that has been told to end and cannot, for as long as nobody takes from the other end of
// stdout its report, which is larger than a pipe.
func startEnding(t *testing.T, stdout *os.File) (p *process, address string) {
	t.Helper()
	log, stderr := pipe(t)
	go io.Copy(io.Discard, log)
	address = freePort(t)
	silent := newHanging(t)
	p = start(t, stdout, stderr, []string{"COLUMNS=20000", "OPENAI_API_BASE_URL=" + silent}, "serve", "--history.dir", t.TempDir(),
		"--web.listen-address", address)
	eventually(t, silent+"/arrived", "GET")
	p.signal(t, syscall.SIGTERM)
	eventually(t, "http://"+address+"/api/v1/endpoints", `"failure": "interrupted"`)
	return p, address
}

// While nobody takes a report that is larger than a pipe, the daemon cannot end in order. A second signal ends it.
func TestSecondSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	_, stdout := pipe(t)
	p, _ := startEnding(t, stdout)
	p.signal(t, syscall.SIGTERM)
	if code, want := p.code(t), exitSignal+int(syscall.SIGTERM); code != want {
		t.Errorf("exit code %d, want %d", code, want)
	}
}

// A SIGHUP that comes while the daemon ends, here for as long as nobody takes its report, changes nothing.
func TestHangupWhileEnding(t *testing.T) {
	t.Parallel()
	report, stdout := pipe(t)
	p, address := startEnding(t, stdout)
	p.signal(t, syscall.SIGHUP)
	eventually(t, "http://"+address+"/-/healthy", "healthy")
	stdout.Close()
	go io.Copy(io.Discard, report)
	if code := p.code(t); code != exitDone {
		t.Errorf("exit code %d, want %d", code, exitDone)
	}
}

// The built-in values that the help texts show are those of the configuration.
func TestFlagsShowTheDefaults(t *testing.T) {
	t.Setenv("OPENAI_API_BASE_URL", "http://localhost:8000")
	flags := newRun().Flags()
	without, err := load(newRun(), "")
	if err != nil {
		t.Fatal(err)
	}
	command := newRun()
	var set []string
	for name := range endpointKeys() {
		if f := flags.Lookup(name); f.DefValue != "" && f.DefValue != "[]" {
			set = append(set, "--"+name+"="+f.DefValue)
		}
	}
	if err := command.Flags().Parse(set); err != nil {
		t.Fatal(err)
	}
	with, err := load(command, "")
	if err != nil {
		t.Fatal(err)
	}
	if a, b := without.Endpoints[0].Fingerprint(), with.Endpoints[0].Fingerprint(); a != b || len(set) < 8 {
		t.Errorf("%s is not what is built in", strings.Join(set, " "))
	}
}
