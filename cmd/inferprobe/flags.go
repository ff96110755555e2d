package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/inferprobe/inferprobe/internal/config"
	"github.com/inferprobe/inferprobe/internal/logging"
)

// logFlags are --log.level and --log.format.
type logFlags struct{ level, format string }

func (l *logFlags) add(fs *pflag.FlagSet) {
	fs.StringVar(&l.level, "log.level", "info", "`level` from which on to log: debug, info, warn or error")
	fs.StringVar(&l.format, "log.format", "auto", "`format` of the log: text, json or auto (text on a terminal)")
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

// endpointKeys is the configuration key behind each flag that describes an endpoint.
func endpointKeys() map[string]string {
	return map[string]string{
		"url": "url", "model": "model", "tokenizer": "tokenizer", "api": "api",
		"prompt-tokens": "sweep.prompt_tokens", "output-tokens": "sweep.output_tokens",
		"profile": "sweep.profile", "rate": "sweep.rate", "rates": "sweep.rates",
		"max-seconds": "sweep.max_duration", "max-requests": "sweep.max_requests",
		"max-concurrency": "sweep.max_concurrency",
	}
}

// number is a flag's value that config reads, so that all mistakes are told at once. To pflag it is a number.
type number string

func (n *number) Set(text string) error { *n = number(text); return nil }
func (n *number) String() string        { return string(*n) }
func (n *number) Type() string          { return "number" }

func addEndpointFlags(fs *pflag.FlagSet) {
	fs.String("url", "", "base `URL` of the endpoint, with or without /v1 (default $OPENAI_API_BASE_URL)")
	fs.String("model", "", "`name` of the model to measure (default $MODEL, else the first that the server lists)")
	fs.String("tokenizer", "", "Hub `repository`, folder or tokenizer.json (default $TOKENIZER, else the model)")
	fs.String("api", "chat", "chat or completions")
	fs.String("profile", "sweep", "sweep, synchronous, throughput, constant or poisson")
	fs.StringSlice("rate", nil, "`requests` per second of the constant and poisson profiles; repeatable, one stage each")
	for _, f := range []struct{ name, value, usage string }{
		{"prompt-tokens", "512", "tokens of each synthetic prompt"},
		{"output-tokens", "128", "tokens of each answer"},
		{"rates", "9", "constant rates of a sweep, between synchronous and throughput"},
		{"max-requests", "0", "limit of each stage (default none)"},
		{"max-concurrency", "512", "requests in flight of the throughput stage"},
	} {
		value := number(f.value)
		fs.Var(&value, f.name, f.usage)
	}
	seconds := config.Seconds(2 * time.Minute)
	fs.Var(&seconds, "max-seconds", "limit of each stage")
}

// load reads the configuration: from the file if one is named, else one endpoint from flags and environment.
func load(cmd *cobra.Command, file string) (*config.Config, error) {
	keys := endpointKeys()
	if file != "" {
		for name := range keys {
			if f := cmd.Flags().Lookup(name); f != nil && f.Changed {
				return nil, usageError(fmt.Errorf("--%s describes an endpoint and --config.file does too; use one of them", name))
			}
		}
		c, err := config.Load(file)
		return c, configError(err)
	}
	if cmd.Flags().Lookup("url") == nil {
		keys = nil // a command that takes its endpoint from the environment
	}
	c, err := config.FromFlags(cmd.Flags(), keys)
	return c, configError(err)
}

// configError is a usage error with every mistake on a line of its own, as editors take them.
func configError(err error) error {
	var all config.Errors
	switch {
	case err == nil:
		return nil
	case errors.As(err, &all) && len(all) > 1:
		return usageError(fmt.Errorf("%d mistakes in the configuration\n%w", len(all), err))
	}
	return usageError(err)
}
