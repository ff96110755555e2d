package wiretime

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/net/nettest"

	"github.com/inferprobe/inferprobe/internal/wiretime/wiretimetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pair returns two ends of a TCP connection over loopback: ours and the peer's.
func pair(t testing.TB) (*Conn, *net.TCPConn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	dialer := Dialer{Timeout: 10 * time.Second}
	ours, err := dialer.Dial(t.Context(), listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	return ours, theirs.(*net.TCPConn)
}

// withoutKernel makes c read as it does where the system gives no receive times.
func withoutKernel(c *Conn) *Conn {
	c.kernel = nil
	return c
}

func TestConnBehavesAsNetConn(t *testing.T) {
	for name, wrap := range map[string]func(*Conn) *Conn{
		"kernel": func(c *Conn) *Conn { return c }, "portable": withoutKernel,
	} {
		t.Run(name, func(t *testing.T) {
			nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
				ours, theirs := pair(t)
				ours = wrap(ours)
				ours.Begin(NewExchange(0))
				return ours, theirs, func() { ours.Close(); theirs.Close() }, nil
			})
		})
	}
}

func TestReadErrors(t *testing.T) {
	for _, test := range []struct {
		name string
		do   func(ours *Conn, theirs *net.TCPConn)
		want error
	}{
		{"peer closes", func(_ *Conn, theirs *net.TCPConn) { theirs.Close() }, io.EOF},
		{"peer resets", func(_ *Conn, theirs *net.TCPConn) { theirs.SetLinger(0); theirs.Close() }, syscall.ECONNRESET},
		{"deadline", func(ours *Conn, _ *net.TCPConn) { ours.SetReadDeadline(time.Unix(1, 0)) }, os.ErrDeadlineExceeded},
		{"we closed", func(ours *Conn, _ *net.TCPConn) { ours.Close() }, net.ErrClosed},
	} {
		for name, wrap := range map[string]func(*Conn) *Conn{
			"kernel": func(c *Conn) *Conn { return c }, "portable": withoutKernel,
		} {
			t.Run(test.name+"/"+name, func(t *testing.T) {
				ours, theirs := pair(t)
				ours = wrap(ours)
				x := NewExchange(0)
				ours.Begin(x)
				test.do(ours, theirs)
				n, err := ours.Read(make([]byte, 8))
				if n != 0 || !errors.Is(err, test.want) {
					t.Errorf("Read = %d, %v; want 0, %v", n, err, test.want)
				}
				var op *net.OpError
				if test.want != io.EOF && (!errors.As(err, &op) || op.Op != "read" || op.Net != "tcp") {
					t.Errorf("error %#v is not a *net.OpError of a tcp read", err)
				}
				if !x.Ended() {
					t.Error("the exchange does not know that the connection ended")
				}
				if !x.LastRead().At.IsZero() {
					t.Error("a read without data left a stamp")
				}
			})
		}
	}
}

func TestReadOfNothing(t *testing.T) {
	ours, _ := pair(t)
	if n, err := ours.Read(nil); n != 0 || err != nil {
		t.Errorf("Read(nil) = %d, %v; want 0, nil without waiting", n, err)
	}
}

// waitReadable returns once data waits in the receive queue, without taking it.
func waitReadable(t *testing.T, c *Conn) {
	t.Helper()
	raw, err := c.Conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Read(readable); err != nil {
		t.Fatal(err)
	}
}

func TestLagOfALateReader(t *testing.T) {
	if !wiretimetest.Stamps(t) {
		t.Skip("no receive times from this system")
	}
	ours, theirs := pair(t)
	x := NewExchange(0)
	ours.Begin(x)
	before := time.Now()
	theirs.Write([]byte("x"))
	waitReadable(t, ours)
	arrived := time.Now()
	time.Sleep(2 * time.Millisecond)
	late := time.Since(arrived)
	if _, err := ours.Read(make([]byte, 8)); err != nil {
		t.Fatal(err)
	}
	returned := time.Now()
	s := x.LastRead()
	if !s.Kernel {
		t.Fatal("the read has no kernel time")
	}
	// Two clocks are read one after the other, so allow them to differ by what the wall clock is slewed at most.
	const slew = 100 * time.Microsecond
	if s.At.Before(before.Add(-slew)) || s.At.After(arrived.Add(slew)) {
		t.Errorf("arrival at %v after the write; the data were there after %v", s.At.Sub(before), arrived.Sub(before))
	}
	if s.Lag < late-slew || s.Lag > returned.Sub(before)+slew {
		t.Errorf("lag %v of a reader that was %v to %v late", s.Lag, late, returned.Sub(before))
	}
}

func TestPortableStamp(t *testing.T) {
	ours, theirs := pair(t)
	withoutKernel(ours)
	x := NewExchange(0)
	ours.Begin(x)
	before := time.Now()
	theirs.Write([]byte("x"))
	ours.Read(make([]byte, 8))
	if s := x.LastRead(); s.Kernel || s.Lag != 0 || s.At.Before(before) || s.At.After(time.Now()) {
		t.Errorf("stamp %+v is not the clock when the read returned", s)
	}
}

func TestLagOf(t *testing.T) {
	now := time.Now()
	for _, test := range []struct {
		name   string
		kernel int64
		want   int64
	}{
		{"no time", 0, noKernelTime},
		{"at once", now.UnixNano(), 0},
		{"5 ms late", now.UnixNano() - 5e6, 5e6},
		{"at the bound", now.UnixNano() - int64(maxLag), int64(maxLag)},
		{"clock set forward", now.UnixNano() - int64(maxLag) - 1, noKernelTime},
		{"clock set back", now.UnixNano() + 1, noKernelTime},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := lagOf(now, test.kernel); got != test.want {
				t.Errorf("lagOf = %d, want %d", got, test.want)
			}
		})
	}
}

func TestStampNeverGoesBack(t *testing.T) {
	x := NewExchange(0)
	now := x.base.Add(10 * time.Millisecond)
	x.stamp(now, taken{}) // the clock, because the kernel gave no time
	x.stamp(now.Add(time.Millisecond), taken{kernel: now.Add(-time.Millisecond).UnixNano()})
	if s := x.LastRead(); s.At.Sub(x.base) != 10*time.Millisecond || s.Lag != 2*time.Millisecond || !s.Kernel {
		t.Errorf("stamp at %v with lag %v, want 10ms and 2ms", s.At.Sub(x.base), s.Lag)
	}
	x.stamp(now.Add(5*time.Millisecond), taken{kernel: now.Add(4 * time.Millisecond).UnixNano()})
	if s := x.LastRead(); s.At.Sub(x.base) != 14*time.Millisecond || s.Lag != time.Millisecond {
		t.Errorf("stamp at %v with lag %v, want 14ms and 1ms", s.At.Sub(x.base), s.Lag)
	}
}

func TestReadsOfOneSegmentHaveOneTime(t *testing.T) {
	x := NewExchange(0)
	now := x.base.Add(10 * time.Millisecond)
	kernel := now.Add(-time.Millisecond).UnixNano()
	x.stamp(now, taken{kernel: kernel})
	first := x.LastRead()
	x.stamp(now.Add(time.Millisecond+50), taken{kernel: kernel})
	if s := x.LastRead(); s.At != first.At || s.Lag != 2*time.Millisecond+50 {
		t.Errorf("stamp %+v after %+v of the same segment", s, first)
	}
}

func TestReadsWithoutKernelTime(t *testing.T) {
	x := NewExchange(0)
	at := func(ms int, followed bool) time.Duration {
		x.stamp(x.base.Add(time.Duration(ms)*time.Millisecond), taken{followed: followed})
		return x.LastRead().At.Sub(x.base).Round(time.Millisecond)
	}
	got := []time.Duration{at(10, true), at(11, true), at(12, false), at(13, true)}
	want := []time.Duration{10, 10, 12, 12}
	for i := range want {
		if got[i] != want[i]*time.Millisecond {
			t.Errorf("times %v, want %v ms", got, want)
		}
	}
}

func TestFollowed(t *testing.T) {
	ours, theirs := pair(t)
	if ours.kernel == nil {
		t.Skip("no receive times from this system")
	}
	read := func(n int) taken {
		_, taken, err := ours.kernel.read(make([]byte, n))
		if err != nil {
			t.Fatal(err)
		}
		return taken
	}
	theirs.Write([]byte("abcde"))
	waitReadable(t, ours)
	if read(3).followed || !read(1).followed || !read(8).followed {
		t.Error("the first read follows none, the second and third follow a full one")
	}
	theirs.Write([]byte("f"))
	waitReadable(t, ours)
	if read(1).followed {
		t.Error("a read follows one whose buffer had room")
	}
	time.AfterFunc(20*time.Millisecond, func() { theirs.Write([]byte("g")) })
	if read(1).followed {
		t.Error("a read that had to wait follows a full one")
	}
}

func TestLimitReads(t *testing.T) {
	ours, theirs := pair(t)
	if ours.kernel == nil {
		t.Skip("no receive times from this system, so no limit")
	}
	x := NewExchange(3)
	ours.Begin(x)
	theirs.Write([]byte("abcdefghij"))
	p := make([]byte, 10)
	if n, _ := ours.Read(p); string(p[:n]) != "abc" {
		t.Errorf("first read %q, want abc", p[:n])
	}
	if n, _ := ours.Read(p[:2]); string(p[:n]) != "de" {
		t.Errorf("second read %q, want de", p[:n])
	}
	x.LimitReads(0)
	if n, _ := io.ReadFull(ours, p[:5]); string(p[:n]) != "fghij" {
		t.Errorf("last read %q, want fghij", p[:n])
	}
}

func TestExchanges(t *testing.T) {
	ours, theirs := pair(t)
	first, second := NewExchange(0), NewExchange(0)

	ours.Begin(first)
	if !first.WriteStart().IsZero() || !first.LastRead().At.IsZero() {
		t.Error("a new exchange has times")
	}
	before := time.Now()
	ours.Write([]byte("1"))
	start := first.WriteStart()
	if start.Before(before) || start.After(time.Now()) {
		t.Errorf("write start %v", start)
	}
	ours.Write([]byte("2"))
	if first.WriteStart() != start {
		t.Error("the second write moved the start")
	}
	theirs.Write([]byte("x"))
	ours.Read(make([]byte, 1))
	read := first.LastRead()

	ours.Begin(second)
	ours.Write([]byte("3"))
	theirs.Write([]byte("y"))
	ours.Read(make([]byte, 1))
	if first.WriteStart() != start || first.LastRead() != read {
		t.Error("the next exchange changed the times of the one before")
	}
	if second.WriteStart().Before(start) || !second.LastRead().At.After(read.At) {
		t.Error("the second exchange has no times of its own")
	}
}

// TestExchangeBeginsUnderAWaitingRead is what net/http does: a read waits on the idle connection all the time.
func TestExchangeBeginsUnderAWaitingRead(t *testing.T) {
	ours, theirs := pair(t)
	old, x := NewExchange(0), NewExchange(2)
	ours.Begin(old)
	read := make(chan int)
	go func() {
		n, _ := ours.Read(make([]byte, 8))
		read <- n
	}()
	time.Sleep(20 * time.Millisecond) // the read most likely waits by now; if not, the test passes all the same
	ours.Begin(x)
	theirs.Write([]byte("abc"))
	n := <-read
	if x.LastRead().At.IsZero() || !old.LastRead().At.IsZero() {
		t.Error("the read counts for the exchange before")
	}
	if ours.kernel != nil && n != 2 {
		t.Errorf("read %d bytes, want 2: the limit of the new exchange", n)
	}
}

func TestConcurrentUse(t *testing.T) {
	ours, theirs := pair(t)
	go io.Copy(theirs, theirs)
	x := NewExchange(0)
	ours.Begin(x)
	var group sync.WaitGroup
	group.Go(func() {
		for range 500 {
			ours.Write([]byte("hello"))
		}
	})
	group.Go(func() {
		var last Stamp
		for ours.exchange.Load() != nil {
			s := x.LastRead()
			if s.At.Before(last.At) || x.WriteStart().After(time.Now()) {
				t.Error("time went back")
			}
			last = s
			x.LimitReads(int(s.Lag) & 3)
			time.Sleep(time.Millisecond)
		}
	})
	if _, err := io.ReadFull(ours, make([]byte, 2500)); err != nil {
		t.Error(err)
	}
	ours.Begin(nil)
	group.Wait()
	theirs.Close()
}

func TestQuiet(t *testing.T) {
	ours, theirs := pair(t)
	if ours.kernel == nil {
		t.Skip("it cannot be seen without the kernel's times")
	}
	if !ours.Quiet() {
		t.Error("a fresh connection is not quiet")
	}
	if _, err := theirs.Write([]byte("ab")); err != nil {
		t.Fatal(err)
	}
	untilItComes(t, ours)
	if ours.Quiet() { // looking took nothing
		t.Error("a connection with data is quiet")
	}
	if n, err := ours.Read(make([]byte, 9)); n != 2 || err != nil {
		t.Fatal(n, err)
	}
	if !ours.Quiet() {
		t.Error("a connection whose data have been read is not quiet")
	}
	theirs.Close()
	untilItComes(t, ours)
	ours.Close()
	if ours.Quiet() {
		t.Error("a closed connection is quiet")
	}
}

// untilItComes waits until c is not quiet any more.
func untilItComes(t *testing.T, c *Conn) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); c.Quiet(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nothing is seen to have come")
		}
	}
}

func TestDialer(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	dialer := Dialer{Timeout: 10 * time.Second}

	conn, err := dialer.Dial(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	if p := conn.Phases(); p.DNS != 0 || p.Connect <= 0 {
		t.Errorf("phases of a literal address %+v, want no lookup and a connect time", p)
	}
	conn.Close()

	conn, err = dialer.Dial(t.Context(), strings.Replace(address, "127.0.0.1", "localhost", 1))
	if err != nil {
		t.Fatal(err)
	}
	if p := conn.Phases(); p.DNS <= 0 || p.Connect <= 0 {
		t.Errorf("phases of a name %+v, want both", p)
	}
	conn.Close()

	listener.Close()
	if conn, err := dialer.Dial(t.Context(), address); !errors.Is(err, syscall.ECONNREFUSED) || conn != nil {
		t.Errorf("dial of a closed port = %v, %v", conn, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := dialer.Dial(ctx, address); err == nil {
		t.Error("dial with a cancelled context succeeded")
	}
}

func TestReadAndWriteAllocateNothing(t *testing.T) {
	ours, theirs := pair(t)
	ours.Begin(NewExchange(0))
	p, q := make([]byte, 64), make([]byte, 64)
	allocs := testing.AllocsPerRun(200, func() {
		ours.Write(p)
		theirs.Read(q)
		theirs.Write(q)
		ours.Read(p)
	})
	if allocs != 0 {
		t.Errorf("%v allocations for a write and a read, want none", allocs)
	}
}

func BenchmarkRead(b *testing.B) {
	for name, wrap := range map[string]func(*Conn) net.Conn{
		"net":      func(c *Conn) net.Conn { return c.Conn },
		"kernel":   func(c *Conn) net.Conn { return c },
		"portable": func(c *Conn) net.Conn { return withoutKernel(c) },
	} {
		b.Run(name, func(b *testing.B) {
			ours, theirs := pair(b)
			ours.Begin(NewExchange(0))
			conn := wrap(ours)
			event, p := make([]byte, 250), make([]byte, 4096)
			b.ReportAllocs()
			for b.Loop() {
				theirs.Write(event)
				conn.Read(p)
			}
		})
	}
}
