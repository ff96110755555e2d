package tokenizer

import (
	"errors"
	"strings"
	"testing"
)

func TestParseRepository(t *testing.T) {
	tests := []struct{ ref, repo, revision string }{
		{"gpt2", "gpt2", "main"},
		{"meta-llama/Llama-3.3-70B-Instruct", "meta-llama/Llama-3.3-70B-Instruct", "main"},
		{"org/name_x.y", "org/name_x.y", "main"},
		{"org/name@v1.0", "org/name", "v1.0"},
		{"org/name@refs/pr/3", "org/name", "refs/pr/3"},
		{"org/name@" + testCommit, "org/name", testCommit},
		{"org/name@", "", ""},
		{"org/name@../../etc", "", ""},
		{"org/name@a..b", "", ""},
		{"org/name@/main", "", ""},
		{"org/name@two words", "", ""},
		{"org/name/more", "", ""},
		{"org//name", "", ""},
		{"org/na--me", "", ""},
		{"org/na..me", "", ""},
		{"org/name.git", "", ""},
		{"org/-name", "", ""},
		{"org/name-", "", ""},
		{"https://huggingface.co/org/name", "", ""},
		{"örg/name", "", ""},
		{"org/" + strings.Repeat("n", 97), "", ""},
	}
	for _, test := range tests {
		repo, revision, err := parseRepository(test.ref)
		if repo != test.repo || revision != test.revision || (err == nil) != (test.repo != "") {
			t.Errorf("parseRepository(%q) = %q, %q, %v", test.ref, repo, revision, err)
		}
		if err != nil && !strings.Contains(err.Error(), test.ref) {
			t.Errorf("the error for %q does not name it: %v", test.ref, err)
		}
	}
}

// Without the library everything says how to get it, and nothing else happens.
func TestWithoutTheLibrary(t *testing.T) {
	if haveLibrary {
		t.Skip("this build has the library")
	}
	_, loading := Load(t.Context(), "org/name", nil)
	_, making := FromBytes("x", testContent)
	for _, err := range []error{loading, making} {
		if !errors.Is(err, ErrNoLibrary) {
			t.Fatalf("error %v", err)
		}
		for _, want := range []string{"make lib", "make build"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q is not in: %v", want, err)
			}
		}
	}
}
