package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/inferprobe/inferprobe/internal/sim"
)

// kills is a daemon that is killed and ended again and again, and what it leaves on disk.
type kills struct {
	program, dir string
	random       *rand.Rand
	verdict      *verdict
	servers      []*server
	groups       []string
	spent        ledger // as last seen
}

// ledger is budget.json: tokens by day and endpoint.
type ledger map[string]map[string]float64

func newKills(program, dir string, seed uint64, v *verdict) (*kills, error) {
	k := &kills{program: program, dir: dir, random: newRandom(seed), verdict: v}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, err
	}
	var specs []spec
	const endpoints, groups = 6, 2
	for i := range endpoints {
		name := fmt.Sprintf("kills-%d", i)
		s, err := newServer(name, seed+uint64(i))
		if err != nil {
			return nil, err
		}
		k.servers = append(k.servers, s)
		k.groups = append(k.groups, fmt.Sprintf("group-%d", i%groups))
		faults := []sim.FaultRate{{Fault: "fin", Probability: 0.02}, {Fault: "status=500", Probability: 0.02}}
		if err := s.do(func(s *sim.Server) error { return s.SetFaults(faults) }); err != nil {
			return nil, err
		}
		specs = append(specs, spec{
			name: name, group: k.groups[i], server: s, model: true, every: 5 * time.Second, output: 4, team: "a",
		})
	}
	return k, replaceFile(filepath.Join(dir, "inferprobe.yaml"), configuration(specs, k.history(), 0))
}

func (k *kills) history() string { return filepath.Join(k.dir, "history") }

func (k *kills) close() {
	for _, s := range k.servers {
		_ = s.stop()
	}
}

// run starts and ends daemons until the end.
func (k *kills) run(ctx context.Context, end time.Time) error {
	for time.Now().Before(end) {
		d, err := startDaemon(ctx, k.program, k.dir)
		if err != nil {
			return err
		}
		err = k.life(ctx, d)
		d.kill()
		if err != nil {
			return err
		}
		if err := k.inspect(); err != nil {
			return err
		}
		k.checkGroups()
	}
	return readLog(filepath.Join(k.dir, "daemon.log"), "the daemon that is killed", k.verdict)
}

// life is the time between a start and an end.
func (k *kills) life(ctx context.Context, d *daemon) error {
	if err := k.checkBudget(d); err != nil {
		return err
	}
	if err := sleep(ctx, time.Duration(k.random.IntN(9000))*time.Millisecond); err != nil {
		return err
	}
	if k.random.IntN(3) > 0 {
		k.verdict.count("ends by SIGKILL", 1)
		return nil
	}
	k.verdict.count("ends by SIGTERM", 1)
	_, err := d.terminate(shutdownLimit)
	k.verdict.check("SIGTERM", err)
	return nil
}

// checkBudget makes sure that a restart has not forgotten what was spent.
func (k *kills) checkBudget(d *daemon) error {
	s, err := d.scrape()
	if err != nil {
		return err
	}
	today := time.Now().UTC().Format(time.DateOnly)
	for endpoint, spent := range k.spent[today] {
		left, ok := s.of(endpoint, "inferprobe_token_budget_remaining")
		if ok && left > tokensPerDay-spent {
			k.verdict.fail("%s has %v tokens left of %d after a restart, and had spent %v", endpoint, left, tokensPerDay, spent)
		}
	}
	return nil
}

// inspect reads every file that a dead daemon has left.
func (k *kills) inspect() error {
	now, err := readLedger(filepath.Join(k.history(), "budget.json"))
	if err != nil {
		k.verdict.fail("%v", err)
	}
	for day, endpoints := range k.spent {
		for endpoint, before := range endpoints {
			if now[day] != nil && now[day][endpoint] < before {
				k.verdict.fail("%s had spent %v tokens on %s and now %v", endpoint, before, day, now[day][endpoint])
			}
		}
	}
	if now != nil {
		k.spent = now
	}
	perEndpoint := map[string]int{}
	err = filepath.WalkDir(filepath.Join(k.history(), "cycles"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || strings.HasSuffix(path, ".tmp") {
			return err
		}
		k.verdict.count("cycle files read after an end", 1)
		k.verdict.check(path, checkCycle(path))
		perEndpoint[filepath.Base(filepath.Dir(path))]++
		return nil
	})
	for endpoint, n := range perEndpoint {
		if n > cyclesKept+1 { // the kill may have come before the oldest was removed
			k.verdict.fail("%d cycles of %s are on disk, want %d", n, endpoint, cyclesKept)
		}
	}
	if errors.Is(err, fs.ErrNotExist) { // killed before the first write
		return nil
	}
	return err
}

func readLedger(path string) (ledger, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var file struct {
		Schema string
		Days   ledger
	}
	if err := json.Unmarshal(data, &file); err != nil || file.Schema != "inferprobe/budget/v1" {
		return nil, fmt.Errorf("%s is no ledger: %v: %s", path, err, data)
	}
	return file.Days, nil
}

// checkCycle reads a cycle's file as a person's script would.
func checkCycle(path string) error {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var c struct {
		Schema, ID, Endpoint string
		Stages               []json.RawMessage
		Failure              *struct{ Reason string }
	}
	if err := json.Unmarshal(data, &c); err != nil {
		return err
	}
	switch {
	case c.Schema != "inferprobe/history/v1":
		return fmt.Errorf("its schema is %q", c.Schema)
	case c.ID+".json" != filepath.Base(path) || c.Endpoint != filepath.Base(filepath.Dir(path)):
		return fmt.Errorf("it holds cycle %q of %q", c.ID, c.Endpoint)
	case c.Failure == nil && len(c.Stages) == 0:
		return errors.New("it has neither a stage nor a failure")
	}
	return nil
}

func (k *kills) checkGroups() {
	byGroup := map[string][]interval{}
	for i, s := range k.servers {
		byGroup[k.groups[i]] = append(byGroup[k.groups[i]], s.intervals(time.Now().Add(-time.Minute))...)
	}
	for _, all := range byGroup {
		for _, what := range overlaps(all) {
			k.verdict.fail("%s", what)
		}
	}
}
