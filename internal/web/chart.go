package web

import (
	"bytes"
	"fmt"
	"html/template"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/wcharczuk/go-chart/v2"
	"github.com/wcharczuk/go-chart/v2/drawing"
)

// capacityChart draws the output tokens a second that cycles found an endpoint to bear, over time. It is empty where
// fewer than two of them found anything. Colours are the style sheet's.
func capacityChart(cycles []CycleStatus) template.HTML {
	line := chart.ContinuousSeries{YAxis: chart.YAxisSecondary, Style: visible("line")}
	line.Style.DotWidth, line.Style.DotColor = 4, drawing.ColorBlack
	for i := len(cycles) - 1; i >= 0; i-- { // oldest first
		if v := cycles[i].OutputTokensPerSecond; v > 0 && !math.IsInf(v, 0) {
			line.XValues = append(line.XValues, float64(cycles[i].Started.Unix()))
			line.YValues = append(line.YValues, v)
		}
	}
	if n := len(line.XValues); n < 2 || line.XValues[0] >= line.XValues[n-1] {
		return ""
	}
	const width, height = 720, 260
	x, y := timeTicks(line.XValues), countTicks(line.YValues)
	c := chart.Chart{
		Width: width, Height: height,
		Background: chart.Style{ClassName: "blank", Padding: chart.Box{Top: 14, Left: 8, Right: 50, Bottom: 8}},
		Canvas:     chart.Style{ClassName: "blank"},
		XAxis: chart.XAxis{Style: chart.Style{ClassName: "axis"}, Ticks: x, Range: &chart.ContinuousRange{},
			GridMajorStyle: chart.Hidden(), GridMinorStyle: chart.Hidden()},
		// The axis on the right has the ticks, too: the library takes the range of the left one from them.
		YAxis: chart.YAxis{Style: chart.Hidden(), Ticks: y, Range: &chart.ContinuousRange{}},
		YAxisSecondary: chart.YAxis{Style: chart.Style{ClassName: "axis"}, Ticks: y, Range: &chart.ContinuousRange{},
			GridMajorStyle: chart.Hidden(), GridMinorStyle: chart.Hidden(), Zero: chart.GridLine{Style: chart.Hidden()}},
	}
	for _, tick := range y {
		c.Series = append(c.Series, chart.ContinuousSeries{YAxis: chart.YAxisSecondary, Style: visible("grid"),
			XValues: []float64{x[0].Value, x[len(x)-1].Value}, YValues: []float64{tick.Value, tick.Value}})
	}
	c.Series = append(c.Series, line)
	var b bytes.Buffer
	if c.Render(chart.SVG, &b) != nil {
		return "" // the table below says the same
	}
	_, inside, _ := strings.Cut(b.String(), ">")
	return template.HTML(fmt.Sprintf( //nolint:gosec // numbers only
		`<svg role="img" aria-label="Capacity in output tokens per second, cycle by cycle: `+
			`%.0f at first, %.0f at last" viewBox="0 0 %d %d">`, line.YValues[0], line.YValues[len(line.YValues)-1], width,
		height)) + template.HTML(inside) //nolint:gosec // our own drawing, whose text is numbers
}

// visible is a style that the library draws. Which colour it has the style sheet says.
func visible(class string) chart.Style {
	return chart.Style{ClassName: class, StrokeColor: drawing.ColorBlack, StrokeWidth: 2}
}

// timeTicks are times evenly between the first and the last value.
func timeTicks(unix []float64) []chart.Tick {
	const intervals = 4
	first, last := unix[0], unix[len(unix)-1]
	layout := "2006-01-02"
	if last-first < intervals*24*60*60 {
		layout = "01-02 15:04"
	}
	var ticks []chart.Tick
	for i := range intervals + 1 {
		v := first + (last-first)*float64(i)/intervals
		ticks = append(ticks, chart.Tick{Value: v, Label: time.Unix(int64(v), 0).UTC().Format(layout)})
	}
	return ticks
}

// countTicks are round values from zero to the highest value or a little more.
func countTicks(values []float64) []chart.Tick {
	high := 0.0
	for _, v := range values {
		high = max(high, v)
	}
	const about = 5
	step := math.Pow10(int(math.Floor(math.Log10(high / about))))
	for _, factor := range []float64{2, 2.5, 2} { // 1, 2, 5, 10
		if high/step > about {
			step *= factor
		}
	}
	var ticks []chart.Tick
	for i := 0; len(ticks) == 0 || ticks[len(ticks)-1].Value < high; i++ {
		v := float64(i) * step
		ticks = append(ticks, chart.Tick{Value: v, Label: strconv.FormatFloat(v, 'g', 6, 64)})
	}
	return ticks
}
