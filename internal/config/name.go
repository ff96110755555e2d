package config

import (
	"crypto/sha256"
	"encoding/hex"
	"path"
	"strings"
)

// defaultName names an endpoint after its host and the last element of its model, in the characters that names may
// have: vllm.models.svc-8000-Llama-3.3-70B-Instruct.
func defaultName(host, model string) string {
	full := host
	if model != "" {
		full += "-" + path.Base(strings.TrimRight(model, "/"))
	}
	name := strings.Map(func(r rune) rune {
		if r < 0x80 && namePattern.MatchString("a"+string(r)) {
			return r
		}
		return '-'
	}, full)
	name = strings.Trim(name, "-._")
	if name == "" {
		name = "endpoint"
	}
	if len(name) <= maxName {
		return name
	}
	// Two long names must not become one.
	const digest = 8
	sum := sha256.Sum256([]byte(full))
	return name[:maxName-digest-1] + "-" + hex.EncodeToString(sum[:])[:digest]
}
