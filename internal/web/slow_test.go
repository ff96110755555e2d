package web

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// oneConn is a listener with one connection to accept.
type oneConn struct {
	conns chan net.Conn
	done  chan struct{}
}

func (l *oneConn) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *oneConn) Close() error   { close(l.done); return nil }
func (l *oneConn) Addr() net.Addr { return &net.TCPAddr{} }

// TestSlowClients: a client that sends its request a byte a second, or that asks for nothing more, is hung up on.
func TestSlowClients(t *testing.T) {
	for _, tt := range []struct {
		name, ask string
		limit     time.Duration
	}{
		{"drips", "", readTimeout},
		{"asks no more", "GET /-/healthy HTTP/1.1\r\nHost: a\r\n\r\n", idleTimeout},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := NewServer(Options{Gatherer: prometheus.NewRegistry(), Registerer: prometheus.NewRegistry(),
					Logger: slog.New(slog.DiscardHandler)}).newServer()
				client, server := net.Pipe()
				l := &oneConn{make(chan net.Conn, 1), make(chan struct{})}
				l.conns <- server
				ended := make(chan error)
				go func() { ended <- s.Serve(l) }()
				start := time.Now()
				var writing sync.WaitGroup
				writing.Go(func() {
					_, err := io.WriteString(client, tt.ask)
					for tt.ask == "" && err == nil {
						_, err = io.WriteString(client, "G")
						time.Sleep(time.Second)
					}
				})
				if _, err := io.Copy(io.Discard, client); err != nil {
					t.Error(err)
				}
				if took := time.Since(start); took < tt.limit || took > tt.limit+2*time.Second {
					t.Errorf("it was hung up on after %v, want %v", took, tt.limit)
				}
				client.Close()
				writing.Wait()
				s.Close()
				if err := <-ended; err != http.ErrServerClosed {
					t.Error(err)
				}
			})
		})
	}
}
