package sim

import (
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// fdAlarm is an alarm on a timerfd that the runtime's poller watches: the kernel wakes the poller to the microsecond
// and no thread blocks.
type fdAlarm struct {
	file *os.File
	conn syscall.RawConn
}

func newAlarm() (alarm, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("timerfd_create", err)
	}
	file := os.NewFile(uintptr(fd), "timerfd")
	conn, err := file.SyscallConn()
	if err != nil {
		file.Close()
		return nil, err
	}
	return &fdAlarm{file: file, conn: conn}, nil
}

// set goes through the RawConn, which refuses once the file is closed: its number may be another file's by then.
func (a *fdAlarm) set(in time.Duration) {
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(max(in, 1)))} // 0 would disarm it
	_ = a.conn.Control(func(fd uintptr) { _ = unix.TimerfdSettime(int(fd), 0, &spec, nil) })
}

func (a *fdAlarm) wait() bool {
	var expirations [8]byte
	_, err := a.file.Read(expirations[:])
	return err == nil
}

func (a *fdAlarm) close() { a.file.Close() }
