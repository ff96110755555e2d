package config_test

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/spf13/pflag"

	"github.com/inferprobe/inferprobe/internal/config"
	"github.com/inferprobe/inferprobe/internal/config/configtest"
	"github.com/inferprobe/inferprobe/internal/probe"
)

var update = flag.Bool("update", false, "write the golden files anew")

// cleanEnv takes away what the machine's own environment could add.
func cleanEnv(t *testing.T) {
	t.Helper()
	for _, name := range []string{
		"OPENAI_API_BASE_URL", "OPENAI_API_KEY", "MODEL", "TOKENIZER", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN",
		"HF_TOKEN_PATH", "HF_HUB_DISABLE_IMPLICIT_TOKEN", "HF_HOME", "XDG_CACHE_HOME", "HF_HUB_CACHE",
		"HUGGINGFACE_HUB_CACHE", "HF_ENDPOINT", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE",
	} {
		t.Setenv(name, "")
	}
	t.Setenv("HOME", "/nonexistent")
}

// windows compares windows as they are written: time zones do not compare.
var windows = cmp.Comparer(func(a, b config.Window) bool { return a.String() == b.String() })

// write puts a configuration into a file of its own.
func write(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "inferprobe.yaml")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func load(t *testing.T, content string) *config.Config {
	t.Helper()
	cfg, err := config.Load(write(t, content))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// TestBadFiles holds the exact text of every mistake: testdata/bad/NAME.yaml gives NAME.txt.
func TestBadFiles(t *testing.T) {
	cleanEnv(t)
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no files: ", err)
	}
	for _, path := range files {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".yaml"), func(t *testing.T) {
			cfg, err := config.Load(path)
			if err == nil || cfg != nil {
				t.Fatalf("it loaded: %+v", cfg)
			}
			if !errors.As(err, new(config.Errors)) {
				t.Errorf("the error is a %T", err)
			}
			got := err.Error() + "\n"
			if strings.Contains(got, "sk-secret") {
				t.Errorf("a secret is in the message: %s", got)
			}
			checkGolden(t, strings.TrimSuffix(path, ".yaml")+".txt", got)
		})
	}
}

// checkGolden compares got with the golden file, which -update writes.
func checkGolden(t *testing.T, golden, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestFilesThatCannotBeRead(t *testing.T) {
	cleanEnv(t)
	dir := t.TempDir()
	for _, tt := range []struct {
		name string
		make func(path string) error
		want string
	}{
		{"missing", func(string) error { return nil }, "no such file or directory"},
		{"folder", func(path string) error { return os.Mkdir(path, 0o700) }, "is a folder; name the file in it"},
		{"huge", func(path string) error { return os.WriteFile(path, make([]byte, 1<<20+1), 0o600) },
			"is larger than 1 MiB; this cannot be a configuration file"},
		{"locked", func(path string) error { return os.WriteFile(path, []byte("endpoints: []"), 0) },
			"permission denied"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.name == "locked" && os.Getuid() == 0 {
				t.Skip("root may read everything")
			}
			path := filepath.Join(dir, tt.name)
			if err := tt.make(path); err != nil {
				t.Fatal(err)
			}
			if _, err := config.Load(path); err == nil || err.Error() != path+": "+tt.want {
				t.Errorf("got %v, want %s: %s", err, path, tt.want)
			}
		})
	}
}

// TestManyMistakes: a large file full of them ends in a readable number of errors, at once.
func TestManyMistakes(t *testing.T) {
	cleanEnv(t)
	for name, content := range map[string]string{
		"elements": "endpoints:\n" + strings.Repeat("-\n", 20_000),
		"names":    "endpoints:\n" + strings.Repeat("- {url: http://a}\n", 500),
		"keys":     strings.Repeat("a: 1\n", 20_000),
		"labels":   "endpoints: [{url: http://a, labels: [" + strings.Repeat("{name: a},", 10_000) + "]}]",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := config.Load(write(t, content))
			if errs := (config.Errors)(nil); !errors.As(err, &errs) || len(errs) > 101 {
				t.Fatalf("got %d errors", len(errs))
			}
			if lines := strings.Split(err.Error(), "\n"); name != "labels" && !strings.HasSuffix(lines[len(lines)-1],
				"there are more than 100 mistakes; the others are not shown") {
				t.Errorf("the last is %s", lines[len(lines)-1])
			}
		})
	}
}

func TestLayers(t *testing.T) {
	cleanEnv(t)
	cfg := load(t, `
defaults:
  sweep: {interval: 1h, prompt_tokens: {mean: 200, variance: 30}, windows: ["01:00-02:00", "03:00-04:00"]}
  guards: {max_error_rate: 0.25}
  objectives: {time_to_first_token_p90: 2s}
endpoints:
  - url: http://a/v1
  - url: http://b/v1
    sweep: {interval: 2h, prompt_tokens: 100, windows: ["05:00-06:00"]}
    guards: {max_in_flight: 8}
    objectives: {error_rate: 1%}
  - url: http://c/v1
history: {cycles: 7}
`)
	a, b, c := cfg.Endpoints[0], cfg.Endpoints[1], cfg.Endpoints[2]
	check := func(what string, got, want any) {
		t.Helper()
		if diff := cmp.Diff(want, got, windows); diff != "" {
			t.Errorf("%s: -want +got:\n%s", what, diff)
		}
	}
	check("a's interval is the file's default", a.Sweep.Interval, time.Hour)
	check("b's interval is its own", b.Sweep.Interval, 2*time.Hour)
	check("b's neighbour keeps the default", c.Sweep, a.Sweep)
	check("a length is replaced as a whole", b.Sweep.PromptTokens, config.Length{Mean: 100})
	check("a list is replaced as a whole", len(b.Sweep.Windows), 1)
	check("sections merge by key", b.Guards, config.Guards{
		MaxInFlight: 8, MaxErrorRate: 0.25, TimeToFirstToken: 30 * time.Second, YieldToUsers: "auto"})
	check("objectives merge by key", b.Objectives.Probe(),
		probe.Objectives{TimeToFirstTokenP90: 2 * time.Second, ErrorRate: 0.01})
	check("what nobody sets is built in", b.Sweep.Rates, 9)
	check("history merges by key", cfg.History, config.History{Dir: "/var/lib/inferprobe", Cycles: 7, MaxAge: 90 * 24 * time.Hour})
	check("metrics are built in", cfg.Metrics.Histograms, "both")
}

func TestTextKeepsItsCase(t *testing.T) {
	cleanEnv(t)
	e := load(t, `
endpoints:
  - name: Llama.70B
    url: http://host/V1
    model: meta-llama/Llama-3.3-70B.Instruct
    labels: [{name: costCenter, value: R.and.D}]
`).Endpoints[0]
	got := []string{e.Name, e.URL, e.Model, e.Labels[0].Name, e.Labels[0].Value}
	want := []string{"Llama.70B", "http://host/V1", "meta-llama/Llama-3.3-70B.Instruct", "costCenter", "R.and.D"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestURLIsNormalised(t *testing.T) {
	cleanEnv(t)
	for in, want := range map[string]string{
		"http://host:8000/v1":     "http://host:8000/v1",
		"http://host:8000/v1/":    "http://host:8000/v1",
		"HTTPS://host/v1//":       "https://host/v1",
		"http://host":             "http://host",
		"http://[::1]:8000/v1":    "http://[::1]:8000/v1",
		" http://host/team%2Fa/ ": "http://host/team%2Fa",
		"http://host/v1/?":        "http://host/v1",
		"https://x.openai.azure.com/openai/deployments/d/?api-version=2024-10-21": "https://x.openai.azure.com/openai/" +
			"deployments/d?api-version=2024-10-21",
	} {
		if got := load(t, "endpoints: [{url: '"+in+"'}]").Endpoints[0].URL; got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func TestDefaultNames(t *testing.T) {
	cleanEnv(t)
	for _, tt := range []struct{ url, model, want string }{
		{"http://vllm.models.svc:8000/v1", "meta-llama/Llama-3.3-70B-Instruct",
			"vllm.models.svc-8000-Llama-3.3-70B-Instruct"},
		{"http://vllm.models.svc:8000/v1", "", "vllm.models.svc-8000"},
		{"http://[::1]:8000/v1", "/models/llama/", "1--8000-llama"},
		{"http://größe.example/v1", "", "gr--e.example"},
		{"http://host/v1", "org/" + strings.Repeat("a", 70), "host-" + strings.Repeat("a", 49) + "-"},
	} {
		got := load(t, "endpoints: [{url: '"+tt.url+"', model: '"+tt.model+"'}]").Endpoints[0].Name
		if got != tt.want && !(len(got) == 63 && strings.HasPrefix(got, tt.want)) {
			t.Errorf("%s, %s: got %q, want %q", tt.url, tt.model, got, tt.want)
		}
	}
}

func TestKeys(t *testing.T) {
	cleanEnv(t)
	t.Setenv("INFERPROBE_TEST_KEY", " sk-test-from-env\n")
	key, err := os.ReadFile("testdata/good.key")
	if err != nil {
		t.Fatal(err)
	}
	path := write(t, `
endpoints:
  - {url: "http://a/v1", api_key_file: key}
  - {url: "http://b/v1", api_key_env: INFERPROBE_TEST_KEY}
  - {url: "http://c/v1"}
`)
	// A Kubernetes Secret is a link to a link.
	if err := os.WriteFile(filepath.Join(filepath.Dir(path), "data"), key, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("data", filepath.Join(filepath.Dir(path), "key")); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"sk-test-from-file", "sk-test-from-env"}
	if diff := cmp.Diff(want, cfg.Secrets()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestHeaders(t *testing.T) {
	cleanEnv(t)
	t.Setenv("INFERPROBE_TEST_HEADER", " Token pk-test\n")
	t.Setenv("INFERPROBE_TEST_LOGIN", "Basic dXNlcjpwYXNz")
	path := write(t, `
endpoints:
  - {url: "http://a/v1", headers: [{name: X-Tenant, value: search & rank}, {name: api-key, value_file: key},
     {name: x-gateway, value_env: INFERPROBE_TEST_HEADER}], api_key_env: INFERPROBE_TEST_HEADER_KEY}
  - {url: "http://b/v1", headers: [{name: authorization, value_env: INFERPROBE_TEST_LOGIN}]}
  - {url: "http://c/v1", headers: [{name: AUTHORIZATION, value: Custom sk-test-inline}]}
  - {url: "http://d/v1", api_key_file: key, headers: [{name: x-auth-token, value: tk-test}]}
`)
	t.Setenv("INFERPROBE_TEST_HEADER_KEY", "sk-test")
	key := filepath.Join(filepath.Dir(path), "key")
	if err := os.WriteFile(key, []byte("az-test\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	var sent []string
	for _, e := range cfg.Endpoints {
		for _, h := range e.Headers {
			sent = append(sent, h.Name+": "+h.Text())
		}
	}
	want := []string{
		"X-Tenant: search & rank", "api-key: az-test", "x-gateway: Token pk-test", "authorization: Basic dXNlcjpwYXNz",
		"AUTHORIZATION: Custom sk-test-inline", "x-auth-token: tk-test",
	}
	if diff := cmp.Diff(want, sent); diff != "" {
		t.Errorf("headers: -want +got:\n%s", diff)
	}
	want = []string{
		"sk-test", "az-test", "Token pk-test", "Basic dXNlcjpwYXNz", "dXNlcjpwYXNz", "Custom sk-test-inline",
		"sk-test-inline", "az-test", "tk-test",
	}
	if diff := cmp.Diff(want, cfg.Secrets()); diff != "" {
		t.Errorf("secrets: -want +got:\n%s", diff)
	}
	if diff := cmp.Diff([]string{path, key}, cfg.Files); diff != "" {
		t.Errorf("files: -want +got:\n%s", diff)
	}
	if cfg.Digest != config.DigestOf(cfg.Files) {
		t.Error("the files are read and have another digest")
	}
	if err := os.WriteFile(key, []byte("rotated"), 0o600); err != nil {
		t.Fatal(err)
	}
	rotated, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Digest == config.DigestOf(cfg.Files) || cfg.Digest == rotated.Digest {
		t.Error("the file of a header has changed and the digest has not")
	}
	for i, same := range []bool{false, true, true, false} {
		was, is := &cfg.Endpoints[i], &rotated.Endpoints[i]
		if was.Fingerprint() != is.Fingerprint() || was.SameSecrets(is) != same {
			t.Errorf("%s: the same secrets: %v, want %v", is.Name, was.SameSecrets(is), same)
		}
	}
}

func TestTLS(t *testing.T) {
	cleanEnv(t)
	authority := configtest.NewAuthority(t, "one")
	certificate, key := authority.Issue(t, "client")
	path := write(t, `
endpoints:
  - {url: "https://a/v1", tls: {ca_file: ca.pem, cert_file: both.pem, key_file: both.pem, server_name: llm.internal}}
  - {url: "https://b/v1", tls: {ca_file: ca.pem}}
  - {url: "https://c/v1", tls: {insecure_skip_verify: true}}
  - {url: "https://d/v1", tls: {}}
`)
	put := func(name, text string) string {
		name = filepath.Join(filepath.Dir(path), name)
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	files := []string{path, put("ca.pem", "# ours\n"+authority.PEM), put("both.pem", certificate+key)}
	cfg, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(files, cfg.Files); diff != "" {
		t.Errorf("files: -want +got:\n%s", diff)
	}
	a, b, c := cfg.Endpoints[0].TLS.Client(), cfg.Endpoints[1].TLS.Client(), cfg.Endpoints[2].TLS.Client()
	if a.ServerName != "llm.internal" || len(a.Certificates) != 1 || a.InsecureSkipVerify || !a.RootCAs.Equal(b.RootCAs) {
		t.Errorf("%+v", a)
	}
	if b.RootCAs == nil || b.Certificates != nil || !c.InsecureSkipVerify || c.RootCAs != nil || c.Certificates != nil {
		t.Errorf("%+v, %+v", b, c)
	}
	if d := cfg.Endpoints[3].TLS.Client(); d != nil {
		t.Errorf("%+v without a setting", d)
	}
	put("ca.pem", configtest.NewAuthority(t, "two").PEM)
	rotated, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Digest == rotated.Digest || rotated.Digest != config.DigestOf(files) {
		t.Error("the digest is not that of the files")
	}
	for i, same := range []bool{false, false, true, true} {
		was, is := &cfg.Endpoints[i], &rotated.Endpoints[i]
		if was.Fingerprint() != is.Fingerprint() || was.SameSecrets(is) != same {
			t.Errorf("%s: the same secrets: %v, want %v", is.Name, was.SameSecrets(is), same)
		}
	}
	if text := fmt.Sprintf("%+v", cfg); strings.Contains(text, "BEGIN") {
		t.Error("a key is shown:", text)
	}
	// A certificate and its key are two files, which are not always changed at the same time.
	other, _ := authority.Issue(t, "other")
	put("both.pem", other+key)
	if _, err = config.Load(path); err == nil || !strings.HasSuffix(err.Error(), "private key does not match public key; "+
		"the one must hold a certificate in PEM, the other its private key") {
		t.Errorf("error %v", err)
	}
}

func TestExtraBody(t *testing.T) {
	cleanEnv(t)
	for in, want := range map[string]string{
		"{}": "", "": "",
		"{chat_template_kwargs: {enable_thinking: false}, Top_K: 1}": `{"chat_template_kwargs":{"enable_thinking":false},"Top_K":1}`,
		`{"provider": {"order": ["Azure", "DeepInfra"]}, "a": null}`: `{"provider":{"order":["Azure","DeepInfra"]},"a":null}`,
		`{temperature: 0.7, seed: 42, top_p: 1, text: "a \"b\" <c>"}`: `{"temperature":0.7,"seed":42,"top_p":1,` +
			`"text":"a \"b\" \u003cc\u003e"}`,
		"{logit_bias: {50256: -100}, hex: 0x10, big: 12345678901234567890, on: yes, day: 2024-10-21, list: []}": `{"logit_bias":` +
			`{"50256":-100},"hex":16,"big":12345678901234567890,"on":"yes","day":"2024-10-21","list":[]}`,
		"{huge: 123456789012345678901234567890, long: 0.12345678901234567890}": `{"huge":123456789012345678901234567890,` +
			`"long":0.12345678901234567890}`,
		"{one: 1.0, short: .5, octal: 017, sign: +5}":                    `{"one":1.0,"short":0.5,"octal":15,"sign":5}`,
		"{a: !!int '5', b: !!float 3, c: !!str 5, d: !!null ~}":          `{"a":5,"b":3,"c":"5","d":null}`,
		"{a: !!bool true, b: !!timestamp 2024-10-21, !!str c: !!map {}}": `{"a":true,"b":"2024-10-21","c":{}}`,
		"{1.5: a, true: b, 2024-10-21: c, 'null': d, '<<': e, '': f}": `{"1.5":"a","true":"b","2024-10-21":"c","null":"d",` +
			`"\u003c\u003c":"e","":"f"}`,
	} {
		got := load(t, "endpoints: [{url: http://host/v1, extra_body: "+in+"}]").Endpoints[0].ExtraBody
		if string(got) != want || want != "" && !json.Valid([]byte(got)) {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
}

// TestExtraBodyIsDeep: a body that no server would read ends in an error, not in the memory that its keys would take.
func TestExtraBodyIsDeep(t *testing.T) {
	cleanEnv(t)
	const most = 100
	body := func(depth int) string {
		deep := strings.Repeat("{a: [", depth/2) + strings.Repeat("]}", depth/2)
		return "endpoints: [{url: http://host/v1, extra_body: " + deep + "}]"
	}
	if got := load(t, body(most)).Endpoints[0].ExtraBody; !json.Valid([]byte(got)) {
		t.Errorf("got %s", got)
	}
	path := filepath.Join(t.TempDir(), "deep.yaml")
	for _, depth := range []int{most + 2, 9_000} {
		if err := os.WriteFile(path, []byte(body(depth)), 0o600); err != nil {
			t.Fatal(err)
		}
		var errs config.Errors
		if _, err := config.Load(path); !errors.As(err, &errs) || len(errs) != 1 || errs[0].Line != 1 ||
			!strings.Contains(errs[0].Message, "more than 100 levels deep") {
			t.Errorf("%d levels: %v", depth, err)
		}
	}
}

// TestExtraBodyAfterManyErrors: one that is wrong is not taken for right because no more errors are kept.
func TestExtraBodyAfterManyErrors(t *testing.T) {
	cleanEnv(t)
	path := filepath.Join(t.TempDir(), "many.yaml")
	content := "endpoints:\n" + strings.Repeat("  - {quux: 1}\n", 150) + "  - {url: http://host/v1, extra_body: {a: .inf}}\n"
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := config.Load(path); err == nil || !strings.Contains(err.Error(), "the others are not shown") {
		t.Error(err)
	}
}

// runFlags are the flags of `inferprobe run` as it declares them, in every way it could.
func runFlags(t *testing.T, args ...string) (*pflag.FlagSet, map[string]string) {
	t.Helper()
	fs := pflag.NewFlagSet("run", pflag.ContinueOnError)
	fs.String("url", "", "")
	fs.String("model", "", "")
	fs.String("prompt-tokens", "", "")
	fs.Int("rates", 0, "")
	fs.StringArray("rate", nil, "")
	fs.String("profile", "", "")
	fs.Var(new(config.Seconds), "max-seconds", "")
	fs.String("max-requests", "", "")
	fs.StringArray("header", nil, "")
	fs.String("ca-file", "", "")
	fs.Bool("insecure-skip-verify", false, "")
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	return fs, map[string]string{
		"url": "url", "model": "model", "prompt-tokens": "sweep.prompt_tokens", "rates": "sweep.rates",
		"rate": "sweep.rate", "profile": "sweep.profile", "max-seconds": "sweep.max_duration",
		"max-requests": "sweep.max_requests", "header": "headers", "ca-file": "tls.ca_file",
		"insecure-skip-verify": "tls.insecure_skip_verify",
	}
}

func TestFromFlags(t *testing.T) {
	cleanEnv(t)
	t.Setenv("OPENAI_API_BASE_URL", "http://from-env:8000/v1/")
	t.Setenv("OPENAI_API_KEY", "sk-test-1")
	t.Setenv("MODEL", "env-model")
	t.Setenv("TOKENIZER", "env-tokenizer")

	cfg, err := config.FromEnv()
	if err != nil {
		t.Fatal(err)
	}
	withoutFiles := cmpopts.IgnoreFields(config.Config{}, "Files", "Digest")
	want := load(t, `endpoints: [{url: "http://from-env:8000/v1", model: env-model, tokenizer: env-tokenizer,
  api_key_env: OPENAI_API_KEY}]`)
	if diff := cmp.Diff(want, cfg, withoutFiles); diff != "" {
		t.Errorf("FromEnv: -file +env:\n%s", diff)
	}

	cfg, err = config.FromFlags(runFlags(t, "--model=flag-model", "--prompt-tokens=64", "--profile=constant",
		"--rate=1", "--rate=2.5", "--max-seconds=30", "--max-requests=0"))
	if err != nil {
		t.Fatal(err)
	}
	want = load(t, `endpoints: [{url: "http://from-env:8000/v1", model: flag-model, tokenizer: env-tokenizer,
  api_key_env: OPENAI_API_KEY,
  sweep: {prompt_tokens: 64, profile: constant, rate: [1, 2.5], max_duration: 30s}}]`)
	if diff := cmp.Diff(want, cfg, withoutFiles); diff != "" {
		t.Errorf("FromFlags: -file +flags:\n%s", diff)
	}
}

func TestFlagsOfGateways(t *testing.T) {
	cleanEnv(t)
	t.Setenv("OPENAI_API_KEY", "sk-test")
	authority := write(t, configtest.NewAuthority(t, "authority").PEM)
	for _, tt := range []struct {
		name    string
		args    []string
		secrets []string
	}{
		{"beside the key", []string{"--header", "X-Tenant: search, and rank"}, []string{"sk-test", "search, and rank"}},
		{"in its place", []string{"--header", "authorization:Basic a:b", "--header", "x-key: pk-test"},
			[]string{"Basic a:b", "a:b", "pk-test"}},
		{"TLS", []string{"--ca-file", authority, "--insecure-skip-verify"}, []string{"sk-test"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg, err := config.FromFlags(runFlags(t, append(tt.args, "--url=https://host/v1")...))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.secrets, cfg.Secrets()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			trusts := cfg.Endpoints[0].TLS.Client()
			if tt.name == "TLS" && (trusts.RootCAs == nil || !trusts.InsecureSkipVerify) || tt.name != "TLS" && trusts != nil {
				t.Errorf("%+v", trusts)
			}
		})
	}
}

func TestFromFlagsErrors(t *testing.T) {
	for _, tt := range []struct {
		name string
		env  map[string]string
		args []string
		want string
	}{
		{"nothing", nil, nil,
			"--url or OPENAI_API_BASE_URL: is missing; give the base URL of the endpoint, such as http://host:8000/v1"},
		{"all at once", map[string]string{"MODEL": "a\nb"},
			[]string{"--url=host:8000", "--prompt-tokens=many", "--rates=51", "--max-seconds=0.5",
				"--max-requests=1.5"},
			`MODEL: "a\nb" is too long, or has characters that cannot be printed
--url: must begin with http:// or https://, such as http://host:8000/v1
--prompt-tokens: "many" is not a whole number
--rates: 51 is out of range; use 1 to 50
--max-seconds: 500ms is too short; use at least 1s
--max-requests: "1.5" is not a whole number`},
		{"profile without a rate", nil, []string{"--url=http://host/v1", "--profile=poisson"},
			"--rate: is missing; the profile poisson needs one or more rates in requests per second"},
		{"GuideLLM's profile", nil, []string{"--url=http://host/v1", "--profile=concurrent", "--rate=4"},
			`--profile: "concurrent" is not known; for a fixed number of requests in flight write --profile throughput ` +
				`--max-concurrency 4`},
		{"rates", nil, []string{"--url=http://host/v1", "--profile=poisson", "--rate=0", "--rate=2"},
			"--rate: 0 is not a rate; use more than 0 and up to 100000 requests per second"},
		{"headers", nil, []string{"--url=http://host/v1", "--header=sk-secret"},
			`--header: is not a header with a value; write for example "X-Tenant: search"`},
		{"name of a header", nil, []string{"--url=http://host/v1", "--header=X-A: a", "--header=X B: sk-secret"},
			"--header: is not the name of a header; write for example X-Tenant, and the value apart from it"},
		{"authorities", nil, []string{"--url=https://host/v1", "--ca-file=testdata/good.key"},
			"--ca-file: testdata/good.key holds no certificate in PEM, which begins with -----BEGIN CERTIFICATE-----"},
		{"plain", nil, []string{"--url=http://host/v1", "--ca-file=testdata/good.key"},
			"--ca-file: has no meaning with a url that begins with http://; write https:// there if it speaks TLS"},
		{"secrets", map[string]string{
			"OPENAI_API_BASE_URL": "http://u:sk-secret@host", "OPENAI_API_KEY": "sk secret"}, nil,
			`OPENAI_API_BASE_URL: carries a user name or password; give the key with api_key_file or api_key_env
OPENAI_API_KEY: the variable OPENAI_API_KEY has characters that no key has; it must hold the key and nothing else`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cleanEnv(t)
			for name, value := range tt.env {
				t.Setenv(name, value)
			}
			cfg, err := config.FromFlags(runFlags(t, tt.args...))
			if err == nil {
				t.Fatalf("it loaded: %+v", cfg)
			}
			got, want := strings.Split(err.Error(), "\n"), strings.Split(tt.want, "\n")
			sorted := cmp.Transformer("sorted", func(l []string) map[string]bool {
				m := make(map[string]bool)
				for _, s := range l {
					m[s] = true
				}
				return m
			})
			if diff := cmp.Diff(want, got, sorted); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
	cleanEnv(t)
	_, err := config.FromEnv()
	want := "OPENAI_API_BASE_URL or --config.file: is missing; give the base URL of the endpoint, such as " +
		"http://host:8000/v1"
	if err == nil || err.Error() != want {
		t.Errorf("FromEnv: got %v, want %s", err, want)
	}
}

func TestFingerprint(t *testing.T) {
	cleanEnv(t)
	one := load(t, "endpoints: [{url: https://host/v1}]").Endpoints[0]
	same := load(t, "# a comment\nendpoints: [{url: https://host/v1/, sweep: {interval: 360m}}]").Endpoints[0]
	for _, change := range []string{
		"sweep: {windows: ['01:00-02:00']}", "headers: [{name: X-Tenant, value: search}]", "tls: {server_name: other}",
		"extra_body: {top_k: 1}",
	} {
		other := load(t, "endpoints: [{url: https://host/v1, "+change+"}]").Endpoints[0]
		if one.Fingerprint() == other.Fingerprint() {
			t.Errorf("%s does not change the fingerprint", change)
		}
	}
	if one.Fingerprint() != same.Fingerprint() {
		t.Error("settings that mean the same have different fingerprints")
	}
	keyed := one
	keyed.APIKey = "sk-test"
	if one.Fingerprint() != keyed.Fingerprint() {
		t.Error("the key is part of the fingerprint")
	}
}

func TestCost(t *testing.T) {
	cleanEnv(t)
	for _, tt := range []struct {
		name, sweep string
		want        config.Cost
	}{
		{"built in", "", config.Cost{Stages: 11, LongestCycle: 22 * time.Minute, CyclesPerDay: 4, TokensPerRequest: 640,
			Synchronous: 5, Throughput: 6}},
		{"bounded", "max_requests: 10, interval: 12h", config.Cost{Stages: 11, LongestCycle: 22 * time.Minute,
			CyclesPerDay: 2, TokensPerRequest: 640, Synchronous: 5, Throughput: 6, RequestsPerCycle: 110,
			TokensPerDay: 110 * 640 * 2}},
		{"synchronous", "profile: synchronous", config.Cost{Stages: 1, LongestCycle: 2 * time.Minute, CyclesPerDay: 4,
			TokensPerRequest: 640, Synchronous: 1}},
		{"throughput", "profile: throughput", config.Cost{Stages: 1, LongestCycle: 2 * time.Minute, CyclesPerDay: 4,
			TokensPerRequest: 640, Throughput: 1}},
		{"open loop", "profile: poisson, rate: [1, 2], max_duration: 10s, max_requests: 15, interval: 1d",
			config.Cost{Stages: 2, LongestCycle: 20 * time.Second, CyclesPerDay: 1, TokensPerRequest: 640,
				RequestsPerCycle: 25, TokensPerDay: 25 * 640}},
		{"no cycles", "interval: 0s", config.Cost{Stages: 11, LongestCycle: 22 * time.Minute, TokensPerRequest: 640,
			Synchronous: 5, Throughput: 6}},
		{"on weekdays", "cron: 0 3 * * Mon-Fri", config.Cost{Stages: 11, LongestCycle: 22 * time.Minute,
			CyclesPerDay: 5.0 / 7, TokensPerRequest: 640, Synchronous: 5, Throughput: 6}},
		{"at night", "interval: 30m, windows: [00:00-06:00]", config.Cost{Stages: 11, LongestCycle: 22 * time.Minute,
			CyclesPerDay: 12, TokensPerRequest: 640, Synchronous: 5, Throughput: 6}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := load(t, "endpoints: [{url: http://host/v1, canary: {interval: 0s}, sweep: {"+tt.sweep+"}}]").Endpoints[0]
			if diff := cmp.Diff(tt.want, e.Cost(), cmpopts.EquateApprox(0.05, 0)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestCostOfTheCanary(t *testing.T) {
	cleanEnv(t)
	c := load(t, "endpoints: [{url: http://host/v1}]").Endpoints[0].Cost()
	if c.CanariesPerDay != 1440 || c.CanaryTokens != 1440*160 {
		t.Errorf("%+v", c)
	}
}

func TestHigherConcurrencyRaisesTheLimitInFlight(t *testing.T) {
	cleanEnv(t)
	for _, tt := range []struct {
		name, endpoint, defaults string
		want                     int
	}{
		{"built in", "", "", 512},
		{"lower", "sweep: {max_concurrency: 16}", "", 512},
		{"higher", "sweep: {max_concurrency: 4096}", "", 4096},
		{"higher, with a limit of its own", "sweep: {max_concurrency: 4096}, guards: {max_in_flight: 100}", "", 100},
		{"higher, with a limit for all", "sweep: {max_concurrency: 4096}", "guards: {max_in_flight: 100}", 100},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := load(t, fmt.Sprintf("endpoints: [{url: http://host/v1, %s}]\ndefaults: {%s}\n", tt.endpoint, tt.defaults))
			if got := c.Endpoints[0].Guards.MaxInFlight; got != tt.want {
				t.Errorf("at most %d in flight, want %d", got, tt.want)
			}
		})
	}
}

// TestFiles has every file that a change of the configuration can show in be named, once.
func TestFiles(t *testing.T) {
	cleanEnv(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "c.yaml")
	for name, text := range map[string]string{"c.yaml": `
endpoints: [{url: http://a/v1, api_key_file: a.key}, {url: http://b/v1}, {url: http://c/v1, api_key_file: a.key}]
`, "a.key": "sk-test-1"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cfg, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{path, filepath.Join(dir, "a.key")}, cfg.Files); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if cfg.Digest != config.DigestOf(cfg.Files) {
		t.Error("the digest is not that of what was read")
	}
	for _, change := range []struct{ name, text string }{
		{"a.key", "sk-test-2"}, {"a.key", ""}, {"c.yaml", "endpoints: [{url: http://a/v1}]"}, {"c.yaml", ""},
	} {
		before := config.DigestOf(cfg.Files)
		if err := os.WriteFile(filepath.Join(dir, change.name), []byte(change.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if config.DigestOf(cfg.Files) == before {
			t.Errorf("%s: a change to %q is not seen", change.name, change.text)
		}
	}
}
