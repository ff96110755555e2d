package web

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// maxScrapes is how many scrapes are answered at once: two Prometheus servers and a curious person.
const maxScrapes = 4

const noCycle = "there is no cycle of that ID, or no longer"

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.options.Gatherer, promhttp.HandlerOpts{
		Registry:            s.options.Registerer,
		ErrorLog:            printer{s.options.Logger},
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: maxScrapes,
		EnableOpenMetrics:   true,
	}))
	mux.HandleFunc("GET /-/healthy", func(w http.ResponseWriter, _ *http.Request) {
		plainText(w, http.StatusOK, "inferprobe is healthy.\n")
	})
	mux.HandleFunc("GET /-/ready", func(w http.ResponseWriter, _ *http.Request) {
		if !s.ready.Load() {
			plainText(w, http.StatusServiceUnavailable, "inferprobe is starting or stopping.\n")
			return
		}
		plainText(w, http.StatusOK, "inferprobe is ready.\n")
	})
	mux.HandleFunc("GET /{$}", s.showStatus)
	mux.HandleFunc("GET /endpoints/{name}", s.showEndpointPage)
	mux.HandleFunc("GET /cycles/{id}", s.showCyclePage)
	mux.HandleFunc("GET /api/v1/endpoints", func(w http.ResponseWriter, _ *http.Request) {
		s.json(w, http.StatusOK, map[string]any{"endpoints": s.endpoints()})
	})
	mux.HandleFunc("GET /api/v1/endpoints/{name}", func(w http.ResponseWriter, r *http.Request) {
		s.showEndpoint(w, r, http.StatusOK)
	})
	mux.HandleFunc("GET /api/v1/cycles/{id}", s.cycle)
	s.controlRoutes(mux)
	return secured(http.NewCrossOriginProtection().Handler(mux))
}

// endpoints returns every endpoint, with lists that are empty where there is nothing to list.
func (s *Server) endpoints() []EndpointStatus {
	list := slices.Clone(s.options.State.Endpoints())
	for i := range list {
		if list[i].Cycles == nil {
			list[i].Cycles = []CycleStatus{}
		}
	}
	if list == nil {
		list = []EndpointStatus{}
	}
	return list
}

// find returns the endpoint that the path names.
func (s *Server) find(r *http.Request) (EndpointStatus, bool) {
	name := r.PathValue("name")
	for _, e := range s.endpoints() {
		if e.Name == name {
			return e, true
		}
	}
	return EndpointStatus{}, false
}

// showEndpoint answers with the endpoint that the path names, and with the given status if there is one.
func (s *Server) showEndpoint(w http.ResponseWriter, r *http.Request, status int) {
	e, ok := s.find(r)
	if !ok {
		s.fail(w, http.StatusNotFound, ErrUnknownEndpoint.Error())
		return
	}
	s.json(w, status, e)
}

func (s *Server) cycle(w http.ResponseWriter, r *http.Request) {
	report, ok := s.options.State.Report(r.PathValue("id"))
	if !ok {
		s.fail(w, http.StatusNotFound, noCycle)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(report) //nolint:gosec // JSON to a browser, too: its type is not guessed
}

// fail answers with an error.
func (s *Server) fail(w http.ResponseWriter, status int, message string) {
	s.json(w, status, map[string]string{"error": message})
}

// json answers with v. It is encoded first, so that an error of ours is not half an answer.
func (s *Server) json(w http.ResponseWriter, status int, v any) {
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(v); err != nil {
		s.options.Logger.Error("an answer could not be encoded", "err", err)
		plainText(w, http.StatusInternalServerError, "The answer could not be encoded; the log says why.\n")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(body.Bytes())
}

func plainText(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	w.Write([]byte(text))
}

// secured adds the headers that keep a browser from doing more with an answer than showing it. The names of models and
// the error texts on the pages come from servers that need not be ours.
func secured(next http.Handler) http.Handler {
	standard := policy(pageCSS)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", standard)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}
