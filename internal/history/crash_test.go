//go:build unix

package history

import (
	"bufio"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/inferprobe/inferprobe/internal/probe"
)

// childEnv tells this test binary to be the process that a test kills or puts limits on: "<what> <folder>".
const childEnv = "INFERPROBE_HISTORY_TEST_CHILD"

func TestMain(m *testing.M) {
	if job, dir, ok := strings.Cut(os.Getenv(childEnv), " "); ok {
		switch job {
		case "write":
			writeForEver(dir)
		case "full":
			fillDisk(dir)
		}
		return
	}
	os.Exit(m.Run())
}

func child(job, dir string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+job+" "+dir)
	return cmd
}

const killedLimit = 3

// writeForEver saves cycles and spends tokens, and prints how many of both are safe.
func writeForEver(dir string) {
	s, l := Open(dir, Limits{Cycles: killedLimit}, slog.Default()), OpenLedger(dir, slog.Default())
	c := sweepCycle("llama", start, probe.MaxRequestSamples)
	for n := l.Spent("llama", start) + 1; ; n++ {
		c.Started = start.Add(time.Duration(n) * time.Second)
		c.ID = "llama-" + c.Started.Format(timeLayout)
		l.Spend("llama", 1, start)
		if s.Save(c) != nil || l.Flush() != nil {
			os.Exit(1)
		}
		fmt.Println(n)
	}
}

// TestKill: a kill at any instant loses at most the cycle being saved and the tokens since the last Flush.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	log, logged := newLog()
	const kills = 12
	for range kills {
		cmd := child("write", dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		lines.Scan()
		time.Sleep(time.Duration(rand.IntN(20_000)) * time.Microsecond) // where in its work it dies
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		safe := lines.Text()
		for lines.Scan() {
			safe = lines.Text()
		}
		if err := cmd.Wait(); err == nil || cmd.ProcessState.Exited() {
			t.Fatalf("the child ended by itself: %v", err)
		}
		n, err := strconv.Atoi(safe)
		if err != nil {
			t.Fatal(err)
		}
		checkAfterKill(t, dir, n)
		if said := logged.take(); said != "" {
			t.Errorf("logged %s", said)
		}
	}

	folder := filepath.Join(dir, "cycles", "llama")
	past := time.Now().Add(-2 * leftoverAge)
	for _, f := range [][]string{{folder}, {dir}} {
		for _, name := range fileNames(t, f[0]) {
			if temporaryOf(name) != "" && os.Chtimes(filepath.Join(f[0], name), past, past) != nil {
				t.Fatal("cannot set times")
			}
		}
	}
	s := Open(dir, Limits{Cycles: killedLimit}, log)
	mustSave(t, s, cycleAt("llama", start.Add(time.Hour*1000)))
	OpenLedger(dir, log)
	if got := fileNames(t, folder); len(got) != killedLimit {
		t.Errorf("files %v, want %d", got, killedLimit)
	}
	if got := fileNames(t, dir); len(got) != 2 {
		t.Errorf("files %v, want the ledger and a folder", got)
	}
}

// checkAfterKill: n is the last of which the child said that it is safe.
func checkAfterKill(t *testing.T, dir string, n int) {
	t.Helper()
	log, logged := newLog()
	cycles := Open(dir, Limits{Cycles: killedLimit}, log).Last("llama", 100)
	if len(cycles) == 0 || len(cycles) > killedLimit+1 {
		t.Fatalf("%d cycles, limit %d", len(cycles), killedLimit)
	}
	newest := cycles[len(cycles)-1]
	if i := int(newest.Started.Sub(start) / time.Second); i != n && i != n+1 {
		t.Errorf("the newest cycle is %d, the last one known to be safe %d", i, n)
	}
	for _, c := range cycles {
		if len(c.Stages) != 11 || len(c.Stages[0].Requests) != probe.MaxRequestSamples {
			t.Errorf("cycle %s is not whole", c.ID)
		}
	}
	if got := OpenLedger(dir, log).Spent("llama", start); got != n && got != n+1 {
		t.Errorf("%d tokens, %d were known to be safe", got, n)
	}
	if said := logged.take(); said != "" {
		t.Errorf("logged %s", said)
	}
}

// TestFullDisk: a write fails half-way, as the limit on the size of a file makes it do.
func TestFullDisk(t *testing.T) {
	out, err := child("full", t.TempDir()).CombinedOutput()
	if err != nil || string(out) != "ok\n" {
		t.Errorf("%v:\n%s", err, out)
	}
}

func fillDisk(dir string) {
	log, logged := newLog()
	s, l := Open(dir, Limits{Cycles: 5}, log), OpenLedger(dir, log)
	expect := func(what string, ok bool) {
		if !ok {
			fmt.Printf("not so: %s\nhealthy: %v\n%s", what, s.Healthy(), logged.take())
			os.Exit(1)
		}
	}
	folder := filepath.Join(dir, "cycles", "llama")
	count := func() int {
		entries, _ := os.ReadDir(folder)
		return len(entries)
	}
	cycles := cyclesOf("llama", 3)
	for i := range 7 {
		expect("a cycle is saved", Open(dir, Limits{}, log).Save(cycleAt("llama", start.AddDate(0, 0, i-10))) == nil)
	}

	var unlimited syscall.Rlimit
	expect("the limit is known", syscall.Getrlimit(syscall.RLIMIT_FSIZE, &unlimited) == nil)
	limited := syscall.Rlimit{Cur: 20, Max: unlimited.Max}
	expect("a limit is set", syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limited) == nil)
	expect("a cycle is not saved", s.Save(cycles[0]) != nil && s.Save(cycles[1]) != nil)
	l.Spend("llama", 5, start)
	expect("the ledger is not flushed", l.Flush() != nil && l.Flush() != nil && l.Spent("llama", start) == 5)
	expect("the store is unwell", s.Healthy() != nil)
	expect("nothing is left behind, and what is too much is removed", count() == 5)
	expect("cycles are in memory", len(s.Last("llama", 10)) == 7)
	said := logged.take()
	expect("it is said once of each", strings.Count(said, "cannot be kept on disk") == 2)

	expect("the limit is lifted", syscall.Setrlimit(syscall.RLIMIT_FSIZE, &unlimited) == nil)
	expect("a cycle is saved again", s.Save(cycles[2]) == nil && s.Healthy() == nil && count() == 5)
	expect("the ledger is flushed again", l.Flush() == nil)
	said = logged.take()
	expect("it is said once of each", strings.Count(said, "is kept on disk again") == 2)
	last := Open(dir, Limits{}, log).Last("llama", 3)
	expect("all is there", slices.Equal(ids(last), ids(cycles)))
	expect("tokens are there", OpenLedger(dir, log).Spent("llama", start) == 5)
	fmt.Println("ok")
}
