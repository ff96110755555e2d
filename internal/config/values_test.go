package config

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		text string
		want any
	}{
		{"6h", 6 * time.Hour},
		{"500ms", 500 * time.Millisecond},
		{"1d", 24 * time.Hour},
		{"1.5d12h30m", 48*time.Hour + 30*time.Minute},
		{"0", time.Duration(0)},
		{"0s", time.Duration(0)},
		{"20M", Count(20_000_000)},
		{"1k", Count(1000)},
		{"1.5G", Count(1_500_000_000)},
		{"0", Count(0)},
		{"1%", Ratio(0.01)},
		{"0.25", Ratio(0.25)},
		{"100%", Ratio(1)},
		{"12", 12},
		{"2.5", 2.5},
		{"512", Length{Mean: 512}},
	} {
		got, err := parse(reflect.TypeOf(tt.want), tt.text)
		if err != nil || got != tt.want {
			t.Errorf("%s as %T: got %v, %v, want %v", tt.text, tt.want, got, err, tt.want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, tt := range []struct {
		typ  reflect.Type
		text string
	}{
		{durationType, ""}, {durationType, "h"}, {durationType, "6"}, {durationType, "-6h"}, {durationType, "6 h"},
		{durationType, "1e3"}, {durationType, "NaN"}, {durationType, "Inf"}, {durationType, "d"},
		{durationType, "999999999999d"}, {durationType, "99999999h"}, {durationType, "1d-5h"}, {durationType, "1d1d"},
		{durationType, "53375d2562047h"},
		{countType, ""}, {countType, "M"}, {countType, "20m"}, {countType, "-1"}, {countType, "1.5"},
		{countType, "1e3"}, {countType, "9999999999G"}, {countType, "NaN"},
		{ratioType, ""}, {ratioType, "%"}, {ratioType, "101%"}, {ratioType, "1.1"}, {ratioType, "-1%"},
		{ratioType, "NaN"},
		{reflect.TypeFor[int](), "1.0"}, {reflect.TypeFor[int](), "+1"}, {reflect.TypeFor[int](), "0x1"},
		{reflect.TypeFor[int](), "99999999999999999999"}, {reflect.TypeFor[int](), "1_000"},
		{reflect.TypeFor[float64](), "Inf"}, {reflect.TypeFor[float64](), "1e3"}, {reflect.TypeFor[float64](), ""},
		{windowType, ""}, {windowType, "Mon"}, {windowType, "1:00-2:00"}, {windowType, "01:00-02:00 Local"},
		{windowType, "01:00-02:00 UTC UTC"}, {windowType, "24:00-24:00"}, {windowType, "-"},
	} {
		got, err := parse(tt.typ, tt.text)
		if err == nil {
			t.Errorf("%q as %v: got %v", tt.text, tt.typ, got)
		} else if strings.Contains(err.Error(), "\n") {
			t.Errorf("%q as %v: the message has several lines: %v", tt.text, tt.typ, err)
		}
	}
}

func TestParseWindow(t *testing.T) {
	w, err := parseWindow("Fri-Mon,Wed 22:00-06:00 Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	days := []time.Weekday{time.Friday, time.Saturday, time.Sunday, time.Monday, time.Wednesday}
	if !reflect.DeepEqual(w.Days, days) || w.From != 22*time.Hour || w.To != 6*time.Hour ||
		w.Location.String() != "Europe/Berlin" {
		t.Errorf("got %+v", w)
	}
	w, err = parseWindow("00:00-24:00")
	if err != nil || len(w.Days) != 7 || w.To != 24*time.Hour || w.Location != time.UTC {
		t.Errorf("got %+v, %v", w, err)
	}
}

func TestSecretIsNeverShown(t *testing.T) {
	const text = "sk-test-7f3a"
	e := Endpoint{Name: "a", APIKey: text}
	shown := fmt.Sprintf("%v %+v %#v %s %q %x %d", e, e, e, e.APIKey, e.APIKey, e.APIKey, e.APIKey)
	var logged strings.Builder
	slog.New(slog.NewJSONHandler(&logged, nil)).Info("m", "key", e.APIKey, "endpoint", e)
	asJSON, _ := json.Marshal(struct{ Key Secret }{text})
	asYAML, _ := yaml.Marshal(struct{ Key Secret }{text})
	for _, s := range []string{shown, logged.String(), string(asJSON), string(asYAML)} {
		if strings.Contains(s, text) || strings.Contains(s, fmt.Sprintf("%x", text)) {
			t.Errorf("it is shown: %s", s)
		}
		if !strings.Contains(s, "[redacted]") {
			t.Errorf("nothing says that there is a key: %s", s)
		}
	}
	if e.APIKey.Value() != text {
		t.Error("Value is not the secret")
	}
	if got := fmt.Sprint(Secret("")); got != "" {
		t.Errorf("no secret: got %q", got)
	}
}

func TestSeconds(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"120": 2 * time.Minute, "0.5": 500 * time.Millisecond, "2m": 2 * time.Minute, "1d": 24 * time.Hour, "0": 0,
	} {
		var s Seconds
		if err := s.Set(text); err != nil || time.Duration(s) != want {
			t.Errorf("%s: got %v, %v", text, time.Duration(s), err)
		}
	}
	for _, text := range []string{"", "-1", "NaN", "Inf", "1e30", "soon"} {
		if err := new(Seconds).Set(text); err == nil {
			t.Errorf("%q: no error", text)
		}
	}
}

func TestEditDistance(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"url", "url", 0}, {"ulr", "url", 1}, {"url", "", 3}, {"rate", "rates", 1}, {"sweep", "swap", 2},
	} {
		if got := editDistance(tt.a, tt.b); got != tt.want {
			t.Errorf("%s, %s: got %d, want %d", tt.a, tt.b, got, tt.want)
		}
	}
}

// FuzzLoad: whatever the file holds, loading it ends in a configuration that passes its own checks, or in errors of one
// line each that name the file or a variable.
func FuzzLoad(f *testing.F) {
	for _, s := range []string{
		"endpoints: [{url: http://a/v1}]",
		"endpoints:\n  - url: http://a/v1\n    sweep: {interval: 6h, prompt_tokens: {mean: 5, min: 1}, rate: [1, 2]}\n",
		"endpoints: [{labels: [{name: a}], sweep: {windows: ['Mon 01:00-02:00 UTC'], cron: '@daily'}}]",
		"a: &a [*a]\n", "---\n---\n", "\t", "? [a]\n: b", "endpoints: !!set {a}", "<<: {a: b}", "endpoints: [null, 1]",
		"endpoints: [{url: http://a, sweep: {cron: \"@\\n\"}}]",
		"defaults: {guards: {tokens_per_day: 20M, max_error_rate: 1%}}\nmetrics:\nhistory: {cycles: 1}",
		"endpoints: [{url: https://a/v1?b=c, headers: [{name: A, value: b}, {name: C, value_file: d}], tls: {server_name: e}}]",
		"endpoints: [{url: http://a, extra_body: {a: {B: [1, 0x10, .5, null, true, 2024-10-21, 'c', .inf, !!binary aa]}}}]",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		cfg, err := load("f.yaml", content)
		if err != nil {
			errs, ok := err.(Errors)
			if !ok || len(errs) == 0 {
				t.Fatalf("got %T: %v", err, err)
			}
			for _, e := range errs {
				if e.Source == "" || strings.ContainsAny(e.Error(), "\n\r\x1b") {
					t.Errorf("got %q", e.Error())
				}
			}
			return
		}
		for i := range cfg.Endpoints {
			if e := &cfg.Endpoints[i]; e.Name == "" || e.URL == "" || len(e.Fingerprint()) != 64 {
				t.Errorf("got %+v", e)
			}
		}
	})
}

// FuzzExtraBody: what is sent is JSON of the values that YAML has.
func FuzzExtraBody(f *testing.F) {
	for _, s := range []string{
		"{a: [1, 0x10, .5, +5, -0, 1_000, 017, 1e30, true, null, ~, 2024-10-21, 'c', \"\\0\"]}", "{1: a, 1.5: b, true: c}",
		"{a: !!int abc, b: !!float x, c: !!timestamp x, d: !!bool yes, e: !!null x}", "{a: .nan, b: -.inf, c: !!float 1e400}",
		"{a: !!int '5', b: !!str 5, c: !!map {}, d: !!seq []}", "{a: !!set {b}, c: !!omap [d: 1], e: !!binary aa, f: !g {}}",
		"{<<: {a: 1}, '<<': 2, b: <<}", "{a: &b 1, c: *b}", "{a: 1, 'a': 2}", "{~: 1, null: 2, '': 3}",
		"!!null x", "!!null", "!a {}",
		"{big: 123456789012345678901234567890, exact: 0.12345678901234567890}", "\n      a: |\n        b\n      ? c\n",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		content := []byte("endpoints:\n  - url: http://a/v1\n    extra_body: " + in + "\n")
		cfg, err := load("f.yaml", content)
		if err != nil {
			return // FuzzLoad looks at errors
		}
		var written struct {
			Endpoints []struct {
				ExtraBody any `yaml:"extra_body"`
			}
		}
		if err := yaml.Unmarshal(content, &written); err != nil {
			t.Fatal(err)
		}
		for i := range cfg.Endpoints {
			var sent any
			if body := cfg.Endpoints[i].ExtraBody; body != "" {
				if err := json.Unmarshal([]byte(body), &sent); err != nil {
					t.Fatalf("%s: %v", body, err)
				}
			}
			if want := written.Endpoints[i].ExtraBody; !sameValue(want, sent) && !(sent == nil && fmt.Sprint(want) == "map[]") {
				t.Errorf("%#v is sent for %#v", sent, want)
			}
		}
	})
}

// sameValue reports whether a value of YAML and one of JSON are the same, but for times and keys: JSON has texts for
// them.
func sameValue(y, j any) bool {
	switch y := reflect.ValueOf(y); y.Kind() {
	case reflect.Invalid:
		return j == nil
	case reflect.Int, reflect.Int64:
		return float64(y.Int()) == j
	case reflect.Uint64:
		return float64(y.Uint()) == j
	case reflect.Struct: // a time
		_, ok := j.(string)
		return ok
	case reflect.Slice:
		list, ok := j.([]any)
		if !ok || len(list) != y.Len() {
			return false
		}
		for i := range list {
			if !sameValue(y.Index(i).Interface(), list[i]) {
				return false
			}
		}
		return true
	case reflect.Map:
		object, ok := j.(map[string]any)
		for _, key := range y.MapKeys() {
			if name, is := key.Interface().(string); is && !sameValue(y.MapIndex(key).Interface(), object[name]) {
				return false
			}
		}
		return ok && len(object) >= y.Len() // 1 and 0x1 are one key of YAML's
	}
	return y == j
}
