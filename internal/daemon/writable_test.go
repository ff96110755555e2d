package daemon

import (
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// TestLedgerIsPartOfTheHistory: a folder in which the tokens spent cannot be written down is not writable, also before
// the next cycle is to be written.
func TestLedgerIsPartOfTheHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := endpoint("a", nobody)
		e.Sweep.Interval = 0
		c := configure(t, e)
		h := startWith(t, Options{Config: c})
		stop := h.serve(t)
		check := func(when string, want float64) {
			t.Helper()
			h.ledger.Spend("a", 1, time.Now())
			time.Sleep(6 * time.Second)
			if got, _ := h.value(t, "history_writable"); got != want {
				t.Errorf("%s: %v, want %v", when, got, want)
			}
		}
		check("at first", 1)
		if err := os.RemoveAll(c.History.Dir); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(c.History.Dir, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		check("with a file in place of the folder", 0)
		if err := os.Remove(c.History.Dir); err != nil {
			t.Fatal(err)
		}
		check("when it can be made again", 1)
		stop()
	})
}
