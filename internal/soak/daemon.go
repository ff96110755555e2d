package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// daemon is a running `inferprobe serve`.
type daemon struct {
	cmd     *exec.Cmd
	address string
	log     string // file of its log
	exited  chan struct{}
}

// freeAddress returns an address on which nobody listens.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// startDaemon starts a daemon with the configuration and log of the given names in dir, and waits until it is ready.
func startDaemon(ctx context.Context, program, dir string) (*daemon, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	d := &daemon{address: address, log: filepath.Join(dir, "daemon.log"), exited: make(chan struct{})}
	log, err := os.OpenFile(d.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o666)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	d.cmd = exec.CommandContext(ctx, program, "serve", "--config.file", filepath.Join(dir, "inferprobe.yaml"),
		"--web.listen-address", address, "--web.enable-lifecycle", "--log.format", "json")
	d.cmd.Env = append(os.Environ(), "HF_HUB_OFFLINE=1")
	d.cmd.Stderr = log
	if err := d.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(d.exited)
		_ = d.cmd.Wait() // ProcessState says all
	}()
	const patience = 30 * time.Second
	if err := d.waitReady(patience); err != nil {
		d.kill()
		return nil, fmt.Errorf("%w; its log is %s", err, d.log)
	}
	return d, nil
}

func (d *daemon) waitReady(patience time.Duration) error {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if _, status, err := d.request(http.MethodGet, "/-/ready", nil); err == nil && status == http.StatusOK {
			return nil
		}
		select {
		case <-d.exited:
			return fmt.Errorf("the daemon ended at its start: %v", d.cmd.ProcessState)
		default:
		}
	}
	return fmt.Errorf("the daemon is not ready within %v", patience)
}

// request asks the daemon for something and returns what it answers.
func (d *daemon) request(method, path string, header http.Header) (body []byte, status int, err error) {
	r, err := http.NewRequest(method, "http://"+d.address+path, nil)
	if err != nil {
		return nil, 0, err
	}
	if header != nil {
		r.Header = header
	}
	client := http.Client{
		Timeout:   time.Minute,
		Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true}, // leaves the daemon nothing to keep
	}
	response, err := client.Do(r)
	if err != nil {
		return nil, 0, err
	}
	defer response.Body.Close()
	body, err = io.ReadAll(response.Body)
	return body, response.StatusCode, err
}

func (d *daemon) signal(s syscall.Signal) error { return d.cmd.Process.Signal(s) }

// kill ends the daemon by SIGKILL.
func (d *daemon) kill() {
	_ = d.cmd.Process.Kill()
	<-d.exited
}

// terminate ends the daemon by SIGTERM, and returns how long that took and what was wrong with it.
func (d *daemon) terminate(limit time.Duration) (took time.Duration, err error) {
	began := time.Now()
	if err := d.signal(syscall.SIGTERM); err != nil {
		return 0, err
	}
	select {
	case <-d.exited:
	case <-time.After(limit):
		d.kill()
		return limit, fmt.Errorf("the daemon did not end within %v of SIGTERM", limit)
	}
	if code := d.cmd.ProcessState.ExitCode(); code != 0 {
		err = fmt.Errorf("the daemon ended with code %d at SIGTERM", code)
	}
	return time.Since(began), err
}

// footprint is what the operating system says of a process.
type footprint struct {
	cpu time.Duration // since its start
	rss float64       // MB
	fds int
}

func (d *daemon) footprint() (footprint, error) {
	proc := filepath.Join("/proc", strconv.Itoa(d.cmd.Process.Pid))
	stat, err1 := os.ReadFile(filepath.Join(proc, "stat"))
	status, err2 := os.ReadFile(filepath.Join(proc, "status"))
	fds, err3 := os.ReadDir(filepath.Join(proc, "fd"))
	if err := errors.Join(err1, err2, err3); err != nil {
		return footprint{}, err
	}
	_, after, _ := strings.Cut(string(stat), ") ") // the name may hold blanks
	fields := strings.Fields(after)
	user, err1 := strconv.Atoi(fields[11])
	system, err2 := strconv.Atoi(fields[12])
	var kilobytes int
	for line := range bytes.Lines(status) {
		if value, ok := strings.CutPrefix(string(line), "VmRSS:"); ok {
			kilobytes, err3 = strconv.Atoi(strings.Fields(value)[0])
		}
	}
	const tick = 10 * time.Millisecond // USER_HZ is 100 wherever Linux runs
	return footprint{
		cpu: time.Duration(user+system) * tick, rss: float64(kilobytes) / 1024, fds: len(fds),
	}, errors.Join(err1, err2, err3)
}
