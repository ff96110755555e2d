//go:build !linux

package sim

func newAlarm() (alarm, error) { return newTimerAlarm() }
