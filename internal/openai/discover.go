package openai

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/inferprobe/inferprobe/internal/probe"
)

// Model is one entry of /models.
type Model struct {
	ID        string
	MaxLength int // tokens of context, prompt and answer together; 0 where the server does not say
}

// Server is what Discover found.
type Server struct {
	BaseURL string  // without a trailing slash: "/chat/completions" or "/completions" go behind its path
	Model   Model   // the one to measure: as configured, else the first served
	Models  []Model // all that are served; empty where the server does not tell
	Dialect Dialect
	Version string // as the server tells it; empty where it does not
	Note    string // what a user should know about this server; often empty
}

// String names the server as reports do: "vllm 0.32.0", or empty where nothing is known.
func (s Server) String() string {
	if s.Dialect == DialectGeneric || s.Dialect == "" {
		return s.Version
	}
	return strings.TrimSpace(string(s.Dialect) + " " + s.Version)
}

// Discover asks the endpoint at opts.BaseURL what it is and which models it serves. The URL may end in /v1 or not, with
// a slash or without, and have a query, which then goes with every request. model is the one to measure; empty takes the
// first that is served. An error is an *Error.
//
// A server that has no list of models, and is known by nothing else, is taken to serve the model that is asked for and
// to speak the plain protocol; Server.Note says so.
func Discover(ctx context.Context, opts Options, model string) (Server, error) {
	base, err := parseBase(opts.BaseURL)
	if err != nil {
		return Server{}, err
	}
	var found Server
	var why error
	for _, candidate := range candidates(base) {
		opts.BaseURL = candidate
		c, err := New(opts)
		if err != nil {
			return Server{}, err
		}
		defer c.Close()
		found, err = c.discover(ctx, model)
		if err == nil || final(err) {
			return found, err
		}
		if why == nil || isMissing(why) && !isMissing(err) {
			why = err
		}
	}
	if model == "" || !isMissing(why) {
		return Server{}, why
	}
	return Server{
		BaseURL: candidates(base)[0], Model: Model{ID: model}, Dialect: hosted(base),
		Note: "the server does not list its models (" + why.Error() + "); taking the configured one as it is, " +
			"and no extras of any dialect",
	}, nil
}

// isMissing reports whether err is the answer of a server that has no /models, rather than of one in trouble.
func isMissing(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.missing
}

// final reports whether another path on the same server cannot help.
func final(err error) bool {
	var e *Error
	if !errors.As(err, &e) {
		return true
	}
	switch e.Reason {
	case probe.ReasonNotFound, probe.ReasonHTTP4xx, probe.ReasonHTTP5xx, probe.ReasonNotAStream, probe.ReasonMalformed:
		return false
	}
	return true
}

var versionPath = regexp.MustCompile(`/v[0-9][a-z0-9]*$`)

// candidates are the bases under which the API may be, the likeliest first: what the user wrote, with /v1 where it has
// no version. One that has it in a query, as Azure's api-version, is more likely to be whole.
func candidates(base *url.URL) []string {
	versioned, written := under(base, "/v1").String(), base.String()
	switch {
	case versionPath.MatchString(base.Path):
		return []string{written}
	case base.RawQuery != "":
		return []string{written, versioned}
	}
	return []string{versioned, written}
}

// hosted is the dialect that a host's name gives away.
func hosted(base *url.URL) Dialect {
	host := base.Hostname()
	if host == "api.openai.com" || strings.HasSuffix(host, ".openai.azure.com") {
		return DialectOpenAI
	}
	return DialectGeneric
}

// discover asks the server at c's base.
func (c *Client) discover(ctx context.Context, want string) (Server, error) {
	listed, err := c.models(ctx)
	if err != nil {
		return Server{}, err
	}
	s := Server{BaseURL: c.base.String()}
	for _, m := range listed {
		s.Models = append(s.Models, Model{ID: m.ID, MaxLength: m.maxLength()})
	}
	s.Dialect, s.Version = c.dialect(ctx, listed)
	s.Model = s.Models[0]
	if want == "" {
		return s, nil
	}
	i := slices.IndexFunc(listed, func(m listedModel) bool { return m.answersTo(want) })
	if i < 0 {
		return Server{}, c.errorf("", "the model %q is not served at %s; these are: %s", want, s.BaseURL, names(s.Models))
	}
	s.Model = Model{ID: want, MaxLength: s.Models[i].MaxLength}
	return s, nil
}

// names lists models for an error, the first few of many.
func names(models []Model) string {
	const most = 8
	var ids []string
	for _, m := range models[:min(len(models), most)] {
		ids = append(ids, m.ID)
	}
	if len(models) > most {
		ids = append(ids, fmt.Sprintf("and %d more", len(models)-most))
	}
	return strings.Join(ids, ", ")
}

// listedModel is an entry of /models: OpenAI's fields and those that servers add.
type listedModel struct {
	ID            string   `json:"id"`
	OwnedBy       string   `json:"owned_by"`
	Aliases       []string `json:"aliases"`        // llama.cpp
	MaxModelLen   int      `json:"max_model_len"`  // vLLM, SGLang
	ContextLength int      `json:"context_length"` // OpenRouter
	ContextWindow int      `json:"context_window"` // Groq
	Meta          struct {
		Context int `json:"n_ctx"` // llama.cpp, of one slot
	} `json:"meta"`
}

func (m *listedModel) maxLength() int {
	return max(0, cmp.Or(m.MaxModelLen, m.Meta.Context, m.ContextLength, m.ContextWindow))
}

// answersTo reports whether a request for the model name reaches m: by its id, an alias, Ollama's default tag, or
// LiteLLM's wildcard.
func (m *listedModel) answersTo(name string) bool {
	prefix, wild := strings.CutSuffix(m.ID, "*")
	return m.ID == name || m.ID == name+":latest" || slices.Contains(m.Aliases, name) ||
		wild && strings.HasPrefix(name, prefix)
}

// models asks for the list of models, which has at least one.
func (c *Client) models(ctx context.Context) ([]listedModel, error) {
	response, body, err := c.get(ctx, "/models") //nolint:bodyclose // get has closed it
	if err != nil {
		return nil, err
	}
	where, status := under(c.base, "/models").String(), response.StatusCode
	switch {
	case status >= 300 && status < 400:
		return nil, c.errorf(probe.ReasonNotAStream, "%s answers %d, a redirect to %q, which is not followed", where, status,
			response.Header.Get("Location"))
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		what := "refuses the key"
		if len(c.secrets) == 0 {
			what = "asks for a key, and none was sent"
		}
		return nil, c.errorf(probe.ReasonUnauthorized, "%s %s (%d): %s", where, what, status,
			bodyMessage(response.Header, body))
	case status >= 400:
		text := bodyMessage(response.Header, body)
		wait := retryAfter(response.Header, time.Now())
		if wait > 0 {
			text += fmt.Sprintf(" (to be asked again in %v)", wait.Round(time.Second))
		}
		failure := c.errorf(reasonOf(status), "%s answers %d: %s", where, status, text)
		failure.RetryAfter = wait
		switch status {
		case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusInternalServerError, http.StatusNotImplemented:
			failure.missing = true // 500: transformers serve, offline
		}
		return nil, failure
	}
	return c.parseModels(where, response.Header, body)
}

func (c *Client) parseModels(where string, header http.Header, body []byte) ([]listedModel, error) {
	list := struct {
		Data []listedModel `json:"data"`
	}{}
	var err error
	if trimmed := bytes.TrimSpace(body); bytes.HasPrefix(trimmed, []byte("[")) { // some gateways send the bare list
		err = json.Unmarshal(trimmed, &list.Data)
	} else if bytes.HasPrefix(trimmed, []byte("<")) {
		return nil, c.errorf(probe.ReasonNotAStream, "%s answers with %s; this is not the URL of the API", where,
			bodyMessage(header, body))
	} else {
		err = json.Unmarshal(trimmed, &list)
	}
	if err != nil {
		return nil, c.errorf(probe.ReasonMalformed, "%s does not answer with a list of models but with %.60q (%v)", where,
			body, err)
	}
	listed := len(list.Data)
	list.Data = slices.DeleteFunc(list.Data, func(m listedModel) bool { return !isName(m.ID) })
	if len(list.Data) == 0 && listed > 0 {
		return nil, c.errorf(probe.ReasonMalformed, "%s lists no model with a printable name of at most %d bytes", where,
			maxModelName)
	}
	if len(list.Data) == 0 {
		return nil, c.errorf("", "%s lists no model: nothing is served there", where)
	}
	return list.Data, nil
}

// maxModelName is the length in bytes of a model's name.
const maxModelName = 256

// isName reports whether a server may name a model so. The name becomes a label of metrics and a word of reports and
// logs, and it cannot be cleaned like other text from servers, since the server must know it again.
func isName(id string) bool {
	strange := func(r rune) bool { return !unicode.IsPrint(r) }
	return id != "" && len(id) <= maxModelName && !strings.ContainsFunc(id, strange)
}

// dialect finds out what kind of server it is, by the owner that it gives its models and else by the documents that
// only one kind has, and its version.
func (c *Client) dialect(ctx context.Context, listed []listedModel) (Dialect, string) {
	root := &Client{opts: c.opts, secrets: c.secrets, transport: c.transport, base: under(c.base, "")}
	root.base.Path = versionPath.ReplaceAllString(root.base.Path, "")
	if d := hosted(c.base); d != DialectGeneric {
		return d, ""
	}
	owners := map[string]Dialect{
		"vllm": DialectVLLM, "sglang": DialectSGLang, "tensorrt_llm": DialectTRTLLM, "lmdeploy": DialectLMDeploy,
		"llamacpp": DialectLlamaCpp,
	}
	documents := map[Dialect]string{
		DialectVLLM: "/version", DialectTRTLLM: "/version", DialectSGLang: "/get_server_info", DialectLlamaCpp: "/props",
	}
	if d, ok := owners[listed[0].OwnedBy]; ok {
		if documents[d] == "" {
			return d, ""
		}
		return d, root.document(ctx, documents[d]).version()
	}
	if doc := root.document(ctx, "/api/version"); doc.Version != "" {
		return DialectOllama, doc.version()
	}
	if doc := root.document(ctx, "/info"); doc.ModelID != "" && doc.Version != "" {
		return DialectTGI, doc.version()
	}
	if doc := root.document(ctx, "/props"); doc.BuildInfo != "" {
		return DialectLlamaCpp, doc.version()
	}
	return DialectGeneric, ""
}

// document is what is of use in the documents by which servers tell about themselves.
type document struct {
	Version   string `json:"version"`
	ModelID   string `json:"model_id"`   // TGI's /info
	BuildInfo string `json:"build_info"` // llama.cpp's /props
}

func (d document) version() string { return clean(cmp.Or(d.Version, d.BuildInfo), 64) }

// document is zero where there is none.
func (c *Client) document(ctx context.Context, path string) (d document) {
	response, body, err := c.get(ctx, path) //nolint:bodyclose // get has closed it
	if err != nil || response.StatusCode != http.StatusOK || json.Unmarshal(body, &d) != nil {
		return document{}
	}
	return d
}
