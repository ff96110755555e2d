package web

import (
	"context"
	"errors"
	"net/http"
)

// Control is what an operator can make the daemon do. Its methods are called from many goroutines and return soon.
type Control interface {
	// Reload reads the configuration anew and applies it. Its error says what is wrong; nothing has changed then. ctx
	// ends when the client hangs up, which must not leave a reload half done.
	Reload(ctx context.Context) error
	// RunNow starts a cycle of the endpoint that is not due yet. It does not wait for its end.
	RunNow(name string) error
	// Pause ends what runs on the endpoint, and lets nothing start on it by itself any more.
	Pause(name string) error
	// Resume ends a pause.
	Resume(name string) error
}

// Errors of a Control, to be wrapped: the text of the error becomes the answer. Any other error is a fault of the
// daemon and is answered with 500.
var (
	ErrUnknownEndpoint = errors.New("there is no endpoint of that name")                      // 404
	ErrConflict        = errors.New("the endpoint's state does not allow that at the moment") // 409
)

// disabled is the answer of Control's paths where the operator has not enabled them.
const disabled = "The lifecycle API is not enabled; start inferprobe with --web.enable-lifecycle.\n"

// controlRoutes adds the paths that change something. Other methods than POST are answered with 405.
func (s *Server) controlRoutes(mux *http.ServeMux) {
	control := s.options.Control
	handle := func(path string, h http.HandlerFunc) {
		if !s.options.Lifecycle {
			h = func(w http.ResponseWriter, _ *http.Request) { plainText(w, http.StatusForbidden, disabled) }
		}
		mux.HandleFunc("POST "+path, h)
	}
	handle("/-/reload", s.reload)
	handle("/api/v1/endpoints/{name}/run", func(w http.ResponseWriter, r *http.Request) {
		s.act(w, r, http.StatusAccepted, control.RunNow)
	})
	handle("/api/v1/endpoints/{name}/pause", func(w http.ResponseWriter, r *http.Request) {
		s.act(w, r, http.StatusOK, control.Pause)
	})
	handle("/api/v1/endpoints/{name}/resume", func(w http.ResponseWriter, r *http.Request) {
		s.act(w, r, http.StatusOK, control.Resume)
	})
}

func (s *Server) reload(w http.ResponseWriter, r *http.Request) {
	if err := s.options.Control.Reload(r.Context()); err != nil {
		plainText(w, http.StatusInternalServerError, "The configuration was not reloaded: "+err.Error()+"\n")
		return
	}
	plainText(w, http.StatusOK, "The configuration was reloaded.\n")
}

// act does something to the endpoint that the path names, and answers with the endpoint's state after it.
func (s *Server) act(w http.ResponseWriter, r *http.Request, done int, do func(name string) error) {
	switch err := do(r.PathValue("name")); {
	case errors.Is(err, ErrUnknownEndpoint):
		s.fail(w, http.StatusNotFound, err.Error())
	case errors.Is(err, ErrConflict):
		s.fail(w, http.StatusConflict, err.Error())
	case err != nil:
		s.fail(w, http.StatusInternalServerError, err.Error())
	default:
		s.showEndpoint(w, r, done)
	}
}
