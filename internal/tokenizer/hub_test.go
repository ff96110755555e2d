package tokenizer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testCommit = "0123456789abcdef0123456789abcdef01234567"
	testToken  = "hf_secretsecretsecret"
)

var (
	testContent = []byte(`{"model":{"vocab":{"a":0}}}` + strings.Repeat(" ", 5000))
	testETag    = sha(testContent)
)

func sha(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// fakeHub is a Hub that keeps its content on another host, as the real one does. Each request takes the next step of
// its script; without one it is answered in order.
type fakeHub struct {
	*httptest.Server
	cdn *httptest.Server

	mu       sync.Mutex
	requests []string // "HEAD hub /org/name/… token" and "GET cdn /blob"
	head     []http.HandlerFunc
	get      []http.HandlerFunc
}

func newFakeHub(t *testing.T) *fakeHub {
	f := new(fakeHub)
	f.Server = httptest.NewServer(f.handler("hub", &f.head, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Repo-Commit", testCommit)
		w.Header().Set("X-Linked-Etag", `"`+testETag+`"`)
		w.Header().Set("X-Linked-Size", strconv.Itoa(len(testContent)))
		w.Header().Set("ETag", `W/"of-the-redirect"`)
		w.Header().Set("Location", f.cdn.URL+"/blob?signature=secret")
		w.WriteHeader(http.StatusFound)
	}))
	f.cdn = httptest.NewServer(f.handler("cdn", &f.get, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"of-the-cdn"`)
		w.Write(testContent)
	}))
	t.Cleanup(f.Close)
	t.Cleanup(f.cdn.Close)
	return f
}

func (f *fakeHub) handler(host string, script *[]http.HandlerFunc, normal http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		line := r.Method + " " + host + " " + r.URL.EscapedPath()
		switch r.Header.Get("Authorization") {
		case "":
		case "Bearer " + testToken:
			line += " token"
		default:
			line += " another token"
		}
		f.mu.Lock()
		f.requests = append(f.requests, line)
		answer := normal
		if len(*script) > 0 {
			answer, *script = (*script)[0], (*script)[1:]
		}
		f.mu.Unlock()
		answer(w, r)
	})
}

// hub returns a client of f with a cache of its own, and where its log goes.
func (f *fakeHub) hub(t *testing.T) (*Hub, *bytes.Buffer) {
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	var log bytes.Buffer
	return &Hub{
		Endpoint:  f.URL,
		Token:     testToken,
		CacheDir:  filepath.Join(t.TempDir(), "hub"),
		Logger:    slog.New(slog.NewTextHandler(&log, nil)),
		Transport: transport,
	}, &log
}

// status answers with a status and headers given as "Name: value".
func status(code int, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for _, h := range headers {
			name, value, _ := strings.Cut(h, ": ")
			w.Header().Set(name, value)
		}
		w.WriteHeader(code)
	}
}

func mustFetch(t *testing.T, h *Hub, revision string) *file {
	t.Helper()
	got, err := h.fetch(t.Context(), "org/name", revision, fileName)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.data, testContent) || got.commit != testCommit {
		t.Fatalf("fetched %d bytes of commit %s", len(got.data), got.commit)
	}
	return got
}

// tree lists a cache: "path -> target" of links, "path = content" of short files, "path (n bytes)" of others.
func tree(t *testing.T, dir string) []string {
	t.Helper()
	var lines []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		if target, err := os.Readlink(path); err == nil {
			lines = append(lines, name+" -> "+target)
			return nil
		}
		data, err := os.ReadFile(path)
		if len(data) > 100 {
			data = fmt.Appendf(nil, "%d bytes", len(data))
		}
		lines = append(lines, name+" = "+string(data))
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return lines
}

func wantTree(revision string) []string {
	return []string{
		"models--org--name/blobs/" + testETag + " = 5027 bytes",
		"models--org--name/refs/" + revision + " = " + testCommit,
		"models--org--name/snapshots/" + testCommit + "/tokenizer.json -> ../../blobs/" + testETag,
	}
}

func TestFetchFillsTheCacheAsHuggingFaceDoes(t *testing.T) {
	for _, revision := range []string{"main", "refs/pr/7"} {
		f := newFakeHub(t)
		h, _ := f.hub(t)
		mustFetch(t, h, revision)
		if diff := cmp.Diff(wantTree(revision), tree(t, h.CacheDir)); diff != "" {
			t.Errorf("cache of revision %s (-want +got):\n%s", revision, diff)
		}
		path := "/org/name/resolve/" + strings.ReplaceAll(revision, "/", "%2F") + "/tokenizer.json"
		want := []string{"HEAD hub " + path + " token", "GET cdn /blob"}
		if diff := cmp.Diff(want, f.requests); diff != "" {
			t.Errorf("requests (-want +got):\n%s", diff)
		}
		// The second time the Hub is only asked whether anything has changed.
		mustFetch(t, h, revision)
		if diff := cmp.Diff(append(want, want[0]), f.requests); diff != "" {
			t.Errorf("requests of the second fetch (-want +got):\n%s", diff)
		}
	}
}

func TestFetchOfACachedCommitAsksNobody(t *testing.T) {
	f := newFakeHub(t)
	h, _ := f.hub(t)
	mustFetch(t, h, testCommit)
	asked := len(f.requests)
	mustFetch(t, h, testCommit)
	if len(f.requests) != asked {
		t.Errorf("requests for a commit in the cache: %q", f.requests[asked:])
	}
	if got := tree(t, h.CacheDir); slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, "refs/") }) {
		t.Errorf("a ref was written for a commit: %q", got)
	}
}

func TestFetchReusesABlobUnderANewCommit(t *testing.T) {
	f := newFakeHub(t)
	h, _ := f.hub(t)
	blobs := filepath.Join(h.CacheDir, "models--org--name", "blobs")
	writeTestFile(t, filepath.Join(blobs, testETag), testContent)
	mustFetch(t, h, "main")
	if diff := cmp.Diff(wantTree("main"), tree(t, h.CacheDir)); diff != "" {
		t.Errorf("cache (-want +got):\n%s", diff)
	}
	if len(f.requests) != 1 {
		t.Errorf("content in the cache was fetched: %q", f.requests)
	}
}

func TestFetchReplacesADamagedBlob(t *testing.T) {
	f := newFakeHub(t)
	h, _ := f.hub(t)
	mustFetch(t, h, "main")
	writeTestFile(t, filepath.Join(h.CacheDir, "models--org--name", "blobs", testETag), testContent[:100])
	mustFetch(t, h, "main")
	if diff := cmp.Diff(wantTree("main"), tree(t, h.CacheDir)); diff != "" {
		t.Errorf("cache (-want +got):\n%s", diff)
	}
}

func TestFetchWithoutSymbolicLinks(t *testing.T) {
	f := newFakeHub(t)
	h, log := f.hub(t)
	h.symlink = func(string, string) error { return errors.ErrUnsupported }
	mustFetch(t, h, "main")
	want := wantTree("main")
	want[2] = "models--org--name/snapshots/" + testCommit + "/tokenizer.json = 5027 bytes"
	if diff := cmp.Diff(want, tree(t, h.CacheDir)); diff != "" {
		t.Errorf("cache (-want +got):\n%s", diff)
	}
	if strings.Contains(log.String(), "WARN") {
		t.Errorf("log:\n%s", log)
	}
}

func TestFetchWithACacheThatCannotBeWritten(t *testing.T) {
	f := newFakeHub(t)
	h, log := f.hub(t)
	blocker := filepath.Join(t.TempDir(), "file") // a file where a folder is wanted stops even root
	writeTestFile(t, blocker, nil)
	h.CacheDir = filepath.Join(blocker, "hub")
	mustFetch(t, h, "main")
	if !strings.Contains(log.String(), "could not be kept in the cache") {
		t.Errorf("log:\n%s", log)
	}
}

func TestFetchWithoutACache(t *testing.T) {
	f := newFakeHub(t)
	h, log := f.hub(t)
	h.CacheDir = ""
	mustFetch(t, h, "main")
	if strings.Contains(log.String(), "WARN") {
		t.Errorf("log:\n%s", log)
	}
}

// pythonCache lays out what huggingface_hub 2.4 leaves behind.
func pythonCache(t *testing.T, dir string) {
	t.Helper()
	repo := filepath.Join(dir, "models--org--name")
	writeTestFile(t, filepath.Join(dir, ".locks", "models--org--name", testETag+".lock"), nil)
	writeTestFile(t, filepath.Join(dir, "CACHEDIR.TAG"), []byte("Signature: 8a477f597d28d172789f06886806bc55\n"))
	writeTestFile(t, filepath.Join(repo, "blobs", testETag), testContent)
	writeTestFile(t, filepath.Join(repo, "refs", "main"), []byte(testCommit))
	snapshot := filepath.Join(repo, "snapshots", testCommit)
	if err := os.MkdirAll(snapshot, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../../blobs/"+testETag, filepath.Join(snapshot, fileName)); err != nil {
		t.Fatal(err)
	}
}

func writeTestFile(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o666); err != nil {
		t.Fatal(err)
	}
}

func TestFetchFromAPythonCache(t *testing.T) {
	for name, change := range map[string]func(*Hub, *fakeHub){
		"offline":            func(h *Hub, _ *fakeHub) { h.Offline = true },
		"online":             func(*Hub, *fakeHub) {},
		"no connection":      func(_ *Hub, f *fakeHub) { f.Close() },
		"server error":       func(_ *Hub, f *fakeHub) { f.head = []http.HandlerFunc{status(500)} },
		"not a Hub":          func(_ *Hub, f *fakeHub) { f.head = []http.HandlerFunc{status(200)} },
		"no longer readable": func(_ *Hub, f *fakeHub) { f.head = []http.HandlerFunc{status(401)} },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeHub(t)
			h, log := f.hub(t)
			pythonCache(t, h.CacheDir)
			before := tree(t, h.CacheDir)
			change(h, f)
			mustFetch(t, h, "main")
			if diff := cmp.Diff(before, tree(t, h.CacheDir)); diff != "" {
				t.Errorf("the cache changed (-want +got):\n%s", diff)
			}
			if len(f.requests) > 1 {
				t.Errorf("a copy is in the cache and yet %q", f.requests)
			}
			quiet := name == "offline" || name == "online"
			if warned := strings.Contains(log.String(), "the one in the cache is used"); warned == quiet {
				t.Errorf("log:\n%s", log)
			}
		})
	}
}

func TestFetchErrors(t *testing.T) {
	page := "/org/name"
	tests := []struct {
		name    string
		answer  http.HandlerFunc
		noToken bool
		want    []string
	}{
		{"no such repository, anonymous", status(401, "X-Error-Code: RepoNotFound"), true,
			[]string{page + " does not exist, or is private or gated", "spelling", "set HF_TOKEN"}},
		{"no such repository, with a token", status(404, "X-Error-Code: RepoNotFound"), false,
			[]string{page + " does not exist, or HF_TOKEN may not read it", "spelling"}},
		{"401 without a code", status(401), true, []string{"does not exist, or is private or gated"}},
		{"bad token", status(401, "X-Error-Message: Invalid credentials in Authorization header"), false,
			[]string{"refuses the token", "HF_TOKEN is wrong or has expired"}},
		{"gated, anonymous", status(401, "X-Error-Code: GatedRepo"), true,
			[]string{page + " is gated", "accept its licence on that page, then set HF_TOKEN"}},
		{"gated, with a token", status(403, "X-Error-Code: GatedRepo"), false,
			[]string{page + " is gated", "account of HF_TOKEN has no access", "accept its licence"}},
		{"no such revision", status(404, "X-Error-Code: RevisionNotFound"), false,
			[]string{`has no revision "main"`, "branch, a tag or a commit"}},
		{"no such file", status(404, "X-Error-Code: EntryNotFound"), false,
			[]string{"has no tokenizer.json", "tokenizer.model", "another repository", "save_pretrained"}},
		{"disabled", status(403, "X-Error-Message: Access to this resource is disabled."), false, []string{"disabled"}},
		{"forbidden", status(403, "X-Error-Message: not for you"), false, []string{"forbids", "not for you", "permission"}},
		{"hostile text", status(403, "X-Error-Message: not\u009b31m for \u202eyou"+strings.Repeat("!", 5000)), false,
			[]string{"forbids", "not31m for you!!!", "permission"}},
		{"other status", status(410), false, []string{"answers 410 Gone"}},
		{"captive portal", status(200, "Content-Type: text/html"), false,
			[]string{"no X-Repo-Commit", "proxy", "HF_ENDPOINT"}},
		{"commit that is none", status(200, "X-Repo-Commit: ../../etc", "ETag: x"), false,
			[]string{"not a HuggingFace Hub"}},
		{"redirect to nowhere", status(302), false, []string{"redirects to nowhere"}},
		{"too large", status(200, "X-Repo-Commit: "+testCommit, "ETag: x", "X-Linked-Size: 99999999999"), false,
			[]string{"more than 512 MiB"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := newFakeHub(t)
			h, log := f.hub(t)
			if test.noToken {
				h.Token = ""
			}
			f.head = []http.HandlerFunc{test.answer}
			_, err := h.fetch(t.Context(), "org/name", "main", fileName)
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range append(test.want, "org/name") {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q is not in: %v", want, err)
				}
			}
			strange := func(r rune) bool { return !unicode.IsPrint(r) }
			if text := err.Error(); len(text) > 500 || strings.ContainsFunc(text, strange) {
				t.Errorf("the error is not short, plain text: %.600q", text)
			}
			if len(f.requests) != 1 {
				t.Errorf("tried again: %q", f.requests)
			}
			if strings.Contains(err.Error()+log.String(), testToken) {
				t.Errorf("the token is in the error or the log: %v\n%s", err, log)
			}
		})
	}
}

// A copy in the cache must not hide that the revision or the file is gone.
func TestFetchOfSomethingGone(t *testing.T) {
	for _, code := range []string{"RevisionNotFound", "EntryNotFound"} {
		f := newFakeHub(t)
		h, _ := f.hub(t)
		pythonCache(t, h.CacheDir)
		f.head = []http.HandlerFunc{status(404, "X-Error-Code: "+code)}
		if _, err := h.fetch(t.Context(), "org/name", "main", fileName); err == nil {
			t.Errorf("no error after %s", code)
		}
	}
}

func TestFetchOfflineWithoutACopy(t *testing.T) {
	f := newFakeHub(t)
	h, _ := f.hub(t)
	h.Offline = true
	_, err := h.fetch(t.Context(), "org/name", "v2", fileName)
	for _, want := range []string{
		"HF_HUB_OFFLINE", "revision v2 is not in the cache folder " + h.CacheDir, "hf download org/name",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in: %v", want, err)
		}
	}
	h.CacheDir = ""
	_, err = h.fetch(t.Context(), "org/name", "v2", fileName)
	if err == nil || !strings.Contains(err.Error(), "HF_HUB_CACHE") {
		t.Errorf("without a cache: %v", err)
	}
	if len(f.requests) > 0 {
		t.Errorf("offline, and yet %q", f.requests)
	}
}

func TestRedirects(t *testing.T) {
	f := newFakeHub(t)
	to := func(url string) http.HandlerFunc { return status(http.StatusTemporaryRedirect, "Location: "+url) }
	direct := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Repo-Commit", testCommit)
		w.Header().Set("ETag", `W/"`+testETag+`"`)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(testContent))
	}
	const path = "/org/name/resolve/main/tokenizer.json"
	tests := []struct {
		name      string
		head, get []http.HandlerFunc
		want      []string
	}{
		{"renamed repository", []http.HandlerFunc{to("/new/name/resolve/main/tokenizer.json")}, nil,
			[]string{"HEAD hub " + path + " token", "HEAD hub /new/name/resolve/main/tokenizer.json token", "GET cdn /blob"}},
		{"relative redirect with metadata of its own", []http.HandlerFunc{
			status(307, "Location: /cache/tokenizer.json", "X-Repo-Commit: "+strings.Repeat("f", 40), "ETag: other")}, nil,
			[]string{"HEAD hub " + path + " token", "HEAD hub /cache/tokenizer.json token", "GET cdn /blob"}},
		{"small file, no CDN", []http.HandlerFunc{direct, direct}, nil,
			[]string{"HEAD hub " + path + " token", "GET hub " + path + " token"}},
		{"mirror of another host", []http.HandlerFunc{to(f.cdn.URL + "/mirrored")}, []http.HandlerFunc{direct, direct},
			[]string{"HEAD hub " + path + " token", "HEAD cdn /mirrored", "GET cdn /mirrored"}},
		{"CDN that redirects", nil, []http.HandlerFunc{to("/elsewhere")},
			[]string{"HEAD hub " + path + " token", "GET cdn /blob", "GET cdn /elsewhere"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			h, _ := f.hub(t)
			f.requests, f.head, f.get = nil, test.head, test.get
			mustFetch(t, h, "main")
			if diff := cmp.Diff(test.want, f.requests); diff != "" {
				t.Errorf("requests (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(wantTree("main"), tree(t, h.CacheDir)); diff != "" {
				t.Errorf("cache (-want +got):\n%s", diff)
			}
		})
	}
	t.Run("loop", func(t *testing.T) {
		h, _ := f.hub(t)
		f.head = slices.Repeat([]http.HandlerFunc{to("/again")}, 50)
		_, err := h.fetch(t.Context(), "org/name", "main", fileName)
		if err == nil || !strings.Contains(err.Error(), "too many redirects") {
			t.Errorf("error %v", err)
		}
	})
}

// roundTrips is a transport that answers by a function, so that no network stands in the way of a synctest bubble.
type roundTrips func(*http.Request) (*http.Response, error)

func (f roundTrips) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func response(code int, body io.ReadCloser, headers ...string) *http.Response {
	res := &http.Response{StatusCode: code, Status: fmt.Sprintf("%d %s", code, http.StatusText(code)),
		Header: http.Header{}, Body: body, ContentLength: -1}
	if body == nil {
		res.Body = http.NoBody
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		res.Header.Set(name, value)
	}
	return res
}

func goodHead() *http.Response {
	return response(200, nil, "X-Repo-Commit: "+testCommit, "X-Linked-Etag: "+testETag,
		"X-Linked-Size: "+strconv.Itoa(len(testContent)))
}

func goodBody() io.ReadCloser { return io.NopCloser(bytes.NewReader(testContent)) }

func TestRetries(t *testing.T) {
	busy := func(headers ...string) func() (*http.Response, error) {
		return func() (*http.Response, error) { return response(503, nil, headers...), nil }
	}
	broken := func() (*http.Response, error) { return nil, errors.New("connection refused") }
	half := func() (*http.Response, error) {
		return response(200, io.NopCloser(io.MultiReader(bytes.NewReader(testContent[:1000]), errReader{}))), nil
	}
	short := func() (*http.Response, error) {
		return response(200, io.NopCloser(bytes.NewReader(testContent[:1000]))), nil
	}
	forged := func() (*http.Response, error) {
		return response(200, io.NopCloser(bytes.NewReader(bytes.ToUpper(testContent)))), nil
	}
	limited := func(header string) func() (*http.Response, error) {
		return func() (*http.Response, error) { return response(429, nil, header), nil }
	}
	type script = []func() (*http.Response, error)
	tests := []struct {
		name      string
		head, get script
		waits     time.Duration
		err       string
	}{
		{"busy twice", script{busy(), busy()}, nil, 3 * time.Second, ""},
		{"no connection", script{broken}, nil, time.Second, ""},
		{"408", script{func() (*http.Response, error) { return response(408, nil), nil }}, nil, time.Second, ""},
		{"rate limit of the Hub", script{limited(`RateLimit: "resolvers";r=0;t=55`)}, nil, 56 * time.Second, ""},
		{"rate limit that is not the reason", script{limited(`RateLimit: "resolvers";r=9;t=55`)}, nil, time.Second, ""},
		{"Retry-After", script{busy("Retry-After: 7")}, nil, 7 * time.Second, ""},
		{"Retry-After without an end", script{busy("Retry-After: 86400")}, nil, maxWait, ""},
		{"interrupted download", nil, script{half}, time.Second, ""},
		{"short download", nil, script{short}, time.Second, ""},
		{"wrong content, then good", nil, script{forged}, time.Second, ""},
		{"CDN busy", nil, script{busy(), busy(), busy()}, 7 * time.Second, ""},
		{"busy for ever", slices.Repeat(script{busy()}, 10), nil, 23 * time.Second, "answers 503 Service Unavailable"},
		{"wrong content for ever", nil, slices.Repeat(script{forged}, 10), 23 * time.Second, "damaged: its SHA-256 is"},
		{"short for ever", nil, slices.Repeat(script{short}, 10), 23 * time.Second, "1000 bytes instead of 5027"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				h := &Hub{CacheDir: dir, Transport: roundTrips(func(r *http.Request) (*http.Response, error) {
					next := &test.get
					if r.Method == http.MethodHead {
						next = &test.head
					}
					if len(*next) > 0 {
						answer := (*next)[0]
						*next = (*next)[1:]
						return answer()
					}
					if r.Method == http.MethodHead {
						return goodHead(), nil
					}
					return response(200, goodBody()), nil
				})}
				start := time.Now()
				got, err := h.fetch(t.Context(), "org/name", "main", fileName)
				if waited := time.Since(start); waited != test.waits {
					t.Errorf("waited %v instead of %v", waited, test.waits)
				}
				switch {
				case test.err == "" && err != nil:
					t.Error(err)
				case test.err == "" && !bytes.Equal(got.data, testContent):
					t.Error("another content")
				case test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)):
					t.Errorf("error %v instead of one with %q", err, test.err)
				}
				if lines := tree(t, dir); test.err != "" && len(lines) > 0 {
					t.Errorf("left in the cache: %q", lines)
				}
			})
		})
	}
}

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, errors.New("connection reset by peer") }

// stuck is a body that never brings anything and ends with the request.
type stuck struct{ ctx context.Context }

func (s stuck) Read([]byte) (int, error) { <-s.ctx.Done(); return 0, s.ctx.Err() }

func TestStallsAndSilenceEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var heads, gets int
		h := &Hub{
			MetadataTimeout: 3 * time.Second, DownloadTimeout: 5 * time.Second,
			Transport: roundTrips(func(r *http.Request) (*http.Response, error) {
				if r.Method == http.MethodHead {
					if heads++; heads == 1 {
						<-r.Context().Done()
						return nil, r.Context().Err()
					}
					return goodHead(), nil
				}
				if gets++; gets == 1 {
					some := io.MultiReader(bytes.NewReader(testContent[:10]), stuck{r.Context()})
					return response(200, io.NopCloser(some)), nil
				}
				return response(200, goodBody()), nil
			}),
		}
		start := time.Now()
		mustFetch(t, h, "main")
		// 3 s of silence, 1 s of pause, 5 s of a stalled download, 1 s of pause.
		if took := time.Since(start); took != 10*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

func TestASlowDownloadIsNotAStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &Hub{DownloadTimeout: 5 * time.Second, Transport: roundTrips(func(r *http.Request) (*http.Response, error) {
			if r.Method == http.MethodHead {
				return goodHead(), nil
			}
			return response(200, io.NopCloser(&trickle{r.Context(), testContent})), nil
		})}
		start := time.Now()
		mustFetch(t, h, "main")
		if took := time.Since(start); took != 6*4*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

// trickle brings a thousand bytes every four seconds.
type trickle struct {
	ctx  context.Context
	rest []byte
}

func (s *trickle) Read(b []byte) (int, error) {
	if len(s.rest) == 0 {
		return 0, io.EOF
	}
	if err := wait(s.ctx, 4*time.Second); err != nil {
		return 0, err
	}
	n := copy(b[:min(len(b), 1000)], s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

func TestTokenStaysWithinTheOrigin(t *testing.T) {
	for location, want := range map[string]bool{
		"/elsewhere":                           true,
		"https://hub.example/elsewhere":        true,
		"http://hub.example/elsewhere":         false, // in the clear
		"https://cdn.hub.example/elsewhere":    false, // net/http would send it to a subdomain
		"https://hub.example:8443/elsewhere":   false,
		"https://hub.example.evil.example/abc": false,
	} {
		var sent []bool
		h := &Hub{Endpoint: "https://hub.example", Token: testToken,
			Transport: roundTrips(func(r *http.Request) (*http.Response, error) {
				sent = append(sent, r.Header.Get("Authorization") != "")
				if r.Method == http.MethodHead {
					return goodHead(), nil
				}
				if len(sent) == 2 {
					res := response(302, nil, "Location: "+location)
					res.Request = r
					return res, nil
				}
				return response(200, goodBody()), nil
			})}
		mustFetch(t, h, "main")
		if diff := cmp.Diff([]bool{true, true, want}, sent); diff != "" {
			t.Errorf("token after a redirect to %s (-want +got):\n%s", location, diff)
		}
	}
}

func TestACancelledFetchDoesNotFallBack(t *testing.T) {
	f := newFakeHub(t)
	h, _ := f.hub(t)
	pythonCache(t, h.CacheDir)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.fetch(ctx, "org/name", "main", fileName); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func TestFetchEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stop := errors.New("told to stop")
		ctx, cancel := context.WithCancelCause(t.Context())
		h := &Hub{Transport: roundTrips(func(*http.Request) (*http.Response, error) { return response(503, nil), nil })}
		time.AfterFunc(1500*time.Millisecond, func() { cancel(stop) })
		start := time.Now()
		_, err := h.fetch(ctx, "org/name", "main", fileName)
		if took := time.Since(start); !errors.Is(err, stop) || took != 1500*time.Millisecond {
			t.Errorf("error %v after %v", err, took)
		}
	})
}

// What a CDN's URL is signed with must not be told to anybody.
func TestErrorsHideSignatures(t *testing.T) {
	f := newFakeHub(t)
	h, log := f.hub(t)
	f.get = []http.HandlerFunc{status(410)}
	_, err := h.fetch(t.Context(), "org/name", "main", fileName)
	if err == nil || !strings.Contains(err.Error(), f.cdn.URL+"/…") {
		t.Errorf("error %v", err)
	}
	if text := fmt.Sprint(err, log); strings.Contains(text, "signature") || strings.Contains(text, testToken) {
		t.Errorf("%s", text)
	}
}

func TestHubFromEnv(t *testing.T) {
	home := t.TempDir()
	writeTestFile(t, filepath.Join(home, ".cache", "huggingface", "token"), []byte("hf_fromhome\n"))
	writeTestFile(t, filepath.Join(home, "mine", "token"), []byte("hf_fromhfhome"))
	writeTestFile(t, filepath.Join(home, "secret"), []byte("hf_frompath"))
	writeTestFile(t, filepath.Join(home, "broken"), []byte("two words"))
	type env = map[string]string
	type want struct {
		endpoint, token, cache string
		offline                bool
		metadata, download     time.Duration
	}
	defaults := want{token: "hf_fromhome", cache: home + "/.cache/huggingface/hub"}
	with := func(change func(*want)) want { w := defaults; change(&w); return w }
	tests := []struct {
		name string
		env  env
		want want
		err  string
	}{
		{"nothing but a home", env{}, defaults, ""},
		{"no home", env{"HOME": ""}, want{}, ""},
		{"endpoint", env{"HF_ENDPOINT": "https://hub.example/"},
			with(func(w *want) { w.endpoint = "https://hub.example/" }), ""},
		{"bad endpoint", env{"HF_ENDPOINT": "hub.example"}, want{}, "HF_ENDPOINT: not a base URL"},
		{"token", env{"HF_TOKEN": " hf_a\n", "HUGGING_FACE_HUB_TOKEN": "hf_b"}, with(func(w *want) { w.token = "hf_a" }), ""},
		{"older name", env{"HUGGING_FACE_HUB_TOKEN": "hf_b"}, with(func(w *want) { w.token = "hf_b" }), ""},
		{"token of a path", env{"HF_TOKEN_PATH": "~/secret"}, with(func(w *want) { w.token = "hf_frompath" }), ""},
		{"no file at the path", env{"HF_TOKEN_PATH": "~/nothing"}, with(func(w *want) { w.token = "" }), ""},
		{"a folder at the path", env{"HF_TOKEN_PATH": "~/mine"}, want{}, "token file"},
		{"token of two words", env{"HF_TOKEN_PATH": "~/broken"}, want{}, "space or another character"},
		{"not by itself", env{"HF_TOKEN": "hf_a", "HF_HUB_DISABLE_IMPLICIT_TOKEN": "yes"},
			with(func(w *want) { w.token = "" }), ""},
		{"HF_HOME", env{"HF_HOME": "$HOME/mine"},
			with(func(w *want) { w.token, w.cache = "hf_fromhfhome", home+"/mine/hub" }), ""},
		{"XDG_CACHE_HOME", env{"XDG_CACHE_HOME": "~/xdg"},
			with(func(w *want) { w.token, w.cache = "", home+"/xdg/huggingface/hub" }), ""},
		{"cache", env{"HF_HUB_CACHE": "/c", "HUGGINGFACE_HUB_CACHE": "/d"}, with(func(w *want) { w.cache = "/c" }), ""},
		{"older name of the cache", env{"HUGGINGFACE_HUB_CACHE": "/d"}, with(func(w *want) { w.cache = "/d" }), ""},
		{"offline", env{"HF_HUB_OFFLINE": "1"}, with(func(w *want) { w.offline = true }), ""},
		{"offline by transformers", env{"TRANSFORMERS_OFFLINE": "on"}, with(func(w *want) { w.offline = true }), ""},
		{"not offline", env{"HF_HUB_OFFLINE": "0", "TRANSFORMERS_OFFLINE": "1"}, defaults, ""},
		{"timeouts", env{"HF_HUB_ETAG_TIMEOUT": "30", "HF_HUB_DOWNLOAD_TIMEOUT": "2.5"},
			with(func(w *want) { w.metadata, w.download = 30*time.Second, 2500*time.Millisecond }), ""},
		{"bad timeout", env{"HF_HUB_ETAG_TIMEOUT": "soon"}, want{}, `HF_HUB_ETAG_TIMEOUT is "soon"`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			h, err := HubFromEnv(func(name string) string {
				if v, ok := test.env[name]; ok || name != "HOME" {
					return v
				}
				return home
			})
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("error %v instead of one with %q", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := want{h.Endpoint, h.Token, h.CacheDir, h.Offline, h.MetadataTimeout, h.DownloadTimeout}
			if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(want{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
