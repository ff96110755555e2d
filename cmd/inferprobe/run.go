package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/version"
	"github.com/spf13/cobra"

	"github.com/inferprobe/inferprobe/internal/daemon"
	"github.com/inferprobe/inferprobe/internal/probe"
	"github.com/inferprobe/inferprobe/internal/report"
	"github.com/inferprobe/inferprobe/internal/sweep"
)

func newRun() *cobra.Command {
	var file string
	var logs logFlags
	var outputs, failOn []string
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Measure each endpoint once, print the report, exit",
		Long: `run measures one cycle on each endpoint, one endpoint after another, and prints a report.

Exit codes: 0 measured; 1 an endpoint could not be measured; 2 bad usage or configuration; 3 measured, but an objective
is violated, where --fail-on asks for it.`,
		Example: `  inferprobe run --url http://localhost:8000/v1
  inferprobe run --url http://localhost:8000 --profile constant --rate 2 --rate 8 --max-seconds 30
  inferprobe run --config.file inferprobe.yaml --output json=report.json --output csv=report.csv`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			targets, err := parseOutputs(outputs)
			if err != nil {
				return usageError(err)
			}
			if err := checkFailOn(failOn); err != nil {
				return usageError(err)
			}
			s, err := start(cmd, file, &logs)
			if err != nil {
				return err
			}
			return runOnce(cmd, s, targets, slices.Contains(failOn, "objective"))
		},
	}
	cmd.Flags().StringVar(&file, "config.file", "", "configuration file, in place of the flags that describe one endpoint")
	cmd.Flags().StringArrayVar(&outputs, "output", nil,
		"text, json or csv to standard output, or KIND=PATH; repeatable (default text)")
	cmd.Flags().StringSliceVar(&failOn, "fail-on", nil, "exit with 3 if violated: objective")
	addEndpointFlags(cmd.Flags())
	logs.add(cmd.Flags())
	return cmd
}

func checkFailOn(words []string) error {
	for _, w := range words {
		if w != "objective" {
			return fmt.Errorf("--fail-on: %q is not known; write objective", w)
		}
	}
	return nil
}

// output is one --output: a kind, and a path or "" for standard output.
type output struct{ kind, path string }

func parseOutputs(flags []string) ([]output, error) {
	if len(flags) == 0 {
		flags = []string{"text"}
	}
	var outputs []output
	for _, f := range flags {
		kind, path, toFile := strings.Cut(f, "=")
		if !slices.Contains([]string{"text", "json", "csv"}, kind) {
			return nil, fmt.Errorf("--output: %q is not a kind; write text, json or csv, or KIND=PATH", kind)
		}
		if toFile && path == "" {
			return nil, fmt.Errorf("--output: %q names no path; write for example %s=report.%s", f, kind, kind)
		}
		if toFile {
			if err := writable(path); err != nil {
				return nil, fmt.Errorf("--output: %w", err)
			}
		}
		outputs = append(outputs, output{kind, path})
	}
	return outputs, nil
}

// writable finds out before a long run whether its result can be written, and leaves no trace.
func writable(path string) error {
	if _, err := os.Stat(path); err == nil {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		return f.Close()
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

func runOnce(cmd *cobra.Command, s *started, outputs []output, failOnObjective bool) error {
	d := daemon.New(daemon.Options{
		Config: s.config, Version: version.Version, Registry: prometheus.NewRegistry(), Hub: s.hub, Log: s.log,
		Progress: s.screen.progress,
		Finished: func(c *probe.Cycle) {
			if slices.Contains(outputs, output{kind: "text"}) {
				s.printReport(c)
			}
		},
	})
	cycles := d.RunOnce(cmd.Context())
	s.screen.clear()
	code := exitDone
	for _, o := range outputs {
		if err := s.write(o, cycles); err != nil {
			s.log.Error("output failed", "kind", o.kind, "path", o.path, "error", err)
			code = exitNotMeasured
		}
	}
	if len(cycles) < len(s.config.Endpoints) || slices.ContainsFunc(cycles, failed) {
		code = exitNotMeasured
	}
	if code == exitDone && failOnObjective && slices.ContainsFunc(cycles, violatesObjectives) {
		code = exitUnsatisfying
	}
	if code != exitDone {
		return &exitError{code: code}
	}
	return nil
}

func failed(c *probe.Cycle) bool { return c.Failure != nil }

func violatesObjectives(c *probe.Cycle) bool { return !sweep.KeepsObjectives(c) }

// write renders the cycles in full before it touches the file.
func (s *started) write(o output, cycles []*probe.Cycle) error {
	var b bytes.Buffer
	var err error
	switch o.kind {
	case "json":
		err = report.WriteJSON(&b, cycles...)
	case "csv":
		err = report.WriteCSV(&b, cycles...)
	default:
		if o.path == "" {
			return nil // printed as each cycle finished
		}
		for _, c := range cycles {
			err = report.Text(&b, c, defaultWidth)
		}
	}
	if err != nil {
		return err
	}
	if o.path == "" {
		return s.screen.report(func(w io.Writer) error { _, err := w.Write(b.Bytes()); return err })
	}
	return replace(o.path, b.Bytes())
}

// replace writes a file whole or not at all, where its folder allows that.
func replace(path string, data []byte) error {
	info, err := os.Stat(path)
	exists := err == nil
	if exists && !info.Mode().IsRegular() {
		return os.WriteFile(path, data, 0o666) // a device or a pipe
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		if exists {
			return os.WriteFile(path, data, 0o666) // a file that may be written in a folder that may not
		}
		return err
	}
	defer os.Remove(f.Name()) // no longer there once renamed
	_, err = f.Write(data)
	if err = errors.Join(err, f.Chmod(0o644), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
