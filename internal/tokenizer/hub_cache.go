package tokenizer

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// query is one file of one repository at one revision, with its places on the Hub and in the cache. The layout of the
// cache is huggingface_hub's:
//
//	models--org--name/refs/<revision>             the commit that a branch or tag stood for
//	models--org--name/snapshots/<commit>/<file>   a symbolic link to ../../blobs/<etag>
//	models--org--name/blobs/<etag>                the content
//
// Every write goes to a name of its own and is then renamed, so that neither another process nor a crash can leave
// half a file behind; huggingface_hub's lock files only save a second download and are not used.
type query struct {
	repo, revision, name string
	endpoint             *url.URL
	hasToken             bool
	dir                  string // the repository's folder in the cache, "" without a cache
	symlink              func(target, path string) error
}

func (h *Hub) query(repo, revision, name string) (*query, error) {
	endpoint := h.Endpoint
	if endpoint == "" {
		endpoint = publicEndpoint
	}
	u, err := parseEndpoint(endpoint)
	if err != nil {
		return nil, fmt.Errorf("the Hub's endpoint %q: %w", endpoint, err)
	}
	q := &query{repo: repo, revision: revision, name: name, endpoint: u, hasToken: h.Token != "", symlink: h.symlink}
	if q.symlink == nil {
		q.symlink = os.Symlink
	}
	if h.CacheDir != "" {
		q.dir = filepath.Join(h.CacheDir, "models--"+strings.ReplaceAll(repo, "/", "--"))
	}
	return q, nil
}

// url is where the file is on the Hub.
func (q *query) url() *url.URL {
	return q.endpoint.JoinPath(q.repo, "resolve", url.PathEscape(q.revision), q.name)
}

// page is where a person reads about the repository.
func (q *query) page() string { return q.endpoint.JoinPath(q.repo).Redacted() }

var commitPattern = regexp.MustCompile(`^[0-9a-f]{40}$`)

func isCommit(revision string) bool { return commitPattern.MatchString(revision) }

func (q *query) ref() string { return filepath.Join(q.dir, "refs", filepath.FromSlash(q.revision)) }
func (q *query) snapshot(commit string) string {
	return filepath.Join(q.dir, "snapshots", commit, filepath.FromSlash(q.name))
}
func (q *query) blob(etag string) string { return filepath.Join(q.dir, "blobs", etag) }

// cached returns what the cache has for the revision, without asking the Hub, or nil.
func (q *query) cached() *file {
	if q.dir == "" {
		return nil
	}
	commit := q.revision
	if !isCommit(commit) {
		ref, err := os.ReadFile(q.ref())
		if commit = strings.TrimSpace(string(ref)); err != nil || !isCommit(commit) {
			return nil
		}
	}
	data, err := os.ReadFile(q.snapshot(commit))
	if err != nil {
		return nil
	}
	return &file{data, commit}
}

// stored returns the content that meta describes if the cache has it whole, and brings ref and snapshot up to date.
func (q *query) stored(meta *metadata) []byte {
	if q.dir == "" || !meta.storable() {
		return nil
	}
	for _, path := range []string{q.snapshot(meta.commit), q.blob(meta.etag)} {
		data, err := os.ReadFile(path)
		if err == nil && meta.verify(data) == nil {
			_ = q.link(meta, data) // the cache may be read-only; what is wanted is in it
			return data
		}
	}
	return nil
}

// store puts a downloaded file into the cache.
func (q *query) store(meta *metadata, data []byte) error {
	if q.dir == "" || !meta.storable() {
		return nil
	}
	if err := writeFile(q.blob(meta.etag), data); err != nil {
		return err
	}
	return q.link(meta, data)
}

// link makes the snapshot and the ref lead to the blob. Where there can be no symbolic links the snapshot is a copy.
func (q *query) link(meta *metadata, data []byte) error {
	snapshot := q.snapshot(meta.commit)
	target, err := filepath.Rel(filepath.Dir(snapshot), q.blob(meta.etag))
	if err != nil {
		return err
	}
	if have, err := os.ReadFile(snapshot); err != nil || meta.verify(have) != nil {
		if err := replace(snapshot, func(temporary string) error { return q.symlink(target, temporary) }); err != nil {
			if err := writeFile(snapshot, data); err != nil {
				return err
			}
		}
	}
	if q.revision == meta.commit {
		return nil
	}
	if have, err := os.ReadFile(q.ref()); err == nil && string(have) == meta.commit {
		return nil
	}
	return writeFile(q.ref(), []byte(meta.commit))
}

func writeFile(path string, data []byte) error {
	return replace(path, func(temporary string) error {
		f, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666) // the umask decides who may read it
		if err != nil {
			return err
		}
		_, err = f.Write(data)
		return errors.Join(err, f.Close())
	})
}

// replace lets make create something under a temporary name and renames it to path.
func replace(path string, make func(temporary string) error) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return err
	}
	temporary := path + "." + rand.Text()[:8] + ".incomplete"
	if err := make(temporary); err != nil {
		_ = os.Remove(temporary)
		return err
	}
	if err := os.Rename(temporary, path); err != nil {
		_ = os.Remove(temporary)
		return err
	}
	return nil
}

// metadata is what the Hub says of a file.
type metadata struct {
	commit   string
	etag     string // SHA-256 of a large file, git's SHA-1 of a small one
	size     int64  // -1 if unknown
	location *url.URL
}

// storable reports whether the etag can be the name of a file.
func (m *metadata) storable() bool {
	return regexp.MustCompile(`^[\w-][\w.-]*$`).MatchString(m.etag)
}

// verify checks that data is the whole file.
func (m *metadata) verify(data []byte) error {
	if m.size >= 0 && int64(len(data)) != m.size {
		return fmt.Errorf("%d bytes instead of %d", len(data), m.size)
	}
	if want, err := hex.DecodeString(m.etag); err == nil && len(want) == sha256.Size {
		if sum := sha256.Sum256(data); string(sum[:]) != string(want) {
			return fmt.Errorf("its SHA-256 is %x instead of %s", sum, m.etag)
		}
	}
	return nil
}
