package daemon

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/inferprobe/inferprobe/internal/config"
	"github.com/inferprobe/inferprobe/internal/sim"
	"github.com/inferprobe/inferprobe/internal/sim/simtest"
)

// source is a configuration that tests change.
type source struct {
	mu     sync.Mutex
	config *config.Config
	err    error
	loads  int
}

func (s *source) load() (*config.Config, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loads++
	if s.config.Files != nil {
		c := *s.config
		c.Digest = config.DigestOf(c.Files)
		s.config = &c
	}
	return s.config, s.err
}

// set replaces the endpoints.
func (s *source) set(endpoints ...config.Endpoint) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := *s.config
	c.Endpoints = endpoints
	s.config, s.err = &c, nil
}

func TestReload(t *testing.T) {
	server, url := simtest.Start(t, quick())
	long := func(name string) config.Endpoint {
		e := endpoint(name, url)
		e.Model = sim.DefaultModel
		e.Sweep.MaxRequests, e.Sweep.MaxDuration = 0, time.Hour
		return e
	}
	s := &source{config: configure(t, long("stays"), long("changes"), long("goes"))}
	h := startWith(t, Options{Config: s.config, Load: s.load})
	stop := h.serve(t)
	requests := func(name string) float64 {
		n, _ := h.value(t, "requests_total", "endpoint", name, "stage", "synchronous")
		return n
	}
	for !measuring(server, 3) || requests("changes") == 0 {
		time.Sleep(time.Millisecond)
	}
	before := requests("changes")
	changed := long("changes")
	changed.Sweep.OutputTokens = config.Length{Mean: 9}
	key := long("stays")
	key.APIKey = "sk-rotated"
	s.set(long("comes"), changed, key)
	if err := h.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if names := h.names(); count(names, "changes") != 1 || count(names, "goes") != 1 || count(names, "stays") != 0 {
		t.Errorf("ended %v, want the changed one and the removed one", names)
	}
	var shown []string
	for _, e := range h.Endpoints() {
		shown = append(shown, e.Name)
	}
	if got := strings.Join(shown, " "); got != "comes changes stays" {
		t.Errorf("endpoints %s", got)
	}
	if _, ok := h.value(t, "requests_total", "endpoint", "goes"); ok {
		t.Error("a removed endpoint is in the metrics")
	}
	if n := requests("changes"); n < before {
		t.Errorf("the changed endpoint counts from %v to %v", before, n)
	}
	if got := h.target(h.probes[2]).Client.APIKey; got != "sk-rotated" {
		t.Errorf("the key is %q", got)
	}
	for !measuring(server, 5) { // the new one and the changed one are measured at once
		time.Sleep(time.Millisecond)
	}
	stop()
	if _, ok := h.value(t, "requests_total", "endpoint", "goes"); ok {
		t.Error("a removed endpoint has come back")
	}
	if n := count(h.names(), "changes"); n != 2 {
		t.Errorf("%d cycles of the changed endpoint", n)
	}
}

func TestReloadThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{config: configure(t, endpoint("a", nobody))}
		h := startWith(t, Options{Config: s.config, Load: s.load})
		h.serve(t)
		time.Sleep(time.Hour)
		s.mu.Lock()
		s.err = errors.New("line 3: no")
		s.mu.Unlock()
		if err := h.Reload(t.Context()); err == nil || err.Error() != "line 3: no" {
			t.Errorf("error %v", err)
		}
		ok, _ := h.value(t, "config_last_reload_successful")
		if len(h.Endpoints()) != 1 || ok != 0 {
			t.Errorf("%d endpoints, success %v", len(h.Endpoints()), ok)
		}
		s.set() // all of them are gone, and one comes back
		if err := h.Reload(t.Context()); err != nil || len(h.Endpoints()) != 0 {
			t.Errorf("%v, %d endpoints", err, len(h.Endpoints()))
		}
		time.Sleep(time.Hour)
		before := len(h.names())
		s.set(endpoint("b", nobody))
		if err := h.Reload(t.Context()); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Minute)
		if n := len(h.names()); n != before+1 {
			t.Errorf("%d cycles of the new endpoint", n-before)
		}
		if ok, _ := h.value(t, "config_last_reload_successful"); ok != 1 {
			t.Errorf("success %v", ok)
		}
	})
}

func TestReloadWithoutAFile(t *testing.T) {
	h := start(t, endpoint("a", nobody))
	if err := h.Reload(t.Context()); err == nil {
		t.Error("no error")
	}
}

// TestWatch changes the file in the ways in which files are changed.
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		path := filepath.Join(dir, "volume", "inferprobe.yaml")
		write := func(name, text string) {
			t.Helper()
			if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		// As Kubernetes does: the file is a link through a link to a folder.
		data := filepath.Join(dir, "volume", "..data")
		write(filepath.Join(dir, "v1", "inferprobe.yaml"), "one")
		must(os.MkdirAll(filepath.Join(dir, "volume"), 0o700))
		must(os.Symlink(filepath.Join(dir, "v1"), data))
		must(os.Symlink(filepath.Join("..data", "inferprobe.yaml"), path))

		s := &source{config: configure(t, endpoint("a", nobody))}
		s.config.Files = []string{path}
		s.config.Digest = config.DigestOf(s.config.Files)
		write(path, "changed while the daemon started")
		h := startWith(t, Options{Config: s.config, Load: s.load})
		ctx, cancel := context.WithCancel(t.Context())
		var watching sync.WaitGroup
		watching.Go(func() { h.Watch(ctx) })
		expect := func(what string, loads int) {
			t.Helper()
			time.Sleep(10 * time.Second)
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.loads != loads {
				t.Errorf("%s: loaded %d times, want %d", what, s.loads, loads)
			}
		}
		expect("a change before", 1)
		expect("nothing happens", 1)

		write(filepath.Join(dir, "v2", "inferprobe.yaml"), "two")
		must(os.Symlink(filepath.Join(dir, "v2"), data+"_tmp"))
		must(os.Rename(data+"_tmp", data))
		expect("the link is swapped", 2)

		must(os.Remove(path))
		time.Sleep(time.Second)
		write(path, "three")
		expect("removed and made anew", 3)

		for _, text := range []string{"half of it", "half of it is", "four"} { // between two looks each
			write(path, text)
			time.Sleep(watchEvery)
		}
		expect("written slowly", 4)

		s.mu.Lock()
		s.err = errors.New("bad")
		s.mu.Unlock()
		write(path, "bad")
		expect("a bad file", 5)
		time.Sleep(retryEvery)
		expect("is tried again", 6)
		s.mu.Lock()
		s.err = nil
		s.mu.Unlock()
		time.Sleep(retryEvery)
		expect("is good now", 7)
		time.Sleep(time.Hour)
		expect("and stays so", 7)
		// Who has been told already need not look.
		write(path, "five")
		must(h.Reload(t.Context()))
		expect("reloaded by hand", 8)

		// A mistake that is taken back.
		s.mu.Lock()
		s.err = errors.New("bad")
		s.mu.Unlock()
		write(path, "bad again")
		expect("a mistake", 9)
		s.mu.Lock()
		s.err = nil
		s.mu.Unlock()
		write(path, "five")
		expect("taken back", 10)
		if ok, _ := h.value(t, "config_last_reload_successful"); ok != 1 {
			t.Error("the metric says that the configuration is bad")
		}
		cancel()
		watching.Wait()
	})
}
