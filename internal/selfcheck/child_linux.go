package selfcheck

import "syscall"

// childAttributes put a child into a group of its own, out of reach of the terminal's ^C, so that we end it in order, and
// have the kernel end it if we are killed.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
