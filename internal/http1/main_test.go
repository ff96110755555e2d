package http1

import (
	"fmt"
	"net"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/inferprobe/inferprobe/internal/wiretime"
)

func TestMain(m *testing.M) {
	stop, err := wakeKernelTimes()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		stop()
		os.Exit(code)
	}))
}

// wakeKernelTimes keeps a connection until stop is called, and waits for the first time that the kernel gives to one:
// Linux begins to note them a while after the first socket asks, and ends when the last one is gone. Elsewhere, and where
// it gives none, it returns all the same.
func wakeKernelTimes() (stop func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer l.Close()
	sender, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return nil, err
	}
	accepted, err := l.Accept()
	if err != nil {
		return nil, err
	}
	reader, x := wiretime.New(accepted.(*net.TCPConn)), wiretime.NewExchange(0)
	reader.Begin(x)
	for end := time.Now().Add(2 * time.Second); !x.LastRead().Kernel && time.Now().Before(end); time.Sleep(time.Millisecond) {
		if _, err := sender.Write([]byte{0}); err != nil {
			return nil, err
		}
		if _, err := reader.Read(make([]byte, 1)); err != nil {
			return nil, err
		}
	}
	return func() { sender.Close(); reader.Close() }, nil
}
