package openai

// The token events of a stream differ in a word and a few numbers; all else repeats byte for byte. A shape is an event
// that has been decoded, with the places of what may differ. An event of the same shape needs comparing, not decoding.

// slot is a place in an event where another one of the same shape may differ.
type slot struct {
	start, end int
	kind       slotKind
}

type slotKind uint8

const (
	slotText       slotKind = iota // the inside of a string that is not empty
	slotNumber                     // a number that nobody asks for
	slotCompletion                 // usage.completion_tokens
	slotReasoning                  // usage.completion_tokens_details.reasoning_tokens
)

const maxSlots = 8

// shape is the last event that was decoded in full.
type shape struct {
	data  []byte
	event event
	slots [maxSlots]slot
	n     int
	// loaded: the event that match decodes into is of this shape already.
	loaded bool
	// misses counts events in a row that had another shape than the one before: where all differ, as with logprobs, it
	// does not pay to compare.
	misses int
}

const maxMisses = 16

// learn keeps an event as the shape of those that may follow.
func (s *shape) learn(data []byte, e *event, slots []slot) {
	if s.misses++; s.misses > maxMisses {
		s.data = nil
		return
	}
	s.data = append(s.data[:0], data...)
	s.event, s.loaded = *e, true
	s.n = copy(s.slots[:], slots)
}

// match decodes data into e, which is the same in every call, if they have the shape. Since what is compared was valid
// JSON, and what may differ is checked to be of the same kind, the verdict is that of a full decoding.
func (s *shape) match(data []byte, e *event) bool {
	if len(s.data) == 0 {
		return false
	}
	var completion, reasoning = -1, -1
	at, from := 0, 0 // in data, in s.data
	for i := range s.n {
		slot := &s.slots[i]
		same := slot.start - from
		if len(data)-at < same || string(data[at:at+same]) != string(s.data[from:slot.start]) {
			return false
		}
		at, from = at+same, slot.end
		if slot.kind == slotText {
			n := textLength(data[at:])
			if n == 0 {
				return false
			}
			at += n
			continue
		}
		value, n := leadingNumber(data[at:])
		if n == 0 {
			return false
		}
		switch at += n; slot.kind {
		case slotCompletion:
			completion = value
		case slotReasoning:
			reasoning = value
		}
	}
	if string(data[at:]) != string(s.data[from:]) {
		return false
	}
	if !s.loaded {
		*e, s.loaded = s.event, true
	}
	if completion >= 0 {
		e.usage.completion = completion
	}
	if reasoning >= 0 {
		e.usage.reasoning = reasoning
	}
	s.misses = 0
	return true
}

// textLength returns the length of the inside of a string up to its closing quote, 0 if that is empty or not valid.
func textLength(b []byte) int {
	for i := 0; ; {
		i += plainPrefix(b[i:])
		if i == len(b) {
			return 0
		}
		if b[i] == '"' {
			return i
		}
		n := escapeLength(b[i:])
		if n == 0 {
			return 0
		}
		i += n
	}
}

// leadingNumber returns the number of up to nine digits at the start of b and its length, 0 if there is none or it is
// longer.
func leadingNumber(b []byte) (value, n int) {
	for n < len(b) && '0' <= b[n] && b[n] <= '9' {
		if n == 9 || n == 1 && value == 0 {
			return 0, 0
		}
		value = value*10 + int(b[n]-'0')
		n++
	}
	return value, n
}
