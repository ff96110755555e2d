//go:build !linux

package selfcheck

import "syscall"

func childAttributes() *syscall.SysProcAttr { return nil }
