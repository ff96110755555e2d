package report

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/inferprobe/inferprobe/internal/probe"
)

// seedStages are the benchmarks of the report that GuideLLM's users know: name, target rate, completed requests, start,
// end, duration; mean and percentiles of prompt and output tokens; of latency in seconds, time to first token and inter
// token latency in milliseconds; requests/s, output tokens/s.
type seedStage struct {
	name                 string
	rate                 float64
	completed            int
	start, end           string
	duration             float64
	prompt, output       string
	latency, ttft, itl   string
	requests, throughput float64
}

func seedStages() []seedStage {
	return []seedStage{
		{"synchronous", 0, 101, "08:21:17", "08:23:16", 119.00,
			"512.49 512.0 512.0 512.0 514.0 514.0", "127.84 128.0 128.0 128.0 128.0 128.0",
			"1.18 1.17 1.17 1.17 1.18 1.19 1.19 1.20", "62.29 60.2 60.7 61.0 62.1 63.6 64.2 69.3",
			"8.72 8.0 8.6 8.7 8.7 8.9 9.0 9.4", 0.85, 108.50},
		{"constant-1", 2.99, 354, "08:23:43", "08:25:43", 119.80,
			"512.33 512.0 512.0 512.0 514.0 514.0", "127.70 114.7 128.0 128.0 128.0 128.0",
			"1.60 1.46 1.59 1.59 1.60 1.61 1.62 1.65", "65.41 57.7 58.7 59.5 63.1 68.5 71.7 117.9",
			"12.02 0.2 10.2 10.3 10.9 12.0 15.4 48.1", 2.96, 377.37},
		{"constant-2", 5.12, 607, "08:25:43", "08:27:43", 119.99,
			"512.37 512.0 512.0 512.0 514.0 514.0", "127.61 112.3 128.0 128.0 128.0 128.0",
			"1.93 1.71 1.91 1.91 1.93 1.96 2.00 2.11", "69.15 57.3 58.2 59.1 64.2 72.1 115.5 138.1",
			"14.61 0.2 10.9 11.4 11.8 16.8 46.3 49.3", 5.06, 645.58},
		{"constant-3", 7.26, 854, "08:27:43", "08:29:43", 119.93,
			"512.37 512.0 512.0 512.0 514.0 514.0", "127.73 115.1 128.0 128.0 128.0 128.0",
			"2.46 2.17 2.39 2.42 2.44 2.50 2.57 2.96", "71.39 58.4 59.4 60.2 64.3 74.6 124.3 145.3",
			"18.69 0.2 11.8 12.7 13.4 47.0 48.9 50.5", 7.12, 909.53},
		{"constant-4", 9.4, 1099, "08:29:43", "08:31:43", 119.96,
			"512.34 512.0 512.0 512.0 514.0 514.0", "127.86 125.0 128.0 128.0 128.0 128.0",
			"3.15 2.78 3.05 3.09 3.16 3.21 3.25 3.32", "76.51 62.3 63.4 64.3 67.1 81.6 130.7 201.6",
			"23.99 0.2 13.9 14.4 18.5 48.8 50.6 53.2", 9.16, 1171.39},
		{"constant-5", 11.54, 1331, "08:31:43", "08:33:43", 119.98,
			"512.33 512.0 512.0 512.0 514.0 514.0", "127.75 119.3 128.0 128.0 128.0 128.0",
			"4.61 3.56 4.29 4.36 4.66 4.83 5.02 5.39", "91.56 70.1 71.5 72.2 78.6 104.1 176.4 356.6",
			"35.39 0.2 13.1 19.8 27.7 53.8 54.7 70.4", 11.09, 1417.25},
		{"constant-6", 13.68, 1578, "08:33:43", "08:35:43", 119.49,
			"512.34 512.0 512.0 512.0 514.0 514.0", "127.75 118.0 128.0 128.0 128.0 128.0",
			"4.78 4.25 4.53 4.61 4.75 5.04 5.13 5.30", "212.79 61.9 74.5 81.1 149.6 460.8 538.6 712.5",
			"35.77 0.2 14.3 17.4 25.6 59.9 70.1 122.4", 13.21, 1687.03},
		{"constant-7", 15.81, 1798, "08:35:43", "08:37:43", 119.90,
			"512.36 512.0 512.0 512.0 514.0 514.0", "127.78 119.9 128.0 128.0 128.0 128.0",
			"4.81 4.11 4.27 4.35 4.72 5.41 6.05 6.28", "762.19 92.2 217.3 345.8 710.8 1255.9 1559.3 2121.3",
			"31.71 0.2 13.8 15.9 24.4 54.8 57.7 84.8", 15.00, 1916.20},
		{"constant-8", 17.95, 1885, "08:37:43", "08:39:43", 119.92,
			"512.36 512.0 512.0 512.0 514.0 514.0", "127.79 118.0 128.0 128.0 128.0 128.0",
			"8.74 4.11 4.40 4.71 8.49 13.42 14.13 14.62", "4904.15 129.0 666.0 1044.1 4703.2 9479.4 10238.6 10723.4",
			"30.04 0.1 0.2 0.2 22.2 55.1 61.2 112.8", 15.72, 2008.65},
		{"constant-9", 20.09, 2026, "08:39:44", "08:41:43", 119.35,
			"512.36 512.0 512.0 512.0 514.0 514.0", "127.79 123.0 128.0 128.0 128.0 128.0",
			"10.77 3.85 4.35 4.86 10.38 17.68 18.69 19.42", "7203.12 137.9 920.0 1499.8 6826.9 14005.3 14994.2 15808.3",
			"27.90 0.1 0.2 0.2 19.8 54.4 64.0 149.5", 16.98, 2169.26},
		{"throughput", 0, 505, "08:23:18", "08:23:43", 25.14,
			"512.38 512.0 512.0 512.0 514.0 514.0", "127.72 116.3 128.0 128.0 128.0 128.0",
			"6.79 3.02 3.24 3.35 6.70 9.33 9.59 10.19", "4279.14 295.8 497.8 692.8 4160.1 6786.1 7115.2 7739.8",
			"19.54 0.1 0.2 0.2 18.3 44.3 48.8 56.4", 20.09, 2565.91},
	}
}

func day(t *testing.T, clock string) time.Time {
	t.Helper()
	at, err := time.Parse(time.DateTime, "2025-04-15 "+clock)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// tokens and latencies parse "mean p1 p5 …"; what the seed does not show is filled in from what it does.
func tokens(t *testing.T, n int, text string) probe.Distribution {
	v := floats(t, text, 1)
	return probe.Distribution{Count: n, Mean: v[0], Min: v[1], P01: v[1], P05: v[2], P10: v[2], P25: v[3], P50: v[3],
		P75: v[3], P90: v[4], P95: v[4], P99: v[5], Max: v[5]}
}

func latencies(t *testing.T, n int, text string, unit float64) probe.Distribution {
	v := floats(t, text, unit)
	return probe.Distribution{Count: n, Mean: v[0], Min: v[1], P01: v[1], P05: v[2], P10: v[3], P25: v[3], P50: v[4],
		P75: v[4], P90: v[5], P95: v[6], P99: v[7], Max: v[7]}
}

func floats(t *testing.T, text string, unit float64) []float64 {
	t.Helper()
	var values []float64
	for _, field := range strings.Fields(text) {
		v, err := strconv.ParseFloat(field, 64)
		if err != nil {
			t.Fatal(err)
		}
		values = append(values, v*unit)
	}
	return values
}

// seedCycle is the seed's report as a cycle, in the order in which the benchmarks ran.
func seedCycle(t *testing.T) *probe.Cycle {
	t.Helper()
	c := &probe.Cycle{
		ID: "llama-4-maverick-20250415T082117Z",
		Endpoint: probe.Endpoint{Name: "llama-4-maverick", Model: "meta-llama/Llama-4-Maverick-17B-128E-Instruct",
			URL: "http://llm-inference-vllm-llama-4-maverick/v1"},
		Server: "vllm 0.8.3",
		Workload: probe.Workload{API: "chat", Tokenizer: "meta-llama/Llama-4-Maverick-17B-128E-Instruct",
			PromptTokens: probe.Length{Mean: 512}, OutputTokens: probe.Length{Mean: 128}},
		Profile: probe.ProfileSweep, MaxDuration: 2 * time.Minute, MaxConcurrency: 512,
		Started: day(t, "08:21:17"), Ended: day(t, "08:41:44"),
		Objectives: probe.Objectives{TimeToFirstTokenP90: 500 * time.Millisecond, ErrorRate: 0.01},
		Capacity: probe.Capacity{RequestsPerSecond: 20.09, OutputTokensPerSecond: 2565.91,
			ObjectiveRequestsPerSecond: 13.68},
	}
	var open []probe.Stage
	for _, row := range seedStages() {
		s := probe.Stage{
			Name: row.name, Profile: probe.ProfileConstant, TargetRate: row.rate, Completed: row.completed,
			RequestsPerSecond: row.requests, OutputTokensPerSecond: row.throughput,
			PromptTokens: tokens(t, row.completed, row.prompt), OutputTokens: tokens(t, row.completed, row.output),
			RequestDuration:   latencies(t, row.completed, row.latency, 1),
			TimeToFirstToken:  latencies(t, row.completed, row.ttft, 1e-3),
			InterTokenLatency: latencies(t, 127*row.completed, row.itl, 1e-3),
		}
		s.TimeToFirstAnswerToken = s.TimeToFirstToken // it does not reason
		// The seed's clock times and durations agree for a start at six tenths of the second.
		s.Started = day(t, row.start).Add(600 * time.Millisecond)
		s.Ended = s.Started.Add(time.Duration(row.duration * float64(time.Second)))
		s.WindowEnd = s.Ended.Sub(s.Started)
		if row.rate > 0 {
			s.Incomplete = max(0, int(row.rate*120)-row.completed)
			s.IncompleteOutputTokens = 64 * s.Incomplete
			open = append(open, s)
			continue
		}
		s.Profile = probe.Profile(row.name)
		c.Stages = append(c.Stages, s)
	}
	c.Stages = append(c.Stages, open...)
	return c
}

// troubledCycle has everything that can go wrong, and text from a server that means no good.
func troubledCycle(t *testing.T) *probe.Cycle {
	t.Helper()
	start := day(t, "23:59:00")
	answers := probe.Distribution{Count: 2, Mean: 0.012, Min: 0.009, P01: 0.00906, P05: 0.0093, P10: 0.0096, P25: 0.0105,
		P50: 0.012, P75: 0.0135, P90: 0.0144, P95: 0.0147, P99: 0.01494, Max: 0.015}
	few := probe.Distribution{Count: 3, Mean: 0.0004, Min: 0.0001, P01: 0.0001, P05: 0.0001, P10: 0.0002, P25: 0.0003,
		P50: 0.0004, P75: 0.0005, P90: 0.0006, P95: 0.0007, P99: 0.0008, Max: 0.0009}
	short := probe.Distribution{Count: 3, Mean: 511.67, Min: 480, P01: 480.4, P05: 482, P10: 484, P25: 490, P50: 500,
		P75: 527.5, P90: 544, P95: 549.5, P99: 553.9, Max: 555}
	return &probe.Cycle{
		ID: "qwen-20250415T235900Z",
		Endpoint: probe.Endpoint{Name: "通义千问-é́🇩🇪👩‍👩‍👧",
			Model: "=通义千问/Qwen3-235B-\x1b[31mA22B\x1b[0m-指令微调模型-超长名称-用于测试换行",
			URL:   "https://gateway.example.com:8443/tenants/0123456789abcdef0123456789abcdef/openai/v1"},
		Workload: probe.Workload{API: "completions", Tokenizer: "/models/tokenizer.json",
			PromptTokens: probe.Length{Mean: 512, Variance: 64, Min: 1, Max: 1024},
			OutputTokens: probe.Length{Mean: 16}, ExtraBody: `{"top_k":1}`},
		Profile: probe.ProfilePoisson, MaxDuration: 1500 * time.Millisecond, MaxRequests: 1_000_000,
		Started: start, Ended: start.Add(95 * time.Second),
		Objectives: probe.Objectives{InterTokenLatencyP90: 40 * time.Millisecond, RequestDurationP90: time.Minute},
		Stages: []probe.Stage{
			{
				Name: "constant-3", Profile: probe.ProfilePoisson, TargetRate: 1e6, Started: start.Add(time.Minute),
				Ended: start.Add(90 * time.Second), Completed: 3, Failed: 1_999_997, Incomplete: 250_000,
				IncompleteOutputTokens: 3_999_999, RequestsPerSecond: 0.001, OutputTokensPerSecond: 1.6e7,
				PromptTokens: short, OutputTokens: short, RequestDuration: few, TimeToFirstToken: few,
				TimeToFirstAnswerToken: answers, InterTokenLatency: few, ScheduleDelay: few, Retries: 7,
				NewConnections: 3, DNS: few, Connect: few, TLS: few,
				Failures: map[probe.Reason]int{probe.ReasonClientOverload: 1_999_990, probe.ReasonHTTP5xx: 6,
					probe.ReasonTLS: 1},
				FailureDetails: map[probe.Reason]string{
					probe.ReasonHTTP5xx: "503: \x1b]0;owned\a<html>\r\n\tupstream\u202e " +
						"connect error or disconnect/reset before headers\x00",
					probe.ReasonTLS: "x509: certificate signed by unknown authority",
				},
				Findings: []probe.Finding{
					{Name: probe.FindingScheduleDelay, Detail: "p99 of 812 ms, limit 10 ms", Invalidates: true},
					{Name: probe.FindingClientOverload, Detail: "1999990 of 2000000 requests never left, limit 512",
						Invalidates: true},
					{Name: probe.FindingNoServerUsage, Detail: "3 of 3 requests"},
				},
			},
			{Name: "constant-2", Profile: probe.ProfilePoisson, TargetRate: 0.0011, Started: start,
				Ended: start.Add(30 * time.Second), Incomplete: 1},
			{Name: "constant-1", Profile: probe.ProfilePoisson, TargetRate: 0.001},
		},
		Skipped: []probe.Skip{
			{Stage: "constant-4", Reason: "interrupted"},
			{Stage: "constant-5", Reason: "error_rate",
				Detail: "100 % of the requests of the stage before failed, limit 10 %"},
		},
		Failure: &probe.CycleFailure{Reason: probe.CycleInterrupted, Detail: "the process was told to stop"},
	}
}

// unreachableCycle could not measure anything.
func unreachableCycle(t *testing.T) *probe.Cycle {
	t.Helper()
	return &probe.Cycle{
		ID: "down-20250415T120000Z", Endpoint: probe.Endpoint{Name: "down", Model: "m", URL: "http://127.0.0.1:1/v1"},
		Workload: probe.Workload{API: "chat", Tokenizer: "m", PromptTokens: probe.Length{Mean: 512},
			OutputTokens: probe.Length{Mean: 128}},
		Profile: probe.ProfileSweep, MaxDuration: 2 * time.Minute, MaxConcurrency: 512,
		Started: day(t, "12:00:00"), Ended: day(t, "12:00:01"),
		Failure: &probe.CycleFailure{Reason: string(probe.ReasonConnect),
			Detail: "dial tcp 127.0.0.1:1: connect: connection refused"},
	}
}
