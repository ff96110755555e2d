package config

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/inferprobe/inferprobe/internal/schedule"
)

// Window is a window as it was written.
type Window struct {
	schedule.Window
	text string
}

// String returns the window as it was written.
func (w Window) String() string { return w.text }

// MarshalText returns what String returns.
func (w Window) MarshalText() ([]byte, error) { return []byte(w.text), nil }

// parseWindow takes "[days] HH:MM-HH:MM [zone]": days as Mon-Fri or Sat,Sun, all if left out; an IANA zone, UTC if left
// out.
func parseWindow(text string) (Window, error) {
	w := Window{Window: schedule.Window{Location: time.UTC}, text: text}
	fields := strings.Fields(text)
	fail := func(why string) (Window, error) {
		return Window{}, fmt.Errorf("%s is not a window%s; write for example Mon-Fri 22:00-06:00 Europe/Berlin",
			quoted(text), why)
	}
	var err error
	if len(fields) > 0 && !strings.Contains(fields[0], ":") {
		if w.Days, err = parseDays(fields[0]); err != nil {
			return fail(": " + err.Error())
		}
		fields = fields[1:]
	} else {
		w.Days, _ = parseDays("Mon-Sun")
	}
	if len(fields) == 2 {
		// LoadLocation takes "Local" and paths too: what they mean depends on the machine.
		if w.Location, err = time.LoadLocation(fields[1]); err != nil || fields[1] == "Local" {
			return fail(": there is no time zone " + quoted(fields[1]))
		}
		fields = fields[:1]
	}
	if len(fields) != 1 {
		return fail("")
	}
	from, to, ok := strings.Cut(fields[0], "-")
	var fromErr, toErr error
	w.From, fromErr = parseClock(from)
	w.To, toErr = parseClock(to)
	if !ok || fromErr != nil || toErr != nil {
		return fail("")
	}
	if w.From == w.To {
		return fail(": it is empty")
	}
	return w, nil
}

// parseClock takes 00:00 to 24:00.
func parseClock(text string) (time.Duration, error) {
	if text == "24:00" {
		return 24 * time.Hour, nil
	}
	t, err := time.Parse("15:04", text)
	if err != nil || len(text) != len("15:04") {
		return 0, fmt.Errorf("%s is not a time of day", quoted(text))
	}
	return time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute, nil
}

// parseDays takes a comma-separated list of days and spans of days.
func parseDays(text string) ([]time.Weekday, error) {
	var days []time.Weekday
	for part := range strings.SplitSeq(text, ",") {
		from, to, span := strings.Cut(part, "-")
		if !span {
			to = from
		}
		first, last := weekday(from), weekday(to)
		if first < 0 || last < 0 {
			return nil, fmt.Errorf("%s names no days", quoted(part))
		}
		for d := first; ; d = (d + 1) % 7 {
			if !slices.Contains(days, d) {
				days = append(days, d)
			}
			if d == last {
				break
			}
		}
	}
	return days, nil
}

// weekday returns the day with the English abbreviation name, -1 if there is none.
func weekday(name string) time.Weekday {
	for d := time.Sunday; d <= time.Saturday; d++ {
		if d.String()[:3] == name {
			return d
		}
	}
	return -1
}
