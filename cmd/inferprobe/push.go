package main

import (
	"context"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/version"

	"github.com/inferprobe/inferprobe/internal/otlp"
)

// startPush begins to push metrics over OTLP.
func startPush(ctx context.Context, s *session, metrics prometheus.Gatherer) (*otlp.Pusher, error) {
	name, err := replicaName()
	if err != nil {
		return nil, usageError(fmt.Errorf("--otlp.enable: %w", err))
	}
	s.redactor.Add(otlp.Secrets()...)
	pusher, err := otlp.Start(ctx, otlp.Options{
		Gatherer: metrics, Version: version.Version, Instance: name, Log: s.log,
	})
	if err != nil {
		return nil, usageError(fmt.Errorf("--otlp.enable: %w", err))
	}
	return pusher, nil
}
