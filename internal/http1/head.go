package http1

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// Head is the beginning of requests: what all of a kind have in common. It does not change and is safe for concurrent
// use.
type Head struct {
	request *http.Request // that the answer is one to
	start   []byte        // all but the last fields
}

// NewHead returns the head of requests to u, which is at the transport's origin. An error names the header field that
// cannot be sent.
func (t *Transport) NewHead(method string, u *url.URL, header http.Header) (*Head, error) {
	h := &Head{request: &http.Request{Method: method, URL: u}}
	target := u.RequestURI()
	if t.route.absolute {
		target = t.opts.Origin.Scheme + "://" + t.route.host + target
	}
	h.start = fmt.Appendf(nil, "%s %s HTTP/1.1\r\nHost: %s\r\n", method, target, t.route.host)
	if t.route.absolute && t.route.authorization != "" {
		h.start = fmt.Appendf(h.start, "Proxy-Authorization: %s\r\n", t.route.authorization)
	}
	for _, name := range slices.Sorted(maps.Keys(header)) {
		value := strings.Join(header[name], ", ")
		if !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
			return nil, fmt.Errorf("the header %s has a value that no request can carry, such as a line break", name)
		}
		h.start = fmt.Appendf(h.start, "%s: %s\r\n", name, value)
	}
	return h, nil
}
