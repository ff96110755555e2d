package probe

import (
	"testing"
	"time"
)

const ms = time.Millisecond

// arrivalsAt are arrivals of one event each, read at once.
func arrivalsAt(times ...time.Duration) []Arrival {
	out := make([]Arrival, len(times))
	for i, at := range times {
		out[i] = Arrival{At: at, Events: 1, Lag: 10 * time.Microsecond}
	}
	return out
}

// every are n arrivals of one event each, gap apart, from start on.
func every(gap time.Duration, n int, start time.Duration) []Arrival {
	times := make([]time.Duration, n)
	for i := range times {
		times[i] = start + time.Duration(i)*gap
	}
	return arrivalsAt(times...)
}

func TestStall(t *testing.T) {
	join := func(parts ...[]Arrival) (all []Arrival) {
		for _, p := range parts {
			all = append(all, p...)
		}
		return all
	}
	one := func(at time.Duration, events int, lag time.Duration) []Arrival {
		return []Arrival{{At: at, Events: events, Lag: lag}}
	}
	for name, test := range map[string]struct {
		arrivals    []Arrival
		least, most time.Duration
		thereIsNone bool
	}{
		"no arrival": {thereIsNone: true},
		"one":        {arrivals: arrivalsAt(5 * ms), thereIsNone: true},
		"even":       {arrivals: every(10*ms, 50, 0), least: 10 * ms, most: 10 * ms},
		"the server stalls": {
			arrivals: join(every(10*ms, 50, 0), every(10*ms, 50, 790*ms)),
			least:    300 * ms, most: 300 * ms,
		},
		"the server sends four": {
			arrivals: join(every(10*ms, 50, 0), one(530*ms, 4, 10*time.Microsecond)),
			least:    40 * ms, most: 40 * ms,
		},
		// This process was away for 100 ms: ten tokens in one read.
		"we are away": {
			arrivals: join(every(10*ms, 50, 0), one(590*ms, 10, 5*ms), every(10*ms, 50, 600*ms)),
			least:    10 * ms, most: 10 * ms,
		},
		// The server stalls for 300 ms and we are away when it goes on: four tokens in one read.
		"the server stalls and we are away": {
			arrivals: join(every(10*ms, 50, 0), one(820*ms, 4, 5*ms), every(10*ms, 50, 830*ms)),
			least:    285 * ms, most: 300 * ms,
		},
		"times of this process only": {
			arrivals: join(every(10*ms, 50, 0), one(590*ms, 10, 0)),
			least:    100 * ms, most: 100 * ms,
		},
		"all in two reads": {
			arrivals: join(one(10*ms, 1, 5*ms), one(110*ms, 10, 5*ms)),
			least:    10 * ms, most: 10 * ms,
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := Result{Arrivals: test.arrivals}
			stall, ok := r.Stall()
			if ok == test.thereIsNone || stall < test.least || stall > test.most {
				t.Errorf("%s, %v; want %s to %s", stall, ok, test.least, test.most)
			}
		})
	}
}
