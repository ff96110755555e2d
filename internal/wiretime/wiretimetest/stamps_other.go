//go:build !linux

package wiretimetest

import "testing"

// Stamps reports whether the kernel tells when it received what is read from a TCP socket: only Linux does.
func Stamps(testing.TB) bool { return false }
