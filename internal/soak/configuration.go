package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/inferprobe/inferprobe/internal/sim"
)

// spec is an endpoint of the daemon's configuration.
type spec struct {
	name    string
	group   string
	server  *server
	keyFile string // "" = none
	model   bool   // whether it is named, or to be discovered
	every   time.Duration
	output  int // tokens of the canary
	team    string
}

// marker is an endpoint that is never measured. Its label tells which configuration the daemon has.
const marker = "marker"

// cyclesKept is how many cycles of an endpoint stay on disk.
const cyclesKept = 3

// configuration returns a configuration of these endpoints, with a number by which it can be told.
func configuration(specs []spec, history string, number int) string {
	var b strings.Builder
	fmt.Fprintf(&b, `history: {dir: %q, cycles: %d}
limits: {concurrent_sweeps: 2}
defaults:
  sweep: {rates: 1, max_duration: 1s, prompt_tokens: 32, output_tokens: 8, max_concurrency: 8}
  canary: {interval: 1s, prompt_tokens: 16}
  guards: {tokens_per_day: %d}
  timeouts: {connect: 2s, first_token: 3s, idle: 3s, total: 10s}
endpoints:
`, history, cyclesKept, tokensPerDay)
	for _, s := range specs {
		fmt.Fprintf(&b, "  - name: %s\n    url: http://%s/v1\n    tokenizer: builtin:demo\n", s.name, s.server.address)
		fmt.Fprintf(&b, "    labels: [{name: team, value: %q}]\n", s.team)
		fmt.Fprintf(&b, "    sweep: {interval: %v}\n    canary: {output_tokens: %d}\n", s.every, s.output)
		for key, value := range map[string]string{"group": s.group, "api_key_file": s.keyFile} {
			if value != "" {
				fmt.Fprintf(&b, "    %s: %s\n", key, value)
			}
		}
		if s.model {
			fmt.Fprintf(&b, "    model: %s\n", sim.DefaultModel)
		}
	}
	fmt.Fprintf(&b, `  - name: %s
    url: http://127.0.0.1:1/v1
    model: none
    sweep: {interval: 0s}
    canary: {interval: 0s}
    labels: [{name: number, value: "%d"}]
`, marker, number)
	return b.String()
}

// number returns that of the configuration that the daemon has applied.
func (s *scrape) number() string {
	for _, series := range s.endpoints[marker] {
		if strings.HasPrefix(series, "inferprobe_endpoint_info{") {
			_, after, _ := strings.Cut(series, `number="`)
			text, _, _ := strings.Cut(after, `"`)
			return text
		}
	}
	return ""
}

// replaceFile writes a file as those do who do it well: another one, renamed.
func replaceFile(path, text string) error {
	temporary := filepath.Join(filepath.Dir(path), ".new-"+filepath.Base(path))
	if err := os.WriteFile(temporary, []byte(text), 0o666); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}
