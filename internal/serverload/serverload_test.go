package serverload

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/inferprobe/inferprobe/internal/openai"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func recorded(tb testing.TB, name string) string {
	tb.Helper()
	text, err := os.ReadFile("testdata/" + name)
	if err != nil {
		tb.Fatal(err)
	}
	return string(text)
}

// gauge is a family as prometheus_client writes it.
func gauge(name string, samples ...string) string {
	text := fmt.Sprintf("# HELP %s What it is.\n# TYPE %s gauge\n", name, name)
	for _, s := range samples {
		text += name + s + "\n"
	}
	return text
}

func TestParse(t *testing.T) {
	vllm := recorded(t, "vllm-0.32.0.prom")
	const labels = `{engine="0",model_name="tiny"} `
	busy := strings.NewReplacer(
		"vllm:num_requests_running"+labels+"0.0", "vllm:num_requests_running"+labels+"7.0",
		"vllm:num_requests_waiting"+labels+"0.0", "vllm:num_requests_waiting"+labels+"3.0",
		"vllm:kv_cache_usage_perc"+labels+"0.0", "vllm:kv_cache_usage_perc"+labels+"0.875",
	).Replace(vllm)
	nan := math.NaN()
	two := gauge("vllm:num_requests_running", `{engine="0",model_name="a"} 1`,
		`{engine="1",model_name="a"} 2`, `{engine="0",model_name="b"} 9`) +
		gauge("vllm:num_requests_waiting", `{engine="0",model_name="a"} 4`,
			`{engine="1",model_name="a"} 0`, `{engine="0",model_name="b"} 9`) +
		gauge("vllm:kv_cache_usage_perc", `{engine="0",model_name="a"} 0.5`,
			`{engine="1",model_name="a"} 0.75`, `{engine="0",model_name="b"} 1`)
	for name, test := range map[string]struct {
		text, model string
		want        Load
		absent      bool
	}{
		"vLLM at rest":          {text: vllm, model: "tiny", want: Load{}},
		"vLLM busy":             {text: busy, model: "tiny", want: Load{Running: 7, Waiting: 3, KVUse: 0.875}},
		"a model by an alias":   {text: busy, model: "alias", want: Load{Running: 7, Waiting: 3, KVUse: 0.875}},
		"engines of one of two": {text: two, model: "a", want: Load{Running: 3, Waiting: 4, KVUse: 0.75}},
		"the other one":         {text: two, model: "b", want: Load{Running: 9, Waiting: 9, KVUse: 1}},
		"a third is not there":  {text: two, model: "c", absent: true},
		"older vLLM": {
			text: gauge("vllm:num_requests_running", `{model_name="m"} 1`) +
				gauge("vllm:num_requests_waiting", `{model_name="m"} 0`) +
				gauge("vllm:gpu_cache_usage_perc", `{model_name="m"} 0.25`),
			model: "m", want: Load{Running: 1, KVUse: 0.25},
		},
		"a router in front": {
			text: gauge("vllm:num_requests_running", `{server="http://a"} 1`) +
				gauge("vllm:num_requests_waiting", `{server="http://a"} 0`),
			model: "m", absent: true,
		},
		"llama.cpp at rest": {text: recorded(t, "llamacpp-b11434.prom"), model: "tiny", want: Load{KVUse: nan}},
		"llama.cpp busy": {
			text: gauge("llamacpp:requests_processing", " 4") +
				gauge("llamacpp:requests_deferred", " 12"),
			want: Load{Running: 4, Waiting: 12, KVUse: nan},
		},
		"SGLang": {
			text: gauge("sglang:num_running_reqs", `{dp_rank="0",model_name="m",priority="",tp_rank="0"} 5`,
				`{dp_rank="0",model_name="m",priority="",tp_rank="1"} 5`, `{dp_rank="1",model_name="m",tp_rank="0"} 1`,
				`{dp_rank="0",model_name="m",priority="1",tp_rank="0"} 4`) +
				gauge("sglang:num_queue_reqs", `{dp_rank="0",model_name="m",tp_rank="0"} 2`) +
				gauge("sglang:token_usage", `{model_name="m"} 0.5`),
			model: "m", want: Load{Running: 6, Waiting: 2, KVUse: 0.5, Stale: 30 * time.Second},
		},
		"TGI": {
			text: gauge("tgi_batch_current_size", " 4") +
				gauge("tgi_queue_size", " 7"),
			model: "m", want: Load{Running: 4, Waiting: 7, KVUse: nan},
		},
		"TensorRT-LLM": {
			text: gauge("trtllm_num_requests_running", `{model_name="m"} 4`) +
				gauge("trtllm_num_requests_waiting", `{model_name="m"} 1`) +
				gauge("trtllm_kv_cache_utilization", `{model_name="m"} 0.5`),
			model: "m", want: Load{Running: 4, Waiting: 1, KVUse: 0.5},
		},
		"LMDeploy": {
			text: gauge("lmdeploy:num_requests_running", `{engine="0",model_name="m"} 4`) +
				gauge("lmdeploy:num_requests_waiting", `{engine="0",model_name="m"} 1`) +
				gauge("lmdeploy:gpu_cache_usage_perc", `{engine="0",model_name="m"} 0.5`),
			model: "m", want: Load{Running: 4, Waiting: 1, KVUse: 0.5},
		},
		"half of it": {
			text:  gauge("vllm:num_requests_running", `{model_name="m"} 1`),
			model: "m", absent: true,
		},
		"not a number": {
			text: gauge("tgi_batch_current_size", " NaN") +
				gauge("tgi_queue_size", " 1"),
			absent: true,
		},
		"less than nothing": {
			text: gauge("tgi_batch_current_size", " -1") +
				gauge("tgi_queue_size", " 1"),
			absent: true,
		},
		"a sample without a value": {text: "tgi_batch_current_size\ntgi_queue_size 1\n", absent: true},
		"metrics of something":     {text: gauge("go_goroutines", " 9"), absent: true},
		"a web page":               {text: "<!doctype html>\n<title>vllm:num_requests_running 4</title>", absent: true},
		"JSON":                     {text: `[{"iter":1,"numActiveRequests":2}]`, absent: true},
		"nothing":                  {absent: true},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parse(strings.NewReader(test.text), test.model)
			if errors.Is(err, ErrAbsent) != test.absent || err != nil && !test.absent {
				t.Fatalf("error %v, want absent %v", err, test.absent)
			}
			sameUse := got.KVUse == test.want.KVUse || math.IsNaN(got.KVUse) && math.IsNaN(test.want.KVUse)
			got.KVUse, test.want.KVUse = 0, 0
			if !test.absent && (got != test.want || !sameUse) {
				t.Errorf("%+v, want %+v", got, test.want)
			}
		})
	}
}

func TestForeign(t *testing.T) {
	l := Load{Running: 3, Waiting: 2}
	for own, want := range map[int]float64{0: 5, 4: 1, 5: 0, 64: 0} {
		if got := l.Foreign(own); got != want {
			t.Errorf("%v requests of others beside %d of ours, want %v", got, own, want)
		}
	}
}

const tgi = "tgi_batch_current_size 4\ntgi_queue_size 7\n"

// place is a server with something under each path.
func place(t *testing.T, handlers map[string]http.HandlerFunc) (url string, asked *atomic.Int64) {
	t.Helper()
	asked = new(atomic.Int64)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if h := handlers[r.URL.Path]; h != nil {
			h(w, r)
			return
		}
		http.NotFound(w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL, asked
}

func says(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, text) }
}

func reader(t *testing.T, opts openai.Options) *Reader {
	t.Helper()
	client, err := openai.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	r, err := New(client, opts.BaseURL, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

func TestWhereTheMetricsAre(t *testing.T) {
	none := says("go_goroutines 9\n")
	for name, test := range map[string]struct {
		handlers map[string]http.HandlerFunc
		path     string
		first    int64 // requests of the first look, of which the second needs one
	}{
		"at the root":             {map[string]http.HandlerFunc{"/metrics": says(tgi)}, "/v1", 1},
		"at the root, no version": {map[string]http.HandlerFunc{"/metrics": says(tgi)}, "", 1},
		"beside the API": {
			map[string]http.HandlerFunc{"/llama/metrics": says(tgi), "/metrics": none}, "/llama/v1", 1,
		},
		"at the root all the same": {
			map[string]http.HandlerFunc{"/llama/metrics": none, "/metrics": says(tgi)}, "/llama/v1", 2,
		},
	} {
		t.Run(name, func(t *testing.T) {
			url, asked := place(t, test.handlers)
			r := reader(t, openai.Options{BaseURL: url + test.path})
			for look := range int64(2) {
				l, err := r.Read(t.Context())
				if err != nil || l.Running != 4 || l.Waiting != 7 {
					t.Errorf("%+v, %v", l, err)
				}
				if n := asked.Load(); n != test.first+look {
					t.Errorf("%d requests after look %d", n, look+1)
				}
			}
		})
	}
}

func TestWhatIsNoLoad(t *testing.T) {
	elsewhere, followed := place(t, map[string]http.HandlerFunc{"/metrics": says(tgi)})
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code); fmt.Fprint(w, tgi) }
	}
	huge := func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, tgi)
		line := bytes.Repeat([]byte("x"), 1<<20)
		for range 9 {
			if _, err := w.Write(line); err != nil {
				return
			}
		}
	}
	for name, test := range map[string]struct {
		handler http.HandlerFunc
		absent  bool
	}{
		"no such page": {nil, true},
		"forbidden":    {status(403), true},
		"a redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere+"/metrics", http.StatusFound)
		}, true},
		"too much": {huge, true},
		"trouble":  {status(503), false},
		"too many": {status(429), false},
		"cut off": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			fmt.Fprint(w, tgi)
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			url, _ := place(t, map[string]http.HandlerFunc{"/metrics": test.handler})
			_, err := reader(t, openai.Options{
				BaseURL: url + "/v1", APIKey: "secret", Header: http.Header{"Api-Key": {"secret"}},
			}).Read(t.Context())
			if err == nil || errors.Is(err, ErrAbsent) != test.absent || strings.Contains(err.Error(), "secret") {
				t.Errorf("error %v, want absent: %v", err, test.absent)
			}
		})
	}
	if followed.Load() > 0 {
		t.Error("a redirect was followed")
	}
}

func TestTheKeyIsSent(t *testing.T) {
	url, _ := place(t, map[string]http.HandlerFunc{"/metrics": func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer secret" || r.Header.Get("User-Agent") != "inferprobe/1" ||
			r.Header.Get("X-Tenant") != "search" || r.Header.Get("Accept") != accept || r.URL.RawQuery != "tenant=a" {
			w.WriteHeader(401)
		}
		fmt.Fprint(w, tgi)
	}})
	opts := openai.Options{
		BaseURL: url + "?tenant=a", APIKey: "secret", Header: http.Header{"X-Tenant": {"search"}}, Version: "1",
	}
	if _, err := reader(t, opts).Read(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := reader(t, openai.Options{BaseURL: url}).Read(t.Context()); !errors.Is(err, ErrAbsent) {
		t.Errorf("without a key: %v", err)
	}
}

// TestAServerThatHangs: the look ends with the context, or by its own limit.
func TestAServerThatHangs(t *testing.T) {
	url, _ := place(t, map[string]http.HandlerFunc{"/metrics": func(_ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
	}})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := reader(t, openai.Options{BaseURL: url}).Read(ctx); err == nil || errors.Is(err, ErrAbsent) {
		t.Errorf("error %v", err)
	}
}

func TestABadURL(t *testing.T) {
	for _, url := range []string{"", "host:8000", "/v1", "http://%zz"} {
		if _, err := New(nil, url, ""); err == nil {
			t.Errorf("%q was taken", url)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(tgi, "m")
	f.Add("vllm:num_requests_running{model_name=\"a\"} 1\nvllm:num_requests_waiting{model_name=\"a\"} 1 5\n", "a")
	f.Add("vllm:num_requests_running{model_name=\"a\\\"} 1\nvllm:num_requests_waiting 1", "a")
	f.Fuzz(func(t *testing.T, text, model string) {
		l, err := parse(strings.NewReader(text), model)
		if err == nil && !(l.Running >= 0 && l.Waiting >= 0 && l.Foreign(0) >= 0) {
			t.Errorf("%+v", l)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	text := recorded(b, "vllm-0.32.0.prom")
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := parse(strings.NewReader(text), "tiny"); err != nil {
			b.Fatal(err)
		}
	}
}
