package sim

import (
	"encoding/binary"
	"io"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// kernelReader reads from a socket with the kernel's receive times (SO_TIMESTAMPNS). It is not shared with package
// wiretime on purpose: the simulator judges what that measures.
type kernelReader struct {
	raw     syscall.RawConn // nil if the socket has no such times
	step    func(fd uintptr) bool
	control [64]byte

	// Of the read under way.
	buf     []byte
	n       int
	stamped int64 // Unix ns, 0 = no time came
	err     error
}

func newConn(tcp *net.TCPConn) *conn {
	c := &conn{TCPConn: tcp}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return c
	}
	var failure error
	err = raw.Control(func(fd uintptr) {
		failure = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1)
	})
	if err == nil && failure == nil {
		c.reader.raw = raw
		c.reader.step = c.reader.receive
	}
	return c
}

// Read reads from the connection, and notes when the kernel had received the last byte of it.
func (c *conn) Read(b []byte) (int, error) {
	r := &c.reader
	if r.raw == nil || len(b) == 0 {
		return c.TCPConn.Read(b)
	}
	r.buf = b
	if err := r.raw.Read(r.step); err != nil {
		return 0, err
	}
	switch {
	case r.err != nil:
		return 0, &net.OpError{Op: "read", Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: r.err}
	case r.n == 0:
		return 0, io.EOF
	case r.stamped == 0:
		r.stamped = time.Now().UnixNano()
	}
	c.arrived.Store(r.stamped)
	return r.n, nil
}

// receive tries to read once, and reports false if there is nothing to read yet.
func (r *kernelReader) receive(fd uintptr) bool {
	for {
		n, controlLength, _, _, err := unix.Recvmsg(int(fd), r.buf, r.control[:], 0)
		switch err {
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			return false
		case nil:
			r.n, r.err, r.stamped = n, nil, kernelTime(r.control[:controlLength])
		default:
			r.n, r.err = 0, err
		}
		return true
	}
}

// kernelTime returns the time in control messages as Unix ns, 0 if there is none.
func kernelTime(control []byte) int64 {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return 0
	}
	for _, m := range messages {
		if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SCM_TIMESTAMPNS && len(m.Data) >= 16 {
			return int64(binary.NativeEndian.Uint64(m.Data))*1e9 + int64(binary.NativeEndian.Uint64(m.Data[8:]))
		}
	}
	return 0
}
