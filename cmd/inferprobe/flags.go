package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/inferprobe/inferprobe/internal/config"
)

// logFlags are --log.level and --log.format.
type logFlags struct{ level, format string }

func (l *logFlags) add(fs *pflag.FlagSet) {
	fs.StringVar(&l.level, "log.level", "info", "`level` from which on to log: debug, info, warn or error")
	fs.StringVar(&l.format, "log.format", "auto", "`format` of the log: text, json or auto (text on a terminal)")
}

// endpointKeys is the configuration key behind each flag that describes an endpoint.
func endpointKeys() map[string]string {
	return map[string]string{
		"url": "url", "model": "model", "tokenizer": "tokenizer", "api": "api",
		"prompt-tokens": "sweep.prompt_tokens", "output-tokens": "sweep.output_tokens",
		"profile": "sweep.profile", "rate": "sweep.rate", "rates": "sweep.rates",
		"max-seconds": "sweep.max_duration", "max-requests": "sweep.max_requests",
		"header": "headers", "ca-file": "tls.ca_file", "insecure-skip-verify": "tls.insecure_skip_verify",
		"max-concurrency": "sweep.max_concurrency", "shared-prefix-tokens": "sweep.shared_prefix_tokens",
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
	fs.StringArray("header", nil, "`header` of every request, as \"X-Tenant: search\"; its value is kept secret; repeatable")
	fs.String("ca-file", "", "`file` with the authorities to trust in place of the system's, in PEM")
	fs.Bool("insecure-skip-verify", false, "do not look at the endpoint's certificate")
	fs.String("profile", "sweep", "sweep, synchronous, throughput, constant or poisson")
	fs.StringSlice("rate", nil, "`requests` per second of the constant and poisson profiles; repeatable, one stage each")
	for _, f := range []struct{ name, value, usage string }{
		{"prompt-tokens", "512", "tokens of each synthetic prompt"},
		{"shared-prefix-tokens", "0", "first tokens that all prompts share, to measure the prefix cache (default none)"},
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
	c, err := loadFrom(cmd, file)
	if err != nil {
		return nil, configError(err)
	}
	if f := cmd.Flags().Lookup(historyDir); f != nil && f.Changed {
		c.History.Dir = f.Value.String()
	}
	return c, nil
}

func loadFrom(cmd *cobra.Command, file string) (*config.Config, error) {
	keys := endpointKeys()
	if file != "" {
		for name := range keys {
			if f := cmd.Flags().Lookup(name); f != nil && f.Changed {
				return nil, fmt.Errorf("--%s describes an endpoint and --config.file does too; use one of them", name)
			}
		}
		return config.Load(file)
	}
	if cmd.Flags().Lookup("url") == nil {
		keys = nil // a command that takes its endpoint from the environment
	}
	return config.FromFlags(cmd.Flags(), keys)
}

// historyDir is the flag that names the folder of finished cycles.
const historyDir = "history.dir"

// configError is a usage error with every mistake on a line of its own, as editors take them.
func configError(err error) error {
	var all config.Errors
	if errors.As(err, &all) && len(all) > 1 {
		err = fmt.Errorf("%d mistakes in the configuration\n%w", len(all), err)
	}
	return usageError(err)
}
