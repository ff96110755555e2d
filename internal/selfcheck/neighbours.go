package selfcheck

import (
	"fmt"
	"io"
	"os/exec"
)

// Spin keeps one core busy until in ends, as the standard input of a child does when its parent is gone.
func Spin(in io.Reader) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.Copy(io.Discard, in)
	}()
	for {
		select {
		case <-done:
			return
		default: //nolint:staticcheck // spinning is what it is for
		}
	}
}

// crowd is processes that do nothing but use the CPU.
type crowd []neighbour

type neighbour struct {
	cmd   *exec.Cmd
	input io.Closer
}

// crowd starts n neighbours.
func (h *Host) crowd(n int) (crowd, error) {
	var c crowd
	for range n {
		cmd := exec.Command(h.Neighbour[0], h.Neighbour[1:]...) //nolint:noctx // leave ends it
		cmd.SysProcAttr = childAttributes()
		input, err := cmd.StdinPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			c.leave()
			return nil, fmt.Errorf("a busy neighbour could not be started: %w", err)
		}
		c = append(c, neighbour{cmd, input})
	}
	return c, nil
}

// leave ends them and waits until they are gone.
func (c crowd) leave() {
	for _, n := range c {
		n.input.Close()
		n.cmd.Process.Kill()
	}
	for _, n := range c {
		n.cmd.Wait()
	}
}
