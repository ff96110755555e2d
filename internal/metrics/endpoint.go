package metrics

import (
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/inferprobe/inferprobe/internal/probe"
)

// Endpoint fills the series of one endpoint. Its methods may be called from many goroutines; once the endpoint is
// removed they do nothing.
type Endpoint struct {
	metrics  *Metrics
	endpoint probe.Endpoint
	labels   []Label

	connection      phases
	scheduleDelay   prometheus.Observer
	receiveLag      prometheus.Observer
	retries         prometheus.Counter
	inFlight        prometheus.Gauge
	success         prometheus.Gauge
	lastProbe       prometheus.Gauge
	lastSuccess     prometheus.Gauge
	cycles          prometheus.Counter
	cycleInProgress prometheus.Gauge
	cycleNextStart  prometheus.Gauge
	cycleLastEnd    prometheus.Gauge
	canaryInterval  prometheus.Gauge
	paused          prometheus.Gauge
	tokenBudget     prometheus.Gauge

	mu      sync.RWMutex
	closed  bool
	strange bool // it has series of the library's with a reason outside of the closed sets
	stages  map[string]*stage
	running bool         // a cycle
	next    time.Time    // when the next cycle is due
	last    *probe.Cycle // the last one that ran to its end
	judged  bool         // whether last knows which rate keeps the objectives, which takes too long for a scrape to ask
	server  string       // what answers, as the last cycle found out

	verdicts []probe.Change // of each signal the last one; only on what last can be compared with

	objectives probe.Objectives
}

// phases are the children of connection_phase_duration_seconds.
type phases struct{ dns, connect, tls prometheus.Observer }

// connectionPhases returns the labels of phases.
func connectionPhases() []string { return []string{"dns", "connect", "tls"} }

// stage is the series of one stage, at hand without a look-up by labels.
type stage struct {
	timeToFirstToken       prometheus.ExemplarObserver
	timeToFirstAnswerToken prometheus.Observer
	interTokenLatency      prometheus.Observer
	timePerOutputToken     prometheus.Observer
	requestDuration        prometheus.ExemplarObserver
	streamStall            prometheus.Observer
	requestOutputSpeed     prometheus.Observer

	requests     prometheus.Counter
	incomplete   prometheus.Counter
	failures     *failures
	promptTokens prometheus.Counter
	outputTokens prometheus.Counter
	cachedTokens prometheus.Counter

	lastExemplar atomic.Int64 // when the last one was given, in nanoseconds since 1970
}

func newStage(f *families, ep probe.Endpoint, name string) *stage {
	labels := []string{ep.Name, ep.Model, name}
	s := &stage{
		timeToFirstToken:       withExemplars(f.timeToFirstToken, labels),
		timeToFirstAnswerToken: f.timeToFirstAnswerToken.WithLabelValues(labels...),
		interTokenLatency:      f.interTokenLatency.WithLabelValues(labels...),
		timePerOutputToken:     f.timePerOutputToken.WithLabelValues(labels...),
		requestDuration:        withExemplars(f.requestDuration, labels),
		streamStall:            f.streamStall.WithLabelValues(labels...),
		requestOutputSpeed:     f.requestOutputSpeed.WithLabelValues(labels...),
		requests:               f.requests.WithLabelValues(labels...),
		incomplete:             f.requestsIncomplete.WithLabelValues(labels...),
		promptTokens:           f.promptTokens.WithLabelValues(labels...),
		outputTokens:           f.outputTokens.WithLabelValues(labels...),
		cachedTokens:           f.cachedTokens.WithLabelValues(labels...),
	}
	s.failures = newFailures(s.requests)
	return s
}

// withExemplars returns a child of a histogram as that which takes exemplars, which every child of one is.
func withExemplars(v *prometheus.HistogramVec, labels []string) prometheus.ExemplarObserver {
	return v.WithLabelValues(labels...).(prometheus.ExemplarObserver) //nolint:forcetypeassert // documented
}

// create makes the series of the endpoint itself, and gives those of a fresh one that have no value yet their first.
func (e *Endpoint) create(fresh bool) {
	f, name, model := &e.metrics.families, e.endpoint.Name, e.endpoint.Model
	e.connection = phases{
		dns:     f.connectionPhase.WithLabelValues(name, model, "dns"),
		connect: f.connectionPhase.WithLabelValues(name, model, "connect"),
		tls:     f.connectionPhase.WithLabelValues(name, model, "tls"),
	}
	e.scheduleDelay = f.scheduleDelay.WithLabelValues(name, model)
	e.receiveLag = f.receiveLag.WithLabelValues(name, model)
	e.retries = f.requestRetries.WithLabelValues(name, model)
	e.inFlight = f.requestsInFlight.WithLabelValues(name, model)
	e.success = f.probeSuccess.WithLabelValues(name, model)
	e.lastProbe = f.lastProbe.WithLabelValues(name, model)
	e.lastSuccess = f.lastSuccess.WithLabelValues(name, model)
	e.cycles = f.cycles.WithLabelValues(name, model)
	e.cycleInProgress = f.cycleInProgress.WithLabelValues(name, model)
	e.cycleNextStart = f.cycleNextStart.WithLabelValues(name, model)
	e.cycleLastEnd = f.cycleLastEnd.WithLabelValues(name, model)
	for _, reason := range probe.CycleFailureReasons() {
		f.cycleFailures.WithLabelValues(name, model, reason)
	}
	for _, reason := range skipReasons() {
		f.runsSkipped.WithLabelValues(name, model, reason)
	}
	e.canaryInterval = f.canaryInterval.WithLabelValues(name, model)
	e.paused = f.paused.WithLabelValues(name, model)
	e.tokenBudget = f.tokenBudget.WithLabelValues(name, model)
	if fresh {
		e.success.Set(math.NaN())
		e.tokenBudget.Set(math.NaN())
	}
	e.setRunning(e.running)
	e.cycleNextStart.Set(timestamp(e.next))
}

// replace takes over from old, which does nothing from now on: where the endpoint stands, and with the same labels what
// the last cycle found. It returns the failures by stage, which go on counting then.
func (e *Endpoint) replace(old *Endpoint) map[string]*failures {
	old.mu.Lock()
	defer old.mu.Unlock()
	old.closed = true
	kept := make(map[string]*failures)
	e.running, e.next, e.objectives = old.running, old.next, old.objectives
	if old.endpoint.Model == e.endpoint.Model {
		e.last, e.judged, e.verdicts = old.last, old.judged, old.verdicts
		e.server, e.strange = old.server, old.strange
		for name, s := range old.stages {
			kept[name] = s.failures
		}
	}
	return kept
}

// stageNames returns the names of all stages in a fixed order. The caller holds mu, or the endpoint is closed.
func (e *Endpoint) stageNames() []string {
	names := make([]string, 0, len(e.stages))
	for name := range e.stages {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// stage returns the series of a stage, which it makes if they were not announced to Add; nil once the endpoint is
// removed.
func (e *Endpoint) stage(name string) *stage {
	e.mu.RLock()
	s, closed := e.stages[name], e.closed
	e.mu.RUnlock()
	if s != nil && !closed {
		return s
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil
	}
	if e.stages[name] == nil {
		e.stages[name] = newStage(&e.metrics.families, e.endpoint, name)
	}
	return e.stages[name]
}

// InFlight adds delta to the number of requests in flight.
func (e *Endpoint) InFlight(delta int) { e.inFlight.Add(float64(delta)) }

// Record counts and observes one request that ended. It does not keep r.
func (e *Endpoint) Record(stage string, r *probe.Result) {
	s := e.stage(stage)
	if s == nil {
		return
	}
	s.requests.Inc()
	switch r.Outcome {
	case probe.Failed:
		s.failures.add(r.Reason)
	case probe.Incomplete:
		s.incomplete.Inc()
	case probe.Completed:
		s.observe(r)
	}
	s.count(r)
	e.observe(r)
}

// count adds up tokens, whatever the outcome.
func (s *stage) count(r *probe.Result) {
	if prompt := r.PromptTokens; prompt > 0 {
		s.promptTokens.Add(float64(prompt))
	} else if r.Request != nil && len(r.Arrivals) > 0 {
		s.promptTokens.Add(float64(max(r.Request.PromptTokens, 0)))
	}
	s.outputTokens.Add(float64(max(r.OutputTokens, 0)))
	s.cachedTokens.Add(float64(max(r.CachedTokens, 0)))
}

// observe takes the times of a completed request.
func (s *stage) observe(r *probe.Result) {
	labels := s.exemplar(r, time.Now())
	observeExample(s.requestDuration, r.End, labels)
	if d, ok := r.TimeToFirstToken(); ok {
		observeExample(s.timeToFirstToken, d, labels)
	}
	if d, ok := r.TimeToFirstAnswerToken(); ok {
		observe(s.timeToFirstAnswerToken, d)
	}
	if d, ok := r.TimePerOutputToken(); ok {
		observe(s.timePerOutputToken, d)
	}
	if d, ok := r.Stall(); ok {
		observe(s.streamStall, d)
	}
	if v, ok := r.OutputTokensPerSecond(); ok && !math.IsNaN(v) && !math.IsInf(v, 0) {
		s.requestOutputSpeed.Observe(max(v, 0))
	}
	for latency, samples := range r.InterTokenLatencies {
		for range samples {
			observe(s.interTokenLatency, latency)
		}
	}
}

// observe takes what does not depend on the outcome: connections and the prober's own delays.
func (e *Endpoint) observe(r *probe.Result) {
	e.retries.Add(float64(r.Retries))
	if r.NewConn {
		observePhase(e.connection.dns, r.Phases.DNS)
		observePhase(e.connection.connect, r.Phases.Connect)
		observePhase(e.connection.tls, r.Phases.TLS)
	}
	if d, ok := r.ScheduleDelay(); ok {
		observe(e.scheduleDelay, d)
	}
	for i := range r.Arrivals {
		observePhase(e.receiveLag, r.Arrivals[i].Lag)
	}
}

// observe takes a duration. One below zero, as clocks of different origin can give, is none: a negative observation
// would make the sum of a histogram decrease, which Prometheus takes for a restart.
func observe(o prometheus.Observer, d time.Duration) { o.Observe(max(d, 0).Seconds()) }

// exemplarEvery is how often a stage gives an exemplar at most: it allocates a dozen times, an observation
// not at all, and a scrape takes the last one of a bucket. No model is so fast that it would matter.
const exemplarEvery = 10 * time.Millisecond

// exemplar returns the labels by which an exemplar leads to the request in the logs and traces of those that served it,
// nil where it has none or another had one just now. OpenMetrics allows 128 characters, names included; ours are at
// most 98.
func (s *stage) exemplar(r *probe.Result, now time.Time) prometheus.Labels {
	last := s.lastExemplar.Load()
	since := time.Duration(now.UnixNano() - last) // below zero where somebody has set the clock back
	if r.ID == "" || r.TraceID == "" || 0 <= since && since < exemplarEvery ||
		!s.lastExemplar.CompareAndSwap(last, now.UnixNano()) {
		return nil
	}
	return prometheus.Labels{"request_id": r.ID, "trace_id": r.TraceID}
}

// observeExample takes a duration with an exemplar, where there are labels for one.
func observeExample(o prometheus.ExemplarObserver, d time.Duration, labels prometheus.Labels) {
	o.ObserveWithExemplar(max(d, 0).Seconds(), labels)
}

// observePhase takes a duration that is zero where there was nothing to measure.
func observePhase(o prometheus.Observer, d time.Duration) {
	if d > 0 {
		o.Observe(d.Seconds())
	}
}

// CycleStarted says that a cycle runs.
func (e *Endpoint) CycleStarted() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.setRunning(true)
}

func (e *Endpoint) setRunning(running bool) {
	e.running = running
	e.cycleInProgress.Set(number(running))
}

// NextStart says when the next cycle is due; the zero time says that none is.
func (e *Endpoint) NextStart(t time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.next = t
	e.cycleNextStart.Set(timestamp(t))
}

// Skipped counts a cycle that was due and not started; reason is one of the Skip constants.
func (e *Endpoint) Skipped(reason string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.closed {
		e.strange = e.strange || !slices.Contains(skipReasons(), reason)
		e.metrics.runsSkipped.WithLabelValues(e.endpoint.Name, e.endpoint.Model, reason).Inc()
	}
}

// CycleEnded counts a cycle that ended, and shows its values if it ran to its end. c must not be changed afterwards.
func (e *Endpoint) CycleEnded(c *probe.Cycle) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return
	}
	e.setRunning(false)
	e.cycles.Inc()
	e.cycleLastEnd.Set(timestamp(c.Ended))
	if c.Server != "" {
		e.server = c.Server
	}
	if c.Failure != nil {
		e.strange = e.strange || !slices.Contains(probe.CycleFailureReasons(), c.Failure.Reason)
		e.metrics.cycleFailures.WithLabelValues(e.endpoint.Name, e.endpoint.Model, c.Failure.Reason).Inc()
	} else {
		e.finished(c)
	}
	if success, known := verdict(c); known {
		e.answered(success, c.Ended)
	}
}

// finished shows the values of a cycle that ran to its end. A signal that it could not judge keeps its last verdict: an
// alert ends because the endpoint is as before, not because nobody can tell. The caller holds mu.
func (e *Endpoint) finished(c *probe.Cycle) {
	var verdicts []probe.Change
	if c.Regression != nil {
		verdicts = slices.Clone(c.Regression.Changes)
	}
	if e.last != nil && e.last.Fingerprint == c.Fingerprint {
		for _, old := range e.verdicts {
			if !slices.ContainsFunc(verdicts, func(v probe.Change) bool { return v.Signal == old.Signal }) {
				verdicts = append(verdicts, old)
			}
		}
	}
	e.last, e.judged, e.verdicts = c, c.ObjectivesJudged(), verdicts
}

// Restore shows the values of a cycle that ended in an earlier process, without counting it. Several are to be restored
// in the order in which they ended.
func (e *Endpoint) Restore(c *probe.Cycle) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return
	}
	e.finished(c)
	e.server = c.Server
	e.cycleLastEnd.Set(timestamp(c.Ended))
	if success, known := verdict(c); known {
		e.answered(success, c.Ended)
	}
}

// CanaryEnded says whether the endpoint answered a canary's request.
func (e *Endpoint) CanaryEnded(success bool, at time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.closed {
		e.answered(success, at)
	}
}

func (e *Endpoint) answered(success bool, at time.Time) {
	e.success.Set(number(success))
	e.lastProbe.Set(timestamp(at))
	if success {
		e.lastSuccess.Set(timestamp(at))
	}
}

// Objectives says what the endpoint should keep.
func (e *Endpoint) Objectives(o probe.Objectives) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.objectives = o
}

// CanaryInterval says how often the canary sends a request; 0 says that there is none.
func (e *Endpoint) CanaryInterval(d time.Duration) { e.canaryInterval.Set(d.Seconds()) }

// Paused says whether an operator has paused the measuring.
func (e *Endpoint) Paused(paused bool) { e.paused.Set(number(paused)) }

// TokenBudget says how many tokens the endpoint may still be asked for on this day.
func (e *Endpoint) TokenBudget(left int64) { e.tokenBudget.Set(float64(left)) }

// OfEndpoint reports whether a failure of that reason says something about the endpoint, and not only about us.
func OfEndpoint(reason string) bool {
	switch reason {
	case probe.CycleTokenizer, probe.CycleContext, probe.CycleInterrupted, probe.CycleInternal,
		string(probe.ReasonCancelled), string(probe.ReasonClientOverload):
		return false
	}
	return true
}

// verdict says whether the endpoint answered, and whether the cycle can tell: what went wrong on our own side says
// nothing about the endpoint.
func verdict(c *probe.Cycle) (success, known bool) {
	if c.Failure != nil {
		return false, OfEndpoint(c.Failure.Reason)
	}
	answered := slices.ContainsFunc(c.Stages, func(s probe.Stage) bool { return s.Completed > 0 })
	return answered, true
}
