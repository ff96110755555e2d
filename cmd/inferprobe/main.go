// Command inferprobe measures LLM inference endpoints from the outside, for ever or once.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/spf13/cobra"
)

// Exit codes.
const (
	exitDone         = 0
	exitNotMeasured  = 1 // an endpoint could not be measured, or inferprobe could not do its work
	exitBadUsage     = 2 // flags, environment or configuration
	exitUnsatisfying = 3 // measured, but an objective or the baseline is violated, where --fail-on asks for it

	exitSignal = 128 // plus the number of the signal, as shells have it
)

// exitError carries an exit code; an empty message has been printed already.
type exitError struct {
	code    int
	message string
}

func (e *exitError) Error() string { return e.message }

func usageError(err error) error { return &exitError{exitBadUsage, err.Error()} }

func workError(err error) error { return &exitError{exitNotMeasured, err.Error()} }

func main() { os.Exit(run()) }

// run is main with an exit code.
func run() int {
	// A collection of garbage takes a core from the goroutine that sends for some milliseconds, and a heap of a few MB is
	// collected several times a second. Memory that is never touched is never resident, but makes collections rarer.
	room := make([]byte, 16<<20)
	defer runtime.KeepAlive(room)

	// A reader of our output that goes away must not end a daemon: the write fails instead.
	signal.Ignore(syscall.SIGPIPE)
	err := newRoot().ExecuteContext(untilSignal())
	if err == nil {
		return exitDone
	}
	code := exitBadUsage // cobra's own errors are about usage
	if e := (*exitError)(nil); errors.As(err, &e) {
		code = e.code
	}
	if err.Error() != "" {
		fmt.Fprintln(os.Stderr, "inferprobe:", err)
	}
	return code
}

// untilSignal returns a context that the first SIGINT or SIGTERM ends. A second one ends the process at once.
func untilSignal() context.Context {
	ctx, end := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2) // neither is lost, however soon the second one comes
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		<-signals
		end()
		os.Exit(exitSignal + int((<-signals).(syscall.Signal))) //nolint:forcetypeassert // signals are nothing else
	}()
	return ctx
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "inferprobe",
		Short: "Measure LLM inference endpoints from the outside",
		Long: `inferprobe sweeps OpenAI-compatible inference endpoints with synthetic load (one request at a time, as many as
possible, then nine rates between the two), exports metrics of every request to Prometheus and prints a report.

Try it without an endpoint:   inferprobe demo
Measure an endpoint once:     inferprobe run --url http://localhost:8000/v1
Keep measuring:               inferprobe serve --config.file inferprobe.yaml`,
		Version:       versionText(),
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cmd.SetOut(cmd.ErrOrStderr())
			_ = cmd.Help() // its only error is that of a closed standard error
			return &exitError{code: exitBadUsage}
		},
	}
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fmt.Errorf("%w; `%s --help` lists the flags", err, cmd.CommandPath())
	})
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(newServe(), newRun(), newCheck(), newSim(), newDemo(), newSelfcheck(), newVersion())
	return root
}

// noArgs refuses arguments, which no command takes.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return fmt.Errorf("%s takes flags only, not %q; `%s --help` lists them", cmd.Name(), args[0], cmd.CommandPath())
}
