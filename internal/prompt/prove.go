package prompt

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// What is proved is this: in any text of proven words with single spaces between them, every word with the space before
// it is exactly one token, and so is the first word, which has none. It holds because
//
//  1. No token reaches from one word into the next. A token is an entry of the vocabulary, whatever the kind of model
//     (BPE, WordPiece, Unigram, WordLevel), and so is everything that BPE merges on the way to it. Either the text is
//     cut at a space and the space dropped, or such an entry would hold a space with something before it. No
//     vocabulary known to us has one of plain letters. Where one has, as those with tokens of several words, enough
//     words are dropped that it cannot occur. So every space is a bound between tokens.
//  2. No added token occurs. These are cut out of a text before anything else, inside words too. Words are dropped
//     until none can.
//  3. Between bounds a model works on each stretch alone: merges happen inside it, and the best or longest pieces are
//     those of the stretch itself. So the neighbours of a word can matter only through what happens before the model:
//     normalisation, which leaves plain ASCII as it is but for spaces and upper case, and the splitting of the text,
//     which looks at kinds of characters around the place of a cut. Therefore every word is encoded between two others
//     and at the start of a text, and then in long texts that hold every word several times and every last character
//     beside every first one, and each must give exactly its own id. What cuts by counting characters, or drops spaces
//     without cutting there, fails in those.

// alphabet is what words are made of and how long they are.
type alphabet struct {
	has      func(c byte) bool
	min, max int
}

// lowerCase words read naturally; printable ones are all that can stand in a JSON string as it is.
//
//nolint:gochecknoglobals // never changed
var (
	lowerCase = alphabet{func(c byte) bool { return 'a' <= c && c <= 'z' }, 2, 12}
	printable = alphabet{func(c byte) bool {
		return '!' <= c && c <= '~' && !strings.ContainsRune(`"\<>&`, rune(c))
	}, 1, 12}
)

// word is a text and the id that stands for it.
type word struct {
	text string
	id   uint32
}

// proven is the words that are one token behind a space, and those that are one token at the start of a text.
type proven struct {
	words, starts []word
}

// prover finds the words of one tokenizer over one alphabet.
type prover struct {
	tok      Tokenizer
	alphabet alphabet
	barred   barred
	texts    map[uint32]string // what every entry that spells a word spells, without a space
	spaced   []string          // texts of entries with a space before them
	bare     []string          // texts of entries without one

	anchor        string
	first, second []uint32 // the anchor at the start of a text and behind a space
}

func (p *prover) prove() (*proven, error) {
	p.scan()
	if err := p.chooseAnchor(); err != nil {
		return nil, err
	}
	found := new(proven)
	// Where a vocabulary spells spaces, a word behind a space is an entry with one, and a word at the start of a text is
	// one without, unless the tokenizer puts a space before every text. Where it spells none, a few entries may look so.
	words, starts := p.spaced, p.bare
	if len(p.spaced) < len(p.bare)/8 {
		words = p.bare
	}
	if slices.Equal(p.first, p.second) {
		starts = words
	}
	for batch := range slices.Chunk(p.allowed(words), 128) {
		if err := p.behindSpace(batch, found); err != nil {
			return nil, err
		}
	}
	if err := p.findStarts(p.allowed(starts), found); err != nil {
		return nil, err
	}
	if len(found.words) == 0 || len(found.starts) == 0 {
		return found, nil
	}
	return found, p.check(found)
}

// findStarts adds to found the texts that are one token at the start of a text. A prompt should start with a whole
// word and not the end of one, so only words are taken if there are enough of them.
func (p *prover) findStarts(texts []string, found *proven) error {
	isWord := make(map[string]bool, len(found.words))
	for _, w := range found.words {
		isWord[w.text] = true
	}
	var words, rest []string
	for _, text := range texts {
		if isWord[text] {
			words = append(words, text)
		} else {
			rest = append(rest, text)
		}
	}
	if err := p.atStart(words, found); err != nil || len(found.starts) >= wantStarts {
		return err
	}
	return p.atStart(rest, found)
}

// chooseAnchor takes the first of a few words that is the same tokens alone and before a space. It is the word between
// which others are tried, and need not be one token itself.
func (p *prover) chooseAnchor() error {
	for _, anchor := range []string{"of", "also", "people", "water", "seven", "yellow"} {
		if p.barred.bars(anchor) {
			continue
		}
		first, err := p.tok.Encode(anchor)
		if err != nil {
			return err
		}
		both, err := p.tok.Encode(anchor + " " + anchor)
		if err != nil {
			return err
		}
		if second, ok := cutPrefix(both, first); ok && len(second) > 0 {
			p.anchor, p.first, p.second = anchor, first, second
			return nil
		}
	}
	return errors.New("its tokens do not keep to words")
}

// behindSpace adds to found those of texts that are one token between two anchors. All go into one text, which is
// halved for as long as something in it is not as it should be.
func (p *prover) behindSpace(texts []string, found *proven) error {
	ids, err := p.tok.Encode(p.anchor + " " + strings.Join(texts, " "+p.anchor+" ") + " " + p.anchor)
	if err != nil {
		return err
	}
	if words, ok := p.read(ids, texts); ok {
		found.words = append(found.words, words...)
		return nil
	}
	if len(texts) == 1 {
		return nil
	}
	half := len(texts) / 2
	if err := p.behindSpace(texts[:half], found); err != nil {
		return err
	}
	return p.behindSpace(texts[half:], found)
}

// read takes ids apart into the anchor, the one id of the first text, the anchor behind a space, and so on, and
// returns the texts with their ids. It fails unless every id spells its text: one for unknown words would not.
func (p *prover) read(ids []uint32, texts []string) ([]word, bool) {
	ids, ok := cutPrefix(ids, p.first)
	if !ok {
		return nil, false
	}
	words := make([]word, 0, len(texts))
	for _, text := range texts {
		if len(ids) == 0 || p.texts[ids[0]] != text {
			return nil, false
		}
		words = append(words, word{text, ids[0]})
		if ids, ok = cutPrefix(ids[1:], p.second); !ok {
			return nil, false
		}
	}
	return words, len(ids) == 0
}

func cutPrefix(ids, prefix []uint32) ([]uint32, bool) {
	if len(ids) < len(prefix) || !slices.Equal(ids[:len(prefix)], prefix) {
		return nil, false
	}
	return ids[len(prefix):], true
}

// atStart adds to found those of texts that are one token at the start of a text.
func (p *prover) atStart(texts []string, found *proven) error {
	for _, text := range texts {
		ids, err := p.tok.Encode(text + " " + p.anchor)
		if err != nil {
			return err
		}
		if len(ids) > 0 && p.texts[ids[0]] == text && slices.Equal(ids[1:], p.second) {
			found.starts = append(found.starts, word{text, ids[0]})
		}
	}
	return nil
}

// spaces spells a space as such where a vocabulary has the letter of a byte-level model or of SentencePiece for it.
var spaces = strings.NewReplacer("Ġ", " ", "▁", " ") //nolint:gochecknoglobals // never changed

// scan reads the vocabulary: what may be words, in the order of their ids, and what must not occur.
func (p *prover) scan() {
	p.texts = make(map[uint32]string)
	for piece := range p.tok.Pieces() {
		text := spaces.Replace(piece.Text)
		if piece.Added || strings.Contains(strings.TrimLeft(text, " "), " ") {
			p.barred.add(text)
			continue
		}
		text, spaced := strings.CutPrefix(text, " ")
		if !p.alphabet.spells(text) {
			continue
		}
		p.texts[piece.ID] = text
		if spaced {
			p.spaced = append(p.spaced, text)
		} else {
			p.bare = append(p.bare, text)
		}
	}
}

// allowed returns the texts that nothing bars.
func (p *prover) allowed(texts []string) []string {
	var kept []string
	for _, text := range texts {
		if !p.barred.bars(text) {
			kept = append(kept, text)
		}
	}
	return kept
}

func (a alphabet) spells(text string) bool {
	if len(text) < a.min || len(text) > a.max {
		return false
	}
	for i := range len(text) {
		if !a.has(text[i]) {
			return false
		}
	}
	return true
}

// barred is what must not occur in a text of words, as conditions on single words of which each is enough to prevent
// it. Upper and lower case count as the same, because a normaliser may make them so.
type barred struct {
	within, prefix, suffix, whole map[string]bool
}

// add bars a text. One that holds anything but printable ASCII cannot occur, nor can two spaces side by side.
func (b *barred) add(text string) {
	if b.within == nil {
		*b = barred{map[string]bool{}, map[string]bool{}, map[string]bool{}, map[string]bool{}}
	}
	if text == "" || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) {
		return
	}
	parts := strings.Split(strings.ToLower(text), " ")
	last := len(parts) - 1
	switch {
	case last == 0:
		b.within[parts[0]] = true
	case slices.Contains(parts[1:last], ""):
	case last > 1:
		b.whole[parts[1]] = true
	case len(parts[0]) >= len(parts[1]):
		b.suffix[parts[0]] = true
	default:
		b.prefix[parts[1]] = true
	}
}

func (b *barred) bars(text string) bool {
	if len(b.within)+len(b.prefix)+len(b.suffix)+len(b.whole) == 0 {
		return false
	}
	text = strings.ToLower(text)
	if b.whole[text] {
		return true
	}
	for i := range len(text) {
		if b.suffix[text[i:]] || b.prefix[text[:i+1]] {
			return true
		}
		for j := i + 1; j <= len(text) && len(b.within) > 0; j++ {
			if b.within[text[i:j]] {
				return true
			}
		}
	}
	return false
}

// maxDropped is how many words may turn out to depend on their neighbours before the tokenizer is given up.
const maxDropped = 16

// check encodes long texts of the words and drops the few that are not what they were on their own.
func (p *prover) check(found *proven) error {
	for dropped := 0; ; dropped++ {
		bad, err := p.firstBad(found)
		if err != nil {
			return err
		}
		if bad == "" {
			return nil
		}
		if dropped == maxDropped {
			return fmt.Errorf("the tokens of its words depend on their neighbours, as those of %q", bad)
		}
		is := func(w word) bool { return w.text == bad }
		found.words, found.starts = slices.DeleteFunc(found.words, is), slices.DeleteFunc(found.starts, is)
		if len(found.words) == 0 || len(found.starts) == 0 {
			return errors.New("the tokens of all its words depend on their neighbours")
		}
	}
}

// firstBad returns a word that is not the token it should be in one of the texts, "" if all are.
func (p *prover) firstBad(found *proven) (string, error) {
	random := rand.New(rand.NewPCG(1, 2)) // fixed, so that a tokenizer has one pool
	body := pairs(found.words, found.words)
	for range 2 {
		for _, i := range random.Perm(len(found.words)) {
			body = append(body, found.words[i])
		}
	}
	if bad, err := p.compare(found.starts[0], body); bad != "" || err != nil {
		return bad, err
	}
	// What stands at the start of a text has had only the anchor beside it so far.
	starts := pairs(found.starts, found.words)
	for i := 0; i < len(starts); i += 2 {
		if bad, err := p.compare(starts[i], starts[i+1:i+2]); bad != "" || err != nil {
			return bad, err
		}
	}
	return "", nil
}

// pairs returns, two by two, a word of the first list before one of the second for every last and first character.
func pairs(left, right []word) []word {
	ending, beginning := make(map[byte]word), make(map[byte]word)
	for _, w := range left {
		ending[w.text[len(w.text)-1]] = w
	}
	for _, w := range right {
		beginning[w.text[0]] = w
	}
	var sequence []word
	for a := range byte(128) {
		for b := range byte(128) {
			x, ok := ending[a]
			y, also := beginning[b]
			if ok && also {
				sequence = append(sequence, x, y)
			}
		}
	}
	return sequence
}

// compare encodes a start and the words after it, and returns the first word that is not its id.
func (p *prover) compare(start word, body []word) (string, error) {
	var text strings.Builder
	text.WriteString(start.text)
	for _, w := range body {
		text.WriteString(" " + w.text)
	}
	ids, err := p.tok.Encode(text.String())
	if err != nil {
		return "", err
	}
	if len(ids) == 0 || ids[0] != start.id {
		return start.text, nil
	}
	for i, w := range body {
		if i+1 >= len(ids) || ids[i+1] != w.id {
			return w.text, nil
		}
	}
	if len(ids) > len(body)+1 {
		return body[len(body)-1].text, nil
	}
	return "", nil
}
