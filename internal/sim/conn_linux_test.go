package sim

import (
	"errors"
	"io"
	"os"
	"testing"
	"time"
)

// TestKernelKnowsWhenBytesArrived reads bytes long after they came.
func TestKernelKnowsWhenBytesArrived(t *testing.T) {
	server, client := connPair(t)
	buf := make([]byte, 10)
	for round := range 2 { // bytes may come before the kernel has begun to note times: the first round does not count
		if _, err := io.WriteString(client, "hello"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * ms)
		before := time.Now()
		n, err := server.Read(buf)
		if err != nil || string(buf[:n]) != "hello" {
			t.Fatalf("read %q, %v", buf[:n], err)
		}
		if received := server.receivedAt(time.Now()); round > 0 && !received.Before(before) {
			t.Errorf("received %v after the read began, want before", received.Sub(before))
		}
	}
}

func TestConnReadsEndAsOthersDo(t *testing.T) {
	server, client := connPair(t)
	buf := make([]byte, 10)
	if err := server.SetReadDeadline(time.Now().Add(-time.Second)); err != nil {
		t.Fatal(err)
	}
	var timeout interface{ Timeout() bool }
	if _, err := server.Read(buf); !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("a read past its deadline has error %v", err)
	}
	if err := server.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	if n, err := server.Read(nil); n != 0 || err != nil {
		t.Errorf("a read of nothing returns %d, %v", n, err)
	}
	client.Close()
	if _, err := server.Read(buf); err != io.EOF {
		t.Errorf("a read after the end has error %v, want EOF", err)
	}
	server.Close()
	if _, err := server.Read(buf); err == nil || err == io.EOF {
		t.Errorf("a read of a closed connection has error %v", err)
	}
}

// TestSendTimes writes what its reader takes at once: the kernel has sent it when the write returns.
func TestSendTimes(t *testing.T) {
	server, client := connPair(t)
	received := time.Now()
	record := &entry{Record: Record{Received: received}, last: received.UnixNano()}
	out := sink{w: server, flush: func() error { return nil }, conn: server, record: record}
	buf := make([]byte, 10)
	for round := range 3 {
		before := time.Now()
		if err := out.send([]byte("token"), 1); err != nil {
			t.Fatal(err)
		}
		after := time.Now()
		if _, err := io.ReadFull(client, buf[:5]); err != nil {
			t.Fatal(err)
		}
		w := record.record().Writes[round]
		if w.Before.UnixNano() < before.UnixNano() || w.After.UnixNano() > after.UnixNano() || !w.Before.Equal(w.After) {
			t.Errorf("write %d is said to have left between %v and %v after it began, want one time up to %v", round,
				w.Before.Sub(before), w.After.Sub(before), after.Sub(before))
		}
	}
	if server.sent = 0; server.sends.since(time.Now().UnixNano()) != 0 {
		t.Error("a time of a write that never was")
	}
}

// TestSendTimesReachTheRecord has a whole server record them.
func TestSendTimesReachTheRecord(t *testing.T) {
	for _, sendTimes := range []bool{false, true} {
		server, address := serve(t, Options{Fixed: fixed(ms, ms), SendTimes: sendTimes})
		exchangeRaw(t, address, rawRequest("/v1/completions", "", true), "[DONE]")
		exact := 0
		for _, w := range wait(t, server)[0].Writes {
			if w.Before.Equal(w.After) {
				exact++
			}
		}
		if sendTimes != (exact > 0) {
			t.Errorf("with %v, %d writes have one time", sendTimes, exact)
		}
	}
}
