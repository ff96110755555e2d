package sweep

import (
	"testing"
	"time"

	"github.com/inferprobe/inferprobe/internal/probe"
)

// stopped is from when to when a client is kept from reading.
type stopped struct{ from, to time.Duration }

// readLate returns what a client reports of an answer with a token every 10 ms, the first at 60 ms, that it reads at
// once unless it is stopped: then a read gets all tokens that have come meanwhile, with the time of the last.
func readLate(tokens int, stops ...stopped) *probe.Result {
	const first, gap = 60 * milli, 10 * milli
	r := &probe.Result{}
	for i := 0; i < tokens; {
		read := first + time.Duration(i)*gap + 50*time.Microsecond
		for _, s := range stops {
			if s.from <= read && read < s.to {
				read = s.to
			}
		}
		a := probe.Arrival{}
		for ; i < tokens && first+time.Duration(i)*gap <= read; i++ {
			a.At = first + time.Duration(i)*gap
			a.Events++
		}
		a.Lag = read - a.At
		r.Arrivals = append(r.Arrivals, a)
	}
	return r
}

func TestFirstTokenError(t *testing.T) {
	late := func(events ...int) *probe.Result { // so many at 60, 70, 80 ms, all read 5 ms late
		r := &probe.Result{}
		for i, n := range events {
			r.Arrivals = append(r.Arrivals, probe.Arrival{At: time.Duration(60+10*i) * milli, Events: n, Lag: 5 * milli})
		}
		return r
	}
	burst := func(lag time.Duration) *probe.Result { // the server sends three at once each 30 ms
		r := &probe.Result{}
		for i := range 4 {
			r.Arrivals = append(r.Arrivals, probe.Arrival{At: time.Duration(60+30*i) * milli, Events: 3, Lag: lag})
		}
		return r
	}
	split := readLate(20, stopped{50 * milli, 105 * milli})
	split.Arrivals[0].Events = 1 // a short read takes the first of five with their common time, a longer one the rest
	split.Arrivals[1].Events += 4
	unknown := readLate(20, stopped{50 * milli, 105 * milli})
	unknown.Arrivals[0].Lag = 0

	for name, test := range map[string]struct {
		result *probe.Result
		want   time.Duration
	}{
		"no token":                           {&probe.Result{}, 0},
		"prompt":                             {readLate(20), 0},
		"read before the second token":       {readLate(20, stopped{50 * milli, 69 * milli}), 0},
		"read with the second token":         {readLate(20, stopped{50 * milli, 75 * milli}), 10 * milli},
		"read with four others":              {readLate(20, stopped{50 * milli, 105 * milli}), 40 * milli},
		"the others in the next read":        {split, 40 * milli},
		"a late read behind the first token": {readLate(20, stopped{65 * milli, 85 * milli}), 0},
		"one token":                          {late(1), 0},
		"a whole answer in one late read":    {late(4), 5 * milli},
		"an answer in two late reads":        {late(3, 2), 10 * milli}, // 10 ms for 2 events: 5 ms each
		"the server sends several together":  {burst(50 * time.Microsecond), 0},
		"no more than there is":              {late(50, 1, 1), 60 * milli},
		"without the kernel's time":          {unknown, 0},
	} {
		t.Run(name, func(t *testing.T) {
			if len(test.result.Arrivals) > 0 {
				test.result.FirstToken = test.result.Arrivals[0].At
			}
			if got := firstTokenError(test.result); got != test.want {
				t.Errorf("%s, want %s, of %+v", got, test.want, test.result.Arrivals[:min(3, len(test.result.Arrivals))])
			}
		})
	}
}

func TestMergedReads(t *testing.T) {
	add := func(results ...*probe.Result) *reads {
		n := new(reads)
		for _, r := range results {
			n.add(r)
		}
		return n
	}
	together := func(lag time.Duration) *probe.Result { // the server sends two at once, each 20 ms
		r := &probe.Result{}
		for i := range 11 {
			r.Arrivals = append(r.Arrivals, probe.Arrival{At: time.Duration(i*20) * milli, Events: 2, Lag: lag})
		}
		return r
	}
	var always []stopped
	for i := range 5 {
		always = append(always, stopped{time.Duration(62+20*i) * milli, time.Duration(82+20*i) * milli})
	}
	for name, test := range map[string]struct {
		reads *reads
		want  float64
	}{
		"nothing":                              {add(), 0},
		"prompt":                               {add(readLate(21)), 0},
		"late, one token each":                 {&reads{prompt: 90, late: 10}, 0},
		"one of 17 holds three":                {add(readLate(20, stopped{75 * milli, 105 * milli})), 1.0 / 17}, // 80…100 ms
		"two at once, prompt":                  {add(together(milli / 10)), 0},
		"two at once, sometimes late":          {add(together(milli/10), together(milli/10), together(5*milli)), 0},
		"two tokens in each of five":           {add(readLate(11, always...)), 1}, // 60, 70+80, … 150+160 ms
		"always late, and two at once":         {add(together(5 * milli)), 1},
		"without the kernel's time":            {add(together(0)), 0},
		"half of it without the kernel's time": {add(together(0), together(5*milli)), 1},
	} {
		t.Run(name, func(t *testing.T) {
			if got := test.reads.merged(); !near(got, test.want) {
				t.Errorf("%.4f, want %.4f, of %+v", got, test.want, *test.reads)
			}
		})
	}
}

// TestStallsAreKnownWithinBounds: a read that held several tokens may hide when they came, and a stage in which that is so of
// the longest gaps says so. What the server usually sends together hides nothing.
func TestStallsAreKnownWithinBounds(t *testing.T) {
	const requests = 100
	inThrees := func() *probe.Result { // each 30 ms
		r := &probe.Result{}
		for i := range 10 {
			r.Arrivals = append(r.Arrivals, probe.Arrival{At: time.Duration(60+30*i) * milli, Events: 3, Lag: milli / 100})
		}
		return r
	}
	for name, test := range map[string]struct {
		most, late  func() *probe.Result
		lateOnes    int
		least, wide time.Duration // bounds of a late one
		want        bool
	}{
		"prompt": {func() *probe.Result { return readLate(20) }, func() *probe.Result { return readLate(20) }, 50,
			10 * milli, 10 * milli, false},
		"late, one token a read": {func() *probe.Result { return readLate(20) },
			func() *probe.Result { return readLate(20, stopped{85 * milli, 89 * milli}) }, 50, 10 * milli, 10 * milli, false},
		"three tokens in a late read": {func() *probe.Result { return readLate(20) },
			func() *probe.Result { return readLate(20, stopped{85 * milli, 119 * milli}) }, 3, 10 * milli, 30 * milli, true},
		"the last of three has just come": {func() *probe.Result { return readLate(20) },
			func() *probe.Result { return readLate(20, stopped{85 * milli, 110*milli + 100*time.Microsecond}) }, 3,
			10 * milli, 30 * milli, true},
		"in fewer than count": {func() *probe.Result { return readLate(20) },
			func() *probe.Result { return readLate(20, stopped{85 * milli, 119 * milli}) }, 0, 10 * milli, 30 * milli, false},
		"the server sends three together": {inThrees,
			func() *probe.Result {
				r := inThrees()
				r.Arrivals[4].Lag = 5 * milli
				return r
			}, 50, 30 * milli, 30 * milli, false},
	} {
		if least, most := stallBounds(test.late()); least != test.least || most != test.wide {
			t.Errorf("%s: from %v to %v, want %v to %v", name, least, most, test.least, test.wide)
		}
		c := newCollector(epoch, probe.Objectives{})
		for i := range requests {
			r := test.most()
			if i < test.lateOnes {
				r = test.late()
			}
			r.Request, r.Outcome, r.Sent = &probe.Request{}, probe.Completed, epoch
			c.Record(r)
		}
		j := &judgement{collector: c, stage: &probe.Stage{StreamStallP99: c.stallP99()}}
		j.receiveLag()
		if got := len(j.findings) == 1 && !j.findings[0].Invalidates; got != test.want || got == j.stage.StreamStallP99.IsZero() {
			t.Errorf("%s: %+v", name, j.findings)
		}
	}
}
