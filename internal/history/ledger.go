package history

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"
)

// ledgerSchema names the form of the ledger on disk.
const ledgerSchema = "inferprobe/budget/v1"

const ledgerName = "budget.json"

// keptDays is how many days the ledger has: those nearest to the last one that tokens were spent on. That is today and
// yesterday, and one more so that a clock that jumps ahead and back does not wipe out today.
const keptDays = 3

// maxTokens is more than an endpoint can serve in a day, and a number that every JSON reader knows exactly.
const maxTokens = 1 << 53

// Ledger is the tokens spent by endpoint and day, in budget.json. Days are those of UTC. The caller decides by Flush
// when it is written: after a kill, what was spent since the last Flush is forgotten. Processes may share the file as
// long as each endpoint is measured by one of them at a time; they learn of each other by Flush. All methods may be
// called from many goroutines.
type Ledger struct {
	path     string
	log      *slog.Logger
	health   *health
	flushing sync.Mutex
	onDisk   fs.FileInfo // of the file, if it was as it should be at the last Flush; guarded by flushing

	mu     sync.Mutex
	total  days   // as of the last Flush
	added  days   // since then
	latest string // day of the last Spend
}

// days is tokens by day, as in 2006-01-02, and endpoint.
type days map[string]map[string]int

func (d days) add(day, endpoint string, tokens int) {
	if d[day] == nil {
		d[day] = map[string]int{}
	}
	d[day][endpoint] = min(d[day][endpoint]+tokens, maxTokens)
}

// trim keeps the days nearest to the one given.
func (d days) trim(nearest string) {
	if len(d) <= keptDays {
		return
	}
	center, err := time.Parse(time.DateOnly, nearest)
	if err != nil {
		return
	}
	distance := func(day string) time.Duration {
		t, _ := time.Parse(time.DateOnly, day) // every key has been parsed or formatted
		return t.Sub(center).Abs()
	}
	nearestFirst := slices.SortedFunc(maps.Keys(d), func(a, b string) int {
		return cmp.Compare(distance(a), distance(b))
	})
	for _, day := range nearestFirst[keptDays:] {
		delete(d, day)
	}
}

func (d days) clone() days {
	c := make(days, len(d))
	for day, endpoints := range d {
		c[day] = maps.Clone(endpoints)
	}
	return c
}

func (d days) equal(other days) bool { return maps.EqualFunc(d, other, maps.Equal) }

type ledgerJSON struct {
	Schema string `json:"schema"`
	Days   days   `json:"days"`
}

// OpenLedger returns the ledger in dir. A file that cannot be used is logged; it is no reason not to measure. One that
// is no ledger is moved aside, to budget.json.unreadable-<time>, and counting begins anew. With "" for dir the ledger is
// kept in memory only.
func OpenLedger(dir string, log *slog.Logger) *Ledger {
	l := &Ledger{log: log, total: days{}, added: days{}, health: &health{what: "the ledger of tokens", log: log}}
	if dir == "" {
		return l
	}
	l.path = filepath.Join(dir, ledgerName)
	removeLeftovers(dir, func(name string) bool { return name == ledgerName })
	_ = l.Flush() // reads; the error has been logged
	return l
}

// Spend counts tokens of the endpoint at the time now.
func (l *Ledger) Spend(endpoint string, tokens int, now time.Time) {
	if tokens <= 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.latest = dayOf(now)
	l.added.add(l.latest, endpoint, tokens)
	l.added.trim(l.latest)
}

// Spent returns the tokens of the endpoint on the day of now: those counted here, and by other processes as of the last
// Flush.
func (l *Ledger) Spent(endpoint string, now time.Time) int {
	day := dayOf(now)
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.total[day][endpoint] + l.added[day][endpoint]
}

func dayOf(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// Flush takes over what other processes have written, and writes what is not on disk yet; where there is nothing new
// this is one look at the file. Call it every few seconds and at the end. While it fails the ledger is kept in memory;
// the error has been logged if it is news.
func (l *Ledger) Flush() error {
	if l.path == "" {
		return nil
	}
	l.flushing.Lock()
	defer l.flushing.Unlock()
	err := l.flush()
	l.health.set(err)
	return err
}

func (l *Ledger) flush() error {
	if l.upToDate() {
		return nil
	}
	l.onDisk = nil
	file, info, err := l.read()
	if err != nil {
		return err
	}
	if merged := l.merge(file); !merged.equal(file) {
		return l.write(merged)
	}
	l.onDisk = info
	return nil
}

// upToDate reports whether nothing was spent, and nobody has written, since the last Flush.
func (l *Ledger) upToDate() bool {
	l.mu.Lock()
	spent := len(l.added) > 0
	l.mu.Unlock()
	if spent || l.onDisk == nil {
		return false
	}
	info, err := os.Lstat(l.path)
	return err == nil && os.SameFile(info, l.onDisk) &&
		info.ModTime().Equal(l.onDisk.ModTime()) && info.Size() == l.onDisk.Size()
}

// merge makes the totals those known here or in the file, whichever is more, plus what was spent since. Totals only
// grow: what another process overwrote comes back by the next Flush.
func (l *Ledger) merge(file days) days {
	l.mu.Lock()
	defer l.mu.Unlock()
	for day, endpoints := range file {
		for endpoint, tokens := range endpoints {
			if more := tokens - l.total[day][endpoint]; more > 0 {
				l.total.add(day, endpoint, more)
			}
		}
	}
	for day, endpoints := range l.added {
		for endpoint, tokens := range endpoints {
			l.total.add(day, endpoint, tokens)
		}
	}
	l.added = days{}
	l.total.trim(l.latest)
	return l.total.clone()
}

func (l *Ledger) write(d days) error {
	if err := os.MkdirAll(filepath.Dir(l.path), 0o777); err != nil {
		return err
	}
	compact, err := json.Marshal(ledgerJSON{ledgerSchema, d})
	if err != nil {
		return err
	}
	return writeFile(l.path, layOut(compact))
}

// read returns what is in the file, and the file's FileInfo. One that is no ledger is moved aside.
func (l *Ledger) read() (days, fs.FileInfo, error) {
	data, info, err := readFile(l.path)
	if err == nil {
		var d days
		if d, err = decodeLedger(data); err == nil {
			return d, info, nil
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return days{}, nil, nil
	}
	if _, ok := errors.AsType[syscall.Errno](err); ok {
		return nil, nil, err
	}
	aside := l.path + ".unreadable-" + time.Now().UTC().Format(timeLayout)
	if err := os.Rename(l.path, aside); err != nil {
		return nil, nil, err
	}
	l.log.Error("not a ledger of tokens that can be read, moved aside; today's tokens are counted from here on",
		"file", l.path, "moved_to", aside, "err", err)
	return days{}, nil, nil
}

// decodeLedger returns the days of a ledger. Keys it does not know are passed over.
func decodeLedger(data []byte) (days, error) {
	var j ledgerJSON
	if err := json.Unmarshal(data, &j); err != nil || j.Schema != ledgerSchema {
		return nil, whyNot(data, ledgerSchema, err)
	}
	for day, endpoints := range j.Days {
		if t, err := time.Parse(time.DateOnly, day); err != nil || dayOf(t) != day {
			return nil, fmt.Errorf("the day %q is none, want one as 2006-01-02", day)
		}
		for endpoint, tokens := range endpoints {
			if tokens < 0 || tokens > maxTokens {
				return nil, fmt.Errorf("%d tokens of %s on %s, want 0 to %d", tokens, endpoint, day, maxTokens)
			}
		}
	}
	if j.Days == nil {
		return days{}, nil
	}
	return j.Days, nil
}
