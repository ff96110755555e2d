// Package openai speaks the OpenAI-compatible streaming protocol as the servers of the field really speak it: it finds
// out what serves an endpoint, builds request bodies in that server's dialect, and turns each streamed answer into a
// probe.Result whose times come from the connection, never from the parser.
//
// A request goes through Encoder.Append, Client.Do, the event loop in stream.go, the decoder in event.go and the
// verdict in verdict.go, in this order.
package openai
