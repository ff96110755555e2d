package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/inferprobe/inferprobe/internal/probe"
	"github.com/inferprobe/inferprobe/internal/regress"
)

// verdict is the exit code of the run. What --fail-on asks for is a violation, or is kept, or could not be judged: a job
// must not be green for having judged nothing.
func (r *oneRun) verdict(cycles []*probe.Cycle) error {
	if r.lost || slices.ContainsFunc(cycles, failed) {
		return &exitError{code: exitNotMeasured}
	}
	var violated bool
	var unjudged []string
	for _, c := range cycles {
		if slices.Contains(r.failOn, failOnObjective) {
			against, unknown := objectives(c)
			violated = violated || against
			for _, why := range unknown {
				unjudged = append(unjudged, fmt.Sprintf("the objectives of %s could not be judged: %s", c.Endpoint.Name, why))
			}
		}
		if slices.Contains(r.failOn, failOnRegression) {
			violated = violated || regressed(c)
			if why := r.regressionUnjudged(c); why != "" {
				unjudged = append(unjudged, fmt.Sprintf("a regression of %s could not be judged: %s", c.Endpoint.Name, why))
			}
		}
	}
	switch {
	case violated:
		for _, why := range unjudged {
			r.log.Warn(why)
		}
		return &exitError{code: exitUnsatisfying}
	case len(unjudged) > 0:
		return &exitError{exitNotMeasured, strings.Join(unjudged, "; ")}
	}
	return nil
}

func failed(c *probe.Cycle) bool { return c.Failure != nil }

func regressed(c *probe.Cycle) bool { return c.Regression.Detected() }

// objectives reports whether the endpoint violates them where it must keep them, and why that is not known of a stage.
func objectives(c *probe.Cycle) (violated bool, unknown []string) {
	if c.Objectives.IsZero() {
		return false, nil
	}
	var judged bool
	for i := range c.Stages {
		s := &c.Stages[i]
		if !c.MustKeep(s.Name) {
			continue
		}
		verdict, why := s.Judge(c.Objectives)
		violated = violated || verdict == probe.Violated
		if judged = judged || verdict != probe.Unjudged; verdict == probe.Unjudged {
			unknown = append(unknown, fmt.Sprintf("of the %s stage: %s", s.Name, why))
		}
	}
	for _, s := range c.Skipped {
		if c.MustKeep(s.Stage) {
			unknown = append(unknown, fmt.Sprintf("the %s stage was not run: %s", s.Stage, cmp.Or(s.Detail, s.Reason)))
		}
	}
	if !judged && len(unknown) == 0 {
		return false, []string{"no stage was run"}
	}
	return violated, unknown
}

// regressionUnjudged returns why a verdict that was due could not be given on any signal, "" where it was or is not due.
// The first cycles of a history have nothing to be held against, which is no fault, but is told.
func (r *oneRun) regressionUnjudged(c *probe.Cycle) string {
	switch g := c.Regression; {
	case g == nil:
		return "it was not held against earlier cycles"
	case regress.Starting(g):
		r.log.Warn("NOT JUDGED whether there is a regression: the history is too short as yet. If each run says so, "+
			"the folder is not kept between runs, or each measures something else",
			"endpoint", c.Endpoint.Name, "dir", r.config.History.Dir, "note", g.Note)
	case len(g.Changes) == 0:
		return strings.TrimPrefix(g.Note, "no verdict: ")
	case g.Note != "":
		r.log.Warn("a note on the verdict whether there is a regression", "endpoint", c.Endpoint.Name, "note", g.Note)
	}
	return ""
}
