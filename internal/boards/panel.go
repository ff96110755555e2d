package boards

import (
	"fmt"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/variants"
	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/heatmap"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/statetimeline"
	"github.com/grafana/grafana-foundation-sdk/go/table"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
	"github.com/grafana/grafana-foundation-sdk/go/xychart"
)

// Units, as Grafana names them.
const (
	seconds         = "s"
	bytesUnit       = "bytes"
	bytesPerSecond  = "Bps"
	share           = "percentunit"
	perSecond       = "reqps"
	tokensPerSecond = "suffix: tok/s"
	number          = "short"
	plain           = "none"
	words           = "string"
)

// head is what every panel has.
type head struct {
	title       string
	description string
	unit        string
	width       uint32 // of 24 columns
	height      uint32 // in rows of 30 pixels
}

// query is a target: an expression with the name of its series.
type query struct {
	expr   string
	legend string
}

// builder is what the builders of all panel types share.
type builder[T any] interface {
	cog.Builder[dashboard.Panel]
	Title(string) T
	Description(string) T
	Unit(string) T
	Span(uint32) T
	Height(uint32) T
	Datasource(common.DataSourceRef) T
	WithTarget(cog.Builder[variants.Dataquery]) T
}

// fill sets the head and the targets of a panel; refine completes each target.
func fill[T builder[T]](p T, h head, queries []query, refine func(*prometheus.DataqueryBuilder)) T {
	p = p.Title(h.title).Description(h.description).Unit(h.unit).Span(h.width).Height(h.height).Datasource(datasource())
	for i, q := range queries {
		target := prometheus.NewDataqueryBuilder().
			RefId(string(rune('A' + i))).Datasource(datasource()).Expr(q.expr).
			EditorMode(prometheus.QueryEditorModeCode)
		if q.legend != "" {
			target.LegendFormat(q.legend)
		}
		refine(target)
		p = p.WithTarget(target)
	}
	return p
}

func overTime(t *prometheus.DataqueryBuilder) { t.Range().Format(prometheus.PromQueryFormatTimeSeries) }

func now(t *prometheus.DataqueryBuilder) { t.Instant().Format(prometheus.PromQueryFormatTimeSeries) }

func nowAsTable(t *prometheus.DataqueryBuilder) { t.Instant().Format(prometheus.PromQueryFormatTable) }

func asBuckets(t *prometheus.DataqueryBuilder) {
	counted(t.Range().Format(prometheus.PromQueryFormatHeatmap))
}

func countsOverTime(t *prometheus.DataqueryBuilder) {
	overTime(t)
	counted(t)
}

// counted makes a step as long as the window of increase: shorter ones would show each event in several.
func counted(t *prometheus.DataqueryBuilder) { t.Interval("$__rate_interval") }

// datasource is the one that the board's variable selects.
func datasource() common.DataSourceRef {
	return common.DataSourceRef{Type: cog.ToPtr("prometheus"), Uid: cog.ToPtr("${datasource}")}
}

func legend() *common.VizLegendOptionsBuilder {
	return common.NewVizLegendOptionsBuilder().ShowLegend(true).DisplayMode(common.LegendDisplayModeTable).
		Placement(common.LegendPlacementBottom).Calcs([]string{"lastNotNull", "max"})
}

// names is a legend without values, where there are many series or none of their values says much.
func names() *common.VizLegendOptionsBuilder {
	return common.NewVizLegendOptionsBuilder().ShowLegend(true).DisplayMode(common.LegendDisplayModeList).
		Placement(common.LegendPlacementBottom).Calcs([]string{})
}

func tooltip() *common.VizTooltipOptionsBuilder {
	return common.NewVizTooltipOptionsBuilder().Mode(common.TooltipDisplayModeMulti).Sort(common.SortOrderDescending)
}

// graph draws series over time.
func graph(h head, queries ...query) *timeseries.PanelBuilder {
	return drawn(fill(timeseries.NewPanelBuilder(), h, queries, overTime))
}

func drawn(p *timeseries.PanelBuilder) *timeseries.PanelBuilder {
	return p.Legend(legend()).Tooltip(tooltip()).LineWidth(1).FillOpacity(8).
		ShowPoints(common.VisibilityModeAuto).SpanNulls(common.BoolOrFloat64{Bool: cog.ToPtr(false)})
}

// lines draws series over time from zero on.
func lines(h head, queries ...query) *timeseries.PanelBuilder { return graph(h, queries...).Min(0) }

// steps draws values that change from cycle to cycle.
func steps(h head, queries ...query) *timeseries.PanelBuilder { return stepped(lines(h, queries...)) }

func stepped(p *timeseries.PanelBuilder) *timeseries.PanelBuilder {
	return p.LineInterpolation(common.LineInterpolationStepAfter).LineWidth(2).FillOpacity(0).
		ShowPoints(common.VisibilityModeNever)
}

// ratios draws values around 1 that change from cycle to cycle.
func ratios(h head, queries ...query) *timeseries.PanelBuilder {
	return stepped(graph(h, queries...)).AxisSoftMin(0.8).AxisSoftMax(1.2)
}

// bars draws counts over time, stacked.
func bars(h head, queries ...query) *timeseries.PanelBuilder {
	return drawn(fill(timeseries.NewPanelBuilder(), h, queries, countsOverTime)).Min(0).
		DrawStyle(common.GraphDrawStyleBars).FillOpacity(80).LineWidth(0).
		ShowPoints(common.VisibilityModeNever).
		Stacking(common.NewStackingConfigBuilder().Mode(common.StackingModeNormal).Group("A")).
		Legend(legend().Calcs([]string{}))
}

// heat draws the distribution of a histogram over time.
func heat(h head, expr string) *heatmap.PanelBuilder {
	return fill(heatmap.NewPanelBuilder(), h, []query{{expr, "{{le}}"}}, asBuckets).
		Calculate(false).CellGap(0).ShowLegend().
		YAxis(heatmap.NewYAxisConfigBuilder().Unit(h.unit).AxisPlacement(common.AxisPlacementLeft)).
		Color(heatmap.NewHeatmapColorOptionsBuilder().Mode(heatmap.HeatmapColorModeScheme).Scheme("Spectral").
			Fill("dark-orange").Scale(heatmap.HeatmapColorScaleExponential).Exponent(0.5).Steps(64).Reverse(true)).
		Tooltip(heatmap.NewHeatmapTooltipBuilder().Mode(common.TooltipDisplayModeSingle).YHistogram(true).
			ShowColorScale(true)).
		FilterValues(heatmap.NewFilterValueRangeBuilder().Le(1e-9))
}

// withExemplars marks single requests on a panel: the exemplars of its first query, as each further one of the same
// histogram would mark them again.
func withExemplars(panel cog.Builder[dashboard.Panel]) cog.Builder[dashboard.Panel] {
	return exemplified{panel}
}

type exemplified struct{ cog.Builder[dashboard.Panel] }

// Build implements cog.Builder.
func (e exemplified) Build() (dashboard.Panel, error) {
	p, err := e.Builder.Build()
	if err != nil {
		return p, err
	}
	first, ok := p.Targets[0].(prometheus.Dataquery)
	if !ok {
		return p, fmt.Errorf("the first query is a %T", p.Targets[0])
	}
	first.Exemplar = cog.ToPtr(true)
	p.Targets[0] = first
	p.Description = cog.ToPtr(*p.Description + " Points are single requests, with their ids in logs and traces.")
	return p, nil
}

// lamp shows the present value on the colour that it has: what must be seen from afar.
func lamp(h head, queries ...query) *stat.PanelBuilder {
	return figure(h, queries...).ColorMode(common.BigValueColorModeBackgroundSolid)
}

// figure shows the present value in large type.
func figure(h head, queries ...query) *stat.PanelBuilder {
	return fill(stat.NewPanelBuilder(), h, queries, now).
		ReduceOptions(common.NewReduceDataOptionsBuilder().Calcs([]string{"lastNotNull"}).Values(false).Fields("")).
		ColorMode(common.BigValueColorModeValue).GraphMode(common.BigValueGraphModeNone).
		TextMode(common.BigValueTextModeAuto).JustifyMode(common.BigValueJustifyModeCenter).
		Orientation(common.VizOrientationAuto).WideLayout(true).ShowPercentChange(false).
		Thresholds(from("text"))
}

// pair shows two present values with their names. Grafana would fit the text to half of the panel, and make it tiny.
func pair(h head, first, second query) *stat.PanelBuilder {
	return figure(h, first, second).TextMode(common.BigValueTextModeValueAndName).
		Text(common.NewVizTextDisplayOptionsBuilder().TitleSize(14).ValueSize(24))
}

// states draws which of a few states held when.
func states(h head, mapping dashboard.ValueMapping, queries ...query) *statetimeline.PanelBuilder {
	return fill(statetimeline.NewPanelBuilder(), h, queries, overTime).
		Mappings([]dashboard.ValueMapping{mapping}).MergeValues(true).ShowValue(common.VisibilityModeNever).
		RowHeight(0.85).LineWidth(0).FillOpacity(80).Thresholds(from("text")).
		Legend(names()).
		Tooltip(common.NewVizTooltipOptionsBuilder().Mode(common.TooltipDisplayModeSingle).Sort(common.SortOrderNone))
}

// column is one of a table's: a query whose values it shows, or, without one, a label.
type column struct {
	name   string
	expr   string
	label  string
	unit   string
	width  float64
	colour *dashboard.ThresholdsConfigBuilder // of the cell's background
	values *dashboard.ValueMapping
	link   *dashboard.DashboardLinkBuilder
}

// order is what a table is sorted by.
type order struct {
	column     string
	descending bool
}

// grid shows a row for each set of labels. All queries must have the same labels, each of which needs a column of its
// own.
func grid(h head, sorted order, columns ...column) *table.PanelBuilder {
	var queries []query
	position, rename := make(map[string]any), make(map[string]any)
	only := len(columns)-countLabels(columns) == 1
	for i, c := range columns {
		field := c.label
		if c.expr != "" {
			field = "Value" // Grafana adds the query's name where there are several
			if !only {
				field = fmt.Sprintf("Value #%c", 'A'+len(queries))
			}
			queries = append(queries, query{expr: c.expr})
		}
		position[field], rename[field] = i, c.name
	}
	p := fill(table.NewPanelBuilder(), h, queries, nowAsTable).
		ShowHeader(true).CellHeight(common.TableCellHeightSm).Thresholds(from("text")).
		Footer(common.NewTableFooterOptionsBuilder().Show(false).Reducer([]string{})).
		WithTransformation(transformation("merge", map[string]any{})).
		WithTransformation(organize(position, rename)).
		WithTransformation(sortBy(sorted))
	for _, c := range columns {
		if properties := c.properties(); properties != nil {
			p = p.OverrideByName(c.name, properties)
		}
	}
	return p
}

func transformation(id string, options map[string]any) dashboard.DataTransformerConfig {
	return dashboard.DataTransformerConfig{Id: id, Options: options}
}

// organize puts columns in order, names them, and leaves out the time.
func organize(position, rename map[string]any) dashboard.DataTransformerConfig {
	return transformation("organize", map[string]any{
		"excludeByName": map[string]any{"Time": true}, "indexByName": position, "renameByName": rename,
		"includeByName": map[string]any{},
	})
}

func sortBy(o order) dashboard.DataTransformerConfig {
	return transformation("sortBy", map[string]any{
		"fields": map[string]any{}, "sort": []any{map[string]any{"field": o.column, "desc": o.descending}},
	})
}

func countLabels(columns []column) (n int) {
	for _, c := range columns {
		if c.expr == "" {
			n++
		}
	}
	return n
}

// properties returns how the cells of the column look.
func (c *column) properties() (list []dashboard.DynamicConfigValue) {
	add := func(id string, value any) { list = append(list, dashboard.DynamicConfigValue{Id: id, Value: value}) }
	if c.unit != "" {
		add("unit", c.unit)
	}
	if c.width > 0 {
		add("custom.width", c.width)
	}
	if c.colour != nil || c.values != nil {
		add("custom.cellOptions", map[string]any{"type": "color-background", "mode": "basic"})
	}
	if c.values != nil {
		add("custom.align", "left")
	}
	if c.colour != nil {
		thresholds, err := c.colour.Build()
		if err == nil {
			add("thresholds", thresholds)
		}
	}
	if c.values != nil {
		add("mappings", []dashboard.ValueMapping{*c.values})
	}
	if c.link != nil {
		link, err := c.link.Build()
		if err == nil {
			add("links", []dashboard.DashboardLink{link})
		}
	}
	return list
}

// curve draws values of the stages against a common one, its first column: a row for each stage, in the order of x.
func curve(h head, x column, ys ...column) *xychart.PanelBuilder {
	queries := []query{{expr: x.expr}}
	rename := map[string]any{"Value #A": x.name}
	var series []cog.Builder[xychart.XYSeriesConfig]
	for i, y := range ys {
		queries = append(queries, query{expr: y.expr})
		rename[fmt.Sprintf("Value #%c", 'B'+i)] = y.name
		series = append(series, xychart.NewXYSeriesConfigBuilder().
			Frame(xychart.NewXychartXYSeriesConfigFrameBuilder().Matcher(byIndex(0))).
			X(xychart.NewXychartXYSeriesConfigXBuilder().Matcher(byName(x.name))).
			Y(xychart.NewXychartXYSeriesConfigYBuilder().Matcher(byName(y.name))))
	}
	return fill(xychart.NewPanelBuilder(), h, queries, nowAsTable).
		Mapping(xychart.SeriesMappingManual).Series(series).Show(xychart.XYShowModePointsAndLines).
		PointSize(xychart.NewXychartFieldConfigPointSizeBuilder().Fixed(7)).LineWidth(2).Min(0).
		Legend(names()).
		Tooltip(common.NewVizTooltipOptionsBuilder().Mode(common.TooltipDisplayModeSingle).Sort(common.SortOrderNone)).
		WithTransformation(transformation("merge", map[string]any{})).
		WithTransformation(organize(map[string]any{}, rename)).
		WithTransformation(sortBy(order{column: x.name})).
		OverrideByName(x.name, []dashboard.DynamicConfigValue{
			{Id: "unit", Value: x.unit}, {Id: "custom.axisLabel", Value: x.name},
		})
}

func byName(name string) *xychart.MatcherConfigBuilder {
	return xychart.NewMatcherConfigBuilder().Id("byName").Options(name)
}

func byIndex(i int) *xychart.MatcherConfigBuilder {
	return xychart.NewMatcherConfigBuilder().Id("byIndex").Options(i)
}

// step is a colour from a value on.
type step struct {
	value  float64
	colour string
}

// from returns thresholds: base below the first step.
func from(base string, steps ...step) *dashboard.ThresholdsConfigBuilder {
	list := []dashboard.Threshold{{Color: base}}
	for _, s := range steps {
		list = append(list, dashboard.Threshold{Value: cog.ToPtr(s.value), Color: s.colour})
	}
	return dashboard.NewThresholdsConfigBuilder().Mode(dashboard.ThresholdsModeAbsolute).Steps(list)
}

// meaning is what a value stands for.
type meaning struct {
	value  int
	text   string
	colour string
}

// mapping shows words and colours instead of values.
func mapping(meanings ...meaning) dashboard.ValueMapping {
	options := make(map[string]dashboard.ValueMappingResult)
	for i, m := range meanings {
		options[fmt.Sprint(m.value)] = dashboard.ValueMappingResult{
			Text: cog.ToPtr(m.text), Color: cog.ToPtr(m.colour), Index: cog.ToPtr(int32(i)),
		}
	}
	return dashboard.ValueMapping{ValueMap: &dashboard.ValueMap{Type: dashboard.MappingTypeValueToText, Options: options}}
}

// colour gives the series of that name a fixed colour, and a dashed line if wished.
func colour(name string, dash bool) []dashboard.DynamicConfigValue {
	list := []dashboard.DynamicConfigValue{{Id: "color", Value: map[string]any{"mode": "fixed", "fixedColor": name}}}
	if dash {
		list = append(list, dashed()...)
	}
	return list
}

// edge draws a series as that of a band, filled down to the series of the given name, which is the other edge.
func edge(below string) []dashboard.DynamicConfigValue {
	list := append(colour("green", false), dashboard.DynamicConfigValue{Id: "custom.lineWidth", Value: 0},
		dashboard.DynamicConfigValue{Id: "custom.hideFrom", Value: map[string]any{"legend": true, "tooltip": false, "viz": false}})
	if below == "" {
		return list
	}
	return append(list, dashboard.DynamicConfigValue{Id: "custom.fillBelowTo", Value: below},
		dashboard.DynamicConfigValue{Id: "custom.fillOpacity", Value: 20})
}

// dashed draws a series as a dashed line.
func dashed() []dashboard.DynamicConfigValue {
	return []dashboard.DynamicConfigValue{
		{Id: "custom.lineStyle", Value: map[string]any{"fill": "dash", "dash": []int{8, 8}}},
		{Id: "custom.fillOpacity", Value: 0},
	}
}
