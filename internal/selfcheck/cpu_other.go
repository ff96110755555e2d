//go:build !unix

package selfcheck

import "time"

// cpuTime is not known here.
func cpuTime() time.Duration { return 0 }
