package wiretime

import (
	"context"
	"net"
	"net/http/httptrace"
	"sync/atomic"
	"time"
)

// Dialer opens Conns.
type Dialer struct {
	Timeout time.Duration // for name lookup and connection together; 0 = the system's own
}

// DialContext opens a connection as net.Dialer does, and measures name lookup and connection apart. The connection is a
// *Conn on TCP networks.
func (d *Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	start := time.Now()
	var lookupStart, lookup atomic.Int64 // atomic, since nothing says in which goroutine the trace is called
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		DNSStart: func(httptrace.DNSStartInfo) { lookupStart.Store(int64(time.Since(start))) },
		DNSDone:  func(httptrace.DNSDoneInfo) { lookup.Store(int64(time.Since(start)) - lookupStart.Load()) },
	})
	dialer := net.Dialer{Timeout: d.Timeout}
	conn, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return conn, nil
	}
	total := time.Since(start)
	c := New(tcp)
	c.phases.DNS = time.Duration(lookup.Load())
	c.phases.Connect = total - c.phases.DNS
	return c, nil
}
