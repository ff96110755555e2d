package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

// Limits of what the daemons are given.
const (
	tokensPerDay  = 500_000_000
	shutdownLimit = 10 * time.Second
)

// soak runs both daemons for so long, prints what grew, and returns an error if anything did or broke.
func soak(ctx context.Context, program, dir string, length time.Duration, seed uint64) error {
	fmt.Printf("seed %d, %v, %d CPUs, %s\n", seed, length, runtime.NumCPU(), runtime.Version())
	end := time.Now().Add(length)
	v := newVerdict()
	d, err := newDays(ctx, program, filepath.Join(dir, "days"), seed, v)
	if err != nil {
		return err
	}
	defer d.close()
	k, err := newKills(program, filepath.Join(dir, "kills"), seed+1, v)
	if err != nil {
		return err
	}
	defer k.close()
	var both sync.WaitGroup
	both.Go(func() { v.check("the daemon that runs on", d.run(ctx, end)) })
	both.Go(func() { v.check("the daemon that is killed", k.run(ctx, end)) })
	both.Wait()
	if err := ctx.Err(); err != nil {
		return err
	}
	for _, what := range grown(os.Stdout, d.samples) {
		v.fail("%s", what)
	}
	return v.report()
}

// report prints what was done and what broke.
func (v *verdict) report() error {
	fmt.Println()
	for _, what := range slices.Sorted(maps.Keys(v.done)) {
		fmt.Printf("%-44s %d\n", what, v.done[what])
	}
	if len(v.broken) > 0 {
		return fmt.Errorf("%d things broke", len(v.broken))
	}
	fmt.Println("\nnothing broke")
	return nil
}

// readLog looks for panics in a daemon's log, and counts its lines and errors.
func readLog(path, who string, v *verdict) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		v.count("log lines of "+who, 1)
		var line struct{ Level, Msg, Panic, Stack string }
		if json.Unmarshal(lines.Bytes(), &line) != nil { // as the runtime's own last words
			v.fail("in %s: %s", path, lines.Text())
		}
		if line.Panic != "" || line.Stack != "" {
			v.fail("a panic in %s: %s", path, lines.Text())
		}
		if line.Level == "ERROR" {
			v.count("errors logged by "+who, 1)
		}
		if how, ok := strings.CutPrefix(line.Msg, "cycle "); ok && how != "started" {
			v.count("cycles "+how+" of "+who, 1)
		}
	}
	return lines.Err()
}

// newRandom returns a source of chance that gives the same for the same seed.
func newRandom(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }

// within waits for something that must come true in time.
func within(ctx context.Context, limit, every time.Duration, what string, done func() (bool, error)) error {
	for deadline := time.Now().Add(limit); ; {
		ok, err := done()
		if ok || err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s did not happen within %v", what, limit)
		}
		if err := sleep(ctx, every); err != nil {
			return err
		}
	}
}
