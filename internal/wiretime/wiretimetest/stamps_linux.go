package wiretimetest

import (
	"net"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Stamps reports whether the kernel tells when it received what is read from a TCP socket. If so, it does until the test
// ends: by itself it begins a moment after the first socket asked for it, and stops with the last.
func Stamps(tb testing.TB) bool {
	tb.Helper()
	listener, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		tb.Fatal(err)
	}
	defer listener.Close()
	theirs, err := new(net.Dialer).DialContext(tb.Context(), "tcp", listener.Addr().String())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { theirs.Close() })
	ours, err := listener.AcceptTCP()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { ours.Close() })
	raw, err := ours.SyscallConn()
	if err != nil {
		tb.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1)
	}); err != nil {
		tb.Fatal(err)
	}
	for tries := 0; err == nil && tries < 1000; tries++ {
		if _, err := theirs.Write([]byte{0}); err != nil {
			tb.Fatal(err)
		}
		if told(tb, raw) {
			return true
		}
		time.Sleep(time.Millisecond)
	}
	return false
}

// told reads a byte and reports whether anything is told beside it: nothing but the time was asked for.
func told(tb testing.TB, raw syscall.RawConn) bool {
	tb.Helper()
	var control int
	var err error
	if err := raw.Read(func(fd uintptr) bool {
		_, control, _, _, err = unix.Recvmsg(int(fd), make([]byte, 1), make([]byte, 64), 0)
		return err != unix.EAGAIN
	}); err != nil {
		tb.Fatal(err)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return control > 0
}
