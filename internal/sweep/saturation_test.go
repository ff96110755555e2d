package sweep

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"slices"

	"strings"
	"testing"
	"time"

	"github.com/inferprobe/inferprobe/internal/load"
	"github.com/inferprobe/inferprobe/internal/probe"
	"github.com/inferprobe/inferprobe/internal/sim"
	"github.com/inferprobe/inferprobe/internal/sim/simtest"
)

// station is a model of an endpoint: so many slots, a service time each, the rest waits in order of arrival.
type station struct {
	slots   int
	service float64 // mean, seconds
	random  bool    // exponential service times, else all equal
	profile probe.Profile
	load    float64 // of what the slots can bear: 1 is all of it
	seed    uint64
}

func (q station) rate() float64 { return q.load * float64(q.slots) / q.service }

func (q station) String() string {
	kind := "equal"
	if q.random {
		kind = "random"
	}
	return fmt.Sprintf("%s/%d slots of %.1fs %s/load %.2f/seed %d", q.profile, q.slots, q.service, kind, q.load, q.seed)
}

// ended is a request with the times of a station, as offsets from the start.
type ended struct{ sent, first, end float64 }

// trace returns the requests of a stage in the order in which they end.
func (q station) trace(limit time.Duration) []ended {
	rng := rand.New(rand.NewPCG(q.seed, 1))
	arrivals := load.Constant(q.rate())
	if q.profile == probe.ProfilePoisson {
		arrivals = load.Poisson(q.rate(), q.seed)
	}
	free := make(times, q.slots)
	var all []ended
	for {
		at := arrivals()
		if at >= limit {
			break
		}
		begin := max(at.Seconds(), free[0])
		service := q.service
		if q.random {
			service *= rng.ExpFloat64()
		}
		free[0] = begin + service
		heap.Fix(&free, 0)
		all = append(all, ended{at.Seconds(), begin + min(0.05, service), begin + service})
	}
	slices.SortFunc(all, func(a, b ended) int { return int(1e9 * (a.end - b.end)) })
	return all
}

type times []float64

func (t times) Len() int           { return len(t) }
func (t times) Less(i, j int) bool { return t[i] < t[j] }
func (t times) Swap(i, j int)      { t[i], t[j] = t[j], t[i] }
func (t times) Push(any)           { panic("not used") }
func (t times) Pop() any           { panic("not used") }

// run plays a trace to a guard and returns when it ended the stage and why, "" if it did not.
func (q station) run(limit time.Duration) (after time.Duration, detail string) {
	all := q.trace(limit)
	started := time.Unix(0, 0)
	at := func(s float64) time.Time { return started.Add(seconds(s)) }
	s := newSaturation(named{"constant-1", load.Stage{Profile: q.profile, Rate: q.rate(), MaxDuration: limit}}, started)
	var flying, completed int
	s.inFlight = func() int64 { return int64(flying) }
	s.turnover = func() (int, time.Duration) { return completed, seconds(q.service) }
	sent := make([]float64, len(all))
	for i, r := range all {
		sent[i] = r.sent
	}
	slices.Sort(sent)
	var gone int
	for now := 0.1; now < limit.Seconds(); now += 0.1 {
		for completed < len(all) && all[completed].end <= now {
			r := all[completed]
			s.record(&probe.Result{
				Sent: at(r.sent), FirstToken: seconds(r.first - r.sent), End: seconds(r.end - r.sent),
				Outcome: probe.Completed, Arrivals: []probe.Arrival{{Events: 1}},
			})
			completed++
		}
		for gone < len(sent) && sent[gone] <= now {
			gone++
		}
		flying = gone - completed
		if reason, detail := s.check(at(now)); reason != "" {
			return seconds(now), detail
		}
	}
	return 0, ""
}

const usual = 2 * time.Minute

// TestStableStagesAreNotSaturated plays stages that the endpoint bears, up to close to all that it can, with even and
// random arrivals and service times, in all sizes, and with requests that last a good part of the stage.
func TestStableStagesAreNotSaturated(t *testing.T) {
	var played int
	for _, q := range stable(2) {
		played++
		if after, detail := q.run(usual); detail != "" {
			t.Errorf("%s: ended after %s: %s", q, after, detail)
		}
	}
	if played < 200 {
		t.Errorf("only %d stages", played)
	}
}

func stable(seeds uint64) (all []station) {
	for _, shape := range []station{
		{slots: 1, service: 0.2}, {slots: 4, service: 2}, {slots: 32, service: 2}, {slots: 64, service: 20},
		{slots: 256, service: 5},
	} {
		for _, load := range []float64{0.3, 0.6, 0.8, 0.9, 0.95, 0.98} {
			for _, profile := range []probe.Profile{probe.ProfileConstant, probe.ProfilePoisson} {
				for seed := range seeds {
					for _, random := range []bool{false, true} {
						shape.load, shape.profile, shape.random, shape.seed = load, profile, random, seed
						all = append(all, shape)
					}
				}
			}
		}
	}
	return all
}

// TestOverloadIsSaturation plays stages of clearly more than the endpoint can bear; of few requests it takes more.
func TestOverloadIsSaturation(t *testing.T) {
	for _, shape := range []station{
		{slots: 4, service: 1, load: 2}, {slots: 4, service: 1, load: 4}, {slots: 32, service: 2, load: 1.5},
		{slots: 32, service: 2, load: 4}, {slots: 256, service: 5, load: 1.3},
	} {
		for _, profile := range []probe.Profile{probe.ProfileConstant, probe.ProfilePoisson} {
			for seed := range uint64(5) {
				shape.profile, shape.random, shape.seed = profile, true, seed
				after, detail := shape.run(usual)
				if detail == "" || after < usual/saturationShare {
					t.Errorf("%s: ended after %s: %q", shape, after, detail)
				}
			}
		}
	}
}

// TestOverloadedServer asks a simulator for three times what its two slots can do.
func TestOverloadedServer(t *testing.T) {
	_, url := simtest.Start(t, sim.Options{Slots: 2, DecodeStep: 5 * milli, PrefillTokensPerSecond: 1e6})
	target := targetAt(url, Plan{
		Profile: probe.ProfileConstant, RateList: []float64{120, 240}, MaxDuration: 4 * time.Second, MaxInFlight: 1000,
	})
	c := run(t.Context(), t, target, &observer{})
	if !slices.Equal(skips(c), []string{"constant-2 over_saturated"}) || c.Failure != nil {
		t.Fatalf("skipped %q, failure %v", skips(c), c.Failure)
	}
	s := &c.Stages[0]
	if !has(s, probe.FindingEndedByGuard) || s.Ended.Sub(s.Started) >= target.Plan.MaxDuration {
		t.Errorf("%s with %v", s.Ended.Sub(s.Started), s.Findings)
	}
	if detail := c.Skipped[0].Detail; !strings.HasPrefix(detail, "constant-1: requests in flight rose from") {
		t.Errorf("skipped since %s", detail)
	}
}

// TestBothMustRiseSteadily plays courses that a station does not have, at 20 requests/s. They are functions of the share
// of the stage that is over.
func TestBothMustRiseSteadily(t *testing.T) {
	rising := func(at float64) float64 { return 1000 * at }
	step := func(at float64) float64 {
		if at > 0.6 {
			return 1000
		}
		return 10
	}
	hump := func(at float64) float64 { return 4000 * at * (1 - at) }
	slower := func(at float64) float64 { return 0.1 + 10*at }
	for name, test := range map[string]struct {
		inFlight, ttft func(at float64) float64 // requests, seconds
		period         time.Duration
		ends           bool
	}{
		"both rise":                            {rising, slower, 2 * time.Second, true},
		"more in flight, first tokens as ever": {rising, func(float64) float64 { return 0.1 }, 2 * time.Second, false},
		"… or hardly slower":                   {rising, func(at float64) float64 { return 1 + at/4 }, 2 * time.Second, false},
		"slower, but no more in flight":        {func(float64) float64 { return 10 }, slower, 2 * time.Second, false},
		"one step":                             {step, slower, 2 * time.Second, false},
		"up and down again":                    {hump, func(at float64) float64 { return hump(at) / 100 }, 2 * time.Second, true},
		"a few more":                           {func(at float64) float64 { return 20 + 30*at }, slower, 2 * time.Second, false},
		"the ramp of requests of a minute":     {rising, slower, time.Minute, false},
	} {
		t.Run(name, func(t *testing.T) {
			const rate = 20
			started := time.Unix(0, 0)
			s := newSaturation(named{"constant-1", load.Stage{
				Profile: probe.ProfileConstant, Rate: rate, MaxDuration: usual,
			}}, started)
			var at float64
			s.inFlight = func() int64 { return int64(test.inFlight(at)) }
			s.turnover = func() (int, time.Duration) { return 1000, test.period }
			var ended bool
			for now := time.Duration(0); now < usual && !ended; now += time.Second / rate {
				at = now.Seconds() / usual.Seconds()
				ttft := seconds(test.ttft(at))
				s.record(&probe.Result{
					Sent: started.Add(now - ttft), FirstToken: ttft, End: ttft, Arrivals: []probe.Arrival{{Events: 1}},
				})
				reason, _ := s.check(started.Add(now))
				ended = reason != ""
			}
			if ended != test.ends {
				t.Errorf("ended: %v", ended)
			}
		})
	}
}
