package schedule

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestNextIsTheFirstSlotAfterT(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.String().Draw(t, "name")
		interval := time.Duration(rapid.Int64Range(int64(time.Second), int64(48*time.Hour)).Draw(t, "interval"))
		at := time.Unix(0, rapid.Int64Range(0, 4e18).Draw(t, "at"))
		next := Next(name, interval, at)
		if !next.After(at) || next.Sub(at) > interval {
			t.Fatalf("next is %s after %s, interval %s", next.Sub(at), at, interval)
		}
		if again := Next(name, interval, next); again.Sub(next) != interval {
			t.Fatalf("slots are %s apart, want %s", again.Sub(next), interval)
		}
		if restarted := Next(name, interval, at.Add(next.Sub(at)/2)); !restarted.Equal(next) {
			t.Fatalf("a restart moved the slot from %s to %s", next, restarted)
		}
	})
}

func TestNamesSpreadOverTheInterval(t *testing.T) {
	at := time.Unix(1_800_000_000, 0)
	var quarters [4]int
	for i := range 400 {
		name := "endpoint-" + time.Duration(i).String()
		quarters[int(Next(name, 4*time.Hour, at).Sub(at)/time.Hour)%4]++
	}
	for i, n := range quarters {
		if n < 60 || n > 140 {
			t.Errorf("quarter %d holds %d of 400 endpoints", i, n)
		}
	}
}
