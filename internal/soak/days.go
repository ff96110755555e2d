package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// days is a daemon that lives on while everything around it changes. It works in rounds: some seconds of trouble, then
// all faults end and each endpoint must be found well, then everything is paused and what the daemon holds is counted.
type days struct {
	*daemon
	dir     string
	random  *rand.Rand
	verdict *verdict

	servers []*server
	base    []spec // the endpoints of each round's end
	extra   []spec // those that come and go
	current []spec // as the daemon has them
	number  int    // of the configuration

	last    *scrape
	samples []sample
}

const groupsOfDays = 3

// newDays starts a daemon of twelve endpoints in three groups.
func newDays(ctx context.Context, program, dir string, seed uint64, v *verdict) (*days, error) {
	d := &days{dir: dir, random: newRandom(seed), verdict: v}
	const endpoints, extras = 12, 3
	for i := range endpoints + extras {
		name := fmt.Sprintf("days-%02d", i)
		s, err := newServer(name, seed+uint64(i))
		if err != nil {
			return nil, err
		}
		d.servers = append(d.servers, s)
		e := spec{
			name: name, group: fmt.Sprintf("group-%d", i%groupsOfDays), server: s, model: i%4 != 3,
			every: time.Duration(5+i%6) * time.Second, output: 4, team: "a",
		}
		if i%5 == 0 {
			e.keyFile = name + ".key"
		}
		if i < endpoints {
			d.base = append(d.base, e)
		} else {
			d.extra = append(d.extra, e)
		}
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, err
	}
	all := append(d.base[:len(d.base):len(d.base)], d.extra...)
	for _, e := range all {
		if err := d.rotate(e); err != nil {
			return nil, err
		}
	}
	if err := replaceFile(d.path("inferprobe.yaml"), d.render(all)); err != nil {
		return nil, err
	}
	d.current = all
	var err error
	d.daemon, err = startDaemon(ctx, program, dir)
	return d, err
}

func (d *days) path(name string) string { return filepath.Join(d.dir, name) }

func (d *days) render(specs []spec) string {
	return configuration(specs, d.path("history"), d.number)
}

func (d *days) close() {
	if d.daemon != nil {
		d.kill()
	}
	for _, s := range d.servers {
		_ = s.stop()
	}
}

// run makes rounds until the end, and then ends the daemon.
func (d *days) run(ctx context.Context, end time.Time) error {
	for round := 0; time.Now().Before(end); round++ {
		if err := d.round(ctx); err != nil {
			return err
		}
		if round == 0 { // caches and the history have yet to fill
			d.samples = nil
		}
	}
	took, err := d.terminate(shutdownLimit)
	d.verdict.check("SIGTERM", err)
	d.verdict.count("ms to end at SIGTERM", int(took.Milliseconds()))
	return readLog(d.log, "the daemon that runs on", d.verdict)
}

func (d *days) round(ctx context.Context) error {
	const actions, pause = 12, 700 * time.Millisecond
	for range actions {
		if err := d.trouble(ctx); err != nil {
			return err
		}
		if err := d.look(); err != nil {
			return err
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
	if err := d.recover(ctx); err != nil {
		return err
	}
	return d.rest(ctx)
}

// look scrapes and checks what must hold at any time.
func (d *days) look() error {
	s, err := d.scrape()
	if err != nil {
		return err
	}
	d.verdict.count("scrapes checked", 1)
	allowed := map[string]bool{marker: true}
	for _, e := range d.current {
		allowed[e.name] = true
		if len(s.endpoints[e.name]) == 0 {
			d.verdict.fail("%s is configured and not in /metrics (configuration %d)", e.name, d.number)
		}
	}
	for name := range s.endpoints {
		if !allowed[name] {
			d.verdict.fail("%s was removed and is in /metrics (configuration %d)", name, d.number)
		}
	}
	if d.last != nil {
		for _, what := range decreased(d.last, s) {
			d.verdict.fail("%s (configuration %d)", what, d.number)
		}
	}
	d.last = s
	return nil
}

// decreased returns the counters that have become less or vanished from one scrape to a later one. Those with an empty
// model may vanish: the model has been found out since.
func decreased(before, after *scrape) []string {
	var found []string
	for series := range before.counters {
		was := before.values[series]
		now, there := after.values[series]
		switch {
		case !there && !strings.Contains(series, `model=""`):
			found = append(found, series+" has vanished")
		case there && now < was:
			found = append(found, fmt.Sprintf("%s decreased from %v to %v", series, was, now))
		}
	}
	return found
}

// forget makes the next look expect nothing of an endpoint's counters.
func (d *days) forget(name string) {
	if d.last == nil {
		return
	}
	for _, series := range d.last.endpoints[name] {
		delete(d.last.counters, series)
	}
}

// recover ends all trouble, and waits until each endpoint is found well.
func (d *days) recover(ctx context.Context) error {
	for _, s := range d.servers {
		if err := s.calm(); err != nil {
			return err
		}
	}
	if err := d.apply(ctx, d.base, d.byRequest); err != nil {
		return err
	}
	if err := d.all("resume"); err != nil {
		return err
	}
	calm := float64(time.Now().UnixMilli()) / 1000
	const patience = 45 * time.Second
	var ill string
	err := within(ctx, patience, 500*time.Millisecond, "finding each endpoint well", func() (bool, error) {
		if err := d.look(); err != nil {
			return false, err
		}
		ill = ""
		for _, e := range d.base {
			success, _ := d.last.of(e.name, "inferprobe_probe_success")
			at, _ := d.last.of(e.name, "inferprobe_last_success_timestamp_seconds")
			if success != 1 || at < calm {
				ill += " " + e.name
			}
		}
		return ill == "", nil
	})
	if err != nil && ctx.Err() == nil {
		d.verdict.fail("%v: not%s", err, ill)
		return nil
	}
	d.verdict.count("rounds", 1)
	return err
}

// all does something to all endpoints.
func (d *days) all(action string) error {
	for _, e := range d.current {
		if _, err := d.act(e.name, action); err != nil {
			return err
		}
	}
	return nil
}

// act asks for run, pause or resume.
func (d *days) act(name, action string) (status int, err error) {
	_, status, err = d.request(http.MethodPost, "/api/v1/endpoints/"+name+"/"+action, nil)
	return status, err
}

// rest pauses everything, counts what the daemon still holds, and lets it go on.
func (d *days) rest(ctx context.Context) error {
	d.checkGroups()
	if err := d.all("pause"); err != nil {
		return err
	}
	paused := float64(time.Now().UnixMilli()) / 1000
	err := within(ctx, 15*time.Second, 200*time.Millisecond, "coming to rest after pausing", func() (bool, error) {
		err := d.look()
		return err == nil && d.last.sum("inferprobe_cycle_in_progress", "")+d.last.sum("inferprobe_requests_in_flight", "") == 0, err
	})
	if err != nil {
		return err
	}
	const answered = "inferprobe_requests_total"
	before := d.last.sum(answered, "")
	const idle = 6 * time.Second // connections are kept for four
	if err := sleep(ctx, idle); err != nil {
		return err
	}
	// Scrapes make garbage, and so the collector run.
	err = within(ctx, 20*time.Second, 10*time.Millisecond, "a garbage collection", func() (bool, error) {
		err := d.look()
		return err == nil && d.last.values["go_memstats_last_gc_time_seconds{}"] > paused+idle.Seconds(), err
	})
	if err != nil {
		return err
	}
	if more := d.last.sum(answered, "") - before; more > groupsOfDays { // canaries that were under way
		d.verdict.fail("%v requests while everything was paused", more)
	}
	if err := d.sample(); err != nil {
		return err
	}
	return d.all("resume")
}

func (d *days) sample() error {
	f, err := d.footprint()
	if err != nil {
		return err
	}
	files, disk, err := diskUsage(d.path("history"))
	if err != nil {
		return err
	}
	if most := cyclesKept*len(d.servers) + 1; int(files) > most { // and the ledger
		d.verdict.fail("the history has %v files, want %d at most", files, most)
	}
	const megabyte = 1e6
	s := sample{
		rss: f.rss, fds: float64(f.fds), series: float64(len(d.last.values)), disk: disk,
		// The collector runs again when the heap has doubled.
		heap:       d.last.values["go_memstats_next_gc_bytes{}"] / 2 / megabyte,
		goroutines: d.last.values["go_goroutines{}"],
	}
	d.samples = append(d.samples, s)
	fmt.Printf("%s at rest: RSS %.1f MB, heap %.1f MB, %.0f goroutines, %.0f descriptors, %.0f series, %.2f MB on disk\n",
		time.Now().Format(time.TimeOnly), s.rss, s.heap, s.goroutines, s.fds, s.series, s.disk)
	return nil
}

// checkGroups holds the records of each group's servers against each other.
func (d *days) checkGroups() {
	byGroup := map[string][]interval{}
	for i, s := range d.servers {
		group := strconv.Itoa(i % groupsOfDays)
		intervals := s.intervals(time.Now().Add(-time.Minute))
		d.verdict.count("requests held against the groups' others", len(intervals))
		byGroup[group] = append(byGroup[group], intervals...)
	}
	for _, all := range byGroup {
		for _, what := range overlaps(all) {
			d.verdict.fail("%s", what)
		}
	}
}

// A trigger makes the daemon read its configuration.
type trigger func() error

func (d *days) byRequest() error {
	body, status, err := d.request(http.MethodPost, "/-/reload", nil)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("/-/reload answers %d: %s", status, body)
	}
	return err
}

func (d *days) bySignal() error { return d.signal(syscall.SIGHUP) }

// byWatch leaves it to the daemon.
func (d *days) byWatch() error { return nil }

// apply gives the daemon a configuration, and waits until it has it.
func (d *days) apply(ctx context.Context, specs []spec, t trigger) error {
	d.number++
	if err := replaceFile(d.path("inferprobe.yaml"), d.render(specs)); err != nil {
		return err
	}
	return d.applied(ctx, specs, t)
}

func (d *days) applied(ctx context.Context, specs []spec, t trigger) error {
	if err := t(); err != nil {
		return err
	}
	const patience = 20 * time.Second // a change waits for the ends of what runs on the endpoint
	var s *scrape
	err := within(ctx, patience, 100*time.Millisecond, fmt.Sprintf("applying configuration %d", d.number),
		func() (ok bool, err error) {
			s, err = d.scrape()
			return err == nil && s.number() == strconv.Itoa(d.number), err
		})
	if err != nil {
		return err
	}
	for _, old := range d.current {
		if !containsName(specs, old.name) {
			d.forget(old.name)
		}
	}
	d.forget(marker) // its labels are not, but it starts anew
	d.current = specs
	d.verdict.count("configurations applied", 1)
	return d.look()
}

func containsName(specs []spec, name string) bool {
	for _, s := range specs {
		if s.name == name {
			return true
		}
	}
	return false
}
