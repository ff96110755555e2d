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
