// Command soak runs inferprobe as it is run for months, in minutes, and says what grew and what broke.
//
//	soak            two daemons among random faults: `make soak`
//	soak endpoints  what 50 and 1,000 endpoints cost one daemon: `make bench-endpoints`
//
// The daemons are processes of their own. The simulators run in this one, so that their records survive their restarts.
// docs/soak.md says what is done and what came out.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	var err error
	if len(os.Args) > 1 && os.Args[1] == "endpoints" {
		err = endpointsMain(ctx, os.Args[2:])
	} else {
		err = soakMain(ctx, os.Args[1:])
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

func soakMain(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("soak", flag.ExitOnError)
	program := flags.String("inferprobe", "bin/inferprobe", "path of inferprobe")
	length := flags.Duration("for", 4*time.Minute, "how long")
	seed := flags.Uint64("seed", uint64(time.Now().UnixNano()), "seed of everything that is done at random")
	folder := flags.String("dir", "", "folder for logs, configurations and history, kept; none = a temporary one, kept on failure")
	_ = flags.Parse(args) // exits on an error
	if *length < 3*time.Minute {
		return errors.New("-for is less than three minutes: too few samples to compare")
	}
	dir, remove, err := workFolder(*folder)
	if err != nil {
		return err
	}
	if err := soak(ctx, *program, dir, *length, *seed); err != nil {
		return fmt.Errorf("%w; logs and files are in %s", err, dir)
	}
	return remove()
}

// workFolder returns the folder named, or a temporary one, which the function it returns removes.
func workFolder(name string) (dir string, remove func() error, err error) {
	if name != "" {
		return name, func() error { return nil }, os.MkdirAll(name, 0o777)
	}
	dir, err = os.MkdirTemp("", "soak")
	return dir, func() error { return os.RemoveAll(dir) }, err
}
