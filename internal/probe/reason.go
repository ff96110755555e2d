package probe

// Outcome says how a request ended.
type Outcome uint8

const (
	// Completed is a whole answer: a finish reason of stop, length or tool_calls, or every token that was asked for.
	Completed Outcome = iota + 1
	// Failed is any other end that the endpoint, the network or our own limits brought about; Result.Reason says which.
	Failed
	// Incomplete is a request that was in flight when its stage ended. It is neither a success nor a failure.
	Incomplete
)

// String returns the word that reports use.
func (o Outcome) String() string {
	switch o {
	case Completed:
		return "completed"
	case Failed:
		return "failed"
	case Incomplete:
		return "incomplete"
	}
	return "unknown"
}

// Reason is why a request failed. The set is closed: it is the `reason` label of inferprobe_request_failures_total and
// the keys of `failures` in report/v1.
type Reason string

// The reasons, in the order in which a request can meet them.
const (
	ReasonDNS               Reason = "dns"                 // the host name did not resolve
	ReasonConnect           Reason = "connect"             // no connection: refused, unreachable, timed out
	ReasonTLS               Reason = "tls"                 // handshake or certificate
	ReasonReset             Reason = "reset"               // the connection ended before the response head
	ReasonUnauthorized      Reason = "unauthorized"        // 401, 403
	ReasonNotFound          Reason = "not_found"           // 404
	ReasonRateLimited       Reason = "rate_limited"        // 429
	ReasonHTTP4xx           Reason = "http_4xx"            // any other 4xx
	ReasonHTTP5xx           Reason = "http_5xx"            // 5xx
	ReasonErrorEvent        Reason = "error_event"         // an error object or string inside a 200 answer
	ReasonNotAStream        Reason = "not_a_stream"        // 200 without an event stream, or a redirect
	ReasonMalformed         Reason = "malformed"           // events that are not what the protocol says
	ReasonTruncated         Reason = "truncated"           // the stream ended without a finish reason
	ReasonAborted           Reason = "aborted"             // a finish reason other than stop, length, tool_calls
	ReasonEmpty             Reason = "empty"               // a stream that ended in order, without one token
	ReasonTimeoutFirstToken Reason = "timeout_first_token" // no token within the limit
	ReasonTimeoutIdle       Reason = "timeout_idle"        // tokens stopped coming
	ReasonTimeoutTotal      Reason = "timeout_total"       // the whole request took too long
	ReasonClientOverload    Reason = "client_overload"     // our own in-flight limit; never sent
	ReasonCancelled         Reason = "cancelled"           // we were told to stop
)

// Reasons returns every Reason, for pre-creating series and for documentation.
func Reasons() []Reason {
	return []Reason{
		ReasonDNS, ReasonConnect, ReasonTLS, ReasonReset, ReasonUnauthorized, ReasonNotFound, ReasonRateLimited,
		ReasonHTTP4xx, ReasonHTTP5xx, ReasonErrorEvent, ReasonNotAStream, ReasonMalformed, ReasonTruncated,
		ReasonAborted, ReasonEmpty, ReasonTimeoutFirstToken, ReasonTimeoutIdle, ReasonTimeoutTotal,
		ReasonClientOverload, ReasonCancelled,
	}
}
