package report

import (
	"bytes"
	"cmp"
	"fmt"
	"html/template"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/wcharczuk/go-chart/v2"
	"github.com/wcharczuk/go-chart/v2/drawing"

	"github.com/inferprobe/inferprobe/internal/probe"
)

// The size of a chart in the units of its own, which the page scales.
const (
	chartWidth  = 560
	chartHeight = 340
)

// logarithmicFrom is the ratio of the largest to the smallest value from which on an axis is logarithmic. What a server
// takes when idle would be a flat line beside what it takes when overloaded.
const logarithmicFrom = 20

// figure is a chart of the page. A figure shows the open loops by the rate that was asked for, and the synchronous
// stage by the rate that it had.
type figure struct {
	ID, Title, Unit string
	Description     string // for those who do not see it
	FromZero        bool   // and not logarithmic in any case
	Curves          []curve
	Levels          []level
}

// curve is a line through points, with a class of the style sheet for its colour.
type curve struct {
	Name, Class string
	points      []point
}

// A point is doubtful, and drawn hollow, where its stage is invalid or has too few requests for the quantile.
type point struct {
	x, y     float64
	doubtful bool
}

// level is a horizontal line.
type level struct {
	Name, Class string
	y           float64
}

// figures returns the charts of a cycle: none where it has no two rates to draw a line between.
func figures(c *probe.Cycle, stages []probe.Stage) []figure {
	inTime := func(d func(*probe.Stage) *probe.Distribution) []curve {
		var curves []curve
		for i, q := range []quantile{timeQuantiles()[3], timeQuantiles()[4], timeQuantiles()[6]} {
			curves = append(curves, curve{"p" + strings.TrimSuffix(q.name(), "%"), fmt.Sprintf("curve-%d", i+1),
				points(stages, func(s *probe.Stage) (y float64, certain, ok bool) {
					n := min(d(s).Count, s.Completed)
					return q.of(d(s)) * 1000, n >= probe.MinSamples(q.q), n > 0
				})})
		}
		return curves
	}
	throughput := curve{"output tokens", "curve-1",
		points(stages, func(s *probe.Stage) (y float64, certain, ok bool) {
			return s.OutputTokensPerSecond, true, s.Completed > 0
		})}
	all := []figure{
		{ID: "ttft", Title: "Time to First Token", Unit: "ms", Levels: objective(c.Objectives.TimeToFirstTokenP90.Seconds()),
			Curves: inTime(func(s *probe.Stage) *probe.Distribution { return &s.TimeToFirstToken })},
		{ID: "itl", Title: "Inter Token Latency", Unit: "ms", Levels: objective(c.Objectives.InterTokenLatencyP90.Seconds()),
			Curves: inTime(func(s *probe.Stage) *probe.Distribution { return &s.InterTokenLatency })},
		{ID: "throughput", Title: "Output Token Throughput", Unit: "tokens/s", FromZero: true,
			Curves: []curve{throughput}},
	}
	if ceiling := finite(c.Capacity.OutputTokensPerSecond); ceiling > 0 {
		all[2].Levels = []level{{"throughput benchmark", "level", ceiling}}
	}
	all = slices.DeleteFunc(all, func(f figure) bool { return !f.drawable() })
	for i := range all {
		all[i].describe()
	}
	return all
}

func objective(seconds float64) []level {
	if seconds == 0 {
		return nil
	}
	return []level{{"objective for p90", "level", seconds * 1000}}
}

// points returns a point for each stage of a known rate, by rising rate. The throughput stage has none: its load is a
// number of requests in flight.
func points(stages []probe.Stage, value func(*probe.Stage) (y float64, certain, ok bool)) []point {
	var all []point
	for i := range stages {
		s := &stages[i]
		x := finite(cmp.Or(s.TargetRate, s.RequestsPerSecond))
		y, certain, ok := value(s)
		if s.Profile != probe.ProfileThroughput && ok && x > 0 && number(y) != nil {
			all = append(all, point{x, y, !certain || !s.Valid()})
		}
	}
	slices.SortStableFunc(all, func(a, b point) int { return cmp.Compare(a.x, b.x) })
	return all
}

// drawable reports whether there are two rates.
func (f *figure) drawable() bool {
	p := f.Curves[0].points
	return len(p) > 1 && p[0].x < p[len(p)-1].x
}

// describe says what the chart shows, in words.
func (f *figure) describe() {
	parts := []string{fmt.Sprintf("%s in %s by requests per second.", f.Title, f.Unit)}
	for _, c := range f.Curves {
		first, last := c.points[0], c.points[len(c.points)-1]
		parts = append(parts, fmt.Sprintf("%s: %s at %s, %s at %s.", c.Name, brief(first.y), brief(first.x), brief(last.y),
			brief(last.x)))
	}
	for _, l := range f.Levels {
		parts = append(parts, fmt.Sprintf("%s: %s.", l.Name, brief(l.y)))
	}
	f.Description = strings.Join(parts, " ")
}

// Doubtful reports whether some point is.
func (f figure) Doubtful() bool {
	return slices.ContainsFunc(f.Curves, func(c curve) bool {
		return slices.ContainsFunc(c.points, func(p point) bool { return p.doubtful })
	})
}

// SVG draws the figure. Colours are the style sheet's, so that they follow the reader's choice of light or dark; there
// is no style attribute, which a strict content security policy would drop. id names the figure within its document.
func (f figure) SVG(id string) (template.HTML, error) {
	var low, high, right float64 = math.Inf(1), 0, 0
	for _, c := range f.Curves {
		for _, p := range c.points {
			low, high, right = min(low, p.y), max(high, p.y), max(right, p.x)
		}
	}
	for _, l := range f.Levels {
		low, high = min(low, l.y), max(high, l.y)
	}
	axis := newLinearAxis(high, 6)
	if !f.FromZero && low > 0 && high/low >= logarithmicFrom {
		axis = newLogarithmicAxis(low, high)
	}
	var b bytes.Buffer
	if err := f.chart(axis, newLinearAxis(right, 8)).Render(chart.SVG, &b); err != nil {
		return "", fmt.Errorf("chart %s: %w", f.ID, err)
	}
	_, inside, _ := strings.Cut(b.String(), ">")
	text := template.HTMLEscapeString
	return template.HTML(fmt.Sprintf( //nolint:gosec // our own drawing, and texts escaped here
		`<svg role="img" aria-labelledby="%[1]s-title %[1]s-desc" viewBox="0 0 %[2]d %[3]d">`+
			`<title id="%[1]s-title">%[4]s</title><desc id="%[1]s-desc">%[5]s</desc>%[6]s`,
		text(id), chartWidth, chartHeight, text(f.Title), text(f.Description), inside)), nil
}

// chart builds the library's chart, whose text is numbers only. It draws what has a colour at all; which one it is the
// style sheet says, by class.
func (f figure) chart(y, x axis) chart.Chart {
	c := chart.Chart{
		Width: chartWidth, Height: chartHeight,
		Background: chart.Style{ClassName: "blank", Padding: chart.Box{Top: 14, Left: 8, Right: 20, Bottom: 8}},
		Canvas:     chart.Style{ClassName: "blank"},
		XAxis: chart.XAxis{Name: "requests/s", NameStyle: chart.Style{ClassName: "name"},
			Style: chart.Style{ClassName: "axis"}, GridMajorStyle: chart.Hidden(), GridMinorStyle: chart.Hidden(),
			Ticks: x.ticks, Range: &chart.ContinuousRange{}},
		// The axis on the right has the ticks, too: the library takes the range of the left one from them.
		YAxis: chart.YAxis{Style: chart.Hidden(), Ticks: y.ticks, Range: &chart.ContinuousRange{}},
		YAxisSecondary: chart.YAxis{Style: chart.Style{ClassName: "axis"},
			GridMajorStyle: chart.Hidden(), GridMinorStyle: chart.Hidden(), Zero: chart.GridLine{Style: chart.Hidden()},
			Ticks: y.ticks, Range: &chart.ContinuousRange{}},
	}
	line := func(class string, x, y []float64) {
		c.Series = append(c.Series, chart.ContinuousSeries{YAxis: chart.YAxisSecondary, XValues: x, YValues: y,
			Style: chart.Style{ClassName: class, StrokeColor: drawing.ColorBlack, StrokeWidth: 1}})
	}
	left, right := x.ticks[0].Value, x.ticks[len(x.ticks)-1].Value
	for _, tick := range y.ticks {
		line("grid", []float64{left, right}, []float64{tick.Value, tick.Value})
	}
	for _, l := range f.Levels {
		at := y.place(l.y)
		line(l.Class, []float64{left, right}, []float64{at, at})
	}
	for _, curve := range f.Curves {
		for _, s := range curve.series(y) {
			c.Series = append(c.Series, s)
		}
	}
	return c
}

// series returns the curve's line and its points, those in doubt apart.
func (c curve) series(y axis) []chart.ContinuousSeries {
	var line, certain, doubtful chart.ContinuousSeries
	for _, p := range c.points {
		at := y.place(p.y)
		of := []*chart.ContinuousSeries{&line, &certain}
		if p.doubtful {
			of[1] = &doubtful
		}
		for _, s := range of {
			s.XValues, s.YValues = append(s.XValues, p.x), append(s.YValues, at)
		}
	}
	line.Style = chart.Style{ClassName: "line " + c.Class, StrokeColor: drawing.ColorBlack, StrokeWidth: 2}
	dots := chart.Style{StrokeWidth: chart.Disabled, DotWidth: 4, DotColor: drawing.ColorBlack}
	certain.Style, doubtful.Style = dots, dots
	certain.Style.ClassName, doubtful.Style.ClassName = "dot "+c.Class, "dot doubtful "+c.Class
	var all []chart.ContinuousSeries
	for _, s := range []chart.ContinuousSeries{line, certain, doubtful} {
		if s.YAxis = chart.YAxisSecondary; len(s.XValues) > 0 {
			all = append(all, s)
		}
	}
	return all
}

// axis places values between its ticks.
type axis struct {
	ticks       []chart.Tick
	logarithmic bool
}

func (a axis) place(v float64) float64 {
	if a.logarithmic {
		return math.Log10(v)
	}
	return v
}

// newLogarithmicAxis returns an axis from low or less to high or more, which are above zero.
func newLogarithmicAxis(low, high float64) axis {
	ticks := logarithmicTicks(low, high, 1, 2, 5)
	if len(ticks) > 10 {
		ticks = logarithmicTicks(low, high, 1)
	}
	a := axis{logarithmic: true}
	for _, v := range ticks {
		a.ticks = append(a.ticks, chart.Tick{Value: math.Log10(v), Label: brief(v)})
	}
	return a
}

// logarithmicTicks returns the digits times powers of ten, from the last one up to low to the first one from high on.
func logarithmicTicks(low, high float64, digits ...float64) []float64 {
	var ticks []float64
	for exponent := int(math.Floor(math.Log10(low))); ; exponent++ {
		for _, digit := range digits {
			v := digit * math.Pow10(exponent)
			if len(ticks) == 1 && v <= low {
				ticks = nil
			}
			if ticks = append(ticks, v); v >= high {
				return ticks
			}
		}
	}
}

// newLinearAxis returns an axis from zero to high or a little more, with some ticks at round values.
func newLinearAxis(high float64, about int) axis {
	if high <= 0 {
		high = 1
	}
	step := math.Pow10(int(math.Floor(math.Log10(high / float64(about)))))
	for _, factor := range []float64{2, 2.5, 2} { // 1, 2, 5, 10
		if high/step <= float64(about) {
			break
		}
		step *= factor
	}
	var a axis
	for i := 0; ; i++ {
		v := float64(i) * step
		a.ticks = append(a.ticks, chart.Tick{Value: v, Label: brief(v)})
		if v >= high*(1-1e-9) {
			return a
		}
	}
}

// brief is v with three digits, and more before the decimal point.
func brief(v float64) string {
	decimals := 0
	if v != 0 {
		decimals = max(0, 2-int(math.Floor(math.Log10(math.Abs(v)))))
	}
	text := strconv.FormatFloat(v, 'f', decimals, 64)
	if decimals == 0 {
		return text
	}
	return strings.TrimSuffix(strings.TrimRight(text, "0"), ".")
}
