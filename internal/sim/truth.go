package sim

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"slices"
	"sync"
	"time"
)

// Outcome is how a request ended, as the server saw it.
type Outcome string

// The outcomes.
const (
	OutcomeCompleted    Outcome = "completed"    // the whole answer was written
	OutcomeAborted      Outcome = "aborted"      // the server shut down, or the fault "abort"
	OutcomeDisconnected Outcome = "disconnected" // the client went away
	OutcomeRejected     Outcome = "rejected"     // an error status
	OutcomeFault        Outcome = "fault"        // a fault replaced the answer or cut it off
)

// Record is what really happened to one request. Times are of the wall clock (CLOCK_REALTIME), so that a client on the
// same host can compare its own with them.
type Record struct {
	ID           string    // of the response, as in every event: "chatcmpl-…", ending in the X-Request-Id if one came
	RequestID    string    // the X-Request-Id header
	Received     time.Time // when the request's head was complete
	PromptTokens int
	OutputTokens int // tokens that left, by Writes
	Status       int // HTTP status, 0 if none was sent
	Fault        string
	Outcome      Outcome
	FinishReason string // that was sent
	Writes       []Write
}

// Write is one write of events to the connection.
type Write struct {
	// Before and After are just before and just after the system call: it left between them. Where the kernel says when
	// it sent the write (Options.SendTimes) both are that time.
	Before, After time.Time
	Tokens        int // in the events that this write completed; 0 for role events, usage and the like
}

// jsonRecord is Record on the wire: times are nanoseconds since 1970, a write is [before, after, tokens].
type jsonRecord struct {
	ID           string     `json:"id"`
	RequestID    string     `json:"request_id,omitempty"`
	Received     int64      `json:"received_ns"`
	PromptTokens int        `json:"prompt_tokens"`
	OutputTokens int        `json:"output_tokens"`
	Status       int        `json:"status"`
	Fault        string     `json:"fault,omitempty"`
	Outcome      Outcome    `json:"outcome"`
	FinishReason string     `json:"finish_reason,omitempty"`
	Writes       [][3]int64 `json:"writes"`
}

// MarshalJSON writes times as nanoseconds since 1970 and each write as [before, after, tokens].
func (r Record) MarshalJSON() ([]byte, error) {
	j := jsonRecord{
		ID: r.ID, RequestID: r.RequestID, Received: r.Received.UnixNano(),
		PromptTokens: r.PromptTokens, OutputTokens: r.OutputTokens,
		Status: r.Status, Fault: r.Fault, Outcome: r.Outcome, FinishReason: r.FinishReason,
		Writes: make([][3]int64, len(r.Writes)),
	}
	for i, w := range r.Writes {
		j.Writes[i] = [3]int64{w.Before.UnixNano(), w.After.UnixNano(), int64(w.Tokens)}
	}
	return json.Marshal(j)
}

// UnmarshalJSON reads what MarshalJSON writes.
func (r *Record) UnmarshalJSON(data []byte) error {
	var j jsonRecord
	if err := json.Unmarshal(data, &j); err != nil {
		return err
	}
	*r = Record{
		ID: j.ID, RequestID: j.RequestID, Received: time.Unix(0, j.Received),
		PromptTokens: j.PromptTokens, OutputTokens: j.OutputTokens,
		Status: j.Status, Fault: j.Fault, Outcome: j.Outcome, FinishReason: j.FinishReason,
		Writes: make([]Write, len(j.Writes)),
	}
	for i, w := range j.Writes {
		r.Writes[i] = Write{time.Unix(0, w[0]), time.Unix(0, w[1]), int(w[2])}
	}
	return nil
}

// entry is a Record being written; once in the ring it does not change. Its writes are varints of three numbers each
// (time since the previous write began, time the write took, tokens), about 7 bytes, and become times when somebody
// asks.
type entry struct {
	Record
	last   int64 // start of the last write, Unix ns; of Received before the first
	writes []byte
}

// add notes one write.
func (e *entry) add(before, after time.Time, tokens int) {
	b := before.UnixNano()
	e.writes = binary.AppendVarint(e.writes, b-e.last)
	e.writes = binary.AppendVarint(e.writes, after.UnixNano()-b)
	e.writes = binary.AppendVarint(e.writes, int64(tokens))
	e.last = b
	e.OutputTokens += tokens
}

// record decodes e.
func (e *entry) record() Record {
	r, at := e.Record, e.Received.UnixNano()
	r.Writes = make([]Write, 0, len(e.writes)/7)
	for rest := e.writes; len(rest) > 0; {
		var v [3]int64
		for i := range v {
			var n int
			v[i], n = binary.Varint(rest)
			rest = rest[n:]
		}
		at += v[0]
		r.Writes = append(r.Writes, Write{time.Unix(0, at), time.Unix(0, at+v[1]), int(v[2])})
	}
	return r
}

// truth is a ring of the last finished requests, and counts those that are not.
type truth struct {
	size int

	mu      sync.Mutex
	ring    []*entry
	oldest  int
	serving int
	idle    chan struct{} // closed when serving becomes 0; nil if nobody waits
}

// begin returns a new entry for a request that was just received.
func (t *truth) begin(received time.Time) *entry {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.serving++
	ns := received.UnixNano()
	return &entry{Record: Record{Received: time.Unix(0, ns)}, last: ns}
}

// end puts e into the ring.
func (t *truth) end(e *entry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.ring) < t.size {
		t.ring = append(t.ring, e)
	} else {
		t.ring[t.oldest] = e
		t.oldest = (t.oldest + 1) % t.size
	}
	t.serving--
	if t.serving == 0 && t.idle != nil {
		close(t.idle)
		t.idle = nil
	}
}

// Truth returns the records of finished requests that were received at or after since, in the order in which they
// finished. A client that has read a response to the end of its body finds the record here.
func (s *Server) Truth(since time.Time) []Record {
	t := &s.truth
	t.mu.Lock()
	entries := slices.Concat(t.ring[t.oldest:], t.ring[:t.oldest])
	t.mu.Unlock()
	var records []Record
	for _, e := range entries {
		if !e.Received.Before(since) {
			records = append(records, e.record())
		}
	}
	return records
}

// ClearTruth forgets every record.
func (s *Server) ClearTruth() {
	t := &s.truth
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ring, t.oldest = nil, 0
}

// Wait returns when no request is being served, or with the error of ctx when that ends first. After it, Truth knows of
// requests that the client gave up, too.
func (s *Server) Wait(ctx context.Context) error {
	t := &s.truth
	t.mu.Lock()
	if t.serving == 0 {
		t.mu.Unlock()
		return nil
	}
	if t.idle == nil {
		t.idle = make(chan struct{})
	}
	idle := t.idle
	t.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
