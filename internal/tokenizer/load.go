package tokenizer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

const fileName = "tokenizer.json"

// wanted says what names a tokenizer, and where.
const wanted = "tokenizer (--tokenizer, TOKENIZER) takes a folder with a " + fileName + ", the path of one, or a Hub " +
	"repository"

// Load makes the tokenizer that ref names: a folder that holds a tokenizer.json, the path of such a file, or a Hub
// repository as "org/name" or "org/name@revision", the revision being a branch, a tag or a commit. As in transformers,
// a path that exists comes before a repository of that name. A ref that is written as a path is never looked up on the
// Hub. The error says what to do. A nil hub is the public one, without a token and without a cache.
func Load(ctx context.Context, ref string, hub *Hub) (*Tokenizer, error) {
	if !haveLibrary {
		return nil, ErrNoLibrary
	}
	name, json, err := Read(ctx, ref, hub)
	if err != nil {
		return nil, err
	}
	return FromBytes(name, json)
}

// Read returns the tokenizer.json that ref names, and what Load calls it, for FromBytes: fetching it can take long, and
// making a tokenizer of it takes memory.
func Read(ctx context.Context, ref string, hub *Hub) (name string, json []byte, err error) {
	if ref == "" {
		return "", nil, errors.New("no tokenizer is named; " + wanted)
	}
	path := expandHome(ref)
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir():
		return readFolder(path)
	case err == nil:
		return readFile(path)
	case writtenAsPath(ref) && errors.Is(err, fs.ErrNotExist):
		return "", nil, fmt.Errorf("%s: no such file or folder; %s", path, wanted)
	case writtenAsPath(ref):
		return "", nil, err
	}
	repo, revision, err := parseRepository(ref)
	if err != nil {
		return "", nil, err
	}
	if hub == nil {
		hub = new(Hub)
	}
	file, err := hub.fetch(ctx, repo, revision, fileName)
	if err != nil {
		return "", nil, err
	}
	return repo + "@" + file.commit[:12], file.data, nil
}

func readFile(path string) (name string, json []byte, err error) {
	json, err = os.ReadFile(path)
	if err != nil {
		return "", nil, err
	}
	return path, json, nil
}

func readFolder(path string) (name string, json []byte, err error) {
	file := filepath.Join(path, fileName)
	if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
		return readFile(file)
	}
	for _, other := range []string{"tokenizer.model", "tiktoken.model", "tekken.json", "vocab.json", "vocab.txt"} {
		if _, err := os.Stat(filepath.Join(path, other)); err == nil {
			return "", nil, fmt.Errorf("folder %s has %s but no %s, which is what inferprobe reads; transformers "+
				"writes one: AutoTokenizer.from_pretrained(%q).save_pretrained(%q)", path, other, fileName, path, path)
		}
	}
	return "", nil, fmt.Errorf("folder %s has no %s; %s", path, fileName, wanted)
}

// expandHome replaces a leading "~/", which no shell does for a value in a configuration file.
func expandHome(ref string) string {
	rest, ok := strings.CutPrefix(ref, "~/")
	home, err := os.UserHomeDir()
	if !ok || err != nil {
		return ref
	}
	return filepath.Join(home, rest)
}

func writtenAsPath(ref string) bool {
	for _, prefix := range []string{"/", "./", "../", "~"} {
		if strings.HasPrefix(ref, prefix) {
			return true
		}
	}
	return ref == "." || ref == ".." || strings.HasSuffix(ref, ".json") || filepath.IsAbs(ref)
}

// parseRepository takes "org/name@revision" apart. The revision is "main" where none is named.
func parseRepository(ref string) (repo, revision string, err error) {
	repo, revision, pinned := strings.Cut(ref, "@")
	if !pinned {
		revision = "main"
	}
	// The rules of huggingface_hub for a repository, and what Git allows in the name of a branch or tag.
	name := regexp.MustCompile(`^(\w[\w.-]{0,95}/)?\w([\w.-]{0,94}\w)?$`)
	if !name.MatchString(repo) || strings.Contains(repo, "--") || strings.Contains(repo, "..") ||
		strings.HasSuffix(repo, ".git") {
		return "", "", fmt.Errorf("tokenizer %q: no such file or folder, and not a Hub repository, which is written "+
			"org/name or org/name@revision", ref)
	}
	branch := regexp.MustCompile(`^[\w.+-]+(/[\w.+-]+)*$`)
	if !branch.MatchString(revision) || strings.Contains(revision, "..") {
		return "", "", fmt.Errorf("tokenizer %q: %q is not a revision; give a branch, a tag or a commit after the @",
			ref, revision)
	}
	return repo, revision, nil
}
