package web_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/inferprobe/inferprobe/internal/web"
)

// control does what its errors say, and remembers what it was told.
type control struct {
	err  error
	told []string
}

func (c *control) Reload(context.Context) error { return c.tell("reload") }
func (c *control) RunNow(name string) error     { return c.tell("run " + name) }
func (c *control) Pause(name string) error      { return c.tell("pause " + name) }
func (c *control) Resume(name string) error     { return c.tell("resume " + name) }

func (c *control) tell(what string) error {
	c.told = append(c.told, what)
	return c.err
}

func newControlled(t *testing.T, lifecycle bool, c web.Control) *web.Server {
	t.Helper()
	return web.NewServer(web.Options{Addresses: []string{"127.0.0.1:0"}, Gatherer: prometheus.NewRegistry(),
		Registerer: prometheus.NewRegistry(), State: example(), Lifecycle: lifecycle, Control: c,
		Logger: slog.New(slog.DiscardHandler)})
}

func TestControl(t *testing.T) {
	for _, tt := range []struct {
		path        string
		err         error
		status      int
		contentType string
		want, told  string
	}{
		{"/-/reload", nil, 200, "text/plain; charset=utf-8", "The configuration was reloaded.\n", "reload"},
		{"/-/reload", errors.New("a.yaml:3: no such key <b>"), 500, "text/plain; charset=utf-8",
			"The configuration was not reloaded: a.yaml:3: no such key <b>\n", "reload"},
		{"/api/v1/endpoints/llama-3.3_70b/run", nil, 202, "application/json", `"name": "llama-3.3_70b"`,
			"run llama-3.3_70b"},
		{"/api/v1/endpoints/new/pause", nil, 200, "application/json", `"name": "new"`, "pause new"},
		{"/api/v1/endpoints/new/resume", nil, 200, "application/json", `"paused": false`, "resume new"},
		{"/api/v1/endpoints/a%2Fb/pause", web.ErrUnknownEndpoint, 404, "application/json",
			`"error": "there is no endpoint of that name"`, "pause a/b"},
		{"/api/v1/endpoints/new/run", fmt.Errorf("%w: it is being measured", web.ErrConflict), 409, "application/json",
			"it is being measured", "run new"},
		{"/api/v1/endpoints/new/run", errors.New("disk full"), 500, "application/json", "disk full", "run new"},
		{"/api/v1/endpoints/gone/pause", nil, 404, "application/json", "there is no endpoint of that name",
			"pause gone"}, // a reload removed it meanwhile
	} {
		t.Run(fmt.Sprint(tt.path, " ", tt.status), func(t *testing.T) {
			c := &control{err: tt.err}
			r := get(t, newControlled(t, true, c), "POST", tt.path)
			text := body(t, r)
			if r.StatusCode != tt.status || r.Header.Get("Content-Type") != tt.contentType || !strings.Contains(text, tt.want) {
				t.Errorf("got %s, %s: %s", r.Status, r.Header.Get("Content-Type"), text)
			}
			if len(c.told) != 1 || c.told[0] != tt.told {
				t.Errorf("told %v, want %s", c.told, tt.told)
			}
		})
	}
}

var controlPaths = []string{"/-/reload", "/api/v1/endpoints/new/run", "/api/v1/endpoints/new/pause",
	"/api/v1/endpoints/new/resume"}

// TestControlIsOffByDefault: without the flag nothing can be changed, and the answer says which flag that is.
func TestControlIsOffByDefault(t *testing.T) {
	c := &control{}
	for _, path := range controlPaths {
		r := get(t, newControlled(t, false, c), "POST", path)
		if text := body(t, r); r.StatusCode != http.StatusForbidden || !strings.Contains(text, "--web.enable-lifecycle") {
			t.Errorf("%s: got %s: %s", path, r.Status, text)
		}
	}
	if len(c.told) > 0 {
		t.Errorf("it did %v", c.told)
	}
}

// TestControlNeedsPost: a link or a picture cannot change anything.
func TestControlNeedsPost(t *testing.T) {
	c := &control{}
	for _, path := range controlPaths {
		for _, method := range []string{"GET", "HEAD", "PUT", "DELETE", "OPTIONS"} {
			r := get(t, newControlled(t, true, c), method, path)
			if r.StatusCode != http.StatusMethodNotAllowed || r.Header.Get("Allow") != "POST" {
				t.Errorf("%s %s: got %s, Allow: %s", method, path, r.Status, r.Header.Get("Allow"))
			}
		}
	}
	if len(c.told) > 0 {
		t.Errorf("it did %v", c.told)
	}
}

// TestControlRefusesOtherOrigins: a page that an operator's browser shows cannot use the browser's access.
func TestControlRefusesOtherOrigins(t *testing.T) {
	for _, tt := range []struct {
		name   string
		header []string
		status int
	}{
		{"curl", nil, 200},
		{"our own page", []string{"Sec-Fetch-Site", "same-origin", "Origin", "http://example.com"}, 200},
		{"our own page in an old browser", []string{"Origin", "http://example.com"}, 200},
		{"another site", []string{"Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example"}, 403},
		{"another port of the host", []string{"Sec-Fetch-Site", "same-site"}, 403},
		{"another site in an old browser", []string{"Origin", "https://evil.example"}, 403},
		{"a sandboxed page in an old browser", []string{"Origin", "null"}, 403},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := &control{}
			r := get(t, newControlled(t, true, c), "POST", "/-/reload", tt.header...) // to example.com
			if r.StatusCode != tt.status || (len(c.told) > 0) != (tt.status == 200) {
				t.Errorf("got %s; it did %v", r.Status, c.told)
			}
		})
	}
	// What only shows something may be linked to from anywhere.
	r := get(t, newControlled(t, true, &control{}), "GET", "/", "Sec-Fetch-Site", "cross-site")
	if _, err := io.Copy(io.Discard, r.Body); err != nil || r.StatusCode != 200 {
		t.Errorf("got %s, %v", r.Status, err)
	}
}
