package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/version"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/inferprobe/inferprobe/internal/daemon"
	"github.com/inferprobe/inferprobe/internal/probe"
	"github.com/inferprobe/inferprobe/internal/web"
)

// defaultAddress is where /metrics is served.
const defaultAddress = ":9923"

// webFlags are the flags of the HTTP server, as Prometheus's own programs have them.
type webFlags struct {
	addresses  []string
	configFile string
	lifecycle  bool
}

func (w *webFlags) add(fs *pflag.FlagSet, address string) {
	fs.StringSliceVar(&w.addresses, "web.listen-address", []string{address},
		"`address` of /metrics and the pages; repeatable")
	fs.StringVar(&w.configFile, "web.config.file", "",
		"`file` with TLS and basic auth, in the format of Prometheus's exporter-toolkit")
	fs.BoolVar(&w.lifecycle, "web.enable-lifecycle", false,
		"reload, and run, pause and resume endpoints on requests over HTTP")
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
OPENAI_API_KEY and MODEL.

SIGTERM or SIGINT ends it in order: the running stage stops, what it measured is reported, exit code 0. A second signal
ends it at once.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := begin(cmd, file, &logs)
			if err != nil {
				return err
			}
			return serve(cmd.Context(), s, pages, 0)
		},
	}
	cmd.Flags().StringVar(&file, "config.file", "", "configuration `file`")
	logs.add(cmd.Flags())
	pages.add(cmd.Flags(), defaultAddress)
	return cmd
}

// serve runs the daemon and its pages until ctx ends or, with cycles > 0, each endpoint has been measured that often.
func serve(ctx context.Context, s *session, pages webFlags, cycles int) error {
	s.announceEnd(ctx)
	registry := prometheus.NewRegistry()
	d := daemon.New(daemon.Options{
		Config: s.config, Version: version.Version, Registry: registry, Hub: s.hub, Log: s.log,
		Progress: s.screen.progress,
		Finished: func(c *probe.Cycle) {
			s.screen.finished(c.Endpoint.Name)
			s.printReport(c)
		},
	})
	server := web.NewServer(web.Options{
		Addresses: pages.addresses, ConfigFile: pages.configFile, Gatherer: registry, Registerer: registry,
		State: d, Lifecycle: pages.lifecycle, Logger: s.log, Version: version.Version,
	})
	if err := server.Listen(); err != nil {
		return listenError(err)
	}
	return alongside(ctx, server, func(ctx context.Context) { d.Serve(ctx, cycles) })
}

// listenError tells an address that cannot be had now from one, or a web configuration, that is wrong.
func listenError(err error) error {
	var network *net.OpError
	var system *os.SyscallError
	switch {
	case errors.As(err, &network) && errors.As(err, &system):
		return workError(fmt.Errorf("%w; choose another address with --web.listen-address", err))
	case errors.As(err, &network):
		return usageError(fmt.Errorf("--web.listen-address: %w; write for example %s", err, defaultAddress))
	}
	return usageError(err)
}

// alongside serves the pages while work runs, and ends each when the other one ends. The pages end last, so that the
// final scrape sees the final values.
func alongside(ctx context.Context, server *web.Server, work func(context.Context)) error {
	working, stopWork := context.WithCancel(ctx)
	defer stopWork()
	serving, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	defer stopServing()
	var pages sync.WaitGroup
	var failed error
	pages.Go(func() {
		if err := server.Run(serving); err != nil && !errors.Is(err, http.ErrServerClosed) {
			failed = workError(fmt.Errorf("web: %w", err))
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
