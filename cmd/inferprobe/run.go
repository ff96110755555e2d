package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/version"
	"github.com/spf13/cobra"

	"github.com/inferprobe/inferprobe/internal/config"
	"github.com/inferprobe/inferprobe/internal/daemon"
	"github.com/inferprobe/inferprobe/internal/probe"
)

// The words of --fail-on.
const (
	failOnObjective  = "objective"
	failOnRegression = "regression"
)

func newRun() *cobra.Command {
	var file, earlier string
	var logs logFlags
	var outputs, failOn []string
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Measure each endpoint once, print the report, exit",
		Long: `run measures one cycle on each endpoint, one endpoint after another, and prints a report.

Exit codes: 0 measured; 1 an endpoint could not be measured, a report not be written, or what --fail-on asks for not be
judged; 2 bad usage or configuration; 3 measured, but an objective is violated, or this and the last cycle are worse
than the baseline, where --fail-on asks for it. The first cycles of a history, four as a rule, have no baseline: they end
with 0 and a warning.

With --history.dir the cycle is held against the earlier ones in that folder, and is added to them.

Reports go to standard output, the log and the progress to standard error. Text is as wide as the terminal, elsewhere as
$COLUMNS or 130 columns.`,
		Example: `  inferprobe run --url http://localhost:8000/v1
  inferprobe run --url http://localhost:8000 --profile constant --rate 2 --rate 8 --max-seconds 30
  inferprobe run --config.file inferprobe.yaml --output html=report.html --output json=report.json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			targets, err := parseOutputs(outputs)
			if err != nil {
				return usageError(err)
			}
			s, err := begin(cmd, file, &logs)
			if err != nil {
				return err
			}
			if err := checkOutputs(targets, len(s.config.Endpoints)); err != nil {
				return usageError(err)
			}
			s.config.History.Dir = earlier // that of the file is the daemon's
			if err := checkFailOn(failOn, s.config); err != nil {
				return usageError(err)
			}
			r := &oneRun{session: s, outputs: targets, failOn: failOn}
			return r.run(cmd.Context())
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&file, "config.file", "", "configuration `file`, in place of the flags that describe one endpoint")
	fs.StringArrayVar(&outputs, "output", nil,
		allKinds+" to standard output, or `KIND=PATH`; repeatable (default text)")
	fs.StringSliceVar(&failOn, "fail-on", nil, "exit with 3 if `WHAT` is violated: "+failOnObjective+" or "+failOnRegression+"; repeatable")
	fs.StringVar(&earlier, historyDir, "", "`folder` of earlier cycles, to which this one is added (default none)")
	addEndpointFlags(fs)
	logs.add(fs)
	return cmd
}

// checkFailOn reads the values of --fail-on. What can never fail is refused: a job that relies on it would be green for
// ever.
func checkFailOn(words []string, c *config.Config) error {
	has := func(e config.Endpoint) bool { return !e.Objectives.Probe().IsZero() }
	for _, w := range words {
		switch {
		case w != failOnObjective && w != failOnRegression:
			return fmt.Errorf("--fail-on: %q is not known; write %s or %s", w, failOnObjective, failOnRegression)
		case w == failOnObjective && !slices.ContainsFunc(c.Endpoints, has):
			return errors.New("--fail-on: no endpoint has objectives; set them in a configuration file")
		case w == failOnRegression && c.History.Dir == "":
			return errors.New("--fail-on: a regression is against earlier cycles; name their folder with --history.dir")
		}
	}
	return nil
}

// oneRun is the work of the command.
type oneRun struct {
	*session
	outputs []output
	failOn  []string
	lost    bool // some report could not be written where it should
}

func (r *oneRun) run(ctx context.Context) error {
	r.announceEnd(ctx)
	d := daemon.New(daemon.Options{
		Config: r.config, Version: version.Version, Registry: prometheus.NewRegistry(), Hub: r.hub, Log: r.log,
		Progress: r.screen.progress,
		Finished: func(c *probe.Cycle) {
			r.screen.finished(c.Endpoint.Name)
			if slices.Contains(r.outputs, output{kind: kindText}) {
				r.lost = !r.printReport(c) || r.lost
			}
		},
	})
	cycles := d.RunOnce(ctx)
	for _, o := range r.outputs {
		if o != (output{kind: kindText}) { // printed as each cycle finished
			r.write(o, cycles)
		}
	}
	return r.verdict(cycles)
}

// write writes one output. What cannot be written to its file goes to standard output: to measure it again may take half
// an hour.
func (r *oneRun) write(o output, cycles []*probe.Cycle) {
	text, err := render(o.kind, r.screen.fileWidth(), cycles)
	if err != nil {
		r.fail("a report could not be made", o, err)
		return
	}
	if o.path != "" {
		if err = writeFile(o.path, text); err == nil {
			return
		}
		r.fail("a report could not be written to its file; it follows on standard output", o, err)
	}
	if err := r.screen.print(text); err != nil {
		r.fail("a report could not be written to standard output", o, err)
	}
}

func (r *oneRun) fail(message string, o output, err error) {
	r.lost = true
	r.log.Error(message, "kind", o.kind, "path", o.path, "error", reasonOf(err))
}
