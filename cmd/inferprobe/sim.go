package main

import (
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/inferprobe/inferprobe/internal/daemon"
	"github.com/inferprobe/inferprobe/internal/sim"
)

func newSim() *cobra.Command {
	var address string
	var flags simFlags
	cmd := &cobra.Command{
		Use:   "sim",
		Short: "Run the simulator: an OpenAI-compatible server with known timings",
		Long: `sim serves /v1/chat/completions and /v1/completions as vLLM does: by a model of continuous batching with a prefill
cost and a real saturation point, or at fixed times whatever the load. It can misbehave in every way that servers are
known to, and keeps a record of the times at which it really sent each token at /truth. Its tokenizer is builtin:demo,
which the program carries: measuring the simulator needs no network.

Faults, as --fault NAME or NAME=ARG for every request, NAME:0.01 or NAME=ARG:0.01 for a hundredth of them:
` + faultTable(),
		Example: `  inferprobe sim --slots 32
  inferprobe sim --fixed 60ms,9ms
  inferprobe sim --fault error_event=8:0.01 --fault status=429
  inferprobe run --url http://127.0.0.1:8000/v1 --tokenizer builtin:demo   # measures it`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			options, err := flags.parse()
			if err != nil {
				return usageError(err)
			}
			server, err := sim.New(options)
			if err != nil {
				return usageError(err)
			}
			l, err := net.Listen("tcp", address)
			if err != nil {
				return workError(fmt.Errorf("%w; choose another address with --listen", err))
			}
			fmt.Fprintf(cmd.ErrOrStderr(), simGreeting, l.Addr(), daemon.DemoTokenizer)
			if err := server.Serve(cmd.Context(), l); err != nil {
				return workError(err)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&address, "listen", "127.0.0.1:8000", "`address` to serve on")
	flags.add(cmd.Flags())
	return cmd
}

const simGreeting = `simulated endpoint   http://%[1]s/v1
its record of times  http://%[1]s/truth
to measure it        inferprobe run --url http://%[1]s/v1 --tokenizer %[2]s
`

// faultTable lists the faults, one a line.
func faultTable() string {
	var b strings.Builder
	for _, f := range sim.Faults() {
		fmt.Fprintf(&b, "\n  %-20s %s", f.Name, f.Description)
		if f.Arg != "" {
			fmt.Fprintf(&b, "\n  %-20s ARG: %s", "", f.Arg)
		}
	}
	return b.String()
}

// simFlags describe a simulated server.
type simFlags struct {
	options sim.Options
	fixed   string
	faults  []string
}

func (s *simFlags) add(fs *pflag.FlagSet) {
	o := &s.options
	fs.StringVar(&o.Model, "model", sim.DefaultModel, "`name` of the model served")
	fs.StringVar(&o.APIKey, "api-key", "", "bearer `token` to ask for")
	fs.IntVar(&o.MaxModelLen, "max-model-len", sim.DefaultMaxModelLen, "tokens of prompt and answer together")
	fs.IntVar(&o.Slots, "slots", sim.DefaultSlots, "sequences that run at once; the rest wait")
	fs.Float64Var(&o.PrefillTokensPerSecond, "prefill-rate", sim.DefaultPrefillTokensPerSecond, "prompt tokens per second")
	fs.DurationVar(&o.DecodeStep, "decode-step", sim.DefaultDecodeStep, "time of a step that decodes")
	fs.DurationVar(&o.DecodePerSequence, "decode-per-sequence", sim.DefaultDecodePerSequence, "…and what each sequence adds")
	fs.BoolVar(&o.PrefixCache, "prefix-cache", false, "spare the prefill of what prompts have in common at their start")
	fs.StringVar(&s.fixed, "fixed", "",
		"`TTFT,ITL`: the same times for every request, instead of batching; 0s,0s answers at once")
	fs.IntVar(&o.TokensPerEvent, "tokens-per-event", 1, "tokens in each event of a stream")
	fs.Float64Var(&o.Jitter, "jitter", 0, "vary each step by up to this `fraction`")
	fs.Float64Var(&o.StallFraction, "stall-fraction", 0, "`fraction` of gaps that last --stall longer")
	fs.DurationVar(&o.Stall, "stall", 0, "length of a stall")
	fs.StringArrayVar(&s.faults, "fault", nil, "`FAULT` that requests meet, from the list above; repeatable")
	fs.BoolVar(&o.SendTimes, "send-times", false,
		"record when the kernel sent each write, not when its system call began (Linux)")
	fs.Uint64Var(&o.Seed, "seed", 0, "seed of everything drawn at random")
}

// parse returns the options, with the flags that are more than one value read.
func (s *simFlags) parse() (sim.Options, error) {
	o := s.options
	fixed, errFixed := parseFixed(s.fixed)
	faults, errFaults := parseFaults(s.faults)
	o.Fixed, o.Faults = fixed, faults
	return o, errors.Join(s.positive(), errFixed, errFaults)
}

// positive refuses zeros, which sim.Options would take for the default.
func (s *simFlags) positive() error {
	var errs []error
	for _, flag := range []struct {
		name string
		zero bool
	}{
		{"max-model-len", s.options.MaxModelLen == 0}, {"slots", s.options.Slots == 0},
		{"prefill-rate", s.options.PrefillTokensPerSecond == 0}, {"tokens-per-event", s.options.TokensPerEvent == 0},
	} {
		if flag.zero {
			errs = append(errs, fmt.Errorf("--%s is 0; a positive number is wanted", flag.name))
		}
	}
	if s.options.DecodeStep == 0 && s.options.DecodePerSequence == 0 {
		errs = append(errs, errors.New("--decode-step and --decode-per-sequence are both 0; give --fixed a gap of 0s "+
			"instead"))
	}
	return errors.Join(errs...)
}

func parseFixed(text string) (*sim.FixedTiming, error) {
	if text == "" {
		return nil, nil
	}
	first, gap, _ := strings.Cut(text, ",")
	ttft, err1 := time.ParseDuration(first)
	itl, err2 := time.ParseDuration(gap)
	if err1 != nil || err2 != nil {
		return nil, fmt.Errorf("--fixed: %q is not TTFT,ITL; write for example 60ms,9ms", text)
	}
	return &sim.FixedTiming{TimeToFirstToken: ttft, InterTokenLatency: itl}, nil
}

// fraction is a probability behind a fault. The point tells it from an argument that ends in a number.
var fraction = regexp.MustCompile(`^(.+):([0-9]*\.[0-9]+)$`)

// parseFaults reads NAME, NAME=ARG and NAME=ARG:PROBABILITY.
func parseFaults(flags []string) ([]sim.FaultRate, error) {
	var faults []sim.FaultRate
	for _, f := range flags {
		rate := sim.FaultRate{Fault: f, Probability: 1}
		if m := fraction.FindStringSubmatch(f); m != nil {
			rate.Fault = m[1]
			rate.Probability, _ = strconv.ParseFloat(m[2], 64) // it matched
		}
		name, _, _ := strings.Cut(rate.Fault, "=")
		if !slices.ContainsFunc(sim.Faults(), func(known sim.FaultInfo) bool { return known.Name == name }) {
			return nil, fmt.Errorf("--fault %s: there is no fault %q; `inferprobe sim --help` lists them, and a share of "+
				"the requests is written error_event=8:0.01", f, name)
		}
		faults = append(faults, rate)
	}
	return faults, nil
}
