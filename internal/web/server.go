// Package web serves what people and Prometheus ask of a running daemon: /metrics, health, pages, and the same as JSON
// under /api/v1. It only shows, but for what Control offers, where the operator has enabled that.
package web

import (
	"context"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/exporter-toolkit/web"
)

// Limits on clients of the server. A scrape of many endpoints takes a second or so; nobody else takes long.
const (
	readTimeout   = 10 * time.Second
	writeTimeout  = time.Minute
	idleTimeout   = 2 * time.Minute
	drainTimeout  = 5 * time.Second // for what is being answered when the server is told to stop
	maxHeaderSize = 64 << 10
)

// Options of a Server.
type Options struct {
	Addresses  []string // to listen on, such as ":9090"
	ConfigFile string   // exporter-toolkit's web configuration: TLS, basic authentication; "" for neither
	Gatherer   prometheus.Gatherer
	Registerer prometheus.Registerer // for the handler's own metrics
	State      State
	Lifecycle  bool    // whether Control is on offer; if not, its paths answer 403
	Control    Control // never called without Lifecycle
	Logger     *slog.Logger
	Version    string // of this program, for the status page
}

// Server serves the daemon's state. It is not ready until SetReady says so.
type Server struct {
	options   Options
	page      *template.Template
	handler   http.Handler
	ready     atomic.Bool
	listeners []net.Listener
}

// NewServer returns a server that does not listen yet. It registers the metrics of its handler.
func NewServer(o Options) *Server {
	s := &Server{options: o, page: newPage()}
	s.handler = s.routes()
	return s
}

// Handler returns what answers requests, without the TLS and the authentication of the web configuration.
func (s *Server) Handler() http.Handler { return s.handler }

// SetReady says whether /-/ready answers 200 or 503.
func (s *Server) SetReady(ready bool) { s.ready.Store(ready) }

// Listen checks the web configuration and opens every address. Without it Run does so.
func (s *Server) Listen() error {
	if len(s.options.Addresses) == 0 {
		return errors.New("there is no address to listen on; give one, such as :9090")
	}
	if err := web.Validate(s.options.ConfigFile); err != nil {
		return fmt.Errorf("web configuration %s: %w", s.options.ConfigFile, err)
	}
	for _, address := range s.options.Addresses {
		l, err := net.Listen("tcp", address)
		if err != nil {
			s.close()
			return err
		}
		s.listeners = append(s.listeners, l)
	}
	return nil
}

// Addrs returns the addresses that are listened on.
func (s *Server) Addrs() []net.Addr {
	addrs := make([]net.Addr, len(s.listeners))
	for i, l := range s.listeners {
		addrs[i] = l.Addr()
	}
	return addrs
}

func (s *Server) close() {
	for _, l := range s.listeners {
		l.Close()
	}
	s.listeners = nil
}

// Run listens, unless Listen has, and serves until ctx ends. Then it is ready no more, finishes what it is answering,
// for some seconds at most, and returns nil. An error means that it could not serve.
func (s *Server) Run(ctx context.Context) error {
	if s.listeners == nil {
		if err := s.Listen(); err != nil {
			return err
		}
	}
	defer s.close()
	// A server for each listener: exporter-toolkit changes the server that it is given.
	servers := make([]*http.Server, len(s.listeners))
	ended := make(chan error, len(s.listeners))
	for i, l := range s.listeners {
		servers[i] = s.newServer()
		go func() {
			ended <- web.Serve(l, servers[i], &web.FlagConfig{WebConfigFile: &s.options.ConfigFile}, s.options.Logger)
		}()
	}
	var failed error
	running := len(servers)
	select {
	case failed = <-ended:
		running--
	case <-ctx.Done():
	}
	s.SetReady(false)
	s.drain(servers)
	for range running {
		<-ended //nolint:errcheck // the first failure is enough
	}
	return failed
}

func (s *Server) newServer() *http.Server {
	return &http.Server{
		Handler:        s.handler,
		ReadTimeout:    readTimeout,
		WriteTimeout:   writeTimeout,
		IdleTimeout:    idleTimeout,
		MaxHeaderBytes: maxHeaderSize,
		ErrorLog:       slog.NewLogLogger(s.options.Logger.Handler(), slog.LevelWarn),
	}
}

// drain lets every server finish what it is answering, and cuts off what takes too long.
func (s *Server) drain(servers []*http.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	for _, server := range servers {
		if err := server.Shutdown(ctx); err != nil {
			s.options.Logger.Warn("an answer was cut off", "err", err)
			server.Close()
		}
	}
}
