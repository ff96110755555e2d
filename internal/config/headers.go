package config

import (
	"errors"
	"fmt"
	"net/textproto"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// Header is a header field that every request to an endpoint carries.
type Header struct {
	Name      string `mapstructure:"name"`
	Value     string `mapstructure:"value"`
	ValueFile string `mapstructure:"value_file"` // absolute, or as the file's folder makes it
	ValueEnv  string `mapstructure:"value_env"`  // name of a variable

	// Secret is the value as a file, a variable or the command line gave it when the configuration was loaded.
	Secret Secret `mapstructure:"-" json:"-"`
}

// Text returns what is sent as the header's value.
func (h Header) Text() string {
	if h.Secret != "" {
		return h.Secret.Value()
	}
	return h.Value
}

// secrets returns what must not be shown of the header. Of Authorization a server may repeat what follows the scheme.
func (h Header) secrets() []string {
	switch {
	case isAuthorization(h.Name):
		_, credentials, _ := strings.Cut(h.Text(), " ")
		return nonEmpty(h.Text(), strings.TrimSpace(credentials))
	case isSecret(h.Name):
		return nonEmpty(h.Text())
	}
	return nonEmpty(h.Secret.Value())
}

func nonEmpty(texts ...string) []string {
	return slices.DeleteFunc(texts, func(s string) bool { return s == "" })
}

// isSecret reports whether a header or a URL's parameter of that name carries a secret, as far as a name can tell.
func isSecret(name string) bool {
	plain := plainKey(name)
	return slices.ContainsFunc([]string{"key", "token", "secret", "password", "signature", "authorization", "cookie"},
		func(end string) bool { return strings.HasSuffix(plain, end) })
}

func isAuthorization(name string) bool { return strings.EqualFold(name, "Authorization") }

// authorizes reports whether the endpoint has an Authorization of its own, beside which no API key can be sent.
func (e *Endpoint) authorizes() bool {
	return slices.ContainsFunc(e.Headers, func(h Header) bool { return isAuthorization(h.Name) })
}

// parseHeader takes what a flag gives, "Name: value". Errors do not repeat it: it may be a secret.
func parseHeader(text string) (Header, error) {
	name, value, ok := strings.Cut(text, ":")
	value = strings.TrimSpace(value)
	if !ok || value == "" {
		return Header{}, errors.New(`is not a header with a value; write for example "X-Tenant: search"`)
	}
	return Header{Name: strings.TrimSpace(name), Secret: Secret(value)}, nil
}

// ownHeaders are those that inferprobe sets itself or does without, and those that belong to a connection, not to a
// request (RFC 9110, 7.6.1).
func ownHeaders() []string {
	return []string{
		"Accept", "Accept-Encoding", "Content-Encoding", "Content-Length", "Content-Type", "Expect", "Host", "Traceparent",
		"User-Agent", "X-Request-Id",
		"Connection", "Keep-Alive", "Proxy-Authorization", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding",
		"Upgrade",
	}
}

// headers reads and checks the headers of the endpoint.
func (c *checker) headers(e *Endpoint) {
	if len(e.Headers) > maxHeaders {
		c.fail("headers", "%d are too many; use up to %d", len(e.Headers), maxHeaders)
		return
	}
	for i := range e.Headers {
		key := fmt.Sprintf("headers[%d]", i)
		if e.Headers[i] == (Header{}) {
			c.fail(key, "is empty; write {name: X-Tenant, value: search}")
			continue
		}
		c.headerName(key+".name", e, i)
		c.headerValue(key, &e.Headers[i])
	}
}

// headerName does not repeat what is no name: it may be a secret.
func (c *checker) headerName(key string, e *Endpoint, i int) {
	name := e.Headers[i].Name
	same := func(h Header) bool { return strings.EqualFold(h.Name, name) }
	switch {
	case name == "":
		c.fail(key, "is missing; write {name: X-Tenant, value: search}")
	case !httpguts.ValidHeaderFieldName(name):
		c.fail(key, "is not the name of a header; write for example X-Tenant, and the value apart from it")
	case slices.Contains(ownHeaders(), textproto.CanonicalMIMEHeaderKey(name)):
		c.fail(key, "%s is set by inferprobe itself, or belongs to the connection; leave it out", quoted(name))
	case isAuthorization(name) && e.APIKeyFile+e.APIKeyEnv != "":
		c.fail(key, "%s is what the API key is sent as; keep one of the two", quoted(name))
	case slices.ContainsFunc(e.Headers[:i], same):
		c.fail(key, "%s is here twice; case does not count", quoted(name))
	}
}

// headerValue reads the header's value from where the configuration says it is.
func (c *checker) headerValue(key string, h *Header) {
	var err error
	switch given := len(nonEmpty(h.Value, h.ValueFile, h.ValueEnv, h.Secret.Value())); {
	case given == 0:
		key += ".value"
		err = errors.New("is missing or empty; give a value, or value_file or value_env in its place")
	case given > 1:
		err = errors.New("has more than one of value, value_file and value_env; keep one of the three")
	case h.ValueFile != "":
		key += ".value_file"
		var text string
		if text, err = c.files.read(h.ValueFile); err == nil {
			h.Secret, err = checkHeaderSecret(text, h.ValueFile)
		}
	case h.ValueEnv != "":
		key += ".value_env"
		var text string
		if text, err = secretVariable(h.ValueEnv); err == nil {
			h.Secret, err = checkHeaderSecret(text, "the variable "+h.ValueEnv)
		}
	default:
		key += ".value"
		err = checkHeader(h.Text())
	}
	if err != nil {
		c.fail(key, "%v", err)
	}
}

// checkHeaderSecret trims a header's value and makes sure that a request can carry it.
func checkHeaderSecret(text, where string) (Secret, error) {
	value := strings.TrimSpace(text)
	switch err := checkHeader(value); {
	case value == "":
		return "", fmt.Errorf("%s is empty", where)
	case err != nil:
		return "", fmt.Errorf("%s %w", where, err)
	}
	return Secret(value), nil
}

func checkHeader(value string) error {
	switch {
	case len(value) > maxKey:
		return errors.New("is longer than 16 KiB; this cannot be the value of a header")
	case !httpguts.ValidHeaderFieldValue(value) || strings.TrimSpace(value) != value:
		return errors.New("has what no header can carry, such as a line break; give the value and nothing else")
	}
	return nil
}
