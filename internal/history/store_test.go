package history

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/inferprobe/inferprobe/internal/probe"
)

func ids(cycles []*probe.Cycle) []string {
	list := []string{}
	for _, c := range cycles {
		list = append(list, c.ID)
	}
	return list
}

func mustSave(t interface {
	Helper()
	Fatal(...any)
}, s *Store, cycles ...*probe.Cycle) {
	t.Helper()
	for _, c := range cycles {
		if err := s.Save(c); err != nil {
			t.Fatal(err)
		}
	}
}

// cyclesOf returns n cycles of the endpoint, an hour from each other.
func cyclesOf(endpoint string, n int) []*probe.Cycle {
	var cycles []*probe.Cycle
	for i := range n {
		cycles = append(cycles, cycleAt(endpoint, start.Add(time.Duration(i)*time.Hour)))
	}
	return cycles
}

func fileNames(t interface {
	Helper()
	Fatal(...any)
}, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestStoreOutlastsItsProcess(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "not", "there", "yet")
	log, logged := newLog()
	s := Open(dir, Limits{Cycles: 10}, log)
	cycles := append(cyclesOf("llama", 3), sweepCycle("qwen.2-5_7B", start, 500))
	mustSave(t, s, cycles...)
	for range 2 { // the second time from another process's point of view
		if diff := cmp.Diff(cycles[:3], s.Last("llama", 10)); diff != "" {
			t.Errorf("llama (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(cycles[1:3], s.Last("llama", 2)); diff != "" {
			t.Errorf("llama's last two (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(cycles[3], s.Cycle(cycles[3].ID)); diff != "" {
			t.Errorf("qwen (-want +got):\n%s", diff)
		}
		s = Open(dir, Limits{Cycles: 10}, log)
	}
	if got := append(s.Last("gone", 5), s.Last("llama", 0)...); len(got) > 0 {
		t.Errorf("cycles of an endpoint that never was, or none of llama: %v", ids(got))
	}
	replaced := *cycles[0]
	replaced.Server = "vllm"
	mustSave(t, s, &replaced)
	if got := s.Last("llama", 10); len(got) != 3 || got[0].Server != "vllm" {
		t.Errorf("a cycle saved again did not replace the first: %v", ids(got))
	}
	if s.Healthy() != nil || logged.take() != "" {
		t.Errorf("healthy: %v, logged %s", s.Healthy(), logged.take())
	}
}

func TestStoreRefusesStrangeNames(t *testing.T) {
	dir := t.TempDir()
	log, logged := newLog()
	s := Open(dir, Limits{}, log)
	names := []string{"", ".", "..", "a/b", "../x", `a\b`, "ä", strings.Repeat("a", 129), "a\x00b", "a b"}
	for _, name := range names {
		c := cycleAt(name, start)
		if err := s.Save(c); err == nil || !strings.Contains(err.Error(), "want its name and start") {
			t.Errorf("Save of an endpoint named %q: %v", name, err)
		}
		if s.Cycle(c.ID) != nil || s.Last(name, 1) != nil {
			t.Errorf("an endpoint named %q has cycles", name)
		}
		logged.take()
	}
	for _, id := range []string{
		"", "llama", "llama-20260301T020405Z", "llama-20260301T020405.006", "-20260301T020405.006Z",
		"llama-20260301T020405,006Z", "llama-20261301T020405.006Z", "other-20260301T020405.006Z",
	} {
		c := cycleAt("llama", start)
		c.ID = id
		if err := s.Save(c); err == nil {
			t.Errorf("a cycle of llama with the ID %q was saved", id)
		}
		if logged.take() == "" {
			t.Errorf("nothing was said of the ID %q", id)
		}
	}
	if got := fileNames(t, filepath.Join(dir, "cycles")); len(got) > 0 {
		t.Errorf("there are files: %v", got)
	}
	late := cycleAt("llama", start)
	late.Ended = time.Date(12026, 1, 1, 0, 0, 0, 0, time.UTC)
	if err := s.Save(late); err == nil || len(s.Last("llama", 1)) > 0 {
		t.Errorf("a cycle that cannot be encoded: %v", err)
	}
	for _, name := range []string{"-.a", "a-20260301T020405.006Z", "budget.json"} {
		mustSave(t, s, cycleAt(name, start))
	}
}

// TestStoreSkipsWhatIsNotItsOwn: such files are named once, left as they are, and take no part in the limits.
func TestStoreSkipsWhatIsNotItsOwn(t *testing.T) {
	dir := t.TempDir()
	log, logged := newLog()
	folder := filepath.Join(dir, "cycles", "llama")
	if err := os.MkdirAll(filepath.Join(folder, "llama-20250101T000000.000Z.json"), 0o777); err != nil {
		t.Fatal(err)
	}
	whole := mustEncode(t, cycleAt("llama", start))
	strange := map[string]struct{ data, want string }{
		"notes.txt":                       {"do not touch", "not the name of one of the endpoint's cycles"},
		"qwen-20250101T000000.000Z.json":  {string(whole), "not the name of one of the endpoint's cycles"},
		"llama-20250101T000000.000Z.json": {"", "not the name of one of the endpoint's cycles"}, // a folder
		"llama-20250102T000000.000Z.json": {string(whole[:300]), "not JSON, or cut off"},
		"llama-20250103T000000.000Z.json": {"", "not JSON, or cut off"},
		"llama-20250104T000000.000Z.json": {strings.Repeat("\x00", 5000), "not JSON, or cut off"},
		"llama-20250105T000000.000Z.json": {string(whole), `holds the cycle \"llama-20260301T020405.006Z`},
		"llama-20250106T000000.000Z.json": {`{"schema": "inferprobe/history/v2"}`, "inferprobe/history/v2"},
		"llama-20250107T000000.000Z.json": {`{"schema": "inferprobe/report/v1"}`, "inferprobe/report/v1"},
		"llama-20250108T000000.000Z.json": {strings.Repeat(" ", maxFile+1), "larger than 16 MiB"},
		// Its ends are those of a cycle.
		"llama-20250109T000000.000Z.json": {strings.Replace(string(whole), `"id"`, `id"`, 1), "not JSON, or cut off"},
	}
	for name, file := range strange {
		_ = os.WriteFile(filepath.Join(folder, name), []byte(file.data), 0o666)
	}
	s := Open(dir, Limits{Cycles: 2}, log)
	cycles := cyclesOf("llama", 4)
	mustSave(t, s, cycles...)
	if got, want := ids(s.Last("llama", 100)), ids(cycles[2:]); !slices.Equal(got, want) {
		t.Errorf("cycles %v, want %v", got, want)
	}
	said := logged.take()
	for name, file := range strange {
		if strings.Count(said, name) != 1 || !strings.Contains(said, file.want) {
			t.Errorf("of %s, want once %q:\n%s", name, file.want, said)
		}
		if data, err := os.ReadFile(filepath.Join(folder, name)); string(data) != file.data ||
			err != nil && file.data != "" {
			t.Errorf("%s was touched: %v", name, err)
		}
	}
	mustSave(t, s, cycleAt("llama", start.Add(time.Minute)))
	s.Last("llama", 100)
	if said := logged.take(); said != "" {
		t.Errorf("said again: %s", said)
	}

	// A file that has been put right is a cycle again.
	right := cycleAt("llama", time.Date(2025, 1, 2, 0, 0, 0, 0, time.UTC))
	if err := os.WriteFile(filepath.Join(folder, right.ID+suffix), mustEncode(t, right), 0o666); err != nil {
		t.Fatal(err)
	}
	if got := ids(s.Last("llama", 100)); got[0] != right.ID || s.Cycle(right.ID) == nil {
		t.Errorf("the file that was put right is not among %v", got)
	}
}

func TestStoreSkipsACutOffFile(t *testing.T) {
	dir := t.TempDir()
	log, logged := newLog()
	s := Open(dir, Limits{}, log)
	c := filledCycle()
	c.Endpoint.Name, c.ID = "llama", cycleAt("llama", start).ID
	mustSave(t, s, c)
	path := filepath.Join(dir, "cycles", "llama", c.ID+suffix)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; n < len(whole)-1; n += 101 {
		if err := os.WriteFile(path, whole[:n], 0o666); err != nil {
			t.Fatal(err)
		}
		if got := s.Last("llama", 1); len(got) > 0 {
			t.Fatalf("the first %d of %d bytes are a cycle", n, len(whole))
		}
		if !strings.Contains(logged.take(), path) {
			t.Fatalf("the file with the first %d bytes is not named", n)
		}
		if data, err := os.ReadFile(path); err != nil || len(data) != n {
			t.Fatalf("the file was touched: %d bytes, %v", len(data), err)
		}
	}
}

func TestStoreRemovesLeftovers(t *testing.T) {
	dir := t.TempDir()
	log, logged := newLog()
	folder := filepath.Join(dir, "cycles", "llama")
	if err := os.MkdirAll(folder, 0o777); err != nil {
		t.Fatal(err)
	}
	c := cycleAt("llama", start)
	old := temporaryName(cycleAt("llama", start.Add(-time.Hour)).ID + suffix)
	fresh := temporaryName(c.ID + suffix)
	foreign := temporaryName("notes.txt")
	leave := func() {
		t.Helper()
		for _, name := range []string{old, fresh, foreign} {
			path := filepath.Join(folder, name)
			if err := os.WriteFile(path, []byte("{"), 0o666); err != nil {
				t.Fatal(err)
			}
			if past := time.Now().Add(-2 * leftoverAge); name != fresh && os.Chtimes(path, past, past) != nil {
				t.Fatal("cannot set times")
			}
		}
	}
	want := []string{fresh, foreign}
	leave()
	s := Open(dir, Limits{}, log)
	slices.Sort(want)
	if got := fileNames(t, folder); !slices.Equal(got, want) {
		t.Errorf("after Open %v, want %v", got, want)
	}
	leave()
	mustSave(t, s, c)
	if got, want := fileNames(t, folder), append(want, c.ID+suffix); !slices.Equal(got, want) {
		t.Errorf("after Save %v, want %v", got, want)
	}
	if s.Last("llama", 5); logged.take() != "" {
		t.Error("a temporary file is named as a foreign one")
	}
}

// TestStorePrunes compares the files on disk with a model of them.
func TestStorePrunes(t *testing.T) {
	base := t.TempDir()
	run := 0
	rapid.Check(t, func(t *rapid.T) {
		run++
		dir := filepath.Join(base, fmt.Sprint(run))
		log, _ := newLog()
		limit := rapid.IntRange(0, 5).Draw(t, "limit")
		s := Open(dir, Limits{Cycles: limit}, log)
		folder := filepath.Join(dir, "cycles", "llama")
		good, bad := map[string]bool{}, map[string]string{}
		for range rapid.IntRange(1, 8).Draw(t, "steps") {
			c := cycleAt("llama", start.Add(time.Duration(rapid.IntRange(0, 20).Draw(t, "hour"))*time.Hour))
			name := c.ID + suffix
			kind := rapid.SampledFrom([]string{"save", "save", "restart", "cut off", "newer"}).Draw(t, "kind")
			data := mustEncode(t, c)
			switch {
			case kind == "restart":
				s = Open(dir, Limits{Cycles: limit}, log)
				continue
			case kind == "save" && bad[name] == "":
				mustSave(t, s, c)
				good[name] = true
				for _, old := range slices.Sorted(maps.Keys(good)) {
					if limit > 0 && len(good) > limit && old != name {
						delete(good, old)
					}
				}
				continue
			case kind == "cut off":
				data = data[:rapid.IntRange(1, len(data)-2).Draw(t, "length")]
			case kind == "newer":
				data = []byte(strings.Replace(string(data), schema, "inferprobe/history/v2", 1))
			}
			if good[name] || bad[name] != "" {
				continue
			}
			bad[name] = string(data)
			_ = os.MkdirAll(folder, 0o777)
			if err := os.WriteFile(filepath.Join(folder, name), data, 0o666); err != nil {
				t.Fatal(err)
			}
		}
		if got, want := ids(s.Last("llama", 100)), slices.Sorted(maps.Keys(good)); len(got) != len(want) {
			t.Fatalf("cycles %v, want %v", got, want)
		}
		want := slices.Sorted(maps.Keys(good))
		want = slices.Sorted(slices.Values(slices.AppendSeq(want, maps.Keys(bad))))
		if len(want) > 0 {
			if got := fileNames(t, folder); !slices.Equal(got, want) {
				t.Fatalf("files\n%v, want\n%v", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		}
		for name, data := range bad {
			if now, err := os.ReadFile(filepath.Join(folder, name)); err != nil || string(now) != data {
				t.Fatalf("%s was touched: %v", name, err)
			}
		}
	})
}

func TestStorePrunesByAge(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		log, _ := newLog()
		s := Open(dir, Limits{Age: 24*time.Hour + time.Minute, Cycles: 30}, log)
		var saved []string
		for range 40 {
			c := cycleAt("llama", time.Now())
			mustSave(t, s, c)
			saved = append(saved, c.ID)
			time.Sleep(time.Hour)
		}
		if got, want := ids(s.Last("llama", 100)), saved[len(saved)-25:]; !slices.Equal(got, want) {
			t.Errorf("cycles %v, want %v", got, want)
		}
		time.Sleep(240 * time.Hour)
		c := cycleAt("llama", time.Now().Add(-100*time.Hour)) // a clock that jumped
		mustSave(t, s, c)
		if got := ids(s.Last("llama", 100)); !slices.Equal(got, []string{c.ID}) {
			t.Errorf("cycles %v, want only %s, just saved", got, c.ID)
		}
	})
}

// TestStoreWithoutADisk uses a file in place of a folder: the tests may run as root, whom no permission stops.
func TestStoreWithoutADisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history")
	if err := os.WriteFile(path, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	log, logged := newLog()
	s := Open(path, Limits{Cycles: 3}, log)
	if s.Healthy() == nil || !strings.Contains(logged.take(), "history cannot be kept on disk") {
		t.Errorf("a folder that cannot be made: %v", s.Healthy())
	}
	cycles := cyclesOf("llama", maxUnsaved)
	qwen := cycleAt("qwen", start)
	for _, c := range append(slices.Clone(cycles), qwen) {
		if err := s.Save(c); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("Save to nowhere: %v", err)
		}
	}
	if diff := cmp.Diff(cycles, s.Last("llama", 100)); diff != "" {
		t.Errorf("in memory (-want +got):\n%s", diff)
	}
	if got := s.Cycle(qwen.ID); got != qwen || s.Cycle(cycleAt("qwen", start.Add(1e9)).ID) != nil {
		t.Errorf("Cycle returns %v", got)
	}
	if said := logged.take(); said != "" {
		t.Errorf("said again: %s", said)
	}
	more := cycleAt("llama", start.Add(maxUnsaved*time.Hour))
	if err := s.Save(more); err == nil {
		t.Error("Save to nowhere worked")
	}
	if got := s.Last("llama", 100); len(got) != maxUnsaved || got[0] != cycles[1] ||
		!strings.Contains(logged.take(), "given up for newer ones\" cycle="+cycles[0].ID) {
		t.Errorf("%d cycles are kept in memory, want %d", len(got), maxUnsaved)
	}

	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	mustSave(t, s, cycleAt("gemma", start))
	if s.Healthy() != nil || !strings.Contains(logged.take(), "history is kept on disk again") {
		t.Errorf("after the disk came back: %v", s.Healthy())
	}
	s = Open(path, Limits{}, log)
	want := ids(append(cycles[len(cycles)-2:], more, qwen))
	if got := ids(append(s.Last("llama", 100), s.Last("qwen", 100)...)); !slices.Equal(got, want) {
		t.Errorf("cycles %v, want %v", got, want)
	}
}

// TestStoreWithOneBadFolder: what is wrong with one endpoint's folder is no trouble of the others'.
func TestStoreWithOneBadFolder(t *testing.T) {
	dir := t.TempDir()
	log, logged := newLog()
	s := Open(dir, Limits{}, log)
	blocked := filepath.Join(dir, "cycles", "a")
	if err := os.WriteFile(blocked, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := s.Save(cycleAt("a", start)); err == nil {
		t.Error("saved in a folder that is a file")
	}
	logged.take()
	mustSave(t, s, cycleAt("b", start))
	if s.Healthy() == nil || logged.take() != "" {
		t.Errorf("healthy %v although a cycle waits, and nothing is new", s.Healthy())
	}
	if err := os.Remove(blocked); err != nil {
		t.Fatal(err)
	}
	mustSave(t, s, cycleAt("b", start.Add(time.Hour)))
	if s.Healthy() != nil || len(fileNames(t, blocked)) != 1 {
		t.Errorf("healthy %v, files of a %v", s.Healthy(), fileNames(t, blocked))
	}
}

func TestStoreIsShared(t *testing.T) {
	dir := t.TempDir()
	log, _ := newLog()
	var all sync.WaitGroup
	for range 2 {
		s := Open(dir, Limits{Cycles: 3}, log)
		for _, endpoint := range []string{"a", "b"} {
			all.Go(func() {
				for _, c := range cyclesOf(endpoint, 10) {
					if err := s.Save(c); err != nil {
						t.Error(err)
					}
					if got := s.Last(endpoint, 100); len(got) == 0 || s.Healthy() != nil {
						t.Error("no cycles while another process writes")
					}
					s.Cycle(c.ID)
				}
			})
		}
	}
	all.Wait()
	for _, endpoint := range []string{"a", "b"} {
		if n := len(fileNames(t, filepath.Join(dir, "cycles", endpoint))); n > 4 {
			t.Errorf("%d cycles of %s, limit 3", n, endpoint)
		}
	}
}

func BenchmarkStore(b *testing.B) {
	log, _ := newLog()
	s := Open(b.TempDir(), Limits{Cycles: 500}, log)
	c := sweepCycle("llama", start, probe.MaxRequestSamples)
	mustSave(b, s, c)
	b.Run("Save", func(b *testing.B) {
		b.ReportAllocs()
		for i := range b.N {
			c.ID = "llama-" + start.Add(time.Duration(i)*time.Second).Format(timeLayout)
			mustSave(b, s, c)
		}
	})
	for i := range 500 {
		c.ID = "llama-" + start.Add(time.Duration(i)*time.Second).Format(timeLayout)
		if err := os.WriteFile(filepath.Join(s.dir, "llama", c.ID+suffix), mustEncode(b, c), 0o666); err != nil {
			b.Fatal(err)
		}
	}
	for _, n := range []int{1, 10} {
		b.Run(fmt.Sprintf("Last%dOf500", n), func(b *testing.B) {
			b.ReportAllocs()
			for range b.N {
				if len(s.Last("llama", n)) != n {
					b.Fatal("too few")
				}
			}
		})
	}
	b.Run("Cycle", func(b *testing.B) {
		for range b.N {
			if s.Cycle(c.ID) == nil {
				b.Fatal("none")
			}
		}
	})
	b.Run("FirstSaveAtTheLimit", func(b *testing.B) { // of a process: looks at every file's ends
		for range b.N {
			mustSave(b, Open(filepath.Dir(s.dir), Limits{Cycles: 400}, log), c)
		}
	})
	b.Logf("a file has %d bytes", len(mustEncode(b, c)))
}

// TestInMemory: without a folder the newest cycles are kept, and nothing is written anywhere.
func TestInMemory(t *testing.T) {
	t.Chdir(t.TempDir())
	log, logged := newLog()
	s := Open("", Limits{Cycles: 5}, log)
	cycles := cyclesOf("a", maxUnsaved+3)
	mustSave(t, s, cycles...)
	l := OpenLedger("", log)
	l.Spend("a", 7, start)
	if err := l.Flush(); err != nil || l.Spent("a", start) != 7 {
		t.Errorf("flush: %v, spent %d", err, l.Spent("a", start))
	}
	kept := cycles[3:]
	if diff := cmp.Diff(ids(kept), ids(s.Last("a", 100))); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if s.Cycle(cycles[0].ID) != nil || s.Cycle(kept[0].ID) == nil || s.Healthy() != nil {
		t.Errorf("cycles %v and %v, health %v", s.Cycle(cycles[0].ID), s.Cycle(kept[0].ID), s.Healthy())
	}
	if files, said := fileNames(t, "."), logged.take(); len(files) > 0 || said != "" {
		t.Errorf("files %v, log %q", files, said)
	}
}
