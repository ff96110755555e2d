package probe

import (
	"math"
	"strings"
	"testing"
	"time"
)

// judged is a stage of n requests, of which slow ones take longer than half a second for their first token.
func judged(profile Profile, n, slow int, findings ...FindingName) Stage {
	s := Stage{Name: string(profile), Profile: profile, Completed: n,
		TimeToFirstToken:       Distribution{Count: n, P90: 0.4},
		TimeToFirstTokenExcess: Excess{Share: float64(slow) / float64(n), Samples: n}}
	if float64(slow) > 0.1*float64(n) {
		s.TimeToFirstToken.P90 = 0.6
	}
	for _, name := range findings {
		s.Findings = append(s.Findings, Finding{Name: name, Invalidates: true})
	}
	return s
}

func TestJudge(t *testing.T) {
	half := Objectives{TimeToFirstTokenP90: 500 * time.Millisecond}
	one := Objectives{ErrorRate: 0.01}
	failing := func(completed, failed int) Stage {
		s := judged(ProfileSynchronous, max(1, completed), 0)
		s.Completed, s.Failed = completed, failed
		return s
	}
	serving := func(profile Profile, completed int, rate, served, inFlight float64) Stage {
		s := judged(profile, completed, 0)
		s.TargetRate, s.RequestsPerSecond, s.InFlight = rate, served, inFlight
		s.WindowEnd = 10 * time.Second
		return s
	}
	noted := judged(ProfileSynchronous, 36, 9)
	noted.Findings = []Finding{{Name: FindingReceiveLag}} // of the stalls, which leaves it valid
	boasting := judged(ProfileSynchronous, 2, 2, FindingTooFewSamples)
	boasting.TimeToFirstTokenExcess.Samples = 1e15
	together := judged(ProfileConstant, 100, 20)
	together.TimeToFirstTokenExcess.Samples = 25
	for name, test := range map[string]struct {
		stage      Stage
		objectives Objectives
		want       Judgement
		why        string
	}{
		"nothing is asked":              {judged(ProfileSynchronous, 1, 1, FindingReceiveLag), Objectives{}, Kept, ""},
		"kept":                          {judged(ProfileSynchronous, 36, 3), half, Kept, ""},
		"violated":                      {judged(ProfileSynchronous, 36, 9), half, Violated, ""},
		"violated by chance, maybe":     {judged(ProfileSynchronous, 36, 7), half, Unjudged, "chance"},
		"violated, stalls not known":    {noted, half, Violated, ""},
		"more samples than requests":    {boasting, half, Unjudged, "too_few_samples"},
		"slow ones that came together":  {together, half, Unjudged, "chance"},
		"few, and kept":                 {judged(ProfileSynchronous, 35, 3, FindingTooFewSamples), half, Unjudged, "too_few_samples"},
		"few, half of them slow":        {judged(ProfileSynchronous, 6, 3, FindingTooFewSamples), half, Violated, ""},
		"few, some of them slow":        {judged(ProfileSynchronous, 6, 2, FindingTooFewSamples), half, Unjudged, "too_few_samples"},
		"two, and slow":                 {judged(ProfileSynchronous, 2, 2, FindingTooFewSamples), half, Unjudged, "too_few_samples"},
		"three, and slow":               {judged(ProfileSynchronous, 3, 3, FindingTooFewSamples), half, Violated, ""},
		"slow by our fault":             {judged(ProfileSynchronous, 36, 36, FindingReceiveLag), half, Unjudged, "receive_lag"},
		"kept, but not valid":           {judged(ProfileSynchronous, 36, 0, FindingReceiveLag), half, Unjudged, "receive_lag"},
		"kept by those that came":       {judged(ProfileConstant, 36, 0, FindingCensored), half, Unjudged, "censored"},
		"violated even by those":        {judged(ProfileConstant, 36, 36, FindingCensored), half, Violated, ""},
		"all fail":                      {failing(0, 3), half, Violated, ""},
		"two fail":                      {failing(0, 2), half, Unjudged, "chance"},
		"one of sixty fails":            {failing(59, 1), one, Unjudged, "chance"},
		"four of sixty fail":            {failing(56, 4), one, Violated, ""},
		"one of a hundred fails":        {failing(99, 1), one, Kept, ""},
		"keeps up":                      {serving(ProfileConstant, 90, 10, 9.5, 4), half, Kept, ""},
		"behind its rate":               {serving(ProfileConstant, 90, 10, 9.4, 4), half, Violated, ""},
		"behind its rate, few":          {serving(ProfileConstant, 20, 10, 9, 4), half, Unjudged, "chance"},
		"behind by what is in flight":   {serving(ProfileConstant, 90, 10, 9.4, 16), half, Unjudged, "chance"},
		"fewer came, as chance has it":  {serving(ProfilePoisson, 90, 10, 8.1, 4), half, Kept, ""},
		"fewer than chance has it come": {serving(ProfilePoisson, 90, 10, 7.9, 4), half, Violated, ""},
	} {
		got, why := test.stage.Judge(test.objectives)
		if got != test.want || !strings.Contains(why, test.why) || why == "" != (test.want != Unjudged) {
			t.Errorf("%s: %s (%s), want %s (%s)", name, got, why, test.want, test.why)
		}
	}
}

// TestExceeds holds the test against its definition: the chance of k or more, summed up from above.
func TestExceeds(t *testing.T) {
	atLeast := func(k, n int, p float64) (sum float64) {
		for i := k; i <= n; i++ {
			term := 1.0
			for j := range i { // C(n, i) p^i
				term *= float64(n-j) / float64(j+1) * p
			}
			sum += term * math.Pow(1-p, float64(n-i))
		}
		return sum
	}
	for _, p := range []float64{0.001, 0.01, 0.1, 0.5, 0.9} {
		for _, n := range []int{1, 3, 10, 40, 100} {
			for k := range n + 1 {
				want := float64(k) > p*float64(n) && atLeast(k, n, p) <= 0.025
				if got := Exceeds(k, n, p); got != want {
					t.Errorf("%d of %d against %g: %v, want %v (%g)", k, n, p, got, want, atLeast(k, n, p))
				}
			}
		}
	}
	for _, test := range []struct {
		k, n  int
		share float64
		want  bool
	}{
		{0, 0, 0, false}, {0, 10, 0, false}, {1, 10, 0, true}, {10, 10, 1, false}, {1_000_000, 1_000_000, 0.5, true},
		{500_000, 1_000_000, 0.5, false}, {501_000, 1_000_000, 0.5, true},
	} {
		if got := Exceeds(test.k, test.n, test.share); got != test.want {
			t.Errorf("%d of %d against %g: %v", test.k, test.n, test.share, got)
		}
	}
}

func TestMustKeep(t *testing.T) {
	for profile, want := range map[Profile]map[string]bool{
		ProfileSweep:       {StageSynchronous: true, StageThroughput: false, "constant-1": false},
		ProfileConstant:    {"constant-1": true},
		ProfileSynchronous: {StageSynchronous: true},
	} {
		for stage, must := range want {
			if got := (&Cycle{Profile: profile}).MustKeep(stage); got != must {
				t.Errorf("%s of %s: %v", stage, profile, got)
			}
		}
	}
}

func TestObjectivesJudged(t *testing.T) {
	half := Objectives{TimeToFirstTokenP90: 500 * time.Millisecond}
	kept, violated := judged(ProfileSynchronous, 36, 0), judged(ProfileConstant, 36, 36)
	few := judged(ProfileSynchronous, 3, 0, FindingTooFewSamples)
	at := func(rate float64, s Stage) Stage {
		s.TargetRate = rate
		return s
	}
	for name, test := range map[string]struct {
		objectives Objectives
		stages     []Stage
		want       bool
	}{
		"no stage":            {half, nil, false},
		"nothing to judge by": {Objectives{}, []Stage{kept}, false},
		"kept":                {half, []Stage{kept}, true},
		"violated":            {half, []Stage{violated}, true},
		"throughput alone":    {half, []Stage{judged(ProfileThroughput, 36, 36)}, false},
		"few":                 {half, []Stage{few}, false},
		"one of two":          {half, []Stage{few, kept}, true},
		"a low rate is not, and the next one violates them": {half, []Stage{few, at(2, violated)}, false},
		"the lowest rate violates them":                     {half, []Stage{at(3, few), at(2, violated)}, true},
	} {
		c := &Cycle{Objectives: test.objectives, Stages: test.stages}
		if got := c.ObjectivesJudged(); got != test.want {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}
