package sim

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"time"
)

// Times of Serve's HTTP server.
const (
	idleTimeout   = 5 * time.Second // of a kept-alive connection: uvicorn's, and so vLLM's
	headerTimeout = 10 * time.Second
	drainTimeout  = 5 * time.Second // for clients to take the ends of their streams at shutdown
)

// Serve runs the server on l until ctx ends: Run, and an HTTP server around it. Streams in flight then end as Run says;
// connections that are not through with it after five seconds are closed. It returns nil after such an end, else the
// listener's error. It closes l.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	server := &http.Server{
		Handler:           s,
		ConnContext:       withConn,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		ErrorLog:          log.New(io.Discard, "", 0), // broken connections are this server's business
	}
	ran := make(chan struct{})
	go func() {
		defer close(ran)
		_ = s.Run(ctx) // which ends with ctx
		drain, stop := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
		defer stop()
		if server.Shutdown(drain) != nil {
			server.Close()
		}
	}()
	err := server.Serve(listener{l, s.opts.SendTimes})
	cancel()
	<-ran
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
