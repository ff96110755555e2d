package openai

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var events = []struct {
	name, data string
	want       event
}{
	{"role", `{"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}`,
		event{hasChoices: true, choices: 1}},
	{"role, null content", `{"choices":[{"delta":{"role":"assistant","content":null}}]}`,
		event{hasChoices: true, choices: 1}},
	{"content", `{"choices":[{"delta":{"content":"a"}}]}`, event{hasChoices: true, choices: 1, answer: true}},
	{"content in parts", `{"choices":[{"delta":{"content":[{"type":"text","text":"a"}]}}]}`,
		event{hasChoices: true, choices: 1, answer: true}},
	{"content in parts without text", `{"choices":[{"delta":{"content":["",{"type":"text","text":""},{},1]}}]}`,
		event{hasChoices: true, choices: 1}},
	{"content in a part that is no text", `{"choices":[{"delta":{"content":[{"type":"image_url","image_url":{}}]}}]}`,
		event{hasChoices: true, choices: 1, answer: true}},
	{"reasoning in summaries", `{"choices":[{"delta":{"content":[{"type":"reasoning","summary":[{"text":"a"}]}]}}]}`,
		event{hasChoices: true, choices: 1, reasoning: true}},
	{"an empty summary", `{"choices":[{"delta":{"content":[{"type":"reasoning","summary":[]}]}}]}`,
		event{hasChoices: true, choices: 1}},
	{"reasoning in parts", `{"choices":[{"delta":{"content":[{"type":"thinking","thinking":[{"type":"text","text":"a"}]}]}}]}`,
		event{hasChoices: true, choices: 1, reasoning: true}},
	{"no parts", `{"choices":[{"delta":{"content":[ ]}}]}`, event{hasChoices: true, choices: 1}},
	{"refusal", `{"choices":[{"delta":{"content":null,"refusal":"a"}}]}`,
		event{hasChoices: true, choices: 1, answer: true}},
	{"escaped content", `{"choices":[{"delta":{"content":"\u00e4\n"}}]}`,
		event{hasChoices: true, choices: 1, answer: true}},
	{"escaped key", `{"choices":[{"d\u0065lta":{"cont\u0065nt":"a"}}]}`,
		event{hasChoices: true, choices: 1, answer: true}},
	{"reasoning", `{"choices":[{"delta":{"reasoning":"a","content":null}}]}`,
		event{hasChoices: true, choices: 1, reasoning: true}},
	{"reasoning_content", `{"choices":[{"delta":{"reasoning_content":"a"}}]}`,
		event{hasChoices: true, choices: 1, reasoning: true}},
	{"tool call", `{"choices":[{"delta":{"tool_calls":[{"index":0}]}}]}`,
		event{hasChoices: true, choices: 1, answer: true}},
	{"function call", `{"choices":[{"delta":{"function_call":{"arguments":""}}}]}`,
		event{hasChoices: true, choices: 1, answer: true}},
	{"text", `{"choices":[{"text":"a","finish_reason":"length"}]}`,
		event{hasChoices: true, choices: 1, answer: true, finish: "length"}},
	{"empty finish reason", `{"choices":[{"text":"","finish_reason":""}]}`, event{hasChoices: true, choices: 1}},
	{"odd finish reason", `{"choices":[{"text":"","finish_reason":"abo\u0072t"}]}`,
		event{hasChoices: true, choices: 1, finish: "abort"}},
	{"token ids", `{"choices":[{"text":"","token_ids":[1,2,3]}]}`, event{hasChoices: true, choices: 1, tokenIDs: 3}},
	{"no token ids", `{"choices":[{"text":"","token_ids":null},{"token_ids":[]}]}`, event{hasChoices: true, choices: 2}},
	{"usage", `{"choices":[],"usage":{"prompt_tokens":24,"completion_tokens":16,` +
		`"prompt_tokens_details":{"cached_tokens":8},"completion_tokens_details":{"reasoning_tokens":4}}}`,
		event{hasChoices: true, hasUsage: true, usage: usage{prompt: 24, completion: 16, cached: 8, reasoning: 4}}},
	{"usage without details", `{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2.0e1,"reasoning_tokens":3,` +
		`"prompt_tokens_details":null,"completion_tokens_details":null}}`,
		event{hasChoices: true, hasUsage: true, usage: usage{prompt: 1, completion: 20, reasoningFlat: 3}}},
	{"odd counts", `{"usage":{"prompt_tokens":-1,"completion_tokens":"6","prompt_tokens_details":{"cached_tokens":1e99}}}`,
		event{hasUsage: true}},
	{"usage in a choice", `{"choices":[{"usage":{"completion_tokens":1}},{"usage":{"completion_tokens":2}},{"usage":null}]}`,
		event{hasChoices: true, choices: 3, hasUsage: true, usage: usage{completion: 2}}},
	{"usage in x_groq", `{"x_groq":{"id":"a","usage":{"prompt_tokens":3,"completion_tokens":2}},"choices":[],"usage":null}`,
		event{hasChoices: true, hasUsage: true, usage: usage{prompt: 3, completion: 2}}},
	{"usage in three places", `{"x_groq":{"usage":{"completion_tokens":3}},"choices":[{"usage":{"completion_tokens":2}}],` +
		`"usage":{"completion_tokens":1}}`,
		event{hasChoices: true, choices: 1, hasUsage: true, usage: usage{completion: 1}}},
	{"null usage", `{"choices":[],"usage":null}`, event{hasChoices: true}},
	{"timings", `{"choices":[],"timings":{"cache_n":1,"prompt_n":24,"prompt_ms":4.5,"predicted_n":6}}`,
		event{hasChoices: true, timings: usage{prompt: 24, completion: 6, cached: 1}}},
	{"the last of two counts", `{"choices":[{"text":"a"}],` +
		`"choices":[{"text":"a","text":"","delta":{"content":"a"},"delta":{}}]}`,
		event{hasChoices: true, choices: 1}},
	{"error object", `{"error":{"message":"a"}}`, event{err: true}},
	{"error in a choice", `{"choices":[{"delta":{},"finish_reason":"error","error":{"message":"a"}},{"error":null}]}`,
		event{hasChoices: true, choices: 2, finish: "error", err: true}},
	{"error in x_groq", `{"choices":[{"finish_reason":"stop"}],"x_groq":{"error":"a"}}`,
		event{hasChoices: true, choices: 1, finish: "stop", err: true}},
	{"error string", `{"error":"a","error_type":"b"}`, event{err: true}},
	{"null error", `{"error":null,"choices":[]}`, event{hasChoices: true}},
	{"no error", `{"error":"","choices":[]}`, event{hasChoices: true}},
	{"flat error", `{"object":"error","message":"a"}`, event{err: true}},
	{"detail", `{"detail":[{"msg":"a"}]}`, event{err: true}},
	{"message of another protocol", `{"message":{"role":"assistant","content":"a"},"done":false}`, event{}},
	{"message beside choices", `{"choices":[],"message":"a"}`, event{hasChoices: true}},
	{"null", `null`, event{}},
	{"string", `"a"`, event{}},
	{"nothing of use", ` {"a" : [ 1 , {"b" : [true,false,null,-1.5E+3,"\"\\\/\b\f\n\r\täö"]} ] } `, event{}},
}

func TestDecode(t *testing.T) {
	for _, test := range events {
		t.Run(test.name, func(t *testing.T) {
			var d decoder
			if !d.decode([]byte(test.data)) {
				t.Fatal("not valid")
			}
			if diff := cmp.Diff(test.want, d.event, cmp.AllowUnexported(event{}, usage{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

var broken = []string{
	"", " ", "{", "}", "[", "[1,]", `{"a"}`, `{"a":}`, `{"a":1,}`, "{,}", "[,]", "{1:2}", `{"a":1 "b":2}`, "[1 2]",
	"nul", "truE", "01", "1.", ".5", "1e", "-", "+1", "1e+", `"`, `"\x"`, `"\u12g4"`, `"\u12`, `"\`, "\"a\nb\"", "{} {}",
	"{}x", "\xef\xbb\xbf{}", "[DONE]", "'a'", "NaN", "{\"choices\":[{]}", "{\"usage\":{\"prompt_tokens\":}}",
	strings.Repeat("[", maxDepth+1) + strings.Repeat("]", maxDepth+1),
}

func TestDecodeRefusesWhatIsNotJSON(t *testing.T) {
	for _, data := range broken {
		if json.Valid([]byte(data)) {
			t.Errorf("%q is valid after all", data)
		}
		if new(decoder).decode([]byte(data)) {
			t.Errorf("%q was accepted", data)
		}
	}
	deep := strings.Repeat("[", maxDepth) + strings.Repeat("]", maxDepth)
	if !json.Valid([]byte(deep)) || !new(decoder).decode([]byte(deep)) {
		t.Error("the deepest nesting that encoding/json accepts was refused")
	}
}

// referenceDecode is decode by way of encoding/json and maps.
func referenceDecode(data []byte) (e event, valid bool) {
	if !json.Valid(data) {
		return e, false
	}
	var root any
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	if decoder.Decode(&root) != nil {
		return e, false
	}
	top, ok := root.(map[string]any)
	if !ok {
		return e, true
	}
	list, ok := top["choices"].([]any)
	e.hasChoices = ok
	groq, _ := top["x_groq"].(map[string]any)
	e.usage, e.hasUsage = referenceUsage(groq)
	for _, element := range list {
		referenceChoice(element, &e)
	}
	if u, ok := referenceUsage(top); ok {
		e.usage, e.hasUsage = u, true
	}
	if timings, ok := top["timings"].(map[string]any); ok {
		e.timings = usage{
			prompt: number(timings["prompt_n"]), cached: number(timings["cache_n"]), completion: number(timings["predicted_n"]),
		}
	}
	message, _ := top["message"].(string)
	e.err = e.err || something(groq["error"]) || something(top["error"]) || top["error"] == true ||
		top["object"] == "error" || !e.hasChoices && (message != "" || something(top["detail"]))
	return e, true
}

// referenceUsage is the usage in what is given.
func referenceUsage(in map[string]any) (usage, bool) {
	given, ok := in["usage"].(map[string]any)
	if !ok {
		return usage{}, false
	}
	u := usage{
		prompt: number(given["prompt_tokens"]), completion: number(given["completion_tokens"]),
		reasoningFlat: number(given["reasoning_tokens"]),
	}
	if details, ok := given["prompt_tokens_details"].(map[string]any); ok {
		u.cached = number(details["cached_tokens"])
	}
	if details, ok := given["completion_tokens_details"].(map[string]any); ok {
		u.reasoning = number(details["reasoning_tokens"])
	}
	return u, true
}

func referenceChoice(element any, e *event) {
	c, ok := element.(map[string]any)
	if !ok {
		return
	}
	e.choices++
	delta, _ := c["delta"].(map[string]any)
	content, thinking := something(delta["content"]), false
	if parts, ok := delta["content"].([]any); ok {
		content = false
		for _, element := range parts {
			part, _ := element.(map[string]any)
			_, hasText := part["text"]
			_, hasThinking := part["thinking"]
			_, hasSummary := part["summary"]
			worded := hasText || hasThinking || hasSummary
			content = content || something(part["text"]) || something(element) && !worded
			thinking = thinking || something(part["thinking"]) || something(part["summary"])
		}
	}
	e.answer = e.answer || something(c["text"]) || content || something(delta["refusal"]) ||
		something(delta["tool_calls"]) || something(delta["function_call"])
	e.reasoning = e.reasoning || thinking || something(delta["reasoning"]) || something(delta["reasoning_content"])
	e.err = e.err || something(c["error"])
	if u, ok := referenceUsage(c); ok {
		e.usage, e.hasUsage = u, true
	}
	ids, _ := c["token_ids"].([]any)
	e.tokenIDs += len(ids)
	if finish, _ := c["finish_reason"].(string); finish != "" {
		e.finish = finish
	}
}

func number(value any) int {
	n, ok := value.(json.Number)
	if !ok {
		return 0
	}
	f, err := strconv.ParseFloat(n.String(), 64)
	if err != nil || f < 0 || f > 1e12 {
		return 0
	}
	return int(f)
}

func something(value any) bool {
	switch v := value.(type) {
	case string:
		return v != ""
	case []any:
		return len(v) > 0
	case map[string]any:
		return len(v) > 0
	}
	return false
}

// FuzzDecode compares with encoding/json: the same verdict on validity, the same values, whatever was decoded before.
func FuzzDecode(f *testing.F) {
	for i, test := range events {
		f.Add([]byte(test.data), []byte(events[(i+1)%len(events)].data))
		f.Add([]byte(test.data), []byte(test.data))
	}
	for _, data := range broken[:len(broken)-1] {
		f.Add([]byte(vllmEvent), []byte(data))
	}
	for _, pair := range shapes {
		f.Add([]byte(pair.first), []byte(pair.second))
	}
	f.Fuzz(func(t *testing.T, first, data []byte) {
		var d decoder
		d.decode(first)
		d.decode(data)
		valid := d.decode(data)
		want, ok := referenceDecode(data)
		if valid != ok {
			t.Fatalf("%q after %q: valid %v, encoding/json says %v", data, first, valid, ok)
		}
		if diff := cmp.Diff(want, d.event, cmp.AllowUnexported(event{}, usage{})); valid && diff != "" {
			t.Errorf("%q after %q (-want +got):\n%s", data, first, diff)
		}
	})
}

const word = `{"choices":[{"delta":{"content":"a"}}]}`

var shapes = []struct {
	name, first, second string
	same                bool // the second has the shape of the first
}{
	{"another word", word, `{"choices":[{"delta":{"content":"\"word\u00e4"}}]}`, true},
	{"no word", word, `{"choices":[{"delta":{"content":""}}]}`, false},
	{"word without an end", word, `{"choices":[{"delta":{"content":"a`, false},
	{"bad escape", word, `{"choices":[{"delta":{"content":"\x"}}]}`, false},
	{"control character", word, "{\"choices\":[{\"delta\":{\"content\":\"\t\"}}]}", false},
	{"more behind", `{"choices":[{"text":"a"}]}`, `{"choices":[{"text":"a"}]} `, false},
	{"another key", `{"choices":[{"text":"a"}]}`, `{"choices":[{"tex":"a"}]}`, false},
	{"total", `{"choices":[{"text":"a"}],"usage":{"completion_tokens":9,"total_tokens":9}}`,
		`{"choices":[{"text":"b"}],"usage":{"completion_tokens":10,"total_tokens":100}}`, true},
	{"leading zero", `{"choices":[{"text":"a"}],"usage":{"completion_tokens":9}}`,
		`{"choices":[{"text":"a"}],"usage":{"completion_tokens":09}}`, false},
	{"no number", `{"choices":[{"text":"a"}],"usage":{"completion_tokens":9}}`,
		`{"choices":[{"text":"a"}],"usage":{"completion_tokens":}}`, false},
	{"fraction", `{"choices":[{"text":"a"}],"usage":{"completion_tokens":9}}`,
		`{"choices":[{"text":"a"}],"usage":{"completion_tokens":9.5}}`, false},
	{"reasoning tokens",
		`{"choices":[{"delta":{"reasoning":"a"}}],"usage":{"completion_tokens_details":{"reasoning_tokens":1}}}`,
		`{"choices":[{"delta":{"reasoning":"b"}}],"usage":{"completion_tokens_details":{"reasoning_tokens":2}}}`, true},
	{"two usages", `{"usage":{"completion_tokens":0},"usage":{},"choices":[{"text":"a"}]}`,
		`{"usage":{"completion_tokens":5},"usage":{},"choices":[{"text":"a"}]}`, false},
	{"two details", `{"usage":{"completion_tokens_details":{"reasoning_tokens":0},"completion_tokens_details":{}},` +
		`"choices":[{"text":"a"}]}`, `{"usage":{"completion_tokens_details":{"reasoning_tokens":5},` +
		`"completion_tokens_details":{}},"choices":[{"text":"a"}]}`, false},
	{"usage in a choice", `{"choices":[{"text":"a","usage":{"completion_tokens":9}}]}`,
		`{"choices":[{"text":"b","usage":{"completion_tokens":10}}]}`, true},
	{"usage in two places", `{"choices":[{"text":"a","usage":{"completion_tokens":9}}],"usage":{"completion_tokens":9}}`,
		`{"choices":[{"text":"a","usage":{"completion_tokens":10}}],"usage":{"completion_tokens":9}}`, false},
	{"text in parts", `{"choices":[{"delta":{"content":[{"text":"a"}]}}]}`,
		`{"choices":[{"delta":{"content":[{"text":"word"}]}}]}`, true},
	{"too many places", `{"choices":[` + strings.Repeat(`{"text":"a"},`, maxSlots) + `{"text":"a"}]}`,
		`{"choices":[` + strings.Repeat(`{"text":"a"},`, maxSlots) + `{"text":"b"}]}`, false},
}

func TestShapes(t *testing.T) {
	for _, test := range shapes {
		t.Run(test.name, func(t *testing.T) {
			var d decoder
			if !d.decode([]byte(test.first)) {
				t.Fatal("the first is not valid")
			}
			before := d.shape
			if same := d.shape.match([]byte(test.second), &d.event); same != test.same {
				t.Errorf("same shape: %v, want %v", same, test.same)
			}
			d.shape = before
			valid := d.decode([]byte(test.second))
			want, ok := referenceDecode([]byte(test.second))
			if diff := cmp.Diff(want, d.event, cmp.AllowUnexported(event{}, usage{})); valid != ok || valid && diff != "" {
				t.Errorf("valid %v, want %v (-want +got):\n%s", valid, ok, diff)
			}
		})
	}
}

func TestShapesThatNeverRepeatAreGivenUp(t *testing.T) {
	var d decoder
	for i := range maxMisses + 1 {
		if !d.decode(fmt.Appendf(nil, `{"id":%d,"choices":[{"text":"a"}]}`, i)) {
			t.Fatal("not valid")
		}
	}
	if len(d.shape.data) != 0 {
		t.Error("the last shape is still kept")
	}
}

const vllmEvent = `{"id":"chatcmpl-9843490c2ed12124","object":"chat.completion.chunk","created":1795507541,` +
	`"model":"tiny","choices":[{"index":0,"delta":{"content":" look"},"logprobs":null,"finish_reason":"length",` +
	`"token_ids":null}],` +
	`"usage":{"prompt_tokens":20,"total_tokens":38,"completion_tokens":18,` +
	`"completion_tokens_details":{"reasoning_tokens":13}}}`

func TestDecodeAllocatesNothing(t *testing.T) {
	data := []byte(vllmEvent)
	var d decoder
	for name, change := range map[string]func(){"shape": func() {}, "full": func() { d.shape.data = d.shape.data[:0] }} {
		if allocs := testing.AllocsPerRun(100, func() { change(); d.decode(data) }); allocs != 0 {
			t.Errorf("%s: %v allocations, want none", name, allocs)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	data := []byte(vllmEvent)
	b.Run("shape", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		b.ReportAllocs()
		var d decoder
		for b.Loop() {
			d.decode(data)
		}
	})
	b.Run("full", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		b.ReportAllocs()
		var d decoder
		for b.Loop() {
			d.shape.data = nil
			d.decode(data)
		}
	})
}

func BenchmarkEncodingJSON(b *testing.B) {
	data := []byte(vllmEvent)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		var e referenceEvent
		if json.Unmarshal(data, &e) != nil {
			b.Fatal("not valid")
		}
	}
}
