package regress

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"

	"github.com/inferprobe/inferprobe/internal/probe"
)

// Fingerprint returns 16 hexadecimal digits that are equal for cycles which can be held against each other: the same
// endpoint by name, model, kind of server, API, tokenizer, lengths, shared prefix, extra body, profile and requests in
// flight of the throughput stage. The server's version is no part of it, as its change is what one wants to judge; nor
// are objectives, guards, limits of time and number, and the schedule, which change nothing in what is compared.
func Fingerprint(c *probe.Cycle) string {
	identity, err := json.Marshal(struct {
		Endpoint, Model, Server, API, Tokenizer string
		PromptTokens, OutputTokens              probe.Length
		Profile                                 probe.Profile
		MaxConcurrency                          int
		SharedPrefixTokens                      int
		ExtraBody                               string
	}{
		c.Endpoint.Name, c.Endpoint.Model, kind(c.Server), c.Workload.API, c.Workload.Tokenizer,
		c.Workload.PromptTokens, c.Workload.OutputTokens, c.Profile, c.MaxConcurrency,
		c.Workload.SharedPrefixTokens, c.Workload.ExtraBody,
	})
	if err != nil { // strings and integers only
		panic(err)
	}
	sum := sha256.Sum256(identity)
	return hex.EncodeToString(sum[:8])
}

// kind returns what a server is without its version: "vllm" of "vllm 0.32.0", and nothing where only a version is
// known.
func kind(server string) string {
	word, _, _ := strings.Cut(server, " ")
	if strings.ContainsAny(word, "0123456789") {
		return ""
	}
	return word
}
