package config

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Object is a JSON object without white space, as its text; "" for none. The file gives a mapping. To viper it is a text:
// of a mapping it would change the case of the keys.
type Object string

// Names returns the names of the object's own fields in order.
func (o Object) Names() []string {
	var fields map[string]json.RawMessage
	if o != "" && json.Unmarshal([]byte(o), &fields) != nil {
		panic("config: not an object: " + quoted(string(o))) // the document has written it
	}
	return slices.Sorted(maps.Keys(fields))
}

// object reads a mapping as JSON.
func (d *document) object(n *yaml.Node, path string) (any, bool) {
	switch {
	case isNull(n):
		return nil, false
	case n.Kind != yaml.MappingNode:
		d.fail(n, path, "%s, and a mapping is wanted, such as {top_k: 1}", describe(n))
		return nil, false
	}
	text := d.json(nil, n, path, 0)
	return Object(text), json.Valid(text) && len(n.Content) > 0 // a value that is wrong is missing from it
}

// maxNesting is how deep in others a value of an object may be. Servers have limits of their own, and every key is kept
// with the names of all that it is in.
const maxNesting = 100

// json appends n, which is so deep in others, as JSON.
func (d *document) json(dst []byte, n *yaml.Node, path string, depth int) []byte {
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		d.fail(n, path, "anchors and aliases are not read; write the value itself")
	case depth > maxNesting:
		d.fail(n, path, "is more than %d levels deep; no more than that are sent", maxNesting)
	case n.Kind == yaml.MappingNode && n.Tag == "!!map":
		return d.jsonObject(dst, n, path, depth)
	case n.Kind == yaml.SequenceNode && n.Tag == "!!seq":
		dst = append(dst, '[')
		for i, item := range n.Content {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = d.json(dst, item, fmt.Sprintf("%s[%d]", path, i), depth+1)
		}
		return append(dst, ']')
	case n.Kind == yaml.ScalarNode &&
		slices.Contains([]string{"!!str", "!!int", "!!float", "!!bool", "!!null", "!!timestamp"}, n.Tag):
		return d.jsonScalar(dst, n, path)
	default:
		d.fail(n, path, "JSON has nothing like this with the tag %s; leave the tag out, or put a text in quotes",
			quoted(n.Tag))
	}
	return dst
}

// jsonScalar appends a number as it is written where JSON writes it so: large ones keep all their digits.
func (d *document) jsonScalar(dst []byte, n *yaml.Node, path string) []byte {
	var value any
	if n.Decode(&value) != nil {
		d.fail(n, path, "%s is not what its tag %s says; leave the tag out, or put a text in quotes", quoted(n.Value), n.Tag)
		return dst
	}
	switch number := n.Tag == "!!int" || n.Tag == "!!float"; {
	case number && json.Valid([]byte(n.Value)):
		return append(dst, n.Value...)
	case n.Tag == "!!timestamp": // JSON has no times
		value = n.Value
	}
	text, err := json.Marshal(value)
	if err != nil {
		d.fail(n, path, "JSON has no number %s", quoted(n.Value))
	}
	return append(dst, text...)
}

func (d *document) jsonObject(dst []byte, n *yaml.Node, path string, depth int) []byte {
	dst = append(dst, '{')
	first := make(map[string]int) // line by key
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		full := join(path, shownKey(key.Value))
		switch line, twice := first[key.Value]; {
		case !isWord(key):
			d.fail(key, path, "keys are plain words here; put any other text in quotes")
			continue
		case twice:
			d.errors.append(Error{Source: d.path, Line: key.Line, Column: key.Column, Key: full,
				Message: fmt.Sprintf("is here twice; the first is in line %d", line)})
			continue
		}
		first[key.Value] = key.Line
		d.at[full] = value
		if i > 0 {
			dst = append(dst, ',')
		}
		name, _ := json.Marshal(key.Value) // a text always marshals
		dst = d.json(append(append(dst, name...), ':'), value, full, depth+1)
	}
	return append(dst, '}')
}

// ownFields are the fields of a request body that are inferprobe's own, with what sets them. Others of these names would
// change what is measured, and not what is reported.
func ownFields() map[string]string {
	const (
		prompts = "prompts are made for each request, see sweep.prompt_tokens"
		lengths = "give sweep.output_tokens and canary.output_tokens"
		stream  = "only a stream has times to measure"
	)
	return map[string]string{
		"model": "give the model of the endpoint", "messages": prompts, "prompt": prompts, "n": "one answer is measured",
		"max_tokens": lengths, "max_completion_tokens": lengths, "min_tokens": lengths, "ignore_eos": lengths,
		"stream": stream, "stream_options": stream, "cache_prompt": "see sweep.shared_prefix_tokens",
	}
}

// extraBody refuses what inferprobe sets itself, whatever its case: some servers do not look at that.
func (c *checker) extraBody(o Object) {
	own := ownFields()
	for _, name := range o.Names() {
		if instead, ok := own[strings.ToLower(name)]; ok {
			c.fail(join("extra_body", name), "is set by inferprobe itself; leave it out: %s", instead)
		}
	}
}
