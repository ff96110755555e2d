package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/inferprobe/inferprobe/internal/sim"
)

// trouble does one thing at random.
func (d *days) trouble(ctx context.Context) error {
	actions := []struct {
		name   string
		weight int
		do     func(context.Context) error
	}{
		{"faults set", 5, d.setFaults},
		{"servers slowed down", 2, d.slowDown},
		{"servers frozen", 2, d.freeze},
		{"servers restarted", 2, d.restart},
		{"endpoints added", 3, d.add},
		{"endpoints removed", 3, d.remove},
		{"endpoints changed", 3, d.change},
		{"files half-written for a while", 1, d.halfWritten},
		{"files with mistakes", 1, d.mistakes},
		{"keys rotated", 2, d.rotateKey},
		{"cycles asked for", 2, d.runNow},
		{"endpoints paused or resumed", 3, d.pauseOrResume},
		{"reloads of the same", 1, d.reloadSame},
	}
	var weights int
	for _, a := range actions {
		weights += a.weight
	}
	pick := d.random.IntN(weights)
	for _, a := range actions {
		if pick -= a.weight; pick < 0 {
			d.verdict.count(a.name, 1)
			if err := a.do(ctx); err != nil {
				return fmt.Errorf("%s: %w", a.name, err)
			}
			return nil
		}
	}
	return nil
}

func (d *days) anyServer() *server { return d.servers[d.random.IntN(len(d.servers))] }

func (d *days) anyName() string { return d.current[d.random.IntN(len(d.current))].name }

func (d *days) anyTrigger() trigger {
	return []trigger{d.byRequest, d.bySignal, d.byWatch}[d.random.IntN(3)]
}

// setFaults gives a server up to three kinds of faults.
func (d *days) setFaults(context.Context) error {
	known := sim.Faults()
	var rates []sim.FaultRate
	for range 1 + d.random.IntN(3) {
		fault := known[d.random.IntN(len(known))].Name
		switch fault {
		case "status":
			fault += []string{"=401", "=404", "=429", "=500", "=503"}[d.random.IntN(5)]
		case "big_event":
			fault += "=2000000" // several of 16 MB at once would be what RSS shows
		}
		rates = append(rates, sim.FaultRate{Fault: fault, Probability: 0.3 * d.random.Float64()})
	}
	return d.anyServer().do(func(s *sim.Server) error { return s.SetFaults(rates) })
}

func (d *days) slowDown(context.Context) error {
	factor := []float64{0.5, 2, 5, 20}[d.random.IntN(4)]
	return d.anyServer().do(func(s *sim.Server) error { return s.SetSlowdown(factor) })
}

func (d *days) freeze(context.Context) error {
	length := time.Duration(d.random.IntN(4000)) * time.Millisecond
	return d.anyServer().do(func(s *sim.Server) error { s.Freeze(length); return nil })
}

// restart ends a server and, mostly, starts it again. Some stay down until the end of the round.
func (d *days) restart(ctx context.Context) error {
	s := d.anyServer()
	down := time.Duration(d.random.IntN(1500)) * time.Millisecond
	stays := d.random.IntN(4) == 0
	if err := s.stop(); err != nil || stays {
		return err
	}
	if err := sleep(ctx, down); err != nil {
		return err
	}
	return s.start(s.key)
}

// add adds an endpoint that was removed, if there is one.
func (d *days) add(ctx context.Context) error {
	for _, e := range slices.Concat(d.extra, d.base) {
		if !containsName(d.current, e.name) {
			return d.apply(ctx, append(slices.Clone(d.current), e), d.anyTrigger())
		}
	}
	return nil
}

func (d *days) remove(ctx context.Context) error {
	const least = 6
	if len(d.current) <= least {
		return nil
	}
	at := d.random.IntN(len(d.current))
	return d.apply(ctx, slices.Delete(slices.Clone(d.current), at, at+1), d.anyTrigger())
}

// change changes an endpoint so that the daemon has to start it anew.
func (d *days) change(ctx context.Context) error {
	specs := slices.Clone(d.current)
	e := &specs[d.random.IntN(len(specs))]
	switch d.random.IntN(3) {
	case 0:
		e.output = 2 + d.random.IntN(8)
	case 1:
		e.every = time.Duration(5+d.random.IntN(6)) * time.Second
	default:
		e.team = fmt.Sprintf("team-%d", d.random.IntN(1000))
	}
	return d.apply(ctx, specs, d.anyTrigger())
}

// halfWritten writes the first part of a configuration, in place, and the rest some time later: less than the two
// seconds for which the daemon wants a file to stand, as half a file may be a valid one.
func (d *days) halfWritten(ctx context.Context) error {
	d.number++
	text := d.render(d.current)
	cut := 1 + d.random.IntN(len(text)-1)
	if err := os.WriteFile(d.path("inferprobe.yaml"), []byte(text[:cut]), 0o666); err != nil {
		return err
	}
	if err := sleep(ctx, time.Duration(d.random.IntN(800))*time.Millisecond); err != nil {
		return err
	}
	if err := os.WriteFile(d.path("inferprobe.yaml"), []byte(text), 0o666); err != nil {
		return err
	}
	return d.applied(ctx, d.current, d.byWatch)
}

// mistakes gives the daemon a file that it must refuse, or takes the file away, and then what it had.
func (d *days) mistakes(ctx context.Context) error {
	good := d.render(d.current)
	bad := []string{
		"", "endpoints: [", strings.Replace(good, "url:", "ulr:", 1), strings.Replace(good, "1s", "1 parsec", 1),
		"\x00\xff", good + "endpoints: []\n",
	}
	pick := d.random.IntN(len(bad) + 1)
	err := os.Remove(d.path("inferprobe.yaml"))
	if pick < len(bad) {
		err = replaceFile(d.path("inferprobe.yaml"), bad[pick])
	}
	if err != nil {
		return err
	}
	if _, status, err := d.request(http.MethodPost, "/-/reload", nil); err != nil || status == http.StatusOK {
		d.verdict.fail("reloading bad configuration %d: answer %d, %v", pick, status, err)
	}
	if err := d.look(); err != nil {
		return err
	}
	if ok := d.last.values["inferprobe_config_last_reload_successful{}"]; ok != 0 {
		d.verdict.fail("bad configuration %d was refused, and config_last_reload_successful is %v", pick, ok)
	}
	return d.apply(ctx, d.current, d.anyTrigger())
}

// rotateKey gives a server that wants one a new key, and the daemon too, a little earlier or later.
func (d *days) rotateKey(ctx context.Context) error {
	var keyed []spec
	for _, e := range slices.Concat(d.base, d.extra) {
		if e.keyFile != "" {
			keyed = append(keyed, e)
		}
	}
	return d.rotate(keyed[d.random.IntN(len(keyed))])
}

// rotate makes a key for an endpoint that has a file for one.
func (d *days) rotate(e spec) error {
	if e.keyFile == "" {
		return nil
	}
	key := fmt.Sprintf("sk-%s-%016x", e.name, d.random.Uint64())
	if err := replaceFile(d.path(e.keyFile), key+"\n"); err != nil {
		return err
	}
	if err := e.server.stop(); err != nil {
		return err
	}
	return e.server.start(key)
}

func (d *days) runNow(context.Context) error {
	switch status, err := d.act(d.anyName(), "run"); {
	case err != nil:
		return err
	case status != http.StatusAccepted && status != http.StatusConflict:
		d.verdict.fail("run answers %d", status)
	}
	status, err := d.act("nobody", "run")
	if err == nil && status != http.StatusNotFound {
		d.verdict.fail("run of an endpoint that does not exist answers %d", status)
	}
	return err
}

func (d *days) pauseOrResume(context.Context) error {
	name, action, want := d.anyName(), "resume", 0.0
	if d.random.IntN(2) == 0 {
		action, want = "pause", 1
	}
	status, err := d.act(name, action)
	if err != nil || status != http.StatusOK {
		return fmt.Errorf("%s answers %d, %w", action, status, err)
	}
	if err := d.look(); err != nil {
		return err
	}
	if paused, ok := d.last.of(name, "inferprobe_probe_paused"); !ok || paused != want {
		d.verdict.fail("probe_paused of %s is %v after %s", name, paused, action)
	}
	return nil
}

// reloadSame reloads several times at once what has not changed.
func (d *days) reloadSame(context.Context) error {
	for range 3 {
		if err := d.signal(syscall.SIGHUP); err != nil {
			return err
		}
	}
	return d.byRequest()
}
