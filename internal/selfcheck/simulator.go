package selfcheck

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/inferprobe/inferprobe/internal/sim"
)

// SimulatorNice is the nice value of a simulator: it gives way to the client, so that this has the CPU which it would have
// if the server were elsewhere. With neighbours both are like any other process.
const SimulatorNice = 10

const (
	startWait = 10 * time.Second // for a simulator to serve
	truthWait = time.Minute      // for its record: some 60 MB of JSON at most
)

// flags returns the scenario's simulator as flags of `inferprobe sim`.
func (s *Scenario) flags() []string {
	return []string{
		"--listen=127.0.0.1:0",
		fmt.Sprintf("--fixed=%v,%v", timeToFirstToken, interTokenLatency),
		fmt.Sprintf("--tokens-per-event=%d", max(1, s.TokensPerEvent)),
		fmt.Sprintf("--stall-fraction=%v", s.StallFraction),
		fmt.Sprintf("--stall=%v", s.Stall),
		"--send-times",
	}
}

// simulator is a simulator in a process of its own.
type simulator struct {
	control
	cmd    *exec.Cmd
	output sync.WaitGroup
}

// start starts the simulator of a scenario and returns when it serves.
func (h *Host) start(ctx context.Context, s *Scenario) (*simulator, error) {
	command := slices.Concat(h.Simulator, s.flags())
	c := &simulator{cmd: exec.Command(command[0], command[1:]...)} //nolint:noctx // stop ends it
	c.cmd.SysProcAttr = childAttributes()
	output, err := c.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("the simulator could not be started: %w", err)
	}
	if s.Neighbours == 0 {
		if err := giveWay(c.cmd.Process.Pid, SimulatorNice); err != nil {
			c.stop()
			return nil, fmt.Errorf("the simulator could not be made to give way: %w", err)
		}
	}
	greeting := make(chan greeting, 1)
	c.output.Go(func() {
		greeting <- greet(output)
		io.Copy(io.Discard, output)
	})
	timeout := time.NewTimer(startWait)
	defer timeout.Stop()
	select {
	case said := <-greeting:
		if c.url, err = said.url, said.err; err == nil {
			return c, nil
		}
	case <-timeout.C:
		err = fmt.Errorf("the simulator did not serve within %v", startWait)
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	c.stop()
	return nil, err
}

// stop ends the process, wherever it is, and waits for it: it has nothing to put in order.
func (c *simulator) stop() {
	c.cmd.Process.Kill()
	c.output.Wait()
	c.cmd.Wait()
}

// greeting is the base URL that a simulator prints when it serves, or why there is none.
type greeting struct {
	url string
	err error
}

var address = regexp.MustCompile(`http://[^/\s]+`)

func greet(output io.Reader) greeting {
	var said []string
	lines := bufio.NewScanner(output)
	for lines.Scan() {
		if url := address.FindString(lines.Text()); url != "" {
			return greeting{url: url}
		}
		said = append(said, lines.Text())
	}
	return greeting{err: fmt.Errorf("the simulator did not start: %s", strings.Join(said, "; "))}
}

// control speaks with a simulator beside the load.
type control struct{ url string }

// truth returns the records of all finished requests.
func (c control) truth(ctx context.Context) ([]sim.Record, error) {
	ctx, cancel := context.WithTimeout(ctx, truthWait)
	defer cancel()
	body, err := c.do(ctx, http.MethodGet, "/truth")
	if err != nil {
		return nil, err
	}
	defer body.Close()
	var records []sim.Record
	for lines := json.NewDecoder(body); ; {
		var r sim.Record
		if err := lines.Decode(&r); errors.Is(err, io.EOF) {
			return records, nil
		} else if err != nil {
			return nil, fmt.Errorf("the simulator's record cannot be read: %w", err)
		}
		records = append(records, r)
	}
}

// freeze stops every step of the simulator for d from now.
func (c control) freeze(ctx context.Context, d time.Duration) error {
	body, err := c.do(ctx, http.MethodPost, "/sim/freeze?for="+url.QueryEscape(d.String()))
	if err != nil {
		return err
	}
	return body.Close()
}

// do returns the body of a successful answer. The connection is not kept.
func (c control) do(ctx context.Context, method, path string) (io.ReadCloser, error) {
	request, err := http.NewRequestWithContext(ctx, method, c.url+path, nil)
	if err != nil {
		return nil, err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode >= 300 {
		response.Body.Close()
		return nil, fmt.Errorf("the simulator answers %s %s with %s", method, path, response.Status)
	}
	return response.Body, nil
}
