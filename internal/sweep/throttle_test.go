package sweep

import (
	"testing"
	"testing/fstest"
	"time"

	"github.com/inferprobe/inferprobe/internal/probe"
	"github.com/inferprobe/inferprobe/internal/sim/simtest"
)

func TestThrottled(t *testing.T) {
	const v1 = "nr_periods 40\nnr_throttled 12\nthrottled_time 345678901\nnr_bursts 0\n"
	const v2 = "usage_usec 1200\nuser_usec 1000\nsystem_usec 200\nnr_periods 40\nnr_throttled 12\nthrottled_usec 345678\n"
	type files map[string]string
	for name, test := range map[string]struct {
		files files
		want  time.Duration
	}{
		"no cgroups, as outside of Linux": {files{}, 0},
		"version 2, in a container": {files{
			"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.stat": v2,
		}, 345678 * time.Microsecond},
		"version 2, a systemd unit": {files{
			"proc/self/cgroup": "0::/system.slice/inferprobe.service\n",
			"sys/fs/cgroup/system.slice/inferprobe.service/cpu.stat": v2, "sys/fs/cgroup/cpu.stat": "usage_usec 9\n",
		}, 345678 * time.Microsecond},
		"version 2, a path of the host seen from inside": {files{
			"proc/self/cgroup": "0::/../../kubepods/pod1/c1\n", "sys/fs/cgroup/cpu.stat": v2,
		}, 345678 * time.Microsecond},
		"version 2, no quota": {files{
			"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.stat": "usage_usec 1200\n",
		}, 0},
		"version 1": {files{
			"proc/self/cgroup":                      "4:memory:/\n2:cpuacct:/a\n1:cpu:/a\n0::/\n",
			"sys/fs/cgroup/cpu/a/cpu.stat":          v1,
			"sys/fs/cgroup/cpu/cpu.stat":            "throttled_time 0\n",
			"sys/fs/cgroup/cpuacct/a/cpuacct.usage": "1",
		}, 345678901},
		"version 1, controllers together, in a container": {files{
			"proc/self/cgroup":                       "3:cpu,cpuacct:/docker/1234\n",
			"sys/fs/cgroup/cpu,cpuacct/cpu.stat":     v1,
			"sys/fs/cgroup/cpu,cpuacct/cpuacct.stat": "user 1\n",
		}, 345678901},
		"both versions, the quota in the first": {files{
			"proc/self/cgroup": "0::/\n1:cpu:/\n", "sys/fs/cgroup/cpu/cpu.stat": v1,
		}, 345678901},
		"nothing that can be read": {files{
			"proc/self/cgroup": "nonsense\n\n1:cpu\n0::/\n", "sys/fs/cgroup/cpu.stat": "throttled_usec many\nthrottled_usec\n",
		}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			root := fstest.MapFS{}
			for path, text := range test.files {
				root[path] = &fstest.MapFile{Data: []byte(text)}
			}
			if got := throttledIn(root); got != test.want {
				t.Errorf("%s, want %s", got, test.want)
			}
		})
	}
}

// TestThrottlingIsFound: what counts is for how long the quota stopped the process during the stage, not before it.
func TestThrottlingIsFound(t *testing.T) {
	_, url := simtest.Start(t, steady())
	for name, during := range map[string]time.Duration{"during the stage": 100 * milli, "before the stage": 0} {
		t.Run(name, func(t *testing.T) {
			c := prepared(t, targetAt(url, Plan{
				Profile: probe.ProfileConstant, RateList: []float64{100}, MaxRequests: 40, MaxDuration: 30 * time.Second,
			}))
			stopped := time.Hour
			c.throttled = func() time.Duration {
				defer func() { stopped += during }()
				return stopped
			}
			c.runStages(t.Context())
			if during > 0 {
				checkVisible(t, c.Cycle, probe.FindingCPUThrottled, true)
			} else if has(&c.Stages[0], probe.FindingCPUThrottled) {
				t.Errorf("found %v", c.Stages[0].Findings)
			}
		})
	}
}
