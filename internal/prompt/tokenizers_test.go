//go:build cgo && hftokenizers

package prompt

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/inferprobe/inferprobe/internal/openai"
	"github.com/inferprobe/inferprobe/internal/tokenizer"
	"github.com/inferprobe/inferprobe/internal/tokenizer/demo"
)

// tokenizers are of every kind: those that come with the Go module of the library, which are read where they are,
// the demonstration's, and the small ones of testdata.
var tokenizers = []struct {
	name          string
	words, starts int // at least
	read          func(t testing.TB) []byte
}{
	{"llama-3", 20000, 5000, fromModule("Meta-Llama-3-8B-Instruct.json")},
	{"bert", 20000, 20000, fromModule("bert-base-uncased.json")},
	{"minilm", 20000, 20000, fromModule("all-minilm-l6-v2.json")},
	{"cohere", 20000, 5000, fromModule("cohere-tokenizer.json")},
	{"demo", 3000, 500, func(t testing.TB) []byte { return must(t)(demo.Tokenizer()) }},
	{"tiny-script", leastWords, leastStarts, fromTestdata("tiny-script.json")},
	{"tiny-random", leastWords, leastStarts, fromTestdata("tiny-random.json")},
	{"metaspace", 1000, 1000, fromTestdata("metaspace.json.gz")},
	{"unigram", 1000, 1000, fromTestdata("unigram.json.gz")},
	{"superword", 1000, 1000, fromTestdata("superword.json.gz")},
}

func must(t testing.TB) func([]byte, error) []byte {
	return func(data []byte, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
}

func fromModule(name string) func(testing.TB) []byte {
	return func(t testing.TB) []byte {
		dir := must(t)(exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/daulet/tokenizers").Output())
		return must(t)(os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "test", "data", name)))
	}
}

func fromTestdata(name string) func(testing.TB) []byte {
	return func(t testing.TB) []byte {
		data := must(t)(os.ReadFile(filepath.Join("testdata", name)))
		if filepath.Ext(name) != ".gz" {
			return data
		}
		r, err := gzip.NewReader(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		return must(t)(io.ReadAll(r))
	}
}

func load(t testing.TB, name string, data []byte) *tokenizer.Tokenizer {
	t.Helper()
	tok, err := tokenizer.FromBytes(name, data)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tok.Close)
	return tok
}

func TestTokenizers(t *testing.T) {
	for _, test := range tokenizers {
		t.Run(test.name, func(t *testing.T) {
			tok := load(t, test.name, test.read(t))
			pool := mustPool(t, tok)
			words, starts := pool.Words()
			t.Logf("%d words, %d of them to start with, %d leading ones", words, starts, pool.lead)
			if words < test.words || starts < test.starts {
				t.Errorf("%d words, %d to start with, instead of %d, %d", words, starts, test.words, test.starts)
			}
			t.Run("exact", func(t *testing.T) { testExact(t, pool) })
			t.Run("every word is one token", func(t *testing.T) { testWords(t, tok, pool) })
			t.Run("first tokens are unique", func(t *testing.T) { testFirstTokens(t, tok, pool) })
		})
	}
}

func testExact(t *testing.T, pool *Pool) {
	g := pool.Generator(1)
	for _, n := range []int{1, 2, 3, 16, 511, 512, 513, 4096, 32768} {
		for range max(1, min(50, 8192/n)) {
			if err := pool.Verify(string(g.Append(nil, n)), n); err != nil {
				t.Error(err)
			}
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		n, seed := rapid.IntRange(1, 300).Draw(t, "n"), rapid.Uint64().Draw(t, "seed")
		if err := pool.Verify(string(pool.Generator(seed).Append(nil, n)), n); err != nil {
			t.Error(err)
		}
	})
}

// testWords looks at each token, not just at the sum.
func testWords(t *testing.T, tok *tokenizer.Tokenizer, pool *Pool) {
	text := string(pool.Generator(2).Append(nil, 2000))
	ids, err := tok.Encode(text)
	if err != nil {
		t.Fatal(err)
	}
	texts := map[uint32]string{}
	for p := range tok.Pieces() {
		texts[p.ID] = strings.TrimLeft(p.Text, "Ġ▁")
	}
	for i, w := range strings.Split(text, " ") {
		if texts[ids[i]] != w {
			t.Fatalf("word %d is %q and token %q", i, w, texts[ids[i]])
		}
	}
}

func testFirstTokens(t *testing.T, tok *tokenizer.Tokenizer, pool *Pool) {
	g := pool.Generator(3)
	_, starts := pool.Words()
	seen := map[uint32]bool{}
	for range min(starts, 5000) {
		ids, err := tok.Encode(string(g.Append(nil, 8)))
		if err != nil {
			t.Fatal(err)
		}
		if seen[ids[0]] {
			t.Errorf("token %d starts two of the first %d prompts", ids[0], starts)
		}
		seen[ids[0]] = true
	}
}

// Where the vocabulary has tokens of several words, no text of the pool's words can hold one.
func TestTokensOfSeveralWords(t *testing.T) {
	tok := load(t, "superword", fromTestdata("superword.json.gz")(t))
	pool := mustPool(t, tok)
	words := map[string]bool{}
	for _, w := range strings.Fields(pool.words.text.String()) {
		words[w] = true
	}
	for _, phrase := range []string{"of the", "in the", "may not", "as well", "as well as"} {
		if ids, err := tok.Encode(phrase); len(ids) != 1 || err != nil {
			t.Errorf("the tokenizer is not what it should be: %q is %v, %v", phrase, ids, err)
		}
		possible := true
		for _, w := range strings.Fields(phrase) {
			possible = possible && words[w]
		}
		if possible {
			t.Errorf("all words of %q are in the pool", phrase)
		}
	}
	for w := range words { // "e " is one token too
		if strings.HasSuffix(w, "e") {
			t.Errorf("%q is in the pool", w)
		}
	}
}

// A tokenizer that cuts every hundred characters keeps whole words in short texts.
func TestCuttingByCountIsRefused(t *testing.T) {
	tok := load(t, "fixed", fromTestdata("fixed.json.gz")(t))
	_, err := NewPool(tok)
	if err == nil || !strings.Contains(err.Error(), "fixed: the tokens of its words depend on their neighbours") {
		t.Errorf("error %v", err)
	}
}

func BenchmarkNewPool(b *testing.B) {
	for _, test := range tokenizers {
		b.Run(test.name, func(b *testing.B) {
			tok := load(b, test.name, test.read(b))
			for b.Loop() {
				mustPool(b, tok)
			}
		})
	}
}

// BenchmarkBody makes whole request bodies, the prompt's text and what the encoder puts around it.
func BenchmarkBody(b *testing.B) {
	encoder := openai.NewEncoder(openai.APIChat, openai.DialectVLLM, "org/model", "")
	for _, test := range tokenizers {
		b.Run(fmt.Sprintf("%s/512", test.name), func(b *testing.B) {
			g := mustPool(b, load(b, test.name, test.read(b))).Generator(1)
			text := func(dst []byte) []byte { return g.Append(dst, 512) }
			buffer := make([]byte, 0, 512*13)
			b.ReportAllocs()
			for b.Loop() {
				buffer = encoder.Append(buffer[:0], text, 128)
			}
		})
	}
}
