package sim

import (
	"io"
	"net"
	"testing"
	"time"
)

// connPair returns the two ends of a loopback connection.
func connPair(t *testing.T) (server *conn, client net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err = net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	accepted, err := listener{Listener: l, sendTimes: true}.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { accepted.Close() })
	return accepted.(*conn), client
}

// TestHeldEventsAreOneWrite has a writer that makes several writes of one, as net/http does.
func TestHeldEventsAreOneWrite(t *testing.T) {
	server, client := connPair(t)
	record := &entry{}
	out := sink{w: byteWriter{server}, flush: func() error { return nil }, conn: server, record: record, hold: true}
	for _, event := range []string{"one", "two"} {
		if err := out.send([]byte(event), 1); err != nil {
			t.Fatal(err)
		}
	}
	if err := out.release(); err != nil {
		t.Fatal(err)
	}
	if got := string(server.held); got != "onetwo" {
		t.Errorf("the last write while corked held %q, want onetwo", got)
	}
	if writes := record.record().Writes; len(writes) != 1 || writes[0].Tokens != 2 {
		t.Errorf("the record has writes %v, want one with two tokens", writes)
	}
	server.Close()
	if got, err := io.ReadAll(client); err != nil || string(got) != "onetwo" {
		t.Errorf("the client read %q, %v; want onetwo", got, err)
	}
}

// byteWriter makes a write of every byte.
type byteWriter struct{ w io.Writer }

func (b byteWriter) Write(p []byte) (int, error) {
	for i := range p {
		if n, err := b.w.Write(p[i : i+1]); err != nil {
			return i + n, err
		}
	}
	return len(p), nil
}

func TestReceivedAt(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		name          string
		arrived, want time.Time
	}{
		{"late by a millisecond", now.Add(-ms), now.Add(-ms)},
		{"from the future", now.Add(ms), now},
		{"not known", time.Unix(0, 0), now},
	} {
		conn := &conn{}
		conn.arrived.Store(c.arrived.UnixNano())
		if got := conn.receivedAt(now); !got.Equal(c.want) {
			t.Errorf("%s: received at %v, want %v", c.name, got.Sub(now), c.want.Sub(now))
		}
	}
	if got := (*conn)(nil).receivedAt(now); !got.Equal(now) {
		t.Errorf("without a connection of ours: %v, want now", got)
	}
}
