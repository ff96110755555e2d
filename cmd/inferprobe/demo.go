package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/inferprobe/inferprobe/internal/config"
	"github.com/inferprobe/inferprobe/internal/daemon"
	"github.com/inferprobe/inferprobe/internal/sim"
)

const demoAddress = "127.0.0.1:9923"

func newDemo() *cobra.Command {
	var cycles int
	var logs logFlags
	var pages webFlags
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Simulator and daemon in one: see it work in a minute",
		Long: `demo starts the simulator and the daemon in one process, on loopback. A whole cycle of eleven stages takes about a
minute; then the daemon goes on until ^C. It needs no network, no GPU and no configuration.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cycles < 0 {
				return usageError(fmt.Errorf("--cycles: %d is less than 0; write 0 for no end", cycles))
			}
			if !cmd.Flags().Changed("web.listen-address") {
				pages.addresses = []string{freeAddress(demoAddress)}
			}
			return runDemo(cmd.Context(), &logs, pages, cycles)
		},
	}
	cmd.Flags().IntVar(&cycles, "cycles", 0, "end after this many cycles (0: never)")
	logs.add(cmd.Flags())
	pages.add(cmd.Flags(), demoAddress)
	return cmd
}

func runDemo(ctx context.Context, logs *logFlags, pages webFlags, cycles int) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return &exitError{exitNotMeasured, err.Error()}
	}
	url := "http://" + listener.Addr().String() + "/v1"
	c, err := demoConfig(url)
	if err != nil {
		return err
	}
	s, err := beginWith(c, logs)
	if err != nil {
		return err
	}
	simulator, err := sim.New(demoSimulator())
	if err != nil {
		return err
	}
	simulating, stop := context.WithCancel(context.WithoutCancel(ctx)) // it outlives the daemon's last requests
	var simulated sync.WaitGroup
	simulated.Go(func() { err = simulator.Serve(simulating, listener) })
	fmt.Fprintf(s.screen, demoGreeting, url, pages.addresses[0], pages.addresses[0])
	failed := serve(ctx, s, serveOptions{pages: pages, cycles: cycles})
	stop()
	simulated.Wait()
	return errors.Join(failed, err)
}

const demoGreeting = `inferprobe demo
  simulated endpoint  %s
  Prometheus metrics  http://%s/metrics
  status page         http://%s/
A cycle takes about a minute: synchronous, throughput, then nine rates between the two. ^C ends the demo.

`

// demoSimulator is a small engine that answers in a tenth of a second when idle and bears some 80 requests a second.
func demoSimulator() sim.Options {
	return sim.Options{
		Model:                  "demo",
		Slots:                  16,
		PrefillTokensPerSecond: 100_000,
		DecodeStep:             5 * time.Millisecond,
		DecodePerSequence:      200 * time.Microsecond,
		Jitter:                 0.05,
		Seed:                   1,
	}
}

// demoConfig is what a user would write for the simulator, with stages of seconds.
func demoConfig(url string) (*config.Config, error) {
	settings := [][3]string{ // flag, key, value
		{"name", "name", "demo"},
		{"url", "url", url},
		{"model", "model", "demo"},
		{"tokenizer", "tokenizer", daemon.DemoTokenizer},
		{"output-tokens", "sweep.output_tokens", "16"},
		{"max-duration", "sweep.max_duration", "5s"},
		{"max-concurrency", "sweep.max_concurrency", "64"},
		{"interval", "sweep.interval", "2m"},
		{"canary", "canary.interval", "5s"},
		{"ttft", "objectives.time_to_first_token_p90", "100ms"},
		{"itl", "objectives.inter_token_latency_p90", "20ms"},
	}
	flags := pflag.NewFlagSet("demo", pflag.ContinueOnError)
	keys := make(map[string]string)
	for _, s := range settings {
		flags.String(s[0], "", "")
		if err := flags.Set(s[0], s[2]); err != nil {
			return nil, err
		}
		keys[s[0]] = s[1]
	}
	c, err := config.FromFlags(flags, keys)
	if err == nil {
		c.History.Dir = "" // what a demo finds is of no use later
	}
	return c, err
}

// freeAddress returns the address, or one with any free port where it is taken.
func freeAddress(address string) string {
	l, err := net.Listen("tcp", address)
	if err != nil {
		if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return address
		}
	}
	defer l.Close()
	return l.Addr().String()
}
