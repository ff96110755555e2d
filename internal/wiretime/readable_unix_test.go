//go:build unix

package wiretime

import "syscall"

// readable reports whether data wait on the socket.
func readable(fd uintptr) bool {
	n, _, err := syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK)
	return err == nil && n > 0
}
