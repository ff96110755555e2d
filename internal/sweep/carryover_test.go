package sweep

import (
	"bytes"
	"cmp"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/inferprobe/inferprobe/internal/load"
	"github.com/inferprobe/inferprobe/internal/probe"
	"github.com/inferprobe/inferprobe/internal/sim"
	"github.com/inferprobe/inferprobe/internal/sim/simtest"
)

// scriptedAnswer is how a request between stages fares; one that takes longer than its context is cut off.
type scriptedAnswer struct {
	first      time.Duration // 0 = no token
	took       time.Duration // 0 = first
	reason     probe.Reason  // of a failure
	retryAfter time.Duration
}

// scriptedDoer answers by a script, of which the last goes on.
type scriptedDoer struct {
	script []scriptedAnswer
	asked  int
}

func (d *scriptedDoer) Do(ctx context.Context, req *probe.Request, res *probe.Result) {
	a := d.script[min(d.asked, len(d.script)-1)]
	d.asked++
	began := time.Now()
	res.Request, res.Sent, res.Outcome = req, began, probe.Completed
	if !load.Sleep(ctx, cmp.Or(a.took, a.first)) {
		res.Outcome = probe.Incomplete
	} else if a.reason != "" {
		res.Outcome, res.Reason, res.RetryTime = probe.Failed, a.reason, a.retryAfter
	}
	if a.first > 0 && time.Since(began) >= a.first {
		res.FirstToken, res.Arrivals = a.first, []probe.Arrival{{At: a.first, Events: 1}}
	}
}

type noSource struct{}

func (noSource) Next(*probe.Request) {}

// TestAwaitQuiet has an endpoint whose first tokens usually take 100 ms, so that 200 ms are near to that.
func TestAwaitQuiet(t *testing.T) {
	usual, slow := scriptedAnswer{first: 200 * milli, took: time.Second}, scriptedAnswer{first: 201 * milli, took: time.Second}
	queued := scriptedAnswer{first: 12 * time.Second}
	refused := scriptedAnswer{reason: probe.ReasonRateLimited, took: milli}
	broken := scriptedAnswer{reason: probe.ReasonReset, took: milli}
	forever := []scriptedAnswer{{took: time.Hour}}
	for name, test := range map[string]struct {
		script []scriptedAnswer
		alone  time.Duration // 0 = 100 ms
		guards Guards
		others int           // requests of other users that the last stage has seen
		ends   time.Duration // of the cycle; 0 = never
		asked  int           // -1 = not checked
		took   time.Duration
		detail string // of the finding; "" = none
		quiet  bool   // nothing is logged
	}{
		"done at once":           {script: []scriptedAnswer{usual}, asked: 1, took: time.Second, quiet: true},
		"not known what is near": {script: []scriptedAnswer{usual}, alone: -1, quiet: true},
		"done after two slow ones": {
			script: []scriptedAnswer{queued, slow, usual}, asked: 3, took: 14 * time.Second, quiet: true,
		},
		"a fast server's chance": {
			script: []scriptedAnswer{{first: 51 * milli}}, alone: milli, asked: 1, took: 51 * milli, quiet: true,
		},
		"a fast server's queue": {
			script: []scriptedAnswer{{first: 52 * milli}}, alone: milli, asked: -1, took: quietWait,
			detail: "a request alone waited 52ms for its first token, where 1ms is usual",
		},
		"a slow server is done": {
			script: []scriptedAnswer{{first: 25 * time.Second}}, alone: 20 * time.Second, asked: 1, took: 25 * time.Second,
			quiet: true,
		},
		"a slow server is not": {
			script: forever, alone: 20 * time.Second, asked: 1, took: 80 * time.Second,
			detail: "had no first token after 1m20s, where 20s is usual",
		},
		"never done": {
			script: []scriptedAnswer{slow}, asked: -1, took: quietWait,
			detail: "30s after stage throughput had ended, a request alone waited 201ms for its first token",
		},
		"never done, and others are there": {
			script: []scriptedAnswer{slow}, others: 5, asked: -1, took: quietWait,
			detail: "the endpoint was still at requests that were cut off, or at those of other users, whose load is",
		},
		"no token at all": {
			script: forever, asked: 1, took: quietWait, detail: "had no first token after 30s, where 100ms is usual",
		},
		"the client's limit on first tokens": {
			script: []scriptedAnswer{{took: 10 * time.Second, reason: probe.ReasonTimeoutFirstToken}}, asked: -1, took: quietWait,
			detail: "had no first token after 10s, where 100ms is usual",
		},
		"too busy":           {script: []scriptedAnswer{refused}, asked: -1, took: quietWait, detail: "was refused (rate_limited)"},
		"too busy for a bit": {script: []scriptedAnswer{refused, refused, refused, usual}, asked: 4, took: 2503 * milli, quiet: true},
		"it says for how long": {
			script: []scriptedAnswer{{reason: probe.ReasonHTTP5xx, retryAfter: 5 * time.Second}, usual}, asked: 2,
			took: 6 * time.Second, quiet: true,
		},
		"it fails":              {script: []scriptedAnswer{broken}, asked: 3, took: 2*quietPause + 3*milli},
		"it fails now and then": {script: []scriptedAnswer{broken, slow, broken, broken, usual}, asked: 5, took: 2*time.Second + 3*quietPause + 3*milli, quiet: true},
		"the cycle ends":        {script: forever, ends: 3 * time.Second, asked: 1, took: 3 * time.Second, quiet: true},
		"the window ends": {
			script: forever, guards: Guards{Until: time.Date(2000, 1, 1, 0, 0, 4, 0, time.UTC)}, asked: 1, took: 4 * time.Second,
			quiet: true,
		},
		"the budget is spent": {script: []scriptedAnswer{slow}, guards: Guards{Budget: new(purse)}, quiet: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if test.ends > 0 {
					time.AfterFunc(test.ends, cancel)
				}
				var logged bytes.Buffer
				doer, o := &scriptedDoer{script: test.script}, &observer{}
				c := newCycle(&Target{Guards: test.guards}, o, slog.New(slog.NewTextHandler(&logged, nil)))
				c.engine = &load.Engine{Client: doer, Source: noSource{}}
				c.Stages = []probe.Stage{{Name: "throughput"}}
				c.alone, c.users.left.others = max(0, cmp.Or(test.alone, 100*milli)), test.others
				started := time.Now()
				f := c.awaitQuiet(ctx)
				if took := time.Since(started); took != test.took || test.asked >= 0 && doer.asked != test.asked {
					t.Errorf("%d requests in %s, want %d in %s", doer.asked, took, test.asked, test.took)
				}
				if len(o.all) != doer.asked || slices.ContainsFunc(o.all, func(r recorded) bool { return r.stage != probe.StageNone }) {
					t.Errorf("the observer saw %v of %d requests", o.all, doer.asked)
				}
				if (f != nil) != (test.detail != "") ||
					f != nil && (f.Name != probe.FindingCarryOver || !f.Invalidates || !strings.Contains(f.Detail, test.detail)) {
					t.Errorf("found %+v, want %q", f, test.detail)
				}
				if (logged.Len() == 0) != test.quiet {
					t.Errorf("logged %q", logged.String())
				}
			})
		})
	}
}

// patient is a proxy that goes on with requests whose client has left, and knows no metrics.
type patient struct {
	server    string
	transport http.Transport

	mu        sync.Mutex
	abandoned int
	arrivals  []arrivalAt
}

// arrivalAt is when a request came, and how many there were then whose client had left.
type arrivalAt struct {
	at        time.Time
	abandoned int
}

func (p *patient) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/metrics" {
		http.NotFound(w, r)
		return
	}
	p.mu.Lock()
	p.arrivals = append(p.arrivals, arrivalAt{time.Now(), p.abandoned})
	p.mu.Unlock()
	left := 0
	stop := context.AfterFunc(r.Context(), func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		left = 1
		p.abandoned++
	})
	defer func() {
		stop()
		p.mu.Lock()
		defer p.mu.Unlock()
		p.abandoned -= left
	}()
	request, err := http.NewRequest(r.Method, p.server+r.URL.Path, r.Body)
	if err != nil {
		panic(err)
	}
	body, err := io.ReadAll(r.Body) // else the client's end would be the body's
	if err != nil {
		return
	}
	request.Body, request.Header = io.NopCloser(bytes.NewReader(body)), r.Header
	response, err := p.transport.RoundTrip(request)
	if err != nil {
		return // the test is over
	}
	defer response.Body.Close()
	for key, values := range response.Header {
		w.Header()[key] = values
	}
	w.WriteHeader(response.StatusCode)
	buf := make([]byte, 4096)
	for err == nil {
		var n int
		n, err = response.Body.Read(buf)
		if _, gone := w.Write(buf[:n]); gone == nil {
			_ = http.NewResponseController(w).Flush()
		}
	}
}

// TestLoadIsNotCarriedOver runs a sweep on a server of 8 slots that is given 128 requests at once and goes on with them:
// the next stage begins when it is done with those.
func TestLoadIsNotCarriedOver(t *testing.T) {
	_, url := simtest.Start(t, sim.Options{Slots: 8, DecodeStep: 5 * milli, PrefillTokensPerSecond: 1e6})
	proxy := &patient{server: url}
	front := httptest.NewServer(proxy)
	defer proxy.transport.CloseIdleConnections()
	defer front.Close()
	target := targetAt(front.URL, sweepOf(1))
	target.Plan.MaxDuration, target.Plan.MaxConcurrency, target.Plan.MaxInFlight = time.Second, 128, 128
	target.Client.MaxInFlight = 128
	c := run(t.Context(), t, target, &observer{})
	if len(c.Stages) != 3 {
		t.Fatalf("%d stages, skipped %v, failure %v", len(c.Stages), c.Skipped, c.Failure)
	}
	s := &c.Stages[2]
	if c.Stages[1].Incomplete < 100 || has(s, probe.FindingCarryOver) || has(s, probe.FindingCensored) {
		t.Errorf("%d requests were left behind; found %v", c.Stages[1].Incomplete, s.Findings)
	}
	proxy.mu.Lock()
	defer proxy.mu.Unlock()
	for _, a := range proxy.arrivals {
		if a.at.After(s.Started) {
			if a.abandoned > 8 {
				t.Errorf("the server was at %d requests that nobody waits for when %s began", a.abandoned, s.Name)
			}
			return
		}
	}
	t.Errorf("no request of %s", s.Name)
}

// TestCarryOverIsFound has a server become slow with the end of the throughput stage.
func TestCarryOverIsFound(t *testing.T) {
	server, url := simtest.Start(t, steady())
	proxy := &patient{server: url}
	front := httptest.NewServer(proxy)
	defer proxy.transport.CloseIdleConnections()
	defer front.Close()
	target := targetAt(front.URL, sweepOf(1))
	o := &observer{onProgress: func(p Progress) {
		if p.Stage == probe.StageThroughput && p.Done {
			if err := server.SetSlowdown(50); err != nil { // 500 ms to the first token
				panic(err)
			}
		}
	}}
	c := newCycle(target, o, discardLog())
	defer c.close()
	if !c.prepare(t.Context(), wordPools{}) {
		t.Fatal(c.Failure)
	}
	c.quiet = 700 * milli
	c.runStages(t.Context())
	checkBooks(t, c.Cycle, target, o)
	for i := range c.Stages {
		s := &c.Stages[i]
		if got, want := has(s, probe.FindingCarryOver), s.Name == "constant-1"; got != want || got && s.Valid() {
			t.Errorf("%s: %v", s.Name, s.Findings)
		}
	}
	one := *c.Cycle
	one.Stages = c.Stages[2:]
	checkVisible(t, &one, probe.FindingCarryOver, true)
}

// TestRatesLearnWhatIsUsual before the first of them, where there are several.
func TestRatesLearnWhatIsUsual(t *testing.T) {
	_, url := simtest.Start(t, steady())
	for rates, want := range map[int]int{1: calibrations, 2: calibrations + aloneTries} {
		o := &observer{}
		target := targetAt(url, Plan{
			Profile: probe.ProfileConstant, RateList: slices.Repeat([]float64{50}, rates), MaxRequests: 2,
		})
		run(t.Context(), t, target, o)
		if got := o.count(probe.StageNone, probe.Completed); got != want {
			t.Errorf("%d requests before %d rates, want %d", got, rates, want)
		}
	}
}
