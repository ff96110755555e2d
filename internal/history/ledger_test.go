package history

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func mustFlush(t *testing.T, ledgers ...*Ledger) {
	t.Helper()
	for _, l := range ledgers {
		if err := l.Flush(); err != nil {
			t.Fatal(err)
		}
	}
}

func wantSpent(t *testing.T, l *Ledger, endpoint string, now time.Time, want int) {
	t.Helper()
	if got := l.Spent(endpoint, now); got != want {
		t.Errorf("%d tokens of %s on %s, want %d", got, endpoint, dayOf(now), want)
	}
}

func ledgerFile(t *testing.T, dir string) days {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, ledgerName))
	if err != nil {
		t.Fatal(err)
	}
	d, err := decodeLedger(data)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestLedgerOutlastsItsProcess(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "not", "there", "yet")
	log, logged := newLog()
	l := OpenLedger(dir, log)
	wantSpent(t, l, "llama", start, 0)
	mustFlush(t, l)
	if _, err := os.Stat(dir); err == nil {
		t.Error("a folder was made for nothing")
	}
	east := start.In(time.FixedZone("", 10*3600)) // whose day is another
	l.Spend("llama", 100, start.Add(-24*time.Hour))
	l.Spend("llama", 20, start)
	l.Spend("llama", 3, east.Add(21*time.Hour))
	l.Spend("qwen", 7, start)
	l.Spend("llama", 0, start)
	l.Spend("llama", -5, start)
	wantSpent(t, l, "llama", start, 23)
	mustFlush(t, l)
	l.Spend("llama", 1000, start) // forgotten: not flushed

	data, err := os.ReadFile(filepath.Join(dir, ledgerName))
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "budget.json", data)
	l = OpenLedger(dir, log)
	wantSpent(t, l, "llama", start, 23)
	wantSpent(t, l, "llama", start.Add(-24*time.Hour), 100)
	wantSpent(t, l, "qwen", start, 7)
	wantSpent(t, l, "qwen", start.Add(24*time.Hour), 0)
	if said := logged.take(); said != "" {
		t.Errorf("logged %s", said)
	}
}

func TestLedgerKeepsFewDays(t *testing.T) {
	dir := t.TempDir()
	log, _ := newLog()
	l := OpenLedger(dir, log)
	day := func(n int) time.Time { return start.AddDate(0, 0, n) }
	for n := range 10 {
		l.Spend(fmt.Sprintf("endpoint-%d", n), 1, day(n))
		if n%2 == 0 {
			mustFlush(t, l)
		}
	}
	mustFlush(t, l)
	if diff := cmp.Diff(days{dayOf(day(7)): {"endpoint-7": 1}, dayOf(day(8)): {"endpoint-8": 1},
		dayOf(day(9)): {"endpoint-9": 1}}, ledgerFile(t, dir)); diff != "" {
		t.Errorf("days (-want +got):\n%s", diff)
	}
	l.Spend("llama", 5, day(9))
	l.Spend("llama", 1, day(400)) // the clock jumps ahead
	mustFlush(t, l)
	l.Spend("llama", 2, day(9)) // and back
	mustFlush(t, l)
	wantSpent(t, OpenLedger(dir, log), "llama", day(9), 7)
	l.Spend("llama", 3, day(8)) // and back again
	wantSpent(t, l, "llama", day(8), 3)
	for _, n := range []int{10, 11} {
		l.Spend("llama", 1, day(n))
		mustFlush(t, l)
	}
	if got := ledgerFile(t, dir); len(got) != keptDays || got[dayOf(day(400))] != nil {
		t.Errorf("the day in the future is still among %v", got)
	}
}

func TestLedgerMovesAsideWhatIsNone(t *testing.T) {
	log, logged := newLog()
	whole, err := os.ReadFile(filepath.Join("testdata", "budget.json"))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{ // by what is said of it
		`schema is \"inferprobe/budget/v2\"`: `{"schema": "inferprobe/budget/v2", "days": 7}`,
		"not an object":                      `["inferprobe/budget/v1"]`,
		"larger than":                        strings.Repeat(" ", maxFile+1),
	}
	for want, days := range map[string]string{
		"into Go":                          `{"2026-03-01": {"llama": 1.5}}`,
		"-1 tokens of llama on 2026-03-01": `{"2026-03-01": {"llama": -1}}`,
		"9007199254740993 tokens":          `{"2026-03-01": {"llama": 9007199254740993}}`,
		`the day \"1 March\" is none`:      `{"1 March": {}}`,
	} {
		files[want] = `{"schema": "inferprobe/budget/v1", "days": ` + days + `}`
	}
	for n := range len(whole) - 1 {
		files[fmt.Sprintf("cut off: unexpected end of JSON input at byte %d of", n)] = string(whole[:n])
	}
	for want, data := range files {
		dir := t.TempDir()
		path := filepath.Join(dir, ledgerName)
		if err := os.WriteFile(path, []byte(data), 0o666); err != nil {
			t.Fatal(err)
		}
		l := OpenLedger(dir, log)
		if said := logged.take(); !strings.Contains(said, want) || !strings.Contains(said, "moved aside") ||
			!strings.Contains(said, path) {
			t.Errorf("%.60q: want %q, not\n%s", data, want, said)
		}
		l.Spend("llama", 5, start)
		mustFlush(t, l)
		wantSpent(t, OpenLedger(dir, log), "llama", start, 5)
		aside, err := filepath.Glob(path + ".unreadable-*")
		if err != nil || len(aside) != 1 {
			t.Fatalf("%.60q was moved to %v, %v", data, aside, err)
		}
		if got, err := os.ReadFile(aside[0]); err != nil || string(got) != data {
			t.Errorf("%.60q was changed: %v", data, err)
		}
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, ledgerName), 0o777); err != nil {
		t.Fatal(err)
	}
	l := OpenLedger(dir, log)
	l.Spend("llama", 5, start)
	mustFlush(t, l)
	if said := logged.take(); !strings.Contains(said, "not a regular file") {
		t.Errorf("of a folder: %s", said)
	}
}

func TestLedgerWithoutADisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "history")
	if err := os.WriteFile(dir, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	log, logged := newLog()
	l := OpenLedger(dir, log)
	for n := range 10 {
		l.Spend("qwen", 1, start.AddDate(0, 0, n-10))
	}
	for range 3 {
		l.Spend("llama", 5, start)
		if err := l.Flush(); err == nil {
			t.Error("flushed to nowhere")
		}
	}
	wantSpent(t, l, "llama", start, 15)
	if said := logged.take(); strings.Count(said, "\n") != 1 || !strings.Contains(said, "cannot be kept on disk") {
		t.Errorf("want one line:\n%s", said)
	}
	if n := len(l.added); n > keptDays {
		t.Errorf("%d days are in memory, want %d", n, keptDays)
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	mustFlush(t, l)
	if said := logged.take(); !strings.Contains(said, "is kept on disk again") {
		t.Errorf("logged %q", said)
	}
	wantSpent(t, OpenLedger(dir, log), "llama", start, 15)
}

// TestLedgerIsShared: two processes measure an endpoint each, then one takes over from the other.
func TestLedgerIsShared(t *testing.T) {
	dir := t.TempDir()
	log, logged := newLog()
	a, b := OpenLedger(dir, log), OpenLedger(dir, log)
	a.Spend("llama", 10, start)
	b.Spend("qwen", 1, start)
	mustFlush(t, a, b, a)
	wantSpent(t, a, "qwen", start, 1)
	wantSpent(t, b, "llama", start, 10)

	// b writes what it read before a wrote.
	before, err := os.ReadFile(a.path)
	if err != nil {
		t.Fatal(err)
	}
	a.Spend("llama", 10, start)
	mustFlush(t, a)
	if err := os.WriteFile(a.path, before, 0o666); err != nil {
		t.Fatal(err)
	}
	mustFlush(t, a)
	if got := ledgerFile(t, dir)[dayOf(start)]["llama"]; got != 20 {
		t.Errorf("llama's tokens are %d after they were overwritten, want 20", got)
	}

	b.Spend("llama", 5, start) // takes over, and does not know of the last ten yet
	mustFlush(t, b, a)
	wantSpent(t, a, "llama", start, 25)
	wantSpent(t, b, "llama", start, 25)
	if said := logged.take(); said != "" {
		t.Errorf("logged %s", said)
	}
}

// TestLedgerWritesOnlyWhatIsNew: a disk is not worn out by an idle daemon.
func TestLedgerWritesOnlyWhatIsNew(t *testing.T) {
	dir := t.TempDir()
	log, _ := newLog()
	l := OpenLedger(dir, log)
	l.Spend("llama", 5, start)
	mustFlush(t, l)
	first, err := os.Stat(l.path)
	if err != nil {
		t.Fatal(err)
	}
	mustFlush(t, l, l, OpenLedger(dir, log))
	if now, err := os.Stat(l.path); err != nil || !os.SameFile(first, now) {
		t.Errorf("the same was written again: %v", err)
	}
	if err := os.Remove(l.path); err != nil {
		t.Fatal(err)
	}
	mustFlush(t, l)
	wantSpent(t, OpenLedger(dir, log), "llama", start, 5)
}

func TestLedgerCountsEveryToken(t *testing.T) {
	log, _ := newLog()
	l := OpenLedger(t.TempDir(), log)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 100 {
				l.Spend("llama", 1, start)
				l.Spent("llama", start)
			}
			if err := l.Flush(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	wantSpent(t, l, "llama", start, 400)
	l.Spend("llama", maxTokens, start)
	l.Spend("llama", maxTokens, start)
	mustFlush(t, l)
	wantSpent(t, l, "llama", start, maxTokens)
}

// FuzzDecodeLedger: what can be decoded can be encoded, and is the same when it comes back.
func FuzzDecodeLedger(f *testing.F) {
	f.Add([]byte(`{"schema":"inferprobe/budget/v1"}`))
	f.Add([]byte(`{"schema":"inferprobe/budget/v1","days":{"2026-03-01":{"llama":23},"0000-01-01":null}}`))
	log, _ := newLog()
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := decodeLedger(data)
		if err != nil {
			return
		}
		l := &Ledger{path: filepath.Join(t.TempDir(), ledgerName), log: log, total: days{}, added: days{}}
		merged := l.merge(d)
		if err := l.write(merged); err != nil {
			t.Fatal(err)
		}
		again, _, err := l.read()
		if err != nil || !again.equal(merged) {
			t.Fatalf("%v became %v, %v", merged, again, err)
		}
		l.Spend("llama", 1, start)
		l.merge(again)
		if n := l.Spent("llama", start); n < 1 || n > maxTokens || len(l.total) > keptDays {
			t.Errorf("%d tokens, %d days", n, len(l.total))
		}
	})
}
