package main

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/inferprobe/inferprobe/internal/sim"
)

func newSim() *cobra.Command {
	var address, fixed, key string
	var faults []string
	o := sim.Options{}
	cmd := &cobra.Command{
		Use:   "sim",
		Short: "Run the simulator: an OpenAI-compatible server with known timings",
		Long: `sim serves /v1/chat/completions and /v1/completions as vLLM does: by a model of continuous batching with a prefill
cost and a real saturation point, or at fixed times whatever the load. It can misbehave in every way that servers are
known to, and keeps a record of the times at which it really sent each token at /truth.`,
		Example: `  inferprobe sim --slots 32
  inferprobe sim --fixed 60ms,9ms
  inferprobe sim --fault error_event=8:0.01`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.APIKey = key
			if err := parseSim(&o, fixed, faults); err != nil {
				return usageError(err)
			}
			server, err := sim.New(o)
			if err != nil {
				return usageError(err)
			}
			l, err := net.Listen("tcp", address)
			if err != nil {
				return &exitError{exitNotMeasured, err.Error()}
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "simulated endpoint  http://%s/v1\nits record of times  http://%s/truth\n", l.Addr(), l.Addr())
			if err := server.Serve(cmd.Context(), l); err != nil {
				return &exitError{exitNotMeasured, err.Error()}
			}
			return nil
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&address, "listen", "127.0.0.1:8000", "address to serve on")
	fs.StringVar(&o.Model, "model", sim.DefaultModel, "name of the model served")
	fs.StringVar(&key, "api-key", "", "bearer token to ask for")
	fs.IntVar(&o.MaxModelLen, "max-model-len", sim.DefaultMaxModelLen, "tokens of prompt and answer together")
	fs.IntVar(&o.Slots, "slots", sim.DefaultSlots, "sequences that run at once; the rest wait")
	fs.Float64Var(&o.PrefillTokensPerSecond, "prefill-rate", sim.DefaultPrefillTokensPerSecond, "prompt tokens per second")
	fs.DurationVar(&o.DecodeStep, "decode-step", sim.DefaultDecodeStep, "time of a step that decodes")
	fs.DurationVar(&o.DecodePerSequence, "decode-per-sequence", sim.DefaultDecodePerSequence, "…and what each sequence adds")
	fs.StringVar(&fixed, "fixed", "", "TTFT,ITL: the same times for every request, instead of batching; 0s,0s answers at once")
	fs.IntVar(&o.TokensPerEvent, "tokens-per-event", 1, "tokens in each event of a stream")
	fs.Float64Var(&o.Jitter, "jitter", 0, "vary each step by up to this fraction")
	fs.Float64Var(&o.StallFraction, "stall-fraction", 0, "fraction of gaps that last --stall longer")
	fs.DurationVar(&o.Stall, "stall", 0, "length of a stall")
	fs.StringArrayVar(&faults, "fault", nil, "NAME[=ARG][:PROBABILITY] of requests that misbehave; repeatable. Names: "+faultNames())
	fs.Uint64Var(&o.Seed, "seed", 0, "of everything drawn at random")
	return cmd
}

func faultNames() string {
	var names []string
	for _, f := range sim.Faults() {
		names = append(names, f.Name)
	}
	return strings.Join(names, ", ")
}

// parseSim reads the flags that are more than one value.
func parseSim(o *sim.Options, fixed string, faults []string) error {
	if fixed != "" {
		first, gap, ok := strings.Cut(fixed, ",")
		ttft, err1 := time.ParseDuration(first)
		itl, err2 := time.ParseDuration(gap)
		if !ok || err1 != nil || err2 != nil {
			return fmt.Errorf("--fixed: %q is not TTFT,ITL; write for example 60ms,9ms", fixed)
		}
		o.Fixed = &sim.FixedTiming{TimeToFirstToken: ttft, InterTokenLatency: itl}
	}
	for _, f := range faults {
		rate := 1.0
		if fault, share, ok := strings.Cut(f, ":"); ok {
			var err error
			if rate, err = strconv.ParseFloat(share, 64); err != nil {
				return fmt.Errorf("--fault: %q ends with %q, which is not a fraction; write for example fin=8:0.01", f, share)
			}
			f = fault
		}
		o.Faults = append(o.Faults, sim.FaultRate{Fault: f, Probability: rate})
	}
	return nil
}
