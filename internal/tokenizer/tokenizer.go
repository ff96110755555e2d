// Package tokenizer counts tokens as a HuggingFace tokenizer.json says, with HuggingFace's own library behind it, and
// fetches that file from the Hub into the cache that huggingface_hub and transformers share.
//
// The library is Rust, linked by cgo under the build tag hftokenizers (`make lib` builds it). Any other build of this
// package compiles and refuses to load a tokenizer with ErrNoLibrary: a wrong count would be worse than none.
package tokenizer

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync"
	"unicode"
)

// ErrNoLibrary says that this binary was built without the tokenizer library.
var ErrNoLibrary = errors.New("this build has no tokenizer library: build inferprobe with `make build`, or run " +
	"`make lib` and then `go build -tags hftokenizers` with cgo enabled")

// Tokenizer encodes text by one tokenizer.json. It is safe for concurrent use.
type Tokenizer struct {
	name   string
	digest string
	size   int
	pieces pieces

	mu     sync.RWMutex // held for reading by every call into native, for writing by Close
	native *native      // nil once closed
}

// FromBytes makes a tokenizer from the contents of a tokenizer.json. The name is for messages. A file's own truncation
// and padding are switched off, because they change how many tokens a text has.
func FromBytes(name string, json []byte) (*Tokenizer, error) {
	if !haveLibrary {
		return nil, ErrNoLibrary
	}
	doc, err := parseDocument(json)
	if err != nil {
		return nil, fmt.Errorf("tokenizer %s: %w", name, err)
	}
	sum := sha256.Sum256(json)
	if doc.limits() {
		if json, err = withoutLimits(json); err != nil {
			return nil, fmt.Errorf("tokenizer %s: %w", name, err)
		}
	}
	n, err := newNative(json)
	if err != nil {
		return nil, fmt.Errorf("tokenizer %s: %w", name, err)
	}
	return &Tokenizer{
		name:   name,
		digest: hex.EncodeToString(sum[:]),
		size:   doc.tokens(),
		pieces: doc.pieces(),
		native: n,
	}, nil
}

// Name returns where the tokenizer came from: a path, or a Hub repository and its commit.
func (t *Tokenizer) Name() string { return t.name }

// Digest returns the SHA-256 of the tokenizer.json, in hexadecimal.
func (t *Tokenizer) Digest() string { return t.digest }

// VocabSize returns the number of tokens, added ones included.
func (t *Tokenizer) VocabSize() int { return t.size }

// Pieces yields every entry of the vocabulary by ascending id, then the added tokens.
func (t *Tokenizer) Pieces() iter.Seq[Piece] { return t.pieces.all }

// Count returns how many tokens text has, without special tokens around it. Errors are those of Encode.
func (t *Tokenizer) Count(text string) (int, error) {
	ids, err := t.Encode(text)
	return len(ids), err
}

// Encode returns the ids of text, without special tokens around it. It refuses a text with a NUL byte, at which the
// library would cut it off without a word, and a text that the library cannot encode.
func (t *Tokenizer) Encode(text string) ([]uint32, error) {
	if i := strings.IndexByte(text, 0); i >= 0 {
		return nil, fmt.Errorf("tokenizer %s: the text has a NUL byte at offset %d, which cannot be encoded", t.name, i)
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.native == nil {
		return nil, fmt.Errorf("tokenizer %s is closed", t.name)
	}
	ids := t.native.encode(text)
	// The library reports a failure as an empty result, which is also the right one for blank text.
	if len(ids) == 0 && strings.ContainsFunc(text, visible) {
		return nil, fmt.Errorf("tokenizer %s cannot encode %.40q", t.name, text)
	}
	return ids, nil
}

func visible(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }

// Decode returns the text of ids, special tokens included. Unknown ids have no text; a text with a NUL byte, and
// anything after Close, comes back empty.
func (t *Tokenizer) Decode(ids []uint32) string {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.native == nil {
		return ""
	}
	return t.native.decode(ids)
}

// Close frees the library's memory once the calls in progress have returned. Later calls of Encode are refused.
func (t *Tokenizer) Close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.native != nil {
		t.native.close()
		t.native = nil
	}
}
