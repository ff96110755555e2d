package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/inferprobe/inferprobe/internal/probe"
)

const (
	examplePath = "../../config/inferprobe.yaml"
	schemaPath  = "../../config/inferprobe.schema.json"
)

// schema is the part of JSON Schema that ours uses.
type schema struct {
	Ref                  string             `json:"$ref"`
	Defs                 map[string]*schema `json:"$defs"`
	Description          string             `json:"description"`
	Properties           map[string]*schema `json:"properties"`
	AdditionalProperties *bool              `json:"additionalProperties"`
	Items                *schema            `json:"items"`
	Enum                 []string           `json:"enum"`
	Default              any                `json:"default"`
	OneOf                []*schema          `json:"oneOf"`
	Pattern              string             `json:"pattern"`
	PropertyNames        *schema            `json:"propertyNames"`
	Not                  *schema            `json:"not"`
}

func readSchema(t *testing.T) *schema {
	t.Helper()
	text, err := os.ReadFile(schemaPath)
	if err != nil {
		t.Fatal(err)
	}
	var s schema
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	return &s
}

// TestSchemaHasTheKeys compares the schema with the structs: the same keys, at every depth, with the same defaults.
func TestSchemaHasTheKeys(t *testing.T) {
	root := readSchema(t)
	builtIn := fileDefaults()
	for key, value := range defaults() {
		builtIn["endpoints[]."+key] = value
	}
	compareSchema(t, root, root, reflect.TypeFor[file](), "", builtIn)
}

func compareSchema(t *testing.T, root, s *schema, typ reflect.Type, path string, builtIn map[string]any) {
	t.Helper()
	own := s
	if name, ok := strings.CutPrefix(s.Ref, "#/$defs/"); ok {
		if s = root.Defs[name]; s == nil {
			t.Fatalf("%s: the schema has no definition %s", path, name)
		}
	}
	switch {
	case typ == lengthType:
		s = s.OneOf[1]
		fallthrough
	case isSection(typ):
		var keys []string
		for _, f := range fieldsOf(typ) {
			keys = append(keys, f.key)
			if p := s.Properties[f.key]; p != nil && typ != lengthType {
				compareSchema(t, root, p, f.typ, join(path, f.key), builtIn)
			}
		}
		slices.Sort(keys)
		if diff := cmp.Diff(keys, slices.Sorted(maps.Keys(s.Properties))); diff != "" {
			t.Errorf("%s: -struct +schema:\n%s", path, diff)
		}
		if s.AdditionalProperties == nil || *s.AdditionalProperties {
			t.Errorf("%s: the schema allows unknown keys", path)
		}
		if typ != lengthType {
			return
		}
	case typ.Kind() == reflect.Slice && isSection(typ.Elem()):
		compareSchema(t, root, s.Items, typ.Elem(), path+"[]", builtIn)
		return
	}
	if own.Description == "" && s.Description == "" && !strings.Contains(path, "labels[]") {
		t.Errorf("%s: the schema has no description", path)
	}
	if want, ok := builtIn[path]; ok {
		got, err := parse(typ, fmt.Sprint(own.Default))
		if err != nil || got != want && fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: the schema's default is %v, and %v is built in", path, own.Default, want)
		}
	}
}

func TestSchemaHasTheWords(t *testing.T) {
	root := readSchema(t)
	var profiles []string
	for _, p := range probe.Profiles() {
		profiles = append(profiles, string(p))
	}
	for _, tt := range []struct {
		got, want []string
	}{
		{root.Defs["endpoint"].Properties["dialect"].Enum, Dialects()},
		{root.Defs["endpoint"].Properties["api"].Enum, []string{APIChat, APICompletions}},
		{root.Defs["sweep"].Properties["profile"].Enum, profiles},
		{root.Defs["guards"].Properties["yield_to_users"].Enum, []string{YieldAuto, YieldNever}},
		{slices.Sorted(slices.Values(root.Defs["endpoint"].Properties["extra_body"].PropertyNames.Not.Enum)),
			slices.Sorted(maps.Keys(ownFields()))},
		{root.Properties["metrics"].Properties["histograms"].Enum, Histograms()},
	} {
		if diff := cmp.Diff(tt.want, tt.got); diff != "" {
			t.Errorf("-code +schema:\n%s", diff)
		}
	}
}

// TestSchemaTakesWhatWeTake holds the patterns of scalars against the parsers.
func TestSchemaTakesWhatWeTake(t *testing.T) {
	root := readSchema(t)
	for name, tt := range map[string]struct {
		typ   reflect.Type
		texts []string
	}{
		"duration": {durationType, []string{
			"6h", "500ms", "1d", "1.5d12h30m", "0", "0s", "6", "h", "-6h", "6 h", "1h2d", ""}},
		"count": {countType, []string{"20M", "1.5G", "0", "20m", "-1", "M", ""}},
		"ratio": {ratioType, []string{"1%", "0.5", "100%", "-1%", "%", ""}},
	} {
		pattern := regexp.MustCompile(root.Defs[name].OneOf[1].Pattern)
		for _, text := range tt.texts {
			_, err := parse(tt.typ, text)
			if matches := text != "" && pattern.MatchString(text); matches != (err == nil) {
				t.Errorf("%s: the schema takes %q: %v; we: %v", name, text, matches, err)
			}
		}
	}
}

// TestExample holds the annotated example to what it says of itself: it loads, every value in it is built in, and every
// key is in it.
func TestExample(t *testing.T) {
	t.Setenv("HF_TOKEN", "")
	example, err := Load(examplePath)
	if err != nil {
		t.Fatal(err)
	}
	minimal, err := load("minimal.yaml", []byte("endpoints: [{url: http://vllm.models.svc:8000/v1}]"))
	if err != nil {
		t.Fatal(err)
	}
	example.Files, minimal.Files = nil, nil
	example.Digest, minimal.Digest = Digest{}, Digest{}
	empty := cmp.Transformer("empty", func(l []float64) int { return len(l) })
	noWindows := cmp.Transformer("windows", func(l []Window) int { return len(l) })
	if diff := cmp.Diff(minimal, example, empty, noWindows); diff != "" {
		t.Errorf("-built in +example:\n%s", diff)
	}

	text, err := os.ReadFile(examplePath)
	if err != nil {
		t.Fatal(err)
	}
	eachKey(reflect.TypeFor[file](), "", func(path, key string) {
		if !regexp.MustCompile(`[\s{#]` + key + `:`).Match(text) {
			t.Errorf("the example does not have %s", path)
		}
	})
}

// TestExampleWithEverythingSet removes the comment signs in front of keys: what the example suggests is right, too.
func TestExampleWithEverythingSet(t *testing.T) {
	t.Setenv("HF_TOKEN", "")
	t.Setenv("LLAMA_API_KEY", "sk-test")
	t.Setenv("PORTKEY_KEY", "pk-test")
	text, err := os.ReadFile(examplePath)
	if err != nil {
		t.Fatal(err)
	}
	text = regexp.MustCompile(`(?m)^( +)# ( *[a-z0-9_]+:)`).ReplaceAll(text, []byte("$1$2"))
	text = regexp.MustCompile(`(?m)^.*(api_key|ca|cert|key)_file: .*\n`).ReplaceAll(text, nil)
	text = bytes.ReplaceAll(text, []byte("- url: http://"), []byte("- url: https://"))
	cfg, err := load("example.yaml", text)
	if err != nil {
		t.Fatal(err)
	}
	e := cfg.Endpoints[0]
	if diff := cmp.Diff([]string{"sk-test", "pk-test"}, e.Secrets()); diff != "" {
		t.Errorf("secrets: -want +got:\n%s", diff)
	}
	if e.TLS != (TLS{ServerName: "llm.internal"}) {
		t.Errorf("tls: %+v", e.TLS)
	}
	if want := Object(`{"chat_template_kwargs":{"enable_thinking":false},"top_k":1}`); e.ExtraBody != want {
		t.Errorf("extra_body: %s", e.ExtraBody)
	}
	if e.Name != "llama-70b" || e.APIKey.Value() != "sk-test" || e.Objectives.ErrorRate != 0.01 || e.Sweep.Cron == "" {
		t.Errorf("got %+v", e)
	}
}

func eachKey(t reflect.Type, path string, visit func(path, key string)) {
	if t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if t != lengthType && !isSection(t) {
		return
	}
	for _, f := range fieldsOf(t) {
		visit(join(path, f.key), f.key)
		eachKey(f.typ, join(path, f.key), visit)
	}
}
