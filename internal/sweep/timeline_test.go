package sweep

import (
	"math"
	"testing"
	"time"
)

const milli = time.Millisecond

func near(a, b float64) bool { return math.Abs(a-b) <= 1e-9*max(1, math.Abs(b)) }

func TestTimelineTokens(t *testing.T) {
	var line timeline
	line.at(5 * milli).tokens += 10  // bin [0, 10)
	line.at(15 * milli).tokens += 20 // bin [10, 20)
	line.at(25 * milli).tokens += 40 // bin [20, 30)
	for _, test := range []struct {
		from, to time.Duration
		want     float64
	}{
		{0, 30 * milli, 70},
		{0, time.Minute, 70},
		{10 * milli, 20 * milli, 20},
		{5 * milli, 25 * milli, 5 + 20 + 20}, // half of the outer bins
		{12 * milli, 14 * milli, 4},          // a fifth of one bin
		{20 * milli, 20 * milli, 0},
		{30 * milli, 10 * milli, 0},
		{-time.Second, 10 * milli, 10},
	} {
		if got := line.tokens(test.from, test.to); !near(got, test.want) {
			t.Errorf("%v tokens in [%s, %s), want %v", got, test.from, test.to, test.want)
		}
	}
}

func TestTimelineServed(t *testing.T) {
	var line timeline
	line.at(0).served = 3
	line.at(10 * milli).unfinished = 2 // two requests' worth of the tokens asked for; answers are half as long
	if got := line.served(0, 20*milli, 2); !near(got, 3+4) {
		t.Errorf("%v requests' worth, want 7", got)
	}
}

func TestTimelineInFlight(t *testing.T) {
	type request struct{ begin, end time.Duration } // end 0: never
	for name, test := range map[string]struct {
		requests []request
		from, to time.Duration
		want     float64
	}{
		"within one bin":          {[]request{{2 * milli, 5 * milli}}, 0, 10 * milli, 0.3},
		"over the edge of a bin":  {[]request{{8 * milli, 12 * milli}}, 0, 20 * milli, 0.2},
		"over many bins":          {[]request{{3 * milli, 47 * milli}}, 0, 50 * milli, 0.88},
		"through the window":      {[]request{{0, time.Second}}, 100 * milli, 200 * milli, 1},
		"before the window":       {[]request{{0, 90 * milli}}, 100 * milli, 200 * milli, 0},
		"never ends":              {[]request{{50 * milli, 0}}, 0, 100 * milli, 0.5},
		"never ends, much later":  {[]request{{50 * milli, 0}}, time.Minute, 2 * time.Minute, 1},
		"ends where it begins":    {[]request{{5 * milli, 5 * milli}}, 0, 10 * milli, 0},
		"two, one after another":  {[]request{{0, 5 * milli}, {5 * milli, 10 * milli}}, 0, 10 * milli, 1},
		"before the stage began":  {[]request{{-milli, 10 * milli}}, 0, 10 * milli, 1},
		"window without a length": {[]request{{0, time.Second}}, 20 * milli, 20 * milli, 0},
	} {
		t.Run(name, func(t *testing.T) {
			var line timeline
			for _, r := range test.requests {
				line.begin(r.begin)
				if r.end > 0 {
					line.end(r.end)
				}
			}
			if got := line.inFlight(test.from, test.to); !near(got, test.want) {
				t.Errorf("%v in flight, want %v", got, test.want)
			}
		})
	}
}

func TestTimelineLatency(t *testing.T) {
	var line timeline
	for _, done := range []struct {
		at      time.Duration
		latency float64
	}{{15 * milli, 1}, {16 * milli, 2}, {35 * milli, 9}} {
		b := line.at(done.at)
		b.completed++
		b.latency += done.latency
	}
	if n, mean := line.latency(10*milli, 30*milli); !near(n, 2) || !near(mean, 1.5) {
		t.Errorf("%v completed in %v s on average, want 2 in 1.5", n, mean)
	}
	if n, mean := line.latency(50*milli, 60*milli); n != 0 || mean != 0 {
		t.Errorf("%v completed in %v s where nothing was", n, mean)
	}
}
