//go:build !linux

package sim

import "net"

// kernelReader is nothing: receive times are to be had on Linux only.
type kernelReader struct{}

func newConn(tcp *net.TCPConn) *conn { return &conn{TCPConn: tcp} }
