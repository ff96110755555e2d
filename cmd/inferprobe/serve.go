package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/version"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/inferprobe/inferprobe/internal/daemon"
	"github.com/inferprobe/inferprobe/internal/lease"
	"github.com/inferprobe/inferprobe/internal/probe"
	"github.com/inferprobe/inferprobe/internal/selfcheck"
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
	var shared leaseFlags
	var push bool
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Keep measuring: the daemon",
		Long: `serve measures each configured endpoint on its schedule, for ever, and serves /metrics.

Without --config.file one endpoint comes from the environment: OPENAI_API_BASE_URL, TOKENIZER, HF_TOKEN, and where needed
OPENAI_API_KEY and MODEL.

SIGHUP, POST /-/reload (with --web.enable-lifecycle) or a change of the file, or of one that holds a key, reloads the
configuration. Endpoints that did not change go on undisturbed; a file with mistakes changes nothing.

SIGTERM or SIGINT ends it in order: the running stage stops, what it measured is reported, exit code 0. A second signal
ends it at once.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			// From the first moment to the last: one that nobody waits for would end the process.
			hangups := make(chan os.Signal, 1)
			signal.Notify(hangups, syscall.SIGHUP)
			s, err := begin(cmd, file, &logs)
			if err != nil {
				return err
			}
			s.warn(s.config)
			leases, err := shared.leases(s)
			if err != nil {
				return err
			}
			return serve(cmd.Context(), s, serveOptions{pages: pages, leases: leases, push: push, hangups: hangups})
		},
	}
	cmd.Flags().StringVar(&file, "config.file", "", "configuration `file`")
	cmd.Flags().String(historyDir, "", "`folder` of finished cycles (default history.dir of the file, else /var/lib/inferprobe)")
	logs.add(cmd.Flags())
	pages.add(cmd.Flags(), defaultAddress)
	shared.add(cmd.Flags())
	cmd.Flags().BoolVar(&push, "otlp.enable", false,
		"push the metrics to an OpenTelemetry collector, as OTEL_EXPORTER_OTLP_ENDPOINT and its like say")
	return cmd
}

// serveOptions are what the daemon does beside measuring.
type serveOptions struct {
	pages  webFlags
	leases *lease.Leases // nil: all endpoints are ours
	push   bool          // over OTLP
	cycles int           // after which to end; 0: never

	hangups <-chan os.Signal // SIGHUP
}

// serve runs the daemon and its pages until ctx ends or each endpoint has been measured as often as o says.
func serve(ctx context.Context, s *session, o serveOptions) error {
	s.announceEnd(ctx)
	registry := prometheus.NewRegistry()
	if o.push {
		pusher, err := startPush(ctx, s, registry)
		if err != nil {
			return err
		}
		defer pusher.Stop()
	}
	options := daemon.Options{
		Config: s.config, Load: s.reload, Version: version.Version, Registry: registry, Hub: s.hub, Log: s.log,
		Progress: s.screen.progress,
		Finished: func(c *probe.Cycle) {
			s.screen.finished(c.Endpoint.Name)
			s.printReport(c)
		},
	}
	if o.leases != nil { // or the interface would hold a nil pointer
		options.Leases = o.leases
	}
	d := daemon.New(options)
	server := web.NewServer(web.Options{
		Addresses: o.pages.addresses, ConfigFile: o.pages.configFile, Gatherer: registry, Registerer: registry,
		State: d, Lifecycle: o.pages.lifecycle, Control: d, Logger: s.log, Version: version.Version,
	})
	if err := server.Listen(); err != nil {
		return listenError(err)
	}
	var failed error
	err := withPages(ctx, server, func(ctx context.Context) {
		failed = withLeases(ctx, o.leases, func(ctx context.Context) {
			following, stop := context.WithCancel(ctx)
			var follower sync.WaitGroup
			lookAtHost(ctx, s.log, d)
			if s.reload != nil {
				follower.Go(func() { follow(following, d, o.hangups) })
			}
			d.Serve(ctx, o.cycles)
			stop()
			follower.Wait()
		})
	})
	return cmp.Or(failed, err)
}

// hostLook is how long the host is looked at before the first cycle: 400 observations, of which a p99 needs 368.
const hostLook = 400 * time.Millisecond

// lookAtHost says in log and metrics whether numbers measured on this host can be true. It changes nothing.
func lookAtHost(ctx context.Context, log *slog.Logger, d *daemon.Daemon) {
	glance, err := selfcheck.Look(ctx, hostLook)
	if err != nil {
		log.Debug("the host could not be looked at", "error", err)
		return
	}
	tellOfHost(log, d.HostTrusted, glance)
}

func tellOfHost(log *slog.Logger, trusted func(bool), glance selfcheck.Glance) {
	problems := glance.Problems()
	trusted(len(problems) == 0)
	if len(problems) > 0 {
		log.Warn("this host disturbs measurements; stages that suffer are called invalid, and inferprobe selfcheck tells more",
			"problems", problems)
	}
}

// follow reloads the configuration when its files change and at SIGHUP, until ctx ends.
func follow(ctx context.Context, d *daemon.Daemon, hangups <-chan os.Signal) {
	var watch sync.WaitGroup
	watch.Go(func() { d.Watch(ctx) })
	defer watch.Wait()
	for {
		select {
		case <-hangups:
			_ = d.Reload(ctx) // which logs what is wrong
		case <-ctx.Done():
			return
		}
	}
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

// alongside runs a service while work runs, and ends each when the other one ends. The service ends last, so that it has
// the last of what work leaves: the final scrape, the release of a Lease.
func alongside(ctx context.Context, service func(context.Context) error, work func(context.Context)) error {
	working, stopWork := context.WithCancel(ctx)
	defer stopWork()
	serving, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	defer stopServing()
	var running sync.WaitGroup
	var failed error
	running.Go(func() {
		failed = service(serving)
		stopWork()
	})
	work(working)
	stopServing()
	running.Wait()
	return failed
}

// withPages serves the pages while work runs.
func withPages(ctx context.Context, server *web.Server, work func(context.Context)) error {
	err := alongside(ctx, server.Run, func(ctx context.Context) {
		server.SetReady(true)
		work(ctx)
		server.SetReady(false)
	})
	if err != nil && !errors.Is(err, http.ErrServerClosed) {
		return workError(fmt.Errorf("web: %w", err))
	}
	return nil
}
