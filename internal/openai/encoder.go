package openai

import (
	"encoding/json"
	"slices"
	"strconv"
)

// Dialect is the family of a server: which extras it takes in a request body.
type Dialect string

// The dialects.
const (
	DialectVLLM     Dialect = "vllm"
	DialectSGLang   Dialect = "sglang"
	DialectTGI      Dialect = "tgi"
	DialectLlamaCpp Dialect = "llamacpp"
	DialectOllama   Dialect = "ollama"
	DialectTRTLLM   Dialect = "trtllm"
	DialectLMDeploy Dialect = "lmdeploy"
	DialectOpenAI   Dialect = "openai"  // the hosted API
	DialectGeneric  Dialect = "generic" // the plain protocol: what every server takes
)

// Dialects returns every dialect.
func Dialects() []Dialect {
	return []Dialect{
		DialectVLLM, DialectSGLang, DialectTGI, DialectLlamaCpp, DialectOllama, DialectTRTLLM, DialectLMDeploy,
		DialectOpenAI, DialectGeneric,
	}
}

// Names of the extras. Each is a field beyond the plain protocol, or one that some server is known to reject.
const (
	extraUsage       = "stream_options"         // usage at the end of the stream
	extraContinuous  = "continuous_usage_stats" // running usage on every event, inside stream_options
	extraObfuscation = "include_obfuscation"    // false: no padding of the events, inside stream_options
	extraIgnoreEOS   = "ignore_eos"             // generate on past the end-of-sequence token
	extraMinTokens   = "min_tokens"             // as max_tokens: never shorter than asked
	extraCachePrompt = "cache_prompt"           // false: no prefix reuse
	extraMaxTokens   = "max_tokens"             // the length under its old name …
	extraCompletion  = "max_completion_tokens"  // … or under its new one; exactly one of the two is set
)

// extrasOf lists what a dialect takes. Every server has a name for the length; every one is asked for usage.
func extrasOf(api API, d Dialect) []string {
	switch d {
	case DialectVLLM, DialectSGLang, DialectTRTLLM:
		return []string{extraUsage, extraContinuous, extraMaxTokens, extraMinTokens, extraIgnoreEOS}
	case DialectLlamaCpp:
		return []string{extraUsage, extraMaxTokens, extraIgnoreEOS, extraCachePrompt}
	case DialectLMDeploy:
		return []string{extraUsage, extraMaxTokens, extraIgnoreEOS}
	case DialectOpenAI:
		if api == APIChat {
			return []string{extraUsage, extraObfuscation, extraCompletion}
		}
	}
	return []string{extraUsage, extraMaxTokens}
}

// Encoder builds request bodies for one API, dialect and model. It does not change after NewEncoder and is safe for
// concurrent use.
//
// It sends no temperature: the server's own default is what users get, and some models reject any other. It sends no
// seed: seeded requests are known to crash an engine (vLLM's CPU build).
type Encoder struct {
	api     API
	model   string
	fields  string
	extras  []string
	renamed bool // the length has not the name that it has in the dialect

	beforePrompt []byte // up to the prompt's opening quote
	beforeLength []byte // from the prompt's closing quote to the value of the length
	beforeMin    []byte // to the value of min_tokens; empty if that is not sent
	end          []byte
}

// NewEncoder returns the encoder of a dialect's bodies. They end with the fields of a JSON object without white space
// around it, which has none that the encoder sets itself; "" for none.
func NewEncoder(api API, dialect Dialect, model string, fields string) *Encoder {
	return newEncoder(api, model, fields, extrasOf(api, dialect))
}

func newEncoder(api API, model, fields string, extras []string) *Encoder {
	e := &Encoder{api: api, model: model, fields: fields, extras: extras}
	name, err := json.Marshal(model)
	if err != nil {
		panic(err) // a string always marshals
	}
	e.beforePrompt = append(append([]byte(`{"model":`), name...), `,"messages":[{"role":"user","content":"`...)
	e.beforeLength = []byte(`"}],"stream":true`)
	if api == APICompletions {
		e.beforePrompt = append(append([]byte(`{"model":`), name...), `,"prompt":"`...)
		e.beforeLength = []byte(`","stream":true`)
	}
	if e.has(extraUsage) {
		e.beforeLength = append(e.beforeLength, `,"stream_options":{"include_usage":true`...)
		if e.has(extraContinuous) {
			e.beforeLength = append(e.beforeLength, `,"continuous_usage_stats":true`...)
		}
		if e.has(extraObfuscation) {
			e.beforeLength = append(e.beforeLength, `,"include_obfuscation":false`...)
		}
		e.beforeLength = append(e.beforeLength, '}')
	}
	length := extraMaxTokens
	if e.has(extraCompletion) {
		length = extraCompletion
	}
	e.beforeLength = append(e.beforeLength, `,"`+length+`":`...)
	if e.has(extraMinTokens) {
		e.beforeMin = []byte(`,"min_tokens":`)
	}
	if e.has(extraIgnoreEOS) {
		e.end = append(e.end, `,"ignore_eos":true`...)
	}
	if e.has(extraCachePrompt) {
		e.end = append(e.end, `,"cache_prompt":false`...)
	}
	if len(fields) > len("{}") {
		e.end = append(append(e.end, ','), fields[1:len(fields)-1]...)
	}
	e.end = append(e.end, '}')
	return e
}

// Append appends one request body to dst. appendPrompt appends the prompt as the inside of a JSON string: escaped,
// without the quotes. Append allocates nothing but what dst needs to grow.
func (e *Encoder) Append(dst []byte, appendPrompt func(dst []byte) []byte, outputTokens int) []byte {
	dst = append(dst, e.beforePrompt...)
	dst = appendPrompt(dst)
	dst = append(dst, e.beforeLength...)
	dst = strconv.AppendInt(dst, int64(outputTokens), 10)
	if len(e.beforeMin) > 0 {
		dst = append(dst, e.beforeMin...)
		dst = strconv.AppendInt(dst, int64(outputTokens), 10)
	}
	return append(dst, e.end...)
}

// Extras returns the names of the fields that the bodies carry beyond the plain protocol.
func (e *Encoder) Extras() []string {
	return slices.DeleteFunc(slices.Clone(e.extras), func(name string) bool { return name == extraMaxTokens })
}

func (e *Encoder) has(extra string) bool { return slices.Contains(e.extras, extra) }

// WithPrefixCache returns the encoder that lets the server reuse what prompts have in common. Without it a dialect that
// can says that the server must not.
func (e *Encoder) WithPrefixCache() *Encoder { return e.without(extraCachePrompt) }

// without returns the encoder that leaves out the named extras. A length is never left out: its other name takes over.
func (e *Encoder) without(names ...string) *Encoder {
	extras := slices.DeleteFunc(slices.Clone(e.extras), func(extra string) bool { return slices.Contains(names, extra) })
	renamed := true
	switch {
	case slices.Contains(names, extraMaxTokens) && e.has(extraMaxTokens):
		extras = append(extras, extraCompletion)
	case slices.Contains(names, extraCompletion) && e.has(extraCompletion):
		extras = append(extras, extraMaxTokens)
	default:
		renamed = e.renamed
	}
	next := newEncoder(e.api, e.model, e.fields, extras)
	next.renamed = renamed
	return next
}
