package sim

import (
	"bytes"
	"crypto/subtle"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// ServeHTTP answers as an inference server would, on
//
//	POST /v1/chat/completions, /v1/completions   as vLLM; FaultHeader asks for faults
//	GET  /v1/models, /health, /version, /metrics as vLLM, as far as a prober looks
//	GET  /truth?since=NS                         Truth as JSON lines; DELETE clears it
//	GET  /sim/faults                             Faults, and what SetFaults has set
//	POST /sim/faults                             SetFaults: {"faults":[{"fault":"fin=3","probability":0.1}]}
//	POST /sim/slowdown?factor=2                  SetSlowdown
//	POST /sim/freeze?for=2s                      Freeze
//	POST /sim/users?n=4                          SetUsers
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

func (s *Server) routes() *http.ServeMux {
	mux := http.NewServeMux()
	generate := func(chat bool) http.Handler {
		return s.authorized(func(w http.ResponseWriter, r *http.Request) { s.generate(w, r, chat) })
	}
	mux.Handle("POST /v1/chat/completions", generate(true))
	mux.Handle("POST /v1/completions", generate(false))
	mux.Handle("GET /v1/models", s.authorized(s.serveModels))
	mux.HandleFunc("GET /health", s.serveHealth)
	mux.HandleFunc("GET /version", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, `{"version":"`+systemFingerprint+`"}`)
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.metrics(), promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /truth", s.serveTruth)
	mux.HandleFunc("DELETE /truth", s.clearTruth)
	mux.HandleFunc("GET /sim/faults", s.serveFaults)
	mux.HandleFunc("POST /sim/faults", s.changeFaults)
	mux.HandleFunc("POST /sim/slowdown", s.changeSlowdown)
	mux.HandleFunc("POST /sim/freeze", s.freezeNow)
	mux.HandleFunc("POST /sim/users", s.changeUsers)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusNotFound, `{"detail":"Not Found"}`)
	})
	return mux
}

// authorized lets requests through that carry the key, if there is one.
func (s *Server) authorized(next http.HandlerFunc) http.Handler {
	want := []byte("Bearer " + s.opts.APIKey)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got := []byte(r.Header.Get("Authorization"))
		if s.opts.APIKey != "" && subtle.ConstantTimeCompare(got, want) != 1 {
			s.statusError(http.StatusUnauthorized).write(w)
			return
		}
		next(w, r)
	})
}

func (s *Server) serveModels(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, fmt.Sprintf(`{"object":"list","data":[{"id":%s,"object":"model","created":%d,`+
		`"owned_by":"inferprobe-sim","root":%s,"parent":null,"max_model_len":%d}]}`,
		s.shapes.model, s.created, s.shapes.model, s.opts.MaxModelLen))
}

func (s *Server) serveHealth(w http.ResponseWriter, _ *http.Request) {
	status := http.StatusOK
	if s.isClosing() {
		status = http.StatusServiceUnavailable
	}
	w.WriteHeader(status)
}

// generate answers one completion request and keeps its record.
func (s *Server) generate(w http.ResponseWriter, r *http.Request, chat bool) {
	x := s.exchange(w, r)
	defer s.release(x)
	defer func() { // before the client can see the end of the body, or of the connection
		s.served.count(&x.record.Record)
		s.truth.end(x.record)
	}()
	x.identify(chat)
	if s.isClosing() {
		x.refuse(s.statusError(http.StatusServiceUnavailable))
		return
	}
	j, failure := s.readJob(r, &x.body, chat, x.random)
	if failure != nil {
		x.refuse(failure)
		return
	}
	x.answer(j)
}

func (s *Server) isClosing() bool {
	select {
	case <-s.closing:
		return true
	default:
		return false
	}
}

// exchange is one request and its answer under way. It is used by the request's goroutine alone, and reused.
type exchange struct {
	s        *Server
	w        http.ResponseWriter
	r        *http.Request
	conn     *conn // nil unless Serve accepted it
	received time.Time
	record   *entry
	source   rand.PCG
	random   *rand.Rand
	body     bytes.Buffer
	id       []byte // of the response, as in a JSON string
	enc      encoder
	buf      []byte // the events sent last, for reuse
	out      sink
	job      *job
	q        *sequence
	comments <-chan time.Time // when one is due; nil without that fault
	hijacked net.Conn         // to be closed at the end; nil unless a fault took it
}

// exchange returns an exchange for a request whose head has been read.
func (s *Server) exchange(w http.ResponseWriter, r *http.Request) *exchange {
	conn := connOf(r)
	received := conn.receivedAt(time.Now())
	x, _ := s.exchanges.Get().(*exchange)
	if x == nil {
		x = &exchange{s: s}
		x.random = rand.New(&x.source)
	}
	x.w, x.r, x.conn, x.received, x.record = w, r, conn, received, s.truth.begin(received)
	x.source.Seed(s.opts.Seed, s.arrived.Add(1))
	return x
}

// release closes a connection that a fault took over, and keeps x's memory for another request unless a huge event has
// bloated it.
func (s *Server) release(x *exchange) {
	if x.hijacked != nil {
		x.hijacked.Close()
	}
	if max(cap(x.buf), cap(x.out.held), x.body.Cap()) > 1<<20 {
		return
	}
	x.w, x.r, x.conn, x.record, x.job, x.q, x.comments, x.hijacked = nil, nil, nil, nil, nil, nil, nil, nil
	x.body.Reset()
	x.out = sink{held: x.out.held[:0]}
	s.exchanges.Put(x)
}

// identify makes the response's id, as vLLM does: from X-Request-Id, or at random.
func (x *exchange) identify(chat bool) {
	x.id = append(x.id[:0], "cmpl-"...)
	if chat {
		x.id = append(x.id[:0], "chatcmpl-"...)
	}
	if name := x.r.Header.Get("X-Request-Id"); name != "" {
		x.record.RequestID = name
		x.record.ID = string(x.id) + name
		quoted := quote(name)
		x.id = append(x.id, quoted[1:len(quoted)-1]...)
		return
	}
	const digits = 16
	number := strconv.AppendUint(nil, x.random.Uint64(), 16)
	x.id = append(x.id, "0000000000000000"[:digits-len(number)]...)
	x.id = append(x.id, number...)
	x.record.ID = string(x.id)
}

// refuse answers with an error.
func (x *exchange) refuse(e *apiError) {
	x.record.Outcome, x.record.Status = OutcomeRejected, e.status
	e.write(x.w)
}
