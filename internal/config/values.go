package config

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Count is a number of things; the file gives 20000000 or 20M.
type Count int64

// Ratio is a share between 0 and 1; the file gives 1% or 0.01.
type Ratio float64

// Secret is text that must not be shown: every way of printing or encoding it gives "[redacted]".
type Secret string

// Value returns the text itself.
func (s Secret) Value() string { return string(s) }

// String returns "[redacted]", or nothing if there is no secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "[redacted]"
}

// Format writes what String returns, whatever the verb.
func (s Secret) Format(f fmt.State, _ rune) { fmt.Fprint(f, s.String()) }

// MarshalText returns what String returns.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue returns what String returns.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// Seconds is a flag's value that takes a bare number of seconds beside a duration: "120", "2m".
type Seconds time.Duration

// Set parses a number of seconds or a duration.
func (s *Seconds) Set(text string) error {
	if n, err := strconv.ParseFloat(text, 64); err == nil && n >= 0 && n < math.MaxInt64/float64(time.Second) {
		*s = Seconds(n * float64(time.Second))
		return nil
	}
	d, err := parseDuration(text)
	if err != nil {
		return fmt.Errorf("%s is not a number of seconds", quoted(text))
	}
	*s = Seconds(d)
	return nil
}

// String returns the value as a duration.
func (s *Seconds) String() string { return time.Duration(*s).String() }

// Type is the word that a flag's usage shows.
func (s *Seconds) Type() string { return "seconds" }

// Types of scalars that have a syntax of their own.
//
//nolint:gochecknoglobals // never changed
var (
	durationType = reflect.TypeFor[time.Duration]()
	countType    = reflect.TypeFor[Count]()
	ratioType    = reflect.TypeFor[Ratio]()
	lengthType   = reflect.TypeFor[Length]()
	windowType   = reflect.TypeFor[Window]()
	headerType   = reflect.TypeFor[Header]()
	objectType   = reflect.TypeFor[Object]()
)

// parse turns the text of a scalar into a value of type t. The error says what would be right.
func parse(t reflect.Type, text string) (any, error) {
	switch t {
	case durationType:
		return parseDuration(text)
	case countType:
		return parseCount(text)
	case ratioType:
		return parseRatio(text)
	case windowType:
		return parseWindow(text)
	case headerType:
		return parseHeader(text)
	case lengthType:
		n, err := parseInt(text)
		return Length{Mean: n}, err
	}
	switch t.Kind() {
	case reflect.Int:
		return parseInt(text)
	case reflect.Float64:
		return parseNumber(text)
	case reflect.Bool:
		return parseBool(text)
	case reflect.String:
		return text, nil
	}
	panic("config: no syntax for " + t.String()) // a field of a new type, which every test would meet
}

// parseDuration takes what time.ParseDuration takes, less the sign, and whole or broken days in front: 1d12h.
func parseDuration(text string) (time.Duration, error) { return parseTime(text, "6h or 90m", "s", "m") }

// parseLatency takes the same. Its examples are as short as latencies are.
func parseLatency(_ reflect.Type, text string) (any, error) {
	return parseTime(text, "500ms or 2s", "ms", "s")
}

// parseTime suggests the examples for what is no duration, and the units for a number without one.
func parseTime(text, examples, unit, otherUnit string) (time.Duration, error) {
	fail := fmt.Errorf("%s is not a duration; write for example %s", quoted(text), examples)
	if n, err := strconv.ParseFloat(text, 64); err == nil {
		if n == 0 {
			return 0, nil
		}
		return 0, fmt.Errorf("%s has no unit; write for example %s%s or %s%s", quoted(text), text, unit, text, otherUnit)
	}
	if strings.HasPrefix(text, "-") {
		return 0, fmt.Errorf("%s is negative; write for example %s", quoted(text), examples)
	}
	rest := text
	var days time.Duration
	if before, after, ok := strings.Cut(text, "d"); ok {
		n, err := parseNumber(before)
		if err != nil || n > math.MaxInt64/float64(24*time.Hour)/2 {
			return 0, fail
		}
		days, rest = time.Duration(n*float64(24*time.Hour)), after
		if rest == "" {
			return days, nil
		}
	}
	d, err := time.ParseDuration(rest)
	if err != nil || d < 0 || d > math.MaxInt64-days {
		return 0, fail
	}
	return days + d, nil
}

var decimal = regexp.MustCompile(`^[0-9]+(\.[0-9]+)?$`)

// parseNumber takes a plain decimal number: no sign, no exponent, no NaN.
func parseNumber(text string) (float64, error) {
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || !decimal.MatchString(text) {
		return 0, fmt.Errorf("%s is not a number; write for example 2 or 0.5", quoted(text))
	}
	return n, nil
}

func parseInt(text string) (int, error) {
	n, err := strconv.Atoi(text)
	switch {
	case errors.Is(err, strconv.ErrRange):
		return 0, fmt.Errorf("%s is too large", quoted(text))
	case err != nil || strconv.Itoa(n) != text:
		return 0, fmt.Errorf("%s is not a whole number", quoted(text))
	}
	return n, nil
}

func parseBool(text string) (bool, error) {
	if text != "true" && text != "false" {
		return false, fmt.Errorf("%s is neither true nor false", quoted(text))
	}
	return text == "true", nil
}

// parseCount takes a number with one of the SI prefixes k, M and G, or none.
func parseCount(text string) (Count, error) {
	digits, factor := text, 1.0
	for prefix, f := range map[string]float64{"k": 1e3, "M": 1e6, "G": 1e9} {
		if d, ok := strings.CutSuffix(text, prefix); ok {
			digits, factor = d, f
		}
	}
	n, err := parseNumber(digits)
	if n *= factor; err != nil || n != math.Trunc(n) || n >= 1<<63 {
		return 0, fmt.Errorf("%s is not a count; write for example 500k or 20M", quoted(text))
	}
	return Count(n), nil
}

// parseRatio takes 1% or 0.01.
func parseRatio(text string) (Ratio, error) {
	digits, percent := strings.CutSuffix(text, "%")
	n, err := parseNumber(digits)
	if err != nil {
		return 0, fmt.Errorf("%s is not a share; write for example 1%% or 0.01", quoted(text))
	}
	if percent {
		n /= 100
	}
	if n > 1 && n <= 100 && !percent {
		return 0, fmt.Errorf("%s is more than the whole; write %s%% or %v", quoted(text), text, n/100)
	}
	if n > 1 {
		return 0, fmt.Errorf("%s is more than the whole; write for example 1%% or 0.01", quoted(text))
	}
	return Ratio(n), nil
}
