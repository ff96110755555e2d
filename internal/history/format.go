package history

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/inferprobe/inferprobe/internal/probe"
)

// schema names the form of a cycle on disk. Keys may be added to it; none is removed or changes its meaning.
const schema = "inferprobe/history/v1"

// What a file that encode made begins and ends with.
const (
	opening = "{\n  \"schema\": \"" + schema + "\",\n"
	closing = "\n}\n"
)

// The types below are history/v1. Times are RFC 3339 in UTC, null where none is set; durations are in seconds.
type (
	cycleJSON struct {
		Schema      string          `json:"schema"`
		ID          string          `json:"id"`
		Endpoint    string          `json:"endpoint"`
		Model       string          `json:"model"`
		URL         string          `json:"url"`
		Server      string          `json:"server"`
		Fingerprint string          `json:"fingerprint"`
		StartedAt   instant         `json:"started_at"`
		EndedAt     instant         `json:"ended_at"`
		Profile     probe.Profile   `json:"profile"`
		Workload    workloadJSON    `json:"workload"`
		Limits      limitsJSON      `json:"limits"`
		Objectives  objectivesJSON  `json:"objectives"`
		Capacity    capacityJSON    `json:"capacity"`
		Failure     *failureJSON    `json:"failure"`
		Skipped     []skipJSON      `json:"skipped"`
		Regression  *regressionJSON `json:"regression"`
		Stages      []stageJSON     `json:"stages"`
	}
	workloadJSON struct {
		API          string     `json:"api"`
		Tokenizer    string     `json:"tokenizer"`
		PromptTokens lengthJSON `json:"prompt_tokens"`
		OutputTokens lengthJSON `json:"output_tokens"`

		SharedPrefixTokens int `json:"shared_prefix_tokens"`

		ExtraBody string `json:"extra_body,omitempty"` // JSON in a text
	}
	lengthJSON struct {
		Mean     int `json:"mean"`
		Variance int `json:"variance"`
		Min      int `json:"min"`
		Max      int `json:"max"`
	}
	limitsJSON struct {
		MaxDuration    seconds `json:"max_duration_seconds"`
		MaxRequests    int     `json:"max_requests"`
		MaxConcurrency int     `json:"max_concurrency"`
	}
	objectivesJSON struct {
		TimeToFirstTokenP90  seconds `json:"time_to_first_token_p90_seconds"`
		InterTokenLatencyP90 seconds `json:"inter_token_latency_p90_seconds"`
		RequestDurationP90   seconds `json:"request_duration_p90_seconds"`
		ErrorRate            number  `json:"error_rate"`
	}
	capacityJSON struct {
		RequestsPerSecond          number        `json:"requests_per_second"`
		RequestsInterval           *intervalJSON `json:"requests_per_second_interval"`
		OutputTokensPerSecond      number        `json:"output_tokens_per_second"`
		ObjectiveRequestsPerSecond number        `json:"objective_requests_per_second"`
	}
	intervalJSON struct {
		Low  number `json:"low"`
		High number `json:"high"`
	}
	failureJSON struct {
		Reason string `json:"reason"`
		Detail string `json:"detail"`
	}
	skipJSON struct {
		Stage  string `json:"stage"`
		Reason string `json:"reason"`
		Detail string `json:"detail"`
	}
	regressionJSON struct {
		Baseline baselineJSON `json:"baseline"`
		Changes  []changeJSON `json:"changes"`
		Note     string       `json:"note"`
	}
	baselineJSON struct {
		Cycles []string `json:"cycles"`
		From   instant  `json:"from"`
		To     instant  `json:"to"`
	}
	changeJSON struct {
		Signal          probe.Signal `json:"signal"`
		Ratio           number       `json:"ratio"`
		PValue          number       `json:"p_value"`
		Samples         int          `json:"samples"`
		BaselineSamples int          `json:"baseline_samples"`
		Worse           bool         `json:"worse"`
		Detected        bool         `json:"detected"`
	}
	stageJSON struct {
		Name                    string            `json:"name"`
		Profile                 probe.Profile     `json:"profile"`
		TargetRate              number            `json:"target_requests_per_second"`
		StartedAt               instant           `json:"started_at"`
		EndedAt                 instant           `json:"ended_at"`
		WindowStart             seconds           `json:"window_start_seconds"`
		WindowEnd               seconds           `json:"window_end_seconds"`
		Requests                requestsJSON      `json:"requests"`
		RequestsPerSecond       number            `json:"requests_per_second"`
		RequestsInterval        *intervalJSON     `json:"requests_per_second_interval"`
		OutputTokensPerSecond   number            `json:"output_tokens_per_second"`
		InFlight                number            `json:"in_flight"`
		IncompleteOutputTokens  int               `json:"incomplete_output_tokens"`
		CachedTokens            int               `json:"cached_tokens"`
		TokensByTokenizer       int               `json:"tokens_by_tokenizer"`
		TokensByEvents          int               `json:"tokens_by_events"`
		Findings                []findingJSON     `json:"findings"`
		PromptTokens            *distributionJSON `json:"prompt_tokens"`
		ServerPromptTokens      *distributionJSON `json:"server_prompt_tokens"`
		OutputTokens            *distributionJSON `json:"output_tokens"`
		RequestDuration         *distributionJSON `json:"request_duration_seconds"`
		TimeToFirstToken        *distributionJSON `json:"time_to_first_token_seconds"`
		TimeToFirstAnswerToken  *distributionJSON `json:"time_to_first_answer_token_seconds"`
		InterTokenLatency       *distributionJSON `json:"inter_token_latency_seconds"`
		TimePerOutputToken      *distributionJSON `json:"time_per_output_token_seconds"`
		StreamStall             *distributionJSON `json:"stream_stall_seconds"`
		StreamStallP99          *intervalJSON     `json:"stream_stall_p99_bounds_seconds,omitempty"`
		TimeToFirstTokenExcess  *excessJSON       `json:"time_to_first_token_excess,omitempty"`
		InterTokenLatencyExcess *excessJSON       `json:"inter_token_latency_excess,omitempty"`
		RequestDurationExcess   *excessJSON       `json:"request_duration_excess,omitempty"`
		ScheduleDelay           *distributionJSON `json:"schedule_delay_seconds"`
		ReceiveLag              *distributionJSON `json:"receive_lag_seconds"`
		NewConnections          int               `json:"new_connections"`
		DNS                     *distributionJSON `json:"dns_seconds"`
		Connect                 *distributionJSON `json:"connect_seconds"`
		TLS                     *distributionJSON `json:"tls_seconds"`
		Samples                 *samplesJSON      `json:"request_samples,omitempty"`
	}
	requestsJSON struct {
		Completed       int                     `json:"completed"`
		Failed          int                     `json:"failed"`
		Incomplete      int                     `json:"incomplete"`
		Retries         int                     `json:"retries"`
		Failures        map[probe.Reason]int    `json:"failures,omitempty"`
		FailureExamples map[probe.Reason]string `json:"failure_examples,omitempty"`
	}
	excessJSON struct {
		Share   number `json:"share"`
		Samples int    `json:"effective_samples"`
	}
	findingJSON struct {
		Name        probe.FindingName `json:"name"`
		Detail      string            `json:"detail"`
		Invalidates bool              `json:"invalidates"`
	}
	distributionJSON struct {
		Count int    `json:"count"`
		Mean  number `json:"mean"`
		Min   number `json:"min"`
		P01   number `json:"p01"`
		P05   number `json:"p05"`
		P10   number `json:"p10"`
		P25   number `json:"p25"`
		P50   number `json:"p50"`
		P75   number `json:"p75"`
		P90   number `json:"p90"`
		P95   number `json:"p95"`
		P99   number `json:"p99"`
		Max   number `json:"max"`
	}
	// samplesJSON has a list for each value of a request sample; the n-th of each belong to one request.
	samplesJSON struct {
		TimeToFirstToken   []number `json:"time_to_first_token_seconds"`
		TimePerOutputToken []number `json:"time_per_output_token_seconds"`
		Duration           []number `json:"request_duration_seconds"`
	}
)

// number is a float64. NaN and the infinities, which JSON does not have, are strings.
type number float64

// MarshalJSON returns the shortest form that has the same value.
func (n number) MarshalJSON() ([]byte, error) {
	if v := float64(n); math.IsNaN(v) || math.IsInf(v, 0) {
		return []byte(`"` + strconv.FormatFloat(v, 'g', -1, 64) + `"`), nil
	}
	return json.Marshal(float64(n))
}

// UnmarshalJSON accepts what MarshalJSON makes. Null is zero.
func (n *number) UnmarshalJSON(data []byte) error {
	switch string(data) {
	case `"NaN"`:
		*n = number(math.NaN())
	case `"+Inf"`:
		*n = number(math.Inf(1))
	case `"-Inf"`:
		*n = number(math.Inf(-1))
	case "null":
		*n = 0
	default:
		v, err := strconv.ParseFloat(string(data), 64) // of one JSON value, whose numbers are all Go's, too
		if err != nil {
			return fmt.Errorf("%.20s is not a number", data)
		}
		*n = number(v)
	}
	return nil
}

// seconds is a duration, to the nanosecond up to forty days.
type seconds time.Duration

// MarshalJSON returns d in seconds.
func (d seconds) MarshalJSON() ([]byte, error) { return json.Marshal(float64(d) / 1e9) }

// UnmarshalJSON fails for what no duration can hold.
func (d *seconds) UnmarshalJSON(data []byte) error {
	var v float64
	if err := json.Unmarshal(data, &v); err != nil {
		return err
	}
	if math.Abs(v) > math.MaxInt64/1e9-1 {
		return fmt.Errorf("%v seconds are more than a duration can hold", v)
	}
	*d = seconds(math.Round(v * 1e9))
	return nil
}

// instant is a time in UTC, null if it is zero.
type instant time.Time

// MarshalJSON fails for a year that RFC 3339 cannot express.
func (i instant) MarshalJSON() ([]byte, error) {
	if time.Time(i).IsZero() {
		return []byte("null"), nil
	}
	return json.Marshal(time.Time(i).UTC())
}

// UnmarshalJSON fails for a time that could not be written again.
func (i *instant) UnmarshalJSON(data []byte) error {
	var t time.Time
	if err := json.Unmarshal(data, &t); err != nil {
		return err
	}
	if t = t.UTC(); t.Year() < 0 || t.Year() > 9999 {
		return fmt.Errorf("%s is in the year %d, want one from 0 to 9999", data, t.Year())
	}
	*i = instant(t)
	return nil
}

// encode returns the file of a cycle.
func encode(c *probe.Cycle) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(fromCycle(c)); err != nil {
		return nil, err
	}
	return layOut(bytes.TrimRight(b.Bytes(), "\n")), nil
}

// decode returns the cycle of a file that encode made. Keys it does not know are passed over. Another schema, and text
// after the object, are errors.
func decode(data []byte) (*probe.Cycle, error) {
	var j cycleJSON
	if err := json.Unmarshal(data, &j); err != nil || j.Schema != schema {
		return nil, whyNot(data, schema, err)
	}
	return toCycle(&j)
}

// whyNot says why data is no object of the schema that it should have; err is that of decoding it as such.
func whyNot(data []byte, want string, err error) error {
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Errorf("not JSON, or cut off: %w at byte %d of %d", err, syntax.Offset, len(data))
	}
	var head struct {
		Schema string `json:"schema"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return fmt.Errorf("not an object of %s: %w", want, err)
	}
	if head.Schema != want { // whose keys may be of other types
		return fmt.Errorf("schema is %q, want %q", head.Schema, want)
	}
	return err
}
