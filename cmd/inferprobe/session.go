package main

import (
	"context"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"github.com/inferprobe/inferprobe/internal/config"
	"github.com/inferprobe/inferprobe/internal/logging"
	"github.com/inferprobe/inferprobe/internal/probe"
	"github.com/inferprobe/inferprobe/internal/tokenizer"
)

// session is what every command that measures needs.
type session struct {
	config   *config.Config
	reload   func() (*config.Config, error) // reads the configuration anew; nil where it cannot change
	hub      *tokenizer.Hub
	screen   *screen
	log      *slog.Logger
	redactor *logging.Redactor
}

// begin loads the configuration and sets up log and screen.
func begin(cmd *cobra.Command, file string, l *logFlags) (*session, error) {
	c, err := load(cmd, file)
	if err != nil {
		return nil, err
	}
	s, err := beginWith(c, l)
	if err != nil {
		return nil, err
	}
	s.reload = func() (*config.Config, error) {
		c, err := load(cmd, file)
		if err == nil {
			s.redactor.Rotate(c.Secrets()...)
			s.warn(c)
		}
		return c, err
	}
	return s, nil
}

func beginWith(c *config.Config, l *logFlags) (*session, error) {
	hub, err := tokenizer.HubFromEnv(os.Getenv)
	if err != nil {
		return nil, usageError(err)
	}
	s := &session{
		config: c, hub: hub, screen: newScreen(file{os.Stdout}, file{os.Stderr}, os.Getenv),
		redactor: new(logging.Redactor),
	}
	s.redactor.Add(hub.Token)
	s.redactor.Rotate(c.Secrets()...)
	if s.log, err = logging.New(s.screen, l.format, l.level, s.redactor); err != nil {
		return nil, usageError(err)
	}
	s.screen.log, hub.Logger = s.log, s.log
	return s, nil
}

// warn logs what is valid in a configuration and hardly meant.
func (s *session) warn(c *config.Config) {
	for _, w := range c.Warnings {
		s.log.Warn("the configuration may not do what it seems to", "warning", w.Error())
	}
}

// announceEnd logs the end of ctx, which a signal brings about.
func (s *session) announceEnd(ctx context.Context) {
	context.AfterFunc(ctx, func() { s.log.Info("told to stop: ending what runs; a second signal ends at once") })
}

// printReport writes a cycle's report to standard output, and reports whether it could.
func (s *session) printReport(c *probe.Cycle) bool {
	text, err := render(kindText, s.screen.width(), []*probe.Cycle{c})
	if err == nil {
		err = s.screen.print(text)
	}
	if err != nil {
		s.log.Error("the report could not be written to standard output", "endpoint", c.Endpoint.Name, "error", reasonOf(err))
	}
	return err == nil
}
