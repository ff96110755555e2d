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

func TestScheduleDelay(t *testing.T) {
	due := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	for name, test := range map[string]struct {
		res  Result
		want time.Duration
		ok   bool
	}{
		"closed loop": {res: Result{Request: &Request{}, Sent: due}},
		"not sent":    {res: Result{Request: &Request{Due: due}}},
		"late":        {Result{Request: &Request{Due: due}, Sent: due.Add(3 * time.Millisecond)}, 3 * time.Millisecond, true},
		"late, after it had to connect": {Result{Request: &Request{Due: due}, Sent: due.Add(160 * time.Millisecond),
			Phases: Phases{DNS: 9 * time.Millisecond, Connect: 50 * time.Millisecond, TLS: 100 * time.Millisecond}},
			time.Millisecond, true},
		"late, after a connection had been closed": {Result{Request: &Request{Due: due}, Sent: due.Add(62 * time.Millisecond),
			Retries: 1, Repeated: 40 * time.Millisecond, Phases: Phases{Connect: 20 * time.Millisecond}},
			2 * time.Millisecond, true},
	} {
		if got, ok := test.res.ScheduleDelay(); got != test.want || ok != test.ok {
			t.Errorf("%s: %v, %v, want %v, %v", name, got, ok, test.want, test.ok)
		}
	}
}

// TestHiddenTokens: what never came over the wire has no part in the times between tokens.
func TestHiddenTokens(t *testing.T) {
	res := Result{FirstToken: time.Second, OutputTokens: 104, HiddenTokens: 100, TokenSource: TokensFromServer}
	for i := range 4 {
		res.Arrivals = append(res.Arrivals, Arrival{At: time.Second + time.Duration(i)*10*time.Millisecond, Events: 1})
	}
	res.LastToken = res.Arrivals[3].At
	if d, ok := res.TimePerOutputToken(); !ok || d != 10*time.Millisecond {
		t.Errorf("time per output token %v, %v, want 10ms", d, ok)
	}
	if n, known := res.Tokens(1); n != 1 || !known {
		t.Errorf("%d tokens in an arrival, known %v, want 1", n, known)
	}
	if res.HiddenTokens = 103; res.StreamedTokens() != 1 {
		t.Errorf("%d tokens were streamed, want 1", res.StreamedTokens())
	}
	if d, ok := res.TimePerOutputToken(); ok {
		t.Errorf("time per output token of one token: %v", d)
	}
}
