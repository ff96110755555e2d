package tokenizer

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Piece is one entry of a vocabulary.
type Piece struct {
	ID    uint32
	Text  string // as the file spells it: a space may read "Ġ" or "▁", a byte above ASCII as some other letter
	Added bool   // an added token, which is found in a text before anything else
}

// document is what matters to us of a tokenizer.json.
type document struct {
	Truncation  json.RawMessage `json:"truncation"`
	Padding     json.RawMessage `json:"padding"`
	AddedTokens []struct {
		ID      uint32 `json:"id"`
		Content string `json:"content"`
	} `json:"added_tokens"`
	Model *struct {
		Vocab vocabulary `json:"vocab"`
	} `json:"model"`
}

// escapedNUL finds U+0000 in a JSON string, and not a backslash followed by the letters u0000.
var escapedNUL = regexp.MustCompile(`(?:^|[^\\])(?:\\\\)*\\u0000`)

func parseDocument(data []byte) (*document, error) {
	if bytes.HasPrefix(data, []byte("version https://git-lfs.github.com/")) {
		return nil, errors.New("the file is a Git LFS pointer, not the tokenizer itself: run `git lfs pull`")
	}
	if bytes.Contains(data, []byte(`\u0000`)) && escapedNUL.Match(data) {
		return nil, errors.New("the file holds the character U+0000, on which the HuggingFace library aborts the process")
	}
	var doc document
	if err := json.Unmarshal(data, &doc); err != nil {
		if syntax := (*json.SyntaxError)(nil); errors.As(err, &syntax) {
			return nil, fmt.Errorf("not JSON: %w at byte %d; a HuggingFace tokenizer.json is wanted", err, syntax.Offset)
		}
		return nil, fmt.Errorf("not a HuggingFace tokenizer.json: %w", err)
	}
	if doc.Model == nil || len(doc.Model.Vocab) == 0 {
		return nil, errors.New(`not a HuggingFace tokenizer.json: it has no "model" with a "vocab"` +
			" (tokenizer_config.json and vocab.json are other files)")
	}
	return &doc, nil
}

// limits reports whether the file wants texts cut or filled up to some length.
func (d *document) limits() bool { return isSet(d.Truncation) || isSet(d.Padding) }

func isSet(raw json.RawMessage) bool { return len(raw) > 0 && !bytes.Equal(raw, []byte("null")) }

// withoutLimits returns the file with neither truncation nor padding: the library obeys them and has no switch.
func withoutLimits(data []byte) ([]byte, error) {
	var top map[string]json.RawMessage
	if err := json.Unmarshal(data, &top); err != nil {
		return nil, err
	}
	top["truncation"], top["padding"] = nil, nil
	return json.Marshal(top)
}

// vocabulary reads both shapes of a model's vocabulary: an object of piece and id (BPE, WordPiece, WordLevel), and a
// list of piece and score whose place is the id (Unigram).
type vocabulary map[string]uint32

func (v *vocabulary) UnmarshalJSON(data []byte) error {
	if data[0] != '[' {
		return json.Unmarshal(data, (*map[string]uint32)(v))
	}
	var list [][]any
	if err := json.Unmarshal(data, &list); err != nil {
		return err
	}
	*v = make(vocabulary, len(list))
	for id, entry := range list {
		if len(entry) == 0 {
			return fmt.Errorf("entry %d of the vocabulary is empty", id)
		}
		piece, ok := entry[0].(string)
		if !ok {
			return fmt.Errorf("entry %d of the vocabulary has no text", id)
		}
		(*v)[piece] = uint32(id)
	}
	return nil
}

// pieces is a vocabulary laid out flat, so that it costs neither a pointer nor a heap object per entry.
type pieces struct {
	text  string
	ends  []uint32 // ends[i] is where entry i ends in text
	ids   []uint32
	added int // how many of the last entries are added tokens
}

func (d *document) pieces() pieces {
	list := make([]Piece, 0, len(d.Model.Vocab))
	for text, id := range d.Model.Vocab {
		list = append(list, Piece{ID: id, Text: text})
	}
	slices.SortFunc(list, func(a, b Piece) int {
		return cmp.Or(cmp.Compare(a.ID, b.ID), strings.Compare(a.Text, b.Text))
	})
	for _, token := range d.AddedTokens {
		list = append(list, Piece{ID: token.ID, Text: token.Content})
	}
	p := pieces{added: len(d.AddedTokens)}
	var text strings.Builder
	for _, piece := range list {
		text.WriteString(piece.Text)
		p.ends, p.ids = append(p.ends, uint32(text.Len())), append(p.ids, piece.ID)
	}
	p.text = text.String()
	return p
}

// tokens counts the distinct ids: an added token often is an entry of the model's vocabulary too.
func (d *document) tokens() int {
	ids := make(map[uint32]bool, len(d.AddedTokens))
	for _, token := range d.AddedTokens {
		ids[token.ID] = true
	}
	n := len(ids)
	for _, id := range d.Model.Vocab {
		if !ids[id] {
			n++
		}
	}
	return n
}

func (p *pieces) all(yield func(Piece) bool) {
	var start uint32
	for i, end := range p.ends {
		if !yield(Piece{ID: p.ids[i], Text: p.text[start:end], Added: i >= len(p.ends)-p.added}) {
			return
		}
		start = end
	}
}
