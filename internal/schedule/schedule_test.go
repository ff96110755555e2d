package schedule

import (
	"testing"
	"time"

	"github.com/robfig/cron/v3"
	"pgregory.net/rapid"
)

func TestNextIsTheFirstSlotAfterT(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		interval := time.Duration(rapid.Int64Range(int64(time.Second), int64(48*time.Hour)).Draw(t, "interval"))
		p := Plan{Name: rapid.String().Draw(t, "name"), Interval: interval}
		at := time.Unix(0, rapid.Int64Range(0, 4e18).Draw(t, "at"))
		next := p.Next(at)
		if !next.After(at) || next.Sub(at) > interval {
			t.Fatalf("next is %s after %s, interval %s", next.Sub(at), at, interval)
		}
		if again := p.Next(next); again.Sub(next) != interval {
			t.Fatalf("slots are %s apart, want %s", again.Sub(next), interval)
		}
		if restarted := p.Next(at.Add(next.Sub(at) / 2)); !restarted.Equal(next) {
			t.Fatalf("a restart moved the slot from %s to %s", next, restarted)
		}
		if after := p.After(at); after.Sub(at) < interval/2 || after.Sub(at) > interval*3/2+1 {
			t.Fatalf("the cycle after %s is due %s later, interval %s", at, after.Sub(at), interval)
		}
	})
}

func TestNamesSpreadOverTheInterval(t *testing.T) {
	at := time.Unix(1_800_000_000, 0)
	var quarters [4]int
	for i := range 400 {
		p := Plan{Name: "endpoint-" + time.Duration(i).String(), Interval: 4 * time.Hour}
		quarters[int(p.Next(at).Sub(at)/time.Hour)%4]++
	}
	for i, n := range quarters {
		if n < 60 || n > 140 {
			t.Errorf("quarter %d holds %d of 400 endpoints", i, n)
		}
	}
}

func location(t *testing.T, name string) *time.Location {
	t.Helper()
	l, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func parse(t *testing.T, text string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func TestCron(t *testing.T) {
	for _, tt := range []struct{ cron, at, next string }{
		{"0 3 * * *", "2026-11-24T13:00:00+02:00", "2026-11-25T03:00:00Z"},
		{"CRON_TZ=Europe/Berlin 0 3 * * *", "2026-11-24T13:00:00Z", "2026-11-25T02:00:00Z"},
		{"CRON_TZ=Europe/Berlin 0 3 * * *", "2026-06-24T13:00:00Z", "2026-06-25T01:00:00Z"},
		{"CRON_TZ=Europe/Berlin 30 2 * * *", "2026-03-29T00:00:00Z", "2026-03-30T00:30:00Z"}, // 02:30 is skipped on the 29th
		{"@daily", "2026-11-24T13:00:00Z", "2026-11-25T00:00:00Z"},
		{"0 0 31 2 *", "2026-11-24T13:00:00Z", "0001-01-01T00:00:00Z"},
	} {
		c, err := cron.ParseStandard(tt.cron)
		if err != nil {
			t.Fatal(err)
		}
		p := Plan{Name: "a", Interval: time.Hour, Cron: c}
		if next := p.Next(parse(t, tt.at)); !next.Equal(parse(t, tt.next)) {
			t.Errorf("%s after %s: %s, want %s", tt.cron, tt.at, next, tt.next)
		}
		if next := p.After(parse(t, tt.at)); !next.Equal(parse(t, tt.next)) {
			t.Errorf("%s after a cycle at %s: %s, want %s", tt.cron, tt.at, next, tt.next)
		}
	}
}

func TestWindows(t *testing.T) {
	weekdays := []time.Weekday{time.Monday, time.Tuesday, time.Wednesday, time.Thursday, time.Friday}
	everyDay := append(weekdays[:5:5], time.Saturday, time.Sunday)
	berlin := location(t, "Europe/Berlin")
	nights := Window{Days: weekdays, From: 22 * time.Hour, To: 6 * time.Hour, Location: berlin}
	noon := Window{Days: everyDay, From: 12 * time.Hour, To: 13*time.Hour + 30*time.Minute, Location: time.UTC}
	morning := Window{Days: everyDay, From: 0, To: 12 * time.Hour, Location: time.UTC}
	evening := Window{Days: everyDay, From: 12 * time.Hour, To: 24 * time.Hour, Location: time.UTC}
	for _, tt := range []struct {
		name    string
		windows []Window
		at      string
		until   string // "" = closed, "ever" = always open
		opens   string // when a cycle that comes due is due
	}{
		{"no windows", nil, "2026-11-24T13:00:00Z", "ever", ""},
		{"before", []Window{noon}, "2026-11-24T11:59:59Z", "", "2026-11-24T12:00:00Z"},
		{"at its begin", []Window{noon}, "2026-11-24T12:00:00Z", "2026-11-24T13:30:00Z", ""},
		{"at its end", []Window{noon}, "2026-11-24T13:30:00Z", "", "2026-11-25T12:00:00Z"},
		{"past midnight", []Window{nights}, "2026-11-24T23:30:00Z", "2026-11-25T05:00:00Z", ""},
		{"the night of Friday", []Window{nights}, "2026-11-28T04:00:00Z", "2026-11-28T05:00:00Z", ""},
		{"the night of Saturday", []Window{nights}, "2026-11-28T21:30:00Z", "", "2026-11-30T21:00:00Z"},
		{"the night clocks go forward", []Window{{Days: everyDay, From: time.Hour, To: 4 * time.Hour, Location: berlin}},
			"2026-03-29T00:30:00Z", "2026-03-29T02:00:00Z", ""},
		{"the night clocks go back", []Window{{Days: everyDay, From: time.Hour, To: 4 * time.Hour, Location: berlin}},
			"2026-10-25T00:30:00Z", "2026-10-25T03:00:00Z", ""},
		{"two that overlap", []Window{noon, {Days: everyDay, From: 13 * time.Hour, To: 15 * time.Hour, Location: time.UTC}},
			"2026-11-24T12:30:00Z", "2026-11-24T15:00:00Z", ""},
		{"two that make the whole day", []Window{morning, evening}, "2026-11-24T13:00:00Z", "ever", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := Plan{Name: "a", Interval: time.Second, Windows: tt.windows}
			at := parse(t, tt.at)
			until, open := p.Open(at)
			switch {
			case open != (tt.until != ""):
				t.Fatalf("open: %v", open)
			case tt.until == "ever" && !until.IsZero(), open && tt.until != "ever" && !until.Equal(parse(t, tt.until)):
				t.Errorf("open until %s, want %s", until, tt.until)
			}
			if tt.opens != "" {
				if due := p.allowed(at); !due.Equal(parse(t, tt.opens)) {
					t.Errorf("due at %s, want %s", due, tt.opens)
				}
			}
		})
	}
}

// TestDueInsideOfWindows has what comes due lie in a window, whatever window and schedule.
func TestDueInsideOfWindows(t *testing.T) {
	zones := []*time.Location{time.UTC, location(t, "America/New_York"), location(t, "Australia/Lord_Howe")}
	rapid.Check(t, func(t *rapid.T) {
		days := rapid.SliceOfNDistinct(rapid.IntRange(0, 6), 1, 7, rapid.ID).Draw(t, "days")
		w := Window{Location: rapid.SampledFrom(zones).Draw(t, "zone")}
		for _, d := range days {
			w.Days = append(w.Days, time.Weekday(d))
		}
		w.From = time.Duration(rapid.IntRange(0, 24*60-1).Draw(t, "from")) * time.Minute
		length := rapid.IntRange(121, 24*60-1).Draw(t, "length") // longer than any change of clocks
		w.To = (w.From + time.Duration(length)*time.Minute) % (24 * time.Hour)
		p := Plan{Name: "a", Windows: []Window{w},
			Interval: time.Duration(rapid.IntRange(60, 100_000).Draw(t, "interval")) * time.Second}
		at := time.Unix(rapid.Int64Range(1_500_000_000, 2_500_000_000).Draw(t, "at"), 0)
		next := p.Next(at)
		until, open := p.Open(next)
		if !next.After(at) || next.Sub(at) > 8*24*time.Hour+p.Interval || !open || !until.IsZero() && !until.After(next) {
			t.Fatalf("after %s due at %s, open: %v until %s", at, next, open, until)
		}
	})
}
