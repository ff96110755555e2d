//go:build !unix

package selfcheck

import (
	"syscall"
	"time"
)

// cpuTime is not known here.
func cpuTime() time.Duration { return 0 }

func giveWay(int, int) error { return nil }

func childAttributes() *syscall.SysProcAttr { return nil }
