package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/version"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/inferprobe/inferprobe/internal/daemon"
	"github.com/inferprobe/inferprobe/internal/probe"
	"github.com/inferprobe/inferprobe/internal/report"
	"github.com/inferprobe/inferprobe/internal/web"
)

// defaultAddress is where /metrics is served.
const defaultAddress = ":9923"

// webFlags are the flags of the HTTP server, as Prometheus's own programs have them.
type webFlags struct {
	addresses  []string
	configFile string
}

func (w *webFlags) add(fs *pflag.FlagSet, address string) {
	fs.StringSliceVar(&w.addresses, "web.listen-address", []string{address}, "address of /metrics and the pages; repeatable")
	fs.StringVar(&w.configFile, "web.config.file", "", "TLS and basic auth, in the format of Prometheus's exporter-toolkit")
}

func newServe() *cobra.Command {
	var file string
	var logs logFlags
	var pages webFlags
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Keep measuring: the daemon",
		Long: `serve measures each configured endpoint on its schedule, for ever, and serves /metrics.

Without --config.file one endpoint comes from the environment: OPENAI_API_BASE_URL, TOKENIZER, HF_TOKEN, and where needed
OPENAI_API_KEY and MODEL.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := start(cmd, file, &logs)
			if err != nil {
				return err
			}
			return serve(cmd.Context(), s, pages, 0)
		},
	}
	cmd.Flags().StringVar(&file, "config.file", "", "configuration file")
	logs.add(cmd.Flags())
	pages.add(cmd.Flags(), defaultAddress)
	return cmd
}

// serve runs the daemon and its pages until ctx ends or, with cycles > 0, each endpoint has been measured that often.
func serve(ctx context.Context, s *started, pages webFlags, cycles int) error {
	registry := prometheus.NewRegistry()
	d := daemon.New(daemon.Options{
		Config: s.config, Version: version.Version, Registry: registry, Hub: s.hub, Log: s.log,
		Progress: s.screen.progress, Finished: s.printReport,
	})
	server := web.NewServer(web.Options{
		Addresses: pages.addresses, ConfigFile: pages.configFile, Gatherer: registry, Registerer: registry,
		State: d, Logger: s.log, Version: version.Version,
	})
	if err := server.Listen(); err != nil {
		return &exitError{exitNotMeasured, err.Error()}
	}
	return alongside(ctx, server, func(ctx context.Context) { d.Serve(ctx, cycles) })
}

// alongside serves the pages while work runs, and ends each when the other one ends. The pages end last, so that the
// final scrape sees the final values.
func alongside(ctx context.Context, server *web.Server, work func(context.Context)) error {
	working, stopWork := context.WithCancel(ctx)
	defer stopWork()
	serving, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	var pages sync.WaitGroup
	var failed error
	pages.Go(func() {
		if err := server.Run(serving); err != nil && !errors.Is(err, http.ErrServerClosed) {
			failed = &exitError{exitNotMeasured, "web: " + err.Error()}
			stopWork()
		}
	})
	server.SetReady(true)
	work(working)
	server.SetReady(false)
	stopServing()
	pages.Wait()
	return failed
}

// printReport writes a cycle's report to standard output.
func (s *started) printReport(c *probe.Cycle) {
	s.screen.clear()
	err := s.screen.report(func(w io.Writer) error { return report.Text(w, c, width(s.screen.out)) })
	if err != nil {
		s.log.Error("the report could not be written to standard output", "error", err)
	}
}
