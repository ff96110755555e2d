package openai

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func prompt(dst []byte) []byte { return append(dst, `one \"two\" three`...) }

// TestBodies holds the body of every dialect and API in a golden file, one a line.
func TestBodies(t *testing.T) {
	var got bytes.Buffer
	for _, dialect := range Dialects() {
		for _, api := range []API{APIChat, APICompletions} {
			body := NewEncoder(api, dialect, "org/model", "").Append(nil, prompt, 128)
			var decoded map[string]any
			if err := json.Unmarshal(body, &decoded); err != nil {
				t.Fatalf("%s %s: %v", dialect, api, err)
			}
			got.WriteString(string(dialect) + " " + string(api) + " " + string(body) + "\n")
			if decoded["model"] != "org/model" || decoded["stream"] != true || decoded["seed"] != nil {
				t.Errorf("%s %s: %s", dialect, api, body)
			}
		}
	}
	const golden = "testdata/bodies.golden"
	if *update {
		if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got.String(), "\n")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestFields: fields of the user's own are at the end of every body, whatever a server made us leave out.
func TestFields(t *testing.T) {
	const fields = `{"chat_template_kwargs":{"enable_thinking":false},"top_k":1}`
	const end = `,"max_tokens":5,"min_tokens":5,"ignore_eos":true,` +
		`"chat_template_kwargs":{"enable_thinking":false},"top_k":1}`
	e := NewEncoder(APIChat, DialectVLLM, "m", fields)
	if body := string(e.Append(nil, prompt, 5)); !strings.HasSuffix(body, end) {
		t.Error(body)
	}
	least := string(e.without(e.Extras()...).Append(nil, prompt, 5))
	if want := `"stream":true,"max_tokens":5,` + fields[1:]; !strings.HasSuffix(least, want) {
		t.Error(least)
	}
	none := NewEncoder(APIChat, DialectVLLM, "m", `{}`).Append(nil, prompt, 5)
	if want := NewEncoder(APIChat, DialectVLLM, "m", "").Append(nil, prompt, 5); string(none) != string(want) {
		t.Errorf("%s", none)
	}
}

func TestWithPrefixCache(t *testing.T) {
	for _, dialect := range Dialects() {
		e := NewEncoder(APIChat, dialect, "m", "")
		got := string(e.WithPrefixCache().Append(nil, prompt, 5))
		if want := strings.Replace(string(e.Append(nil, prompt, 5)), `,"cache_prompt":false`, "", 1); got != want {
			t.Errorf("%s: %s", dialect, got)
		}
	}
}

func TestModelNameIsEscaped(t *testing.T) {
	const name = "a\"b\\c\n<é>"
	var body struct{ Model string }
	err := json.Unmarshal(NewEncoder(APIChat, DialectVLLM, name, "").Append(nil, prompt, 1), &body)
	if err != nil || body.Model != name {
		t.Errorf("model %q, %v; want %q", body.Model, err, name)
	}
}

func TestAppendKeepsWhatIsThere(t *testing.T) {
	e := NewEncoder(APICompletions, DialectGeneric, "m", "")
	if got := string(e.Append([]byte("before"), prompt, 7)); got != "before"+string(e.Append(nil, prompt, 7)) {
		t.Errorf("%s", got)
	}
}

func TestAppendAllocatesNothing(t *testing.T) {
	e := NewEncoder(APIChat, DialectVLLM, "org/model", `{"top_k":1}`)
	buffer := e.Append(nil, prompt, 128)
	if allocs := testing.AllocsPerRun(100, func() { buffer = e.Append(buffer[:0], prompt, 128) }); allocs != 0 {
		t.Errorf("%v allocations, want none", allocs)
	}
}

func TestWithout(t *testing.T) {
	e := NewEncoder(APIChat, DialectVLLM, "m", "")
	const usage, continuous = `,"stream_options":{"include_usage":true}`,
		`,"stream_options":{"include_usage":true,"continuous_usage_stats":true}`
	for _, test := range []struct {
		drop []string
		want string
	}{
		{nil, continuous + `,"max_tokens":5,"min_tokens":5,"ignore_eos":true}`},
		{[]string{"ignore_eos"}, continuous + `,"max_tokens":5,"min_tokens":5}`},
		{[]string{"continuous_usage_stats", "min_tokens"}, usage + `,"max_tokens":5,"ignore_eos":true}`},
		{[]string{"stream_options", "continuous_usage_stats", "min_tokens", "ignore_eos"}, `,"max_tokens":5}`},
		{[]string{"max_tokens", "min_tokens", "ignore_eos", "continuous_usage_stats"},
			usage + `,"max_completion_tokens":5}`},
	} {
		body := string(e.without(test.drop...).Append(nil, prompt, 5))
		if _, rest, _ := strings.Cut(body, `"stream":true`); rest != test.want {
			t.Errorf("without %v: %s, want %s", test.drop, rest, test.want)
		}
	}
	back := e.without("max_tokens").without("max_completion_tokens")
	if string(back.Append(nil, prompt, 5)) != string(e.Append(nil, prompt, 5)) {
		t.Error("the length's name does not change back")
	}
	want := []string{"stream_options", "continuous_usage_stats", "min_tokens", "ignore_eos"}
	if diff := cmp.Diff(want, e.Extras()); diff != "" {
		t.Errorf("extras (-want +got):\n%s", diff)
	}
}
