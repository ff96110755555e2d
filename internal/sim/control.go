package sim

import (
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"time"
)

// serveTruth sends the records as JSON lines; ?since= takes the received_ns from which on.
func (s *Server) serveTruth(w http.ResponseWriter, r *http.Request) {
	var since time.Time
	if text := r.FormValue("since"); text != "" {
		ns, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			badRequest("since", "since is %q, must be nanoseconds since 1970", text).write(w)
			return
		}
		since = time.Unix(0, ns)
	}
	w.Header().Set("Content-Type", "application/jsonl")
	lines := json.NewEncoder(w)
	for _, record := range s.Truth(since) {
		if lines.Encode(record) != nil {
			return // the client is gone
		}
	}
}

func (s *Server) clearTruth(w http.ResponseWriter, _ *http.Request) {
	s.ClearTruth()
	w.WriteHeader(http.StatusNoContent)
}

// faultState is what /sim/faults tells and takes.
type faultState struct {
	Known  []FaultInfo `json:"known,omitempty"`
	Faults []FaultRate `json:"faults"` // given at random
}

func (s *Server) serveFaults(w http.ResponseWriter, _ *http.Request) {
	state := faultState{Known: Faults(), Faults: []FaultRate{}}
	for _, f := range *s.faults.Load() {
		state.Faults = append(state.Faults, f.FaultRate)
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(state)
}

func (s *Server) changeFaults(w http.ResponseWriter, r *http.Request) {
	var state faultState
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(&state)
	if err == nil {
		err = s.SetFaults(state.Faults)
	}
	if err != nil {
		badRequest("faults", `%v; the body must be like {"faults":[{"fault":"fin=3","probability":0.1}]}`, err).write(w)
		return
	}
	s.serveFaults(w, r)
}

func (s *Server) changeSlowdown(w http.ResponseWriter, r *http.Request) {
	factor, err := strconv.ParseFloat(r.FormValue("factor"), 64)
	if err == nil {
		err = s.SetSlowdown(factor)
	}
	if err != nil {
		badRequest("factor", "%v; POST /sim/slowdown?factor=2 makes everything take twice as long", err).write(w)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (s *Server) freezeNow(w http.ResponseWriter, r *http.Request) {
	d, err := time.ParseDuration(r.FormValue("for"))
	if err != nil || d <= 0 {
		badRequest("for", "for is %q; POST /sim/freeze?for=2s stops every step for 2 s", r.FormValue("for")).write(w)
		return
	}
	s.Freeze(d)
	io.Copy(io.Discard, r.Body)
	w.WriteHeader(http.StatusNoContent)
}
