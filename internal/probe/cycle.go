package probe

import (
	"math"
	"slices"
	"time"
)

// Profile is the shape of the load of one cycle.
type Profile string

// The profiles, named as GuideLLM names them.
const (
	ProfileSweep       Profile = "sweep"       // synchronous, throughput, then constant rates between the two
	ProfileSynchronous Profile = "synchronous" // one request after another
	ProfileThroughput  Profile = "throughput"  // as many at once as allowed
	ProfileConstant    Profile = "constant"    // open loop, evenly spaced
	ProfilePoisson     Profile = "poisson"     // open loop, exponential gaps
)

// Profiles returns every profile.
func Profiles() []Profile {
	return []Profile{ProfileSweep, ProfileSynchronous, ProfileThroughput, ProfileConstant, ProfilePoisson}
}

// Names of the stages of a sweep. The numbered ones are constant-1 … constant-9, also where arrivals are Poisson: the
// name is a label that must not change from cycle to cycle.
const (
	StageSynchronous = "synchronous"
	StageThroughput  = "throughput"
	StageCanary      = "canary"
	StageNone        = "" // of requests between stages, which cost tokens and are nobody's observation
)

// Workload is the emulated data of a cycle.
type Workload struct {
	API          string // "chat" or "completions"
	Tokenizer    string // as configured: a Hub repository, a folder or a file
	PromptTokens Length
	OutputTokens Length
	// SharedPrefixTokens is with how many tokens, the same ones, every prompt of the cycle begins: what a prefix cache
	// then saves is what is measured. 0 = prompts are unique from their first token.
	SharedPrefixTokens int
	// ExtraBody has the fields of every request body beside those of the API, a JSON object without white space; "" = none.
	ExtraBody string
}

// Length is a number of tokens with the spread that GuideLLM v0.1 knew. Without Variance lengths are Mean, or uniform in
// [Min, Max] where these are set; with it they are normal around Mean, cut to [Min, Max].
type Length struct {
	Mean     int
	Variance int
	Min, Max int // 0 = not set
}

// Least returns the least length that may come.
func (l Length) Least() int {
	if l.Min <= 0 && l.Variance <= 0 {
		return max(l.Mean, 1)
	}
	return max(l.Min, 1)
}

// Cycle is one run of a sweep, or of another profile, on one endpoint.
type Cycle struct {
	ID          string // endpoint name and start time
	Endpoint    Endpoint
	Server      string // what answers, as far as it says: "vllm 0.32.0"; empty if unknown
	Workload    Workload
	Profile     Profile
	MaxDuration time.Duration // limit of each stage
	MaxRequests int           // limit of each stage, 0 = none
	// MaxConcurrency is how many requests the throughput stage has in flight; 0 where the profile has no such stage.
	MaxConcurrency int
	Started        time.Time
	Ended          time.Time
	Stages         []Stage // in the order in which they ran
	Skipped        []Skip
	Failure        *CycleFailure // nil if every stage ran or was skipped on purpose
	Objectives     Objectives
	Capacity       Capacity
	Fingerprint    string      // equal for cycles that can be compared: what was asked of which model, and how
	Regression     *Regression // against earlier cycles; nil where none was sought
}

// Regression is a cycle held against its baseline: the last good cycles of the same Fingerprint.
type Regression struct {
	Baseline Baseline
	Changes  []Change // one a signal that could be compared
	Note     string   // why there is no verdict, or not on every signal; "" if there is nothing to say
}

// Detected reports whether any signal has become worse, and not in one cycle alone.
func (r *Regression) Detected() bool {
	return r != nil && slices.ContainsFunc(r.Changes, func(c Change) bool { return c.Detected })
}

// Baseline names the cycles that a regression was judged by.
type Baseline struct {
	Cycles   []string // IDs, oldest first
	From, To time.Time
}

// Signal is a property of an endpoint that can become worse.
type Signal string

// The signals. The first three are of the synchronous stage, by request; capacity is the rate of the throughput stage,
// by cycle.
const (
	SignalTimeToFirstToken   Signal = "time_to_first_token"
	SignalTimePerOutputToken Signal = "time_per_output_token"
	SignalRequestDuration    Signal = "request_duration"
	SignalCapacity           Signal = "capacity"
)

// Signals returns every Signal.
func Signals() []Signal {
	return []Signal{SignalTimeToFirstToken, SignalTimePerOutputToken, SignalRequestDuration, SignalCapacity}
}

// Change is one signal against its baseline.
type Change struct {
	Signal          Signal
	Ratio           float64 // of the cycle's value to the baseline's: 1.1 is a tenth slower, for capacity a tenth more
	PValue          float64 // of a change that large, up or down, by chance; corrected for the number of signals
	Samples         int     // requests of this cycle; for capacity 1
	BaselineSamples int     // requests of the baseline; for capacity cycles
	Worse           bool    // this cycle alone: by more than the least effect, and not by chance
	// Detected says that this cycle and the one before are worse: each alone, or both by the least effect and not by
	// chance together with those before them.
	Detected bool
}

// CycleFailure is why a cycle could not be run to its end.
type CycleFailure struct {
	Reason string // a Reason, or one of the cycle's own: see CycleFailureReasons
	Detail string // one line
}

// Reasons of a failed cycle beside those of a request.
const (
	CycleTokenizer   = "tokenizer"      // the tokenizer could not be had, or prompts cannot be made with it
	CycleDiscovery   = "discovery"      // the endpoint serves no model, or not the one configured
	CycleContext     = "context_length" // prompt and answer do not fit the model's context
	CycleInterrupted = "interrupted"    // we were told to stop in the middle
	CycleInternal    = "internal"       // a fault of our own
)

// CycleFailureReasons returns every reason a cycle can fail with.
func CycleFailureReasons() []string {
	reasons := []string{CycleTokenizer, CycleDiscovery, CycleContext, CycleInterrupted, CycleInternal}
	for _, r := range Reasons() {
		reasons = append(reasons, string(r))
	}
	return reasons
}

// Skip is a stage that was not run, with its reason.
type Skip struct {
	Stage  string
	Reason string // a word: "error_rate", "interrupted", "no_rate", "yielded_to_users", "token_budget", "window", …
	Detail string
}

// Objectives are the limits that an endpoint should keep; zero where none is set.
type Objectives struct {
	TimeToFirstTokenP90  time.Duration
	InterTokenLatencyP90 time.Duration
	RequestDurationP90   time.Duration
	ErrorRate            float64 // of completed and failed requests, 0…1
}

// IsZero reports whether no objective is set.
func (o Objectives) IsZero() bool { return o == Objectives{} }

// Capacity is what a cycle found the endpoint can bear; zero where it found nothing.
type Capacity struct {
	RequestsPerSecond     float64  // rate of the throughput stage
	RequestsInterval      Interval // of that rate: Stage.RequestsInterval
	OutputTokensPerSecond float64
	// ObjectiveRequestsPerSecond is Cycle.ObjectiveRate.
	ObjectiveRequestsPerSecond float64
}

// ObjectiveShare is the part of the endpoint's capacity that can be used within the objectives, 0…1 and a little more
// where chance has it; false where either rate is not known. It is no finer than the steps between the rates measured.
func (c Capacity) ObjectiveShare() (share float64, ok bool) {
	if c.RequestsPerSecond <= 0 || c.ObjectiveRequestsPerSecond <= 0 {
		return 0, false
	}
	return c.ObjectiveRequestsPerSecond / c.RequestsPerSecond, true
}

// Interval is between what values one lies, with 95 % confidence where its field does not say otherwise; zero where there
// is none.
type Interval struct{ Low, High float64 }

// IsZero reports whether there is no interval.
func (i Interval) IsZero() bool { return i == Interval{} }

// Stage is the outcome of one benchmark of a cycle.
type Stage struct {
	Name       string
	Profile    Profile // synchronous, throughput, constant or poisson
	TargetRate float64 // requests/s of an open loop, 0 for a closed one
	Started    time.Time
	Ended      time.Time

	Completed, Failed, Incomplete int
	Failures                      map[Reason]int
	FailureDetails                map[Reason]string // one example each
	Retries                       int               // sends repeated because a pooled connection was stale

	// RequestsPerSecond and OutputTokensPerSecond are rates over the measured window: the stage without its ramp.
	// Output tokens count by the time of their arrival, those of unfinished requests too.
	RequestsPerSecond     float64
	OutputTokensPerSecond float64
	RequestsInterval      Interval      // of RequestsPerSecond, where a throughput stage has settled
	WindowStart           time.Duration // since Started
	WindowEnd             time.Duration
	InFlight              float64 // mean over the window

	IncompleteOutputTokens int

	// Distributions over completed requests; of gaps, for InterTokenLatency. Durations in seconds.
	PromptTokens           Distribution
	OutputTokens           Distribution
	RequestDuration        Distribution
	TimeToFirstToken       Distribution
	TimeToFirstAnswerToken Distribution
	InterTokenLatency      Distribution
	TimePerOutputToken     Distribution
	StreamStall            Distribution
	// StreamStallP99 bounds, in seconds and for certain, the true 99th percentile of the stalls where late reads hide how
	// long the longest gaps were; zero where StreamStall tells it.
	StreamStallP99 Interval
	// How often the limits of Cycle.Objectives were exceeded; zero where there is none.
	TimeToFirstTokenExcess, InterTokenLatencyExcess, RequestDurationExcess Excess
	// Distributions over every request that was sent.
	ScheduleDelay Distribution
	ReceiveLag    Distribution // of every arrival
	// Connections that requests of whatever outcome had to open, and what that took. No latency holds these times.
	NewConnections int
	DNS            Distribution // where there was a name to look up
	Connect        Distribution
	TLS            Distribution // where there is TLS

	ServerPromptTokens Distribution // prompt tokens as the server counted them
	CachedTokens       int          // prompt tokens that servers said they took from a cache
	TokensByTokenizer  int          // completed requests whose output tokens the tokenizer counted for want of usage …
	TokensByEvents     int          // … and those of which events were counted, for want of both

	// Requests are single completed requests, in the order in which they completed, for tests by rank. Only a synchronous
	// stage has them, MaxRequestSamples at most: in a loaded one requests are not independent of each other.
	Requests []RequestSample

	Findings []Finding
}

// MaxRequestSamples is how many of a stage's requests are kept; of more a uniform sample is.
const MaxRequestSamples = 500

// RequestSample is what one completed request says about the endpoint's speed, in seconds; 0 where it has no such value.
type RequestSample struct {
	TimeToFirstToken   float64
	TimePerOutputToken float64
	Duration           float64
}

// Valid reports whether the measurement itself can be trusted: no finding says otherwise.
func (s *Stage) Valid() bool {
	return !slices.ContainsFunc(s.Findings, func(f Finding) bool { return f.Invalidates })
}

// Finding is something about the measurement, not about the endpoint's speed, that a reader must know.
type Finding struct {
	Name        FindingName
	Detail      string // one line with the numbers behind it
	Invalidates bool   // the stage's numbers are not to be trusted
}

// FindingName is a closed set: the invalid_reasons of report/v1.
type FindingName string

// The findings.
const (
	FindingScheduleDelay  FindingName = "schedule_delay"   // requests left late: the open loop was not open
	FindingReceiveLag     FindingName = "receive_lag"      // this process saw answers late
	FindingCPUThrottled   FindingName = "cpu_throttled"    // the cgroup's quota held this process back
	FindingTokenMismatch  FindingName = "token_mismatch"   // prompts are not as long as the tokenizer says
	FindingTooFewSamples  FindingName = "too_few_samples"  // too few requests to bound a 90th percentile
	FindingOutputLength   FindingName = "output_length"    // the server did not produce the length asked for
	FindingClientOverload FindingName = "client_overload"  // our own in-flight limit failed requests
	FindingNotSettled     FindingName = "not_settled"      // the throughput stage ended before its rate settled
	FindingCachedPrompts  FindingName = "cached_prompts"   // the server's prefix cache took part
	FindingNoServerUsage  FindingName = "no_server_usage"  // output tokens were counted by events
	FindingTokensPerEvent FindingName = "tokens_per_event" // several tokens an event, counts unknown: gaps are per event
	FindingEndedByGuard   FindingName = "ended_by_guard"   // a guard ended the stage before its time
	FindingForeignLoad    FindingName = "foreign_load"     // other users' requests were there, too
	FindingCarryOver      FindingName = "carry_over"       // the endpoint was still at requests of the stage before
	FindingCensored       FindingName = "censored"         // requests cut off had waited too long for the percentiles to hold
)

// FindingNames returns every FindingName.
func FindingNames() []FindingName {
	return []FindingName{
		FindingScheduleDelay, FindingReceiveLag, FindingCPUThrottled, FindingTokenMismatch, FindingTooFewSamples,
		FindingOutputLength, FindingClientOverload, FindingNotSettled, FindingCachedPrompts, FindingNoServerUsage,
		FindingTokensPerEvent, FindingEndedByGuard, FindingForeignLoad,
		FindingCarryOver, FindingCensored,
	}
}

// Distribution summarises observations. Quantiles interpolate linearly between order statistics (Hyndman and Fan's
// type 7, numpy's default). With Count 0 the other fields mean nothing.
type Distribution struct {
	Count                                       int
	Mean, Min, Max                              float64
	P01, P05, P10, P25, P50, P75, P90, P95, P99 float64
}

// MinSamples is the number of independent observations from which on quantile q, 0 < q < 1, is bounded on both sides with
// 95 % confidence by order statistics: the smallest n with max(q, 1−q)^n ≤ 0.025 (p50 6, p75 13, p90 36, p95 72, p99 368).
func MinSamples(q float64) int { return int(math.Ceil(math.Log(0.025) / math.Log(max(q, 1-q)))) }
