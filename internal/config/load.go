package config

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/go-viper/mapstructure/v2"
	"github.com/spf13/pflag"
	"github.com/spf13/viper"
	"go.yaml.in/yaml/v3"
)

// Load reads the configuration file at path and the secrets that it points to. The error is Errors, with everything
// that is wrong.
//
// A key that is missing in an endpoint is taken from the file's `defaults`, and else has its built-in value. Relative
// names of files start at the file's folder. Of the environment only the variables that the file names count.
func Load(path string) (*Config, error) {
	content, failed := readFile(path)
	if failed != nil {
		return nil, Errors{*failed}
	}
	return load(path, content)
}

// load reads the configuration in content, which stands at path.
func load(path string, content []byte) (*Config, error) {
	d := &document{path: path, at: make(map[string]*yaml.Node)}
	top, err := d.read(content)
	if err != nil {
		return nil, err
	}
	cfg, err := decodeRest(top)
	if err != nil {
		return nil, err
	}
	c := &checker{errors: d.errors}
	shared, _ := top.Get("defaults").(map[string]any)
	list, _ := top.Get("endpoints").([]any)
	for i, own := range list {
		own, _ := own.(map[string]any)
		at := fmt.Sprintf("endpoints[%d]", i)
		if own == nil {
			continue // is no mapping, which is known by now
		}
		e, err := decodeEndpoint(endpointLayers(shared, own))
		if err != nil {
			return nil, err
		}
		e.resolve(filepath.Dir(path))
		c.endpoint(&e, d.locator(at))
		cfg.Endpoints = append(cfg.Endpoints, e)
	}
	c.file(cfg, d)
	cfg.Files = append([]string{path}, c.files.names...)
	cfg.Digest = c.files.digest(path, content)
	return c.result(cfg, d.locator)
}

// resolve lets the relative names of files start at a folder.
func (e *Endpoint) resolve(folder string) {
	names := []*string{&e.APIKeyFile, &e.TLS.CAFile, &e.TLS.CertFile, &e.TLS.KeyFile}
	for i := range e.Headers {
		names = append(names, &e.Headers[i].ValueFile)
	}
	for _, name := range names {
		if *name != "" && !filepath.IsAbs(*name) {
			*name = filepath.Join(folder, *name)
		}
	}
}

// result returns cfg with what is doubtful in it, or what is wrong with it.
func (c *checker) result(cfg *Config, at func(section string) locator) (*Config, error) {
	if len(c.errors) > 0 {
		c.errors.sort()
		return nil, c.errors
	}
	c.doubts(cfg, at)
	return cfg, nil
}

// FromEnv returns the configuration of the one endpoint that the environment names: OPENAI_API_BASE_URL, and where they
// are set MODEL, TOKENIZER and OPENAI_API_KEY. Everything else has its built-in value. The error is Errors.
func FromEnv() (*Config, error) { return FromFlags(nil, nil) }

// environment is the variable behind each key of the endpoint that needs no file.
func environment() map[string]string {
	return map[string]string{
		"url":       "OPENAI_API_BASE_URL",
		"model":     "MODEL",
		"tokenizer": "TOKENIZER",
	}
}

// keyVariable holds the API key of the endpoint that needs no file.
const keyVariable = "OPENAI_API_KEY"

// FromFlags returns the configuration of one endpoint: by the flags that were set, else by the environment as FromEnv
// takes it, else built-in. Keys says which key of an endpoint a flag sets, such as "prompt-tokens":
// "sweep.prompt_tokens". The flags may be of any type whose text the key understands; where they are plain strings
// every mistake is found at once. The error is Errors, which name the flag or the variable.
func FromFlags(flags *pflag.FlagSet, keys map[string]string) (*Config, error) {
	v := endpointLayers(nil, nil)
	source := make(map[string]string) // what sets each key
	if err := bind(v, source, flags, keys); err != nil {
		return nil, err
	}
	locate := func(key string) (Error, bool) {
		whole, _, _ := strings.Cut(key, "[") // a flag gives a whole list
		switch {
		case source[whole] != "":
			return Error{Source: source[whole]}, true
		case key == "url":
			return Error{Source: urlSource(keys)}, false
		}
		for name, set := range keys {
			if set == whole {
				return Error{Source: "--" + name}, false
			}
		}
		return Error{Key: key}, false
	}
	c := &checker{}
	c.parseBound(v, source, locate)
	e, err := decodeEndpoint(v)
	if err != nil {
		return nil, err
	}
	if os.Getenv(keyVariable) != "" && !e.authorizes() {
		e.APIKeyEnv, source["api_key_env"] = keyVariable, keyVariable
	}
	c.endpoint(&e, locate)
	cfg, err := decodeRest(viper.New())
	if err != nil {
		return nil, err
	}
	cfg.Endpoints = []Endpoint{e}
	return c.result(cfg, func(string) locator { return locate })
}

// bind lets viper take keys from the environment and from the flags that were set, and notes which do.
func bind(v *viper.Viper, source map[string]string, flags *pflag.FlagSet, keys map[string]string) error {
	for key, name := range environment() {
		if err := v.BindEnv(key, name); err != nil {
			return err
		}
		if os.Getenv(name) != "" {
			source[key] = name
		}
	}
	for name, key := range keys {
		flag := flags.Lookup(name)
		if flag == nil {
			return fmt.Errorf("there is no flag --%s", name)
		}
		if !flag.Changed {
			continue // or viper would take the default of the flag where there is no other
		}
		if err := v.BindPFlag(key, flag); err != nil {
			return err
		}
		source[key] = "--" + name
	}
	return nil
}

// urlSource says what could have named the endpoint.
func urlSource(keys map[string]string) string {
	variable := environment()["url"]
	for name, key := range keys {
		if key == "url" {
			return "--" + name + " or " + variable
		}
	}
	return variable + " or --config.file"
}

// parseBound replaces the text of every flag and variable by its value.
func (c *checker) parseBound(v *viper.Viper, source map[string]string, locate locator) {
	for _, key := range slices.Sorted(maps.Keys(source)) {
		value, err := parseAny(typeOf(key), v.Get(key))
		if err != nil {
			e, _ := locate(key)
			e.Message = err.Error()
			c.errors.add(e)
			value = cmp.Or(endpointLayers(nil, nil).Get(key), reflect.Zero(typeOf(key)).Interface())
		}
		v.Set(key, value)
	}
}

// typeOf returns the type of an endpoint's key.
func typeOf(key string) reflect.Type {
	t := reflect.TypeFor[Endpoint]()
	for name := range strings.SplitSeq(key, ".") {
		fields := fieldsOf(t)
		i := slices.IndexFunc(fields, func(f field) bool { return f.key == name })
		if i < 0 {
			panic("config: an endpoint has no key " + key) // a mistake in the table of flags
		}
		t = fields[i].typ
	}
	return t
}

// parseAny turns what viper returns for a flag or a variable into a value of type t.
func parseAny(t reflect.Type, value any) (any, error) {
	if t.Kind() != reflect.Slice {
		return parse(t, fmt.Sprint(value))
	}
	var list []any
	for _, item := range reflect.ValueOf(value).Seq2() {
		v, err := parse(t.Elem(), fmt.Sprint(item))
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, nil
}

// endpointLayers puts the built-in values, those of the file's defaults and the endpoint's own on top of each other.
func endpointLayers(shared, own map[string]any) *viper.Viper {
	v := viper.New()
	setDefaults(v, "", defaults())
	setDefaults(v, "", shared)
	if err := v.MergeConfigMap(own); err != nil {
		panic("config: " + err.Error()) // viper has no such error
	}
	return v
}

// setDefaults gives every value in the tree m to viper as the default of its path.
func setDefaults(v *viper.Viper, path string, m map[string]any) {
	for key, value := range m {
		if section, ok := value.(map[string]any); ok {
			setDefaults(v, join(path, key), section)
			continue
		}
		v.SetDefault(join(path, key), value)
	}
}

func decodeEndpoint(v *viper.Viper) (Endpoint, error) {
	var e Endpoint
	return e, v.UnmarshalExact(&e, strict)
}

// decodeRest returns what a file says outside of endpoints.
func decodeRest(v *viper.Viper) (*Config, error) {
	setDefaults(v, "", fileDefaults())
	var rest struct {
		Limits  Limits  `mapstructure:"limits"`
		Metrics Metrics `mapstructure:"metrics"`
		History History `mapstructure:"history"`
	}
	if err := v.Unmarshal(&rest, strict); err != nil {
		return nil, err
	}
	return &Config{Limits: rest.Limits, Metrics: rest.Metrics, History: rest.History}, nil
}

// strict switches viper's conversions off: the values have their types already.
func strict(c *mapstructure.DecoderConfig) {
	c.WeaklyTypedInput = false
	c.DecodeHook = nil
}
