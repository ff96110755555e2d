package sweep

import (
	"bufio"
	"bytes"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// throttled returns for how long the CPU quota of this process's cgroup has stopped it so far; 0 where that cannot be
// read, as outside of Linux.
func throttled() time.Duration { return throttledIn(os.DirFS("/")) }

// throttledIn reads the cgroup's statistics below root. The cgroup is the one that the kernel names, as of a systemd
// unit, or the root of the hierarchy where that is not to be seen, as in a container.
func throttledIn(root fs.FS) time.Duration {
	groups, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return 0
	}
	lines := bufio.NewScanner(bytes.NewReader(groups))
	for lines.Scan() {
		// hierarchy:controllers:path, with the controllers left out in version 2
		fields := strings.SplitN(lines.Text(), ":", 3)
		if len(fields) != 3 {
			continue
		}
		mount, key, unit := "sys/fs/cgroup", "throttled_usec", time.Microsecond
		switch {
		case slices.Contains(strings.Split(fields[1], ","), "cpu"):
			mount, key, unit = path.Join(mount, fields[1]), "throttled_time", time.Nanosecond
		case fields[1] != "":
			continue
		}
		for _, dir := range []string{path.Join(mount, fields[2]), mount} {
			if stat, err := fs.ReadFile(root, path.Join(dir, "cpu.stat")); err == nil {
				if d, ok := statValue(stat, key, unit); ok {
					return d
				}
			}
		}
	}
	return 0
}

// statValue returns the value of a key in a file of lines "key value".
func statValue(stat []byte, key string, unit time.Duration) (time.Duration, bool) {
	lines := bufio.NewScanner(bytes.NewReader(stat))
	for lines.Scan() {
		if name, value, ok := strings.Cut(lines.Text(), " "); ok && name == key {
			if n, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64); err == nil {
				return time.Duration(n) * unit, true
			}
		}
	}
	return 0, false
}
