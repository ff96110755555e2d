//go:build cgo && hftokenizers

package tokenizer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/inferprobe/inferprobe/internal/tokenizer/demo"
)

// moduleFile is the path of a tokenizer that comes with the Go module of the library. Some may not be copied.
func moduleFile(t testing.TB, name string) string {
	t.Helper()
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/daulet/tokenizers").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	return filepath.Join(strings.TrimSpace(string(dir)), "test", "data", name)
}

func demoTokenizer(t testing.TB) *Tokenizer {
	t.Helper()
	data, err := demo.Tokenizer()
	if err != nil {
		t.Fatal(err)
	}
	tok, err := FromBytes("demo", data)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tok.Close)
	return tok
}

// testdata/demo-golden.json holds what Python's tokenizers make of 255 texts; demo/train/train.py writes it.
func TestIdsAreThoseOfPython(t *testing.T) {
	data, err := os.ReadFile("testdata/demo-golden.json")
	if err != nil {
		t.Fatal(err)
	}
	var pairs [][2]json.RawMessage
	if err := json.Unmarshal(data, &pairs); err != nil {
		t.Fatal(err)
	}
	tok := demoTokenizer(t)
	for _, pair := range pairs {
		var text string
		want := []uint32{}
		if err := json.Unmarshal(pair[0], &text); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(pair[1], &want); err != nil {
			t.Fatal(err)
		}
		got, err := tok.Encode(text)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%q is %v, %v instead of %v", text, got, err, want)
		}
		if n, err := tok.Count(text); err != nil || n != len(want) {
			t.Errorf("%q has %d tokens, %v instead of %d", text, n, err, len(want))
		}
		if back := tok.Decode(want); back != text {
			t.Errorf("%q is decoded to %q", text, back)
		}
	}
	if len(pairs) < 200 {
		t.Errorf("only %d texts", len(pairs))
	}
}

func TestProperties(t *testing.T) {
	tests := []struct {
		file  string
		vocab int
		text  string
		ids   []uint32
	}{
		{"Meta-Llama-3-8B-Instruct.json", 128256, "Hello, world!<|eot_id|>", []uint32{9906, 11, 1917, 0, 128009}},
		{"bert-base-uncased.json", 30522, "Hello, world!", []uint32{7592, 1010, 2088, 999}},
		{"cohere-tokenizer.json", 75500, "Hello", []uint32{14760}},
	}
	for _, test := range tests {
		tok, err := Load(t.Context(), moduleFile(t, test.file), nil)
		if err != nil {
			t.Fatal(err)
		}
		ids, err := tok.Encode(test.text)
		if err != nil || !slices.Equal(ids, test.ids) {
			t.Errorf("%s: %q is %v, %v instead of %v", test.file, test.text, ids, err, test.ids)
		}
		if tok.VocabSize() != test.vocab {
			t.Errorf("%s: %d tokens instead of %d", test.file, tok.VocabSize(), test.vocab)
		}
		data, err := os.ReadFile(moduleFile(t, test.file))
		if err != nil {
			t.Fatal(err)
		}
		if tok.Digest() != sha(data) || !strings.HasSuffix(tok.Name(), test.file) {
			t.Errorf("%s: name %s, digest %s", test.file, tok.Name(), tok.Digest())
		}
		tok.Close()
	}
}

// The file cuts every text at 256 tokens and fills it up to a multiple of 8.
func TestTruncationAndPaddingOfTheFileAreIgnored(t *testing.T) {
	tok, err := Load(t.Context(), moduleFile(t, "all-minilm-l6-v2.json"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tok.Close()
	for text, want := range map[string]int{"hi": 1, strings.Repeat("hi ", 1000): 1000} {
		if n, err := tok.Count(text); n != want || err != nil {
			t.Errorf("%.10q… has %d tokens, %v instead of %d", text, n, err, want)
		}
	}
}

func TestPieces(t *testing.T) {
	const doc = `{"version":"1.0","truncation":null,"padding":null,"normalizer":null,"pre_tokenizer":null,
		"post_processor":null,"decoder":null,
		"added_tokens":[%s,%s],"model":%s}`
	const added = `{"id":%d,"content":%q,"special":true,"single_word":false,"lstrip":false,"rstrip":false,
		"normalized":false}`
	want := []Piece{{0, "<u>", false}, {1, "▁b", false}, {2, "c", false}, {0, "<u>", true}, {9, "<a>", true}}
	for _, model := range []string{
		`{"type":"WordLevel","unk_token":"<u>","vocab":{"c":2,"<u>":0,"▁b":1}}`,
		`{"type":"Unigram","unk_id":0,"vocab":[["<u>",0.0],["▁b",-1.5],["c",-2]]}`,
	} {
		tok, err := FromBytes("x", fmt.Appendf(nil, doc,
			fmt.Sprintf(added, 0, "<u>"), fmt.Sprintf(added, 9, "<a>"), model))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, slices.Collect(tok.Pieces())); diff != "" {
			t.Errorf("%s (-want +got):\n%s", model, diff)
		}
		if tok.VocabSize() != 4 {
			t.Errorf("%d tokens instead of 4", tok.VocabSize())
		}
		for range tok.Pieces() {
			break // must not go on after its consumer has stopped
		}
		tok.Close()
	}
}

func TestWhatIsNoTokenizer(t *testing.T) {
	tests := []struct{ name, data, want string }{
		{"empty", "", "not JSON"},
		{"web page", "<!doctype html>", "not JSON"},
		{"cut off", `{"model":{"vocab":{"a":0`, "not JSON"},
		{"LFS pointer", "version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git lfs pull"},
		{"null", "null", `no "model"`},
		{"list", "[]", "not a HuggingFace tokenizer.json"},
		{"tokenizer_config.json", `{"bos_token":"<s>","chat_template":"x"}`, `no "model"`},
		{"vocab.json", `{"a":0,"model":1}`, "not a HuggingFace tokenizer.json"},
		{"no vocabulary", `{"model":{"type":"BPE","vocab":{}}}`, `"vocab"`},
		{"unigram without text", `{"model":{"type":"Unigram","vocab":[[1,2]]}}`, "entry 0 of the vocabulary has no text"},
		{"unigram with nothing", `{"model":{"type":"Unigram","vocab":[["a",0],[]]}}`, "entry 1 of the vocabulary is empty"},
		{"NUL", `{"version":"1.0\u0000","model":{"type":"WordLevel","vocab":{"a":0}}}`, "U+0000"},
		{"no NUL", `{"version":"1.0","model":{"type":"\\u0000","vocab":{"a":0}}}`, "HuggingFace library understands"},
		{"unknown kind of model", `{"version":"1.0","added_tokens":[],"model":{"type":"New","vocab":{"a":0}}}`,
			"HuggingFace library understands"},
	}
	for _, test := range tests {
		_, err := FromBytes("some/file", []byte(test.data))
		if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "some/file") {
			t.Errorf("%s: error %v instead of one with %q", test.name, err, test.want)
		}
	}
}

func FuzzFromBytes(f *testing.F) {
	for _, seed := range []string{"", "null", `{"model":{"vocab":{"a":0}}}`, `{"model":{"vocab":[["a",0]]}}`,
		`{"truncation":{},"model":{"type":"WordLevel","vocab":{"a":0},"unk_token":"a"}}`,
		`{"version":"1.0","added_tokens":[{"id":1,"content":"b"}],"model":{"type":"BPE","vocab":{"a":0},"merges":[]}}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		tok, err := FromBytes("fuzz", data)
		if err != nil {
			return
		}
		defer tok.Close()
		for p := range tok.Pieces() {
			_ = p
		}
		_, _ = tok.Encode("a b")
	})
}

func TestEncodeRefuses(t *testing.T) {
	tok := demoTokenizer(t)
	if _, err := tok.Encode("a\x00b"); err == nil || !strings.Contains(err.Error(), "NUL byte at offset 1") {
		t.Errorf("NUL: error %v", err)
	}
	tok.Close()
	tok.Close()
	if _, err := tok.Encode("a"); err == nil || !strings.Contains(err.Error(), "demo is closed") {
		t.Errorf("closed: error %v", err)
	}
	if got := tok.Decode([]uint32{300}); got != "" {
		t.Errorf("closed: decoded %q", got)
	}
}

// A text for which the library has an error comes back empty from it, as a blank one does.
func TestEncodeTellsFailureFromNothing(t *testing.T) {
	tok, err := FromBytes("broken", []byte(`{"version":"1.0","added_tokens":[],"pre_tokenizer":{"type":"Whitespace"},
		"model":{"type":"WordLevel","unk_token":"<missing>","vocab":{"a":0}}}`))
	if err != nil {
		t.Fatal(err)
	}
	defer tok.Close()
	if _, err := tok.Encode("a zebra"); err == nil || !strings.Contains(err.Error(), "cannot encode") {
		t.Errorf("error %v", err)
	}
	if ids, err := tok.Encode(" \n"); len(ids) != 0 || err != nil {
		t.Errorf("blank text: %v, %v", ids, err)
	}
}

func TestConcurrentUseAndClose(t *testing.T) {
	tok := demoTokenizer(t)
	text := strings.Repeat("The quick brown fox. ", 50)
	want, err := tok.Encode(text)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for range 20 {
				ids, err := tok.Encode(text)
				if err != nil {
					return // closed by now
				}
				if !slices.Equal(ids, want) {
					t.Error("another result in another goroutine")
				}
				tok.Decode(ids)
			}
			if i == 0 {
				tok.Close()
			}
		})
	}
	wg.Wait()
}

func TestLoad(t *testing.T) {
	data, err := demo.Tokenizer()
	if err != nil {
		t.Fatal(err)
	}
	f := newFakeHub(t)
	hub, _ := f.hub(t)
	hub.Offline = true
	work := t.TempDir()
	t.Chdir(work)
	t.Setenv("HOME", filepath.Join(work, "home"))
	for _, dir := range []string{"folder", "org/name", "home/mine"} {
		writeTestFile(t, filepath.Join(work, dir, fileName), data)
	}
	writeTestFile(t, "renamed.json", data)
	writeTestFile(t, "empty/config.json", nil)
	writeTestFile(t, "old/tokenizer.model", nil)
	writeTestFile(t, "wrong/tokenizer.json", []byte("{}"))

	for ref, name := range map[string]string{
		"folder":             "folder/tokenizer.json",
		"./folder/":          "folder/tokenizer.json",
		work + "/folder":     work + "/folder/tokenizer.json",
		"folder/" + fileName: "folder/tokenizer.json",
		"renamed.json":       "renamed.json",
		"org/name":           "org/name/tokenizer.json", // a path that exists comes before the Hub
		"~/mine":             work + "/home/mine/tokenizer.json",
	} {
		tok, err := Load(t.Context(), ref, hub)
		if err != nil {
			t.Errorf("%s: %v", ref, err)
			continue
		}
		if tok.Name() != name || tok.VocabSize() != 8192 {
			t.Errorf("%s: name %s instead of %s", ref, tok.Name(), name)
		}
		tok.Close()
	}
	for ref, want := range map[string]string{
		"":                 "no tokenizer is named",
		"/nowhere/at/all":  "/nowhere/at/all: no such file",
		"./nowhere":        "./nowhere: no such file",
		"../nowhere":       "../nowhere: no such file",
		"~/nowhere":        "home/nowhere: no such file",
		"nowhere.json":     "nowhere.json: no such file",
		"empty":            "folder empty has no tokenizer.json",
		"old":              "has tokenizer.model but no tokenizer.json",
		"wrong":            "wrong/tokenizer.json",
		"not a repository": "not a Hub repository",
		"org/another":      "offline",
		"org/name@v1":      "offline", // no path has that name
	} {
		_, err := Load(t.Context(), ref, hub)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v instead of one with %q", ref, err, want)
		}
	}
}

func TestLoadFromTheHub(t *testing.T) {
	data, err := demo.Tokenizer()
	if err != nil {
		t.Fatal(err)
	}
	hub := &Hub{CacheDir: t.TempDir(), Offline: true}
	repo := filepath.Join(hub.CacheDir, "models--org--name")
	writeTestFile(t, filepath.Join(repo, "refs", "main"), []byte(testCommit))
	writeTestFile(t, filepath.Join(repo, "snapshots", testCommit, fileName), data)
	tok, err := Load(t.Context(), "org/name", hub)
	if err != nil {
		t.Fatal(err)
	}
	defer tok.Close()
	if want := "org/name@0123456789ab"; tok.Name() != want || tok.Digest() != sha(data) {
		t.Errorf("name %s instead of %s, digest %s", tok.Name(), want, tok.Digest())
	}
	if !bytes.Contains(data, []byte("<|endoftext|>")) {
		t.Error("not the demonstration tokenizer")
	}
}
