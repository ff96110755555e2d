package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/inferprobe/inferprobe/internal/config"
	"github.com/inferprobe/inferprobe/internal/logging"
	"github.com/inferprobe/inferprobe/internal/tokenizer"
)

// logFlags are --log.level and --log.format.
type logFlags struct{ level, format string }

func (l *logFlags) add(fs *pflag.FlagSet) {
	fs.StringVar(&l.level, "log.level", "info", "debug, info, warn or error")
	fs.StringVar(&l.format, "log.format", "auto", "auto (coloured text on a terminal, else JSON), text or json")
}

// logger returns a logger to w that hides the secrets.
func (l *logFlags) logger(w io.Writer, secrets []string) (*slog.Logger, error) {
	redactor := new(logging.Redactor)
	redactor.Add(secrets...)
	log, err := logging.New(w, l.format, l.level, redactor)
	if err != nil {
		return nil, usageError(err)
	}
	return log, nil
}

// endpointFlags describe one endpoint without a file: flag → key of the configuration.
var endpointFlags = map[string]string{
	"url": "url", "model": "model", "tokenizer": "tokenizer", "api": "api",
	"prompt-tokens": "sweep.prompt_tokens", "output-tokens": "sweep.output_tokens",
	"profile": "sweep.profile", "rate": "sweep.rate", "rates": "sweep.rates",
	"max-seconds": "sweep.max_duration", "max-requests": "sweep.max_requests",
	"max-concurrency": "sweep.max_concurrency",
}

func addEndpointFlags(fs *pflag.FlagSet) {
	fs.String("url", "", "base URL of the endpoint, with or without /v1 (default $OPENAI_API_BASE_URL)")
	fs.String("model", "", "model to measure (default $MODEL, else the first that the server lists)")
	fs.String("tokenizer", "", "Hub repository, folder or tokenizer.json (default $TOKENIZER, else the model)")
	fs.String("api", "chat", "chat or completions")
	fs.String("prompt-tokens", "512", "tokens of each synthetic prompt")
	fs.String("output-tokens", "128", "tokens of each answer")
	fs.String("profile", "sweep", "sweep, synchronous, throughput, constant or poisson")
	fs.StringSlice("rate", nil, "requests per second of the constant and poisson profiles; repeat it for one stage each")
	fs.String("rates", "9", "constant rates of a sweep, between synchronous and throughput")
	fs.Var(new(config.Seconds), "max-seconds", "limit of each stage (default 120)")
	fs.String("max-requests", "0", "limit of each stage, 0 for none")
	fs.String("max-concurrency", "512", "requests in flight of the throughput stage")
}

// load reads the configuration: from the file if one is named, else one endpoint from flags and environment.
func load(cmd *cobra.Command, file string) (*config.Config, error) {
	if file == "" {
		c, err := config.FromFlags(cmd.Flags(), endpointFlags)
		if err != nil {
			return nil, usageError(err)
		}
		return c, nil
	}
	for name := range endpointFlags {
		if f := cmd.Flags().Lookup(name); f != nil && f.Changed {
			return nil, usageError(fmt.Errorf("--%s describes an endpoint and --config.file does too; use one of them", name))
		}
	}
	c, err := config.Load(file)
	if err != nil {
		return nil, usageError(err)
	}
	return c, nil
}

// started is what every command that measures needs.
type started struct {
	config *config.Config
	hub    *tokenizer.Hub
	screen *screen
	log    *slog.Logger
}

// start loads the configuration and sets up log and screen.
func start(cmd *cobra.Command, file string, l *logFlags) (*started, error) {
	c, err := load(cmd, file)
	if err != nil {
		return nil, err
	}
	return startWith(c, l)
}

func startWith(c *config.Config, l *logFlags) (*started, error) {
	hub, err := tokenizer.HubFromEnv(os.Getenv)
	if err != nil {
		return nil, usageError(err)
	}
	s := &started{config: c, hub: hub, screen: newScreen()}
	if s.log, err = l.logger(s.screen, append(c.Secrets(), hub.Token)); err != nil {
		return nil, err
	}
	s.screen.log, hub.Logger = s.log, s.log
	for _, w := range c.Warnings {
		s.log.Warn(w.Error())
	}
	return s, nil
}
