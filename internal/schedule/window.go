package schedule

import (
	"slices"
	"time"
)

const week = 7 * 24 * time.Hour

// Window is a daily span of wall-clock time on some days of the week. One that ends before it begins reaches into the
// next day.
type Window struct {
	Days     []time.Weekday // those on which it begins
	From, To time.Duration  // since midnight by the clock on the wall, up to 24 h
	Location *time.Location
}

// span returns the window that begins on the day of t, which has the days of the window's location, if one does. On the
// days on which clocks change it is as much longer or shorter as they say.
func (w Window) span(t time.Time) (from, to time.Time, ok bool) {
	if !slices.Contains(w.Days, t.Weekday()) {
		return from, to, false
	}
	at := func(days int, clock time.Duration) time.Time {
		return time.Date(t.Year(), t.Month(), t.Day()+days, int(clock.Hours()), int(clock.Minutes())%60, 0, 0, w.Location)
	}
	if w.To > w.From {
		return at(0, w.From), at(0, w.To), true
	}
	return at(0, w.From), at(1, w.To), true
}

// holds reports whether t lies in the window, and when that ends.
func (w Window) holds(t time.Time) (end time.Time, ok bool) {
	day := t.In(w.Location)
	for _, back := range []int{0, -1} {
		from, to, ok := w.span(day.AddDate(0, 0, back))
		if ok && !t.Before(from) && t.Before(to) {
			return to, true
		}
	}
	return end, false
}

// opens returns the first time after t at which the window begins, the zero time if it never does.
func (w Window) opens(t time.Time) time.Time {
	day := t.In(w.Location)
	for ahead := range 9 { // a week, and the day on which clocks changed
		if from, to, ok := w.span(day.AddDate(0, 0, ahead)); ok && from.After(t) && to.After(from) {
			return from
		}
	}
	return time.Time{}
}
