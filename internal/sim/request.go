package sim

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
)

// maxBody bounds the body of a request: more than a prompt of a million tokens.
const maxBody = 64 << 20

// defaultChatTokens is the length of a chat answer that set no limit; completions have vLLM's.
const (
	defaultChatTokens       = 256
	defaultCompletionTokens = 16
)

// requestBody is what the simulator reads of a request; other fields are ignored, as vLLM does.
type requestBody struct {
	Model    string `json:"model"`
	Messages []struct {
		Content json.RawMessage `json:"content"`
	} `json:"messages"`
	Prompt        json.RawMessage `json:"prompt"`
	Stream        bool            `json:"stream"`
	StreamOptions *struct {
		IncludeUsage         *bool `json:"include_usage"`
		ContinuousUsageStats bool  `json:"continuous_usage_stats"`
	} `json:"stream_options"`
	MaxTokens           *int   `json:"max_tokens"`
	MaxCompletionTokens *int   `json:"max_completion_tokens"`
	IgnoreEOS           bool   `json:"ignore_eos"`
	N                   *int   `json:"n"`
	SimFault            string `json:"sim_fault"`
}

// job is a request that has been read and found good: what to answer.
type job struct {
	chat, stream      bool
	usage, continuous bool
	prompt, cached    int    // tokens
	total             int    // tokens to generate
	finish            string // the finish reason of an answer that ends by itself
	word              int    // of the vocabulary, with which the text starts
	plan              plan
}

// readJob reads and checks a request. random is the request's own source of chance.
func (s *Server) readJob(r *http.Request, buf *bytes.Buffer, chat bool, random *rand.Rand) (*job, *apiError) {
	fault := random.Float64() // drawn first, so that the n-th request has the same fate whatever it asks for
	if r.ContentLength > maxBody {
		return nil, tooLarge()
	}
	if _, err := buf.ReadFrom(io.LimitReader(r.Body, maxBody+1)); err != nil {
		return nil, badRequest("", "the request's body could not be read: %v", err)
	}
	if buf.Len() > maxBody {
		return nil, tooLarge()
	}
	var body requestBody
	if err := json.Unmarshal(buf.Bytes(), &body); err != nil {
		return nil, schemaError("body", err.Error())
	}
	j := &job{chat: chat, stream: body.Stream, word: random.IntN(len(vocabularyWords))}
	var failure *apiError
	if j.plan, failure = s.planFor(r, &body, fault); failure != nil {
		return nil, failure
	}
	if failure := s.check(&body); failure != nil {
		return nil, failure
	}
	if failure = s.readPrompt(j, &body); failure != nil {
		return nil, failure
	}
	if o := body.StreamOptions; o != nil {
		j.usage = o.IncludeUsage == nil || *o.IncludeUsage // vLLM's default inside a given object
		j.usage = j.usage && j.plan.usage != usageMissing
		j.continuous = j.usage && o.ContinuousUsageStats
	}
	if failure := s.setLength(j, &body, random); failure != nil {
		return nil, failure
	}
	j.cached = min(max(j.cached, j.plan.of(j.plan.cached, j.prompt)), max(j.prompt-1, 0))
	return j, nil
}

// of returns n, or half of whole where n says so.
func (p *plan) of(n, whole int) int {
	if n == half {
		return whole / 2
	}
	return n
}

// planFor returns the faults of a request: those it asks for, else those that the draw picks.
func (s *Server) planFor(r *http.Request, body *requestBody, draw float64) (plan, *apiError) {
	list := r.Header.Get(FaultHeader)
	if list == "" {
		list = body.SimFault
	}
	if list == "" {
		return s.rollFault(draw), nil
	}
	p, err := parseFaults(list)
	if err != nil {
		return p, badRequest(FaultHeader, "%v", err)
	}
	return p, nil
}

// check refuses what vLLM refuses, and what the simulator cannot do.
func (s *Server) check(body *requestBody) *apiError {
	switch {
	case body.Model != "" && body.Model != s.opts.Model:
		return s.noSuchModel(body.Model)
	case body.StreamOptions != nil && !body.Stream:
		return badRequest("stream_options", "Stream options can only be defined when `stream=True`.")
	case body.N != nil && *body.N != 1:
		return badRequest("n", "n is %d; the simulator gives one answer a request", *body.N)
	}
	return nil
}

// readPrompt counts the tokens of the prompt and those of them that the prefix cache has.
func (s *Server) readPrompt(j *job, body *requestBody) *apiError {
	if !j.chat {
		if len(body.Prompt) == 0 {
			return missingField("prompt")
		}
		return s.readText(j, body.Prompt)
	}
	if body.Messages == nil {
		return missingField("messages")
	}
	j.prompt = ChatTemplateTokens
	var all strings.Builder
	for i, m := range body.Messages {
		text, err := contentText(m.Content)
		if err != nil {
			return schemaError(fmt.Sprintf("body.messages.%d.content", i), err.Error())
		}
		j.prompt += s.opts.CountTokens(text)
		all.WriteString(text)
		all.WriteByte('\n')
	}
	j.cached = s.prefixes.take(ChatTemplateTokens/2, all.String()) // the other half of the template is behind the text
	return nil
}

// readText reads a completions prompt: a text, token ids, or an array of one of these.
func (s *Server) readText(j *job, raw json.RawMessage) *apiError {
	var text string
	var ids []int
	var list []json.RawMessage
	switch {
	case json.Unmarshal(raw, &text) == nil:
		j.prompt, j.cached = s.opts.CountTokens(text), s.prefixes.take(0, text)
	case json.Unmarshal(raw, &ids) == nil:
		j.prompt = len(ids)
	case json.Unmarshal(raw, &list) == nil && len(list) == 1:
		return s.readText(j, list[0])
	default:
		return schemaError("body.prompt", "must be a text or token ids, and one prompt a request")
	}
	return nil
}

// contentText is the text of a message: a string, or an array of parts of which those with a text count.
func contentText(raw json.RawMessage) (string, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return "", nil
	}
	if raw[0] == '"' {
		var text string
		err := json.Unmarshal(raw, &text)
		return text, err
	}
	var parts []struct {
		Text string `json:"text"`
	}
	if err := json.Unmarshal(raw, &parts); err != nil {
		return "", errors.New("must be a string or an array of parts")
	}
	var all strings.Builder
	for _, p := range parts {
		all.WriteString(p.Text)
	}
	return all.String(), nil
}

// setLength decides how many tokens the answer has and why it ends.
func (s *Server) setLength(j *job, body *requestBody, random *rand.Rand) *apiError {
	room := s.opts.MaxModelLen - j.prompt
	if room < 1 {
		return tooLong(s.opts.MaxModelLen, j.prompt)
	}
	limit := body.MaxCompletionTokens // vLLM: it wins over max_tokens
	if limit == nil {
		limit = body.MaxTokens
	}
	switch {
	case limit == nil && body.IgnoreEOS:
		j.total, j.finish = room, "length"
	case limit == nil && j.chat:
		j.total, j.finish = min(defaultChatTokens, room), "stop"
	case limit == nil:
		j.total, j.finish = min(defaultCompletionTokens, room), "length"
	case *limit < 1:
		return badRequest("max_tokens", "max_tokens must be at least 1, got %d.", *limit)
	case *limit > room:
		return tooManyTokens(s.opts.MaxModelLen, j.prompt, *limit)
	default:
		j.total, j.finish = *limit, "length"
	}
	early := random.Float64() < s.opts.EarlyStop && !body.IgnoreEOS
	switch {
	case j.plan.overrun:
		j.total *= 2
	case j.plan.short:
		j.total, j.finish = max(j.total/2, 1), "stop"
	case early || j.plan.stop:
		if j.total > 1 {
			j.total = 1 + random.IntN(j.total-1)
		}
		j.finish = "stop"
	}
	return nil
}

// apiError is an error answer in vLLM's shape.
type apiError struct {
	status  int
	kind    string // "type"
	param   string // "" = null
	message string
}

func badRequest(param, format string, args ...any) *apiError {
	return &apiError{http.StatusBadRequest, "BadRequestError", param, fmt.Sprintf(format, args...)}
}

// schemaError is a body that is not what it must be; vLLM gives these a type of their own, with a blank in it.
func schemaError(param, message string) *apiError {
	return &apiError{http.StatusBadRequest, "Bad Request", param, "1 validation error: " + message}
}

func tooLarge() *apiError {
	return &apiError{http.StatusRequestEntityTooLarge, "Request Entity Too Large", "",
		fmt.Sprintf("the body is longer than %d bytes", maxBody)}
}

func missingField(name string) *apiError {
	return schemaError("body."+name, "'"+name+"': Field required")
}

func tooLong(limit, prompt int) *apiError {
	return badRequest("input_tokens", "This model's maximum context length is %d tokens. However, your prompt contains "+
		"at least %d input tokens, which exceeds this limit even without any output tokens. Please reduce the length of "+
		"the input prompt. (parameter=input_tokens, value=%d)", limit, prompt, prompt)
}

func tooManyTokens(limit, prompt, output int) *apiError {
	return badRequest("input_tokens", "This model's maximum context length is %d tokens. However, you requested %d "+
		"output tokens and your prompt contains at least %d input tokens, for a total of at least %d tokens. Please "+
		"reduce the length of the input prompt or the number of requested output tokens. "+
		"(parameter=input_tokens, value=%d)",
		limit, output, prompt, prompt+output, prompt)
}

func (s *Server) noSuchModel(name string) *apiError {
	return &apiError{http.StatusNotFound, "NotFoundError", "model",
		fmt.Sprintf("The model `%s` does not exist. Valid aliases: %s.", name, s.opts.Model)}
}

// engineFailure is what vLLM says when its engine has died.
const engineFailure = "EngineCore encountered an issue. See stack trace (above) for the root cause."

// statusError is the body that vLLM would send with this status.
func (s *Server) statusError(status int) *apiError {
	switch status {
	case http.StatusUnauthorized:
		return &apiError{status: status}
	case http.StatusNotFound:
		return s.noSuchModel(s.opts.Model)
	case http.StatusInternalServerError:
		return &apiError{status, "InternalServerError", "", engineFailure}
	case http.StatusServiceUnavailable:
		return &apiError{status, "ServiceUnavailableError", "", "The server is not ready to serve."}
	case http.StatusTooManyRequests:
		return &apiError{status, "RateLimitError", "", "Too many requests, try again later."}
	}
	return &apiError{status, http.StatusText(status), "", http.StatusText(status)}
}

// write sends the error.
func (e *apiError) write(w http.ResponseWriter) {
	body := `{"error":"Unauthorized"}` // vLLM: a string, with a wrong key
	if e.status != http.StatusUnauthorized {
		param := "null"
		if e.param != "" {
			param = quote(e.param)
		}
		body = fmt.Sprintf(`{"error":{"message":%s,"type":%s,"param":%s,"code":%d}}`,
			quote(e.message), quote(e.kind), param, e.status)
	}
	writeJSON(w, e.status, body)
}

// writeJSON sends body, which is JSON.
func writeJSON(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}
