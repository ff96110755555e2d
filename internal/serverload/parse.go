package serverload

import (
	"bufio"
	"bytes"
	"io"
	"maps"
	"math"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// family is what a kind of server calls its load. Names of one meaning are in the order of preference.
type family struct {
	running, waiting, kvUse []string
	named                   bool // its samples carry a model's name; a router's own, under the same names, do not
	stale                   time.Duration
}

// families are the servers whose metrics are known, by their own documentation and sources; vLLM's and llama.cpp's were
// recorded from running servers.
var families = []family{ //nolint:gochecknoglobals // never changed
	{
		running: []string{"vllm:num_requests_running"},
		waiting: []string{"vllm:num_requests_waiting"},
		kvUse:   []string{"vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"}, // the latter in older versions
		named:   true,
	},
	{
		running: []string{"sglang:num_running_reqs"},
		waiting: []string{"sglang:num_queue_reqs"},
		kvUse:   []string{"sglang:token_usage"},
		named:   true,
		stale:   30 * time.Second,
	},
	{
		running: []string{"llamacpp:requests_processing"},
		waiting: []string{"llamacpp:requests_deferred"},
		kvUse:   []string{"llamacpp:kv_cache_usage_ratio"}, // gone in newer versions
	},
	{running: []string{"tgi_batch_current_size"}, waiting: []string{"tgi_queue_size"}},
	{
		running: []string{"trtllm_num_requests_running"},
		waiting: []string{"trtllm_num_requests_waiting"},
		kvUse:   []string{"trtllm_kv_cache_utilization"},
	},
	{
		running: []string{"lmdeploy:num_requests_running"},
		waiting: []string{"lmdeploy:num_requests_waiting"},
		kvUse:   []string{"lmdeploy:gpu_cache_usage_perc"},
	},
}

// parse reads a server's metrics in Prometheus' text format. The error is ErrAbsent unless the reading itself fails.
//
// Of some hundred families three are of use. Only their lines are parsed: all of vLLM's would take 2 ms of CPU beside a
// measurement, these take 0.1 ms.
func parse(r io.Reader, modelName string) (Load, error) {
	lines, err := wanted(r)
	if err != nil {
		return Load{}, err
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	metrics, err := parser.TextToMetricFamilies(bytes.NewReader(lines))
	if err != nil {
		return Load{}, ErrAbsent
	}
	for _, f := range families {
		running, ok := first(metrics, f.running)
		waiting, both := first(metrics, f.waiting)
		if !ok || !both {
			continue
		}
		l := unknown()
		l.Stale = f.stale
		name, ok := served(running, modelName)
		if !ok || f.named && name == "" {
			return Load{}, ErrAbsent
		}
		l.Running, l.Waiting = sum(running, name), sum(waiting, name)
		if use, ok := first(metrics, f.kvUse); ok {
			l.KVUse = most(use, name)
		}
		if !(l.Running >= 0 && l.Waiting >= 0) || math.IsInf(l.Running+l.Waiting, 0) { // NaN, too
			return Load{}, ErrAbsent
		}
		return l, nil
	}
	return Load{}, ErrAbsent
}

// wanted returns the lines of the samples that are of use.
func wanted(r io.Reader) ([]byte, error) {
	var out []byte
	scanner := bufio.NewScanner(r)
	scanner.Buffer(make([]byte, 0, 16<<10), maxBody)
	for scanner.Scan() {
		if line := scanner.Bytes(); isWanted(line) {
			out = append(append(out, line...), '\n')
		}
	}
	return out, scanner.Err()
}

func isWanted(line []byte) bool {
	for i := range families {
		f := &families[i]
		for _, names := range [...][]string{f.running, f.waiting, f.kvUse} {
			for _, name := range names {
				n := len(name)
				if len(line) > n && string(line[:n]) == name && bytes.IndexByte([]byte("{ \t"), line[n]) >= 0 {
					return true
				}
			}
		}
	}
	return false
}

// first returns the first of the named families that is there.
func first(metrics map[string]*dto.MetricFamily, names []string) ([]*dto.Metric, bool) {
	for _, name := range names {
		if f := metrics[name]; len(f.GetMetric()) > 0 {
			return f.GetMetric(), true
		}
	}
	return nil, false
}

const modelLabel = "model_name"

// served returns under which name the metrics know a model: its own or, where there is only one, that one's, for a
// model may be asked for by an alias. It is false where there are others only.
func served(metrics []*dto.Metric, want string) (name string, ok bool) {
	names := make(map[string]bool)
	for _, m := range metrics {
		names[label(m, modelLabel)] = true
	}
	if names[want] {
		return want, true
	}
	for only := range maps.Keys(names) {
		return only, len(names) == 1
	}
	return "", false
}

func label(m *dto.Metric, name string) string {
	for _, l := range m.GetLabel() {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}

// sum adds up the engines of a model. The ranks of one engine (tensor and pipeline parallel), where a server shows them
// all, hold the same requests and count once. SGLang's total has an empty priority, and each priority its own sample
// beside it.
func sum(metrics []*dto.Metric, name string) float64 {
	engines := make(map[string]float64)
	for _, m := range metrics {
		if label(m, modelLabel) != name || label(m, "priority") != "" {
			continue
		}
		key := engineOf(m)
		if v, ok := engines[key]; !ok || value(m) > v {
			engines[key] = value(m)
		}
	}
	var total float64
	for _, v := range engines {
		total += v
	}
	return total
}

// most returns the highest value among the engines of a model.
func most(metrics []*dto.Metric, name string) float64 {
	highest := math.NaN()
	for _, m := range metrics {
		if v := value(m); label(m, modelLabel) == name && !(v <= highest) {
			highest = v
		}
	}
	return highest
}

// engineOf returns what tells the engine of a sample from others.
func engineOf(m *dto.Metric) string {
	var b strings.Builder
	for _, l := range m.GetLabel() {
		switch l.GetName() {
		case "tp_rank", "pp_rank", "moe_ep_rank":
			continue
		}
		b.WriteString(l.GetName() + "=" + l.GetValue() + "\xff")
	}
	return b.String()
}

// value returns the value of a gauge, whose type is not known since only the lines of samples are parsed.
func value(m *dto.Metric) float64 { return m.GetUntyped().GetValue() }
