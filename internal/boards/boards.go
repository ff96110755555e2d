// Package boards generates the Grafana boards of dashboards/ from the metrics' own names, and its tests hold the boards
// and the rules beside them against what package metrics declares. `make generate` writes the files.
package boards

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

// UIDs of the boards: what links to them, and where alerts point.
const (
	overviewUID = "inferprobe-overview"
	endpointUID = "inferprobe-endpoint"
	proberUID   = "inferprobe-prober"
)

const tag = "inferprobe"

// Files returns the boards as JSON, by file name.
func Files() (map[string][]byte, error) {
	known, err := newCatalogue()
	if err != nil {
		return nil, err
	}
	files := make(map[string][]byte)
	for name, build := range map[string]func(catalogue) (*board, error){
		"overview.json": overview, "endpoint.json": endpoint, "prober.json": prober,
	} {
		b, err := build(known)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if files[name], err = b.json(); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return files, nil
}

// Write writes the boards into a folder.
func Write(dir string) error {
	files, err := Files()
	if err != nil {
		return err
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// board is one that is being built.
type board struct {
	*dashboard.DashboardBuilder
	err error
}

// scope returns what selects series by the board's variables of these names.
func (b *board) scope(known catalogue, vars ...string) scope {
	return scope{known: known, vars: vars, err: &b.err}
}

func newBoard(uid, title, description string) *board {
	//nolint:staticcheck // version 2 of boards is not what Grafana 11 and provisioning read
	b := dashboard.NewDashboardBuilder(title).Uid(uid).Description(description).Tags([]string{tag}).
		Readonly().Timezone("browser").Refresh("1m").Time("now-24h", "now").Tooltip(dashboard.DashboardCursorSyncCrosshair).
		Link(dashboard.NewDashboardLinkBuilder("inferprobe").Type(dashboard.DashboardLinkTypeDashboards).
			Tags([]string{tag}).AsDropdown(true).IncludeVars(true).KeepTime(true).Icon("external link").
			Tooltip("The other boards of inferprobe")).
		WithVariable(dashboard.NewDatasourceVariableBuilder("datasource").Label("Data source").Type("prometheus"))
	return &board{DashboardBuilder: b}
}

// targets adds the variables job and instance. All means every value in the list, not everything that Prometheus
// scrapes: metrics like up are not ours alone.
func (b *board) targets(known catalogue) {
	b.WithVariable(several("job", "Job", buildInfo))
	b.WithVariable(several("instance", "Instance", b.scope(known, "job").of(buildInfo)))
}

// variable adds one that takes its values from a label of ours. All includes the empty value: the model of an endpoint
// that never answered.
func (b *board) variable(name, label, selector string) {
	b.WithVariable(several(name, label, selector).AllValue(".*"))
}

// several returns a variable of which by default all values are selected.
func several(name, label, selector string) *dashboard.QueryVariableBuilder {
	return variable(name, label, selector).Multi(true).IncludeAll(true).
		Current(dashboard.VariableOption{
			Selected: cog.ToPtr(true),
			Text:     dashboard.StringOrArrayOfString{ArrayOfString: []string{"All"}},
			Value:    dashboard.StringOrArrayOfString{ArrayOfString: []string{"$__all"}},
		})
}

// single adds one of which exactly one value is selected.
func (b *board) single(name, label, selector string) { b.WithVariable(variable(name, label, selector)) }

func variable(name, label, selector string) *dashboard.QueryVariableBuilder {
	expr := fmt.Sprintf("label_values(%s, %s)", selector, name)
	return dashboard.NewQueryVariableBuilder(name).Label(label).Datasource(datasource()).
		Query(dashboard.StringOrMap{Map: map[string]any{"query": expr, "refId": name}}).Definition(expr).
		Refresh(dashboard.VariableRefreshOnTimeRangeChanged).Sort(dashboard.VariableSortNaturalAsc)
}

// annotation marks moments; the value of a series is a time in milliseconds where valueIsTime is set.
func (b *board) annotation(name, colour, expr, text string, valueIsTime bool) {
	b.Annotation(dashboard.NewAnnotationQueryBuilder().Name(name).Datasource(datasource()).Enable(true).Hide(false).
		IconColor(colour).Expr(expr).TitleFormat(name).TextFormat(text).UseValueForTime(valueIsTime))
}

// annotations marks reloads and firing alerts on the board.
func (b *board) annotations(s scope, alerts string) {
	b.annotation("Reload", "blue", s.of(reloadTime)+" * 1000", "{{instance}}", true)
	b.annotation("Alert", "red", alerts, "{{alertname}} {{endpoint}}", false)
}

// row starts a new row of panels.
func (b *board) row(title string) { b.WithRow(dashboard.NewRowBuilder(title)) }

// add places panels from left to right.
func (b *board) add(panels ...cog.Builder[dashboard.Panel]) {
	for _, p := range panels {
		b.WithPanel(p)
	}
}

// json completes the board and encodes it.
func (b *board) json() ([]byte, error) {
	d, err := b.Build()
	if err != nil || b.err != nil {
		return nil, errors.Join(err, b.err)
	}
	id := uint32(0)
	for _, p := range d.Panels {
		id++
		if p.Panel != nil {
			p.Panel.Id = cog.ToPtr(id)
			p.Panel.RepeatDirection = nil // the SDK sets it on panels that do not repeat
		}
		if p.RowPanel != nil {
			p.RowPanel.Id = id
		}
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(d); err != nil {
		return nil, err
	}
	return unescape(out.Bytes()), nil
}

// unescape undoes what the SDK's own encoders escape for HTML, so that a query can be read in a diff.
func unescape(b []byte) []byte {
	for escaped, plain := range map[string]string{`\u003c`: "<", `\u003e`: ">", `\u0026`: "&"} {
		b = bytes.ReplaceAll(b, []byte(escaped), []byte(plain))
	}
	return b
}

// toEndpoint links a cell or a series to the board of its endpoint.
func toEndpoint(name string) *dashboard.DashboardLinkBuilder {
	return dashboard.NewDashboardLinkBuilder("Endpoint").Type(dashboard.DashboardLinkTypeLink).
		Url("/d/" + endpointUID + "?var-endpoint=" + name + "&${datasource:queryparam}&${__url_time_range}")
}
