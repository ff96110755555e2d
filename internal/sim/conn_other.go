//go:build !linux

package sim

import "net"

// kernelReader is nothing: the kernel's times are to be had on Linux only.
type kernelReader struct{}

// sendTimes is nothing, too.
type sendTimes struct{ on bool }

func (*sendTimes) since(int64) int64 { return 0 }

func newConn(tcp *net.TCPConn, _ bool) *conn { return &conn{TCPConn: tcp} }
