package main

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/inferprobe/inferprobe/internal/config"
	"github.com/inferprobe/inferprobe/internal/probe"
)

// TestVerdict: a regression is one only where it is asked for, and in cycles in a row. What is asked for and was not
// judged is not kept.
func TestVerdict(t *testing.T) {
	change := func(c probe.Change) *probe.Cycle {
		return &probe.Cycle{Regression: &probe.Regression{Changes: []probe.Change{{}, c}}}
	}
	noted := func(note string) *probe.Cycle { return &probe.Cycle{Regression: &probe.Regression{Note: note}} }
	aimed := func(stages ...probe.Stage) *probe.Cycle {
		return &probe.Cycle{Profile: probe.ProfileConstant, Stages: stages,
			Objectives: probe.Objectives{TimeToFirstTokenP90: time.Second}}
	}
	kept := probe.Stage{Completed: 40, TimeToFirstToken: probe.Distribution{Count: 40, P90: 0.9}}
	slow := probe.Stage{Completed: 40, TimeToFirstToken: probe.Distribution{Count: 40, P90: 1.1},
		TimeToFirstTokenExcess: probe.Excess{Share: 0.3, Samples: 40}}
	few := slow
	few.Completed, few.TimeToFirstTokenExcess.Samples = 5, 5
	swept := func(synchronous, other probe.Stage) *probe.Cycle {
		c := aimed(synchronous, other)
		c.Profile, c.Stages[0].Name = probe.ProfileSweep, probe.StageSynchronous
		return c
	}
	spoilt := slow
	spoilt.Findings = []probe.Finding{{Name: probe.FindingReceiveLag, Invalidates: true}}
	cut, cutSlow := kept, slow
	cut.Findings = []probe.Finding{{Name: probe.FindingCensored, Invalidates: true}}
	cutSlow.Findings = cut.Findings
	skipping := aimed(kept)
	skipping.Skipped = []probe.Skip{{Stage: "constant-2", Reason: "error_rate"}}
	failed := &probe.Cycle{Failure: &probe.CycleFailure{Reason: "connect"}}
	for _, tt := range []struct {
		name   string
		failOn []string
		cycles []*probe.Cycle
		want   int
	}{
		{"nothing is asked for", nil, []*probe.Cycle{change(probe.Change{Worse: true, Detected: true})}, exitDone},
		{"not sought", []string{failOnRegression}, []*probe.Cycle{{}}, exitNotMeasured},
		{"no verdict", []string{failOnRegression}, []*probe.Cycle{noted("no verdict: a stage is not valid")},
			exitNotMeasured},
		{"no verdict, which nobody asked for", []string{failOnObjective}, []*probe.Cycle{{}}, exitDone},
		{"no verdict yet", []string{failOnRegression},
			[]*probe.Cycle{noted("no verdict: the baseline still lacks 2 comparable cycles")}, exitDone},
		{"one of two has no verdict", []string{failOnRegression},
			[]*probe.Cycle{change(probe.Change{}), noted("no verdict: a stage is not valid")}, exitNotMeasured},
		{"one is worse and one has no verdict", []string{failOnRegression},
			[]*probe.Cycle{change(probe.Change{Detected: true}), noted("no verdict: a stage is not valid")},
			exitUnsatisfying},
		{"an objective is kept", []string{failOnObjective}, []*probe.Cycle{aimed(kept)}, exitDone},
		{"one is violated", []string{failOnObjective}, []*probe.Cycle{aimed(kept, slow)}, exitUnsatisfying},
		{"our host was too slow", []string{failOnObjective}, []*probe.Cycle{aimed(kept, spoilt)}, exitNotMeasured},
		{"violated elsewhere", []string{failOnObjective}, []*probe.Cycle{aimed(spoilt, slow)}, exitUnsatisfying},
		{"slow requests were cut off", []string{failOnObjective}, []*probe.Cycle{aimed(kept, cut)}, exitNotMeasured},
		{"violated by those that were not", []string{failOnObjective}, []*probe.Cycle{aimed(kept, cutSlow)}, exitUnsatisfying},
		{"few were slow", []string{failOnObjective}, []*probe.Cycle{aimed(few)}, exitNotMeasured},
		{"a sweep, one at a time", []string{failOnObjective}, []*probe.Cycle{swept(kept, slow)}, exitDone},
		{"a sweep, slow one at a time", []string{failOnObjective}, []*probe.Cycle{swept(slow, kept)}, exitUnsatisfying},
		{"no stage was run", []string{failOnObjective}, []*probe.Cycle{aimed()}, exitNotMeasured},
		{"a stage was not run", []string{failOnObjective}, []*probe.Cycle{skipping}, exitNotMeasured},
		{"worse once", []string{failOnRegression}, []*probe.Cycle{change(probe.Change{Worse: true})}, exitDone},
		{"worse twice", []string{failOnRegression}, []*probe.Cycle{change(probe.Change{Worse: true, Detected: true})},
			exitUnsatisfying},
		{"another thing is asked for", []string{failOnObjective},
			[]*probe.Cycle{change(probe.Change{Worse: true, Detected: true})}, exitDone},
		{"one could not be measured", []string{failOnRegression},
			[]*probe.Cycle{failed, change(probe.Change{Worse: true, Detected: true})}, exitNotMeasured},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := &oneRun{session: &session{config: &config.Config{}, log: slog.New(slog.DiscardHandler)}, failOn: tt.failOn}
			got := exitDone
			if err := (*exitError)(nil); errors.As(r.verdict(tt.cycles), &err) {
				got = err.code
			}
			if got != tt.want {
				t.Errorf("exit code %d, want %d", got, tt.want)
			}
		})
	}
}
