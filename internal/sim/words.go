package sim

import (
	"strings"
	"unicode"
)

// vocabulary is what the simulated model can say, one word a token.
const vocabulary = "the river moved slowly past old houses and a small boat waited near green reeds while children " +
	"counted stones along the bank before evening light touched every window with gold then somebody opened door " +
	"to let warm air inside where bread was cooling on wooden table beside blue cup of milk outside wind turned " +
	"pages from forgotten book left under tree whose leaves told quiet story about travellers crossing hills by " +
	"night following stars that nobody had named yet they spoke little but listened well and learned how roads " +
	"remember footsteps long after rain has washed them clean morning came late over valley bringing fog music " +
	"distant bells one dog barking once somewhere far away"

var vocabularyWords = strings.Fields(vocabulary) //nolint:gochecknoglobals // never changed

// appendWords appends tokens from (inclusive) to (exclusive) of the text that starts with word number start.
func appendWords(dst []byte, start, from, to int) []byte {
	for i := from; i < to; i++ {
		if i > 0 {
			dst = append(dst, ' ')
		}
		dst = append(dst, vocabularyWords[(start+i)%len(vocabularyWords)]...)
	}
	return dst
}

// countWords counts words separated by white space.
func countWords(text string) int {
	n, inWord := 0, false
	for _, r := range text {
		blank := unicode.IsSpace(r)
		if !blank && !inWord {
			n++
		}
		inWord = !blank
	}
	return n
}
