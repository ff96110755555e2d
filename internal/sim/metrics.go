package sim

import (
	"github.com/prometheus/client_golang/prometheus"
)

// counters are what the server has done so far, under vLLM's names.
type counters struct {
	labels                         prometheus.Labels
	promptTokens, generationTokens prometheus.Counter
	success                        *prometheus.CounterVec
}

func newCounters(model string) counters {
	labels := prometheus.Labels{"model_name": model, "engine": "0"}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: labels})
	}
	return counters{
		labels:           labels,
		promptTokens:     counter("vllm:prompt_tokens_total", "Prompt tokens of answered requests."),
		generationTokens: counter("vllm:generation_tokens_total", "Tokens that were generated and sent."),
		success: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "vllm:request_success_total", Help: "Requests by finish reason.", ConstLabels: labels,
		}, []string{"finished_reason"}),
	}
}

// count adds a finished request.
func (c *counters) count(r *Record) {
	if r.FinishReason == "" || r.Outcome != OutcomeCompleted && r.Outcome != OutcomeAborted {
		return
	}
	c.success.WithLabelValues(r.FinishReason).Inc()
	c.promptTokens.Add(float64(r.PromptTokens))
	c.generationTokens.Add(float64(r.OutputTokens))
}

// metrics returns the registry behind /metrics: the few of vLLM's metrics that a prober reads.
func (s *Server) metrics() *prometheus.Registry {
	registry := prometheus.NewRegistry()
	gauge := func(name, help string, value func(load) float64) {
		registry.MustRegister(prometheus.NewGaugeFunc(
			prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: s.served.labels},
			func() float64 { return value(s.load()) },
		))
	}
	gauge("vllm:num_requests_running", "Requests in the running batch.",
		func(l load) float64 { return float64(l.running) })
	gauge("vllm:num_requests_waiting", "Requests that wait for a slot.",
		func(l load) float64 { return float64(l.waiting) })
	room := float64(s.opts.Slots * s.opts.MaxModelLen)
	gauge("vllm:kv_cache_usage_perc", "Tokens held by running requests as a fraction of slots × context length.",
		func(l load) float64 { return min(float64(l.tokens)/room, 1) })
	registry.MustRegister(s.served.promptTokens, s.served.generationTokens, s.served.success)
	return registry
}

// load is how busy the engine is now.
func (s *Server) load() load {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.engine.load()
}
