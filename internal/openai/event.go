package openai

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"math/bits"
	"strconv"
)

// event is what the JSON of one event says, as far as a measurement needs it. The slices point into the event's data.
type event struct {
	hasChoices bool // there is a list of choices, be it an empty one
	choices    int
	answer     bool // a choice has text past the reasoning, or a tool call
	reasoning  bool // a choice has reasoning text
	tokenIDs   int  // token ids of all choices
	finish     string
	hasUsage   bool
	usage      usage
	timings    usage // llama.cpp's own counts
	err        bool  // an error, in any of the shapes and places that servers give it
}

// usage is the server's count of tokens.
type usage struct {
	prompt, completion, cached, reasoning int
	reasoningFlat                         int // where SGLang gives it
}

// Counts above these are no counts. What is one is observed token by token, so that a server could keep us busy with a
// number.
const (
	maxPromptTokens = 1 << 30
	maxOutputTokens = 1 << 20
)

// excessive returns a count that no request can have, or 0.
func (u *usage) excessive() int {
	if prompt := max(u.prompt, u.cached); prompt > maxPromptTokens {
		return prompt
	}
	if output := max(u.completion, u.reasoning, u.reasoningFlat); output > maxOutputTokens {
		return output
	}
	return 0
}

// visible reports whether the event carries output that can be seen.
func (e *event) visible() bool { return e.answer || e.reasoning }

// choice is one element of choices; its fields are kept apart so that a key that is given twice counts once.
type choice struct {
	content, refusal, text, tools, function bool
	thinking, reasoning, reasoningContent   bool
	tokenIDs                                int
	finish                                  string
	err                                     bool
	usage                                   nestedUsage
}

// part is one element of a content that is a list (Mistral, Databricks): text or reasoning, which may be empty, or
// something else.
type part struct{ text, thinking, summary, worded bool }

// nestedUsage is a usage elsewhere than at the top: in a choice (Moonshot) or in x_groq.
type nestedUsage struct {
	usage
	given bool
}

// decode reads the JSON of one event into d.event and reports whether it is valid, by the rules of encoding/json. It
// takes the fields from the bytes as it goes and allocates nothing for what servers normally send.
func (d *decoder) decode(data []byte) bool {
	if !d.gather && d.shape.match(data, &d.event) {
		return true
	}
	d.event, d.state, d.shape.loaded = event{}, state{}, false
	d.data, d.i, d.depth = data, 0, 0
	d.space()
	if !d.is('{') { // llama.cpp sends `null`; it carries nothing
		return d.skip() && d.atEnd()
	}
	if !d.object(topMember) || !d.atEnd() {
		return false
	}
	e := &d.event
	e.err = e.err || d.errorObject || d.choiceError || d.groqError || !e.hasChoices && (d.message || d.detail)
	for _, nested := range [...]*nestedUsage{&d.choiceUsage, &d.groqUsage} {
		if nested.given && !e.hasUsage {
			e.usage, e.hasUsage = nested.usage, true
		}
	}
	if e.visible() && d.slots <= maxSlots && d.usages <= 1 && d.details <= 1 {
		d.shape.learn(data, e, d.slot[:d.slots])
	}
	return true
}

// maxDepth is how deep encoding/json lets values be nested.
const maxDepth = 10000

// decoder decodes one event after another.
type decoder struct {
	event event // what the last one said
	shape shape

	gather  bool   // collect the output in text
	text    []byte // after an opening quote, with the escapes of JSON
	partial bool   // there was output besides

	data  []byte
	i     int
	depth int
	state
	slot [maxSlots]slot
}

// state is what a decoder knows within one event.
type state struct {
	choice          choice // the one being read
	part            part   // of its content, the one being read
	counts          *usage // the one being read
	errorObject     bool   // "object" is "error"
	choiceError     bool   // a choice has an error (OpenRouter)
	groqError       bool   // x_groq has one
	message, detail bool   // there is one: without choices that is an error, too
	choiceUsage     nestedUsage
	groqUsage       nestedUsage
	slots           int // places where the next event may differ
	usages, details int // how often usage and its completion_tokens_details were given
}

// mark notes that the next event may differ in data[start:end].
func (d *decoder) mark(start, end int, kind slotKind) {
	if d.slots < maxSlots {
		d.slot[d.slots] = slot{start, end, kind}
	}
	d.slots++
}

func topMember(d *decoder, key []byte) bool {
	e := &d.event
	switch string(key) {
	case "choices":
		e.hasChoices = d.is('[')
		e.choices, e.answer, e.reasoning, e.tokenIDs, e.finish = 0, false, false, 0, ""
		d.choiceError, d.choiceUsage = false, nestedUsage{}
		if e.hasChoices {
			return d.array(choiceElement)
		}
	case "usage":
		return d.usage(&e.usage, &e.hasUsage)
	case "x_groq":
		d.groqError, d.groqUsage = false, nestedUsage{}
		if d.is('{') {
			return d.object(groqMember)
		}
	case "timings":
		e.timings = usage{}
		if d.is('{') {
			return d.object(timingsMember)
		}
	case "error":
		value, ok := d.value()
		e.err = filled(value) || string(value) == "true"
		return ok
	case "object":
		value, ok := d.value()
		d.errorObject = text(value) == "error"
		return ok
	case "message": // an object is an answer by another protocol, such as Ollama's own
		value, ok := d.value()
		d.message = filled(value) && value[0] == '"'
		return ok
	case "detail":
		value, ok := d.value()
		d.detail = filled(value)
		return ok
	}
	return d.skip()
}

func choiceElement(d *decoder) bool {
	if !d.is('{') {
		return d.skip()
	}
	d.choice = choice{}
	if !d.object(choiceMember) {
		return false
	}
	e, c := &d.event, &d.choice
	e.choices++
	e.answer = e.answer || c.content || c.refusal || c.text || c.tools || c.function
	e.reasoning = e.reasoning || c.thinking || c.reasoning || c.reasoningContent
	e.tokenIDs += c.tokenIDs
	d.choiceError = d.choiceError || c.err
	if c.usage.given {
		d.choiceUsage = c.usage
	}
	if c.finish != "" {
		e.finish = c.finish
	}
	return true
}

func choiceMember(d *decoder, key []byte) (ok bool) {
	c := &d.choice
	switch string(key) {
	case "delta":
		c.content, c.refusal, c.tools, c.function = false, false, false, false
		c.thinking, c.reasoning, c.reasoningContent = false, false, false
		if d.is('{') {
			return d.object(deltaMember)
		}
	case "text":
		c.text, ok = d.output(false)
		return ok
	case "token_ids":
		c.tokenIDs = 0
		if d.is('[') {
			return d.array(tokenElement)
		}
	case "finish_reason":
		var value []byte
		value, ok = d.value()
		c.finish = text(value)
		return ok
	case "error":
		c.err, ok = d.filled()
		return ok
	case "usage":
		return d.usage(&c.usage.usage, &c.usage.given)
	}
	return d.skip()
}

func deltaMember(d *decoder, key []byte) (ok bool) {
	c := &d.choice
	switch string(key) {
	case "content":
		c.content, c.thinking = false, false
		if d.is('[') {
			return d.array(contentPart)
		}
		c.content, ok = d.output(false)
	case "refusal":
		c.refusal, ok = d.output(false)
	case "reasoning":
		c.reasoning, ok = d.output(c.reasoningContent)
	case "reasoning_content":
		c.reasoningContent, ok = d.output(c.reasoning)
	case "tool_calls":
		c.tools, ok = d.filled()
		d.partial = d.partial || c.tools
	case "function_call": // what came before tool_calls
		c.function, ok = d.filled()
		d.partial = d.partial || c.function
	default:
		ok = d.skip()
	}
	return ok
}

func contentPart(d *decoder) bool {
	c := &d.choice
	d.part = part{}
	start := d.i
	if d.is('{') && !d.object(partMember) || d.i == start && !d.skip() {
		return false
	}
	other := !d.part.worded && filled(d.data[start:d.i])
	thinking := d.part.thinking || d.part.summary
	d.partial = d.partial || thinking || other
	c.content = c.content || d.part.text || other
	c.thinking = c.thinking || thinking
	return true
}

func partMember(d *decoder, key []byte) (ok bool) {
	switch string(key) {
	case "text":
		d.part.worded = true
		d.part.text, ok = d.output(false)
	case "thinking":
		d.part.worded = true
		d.part.thinking, ok = d.filled()
	case "summary": // of the reasoning (Databricks)
		d.part.worded = true
		d.part.summary, ok = d.filled()
	default:
		ok = d.skip()
	}
	return ok
}

func tokenElement(d *decoder) bool {
	d.choice.tokenIDs++
	return d.skip()
}

func groqMember(d *decoder, key []byte) (ok bool) {
	switch string(key) {
	case "usage":
		return d.usage(&d.groqUsage.usage, &d.groqUsage.given)
	case "error":
		d.groqError, ok = d.filled()
		return ok
	}
	return d.skip()
}

// usage reads a value into u, and into given whether it is a usage.
func (d *decoder) usage(u *usage, given *bool) bool {
	*u, *given = usage{}, d.is('{')
	d.usages++
	if !*given {
		return d.skip()
	}
	d.counts = u
	return d.object(usageMember)
}

func usageMember(d *decoder, key []byte) (ok bool) {
	u := d.counts
	switch string(key) {
	case "prompt_tokens":
		u.prompt, ok = d.count()
		return ok
	case "completion_tokens":
		u.completion, ok = d.running(slotCompletion)
		return ok
	case "total_tokens":
		_, ok = d.running(slotNumber)
		return ok
	case "reasoning_tokens": // SGLang
		u.reasoningFlat, ok = d.count()
		return ok
	case "prompt_tokens_details":
		u.cached = 0
		if d.is('{') {
			return d.object(promptDetailsMember)
		}
	case "completion_tokens_details":
		u.reasoning = 0
		d.details++
		if d.is('{') {
			return d.object(completionDetailsMember)
		}
	}
	return d.skip()
}

func promptDetailsMember(d *decoder, key []byte) (ok bool) {
	if string(key) != "cached_tokens" {
		return d.skip()
	}
	d.counts.cached, ok = d.count()
	return ok
}

func completionDetailsMember(d *decoder, key []byte) (ok bool) {
	if string(key) != "reasoning_tokens" {
		return d.skip()
	}
	d.counts.reasoning, ok = d.running(slotReasoning)
	return ok
}

func timingsMember(d *decoder, key []byte) (ok bool) {
	t := &d.event.timings
	switch string(key) {
	case "prompt_n": // without those taken from the cache
		t.prompt, ok = d.count()
	case "cache_n":
		t.cached, ok = d.count()
	case "predicted_n":
		t.completion, ok = d.count()
	default:
		ok = d.skip()
	}
	return ok
}

// filled reports whether a JSON value is a string, list or object that is not empty.
func filled(value []byte) bool {
	if len(value) < 2 {
		return false
	}
	switch inside := value[1 : len(value)-1]; value[0] {
	case '"':
		return len(inside) > 0
	case '[', '{':
		return len(bytes.TrimLeft(inside, " \t\r\n")) > 0
	}
	return false
}

// text returns the string that a JSON value is, or "" for any other value. The strings that matter cost no allocation.
func text(value []byte) string {
	if len(value) < 2 || value[0] != '"' {
		return ""
	}
	for _, known := range [...]string{"stop", "length", "tool_calls", "chat.completion.chunk", "text_completion"} {
		if string(value[1:len(value)-1]) == known {
			return known
		}
	}
	var s string
	if json.Unmarshal(value, &s) != nil {
		return ""
	}
	return s
}

func (d *decoder) is(c byte) bool { return d.i < len(d.data) && d.data[d.i] == c }

func (d *decoder) space() {
	for d.i < len(d.data) {
		switch d.data[d.i] {
		case ' ', '\t', '\r', '\n':
			d.i++
		default:
			return
		}
	}
}

func (d *decoder) atEnd() bool {
	d.space()
	return d.i == len(d.data)
}

// take consumes c and reports whether it was there.
func (d *decoder) take(c byte) bool {
	if !d.is(c) {
		return false
	}
	d.i++
	return true
}

// object reads the object that begins here. member reads one member's value.
func (d *decoder) object(member func(d *decoder, key []byte) bool) bool {
	if d.depth++; d.depth > maxDepth || !d.take('{') {
		return false
	}
	d.space()
	for first := true; !d.take('}'); first = false {
		if !first {
			if !d.take(',') {
				return false
			}
			d.space()
		}
		key, ok := d.key()
		if !ok {
			return false
		}
		d.space()
		if !d.take(':') {
			return false
		}
		d.space()
		if !member(d, key) {
			return false
		}
		d.space()
	}
	d.depth--
	return true
}

// array reads the list that begins here. element reads one element.
func (d *decoder) array(element func(d *decoder) bool) bool {
	if d.depth++; d.depth > maxDepth || !d.take('[') {
		return false
	}
	d.space()
	for first := true; !d.take(']'); first = false {
		if !first {
			if !d.take(',') {
				return false
			}
			d.space()
		}
		if !element(d) {
			return false
		}
		d.space()
	}
	d.depth--
	return true
}

// key reads a member's key.
func (d *decoder) key() ([]byte, bool) {
	start := d.i
	escaped, ok := d.quoted()
	if !ok {
		return nil, false
	}
	if escaped {
		return []byte(text(d.data[start:d.i])), true
	}
	return d.data[start+1 : d.i-1], true
}

// value reads any value and returns its bytes, which are empty if it is not valid.
func (d *decoder) value() ([]byte, bool) {
	start := d.i
	if !d.skip() {
		return nil, false
	}
	return d.data[start:d.i], true
}

// filled reads any value and reports whether it is a string, list or object that is not empty.
func (d *decoder) filled() (full, ok bool) {
	value, ok := d.value()
	return filled(value), ok
}

// output is filled for text that the model generates; again, where the event has had it under another name.
func (d *decoder) output(again bool) (full, ok bool) {
	start := d.i
	full, ok = d.filled()
	switch {
	case !full:
	case d.data[start] != '"':
		d.partial = true
	default:
		d.mark(start+1, d.i-1, slotText)
		if d.gather && !again && len(d.text) < maxGathered {
			d.text = append(d.text, d.data[start+1:d.i-1]...)
		}
	}
	return full, ok
}

const (
	maxGathered  = 4 << 20  // bytes of output gathered of one answer: beyond it counting by events will do
	keptGathered = 64 << 10 // the memory of more is not kept for the next answer
)

// begin makes the decoder ready for another answer, whose output it gathers or not.
func (d *decoder) begin(gather bool) {
	d.gather, d.partial = gather, false
	if cap(d.text) > keptGathered {
		d.text = nil
	}
	d.text = append(d.text[:0], '"')
}

// gathered returns the output of the answer, "" if it is not known whole.
func (d *decoder) gathered() string {
	if !d.gather || d.partial || len(d.text) >= maxGathered {
		return ""
	}
	return text(append(d.text, '"'))
}

// running is count for a number that rises from event to event.
func (d *decoder) running(kind slotKind) (n int, ok bool) {
	start := d.i
	n, ok = d.count()
	if _, length := leadingNumber(d.data[start:d.i]); length > 0 && length == d.i-start {
		d.mark(start, d.i, kind)
	}
	return n, ok
}

// count reads any value and returns it as a number of tokens, 0 if it is none.
func (d *decoder) count() (int, bool) {
	value, ok := d.value()
	return toCount(value), ok
}

// toCount returns the number of tokens that a JSON value is, 0 if it is none.
func toCount(value []byte) int {
	if len(value) == 0 || value[0] < '0' || value[0] > '9' {
		return 0
	}
	n := 0
	for _, c := range value {
		if c < '0' || c > '9' || n > 1e12 {
			f, err := strconv.ParseFloat(string(value), 64)
			if err != nil || f > 1e12 {
				return 0
			}
			return int(f)
		}
		n = n*10 + int(c-'0')
	}
	return n
}

func skipMember(d *decoder, _ []byte) bool { return d.skip() }

func skipElement(d *decoder) bool { return d.skip() }

// skip reads any value.
func (d *decoder) skip() bool {
	if d.i == len(d.data) {
		return false
	}
	switch d.data[d.i] {
	case '"':
		_, ok := d.quoted()
		return ok
	case '{':
		return d.object(skipMember)
	case '[':
		return d.array(skipElement)
	case 't':
		return d.literal("true")
	case 'f':
		return d.literal("false")
	case 'n':
		return d.literal("null")
	}
	return d.number()
}

func (d *decoder) literal(word string) bool {
	if len(d.data)-d.i < len(word) || string(d.data[d.i:d.i+len(word)]) != word {
		return false
	}
	d.i += len(word)
	return true
}

// quoted reads a string and reports whether it has escapes.
func (d *decoder) quoted() (escaped, ok bool) {
	if !d.take('"') {
		return false, false
	}
	for {
		d.i += plainPrefix(d.data[d.i:])
		if d.take('"') {
			return escaped, true
		}
		n := escapeLength(d.data[d.i:])
		if n == 0 { // the end, a control character, or no escape
			return false, false
		}
		d.i += n
		escaped = true
	}
}

// plainPrefix returns how many bytes there are before the first quote, backslash or control character. It looks at
// eight bytes at once: each test sets the top bit of the bytes for which it holds, and false ones only beyond a true
// one.
func plainPrefix(b []byte) int {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	i := 0
	for ; len(b)-i >= 8; i += 8 {
		v := binary.LittleEndian.Uint64(b[i:])
		quote, backslash := v^'"'*ones, v^'\\'*ones
		found := ((v - ' '*ones) &^ v) | ((quote - ones) &^ quote) | ((backslash - ones) &^ backslash)
		if found &= tops; found != 0 {
			return i + bits.TrailingZeros64(found)/8
		}
	}
	for ; i < len(b); i++ {
		if c := b[i]; c == '"' || c == '\\' || c < ' ' {
			break
		}
	}
	return i
}

// escapeLength returns the length of the escape at the start of b, 0 if there is none.
func escapeLength(b []byte) int {
	if len(b) < 2 || b[0] != '\\' {
		return 0
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		const length = len(`\u0000`)
		if len(b) >= length && isHex(b[2]) && isHex(b[3]) && isHex(b[4]) && isHex(b[5]) {
			return length
		}
	}
	return 0
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

// number reads a number: -? (0 | [1-9][0-9]*) (. [0-9]+)? ([eE] [+-]? [0-9]+)?
func (d *decoder) number() bool {
	d.take('-')
	if !d.take('0') && !d.digits() {
		return false
	}
	if d.take('.') && !d.digits() {
		return false
	}
	if d.take('e') || d.take('E') {
		if !d.take('+') {
			d.take('-')
		}
		return d.digits()
	}
	return true
}

func (d *decoder) digits() bool {
	start := d.i
	for d.i < len(d.data) && '0' <= d.data[d.i] && d.data[d.i] <= '9' {
		d.i++
	}
	return d.i > start
}
