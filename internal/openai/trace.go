package openai

import (
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
)

// newTrace begins a trace. It returns the header traceparent that carries it to the server, as W3C Trace Context defines
// it, and the trace's id in it. The flag 01 asks to keep the trace: one that was thrown away explains no slow request.
func newTrace() (parent, id string) {
	var random [16 + 8]byte // the ids of the trace and of our span
	binary.NativeEndian.PutUint64(random[:], rand.Uint64())
	binary.NativeEndian.PutUint64(random[8:], rand.Uint64())
	binary.NativeEndian.PutUint64(random[16:], rand.Uint64())
	var text [2 + 1 + 32 + 1 + 16 + 1 + 2]byte
	b := append(text[:0], "00-"...)
	b = append(hex.AppendEncode(b, random[:16]), '-')
	b = append(hex.AppendEncode(b, random[16:]), "-01"...)
	parent = string(b)
	return parent, parent[3:35]
}
