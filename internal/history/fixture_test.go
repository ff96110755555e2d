package history

import (
	"bytes"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/inferprobe/inferprobe/internal/probe"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

// logBuffer is a log that a test can read.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// take returns what was logged since the last take.
func (l *logBuffer) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.b.Reset()
	return l.b.String()
}

func newLog() (*slog.Logger, *logBuffer) {
	b := new(logBuffer)
	return slog.New(slog.NewTextHandler(b, nil)), b
}

var start = time.Date(2026, 3, 1, 2, 4, 5, 6_000_000, time.UTC)

// cycleAt is a small cycle that the endpoint could have had.
func cycleAt(endpoint string, started time.Time) *probe.Cycle {
	return &probe.Cycle{
		ID:       endpoint + "-" + started.UTC().Format(timeLayout),
		Endpoint: probe.Endpoint{Name: endpoint, Model: "m", URL: "http://localhost/v1"},
		Profile:  probe.ProfileSynchronous, Started: started.UTC(), Ended: started.UTC().Add(time.Minute),
		Stages: []probe.Stage{{Name: probe.StageSynchronous, Profile: probe.ProfileSynchronous, Completed: 1}},
	}
}

// fill sets everything in v to something other than zero, no two alike.
type fill int

func (n *fill) set(v reflect.Value) {
	*n++
	if v.Type() == reflect.TypeFor[time.Time]() {
		v.Set(reflect.ValueOf(start.Add(time.Duration(*n) * time.Second)))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			n.set(v.Field(i))
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		n.set(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		n.set(v.Index(0))
		n.set(v.Index(1))
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		n.set(key)
		n.set(value)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(*n))
	case reflect.Float64:
		v.SetFloat(float64(*n) + 0.5)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.String:
		v.SetString(fmt.Sprintf("<%d> é\n\"", *n))
	default:
		panic("fill knows no " + v.Kind().String())
	}
}

// filledCycle has every field set.
func filledCycle() *probe.Cycle {
	c := new(probe.Cycle)
	new(fill).set(reflect.ValueOf(c).Elem())
	return c
}

// sweepCycle is a whole sweep of eleven stages, with as many samples of its synchronous stage.
func sweepCycle(endpoint string, started time.Time, samples int) *probe.Cycle {
	random := rand.New(rand.NewPCG(1, 2))
	distribution := func() probe.Distribution {
		v := func() float64 { return random.ExpFloat64() / 10 }
		return probe.Distribution{Count: 500, Mean: v(), Min: v(), P01: v(), P05: v(), P10: v(), P25: v(), P50: v(),
			P75: v(), P90: v(), P95: v(), P99: v(), Max: v()}
	}
	c := cycleAt(endpoint, started)
	c.Profile, c.MaxDuration, c.MaxConcurrency = probe.ProfileSweep, 2*time.Minute, 512
	c.Server, c.Fingerprint = "vllm 0.32.0", "4b1d6f3e"
	c.Workload = probe.Workload{API: "chat", Tokenizer: "org/model", PromptTokens: probe.Length{Mean: 512},
		OutputTokens: probe.Length{Mean: 128}, SharedPrefixTokens: 128, ExtraBody: `{"top_k":1}`}
	c.Objectives = probe.Objectives{TimeToFirstTokenP90: 500 * time.Millisecond, ErrorRate: 0.01}
	c.Capacity = probe.Capacity{RequestsPerSecond: 20.09, OutputTokensPerSecond: 2565.91,
		RequestsInterval: probe.Interval{Low: 19.5, High: 20.7}}
	c.Skipped = []probe.Skip{{Stage: "constant-9", Reason: "error_rate", Detail: "12 % failed"}}
	c.Regression = &probe.Regression{Note: "only 2 earlier cycles"}
	c.Stages = nil
	for i := range 11 {
		at := started.Add(time.Duration(i) * 2 * time.Minute)
		s := probe.Stage{
			Name: fmt.Sprintf("constant-%d", i-1), Profile: probe.ProfileConstant, TargetRate: float64(i) * 1.7,
			Started: at, Ended: at.Add(2 * time.Minute), Completed: 500, Failed: 2, Incomplete: 3,
			Failures:          map[probe.Reason]int{probe.ReasonHTTP5xx: 2},
			FailureDetails:    map[probe.Reason]string{probe.ReasonHTTP5xx: "503: overloaded"},
			RequestsPerSecond: random.Float64(), OutputTokensPerSecond: 100 * random.Float64(),
			WindowEnd: 2 * time.Minute, InFlight: random.Float64(),
			PromptTokens: distribution(), OutputTokens: distribution(),
			RequestDuration: distribution(), TimeToFirstToken: distribution(), TimeToFirstAnswerToken: distribution(),
			InterTokenLatency: distribution(), TimePerOutputToken: distribution(), StreamStall: distribution(),
			ScheduleDelay: distribution(), ReceiveLag: distribution(), ServerPromptTokens: distribution(),
			TimeToFirstTokenExcess: probe.Excess{Share: 0.25, Samples: 400},
			NewConnections:         500, DNS: distribution(), Connect: distribution(), TLS: distribution(),
			Findings: []probe.Finding{{Name: probe.FindingNoServerUsage, Detail: "500 of 500 requests"}},
		}
		switch i {
		case 0:
			s.Name, s.Profile, s.TargetRate = probe.StageSynchronous, probe.ProfileSynchronous, 0
			for range samples {
				s.Requests = append(s.Requests, probe.RequestSample{TimeToFirstToken: random.ExpFloat64() / 10,
					TimePerOutputToken: random.ExpFloat64() / 100, Duration: random.ExpFloat64()})
			}
		case 1:
			s.Name, s.Profile, s.TargetRate = probe.StageThroughput, probe.ProfileThroughput, 0
		}
		c.Stages = append(c.Stages, s)
	}
	return c
}
