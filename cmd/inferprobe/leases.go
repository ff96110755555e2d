package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/pflag"

	"github.com/inferprobe/inferprobe/internal/lease"
)

// podName is the variable from which a replica knows its name; without it the host name, which is the pod's, will do.
const podName = "POD_NAME"

// leaseFlags say whether replicas share the endpoints.
type leaseFlags struct {
	enable   bool
	name     string
	duration time.Duration
}

func (l *leaseFlags) add(fs *pflag.FlagSet) {
	fs.BoolVar(&l.enable, "lease.enable", false,
		"share the endpoints with other replicas, by one Kubernetes Lease each in this pod's namespace")
	fs.StringVar(&l.name, "lease.name", "inferprobe", "`name` that replicas have in common, and no other installation")
	fs.DurationVar(&l.duration, "lease.duration", lease.DefaultDuration,
		"`time` after which another replica takes over from one that has died")
}

// leases returns the Leases that the flags ask for, nil if they ask for none.
func (l *leaseFlags) leases(s *session) (*lease.Leases, error) {
	if !l.enable {
		return nil, nil
	}
	client, namespace, err := lease.InCluster()
	if err != nil {
		return nil, usageError(fmt.Errorf("--lease.enable: %w", err))
	}
	pod, err := replicaName()
	if err != nil {
		return nil, usageError(fmt.Errorf("--lease.enable: %w", err))
	}
	leases, err := lease.New(lease.Options{
		Client: client, Namespace: namespace, Name: l.name, Identity: pod, Duration: l.duration, Log: s.log,
	})
	if err != nil {
		return nil, usageError(fmt.Errorf("--lease.duration: %w", err))
	}
	return leases, nil
}

// replicaName returns what no other replica is called.
func replicaName() (string, error) {
	if pod := os.Getenv(podName); pod != "" {
		return pod, nil
	}
	name, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("this pod's name is not known: set %s", podName)
	}
	return name, nil
}

// withLeases runs work while the replica takes part in sharing the endpoints. Without the right to Leases, work ends at
// once.
func withLeases(ctx context.Context, leases *lease.Leases, work func(context.Context)) error {
	if leases == nil {
		work(ctx)
		return nil
	}
	if err := alongside(ctx, leases.Run, work); err != nil && !errors.Is(err, context.Canceled) {
		return workError(err)
	}
	return nil
}
