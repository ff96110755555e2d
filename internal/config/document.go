package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/spf13/viper"
	"go.yaml.in/yaml/v3"
)

// maxSize is the largest file that is read. An endpoint takes some hundred bytes.
const maxSize = 1 << 20

// document is a configuration file as it was read: the place of every key, and every mistake found so far. It is
// viper's YAML decoder, a strict one.
type document struct {
	path   string
	at     map[string]*yaml.Node // key, or value in a list, by path
	errors Errors
}

// readFile returns the content of a configuration file that is fit to be parsed.
func readFile(path string) ([]byte, *Error) {
	fail := func(format string, args ...any) ([]byte, *Error) {
		return nil, &Error{Source: path, Message: fmt.Sprintf(format, args...)}
	}
	f, err := os.Open(path)
	if err != nil {
		return fail("%v", cause(err))
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.IsDir() {
		return fail("is a folder; name the file in it")
	}
	content, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	switch {
	case err != nil:
		return fail("%v", cause(err))
	case len(content) > maxSize:
		return fail("is larger than 1 MiB; this cannot be a configuration file")
	case len(bytes.TrimSpace(content)) == 0:
		return fail(emptyFile)
	}
	for i, line := range bytes.Split(content, []byte("\n")) {
		if !utf8.Valid(line) {
			return nil, &Error{Source: path, Line: i + 1, Message: "is not UTF-8 text; save the file as UTF-8"}
		}
	}
	return content, nil
}

const emptyFile = "is empty; the least is an endpoint with its url: endpoints: [{url: http://host:8000/v1}]"

// cause returns the error below the name of the operation and the path, which the message names already.
func cause(err error) error {
	var pathError *os.PathError
	if errors.As(err, &pathError) {
		return pathError.Err
	}
	return err
}

// read parses content and returns viper filled with it. What is wrong is in d.errors, and is missing from viper.
func (d *document) read(content []byte) (*viper.Viper, error) {
	registry := viper.NewCodecRegistry()
	if err := registry.RegisterCodec("yaml", d); err != nil {
		return nil, err
	}
	v := viper.NewWithOptions(viper.WithDecoderRegistry(registry))
	v.SetConfigType("yaml")
	return v, v.ReadConfig(bytes.NewReader(content))
}

// Decode implements viper.Decoder. Mistakes go to d.errors, so that all of them are found.
func (d *document) Decode(content []byte, into map[string]any) error {
	root, ok := d.parse(content)
	if !ok {
		return nil
	}
	if root.Kind != yaml.MappingNode {
		d.fail(root, "", "the file must be a mapping that names endpoints: endpoints: [{url: http://host:8000/v1}]")
		return nil
	}
	d.mapping(root, reflect.TypeFor[file](), "", into)
	return nil
}

// Encode implements viper.Encoder; configurations are never written.
func (d *document) Encode(map[string]any) ([]byte, error) {
	return nil, errors.New("a configuration is not written back")
}

// parse returns the root of the only YAML document in content.
func (d *document) parse(content []byte) (*yaml.Node, bool) {
	var doc, second yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	switch err := decoder.Decode(&doc); {
	case errors.Is(err, io.EOF) || err == nil && (len(doc.Content) == 0 || isNull(doc.Content[0])):
		d.errors.add(Error{Source: d.path, Message: emptyFile})
		return nil, false
	case err != nil:
		d.errors.add(d.syntaxError(content, err))
		return nil, false
	}
	switch err := decoder.Decode(&second); {
	case errors.Is(err, io.EOF):
	case err != nil:
		d.errors.add(d.syntaxError(content, err))
	default:
		d.fail(&second, "", "a second document begins here; a configuration is one document")
	}
	return doc.Content[0], true
}

var (
	yamlLine  = regexp.MustCompile(`^yaml: line (\d+): `)
	indentTab = regexp.MustCompile(`^[ -]*\t`)
)

// syntaxError places an error of the YAML parser. The parser does not know what most people stumble over: a tab.
func (d *document) syntaxError(content []byte, err error) Error {
	for i, line := range bytes.Split(content, []byte("\n")) {
		if tab := indentTab.Find(line); tab != nil && len(bytes.TrimSpace(line)) > 0 {
			return Error{Source: d.path, Line: i + 1, Column: len(tab),
				Message: "a tab; YAML is indented with spaces only"}
		}
	}
	e := Error{Source: d.path}
	if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
		e.Line, _ = strconv.Atoi(m[1])
	}
	problem := yamlLine.ReplaceAllString(err.Error(), "")
	e.Message = "is not YAML: " + strings.TrimPrefix(problem, "yaml: ")
	return e
}

// fail records a mistake at n.
func (d *document) fail(n *yaml.Node, key, format string, args ...any) {
	d.errors.add(Error{Source: d.path, Line: n.Line, Column: n.Column, Key: key, Message: fmt.Sprintf(format, args...)})
}

// mapping reads the keys of struct type t from n, which stands at path, into a map.
func (d *document) mapping(n *yaml.Node, t reflect.Type, path string, into map[string]any) {
	fields := fieldsOf(t)
	first := make(map[string]*yaml.Node)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if !isWord(key) {
			d.fail(key, path, "keys are plain words here; use the section `defaults` for what endpoints share")
			continue
		}
		full := join(path, shownKey(key.Value))
		at := slices.IndexFunc(fields, func(f field) bool { return f.key == key.Value })
		switch earlier := first[key.Value]; {
		case earlier != nil:
			d.errors.append(Error{Source: d.path, Line: key.Line, Column: key.Column, Key: full,
				Message: fmt.Sprintf("is here twice; the first is in line %d", earlier.Line)})
			continue
		case at < 0:
			first[key.Value] = key
			d.fail(key, full, "%s", unknownKey(key.Value, t))
			continue
		}
		first[key.Value] = key
		d.at[full] = value
		if v, ok := d.value(value, fields[at].typ, full); ok {
			into[key.Value] = v
		}
	}
}

// value reads n as type t; false if it is nothing or wrong.
func (d *document) value(n *yaml.Node, t reflect.Type, path string) (any, bool) {
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		d.fail(n, path, "anchors and aliases are not read; use the section `defaults` for what endpoints share")
		return nil, false
	case t == lengthType && n.Kind == yaml.MappingNode:
		return d.length(n, path)
	case t == objectType:
		return d.object(n, path)
	case t == lengthType || t == windowType:
		return d.scalar(n, t, path)
	case t.Kind() == reflect.Struct:
		return d.section(n, t, path)
	case t.Kind() == reflect.Slice:
		return d.list(n, t.Elem(), path)
	}
	return d.scalar(n, t, path)
}

func (d *document) section(n *yaml.Node, t reflect.Type, path string) (any, bool) {
	if isNull(n) && !strings.HasSuffix(path, "]") {
		return nil, false // a heading with nothing below it
	}
	if n.Kind != yaml.MappingNode {
		d.fail(n, path, "%s, and a mapping with keys such as %s is wanted", describe(n), quoted(fieldsOf(t)[0].key))
		return nil, false
	}
	into := make(map[string]any)
	d.mapping(n, t, path, into)
	return into, true
}

func (d *document) list(n *yaml.Node, elem reflect.Type, path string) (any, bool) {
	if isNull(n) {
		return nil, false
	}
	if n.Kind != yaml.SequenceNode {
		d.fail(n, path, "%s, and a list is wanted, one element a line after a dash", describe(n))
		return nil, false
	}
	list := make([]any, 0, len(n.Content))
	for i, item := range n.Content {
		at := fmt.Sprintf("%s[%d]", path, i)
		d.at[at] = item
		v, ok := d.value(item, elem, at)
		switch {
		case ok:
			list = append(list, v)
		case isSection(elem):
			list = append(list, nil) // keeps the positions of those that follow
		}
	}
	return list, true
}

func (d *document) length(n *yaml.Node, path string) (any, bool) {
	m := make(map[string]any)
	before := len(d.errors)
	d.mapping(n, lengthType, path, m)
	number := func(key string) int { i, _ := m[key].(int); return i }
	if _, ok := m["mean"]; !ok && len(d.errors) == before {
		d.fail(n, path, `has no "mean"; give a number of tokens or {mean: 512, variance: 100, min: 1, max: 1024}`)
	}
	return Length{number("mean"), number("variance"), number("min"), number("max")}, len(d.errors) == before
}

func (d *document) scalar(n *yaml.Node, t reflect.Type, path string) (any, bool) {
	switch {
	case n.Kind != yaml.ScalarNode:
		d.fail(n, path, "%s, and %s is wanted", describe(n), wanted(t))
		return nil, false
	case isNull(n):
		d.fail(n, path, "has no value; give one or leave the key out")
		return nil, false
	case t.Kind() == reflect.String && slices.Contains([]string{"!!int", "!!float", "!!bool"}, n.Tag):
		d.fail(n, path, "%s, and a text is wanted; put it in quotes: %s", describe(n), quoted(n.Value))
		return nil, false
	case !slices.Contains(tagsOf(t), n.Tag):
		d.fail(n, path, "%s, and %s is wanted", describe(n), wanted(t))
		return nil, false
	}
	parse := parse
	if t == durationType && isLatency(path) {
		parse = parseLatency
	}
	v, err := parse(t, n.Value)
	if err != nil {
		d.fail(n, path, "%v", err)
		return nil, false
	}
	return v, true
}

// tagsOf returns the kinds of scalars that may hold a value of type t.
func tagsOf(t reflect.Type) []string {
	if t.Kind() == reflect.Bool {
		return []string{"!!bool"}
	}
	return []string{"!!str", "!!int", "!!float", "!!timestamp"}
}

// isNull reports whether n is nothing; a text with the tag !!null is something.
func isNull(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.Tag == "!!null" && n.Decode(new(any)) == nil
}

// isWord reports whether a key is the text that is written: no merge, no null, nothing that a tag makes something else.
func isWord(key *yaml.Node) bool {
	switch {
	case key.Kind != yaml.ScalarNode || key.Anchor != "":
		return false
	case key.Tag == "!!str":
		return true
	}
	return key.Style&yaml.TaggedStyle == 0 && key.Tag != "!!merge" && key.Tag != "!!null"
}

// describe says what n is, as the beginning of a sentence.
func describe(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "this is a mapping"
	case n.Kind == yaml.SequenceNode:
		return "this is a list"
	case n.Tag == "!!str":
		return "this is a text"
	case n.Tag == "!!int" || n.Tag == "!!float":
		return "this is a number"
	case n.Tag == "!!bool":
		return "this is true or false"
	case isNull(n):
		return "this is empty"
	}
	return "this has the tag " + quoted(n.Tag)
}

// wanted says what a value of type t is.
func wanted(t reflect.Type) string {
	switch t {
	case durationType:
		return "a duration such as 6h"
	case countType:
		return "a count such as 20M"
	case ratioType:
		return "a share such as 1%"
	case lengthType:
		return "a number of tokens"
	case windowType:
		return "a window such as 22:00-06:00"
	}
	switch t.Kind() {
	case reflect.Int:
		return "a whole number"
	case reflect.Float64:
		return "a number"
	case reflect.Bool:
		return "true or false"
	}
	return "a text"
}

// locator returns where the keys of the section at path stand. A key that is not there has the place of the file's
// defaults if it is among them, else of what is around it.
func (d *document) locator(path string) locator {
	return func(key string) (Error, bool) {
		full := join(path, key)
		for _, at := range []string{full, "defaults." + key} {
			if n := d.at[at]; n != nil {
				return Error{Source: d.path, Line: n.Line, Column: n.Column, Key: at}, true
			}
		}
		e := Error{Source: d.path, Key: full}
		for at := full; at != ""; {
			at = at[:max(strings.LastIndexAny(at, ".["), 0)]
			if n := d.at[at]; n != nil {
				e.Line, e.Column = n.Line, n.Column
				break
			}
		}
		return e, false
	}
}
