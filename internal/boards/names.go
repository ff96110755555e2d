package boards

// The metrics that boards show, as package metrics declares them; a query with a name that is not declared, or with a
// label that the metric does not have, fails the tests.
const (
	requests           = "inferprobe_requests_total"
	requestFailures    = "inferprobe_request_failures_total"
	requestsIncomplete = "inferprobe_requests_incomplete_total"
	requestsInFlight   = "inferprobe_requests_in_flight"
	promptTokens       = "inferprobe_prompt_tokens_total"
	outputTokens       = "inferprobe_output_tokens_total"
	cachedTokens       = "inferprobe_cached_tokens_total"

	timeToFirstToken       = "inferprobe_time_to_first_token_seconds"
	timeToFirstAnswerToken = "inferprobe_time_to_first_answer_token_seconds"
	interTokenLatency      = "inferprobe_inter_token_latency_seconds"
	timePerOutputToken     = "inferprobe_time_per_output_token_seconds"
	requestDuration        = "inferprobe_request_duration_seconds"
	requestSpeed           = "inferprobe_request_output_tokens_per_second"
	streamStall            = "inferprobe_stream_stall_seconds"
	connectionPhase        = "inferprobe_connection_phase_duration_seconds"

	probeSuccess   = "inferprobe_probe_success"
	lastProbe      = "inferprobe_last_probe_timestamp_seconds"
	endpointInfo   = "inferprobe_endpoint_info"
	objective      = "inferprobe_objective_seconds"
	objectiveError = "inferprobe_objective_error_ratio"
	canaryInterval = "inferprobe_canary_interval_seconds"
	probePaused    = "inferprobe_probe_paused"
	tokensLeft     = "inferprobe_token_budget_remaining"

	cycles             = "inferprobe_cycles_total"
	cycleFailures      = "inferprobe_cycle_failures_total"
	cycleInProgress    = "inferprobe_cycle_in_progress"
	cycleLastEnd       = "inferprobe_cycle_last_end_timestamp_seconds"
	cycleLastCompleted = "inferprobe_cycle_last_completed_timestamp_seconds"
	cycleNextStart     = "inferprobe_cycle_next_start_timestamp_seconds"
	cycleDuration      = "inferprobe_cycle_duration_seconds"
	cycleFindings      = "inferprobe_cycle_findings"

	regressionBaseline = "inferprobe_regression_baseline_cycles"
	regressionRatio    = "inferprobe_regression_ratio"
	regressionPValue   = "inferprobe_regression_p_value"
	regressionDetected = "inferprobe_regression_detected"

	capacityRequests  = "inferprobe_capacity_requests_per_second"
	capacityLow       = "inferprobe_capacity_lower_bound_requests_per_second"
	capacityHigh      = "inferprobe_capacity_upper_bound_requests_per_second"
	capacityTokens    = "inferprobe_capacity_output_tokens_per_second"
	objectiveCapacity = "inferprobe_slo_capacity_requests_per_second"

	stageTarget             = "inferprobe_stage_target_requests_per_second"
	stageRequests           = "inferprobe_stage_requests_per_second"
	stageTokens             = "inferprobe_stage_output_tokens_per_second"
	stageValid              = "inferprobe_stage_valid"
	stageSamples            = "inferprobe_stage_samples"
	stageFailures           = "inferprobe_stage_failures"
	stageTimeToFirstToken   = "inferprobe_stage_time_to_first_token_seconds"
	stageInterTokenLatency  = "inferprobe_stage_inter_token_latency_seconds"
	stageTimePerOutputToken = "inferprobe_stage_time_per_output_token_seconds"
	stageRequestDuration    = "inferprobe_stage_request_duration_seconds"

	scheduleDelay    = "inferprobe_schedule_delay_seconds"
	receiveLag       = "inferprobe_receive_lag_seconds"
	runsSkipped      = "inferprobe_runs_skipped_total"
	buildInfo        = "inferprobe_build_info"
	reloadSuccessful = "inferprobe_config_last_reload_successful"
	reloadTime       = "inferprobe_config_last_reload_success_timestamp_seconds"
	historyWritable  = "inferprobe_history_writable"
	hostTrusted      = "inferprobe_host_trusted"
)

// recorded is a series of each endpoint, which rules record: without it there are none, and no alert means nothing.
const recorded = "job_endpoint_model:inferprobe_objective_error_ratio:or_default"

// Values of the label `signal` of objective.
const (
	signalFirstToken = "time_to_first_token"
	signalInterToken = "inter_token_latency"
	signalDuration   = "request_duration"
)
