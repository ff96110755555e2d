// Package demo holds the tokenizer of the demonstration and of tests: a byte-level BPE of 8,192 tokens that
// train/train.py made of our own word lists, so that inferprobe runs where there is no network and no model.
package demo

import (
	"bytes"
	"compress/gzip"
	_ "embed"
	"io"
)

//go:embed tokenizer.json.gz
var compressed []byte

// Tokenizer returns the tokenizer.json. Its error cannot happen in a binary that was built whole.
func Tokenizer() ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(compressed))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}
