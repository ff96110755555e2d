package wiretime

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// kernelReader reads from a socket by recvmsg, which tells the time of the data beside them. What one read needs is
// kept here, so that a read allocates nothing (unix.Recvmsg allocates room for an address); the mutex makes concurrent
// reads wait for each other, as net's own do.
type kernelReader struct {
	tcp   *net.TCPConn
	raw   syscall.RawConn
	limit func(n int) int       // how many of n bytes may be taken now
	recv  func(fd uintptr) bool // these two are made once: a closure made for each read would be allocated
	peek  func(fd uintptr) bool

	mu     sync.Mutex
	size   int  // of the buffer
	waited bool // there were no data at first
	full   bool // the last read filled its buffer
	msg    unix.Msghdr
	iov    unix.Iovec
	oob    [64]byte // one control message of a timespec takes 32
	n      int
	err    error
	empty  bool    // nothing was there to peek at
	peeked [1]byte // where it would have gone
}

// newKernelReader switches the socket's receive times on. It returns nil where the system has none.
func newKernelReader(tcp *net.TCPConn, limit func(n int) int) *kernelReader {
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil
	}
	var optErr error
	err = raw.Control(func(fd uintptr) {
		optErr = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1)
	})
	if err != nil || optErr != nil {
		return nil
	}
	k := &kernelReader{tcp: tcp, raw: raw, limit: limit}
	k.recv, k.peek = k.recvmsg, k.look
	k.msg.Iov = &k.iov
	k.msg.SetIovlen(1)
	k.msg.Control = &k.oob[0]
	return k
}

// read reads into p, which is not empty.
func (k *kernelReader) read(p []byte) (n int, t taken, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.iov.Base = &p[0]
	k.size, k.waited = len(p), false
	err = k.raw.Read(k.recv)
	k.iov.Base = nil
	switch {
	case err != nil: // closed, or past the deadline
		var op *net.OpError
		if errors.As(err, &op) {
			op.Op = "read"
		}
		return 0, taken{}, err
	case k.err != nil:
		return 0, taken{}, &net.OpError{
			Op: "read", Net: "tcp", Source: k.tcp.LocalAddr(), Addr: k.tcp.RemoteAddr(),
			Err: os.NewSyscallError("recvmsg", k.err),
		}
	case k.n == 0:
		return 0, taken{}, io.EOF
	}
	t = taken{kernel: timeOf(k.oob[:k.msg.Controllen]), followed: k.full && !k.waited}
	k.full = k.n == int(k.iov.Len)
	return k.n, t, nil
}

// recvmsg makes one attempt and reports whether it is done; otherwise the poller waits for data and tries again.
func (k *kernelReader) recvmsg(fd uintptr) bool {
	k.iov.SetLen(k.limit(k.size))
	for {
		k.msg.SetControllen(len(k.oob))
		n, _, errno := unix.Syscall(unix.SYS_RECVMSG, fd, uintptr(unsafe.Pointer(&k.msg)), 0) //nolint:gosec // as package unsafe allows: (4)
		switch errno {
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			k.waited = true
			return false
		case 0:
			k.n, k.err = int(n), nil
		default:
			k.err = errno
		}
		return true
	}
}

// quiet reports whether there is nothing to read, not even an end.
func (k *kernelReader) quiet() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.empty = false
	return k.raw.Read(k.peek) == nil && k.empty
}

// look looks at what is there without taking it.
func (k *kernelReader) look(fd uintptr) bool {
	_, _, errno := unix.Syscall6(unix.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&k.peeked)), uintptr(len(k.peeked)), //nolint:gosec // as package unsafe allows: (4)
		unix.MSG_PEEK|unix.MSG_DONTWAIT, 0, 0)
	k.empty = errno == unix.EAGAIN
	return true
}

// timeOf finds the receive time among the control messages of a read, in nanoseconds since 1970; 0 if it is not there.
func timeOf(oob []byte) int64 {
	for len(oob) > 0 {
		header, data, rest, err := unix.ParseOneSocketControlMessage(oob)
		if err != nil {
			return 0
		}
		if header.Level == unix.SOL_SOCKET && header.Type == unix.SO_TIMESTAMPNS {
			switch len(data) { // a timespec of two words
			case 16:
				return int64(binary.NativeEndian.Uint64(data))*1e9 + int64(binary.NativeEndian.Uint64(data[8:]))
			case 8:
				return int64(binary.NativeEndian.Uint32(data))*1e9 + int64(binary.NativeEndian.Uint32(data[4:]))
			}
		}
		oob = rest
	}
	return 0
}
