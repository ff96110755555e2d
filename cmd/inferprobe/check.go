package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/inferprobe/inferprobe/internal/config"
	"github.com/inferprobe/inferprobe/internal/metrics"
)

func newCheck() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Validate the configuration and tell what it costs",
		Long: `check reads the configuration as serve does and names every error at once, with its file, line and key, and
warns of what is valid but does something else than it seems to. It sends nothing to any endpoint. Exit code 0 if the
configuration is good, 2 if not.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := load(cmd, file)
			if err != nil {
				return err
			}
			if file == "" {
				file = "the environment"
			}
			var text strings.Builder
			fmt.Fprintf(&text, "%s is valid: %s\n", file, count(len(c.Endpoints), "endpoint"))
			for i := range c.Endpoints {
				describe(&text, &c.Endpoints[i], metrics.Mode(c.Metrics.Histograms))
			}
			describeWarnings(&text, c.Warnings)
			if _, err := io.WriteString(cmd.OutOrStdout(), text.String()); err != nil {
				return workError(err)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&file, "config.file", "", "configuration `file` (default: the environment, as serve)")
	return cmd
}

// describeWarnings lists what is valid and hardly meant, one a line as editors take them.
func describeWarnings(w io.Writer, warnings config.Errors) {
	if len(warnings) > 0 {
		fmt.Fprintf(w, "\n%s:\n%v\n", count(len(warnings), "warning"), warnings)
	}
}

// describe tells what measuring an endpoint will cost it, and Prometheus.
func describe(w io.Writer, e *config.Endpoint, histograms metrics.Mode) {
	c := e.Cost()
	var stages int
	fmt.Fprintf(w, "\n%s\n  endpoint  %s\n", e.Name, e.URL)
	describeRequests(w, e)
	if e.Sweep.Scheduled() {
		stages += c.Stages
		describeCycles(w, e, c)
	}
	if c.CanariesPerDay > 0 {
		stages++
		fmt.Fprintf(w, "  canary    every %s, %s tokens a day\n", e.Canary.Interval, tokens(c.CanaryTokens))
	}
	if limit := float64(e.Guards.TokensPerDay); limit > 0 {
		fmt.Fprintf(w, "  budget    %s tokens a day; when they are used up, the endpoint is left alone until midnight UTC\n",
			tokens(limit))
	}
	fmt.Fprintf(w, "  series    %d in Prometheus with histograms: %s\n", metrics.Series(histograms, stages), histograms)
}

// describeRequests tells what requests to an endpoint have that those to others have not.
func describeRequests(w io.Writer, e *config.Endpoint) {
	var headers, tls []string
	for _, h := range e.Headers {
		if from := h.ValueFile + h.ValueEnv; from != "" {
			h.Name += " from " + from
		}
		headers = append(headers, h.Name)
	}
	for _, part := range []struct{ what, value string }{
		{"authorities of ", e.TLS.CAFile}, {"certificate of ", e.TLS.CertFile}, {"server name ", e.TLS.ServerName},
	} {
		if part.value != "" {
			tls = append(tls, part.what+part.value)
		}
	}
	if e.TLS.InsecureSkipVerify {
		tls = append(tls, "any certificate")
	}
	for _, line := range []struct {
		what  string
		parts []string
	}{{"headers", headers}, {"tls", tls}, {"body", e.ExtraBody.Names()}} {
		if len(line.parts) > 0 {
			fmt.Fprintf(w, "  %-9s %s\n", line.what, strings.Join(line.parts, ", "))
		}
	}
}

func describeCycles(w io.Writer, e *config.Endpoint, c config.Cost) {
	fmt.Fprintf(w, "  cycle     %s, at most %s, %s a day\n", count(c.Stages, "stage"), c.LongestCycle.Round(time.Second),
		plain(c.CyclesPerDay))
	if c.TokensPerDay > 0 {
		fmt.Fprintf(w, "            at most %s tokens a day: %.0f requests a cycle of %d tokens\n",
			tokens(c.TokensPerDay), c.RequestsPerCycle, c.TokensPerRequest)
		return
	}
	seconds := e.Sweep.MaxDuration.Seconds()
	fmt.Fprintf(w, "            as fast as the endpoint is: about %.0f s × (%s × synchronous + %s × throughput req/s) requests\n"+
		"            of %d tokens; at 1 and 20 req/s that is %s tokens a day\n",
		seconds, plain(c.Synchronous), plain(c.Throughput), c.TokensPerRequest,
		tokens(c.CyclesPerDay*float64(c.TokensPerRequest)*seconds*(c.Synchronous+20*c.Throughput)))
}

// count says how many of something there are.
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// tokens formats a number of tokens as the configuration takes it: 20M, 1.5k.
func tokens(n float64) string {
	for _, unit := range []struct {
		size float64
		name string
	}{{1e9, "G"}, {1e6, "M"}, {1e3, "k"}} {
		if n >= unit.size {
			return plain(n/unit.size) + unit.name
		}
	}
	return fmt.Sprintf("%.0f", n)
}

// plain formats a number to three digits, or as many as are before its point.
func plain(n float64) string {
	if n >= 100 {
		return fmt.Sprintf("%.0f", n)
	}
	return fmt.Sprintf("%.3g", n)
}
