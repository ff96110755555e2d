package wiretime

import (
	"context"
	"fmt"
	"net"
	"net/http/httptrace"
	"sync/atomic"
	"time"
)

// Dialer opens Conns.
type Dialer struct {
	Timeout time.Duration // for name lookup and connection together; 0 = the system's own
}

// Dial opens a TCP connection to a host and port, and measures name lookup and connection apart.
func (d *Dialer) Dial(ctx context.Context, address string) (*Conn, error) {
	start := time.Now()
	var lookupStart, lookup atomic.Int64 // atomic, since nothing says in which goroutine the trace is called
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		DNSStart: func(httptrace.DNSStartInfo) { lookupStart.Store(int64(time.Since(start))) },
		DNSDone:  func(httptrace.DNSDoneInfo) { lookup.Store(int64(time.Since(start)) - lookupStart.Load()) },
	})
	dialer := net.Dialer{Timeout: d.Timeout}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		conn.Close()
		return nil, fmt.Errorf("a connection to %s is a %T, not one of TCP", address, conn)
	}
	total := time.Since(start)
	c := New(tcp)
	c.phases.DNS = time.Duration(lookup.Load())
	c.phases.Connect = total - c.phases.DNS
	return c, nil
}
