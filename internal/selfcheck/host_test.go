//go:build unix

package selfcheck

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/inferprobe/inferprobe/internal/prompt"
	"github.com/inferprobe/inferprobe/internal/tokenizer"
)

// testHost is a host whose children are this test binary.
func testHost(t *testing.T, child string) *Host {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(childVariable, child)
	pool, err := prompt.NewPool(newWordTokenizer())
	if err != nil {
		t.Fatal(err)
	}
	return &Host{Simulator: []string{program}, Neighbour: []string{program}, Pools: builtin{pool}}
}

// wordTokenizer has a token for each of some words, with a space before it and without, and one for everything else.
type wordTokenizer struct{ ids map[string]uint32 }

const vocabulary = 300

func word(i uint32) string { return fmt.Sprintf("w%c%c%c", 'a'+i/100, 'a'+i/10%10, 'a'+i%10) }

func newWordTokenizer() wordTokenizer {
	t := wordTokenizer{make(map[string]uint32)}
	for id := range uint32(vocabulary) {
		t.ids[word(id)] = id
	}
	return t
}

func (wordTokenizer) Name() string { return "words" }

func (t wordTokenizer) Encode(text string) ([]uint32, error) {
	var ids []uint32
	for i, w := range strings.Split(text, " ") {
		id, ok := t.ids[w]
		if !ok {
			id = vocabulary
		}
		if i > 0 {
			id += vocabulary + 1
		}
		ids = append(ids, id)
	}
	return ids, nil
}

func (wordTokenizer) Pieces() iter.Seq[tokenizer.Piece] {
	return func(yield func(tokenizer.Piece) bool) {
		for id := range uint32(vocabulary) {
			if !yield(tokenizer.Piece{ID: id, Text: word(id)}) ||
				!yield(tokenizer.Piece{ID: id + vocabulary + 1, Text: "Ġ" + word(id)}) {
				return
			}
		}
	}
}

func TestRun(t *testing.T) {
	h := testHost(t, "simulator")
	o, err := h.Run(t.Context(), Scenario{Name: "smoke", Rate: 20, Duration: time.Second / 2})
	if err != nil {
		t.Fatal(err)
	}
	if o.Requests != 10 || o.Failed != 0 || o.Stage.Completed != 10 {
		t.Errorf("%d requests compared, %d failed, %d completed", o.Requests, o.Failed, o.Stage.Completed)
	}
	// Tokens that arrive together with the first one have no gap.
	if n := o.Stage.InterTokenLatency.Count; n < 10 || n > 10*(outputTokens-1) {
		t.Errorf("%d gaps", n)
	}
	for _, m := range o.latencies() {
		for _, q := range m.comparison.quantiles() {
			if q.truth <= 0 {
				t.Errorf("true %s %s is %v", m.name, q.name, q.truth)
			}
		}
	}
	if o.Rate <= 0 || o.Lateness.Max <= 0 || o.TTFT.Single.Max <= 0 {
		t.Errorf("rate %v, lateness %+v, single errors %+v", o.Rate, o.Lateness, o.TTFT.Single)
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	h := testHost(t, "simulator")
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second/4, errors.New("told to stop"))
	defer cancel()
	_, err := h.Run(ctx, Scenario{Name: "long", Rate: 20, Duration: time.Hour, Freeze: time.Millisecond})
	if err == nil || err.Error() != "told to stop" {
		t.Errorf("error %v", err)
	}
}

func TestStartSaysWhyNot(t *testing.T) {
	if _, err := testHost(t, "refusing").start(t.Context(), new(Scenario)); err == nil ||
		!strings.Contains(err.Error(), "inferprobe: no such flag") {
		t.Errorf("error %v", err)
	}
	h := testHost(t, "silent")
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second/10, errors.New("told to stop"))
	defer cancel()
	if _, err := h.start(ctx, new(Scenario)); err == nil || err.Error() != "told to stop" {
		t.Errorf("error %v", err)
	}
	h.Simulator[0] += "-missing"
	if _, err := h.start(t.Context(), new(Scenario)); err == nil {
		t.Error("a program that is not there was started")
	}
}

// alive reports whether a process exists.
func alive(p *os.Process) bool { return syscall.Kill(p.Pid, 0) == nil }

// niceness returns the highest nice value of a process's threads.
func niceness(t *testing.T, pid int) int {
	t.Helper()
	out, err := exec.Command("ps", "-L", "-o", "ni=", "-p", strconv.Itoa(pid)).Output()
	if err != nil {
		t.Skip("no ps: ", err)
	}
	highest := math.MinInt
	for _, field := range strings.Fields(string(out)) {
		nice, err := strconv.Atoi(field)
		if err != nil {
			t.Fatal(err)
		}
		highest = max(highest, nice)
	}
	return highest
}

func TestSimulatorGivesWay(t *testing.T) {
	server, err := testHost(t, "simulator").start(t.Context(), new(Scenario))
	if err != nil {
		t.Fatal(err)
	}
	defer server.stop()
	if own, of := niceness(t, os.Getpid()), niceness(t, server.cmd.Process.Pid); of <= own && own < SimulatorNice {
		t.Errorf("the simulator has nice value %d, we have %d", of, own)
	}
}

func TestChildrenEnd(t *testing.T) {
	h := testHost(t, "simulator")
	server, err := h.start(t.Context(), new(Scenario))
	if err != nil {
		t.Fatal(err)
	}
	if !alive(server.cmd.Process) {
		t.Error("the simulator is not there")
	}
	server.stop()
	if alive(server.cmd.Process) {
		t.Error("the simulator is still there")
	}

	h = testHost(t, "neighbour")
	neighbours, err := h.crowd(2)
	if err != nil {
		t.Fatal(err)
	}
	neighbours.leave()
	for _, n := range neighbours {
		if alive(n.cmd.Process) {
			t.Error("a neighbour is still there")
		}
	}
	h.Neighbour[0] += "-missing"
	if _, err := h.crowd(1); err == nil {
		t.Error("a program that is not there was started")
	}
}

// TestNeighbourOutlivesNobody closes a neighbour's input, as the end of its parent does.
func TestNeighbourOutlivesNobody(t *testing.T) {
	testHost(t, "neighbour")
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	in, out := io.Pipe()
	cmd := exec.Command(program)
	cmd.Stdin = in
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	out.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

func TestFreeze(t *testing.T) {
	h := testHost(t, "simulator")
	const freeze = time.Second / 2
	o, err := h.Run(t.Context(), Scenario{Name: "frozen", Rate: 20, Duration: time.Second / 2, Freeze: freeze})
	if err != nil {
		t.Fatal(err)
	}
	if o.E2E.True.Max < (timeToFirstToken + freeze).Seconds() {
		t.Errorf("the longest request took %v s", o.E2E.True.Max)
	}
}

func TestLook(t *testing.T) {
	g, err := Look(t.Context(), 10*glanceEvery)
	if err != nil {
		t.Fatal(err)
	}
	if g.WakeDelay.Max <= 0 || g.KernelTimes != (g.ReceiveLag.Max > 0) {
		t.Errorf("%+v", g)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("told to stop"))
	if _, err := Look(ctx, time.Hour); err == nil {
		t.Error("no error after the context had ended")
	}
}
