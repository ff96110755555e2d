//go:build cgo && hftokenizers

package tokenizer

// #cgo LDFLAGS: -L${SRCDIR}/../../build/lib
import "C" // for the folder in which the linker finds the archive that `make lib` leaves

import (
	"fmt"

	"github.com/daulet/tokenizers"
)

const haveLibrary = true

// native is the tokenizer as the library holds it.
type native struct{ t *tokenizers.Tokenizer }

func newNative(json []byte) (*native, error) {
	t, err := tokenizers.FromBytes(json)
	if err != nil {
		return nil, fmt.Errorf("not a tokenizer.json that the HuggingFace library understands: %w", err)
	}
	return &native{t}, nil
}

func (n *native) encode(text string) []uint32 { return n.t.EncodeWithOptions(text, false).IDs }
func (n *native) decode(ids []uint32) string  { return n.t.Decode(ids, false) }
func (n *native) close()                      { n.t.Close() }
