// Command benchmark measures what inferprobe itself costs, beside hey and beside a bare net/http loop that reads the same
// bytes where these can do the same, in the same run, against the simulator on the same machine. `make bench` runs it.
//
// Every program is a process of its own. Each comparison is repeated in turns and medians are printed, since machines
// that others share vary from minute to minute.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"time"
)

// programs are the paths of what is run.
type programs struct {
	inferprobe, hey, self string
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "floor" {
		floorMain(os.Args[2:])
		return
	}
	var p programs
	runs := flag.Int("runs", 3, "repetitions of each comparison")
	flag.StringVar(&p.inferprobe, "inferprobe", "bin/inferprobe", "path of inferprobe")
	flag.StringVar(&p.hey, "hey", "build/tools/hey", "path of hey")
	long := flag.Duration("growth", 0, "run the daemon at its full rate for so long, and nothing else")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	measure := func() error { return bench(ctx, p, *runs) }
	if *long > 0 {
		measure = func() error { return growth(ctx, p, *long) }
	}
	if err := measure(); err != nil {
		fmt.Fprintln(os.Stderr, "benchmark:", err)
		os.Exit(1)
	}
}

func bench(ctx context.Context, p programs, runs int) error {
	var err error
	if p.self, err = os.Executable(); err != nil {
		return err
	}
	fmt.Printf("%d CPUs, %s, %s, medians of %d runs; clients and simulator share the machine\n\n",
		runtime.NumCPU(), runtime.Version(), time.Now().Format(time.DateOnly), runs)
	for _, step := range []func(context.Context, programs, int) error{ceiling, events, lateness, streams, idle, start} {
		if err := step(ctx, p, runs); err != nil {
			return err
		}
		fmt.Println()
	}
	return nil
}

// figure is what one run of a client gave.
type figure struct {
	perSecond float64 // requests, or events
	cpu       float64 // microseconds of CPU for one of them
	rss       float64 // MB, at most
}

// compare runs the clients in turns and prints their medians, with the ratios of the last one's to those of the others.
// The unit is what they are to do many of.
func compare(unit string, runs int, names []string, clients []func() (figure, error)) error {
	all := make([][]figure, len(clients))
	for range runs {
		for i, client := range clients {
			f, err := client()
			if err != nil {
				return fmt.Errorf("%s: %w", names[i], err)
			}
			all[i] = append(all[i], f)
		}
	}
	fmt.Printf("  %-28s %14s %20s %10s\n", "", unit+"s/s", "CPU µs per "+unit, "RSS MB")
	last := median(all[len(all)-1])
	for i, name := range names {
		f := median(all[i])
		fmt.Printf("  %-28s %14.0f %#20.4g %10.0f\n", name, f.perSecond, f.cpu, f.rss)
	}
	for i, name := range names[:len(names)-1] {
		f := median(all[i])
		fmt.Printf("  %-28s %14.2f %20.3f %10.2f\n", names[len(names)-1]+" : "+name, last.perSecond/f.perSecond,
			last.cpu/f.cpu, last.rss/f.rss)
	}
	return nil
}

func median(figures []figure) figure {
	return figure{
		perSecond: middleOf(figures, func(f figure) float64 { return f.perSecond }),
		cpu:       middleOf(figures, func(f figure) float64 { return f.cpu }),
		rss:       middleOf(figures, func(f figure) float64 { return f.rss }),
	}
}
