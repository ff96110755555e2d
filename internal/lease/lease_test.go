package lease

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	coordinationv1 "k8s.io/api/coordination/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	duration = DefaultDuration
	interval = duration / 3
)

// watcher knows who runs which endpoint, and complains when two do.
type watcher struct {
	t       *testing.T
	mu      sync.Mutex
	running map[string]string    // endpoint to replica
	ended   map[string]time.Time // when the last run of an endpoint ended
	gap     time.Duration        // the longest that an endpoint was run by nobody, since forget
	cut     int                  // runs whose context ended
	ran     int
}

func newWatcher(t *testing.T) *watcher {
	return &watcher{t: t, running: make(map[string]string), ended: make(map[string]time.Time)}
}

func (w *watcher) begin(endpoint, replica string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if other := w.running[endpoint]; other != "" {
		w.t.Errorf("%v: %s begins to run %s, which %s still runs", time.Now(), replica, endpoint, other)
	}
	w.running[endpoint] = replica
	w.ran++
	if at, ok := w.ended[endpoint]; ok {
		w.gap = max(w.gap, time.Since(at))
	}
}

func (w *watcher) end(endpoint, replica string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.running[endpoint] == replica { // else it was killed
		delete(w.running, endpoint)
		w.ended[endpoint] = time.Now()
	}
}

// killed forgets the runs of a process that is gone.
func (w *watcher) killed(replica string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for endpoint, r := range w.running {
		if r == replica {
			delete(w.running, endpoint)
			w.ended[endpoint] = time.Now()
		}
	}
}

// loads returns how many endpoints each replica runs.
func (w *watcher) loads() map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	loads := make(map[string]int)
	for _, replica := range w.running {
		loads[replica]++
	}
	return loads
}

func (w *watcher) runs() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ran
}

func (w *watcher) forget() (gap time.Duration, cut int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	gap, cut = w.gap, w.cut
	w.gap, w.cut = 0, 0
	return gap, cut
}

// logBuffer can be read while it is written to.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// replica is one process of the daemon.
type replica struct {
	name   string
	client *apiClient // nil where it is a real one
	leases *Leases
	log    *logBuffer
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// fleet is some replicas that share some endpoints.
type fleet struct {
	t         *testing.T
	server    *apiServer
	watcher   *watcher
	endpoints []string
	replicas  map[string]*replica
	started   int
	random    *rand.Rand
	slow      time.Duration // a run takes up to this long to end
	duration  time.Duration // of Leases; 0: the default
}

func newFleet(t *testing.T, endpoints int) *fleet {
	f := &fleet{t: t, server: newAPIServer(), watcher: newWatcher(t), replicas: make(map[string]*replica),
		random: rand.New(rand.NewPCG(1, 2))}
	for i := range endpoints {
		f.endpoints = append(f.endpoints, fmt.Sprintf("endpoint-%02d", i))
	}
	return f
}

func (f *fleet) start(pod string) *replica {
	f.t.Helper()
	skew := time.Duration(f.random.IntN(7200)-3600) * time.Second
	return f.startWith(pod, newAPIClient(f.server, uint64(f.started), skew))
}

func (f *fleet) startWith(pod string, client Client) *replica {
	f.t.Helper()
	f.started++
	r := &replica{name: fmt.Sprintf("%s#%d", pod, f.started), log: new(logBuffer)}
	r.client, _ = client.(*apiClient)
	var err error
	r.leases, err = New(Options{Client: client, Namespace: "ns", Identity: pod, Duration: f.duration,
		Log: slog.New(slog.NewTextHandler(r.log, nil))})
	if err != nil {
		f.t.Fatal(err)
	}
	var ctx context.Context
	ctx, r.cancel = context.WithCancel(f.t.Context())
	r.done.Go(func() {
		if err := r.leases.Run(ctx); err != nil {
			f.t.Error(err)
		}
	})
	for _, e := range f.endpoints {
		r.done.Go(func() {
			r.leases.Hold(ctx, e, "", func(ctx context.Context, handOver <-chan struct{}) { f.work(ctx, r, e, handOver) })
		})
	}
	f.replicas[pod] = r
	return r
}

// work is what a replica does with an endpoint: something that takes its time to stop, but not too long.
func (f *fleet) work(ctx context.Context, r *replica, endpoint string, handOver <-chan struct{}) {
	f.watcher.begin(endpoint, r.name)
	defer f.watcher.end(endpoint, r.name)
	select {
	case <-ctx.Done():
		f.watcher.mu.Lock()
		f.watcher.cut++
		f.watcher.mu.Unlock()
	case <-handOver:
	}
	if f.slow > 0 {
		time.Sleep(rand.N(f.slow))
	}
}

// kill ends a process in the middle: nothing of it does anything any more.
func (f *fleet) kill(pod string) {
	r := f.replicas[pod]
	r.client.fault(func(c *apiClient) { c.dead = true })
	f.watcher.killed(r.name)
	delete(f.replicas, pod)
	// Its goroutines have to end for the test to end, but can do no harm: every request of a dead client fails.
	r.cancel()
	close(r.client.release)
	r.done.Wait()
}

// stop ends a process in order.
func (f *fleet) stop(pod string) {
	r := f.replicas[pod]
	delete(f.replicas, pod)
	r.cancel()
	r.done.Wait()
}

func (f *fleet) stopAll() {
	for _, pod := range slices.Sorted(maps.Keys(f.replicas)) {
		f.stop(pod)
	}
	time.Sleep(time.Minute) // for answers that nobody waits for
}

// checkSpread demands that every endpoint runs and that no replica has two more than another.
func (f *fleet) checkSpread() {
	f.t.Helper()
	loads := f.watcher.loads()
	total, least, most := 0, len(f.endpoints), 0
	for _, r := range f.replicas {
		n := loads[r.name]
		total, least, most = total+n, min(least, n), max(most, n)
	}
	if total != len(f.endpoints) || most > least+1 {
		f.t.Errorf("%d of %d endpoints run, spread as %v", total, len(f.endpoints), loads)
	}
}

func countLog(r *replica, text string) int { return strings.Count(r.log.String(), text) }

func TestSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 10)
		f.start("a")
		f.start("b")
		f.start("c")
		time.Sleep(2 * interval)
		f.checkSpread()
		f.start("d")
		time.Sleep(4 * interval)
		f.checkSpread()
		f.start("e")
		f.start("f")
		time.Sleep(4 * interval)
		f.checkSpread()
		if _, cut := f.watcher.forget(); cut != 0 {
			t.Errorf("%d runs were cut off to spread endpoints", cut)
		}
		before := f.watcher.runs()
		time.Sleep(time.Hour)
		if moved := f.watcher.runs() - before; moved != 0 {
			t.Errorf("%d hand-overs in an hour without a change", moved)
		}
		f.stopAll()
	})
}

// TestFirstSpread demands that replicas that start together, or after an outage, mostly get it right at once.
func TestFirstSpread(t *testing.T) {
	const rounds = 20
	ran := 0
	for range rounds {
		synctest.Test(t, func(t *testing.T) {
			f := newFleet(t, 10)
			f.start("a")
			f.start("b")
			f.start("c")
			time.Sleep(duration)
			ran += f.watcher.runs()
			f.stopAll()
		})
	}
	t.Logf("%.1f runs of 10 endpoints", float64(ran)/rounds)
	if ran > 12*rounds {
		t.Errorf("%.1f runs of 10 endpoints: too many were handed over", float64(ran)/rounds)
	}
}

func TestTakeover(t *testing.T) {
	const rounds = 20
	moved, free := 0, 0
	for range rounds {
		synctest.Test(t, func(t *testing.T) {
			f := newFleet(t, 10)
			f.start("a")
			f.start("b")
			f.start("c")
			time.Sleep(2*interval + rand.N(interval))
			f.watcher.forget()
			moved -= f.watcher.runs()
			free += f.watcher.loads()[f.replicas["b"].name]
			f.kill("b")
			time.Sleep(duration + interval*3/2)
			moved += f.watcher.runs()
			f.checkSpread()
			if gap, _ := f.watcher.forget(); gap > duration+interval*3/2 || gap < duration-interval {
				t.Errorf("an endpoint of the killed replica was free for %v", gap)
			}
			f.stopAll()
		})
	}
	if moved > free+rounds/2 {
		t.Errorf("%d endpoints changed their replica after %d were taken over", moved, free)
	}
}

func TestRelease(t *testing.T) {
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			f := newFleet(t, 10)
			f.start("a")
			f.start("b")
			f.start("c")
			time.Sleep(2*interval + rand.N(interval))
			f.watcher.forget()
			f.stop("b")
			time.Sleep(interval)
			f.checkSpread()
			f.stopAll()
			f.server.mu.Lock()
			defer f.server.mu.Unlock()
			for _, l := range f.server.leases {
				if l.Spec.HolderIdentity != nil || l.Labels[labelComponent] != componentEndpoint {
					t.Errorf("left behind: %v", l)
				}
			}
		})
	}
}

// TestNeverTwoHolders lets everything go wrong at once, and checks at the end that everything is well again.
func TestNeverTwoHolders(t *testing.T) {
	seeds := 60
	if testing.Short() {
		seeds = 5
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { chaos(t, uint64(seed)) })
		})
	}
}

func chaos(t *testing.T, seed uint64) {
	f := newFleet(t, 10)
	f.random = rand.New(rand.NewPCG(seed, 7))
	f.slow = duration/3 - 100*time.Millisecond
	pods := []string{"a", "b", "c"}
	for _, pod := range pods {
		f.start(pod)
	}
	began := time.Now()
	for time.Since(began) < 20*time.Minute {
		time.Sleep(time.Duration(f.random.Int64N(int64(duration))))
		pod := pods[f.random.IntN(len(pods))]
		all := slices.Collect(maps.Values(f.replicas))
		switch one := []*replica{f.replicas[pod]}; f.random.IntN(10) {
		case 0, 1:
			f.disturb(all, func(c *apiClient) { c.refused = true })
		case 2:
			f.disturb(all, func(c *apiClient) { c.latency = duration / 2 })
		case 3, 4:
			f.disturb(one, func(c *apiClient) { c.blackHole = true })
		case 5:
			f.disturb(one, func(c *apiClient) { c.refused = true })
		case 6:
			f.disturb(one, func(c *apiClient) { c.latency = duration / 3 })
		case 7:
			f.kill(pod)
			f.start(pod)
		case 8:
			f.stop(pod)
			f.start(pod)
		case 9:
			f.server.edit(func(l *coordinationv1.Lease) { l.Annotations = map[string]string{"edited": "yes"} })
		}
	}
	time.Sleep(3*duration + 4*interval)
	f.checkSpread()
	for _, r := range f.replicas {
		if n := countLog(r, "still runs"); n != 0 {
			t.Errorf("%d runs of %s outlived their lease", n, r.name)
		}
	}
	f.stopAll()
}

// disturb lets some clients fail for a while, often for longer than a lease lasts.
func (f *fleet) disturb(replicas []*replica, fault func(*apiClient)) {
	for _, r := range replicas {
		r.client.fault(fault)
	}
	time.Sleep(time.Duration(f.random.Int64N(int64(2 * duration))))
	for _, r := range replicas {
		r.client.fault(heal)
	}
}
