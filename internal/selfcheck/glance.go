package selfcheck

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/inferprobe/inferprobe/internal/load"
	"github.com/inferprobe/inferprobe/internal/wiretime"
)

// glanceEvery is the time between two observations of Look.
const glanceEvery = time.Millisecond

// Glance is what a short look at the host shows, without a simulator and almost without load: how promptly it wakes
// those who sleep and those who wait for data. Durations are in seconds.
type Glance struct {
	WakeDelay   Quantiles // how much later than asked a sleep ends: so late requests leave
	ReceiveLag  Quantiles // how much later than the kernel a reader sees what arrived
	KernelTimes bool      // the kernel tells when data arrived, so that a late reader still knows
}

// Look sends a byte to itself over loopback every millisecond for so long, and watches.
func Look(ctx context.Context, length time.Duration) (Glance, error) {
	sender, receiver, err := pair(ctx)
	if err != nil {
		return Glance{}, fmt.Errorf("no connection over loopback: %w", err)
	}
	defer receiver.Close()
	var delays []float64
	sent := make(chan error, 1)
	go func() {
		defer sender.Close()
		var err error
		delays, err = tick(ctx, sender, length)
		sent <- err
	}()
	lags, kernel, err := listen(receiver)
	if err = errors.Join(<-sent, err); err != nil {
		return Glance{}, err
	}
	return Glance{quantiles(delays), quantiles(lags), kernel}, nil
}

// pair returns the two ends of a connection over loopback.
func pair(ctx context.Context) (sender net.Conn, receiver *wiretime.Conn, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	defer l.Close()
	if receiver, err = new(wiretime.Dialer).Dial(ctx, l.Addr().String()); err != nil {
		return nil, nil, err
	}
	if sender, err = l.Accept(); err != nil {
		receiver.Close()
		return nil, nil, err
	}
	return sender, receiver, nil
}

// tick writes bytes on schedule and returns how late it woke for each.
func tick(ctx context.Context, w io.Writer, length time.Duration) (delays []float64, err error) {
	start := time.Now()
	for at := glanceEvery; at <= length; at += glanceEvery {
		due := start.Add(at)
		if !load.SleepUntil(ctx, due) {
			return nil, context.Cause(ctx)
		}
		delays = append(delays, time.Since(due).Seconds())
		if _, err := w.Write([]byte{0}); err != nil {
			return nil, err
		}
	}
	return delays, nil
}

// listen reads to the end and returns how late each read was.
func listen(c *wiretime.Conn) (lags []float64, kernel bool, err error) {
	x := wiretime.NewExchange(0)
	c.Begin(x)
	var buf [16]byte
	for {
		n, err := c.Read(buf[:])
		if errors.Is(err, io.EOF) {
			return lags, kernel, nil
		}
		if err != nil {
			return nil, false, err
		}
		if stamp := x.LastRead(); n > 0 && stamp.Kernel {
			kernel = true
			lags = append(lags, stamp.Lag.Seconds())
		}
	}
}

// GlanceLimit is what WakeDelay and ReceiveLag may be at p99, in seconds.
const GlanceLimit = TrustedError

// Problems returns what makes the host a bad place to measure from, each as a clause for a log line; nothing if it is a
// good one.
func (g Glance) Problems() []string {
	var problems []string
	if g.WakeDelay.P99 > GlanceLimit {
		problems = append(problems, fmt.Sprintf("sleeps end up to %.1f ms late (p99), so requests leave late", 1000*g.WakeDelay.P99))
	}
	if g.ReceiveLag.P99 > GlanceLimit {
		problems = append(problems, fmt.Sprintf("data wait up to %.1f ms to be read (p99)", 1000*g.ReceiveLag.P99))
	}
	if !g.KernelTimes {
		problems = append(problems, "the kernel does not tell when data arrived, so that every delay of this process is measured too")
	}
	return problems
}
