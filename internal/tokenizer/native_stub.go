//go:build !cgo || !hftokenizers

package tokenizer

const haveLibrary = false

// native stands in for the library, which this build does not have. None can be made.
type native struct{}

func newNative([]byte) (*native, error) { return nil, ErrNoLibrary }

func (*native) encode(string) []uint32 { return nil }
func (*native) decode([]uint32) string { return "" }
func (*native) close()                 {}
