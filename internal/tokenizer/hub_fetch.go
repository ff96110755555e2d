package tokenizer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const (
	maxRedirects = 10
	maxAttempts  = 6               // with the backoff below about 23 s of waiting in all
	maxBackoff   = 8 * time.Second // of our own
	maxWait      = 5 * time.Minute // that a server may ask for: the Hub's rate limits are per 5 minutes
	maxFileSize  = 512 << 20       // the largest tokenizer.json known to us has 33 MB
)

// metadata asks the Hub what the file is. It is tried again after a passing failure if retry is set.
func (h *Hub) metadata(ctx context.Context, q *query, retry bool) (*metadata, error) {
	var meta *metadata
	attempts := 1
	if retry {
		attempts = maxAttempts
	}
	err := h.retry(ctx, q, attempts, func() (err error) {
		meta, err = h.head(ctx, q)
		return err
	})
	return meta, err
}

// head asks once. The Hub's own answer carries the metadata, also where it is a redirect to the content elsewhere; one
// that carries none, for a repository that was renamed or a mirror, is followed.
func (h *Hub) head(ctx context.Context, q *query) (*metadata, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, timeoutOr(h.MetadataTimeout), errSlow)
	defer cancel()
	at := q.url()
	for range maxRedirects {
		res, err := h.send(ctx, http.MethodHead, at, q.endpoint)
		if err != nil {
			return nil, q.errTransport(at, err)
		}
		res.Body.Close()
		next, err := redirect(res)
		if err != nil {
			return nil, q.errAnswer(at, err.Error())
		}
		commit, etag := res.Header.Get("X-Repo-Commit"), etagOf(res)
		if next != nil && (commit == "" || sameOrigin(at, next)) {
			at = next
			continue
		}
		if next == nil && res.StatusCode != http.StatusOK {
			return nil, q.errStatus(at, res)
		}
		if !isCommit(commit) || etag == "" {
			return nil, q.errAnswer(at, "its answer has no X-Repo-Commit or no ETag, so that it is not a HuggingFace Hub; "+
				"check HF_ENDPOINT and any proxy in between")
		}
		if next == nil {
			next = at
		}
		return &metadata{commit: commit, etag: etag, size: sizeOf(res), location: next}, nil
	}
	return nil, q.errAnswer(at, "too many redirects")
}

// download gets the content, checks it, and tries again after a passing failure.
func (h *Hub) download(ctx context.Context, q *query, meta *metadata) ([]byte, error) {
	if meta.size > maxFileSize {
		return nil, q.errTooLarge(meta.location)
	}
	h.log().Info("fetching a tokenizer", "repository", q.repo, "commit", meta.commit, "bytes", meta.size)
	var data []byte
	err := h.retry(ctx, q, maxAttempts, func() (err error) {
		data, err = h.get(ctx, q, meta)
		return err
	})
	return data, err
}

func (h *Hub) get(ctx context.Context, q *query, meta *metadata) ([]byte, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stalled := time.AfterFunc(timeoutOr(h.DownloadTimeout), func() { cancel(errSlow) })
	defer stalled.Stop()
	at := meta.location
	for range maxRedirects {
		res, err := h.send(ctx, http.MethodGet, at, q.endpoint)
		if err != nil {
			return nil, q.errTransport(at, err)
		}
		next, err := redirect(res)
		if err != nil || next != nil {
			res.Body.Close()
			if err != nil {
				return nil, q.errAnswer(at, err.Error())
			}
			at = next
			continue
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusOK {
			return nil, q.errStatus(at, res)
		}
		var data bytes.Buffer
		data.Grow(int(max(meta.size, 0)) + bytes.MinRead)
		body := &progress{res.Body, func() { stalled.Reset(timeoutOr(h.DownloadTimeout)) }}
		if _, err := io.Copy(&data, io.LimitReader(body, maxFileSize+1)); err != nil {
			return nil, q.errTransport(at, fmt.Errorf("after %d bytes: %w", data.Len(), causeOf(ctx, err)))
		}
		if data.Len() > maxFileSize {
			return nil, q.errTooLarge(at)
		}
		if err := meta.verify(data.Bytes()); err != nil {
			return nil, q.errTransport(at, fmt.Errorf("%s arrived damaged: %w", q.name, err))
		}
		return data.Bytes(), nil
	}
	return nil, q.errAnswer(at, "too many redirects")
}

// progress calls more after every read that brought something.
type progress struct {
	r    io.Reader
	more func()
}

func (p *progress) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	if n > 0 {
		p.more()
	}
	return n, err
}

// send makes one request and follows nothing: net/http would hand the token on to a subdomain of the Hub, and would
// swallow the answer that carries the metadata.
func (h *Hub) send(ctx context.Context, method string, at, endpoint *url.URL) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, at.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "inferprobe")
	req.Header.Set("Accept-Encoding", "identity") // sizes are those of the file
	if h.Token != "" && sameOrigin(at, endpoint) {
		req.Header.Set("Authorization", "Bearer "+h.Token)
	}
	transport := h.Transport
	if transport == nil {
		transport = http.DefaultTransport
	}
	res, err := transport.RoundTrip(req)
	if err != nil {
		return nil, causeOf(ctx, err)
	}
	return res, nil
}

// causeOf replaces an error that a cancelled context brought about by the reason of the cancellation.
func causeOf(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func sameOrigin(a, b *url.URL) bool { return a.Scheme == b.Scheme && strings.EqualFold(a.Host, b.Host) }

// redirect returns where an answer redirects to, nil if it does not.
func redirect(res *http.Response) (*url.URL, error) {
	switch res.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect,
		http.StatusPermanentRedirect:
	default:
		return nil, nil
	}
	next, err := res.Location()
	if err != nil || (next.Scheme != "http" && next.Scheme != "https") {
		return nil, errors.New("it redirects to nowhere that can be followed")
	}
	return next, nil
}

func etagOf(res *http.Response) string {
	etag := res.Header.Get("X-Linked-Etag")
	if etag == "" {
		etag = res.Header.Get("ETag")
	}
	return strings.Trim(strings.TrimPrefix(etag, "W/"), `"`)
}

func sizeOf(res *http.Response) int64 {
	if size, err := strconv.ParseInt(res.Header.Get("X-Linked-Size"), 10, 64); err == nil && size >= 0 {
		return size
	}
	if res.StatusCode == http.StatusOK {
		return res.ContentLength
	}
	return -1
}

func timeoutOr(d time.Duration) time.Duration {
	if d <= 0 {
		return defaultTimeout
	}
	return d
}

// retry calls f until it succeeds, fails for good or has been called so many times. It waits in between for as long as
// the server asks, else for 1, 2, 4, 8, 8 s.
func (h *Hub) retry(ctx context.Context, q *query, attempts int, f func() error) error {
	backoff := time.Second
	for i := 1; ; i++ {
		err := f()
		var failure *hubError
		if err == nil || ctx.Err() != nil || i >= attempts || !errors.As(err, &failure) || !failure.passing {
			return err
		}
		pause := backoff
		if failure.wait > 0 {
			pause = min(failure.wait, maxWait)
		}
		h.log().Warn("the Hub did not answer as it should; trying again", "repository", q.repo, "error", err,
			"attempt", i, "wait", pause)
		if err := wait(ctx, pause); err != nil {
			return err
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

var ratelimitPattern = regexp.MustCompile(`(?:^|;)\s*r=(\d+)\s*;\s*t=(\d+)`)

// askedWait is how long a server wants us to wait, 0 if it does not say: `ratelimit: "resolvers";r=0;t=55` as the Hub
// sends it, or Retry-After in seconds.
func askedWait(res *http.Response) time.Duration {
	if m := ratelimitPattern.FindStringSubmatch(res.Header.Get("Ratelimit")); m != nil && m[1] == "0" {
		if seconds, err := strconv.Atoi(m[2]); err == nil {
			return time.Duration(seconds+1) * time.Second
		}
	}
	if seconds, err := strconv.Atoi(res.Header.Get("Retry-After")); err == nil && seconds > 0 {
		return time.Duration(seconds) * time.Second
	}
	return 0
}
