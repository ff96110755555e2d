// Command inferprobe measures LLM inference endpoints from the outside, for ever or once.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// Exit codes.
const (
	exitDone         = 0
	exitNotMeasured  = 1 // an endpoint could not be measured, or inferprobe could not do its work
	exitBadUsage     = 2 // flags, environment or configuration
	exitUnsatisfying = 3 // measured, but an objective is violated, where --fail-on asks for it
)

// exitError carries an exit code; an empty message has been printed already.
type exitError struct {
	code    int
	message string
}

func (e *exitError) Error() string { return e.message }

func usageError(err error) error { return &exitError{exitBadUsage, err.Error()} }

func main() { os.Exit(run()) }

// run is main with an exit code. The first SIGINT or SIGTERM ends the work in order; a second one ends the process.
func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	err := newRoot().ExecuteContext(ctx)
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

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "inferprobe",
		Short: "Measure LLM inference endpoints from the outside",
		Long: `inferprobe sweeps OpenAI-compatible inference endpoints with synthetic load (one request at a time, as many as
possible, then nine rates between the two), exports every observation to Prometheus and prints a report.

Try it without an endpoint:   inferprobe demo
Measure an endpoint once:     inferprobe run --url http://localhost:8000/v1
Keep measuring:               inferprobe serve --config.file inferprobe.yaml`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(newServe(), newRun(), newCheck(), newSim(), newDemo(), newVersion())
	return root
}
