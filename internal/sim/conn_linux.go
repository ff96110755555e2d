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

// sendTimes reads when the kernel sent what was written (SO_TIMESTAMPING), from the socket's queue of errors.
type sendTimes struct {
	on      bool
	raw     syscall.RawConn
	control [256]byte
}

// since returns when the kernel sent the last bytes of a write that began at began and has returned, in Unix ns; 0 if it
// does not say so or has not sent them yet.
func (s *sendTimes) since(began int64) (at int64) {
	var payload [1]byte // with none Recvmsg asks for the type of the socket first
	_ = s.raw.Control(func(fd uintptr) {
		for at < began { // of earlier writes that were sent later
			_, n, _, _, err := unix.Recvmsg(int(fd), payload[:], s.control[:], unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
			if err == unix.EINTR {
				continue
			}
			if err != nil {
				at = 0
				return
			}
			at = kernelTime(s.control[:n], unix.SCM_TIMESTAMPING)
		}
	})
	return at
}

// sendStamps asks for the time of each write, without a copy of it.
const sendStamps = unix.SOF_TIMESTAMPING_TX_SOFTWARE | unix.SOF_TIMESTAMPING_SOFTWARE | unix.SOF_TIMESTAMPING_OPT_TSONLY

func newConn(tcp *net.TCPConn, sendTimes bool) *conn {
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
	if sendTimes {
		err = raw.Control(func(fd uintptr) {
			failure = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TIMESTAMPING, sendStamps)
		})
		c.sends.on, c.sends.raw = err == nil && failure == nil, raw
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
			r.n, r.err, r.stamped = n, nil, kernelTime(r.control[:controlLength], unix.SCM_TIMESTAMPNS)
		default:
			r.n, r.err = 0, err
		}
		return true
	}
}

// kernelTime returns the time in the control message of a kind as Unix ns, 0 if there is none.
func kernelTime(control []byte, kind int32) int64 {
	for len(control) > 0 {
		header, data, rest, err := unix.ParseOneSocketControlMessage(control)
		if err != nil {
			return 0
		}
		if header.Level == unix.SOL_SOCKET && header.Type == kind && len(data) >= 16 {
			return int64(binary.NativeEndian.Uint64(data))*1e9 + int64(binary.NativeEndian.Uint64(data[8:]))
		}
		control = rest
	}
	return 0
}
