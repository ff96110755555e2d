// Package simtest starts simulated servers for tests.
package simtest

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/inferprobe/inferprobe/internal/sim"
)

// Start serves a simulator on a loopback port until the test ends, and returns it with its address, "http://host:port".
func Start(tb testing.TB, opts sim.Options) (*sim.Server, string) {
	tb.Helper()
	server, err := sim.New(opts)
	if err != nil {
		tb.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, listener) }()
	tb.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			tb.Errorf("simulator: %v", err)
		}
	})
	return server, "http://" + listener.Addr().String()
}

// Truth returns every record of s once no request is being served any more.
func Truth(tb testing.TB, s *sim.Server) []sim.Record {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := s.Wait(ctx); err != nil {
		tb.Fatalf("the simulator is still serving: %v", err)
	}
	return s.Truth(time.Time{})
}
