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
	case len(n.Content) == 0:
		return nil, false
	}
	before := len(d.errors)
	text := d.json(nil, n, path)
	return Object(text), len(d.errors) == before
}

// json appends n as JSON.
func (d *document) json(dst []byte, n *yaml.Node, path string) []byte {
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		d.fail(n, path, "anchors and aliases are not read")
	case n.Kind == yaml.MappingNode:
		return d.jsonObject(dst, n, path)
	case n.Kind == yaml.SequenceNode:
		dst = append(dst, '[')
		for i, item := range n.Content {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = d.json(dst, item, fmt.Sprintf("%s[%d]", path, i))
		}
		return append(dst, ']')
	case slices.Contains([]string{"!!str", "!!int", "!!float", "!!bool", "!!null", "!!timestamp"}, n.Tag):
		var value any = n.Value // JSON has no times
		if n.Tag != "!!timestamp" {
			value = nil
			_ = n.Decode(&value) // the tag is that of the value
		}
		text, err := json.Marshal(value)
		if err != nil {
			d.fail(n, path, "JSON has no number %s", quoted(n.Value))
		}
		return append(dst, text...)
	default:
		d.fail(n, path, "%s, which JSON does not have", describe(n))
	}
	return dst
}

func (d *document) jsonObject(dst []byte, n *yaml.Node, path string) []byte {
	dst = append(dst, '{')
	first := make(map[string]int) // line by key
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		full := join(path, shownKey(key.Value))
		switch line, twice := first[key.Value]; {
		case key.Kind != yaml.ScalarNode || key.Tag == "!!merge" || key.Anchor != "":
			d.fail(key, path, "keys are plain words here")
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
		dst = d.json(append(append(dst, name...), ':'), value, full)
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
