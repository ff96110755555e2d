package sim

import (
	"testing"
	"time"
)

// TestAlarm holds both alarms to what the scheduler relies on: they ring, not before their time, the last setting
// counts, and close ends a wait.
func TestAlarm(t *testing.T) {
	for name, newAlarm := range map[string]func() (alarm, error){"system": newAlarm, "timer": newTimerAlarm} {
		t.Run(name, func(t *testing.T) {
			a, err := newAlarm()
			if err != nil {
				t.Fatal(err)
			}
			a.set(time.Hour)
			start := time.Now()
			a.set(2 * ms)
			if !a.wait() {
				t.Error("a set alarm was closed")
			}
			if d := time.Since(start); d < 2*ms {
				t.Errorf("it rang after %v, want 2 ms or more", d)
			}
			for _, in := range []time.Duration{0, -time.Second} {
				a.set(in)
				if !a.wait() {
					t.Errorf("an alarm set to %v was closed", in)
				}
			}
			a.set(time.Hour)
			ended := make(chan bool)
			go func() { ended <- a.wait() }()
			a.close()
			if <-ended {
				t.Error("a closed alarm rang")
			}
			a.set(0) // must do no harm
		})
	}
}
