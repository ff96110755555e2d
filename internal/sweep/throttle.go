package sweep

import (
	"bufio"
	"bytes"
	"os"
	"strconv"
	"strings"
	"time"
)

// throttled returns for how long the CPU quota of this process's cgroup has stopped it so far; 0 where that cannot be
// read. Inside a container both hierarchies show the container's own cgroup at their root.
func throttled() time.Duration {
	if b, err := os.ReadFile("/sys/fs/cgroup/cpu.stat"); err == nil {
		return statValue(b, "throttled_usec", time.Microsecond)
	}
	for _, path := range []string{"/sys/fs/cgroup/cpu/cpu.stat", "/sys/fs/cgroup/cpu,cpuacct/cpu.stat"} {
		if b, err := os.ReadFile(path); err == nil {
			return statValue(b, "throttled_time", time.Nanosecond)
		}
	}
	return 0
}

func statValue(stat []byte, key string, unit time.Duration) time.Duration {
	lines := bufio.NewScanner(bytes.NewReader(stat))
	for lines.Scan() {
		if name, value, ok := strings.Cut(lines.Text(), " "); ok && name == key {
			if n, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64); err == nil {
				return time.Duration(n) * unit
			}
		}
	}
	return 0
}
