package selfcheck

import "syscall"

// childAttributes keep a child out of reach of the terminal's ^C, so that we end it in order, and have the kernel end it
// if we are killed.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
