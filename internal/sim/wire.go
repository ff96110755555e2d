package sim

import (
	"encoding/json"
	"strconv"
)

// systemFingerprint is what vLLM puts into usage events: its version and a hash of the configuration.
const systemFingerprint = "inferprobe-sim"

// shapes are the parts of answers that do not depend on the request.
type shapes struct {
	model string // as a JSON string
}

func newShapes(model string) shapes { return shapes{model: quote(model)} }

// quote returns s as a JSON string.
func quote(s string) string {
	quoted, _ := json.Marshal(s) // a string always marshals
	return string(quoted)
}

// encoder makes the events of one answer, in the shapes that vLLM 0.32.0 sends. Its methods append to dst.
type encoder struct {
	chat       bool
	continuous bool // usage in every event
	eol        string
	head       []byte // of every event: id, object, created, model
	prompt     int    // tokens
	cached     int
	usage      usageShape
	word       int // of the vocabulary, with which the text starts
}

// begin makes the encoder ready for the answer with this id; object, created and model are JSON already.
func (e *encoder) begin(id string, created int64, model string) {
	object := `","object":"text_completion","created":`
	if e.chat {
		object = `","object":"chat.completion.chunk","created":`
	}
	b := append(e.head[:0], `data: {"id":"`...)
	b = append(b, id...)
	b = append(b, object...)
	b = strconv.AppendInt(b, created, 10)
	b = append(b, `,"model":`...)
	e.head = append(b, model...)
}

// role is chat's first event.
func (e *encoder) role(dst []byte) []byte {
	dst = append(dst, e.head...)
	dst = append(dst, `,"choices":[{"index":0,"delta":{"role":"assistant","content":""},`...)
	dst = append(dst, `"logprobs":null,"finish_reason":null}]`...)
	if e.continuous {
		dst = e.appendUsage(append(dst, ','), 0, false)
	}
	return e.close(append(dst, `,"prompt_token_ids":null,"prompt_text":null}`...))
}

// open is the part of a token event before its text.
func (e *encoder) open(dst []byte) []byte {
	dst = append(dst, e.head...)
	if e.chat {
		return append(dst, `,"choices":[{"index":0,"delta":{"content":"`...)
	}
	return append(dst, `,"choices":[{"index":0,"text":"`...)
}

// tokens is the event with tokens from (inclusive) to (exclusive); finish is its finish reason, "" for none.
// withUsage adds usage as the fault usage_in_choice wants it.
func (e *encoder) tokens(dst []byte, from, to int, finish string, withUsage bool) []byte {
	dst = e.open(dst)
	dst = appendWords(dst, e.word, from, to)
	return e.closeTokens(dst, to, finish, withUsage)
}

// closeTokens is the part of a token event after its text; n tokens have been sent with it.
func (e *encoder) closeTokens(dst []byte, n int, finish string, withUsage bool) []byte {
	if e.chat {
		dst = append(dst, `"},"logprobs":null,"finish_reason":`...)
	} else {
		dst = append(dst, `","logprobs":null,"finish_reason":`...)
	}
	if finish == "" {
		dst = append(dst, `null`...)
	} else {
		dst = append(dst, '"')
		dst = append(dst, finish...)
		dst = append(dst, '"')
	}
	switch {
	case !e.chat:
		dst = append(dst, `,"stop_reason":null,"prompt_token_ids":null,"token_ids":null}]`...)
	case finish != "":
		dst = append(dst, `,"stop_reason":null,"token_ids":null}]`...)
	default:
		dst = append(dst, `,"token_ids":null}]`...)
	}
	if e.continuous || withUsage {
		dst = e.appendUsage(append(dst, ','), n, withUsage)
	}
	return e.close(append(dst, '}'))
}

// usageEvent is the last event: n tokens were sent.
func (e *encoder) usageEvent(dst []byte, n int) []byte {
	dst = append(dst, e.head...)
	dst = e.appendUsage(append(dst, `,"choices":[],`...), n, true)
	return e.close(append(dst, `,"system_fingerprint":"`+systemFingerprint+`"}`...))
}

// appendUsage is the usage member; the details stand in the last one only.
func (e *encoder) appendUsage(dst []byte, n int, last bool) []byte {
	prompt, cached := e.prompt, e.cached
	switch e.usage {
	case usageZero:
		prompt, cached, n = 0, 0, 0
	case usageImpossible:
		n = 100_000_000_000
	}
	dst = append(dst, `"usage":{"prompt_tokens":`...)
	dst = strconv.AppendInt(dst, int64(prompt), 10)
	dst = append(dst, `,"total_tokens":`...)
	dst = strconv.AppendInt(dst, int64(prompt+n), 10)
	dst = append(dst, `,"completion_tokens":`...)
	dst = strconv.AppendInt(dst, int64(n), 10)
	if !last {
		return append(dst, `,"completion_tokens_details":null}`...)
	}
	dst = append(dst, `,"prompt_tokens_details":{"cached_tokens":`...)
	dst = strconv.AppendInt(dst, int64(cached), 10)
	return append(dst, `}}`...)
}

// errorObject is vLLM's error object in a body whose status says success.
const errorObject = `{"error": {"message": "` + engineFailure +
	`", "type": "InternalServerError", "param": null, "code": 500}}`

// failureEvent tells inside a stream that the engine failed: by vLLM's object, by a bare string as gateways send it, by
// the event's name, or in words only.
func (e *encoder) failureEvent(dst []byte, kind ending) []byte {
	switch kind {
	case endErrorString:
		dst = append(dst, `data: {"error": "`+engineFailure+`"}`...)
	case endErrorNamed:
		dst = append(dst, `event: error`...)
		dst = append(dst, e.eol...)
		dst = append(dst, `data: `+engineFailure...)
	case endNotJSON:
		dst = append(dst, `data: `+engineFailure...)
	default:
		dst = append(dst, `data: `+errorObject...)
	}
	return e.close(dst)
}

func (e *encoder) done(dst []byte) []byte    { return e.close(append(dst, `data: [DONE]`...)) }
func (e *encoder) comment(dst []byte) []byte { return e.close(append(dst, `: keep-alive`...)) }

// close ends an event.
func (e *encoder) close(dst []byte) []byte {
	dst = append(dst, e.eol...)
	return append(dst, e.eol...)
}

// answer is the whole answer to a request that asked for no stream.
func (e *encoder) answer(dst []byte, id string, created int64, model string, n int, finish string, usage bool) []byte {
	dst = append(dst, `{"id":"`...)
	dst = append(dst, id...)
	if e.chat {
		dst = append(dst, `","object":"chat.completion","created":`...)
	} else {
		dst = append(dst, `","object":"text_completion","created":`...)
	}
	dst = strconv.AppendInt(dst, created, 10)
	dst = append(dst, `,"model":`...)
	dst = append(dst, model...)
	if e.chat {
		dst = append(dst, `,"choices":[{"index":0,"message":{"role":"assistant","content":"`...)
		dst = appendWords(dst, e.word, 0, n)
		dst = append(dst, `","refusal":null,"reasoning":null},"logprobs":null,"finish_reason":"`...)
	} else {
		dst = append(dst, `,"choices":[{"index":0,"text":"`...)
		dst = appendWords(dst, e.word, 0, n)
		dst = append(dst, `","logprobs":null,"finish_reason":"`...)
	}
	dst = append(dst, finish...)
	dst = append(dst, `","stop_reason":null,"token_ids":null}],"system_fingerprint":"`+systemFingerprint+`",`...)
	if usage {
		dst = e.appendUsage(dst, n, true)
	} else {
		dst = append(dst, `"usage":null`...)
	}
	return append(dst, '}')
}

// appendFiller appends n bytes of text.
func appendFiller(dst []byte, n int) []byte {
	start := len(dst)
	dst = append(dst, make([]byte, n)...)
	for i := start; i < len(dst); i++ {
		dst[i] = 'x'
	}
	return dst
}
