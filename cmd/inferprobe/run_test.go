package main

import (
	"errors"
	"testing"

	"github.com/inferprobe/inferprobe/internal/config"
	"github.com/inferprobe/inferprobe/internal/probe"
)

// TestVerdict: a regression is one only where it is asked for, and in cycles in a row.
func TestVerdict(t *testing.T) {
	change := func(c probe.Change) *probe.Cycle {
		return &probe.Cycle{Regression: &probe.Regression{Changes: []probe.Change{{}, c}}}
	}
	failed := &probe.Cycle{Failure: &probe.CycleFailure{Reason: "connect"}}
	for _, tt := range []struct {
		name   string
		failOn []string
		cycles []*probe.Cycle
		want   int
	}{
		{"nothing is asked for", nil, []*probe.Cycle{change(probe.Change{Worse: true, Detected: true})}, exitDone},
		{"no verdict", []string{failOnRegression}, []*probe.Cycle{{}}, exitDone},
		{"worse once", []string{failOnRegression}, []*probe.Cycle{change(probe.Change{Worse: true})}, exitDone},
		{"worse twice", []string{failOnRegression}, []*probe.Cycle{change(probe.Change{Worse: true, Detected: true})},
			exitUnsatisfying},
		{"another thing is asked for", []string{failOnObjective},
			[]*probe.Cycle{change(probe.Change{Worse: true, Detected: true})}, exitDone},
		{"one could not be measured", []string{failOnRegression},
			[]*probe.Cycle{failed, change(probe.Change{Worse: true, Detected: true})}, exitNotMeasured},
		{"one is missing", []string{failOnRegression}, nil, exitNotMeasured},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := &oneRun{session: &session{config: &config.Config{Endpoints: make([]config.Endpoint, max(1, len(tt.cycles)))}},
				failOn: tt.failOn}
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
