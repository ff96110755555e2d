package tokenizer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	publicEndpoint = "https://huggingface.co"
	defaultTimeout = 10 * time.Second
)

// Hub fetches files from a HuggingFace Hub as huggingface_hub does, through the same cache. The zero value is the
// public Hub without a token and without a cache. It must not be changed while in use.
type Hub struct {
	Endpoint string       // base URL; "" is https://huggingface.co
	Token    string       // sent to the endpoint's own host and to no other; never logged
	CacheDir string       // folder of huggingface_hub's cache; "" keeps nothing
	Offline  bool         // use the cache alone
	Logger   *slog.Logger // nil discards

	MetadataTimeout time.Duration // limit of a request for metadata; 0 is 10 s
	DownloadTimeout time.Duration // longest wait for the next bytes of a download; 0 is 10 s

	Transport http.RoundTripper // nil is http.DefaultTransport

	symlink func(target, path string) error // nil is os.Symlink, which some filesystems refuse
}

// HubFromEnv reads the variables that huggingface_hub reads: HF_ENDPOINT, HF_TOKEN, HUGGING_FACE_HUB_TOKEN,
// HF_TOKEN_PATH, HF_HUB_DISABLE_IMPLICIT_TOKEN, HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE, HF_HOME, XDG_CACHE_HOME,
// HF_HUB_OFFLINE, TRANSFORMERS_OFFLINE, HF_HUB_ETAG_TIMEOUT and HF_HUB_DOWNLOAD_TIMEOUT. An empty variable counts as
// not set. It fails if a value cannot be used or the token file cannot be read; that there is none is no failure.
func HubFromEnv(getenv func(string) string) (*Hub, error) {
	first := func(names ...string) string {
		for _, name := range names {
			if v := strings.TrimSpace(getenv(name)); v != "" {
				return v
			}
		}
		return ""
	}
	isTrue := func(v string) bool {
		switch strings.ToUpper(v) {
		case "1", "ON", "YES", "TRUE":
			return true
		}
		return false
	}
	h := &Hub{Endpoint: first("HF_ENDPOINT"), Offline: isTrue(first("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))}
	if h.Endpoint != "" {
		if _, err := parseEndpoint(h.Endpoint); err != nil {
			return nil, fmt.Errorf("HF_ENDPOINT: %w", err)
		}
	}
	for name, timeout := range map[string]*time.Duration{
		"HF_HUB_ETAG_TIMEOUT": &h.MetadataTimeout, "HF_HUB_DOWNLOAD_TIMEOUT": &h.DownloadTimeout,
	} {
		if v := first(name); v != "" {
			seconds, err := strconv.ParseFloat(v, 64)
			if err != nil || seconds < 0 || seconds > 86400 {
				return nil, fmt.Errorf("%s is %q; a number of seconds is wanted", name, v)
			}
			*timeout = time.Duration(seconds * float64(time.Second))
		}
	}
	home := homeOf(getenv, first)
	if cache := first("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"); cache != "" {
		h.CacheDir = expandPath(cache, getenv)
	} else if home != "" {
		h.CacheDir = filepath.Join(home, "hub")
	}
	if isTrue(first("HF_HUB_DISABLE_IMPLICIT_TOKEN")) {
		return h, nil
	}
	var err error
	h.Token, err = readToken(first("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"), expandPath(first("HF_TOKEN_PATH"), getenv), home)
	return h, err
}

// homeOf returns the folder of everything of HuggingFace, "" if the environment names no home at all.
func homeOf(getenv func(string) string, first func(...string) string) string {
	if home := first("HF_HOME"); home != "" {
		return expandPath(home, getenv)
	}
	if cache := first("XDG_CACHE_HOME"); cache != "" {
		return filepath.Join(expandPath(cache, getenv), "huggingface")
	}
	if home := first("HOME"); home != "" {
		return filepath.Join(home, ".cache", "huggingface")
	}
	return ""
}

func expandPath(path string, getenv func(string) string) string {
	if rest, ok := strings.CutPrefix(path, "~/"); ok {
		path = filepath.Join(getenv("HOME"), rest)
	}
	return os.Expand(path, getenv)
}

func readToken(token, path, home string) (string, error) {
	if token == "" {
		if path == "" && home == "" {
			return "", nil
		}
		if path == "" {
			path = filepath.Join(home, "token")
		}
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return "", nil
		}
		if err != nil {
			return "", fmt.Errorf("the HuggingFace token file: %w", err)
		}
		token = strings.TrimSpace(string(data))
	}
	if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", errors.New("the HuggingFace token has a space or another character that no token has; " +
			"check HF_TOKEN or the token file")
	}
	return token, nil
}

func parseEndpoint(endpoint string) (*url.URL, error) {
	u, err := url.Parse(strings.TrimRight(endpoint, "/"))
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, errors.New("not a base URL such as " + publicEndpoint)
	}
	return u, nil
}

func (h *Hub) log() *slog.Logger {
	if h.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return h.Logger
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// file is the content of a file of a repository and the commit it belongs to.
type file struct {
	data   []byte
	commit string
}

// fetch returns a file at a revision: from the cache where the revision is a commit, where the Hub says that nothing
// has changed, and where the Hub cannot be had; else from the Hub, leaving it in the cache.
func (h *Hub) fetch(ctx context.Context, repo, revision, name string) (*file, error) {
	q, err := h.query(repo, revision, name)
	if err != nil {
		return nil, err
	}
	cached := q.cached()
	if cached != nil && isCommit(revision) {
		return cached, nil
	}
	if h.Offline {
		if cached == nil {
			return nil, q.errOffline()
		}
		return cached, nil
	}
	meta, err := h.metadata(ctx, q, cached == nil)
	if err != nil {
		if cached == nil || ctx.Err() != nil || isFinal(err) {
			return nil, err
		}
		h.log().Warn("the Hub cannot be asked whether a tokenizer has changed; the one in the cache is used",
			"repository", repo, "revision", revision, "commit", cached.commit, "error", err)
		return cached, nil
	}
	if data := q.stored(meta); data != nil {
		return &file{data, meta.commit}, nil
	}
	data, err := h.download(ctx, q, meta)
	if err != nil {
		return nil, err
	}
	if err := q.store(meta, data); err != nil {
		h.log().Warn("a tokenizer could not be kept in the cache and will be fetched again", "folder", h.CacheDir,
			"error", err)
	}
	return &file{data, meta.commit}, nil
}
