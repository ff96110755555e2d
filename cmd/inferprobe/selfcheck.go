package main

import (
	"os"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/inferprobe/inferprobe/internal/selfcheck"
)

func newSelfcheck() *cobra.Command {
	var full bool
	cmd := &cobra.Command{
		Use:   "selfcheck",
		Short: "Find out up to which rate this host can be trusted",
		Long: `selfcheck measures a simulator that records what it really does and when, in a process of its own on this host, at
rising rates, and compares. It takes less than a minute, uses every core towards its end, and sets nothing but the nice
value of that simulator. Exit code 1 if this host cannot be trusted, not even at 20 req/s.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			good, err := checkHost(cmd, full)
			switch {
			case cmd.Context().Err() != nil:
				return &exitError{exitNotMeasured, "interrupted"}
			case err != nil:
				return &exitError{exitNotMeasured, err.Error()}
			case !good:
				return &exitError{code: exitNotMeasured} // printed as the conclusion
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&full, "full", false, "every scenario of docs/accuracy.md instead, some minutes")
	cmd.AddCommand(&cobra.Command{
		Use: "neighbour", Hidden: true, Args: noArgs,
		Short: "Keep a core busy until standard input ends",
		Run:   func(cmd *cobra.Command, _ []string) { selfcheck.Spin(cmd.InOrStdin()) },
	})
	return cmd
}

func checkHost(cmd *cobra.Command, full bool) (good bool, err error) {
	program, err := os.Executable()
	if err != nil {
		return false, err
	}
	host, err := selfcheck.NewHost(program)
	if err != nil {
		return false, err
	}
	if full {
		return host.Accuracy(cmd.Context(), runtime.NumCPU(), cmd.OutOrStdout())
	}
	trusted, err := host.Check(cmd.Context(), cmd.OutOrStdout())
	return trusted > 0, err
}
