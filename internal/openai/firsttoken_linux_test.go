package openai

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/inferprobe/inferprobe/internal/probe"
	"github.com/inferprobe/inferprobe/internal/wiretime/wiretimetest"
)

// eventOf returns an event with so much in its delta, as long as a read until the first token.
func eventOf(delta string) string {
	const frame = `data: {"id":"%s","choices":[{"delta":{%s}}]}` + "\n\n"
	return fmt.Sprintf(frame, strings.Repeat("x", firstRead-len(fmt.Sprintf(frame, "", delta))), delta)
}

// segmenter sends segments that stay apart in the receive queue of the peer.
type segmenter struct{ in, out int } // of a pipe

func newSegmenter(t *testing.T) *segmenter {
	t.Helper()
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_DIRECT|unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(pipe[0]); unix.Close(pipe[1]) })
	return &segmenter{in: pipe[1], out: pipe[0]}
}

// send sends one segment. The kernel gives segments that wait the time of the last one where it merges them, which it
// does while there is room for 17 pieces of memory. So this one comes in ten: O_DIRECT gives each write to the pipe a
// page of its own, and splice takes the pages as they are.
func (s *segmenter) send(conn net.Conn, segment string) error {
	const pieces = 10
	for i := range pieces {
		piece := segment[i*len(segment)/pieces : (i+1)*len(segment)/pieces]
		if _, err := unix.Write(s.in, []byte(piece)); err != nil {
			return err
		}
	}
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return err
	}
	var n int64
	control := raw.Control(func(fd uintptr) { n, err = unix.Splice(s.out, nil, int(fd), nil, len(segment), 0) })
	if control != nil || err != nil || n != int64(len(segment)) {
		return fmt.Errorf("spliced %d of %d bytes: %w, %w", n, len(segment), err, control)
	}
	return nil
}

// TestFirstTokenReadLate has all of an answer wait in the socket before its first event is read. The small reads until
// the first token still tell it from those behind it; what comes then is taken in two reads, one of the buffer's
// length, which finds that more waits, and one of all the rest.
func TestFirstTokenReadLate(t *testing.T) {
	const (
		tokens = 40
		gap    = 2 * time.Millisecond
		slew   = 100 * time.Microsecond // by which the kernel's clock and ours may differ between two readings
	)
	if !wiretimetest.Stamps(t) {
		t.Skip("no receive times from this system")
	}
	var first, second time.Time // before these were sent
	reading, sent := make(chan struct{}), make(chan struct{})
	segments := newSegmenter(t)
	server := startRaw(t, func(c *rawConn) {
		defer close(sent)
		c.send(streamHead, fmt.Sprintf("%x\r\n", (1+tokens)*firstRead)) // all events are one chunk, as proxies make it
		<-reading
		for i := range 1 + tokens {
			event := eventOf(`"content":"a"`)
			switch i {
			case 0:
				event = eventOf(`"role":"assistant","content":""`)
			case 1:
				first = time.Now()
			case 2:
				second = time.Now()
			}
			if err := segments.send(c.Conn, event); err != nil {
				t.Error(err)
			}
			time.Sleep(gap)
		}
		c.send("\r\n")
		c.finish()
	})
	client := newClient(t, server.url(), Options{})
	client.scratch.New = func() any { // asked for when the head has been read
		close(reading)
		<-sent
		return new(scratch)
	}
	res := do(t, client, tokens)
	if n := countEvents(res); res.Outcome != probe.Completed || n != tokens {
		t.Fatalf("%v (%s) with %d events", res.Outcome, res.Detail, n)
	}
	if at := res.Sent.Add(res.FirstToken); at.Before(first.Add(-slew)) || at.After(second.Add(slew)) {
		t.Errorf("the first token is said to have come %v after it was sent; the second was sent after %v", at.Sub(first),
			second.Sub(first))
	}
	if len(res.Arrivals) != 3 || res.Arrivals[0].Events != 1 {
		t.Errorf("arrivals %+v, want the first token, what one buffer takes, and all the rest", res.Arrivals)
	}
}
