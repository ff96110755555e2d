package sweep

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/inferprobe/inferprobe/internal/probe"
	"github.com/inferprobe/inferprobe/internal/sim/simtest"
)

// joinCgroup names, to a process of this test, the cgroup that it is to join.
const joinCgroup = "INFERPROBE_TEST_CGROUP"

// TestQuotaIsFound runs a stage, and its simulator, in a process whose cgroup gives it a fifth of a CPU, while one of its
// goroutines asks for a whole one.
func TestQuotaIsFound(t *testing.T) {
	if dir := os.Getenv(joinCgroup); dir != "" {
		runThrottled(t, dir)
		return
	}
	dir := newCgroup(t)
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	child.Env = append(os.Environ(), joinCgroup+"="+dir)
	out, err := child.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Errorf("in %s: %v\n%s", dir, err, out)
	}
}

// newCgroup returns the folder of a cgroup with 20 ms of CPU in each 100 ms, which ends with the test. Where none can be
// made, by anyone but root or in most containers, it skips the test.
func newCgroup(t *testing.T) string {
	t.Helper()
	for _, version := range []struct{ mount, key, quota string }{
		{"/sys/fs/cgroup/cpu", "cpu.cfs_quota_us", "20000"}, // of a period of 100,000 µs, which is the default
		{"/sys/fs/cgroup", "cpu.max", "20000 100000"},       // where the root lets its children have the controller
	} {
		dir := filepath.Join(version.mount, "inferprobe-test-"+strconv.Itoa(os.Getpid()))
		if err := os.Mkdir(dir, 0o755); err != nil {
			continue
		}
		t.Cleanup(func() {
			if err := os.Remove(dir); err != nil {
				t.Error(err)
			}
		})
		quota, err := os.OpenFile(filepath.Join(dir, version.key), os.O_WRONLY, 0)
		if err != nil { // no cgroup of this version, or one without the controller
			continue
		}
		defer quota.Close()
		if _, err := quota.WriteString(version.quota); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	t.Skip("no cgroup with a CPU quota can be made here")
	return ""
}

func runThrottled(t *testing.T, dir string) {
	t.Helper()
	_, url := simtest.Start(t, steady())
	c := prepared(t, targetAt(url, Plan{
		Profile: probe.ProfileConstant, RateList: []float64{100}, MaxRequests: 40, MaxDuration: 30 * time.Second,
	}))
	if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0); err != nil {
		t.Fatal(err)
	}
	stop := keepBusy(1)
	c.runStages(t.Context())
	stop()
	checkVisible(t, c.Cycle, probe.FindingCPUThrottled, true)
}
