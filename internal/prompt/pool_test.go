package prompt

import (
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/inferprobe/inferprobe/internal/tokenizer"
)

// fake is a tokenizer by a vocabulary of words, those behind a space as "Ġword". What it does not know it spells out.
type fake struct {
	ids    map[string]uint32
	added  []string
	encode func(f *fake, words []string) []uint32 // nil: every word on its own
	err    error
}

func newFake(words ...string) *fake {
	f := &fake{ids: map[string]uint32{}}
	for c := range byte(128) {
		f.ids[string(c)] = uint32(len(f.ids))
	}
	for _, w := range words {
		if _, ok := f.ids[w]; !ok {
			f.ids[w] = uint32(len(f.ids))
		}
	}
	return f
}

// vocabulary is n words with a space and the first m of them without one too.
func vocabulary(n, m int) []string {
	var words []string
	for i := range n {
		w := fmt.Sprintf("w%c%c%c", 'a'+i/676, 'a'+i/26%26, 'a'+i%26)
		words = append(words, "Ġ"+w)
		if i < m {
			words = append(words, w)
		}
	}
	return words
}

func (f *fake) Name() string { return "fake" }

func (f *fake) Pieces() iter.Seq[tokenizer.Piece] {
	return func(yield func(tokenizer.Piece) bool) {
		byID := func(a, b string) int { return int(f.ids[a]) - int(f.ids[b]) }
		for _, text := range slices.SortedFunc(maps.Keys(f.ids), byID) {
			if !yield(tokenizer.Piece{ID: f.ids[text], Text: text}) {
				return
			}
		}
		for i, text := range f.added {
			if !yield(tokenizer.Piece{ID: uint32(1_000_000 + i), Text: text, Added: true}) {
				return
			}
		}
	}
}

func (f *fake) Encode(text string) ([]uint32, error) {
	if f.err != nil {
		return nil, f.err
	}
	words := strings.Split(text, " ")
	for i := range words[1:] {
		words[i+1] = "Ġ" + words[i+1]
	}
	if f.encode != nil {
		return f.encode(f, words), nil
	}
	return f.separately(words), nil
}

func (f *fake) separately(words []string) []uint32 {
	var ids []uint32
	for _, w := range words {
		if id, ok := f.ids[w]; ok {
			ids = append(ids, id)
			continue
		}
		for _, c := range strings.Replace(w, "Ġ", " ", 1) {
			ids = append(ids, f.ids[string(c)])
		}
	}
	return ids
}

func mustPool(t testing.TB, tok Tokenizer) *Pool {
	t.Helper()
	pool, err := NewPool(tok)
	if err != nil {
		t.Fatal(err)
	}
	return pool
}

func TestPoolSizes(t *testing.T) {
	tests := []struct {
		name          string
		tok           *fake
		words, starts int
		err           string
	}{
		{"large", newFake(vocabulary(300, 100)...), 300, 100, ""},
		{"just enough", newFake(vocabulary(256, 64)...), 256, 64, ""},
		// The fake has every ASCII character as a token at the start of a text, which counts once words are too few.
		{"small", newFake(vocabulary(100, 20)...), 100, 20 + 93 - 4, ""},
		{"too few words", newFake(vocabulary(63, 63)...), 0, 0, "only 63 words"},
		{"upper case and signs where needed",
			newFake(append(vocabulary(80, 0), "ĠUP", "Ġ+", "Ġ7", `Ġ"`, `Ġ\`)...), 83, 89, ""},
		{"no upper case where not", newFake(append(vocabulary(300, 100), "ĠUP", "Ġ+")...), 300, 100, ""},
		{"only natural lengths", newFake(append(vocabulary(300, 100), "Ġa", "Ġabcdefghijklm")...), 300, 100, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			pool, err := NewPool(test.tok)
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) || !strings.Contains(err.Error(), "fake") {
					t.Errorf("error %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if words, starts := pool.Words(); words != test.words || starts != test.starts {
				t.Errorf("%d words, %d of them to start with, instead of %d, %d", words, starts, test.words, test.starts)
			}
		})
	}
}

// Words whose tokens depend on what stands beside them are dropped, and a tokenizer where that is the rule is refused.
func TestNeighboursMatter(t *testing.T) {
	words := vocabulary(300, 100)
	one := newFake(append(words, "Ġxaa")...)
	one.encode = func(f *fake, words []string) []uint32 { // words with x are in pieces behind one that ends in b
		var ids []uint32
		for i, w := range words {
			if strings.HasPrefix(w, "Ġx") && i > 1 && strings.HasSuffix(words[i-1], "b") {
				ids = append(ids, f.ids["w"], f.ids["a"])
				continue
			}
			ids = append(ids, f.separately(words[i:i+1])...)
		}
		return ids
	}
	pool := mustPool(t, one)
	if n, _ := pool.Words(); n != 300 || strings.Contains(pool.words.text.String(), "xaa") {
		t.Errorf("%d words, among them xaa", n)
	}

	start := newFake(words...)
	start.encode = func(f *fake, words []string) []uint32 { // one in c at the start is lost before one in w
		if len(words) > 1 && strings.HasSuffix(words[0], "c") && strings.HasPrefix(words[1], "Ġw") {
			return append([]uint32{5}, f.separately(words[2:])...)
		}
		return f.separately(words)
	}
	pool = mustPool(t, start)
	for i := range pool.starts.len() {
		if w := string(pool.starts.append(nil, uint32(i))); strings.HasSuffix(w, "c") {
			t.Errorf("%q is lost beside its neighbour and yet starts prompts", w)
		}
	}
	if _, n := pool.Words(); n != 96 {
		t.Errorf("%d words to start with instead of 96", n)
	}

	every := newFake(words...)
	every.encode = func(f *fake, words []string) []uint32 { // after the fifth word everything is spelt out
		head := min(len(words), 5)
		ids := f.separately(words[:head])
		for _, w := range words[head:] {
			for _, c := range w {
				ids = append(ids, f.ids[string(c)])
			}
		}
		return ids
	}
	if _, err := NewPool(every); err == nil {
		t.Error("a tokenizer that counts words makes prompts")
	}
}

func TestUnknownWordsAreNoWords(t *testing.T) {
	f := newFake(vocabulary(300, 100)...)
	f.ids["Ġunknown"], f.ids["unknown"] = 7777, 7778
	f.encode = func(f *fake, words []string) []uint32 { // WordPiece: one id for all that is not known
		var ids []uint32
		for i, w := range words {
			if strings.HasSuffix(w, "unknown") || i == 0 && w == "waaa" {
				ids = append(ids, 8888)
				continue
			}
			ids = append(ids, f.separately(words[i:i+1])...)
		}
		return ids
	}
	if words, starts := mustPool(t, f).Words(); words != 300 || starts != 99 {
		t.Errorf("%d words, %d to start with, instead of 300, 99", words, starts)
	}
}

// WordPiece drops spaces, and among its entries a few may begin with a letter that spells one elsewhere.
func TestVocabularyThatSpellsNoSpaces(t *testing.T) {
	var words []string
	for _, w := range vocabulary(300, 0) {
		words = append(words, strings.TrimPrefix(w, "Ġ"))
	}
	f := newFake(append(words, "Ġmaltese")...)
	f.encode = func(f *fake, words []string) []uint32 {
		var ids []uint32
		for _, w := range words {
			ids = append(ids, f.separately([]string{strings.TrimPrefix(w, "Ġ")})...)
		}
		return ids
	}
	if words, starts := mustPool(t, f).Words(); words != 300 || starts != 300 {
		t.Errorf("%d words, %d to start with, instead of 300, 300", words, starts)
	}
}

func TestErrorsOfTheTokenizerArePassedOn(t *testing.T) {
	f := newFake(vocabulary(300, 100)...)
	f.err = errors.New("closed")
	if _, err := NewPool(f); !errors.Is(err, f.err) {
		t.Errorf("error %v", err)
	}
	f.err = nil
	pool := mustPool(t, f)
	f.err = errors.New("closed")
	if err := pool.Verify("waaa", 1); !errors.Is(err, f.err) {
		t.Errorf("error %v", err)
	}
}

func TestBarred(t *testing.T) {
	tests := []struct {
		text        string
		bars, spare []string
	}{
		{"the", []string{"the", "other", "THE"}, []string{"th", "he"}},
		{" the", []string{"the", "then"}, []string{"other", "bathe"}},
		{"the ", []string{"the", "bathe"}, []string{"then", "other"}},
		{" the ", []string{"the"}, []string{"then", "bathe"}},
		{" The ", []string{"the"}, []string{"then"}},
		{"of the", []string{"the", "then"}, []string{"of", "other"}},
		{"before a", []string{"before"}, []string{"a", "fore"}},
		{" of the same", []string{"of"}, []string{"the", "same"}},
		{"  ", nil, []string{"a"}},
		{"a  b", nil, []string{"a", "b"}},
		{"a\nb", nil, []string{"a", "b"}},
		{"é", nil, []string{"e"}},
		{"", nil, []string{"a"}},
	}
	for _, test := range tests {
		var b barred
		b.add(test.text)
		for _, w := range test.bars {
			if !b.bars(w) {
				t.Errorf("%q can occur although %q is barred", test.text, w)
			}
		}
		for _, w := range test.spare {
			if b.bars(w) {
				t.Errorf("%q is barred for nothing by %q", w, test.text)
			}
		}
	}
}

// Whatever is barred, no text of the words that are left holds it.
func TestBarredTextsDoNotOccur(t *testing.T) {
	letters := rapid.StringMatching(`[ab]{1,3}`)
	rapid.Check(t, func(t *rapid.T) {
		unwanted := rapid.SliceOfN(rapid.StringMatching(` ?[ab]{0,2}( [ab]{1,2}){0,2} ?`), 1, 4).Draw(t, "unwanted")
		var b barred
		for _, text := range unwanted {
			b.add(text)
		}
		var kept []string
		for _, w := range rapid.SliceOfN(letters, 1, 8).Draw(t, "words") {
			if !b.bars(w) {
				kept = append(kept, w)
			}
		}
		text := strings.Join(kept, " ")
		for _, u := range unwanted {
			if strings.TrimSpace(u) != "" && strings.Contains(text, u) {
				t.Errorf("%q occurs in %q", u, text)
			}
		}
	})
}

func TestAddedTokensStayOut(t *testing.T) {
	f := newFake(vocabulary(300, 100)...)
	f.added = []string{" wab", "aac", "Ġwaad", "<|user|>", "  "}
	pool := mustPool(t, f)
	text := pool.words.text.String() + " " + pool.starts.text.String()
	for _, added := range []string{" wab", "aac", " waad"} {
		if strings.Contains(text, added) {
			t.Errorf("added token %q occurs in the words", added)
		}
	}
	// 26 words begin with wab; three end in aac; waad is one.
	if n, _ := pool.Words(); n != 300-26-1-1 {
		t.Errorf("%d words", n)
	}
}

func TestPromptsAreUniqueFromTheirStart(t *testing.T) {
	pool := mustPool(t, newFake(vocabulary(300, 100)...))
	_, starts := pool.Words()
	g := pool.Generator(7)
	firsts, beginnings := map[string]bool{}, map[string]bool{}
	for i := range 300 * starts {
		words := strings.Fields(string(g.Append(nil, 6)))
		if len(words) != 6 {
			t.Fatalf("%d words", len(words))
		}
		if firsts[words[0]] && i < starts {
			t.Fatalf("prompt %d starts with %q as one before it", i, words[0])
		}
		firsts[words[0]] = true
		beginning := strings.Join(words[:pool.lead], " ")
		if beginnings[beginning] {
			t.Fatalf("prompt %d begins as one before it: %q", i, beginning)
		}
		beginnings[beginning] = true
	}
	if pool.lead != 5 { // 100 * 300^3 < 2^32 <= 100 * 300^4
		t.Errorf("%d leading words", pool.lead)
	}
}

// As many prompts are made as there can be before one repeats.
func TestShortPromptsRepeatOnlyWhenTheyMust(t *testing.T) {
	pool := &Pool{lead: 3}
	for i := range 7 {
		pool.words.add(" " + string(rune('a'+i)))
		if i < 5 {
			pool.starts.add(string(rune('a' + i)))
		}
	}
	for n, want := range []int{0, 5, 5 * 7, 5 * 7 * 7} {
		g := pool.Generator(1)
		seen := map[string]bool{}
		for range want {
			seen[string(g.Append(nil, n))] = true
		}
		if len(seen) != want {
			t.Errorf("%d different prompts of %d tokens instead of %d", len(seen), n, want)
		}
	}
}

func TestSharedPrefix(t *testing.T) {
	pool := mustPool(t, newFake(vocabulary(300, 100)...))
	const shared, n = 40, 48
	g := pool.Generator(7)
	g.Share(shared)
	var prefix string
	firsts, rests := map[string]bool{}, map[string]bool{}
	for i := range 20_000 {
		words := strings.Fields(string(g.Append(nil, n)))
		if len(words) != n {
			t.Fatalf("%d words", len(words))
		}
		if got := strings.Join(words[:shared], " "); prefix == "" {
			prefix = got
		} else if got != prefix {
			t.Fatalf("prompt %d begins with %q instead of %q", i, got, prefix)
		}
		if firsts[words[shared]] && i < 300 {
			t.Fatalf("what follows the prefix of prompt %d begins with %q as one before it", i, words[shared])
		}
		firsts[words[shared]] = true
		rest := strings.Join(words[shared:shared+pool.behind], " ")
		if rests[rest] {
			t.Fatalf("prompt %d goes on as one before it: %q", i, rest)
		}
		rests[rest] = true
	}
	if pool.behind != 4 { // 300^3 < 2^32 <= 300^4
		t.Errorf("%d words tell prompts apart", pool.behind)
	}
	if short := string(g.Append(nil, shared)); short == prefix {
		t.Error("a prompt that is no longer than the prefix is the prefix")
	}
	other := pool.Generator(8)
	other.Share(shared)
	if strings.HasPrefix(string(other.Append(nil, n)), prefix) {
		t.Error("another seed has the same prefix")
	}
}

func TestSeeds(t *testing.T) {
	pool := mustPool(t, newFake(vocabulary(300, 100)...))
	make := func(seed uint64) []byte {
		g := pool.Generator(seed)
		var text []byte
		for n := range 50 {
			text = g.Append(text, n)
		}
		return text
	}
	if string(make(1)) != string(make(1)) {
		t.Error("one seed, two sequences")
	}
	// Seeds that differ by one bit give prompts that have no more words in common than chance has it.
	a, b := strings.Fields(string(make(1))), strings.Fields(string(make(2)))
	same := 0
	for i := range min(len(a), len(b)) {
		if a[i] == b[i] {
			same++
		}
	}
	if same > len(a)/20 {
		t.Errorf("%d of %d words are the same with another seed", same, len(a))
	}
}

func TestEveryWordIsUsed(t *testing.T) {
	pool := mustPool(t, newFake(vocabulary(300, 100)...))
	counts := map[string]int{}
	for _, w := range strings.Fields(string(pool.Generator(3).Append(nil, 300*100))) {
		counts[w]++
	}
	for w, n := range counts {
		if n < 50 || n > 200 {
			t.Errorf("%q comes up %d times where 100 are expected", w, n)
		}
	}
	if len(counts) != 300 {
		t.Errorf("%d of 300 words are used", len(counts))
	}
}

func TestAppend(t *testing.T) {
	pool := mustPool(t, newFake(vocabulary(300, 100)...))
	g := pool.Generator(1)
	for _, n := range []int{0, -5} {
		if got := string(g.Append([]byte("x"), n)); got != "x" {
			t.Errorf("%d tokens: %q", n, got)
		}
	}
	got := g.Append([]byte(`{"prompt":"`), 100)
	var body struct{ Prompt string }
	if err := json.Unmarshal(append(got, `"}`...), &body); err != nil || len(strings.Fields(body.Prompt)) != 100 {
		t.Errorf("in JSON: %v, %d words", err, len(strings.Fields(body.Prompt)))
	}
	if strings.TrimSpace(body.Prompt) != body.Prompt || strings.Contains(body.Prompt, "  ") {
		t.Errorf("stray spaces: %q", body.Prompt)
	}
}

func TestAppendAllocatesNothing(t *testing.T) {
	g := mustPool(t, newFake(vocabulary(300, 100)...)).Generator(1)
	buffer := make([]byte, 0, 512*13)
	for _, shared := range []int{0, 100} {
		g.Share(shared)
		if n := testing.AllocsPerRun(100, func() { buffer = g.Append(buffer[:0], 512) }); n != 0 {
			t.Errorf("%v allocations with a prefix of %d tokens", n, shared)
		}
	}
}

func TestVerify(t *testing.T) {
	pool := mustPool(t, newFake(vocabulary(300, 100)...))
	if err := pool.Verify("waaa waab", 2); err != nil {
		t.Error(err)
	}
	err := pool.Verify("waaa waab", 3)
	if err == nil || !strings.Contains(err.Error(), "3 tokens has 2 by tokenizer fake") {
		t.Errorf("error %v", err)
	}
}
