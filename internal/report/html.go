package report

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"

	"github.com/inferprobe/inferprobe/internal/probe"
)

var (
	//go:embed report.html
	reportHTML string
	//go:embed report.css
	reportCSS string
)

// documentCSS is what a document of its own needs beside the report's style sheet.
const documentCSS = "body { margin: 0 auto; max-width: 100rem; padding: 1.5rem clamp(1rem, 3vw, 3rem); }\n"

// WriteHTML writes cycles as one HTML document: for each of them a verdict, charts, GuideLLM's four tables, and what
// follows from them. The document needs nothing from elsewhere and runs no script. All is written at once.
func WriteHTML(w io.Writer, cycles ...*probe.Cycle) error {
	pages := make([]cyclePage, len(cycles))
	for i, c := range cycles {
		var err error
		if pages[i], err = newCyclePage(c, fmt.Sprintf("cycle-%d", i+1)); err != nil {
			return err
		}
	}
	return execute(w, "document", map[string]any{
		"Style": template.CSS(documentCSS + reportCSS), //nolint:gosec // constants
		"Title": documentTitle(cycles), "Cycles": pages})
}

// HTMLPart returns the report of one cycle as a part of a document: its style sheet, which touches nothing outside the
// part, and the part itself. Foreign text in it is escaped; it has neither scripts nor style attributes.
func HTMLPart(c *probe.Cycle) (style, body string, err error) {
	page, err := newCyclePage(c, "cycle")
	if err != nil {
		return "", "", err
	}
	var b strings.Builder
	err = execute(&b, "cycle", page)
	return reportCSS, b.String(), err
}

func execute(w io.Writer, name string, data any) error {
	t := template.Must(template.New("report").Parse(reportHTML))
	var b bytes.Buffer
	if err := t.ExecuteTemplate(&b, name, data); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	_, err := w.Write(b.Bytes())
	return err
}

func documentTitle(cycles []*probe.Cycle) string {
	if len(cycles) == 1 {
		return heading(cycles[0])
	}
	return heading(&probe.Cycle{})
}

// cyclePage is what the template shows of a cycle.
type cyclePage struct {
	ID, Name, Model, Time string
	Verdict               []verdict
	Figures               []htmlFigure
	Sections              []htmlSection
	Tables                []htmlTable
	Footnote              string
	Setup                 []string // what was measured and how
}

func newCyclePage(c *probe.Cycle, id string) (cyclePage, error) {
	stages := ordered(c.Stages)
	page := cyclePage{ID: id, Name: clean(c.Endpoint.Name), Model: clean(c.Endpoint.Model), Time: cycleTitle(c),
		Setup: details(c)}
	for _, s := range closing(c, stages) {
		if s.title == "Summary" {
			page.Verdict = verdicts(c, stages, s.rows)
		} else {
			page.Sections = append(page.Sections, newHTMLSection(s))
		}
	}
	for _, f := range figures(c, stages) {
		drawn, err := newHTMLFigure(f, id+"-"+f.ID)
		if err != nil {
			return cyclePage{}, err
		}
		page.Figures = append(page.Figures, drawn)
	}
	four := tables(stages)
	page.Footnote = footnote(four, stages)
	for _, t := range four {
		page.Tables = append(page.Tables, newHTMLTable(t, stages))
	}
	return page, nil
}

// verdict is one thing that a reader wants to know first. Class is good, warn, bad or nothing.
type verdict struct{ Key, Text, Class string }

// verdicts returns the rows of the summary and how many requests failed, each with its colour.
func verdicts(c *probe.Cycle, stages []probe.Stage, summary []row) []verdict {
	var all []verdict
	for _, r := range summary {
		all = append(all, verdict{r.key, r.text, ""})
	}
	if len(stages) > 0 {
		all = append(all, failedRequests(stages))
	}
	for i := range all {
		v := &all[i]
		switch v.Key {
		case "Cycle":
			v.Class = judge(c.Failure == nil, "bad")
		case "Capacity":
			if mark(stages) != "" {
				v.Class = "warn"
			}
		case "Validity":
			v.Class = judge(!slices.ContainsFunc(stages, func(s probe.Stage) bool { return !s.Valid() }), "warn")
		case "Objectives":
			v.Class = judge(c.Capacity.ObjectiveRequestsPerSecond > 0, "bad")
			if v.Class == "bad" && !c.ObjectivesJudged() {
				v.Class = "warn"
			}
		}
	}
	return all
}

func judge(good bool, otherwise string) string {
	if good {
		return "good"
	}
	return otherwise
}

func failedRequests(stages []probe.Stage) verdict {
	var completed, failed, incomplete int
	for i := range stages {
		completed += stages[i].Completed
		failed += stages[i].Failed
		incomplete += stages[i].Incomplete
	}
	v := verdict{"Failed Requests", fmt.Sprintf("%d of %d", failed, completed+failed), judge(failed == 0, "bad")}
	if incomplete > 0 {
		v.Text += fmt.Sprintf("; %d more did not end within their benchmark", incomplete)
	}
	return v
}

// htmlFigure is a chart with the key to its lines.
type htmlFigure struct {
	Title string
	SVG   template.HTML
	Keys  []struct{ Name, Class string }
}

func newHTMLFigure(f figure, id string) (htmlFigure, error) {
	svg, err := f.SVG(id)
	h := htmlFigure{Title: f.Title + " (" + f.Unit + ")", SVG: svg}
	key := func(name, class string) { h.Keys = append(h.Keys, struct{ Name, Class string }{name, class}) }
	for _, c := range f.Curves {
		key(c.Name, c.Class)
	}
	for _, l := range f.Levels {
		key(l.Name, l.Class)
	}
	if f.Doubtful() {
		key("benchmark not valid, or too few requests", "doubtful")
	}
	return h, err
}

// htmlSection is a section of the closing block, rows of the same key together.
type htmlSection struct {
	Title string
	Rows  []htmlSectionRow
}

type htmlSectionRow struct {
	Key   string
	Texts []string
}

func newHTMLSection(s section) htmlSection {
	h := htmlSection{Title: s.title}
	for _, r := range s.rows {
		if last := len(h.Rows) - 1; last >= 0 && h.Rows[last].Key == r.key {
			h.Rows[last].Texts = append(h.Rows[last].Texts, r.text)
			continue
		}
		h.Rows = append(h.Rows, htmlSectionRow{r.key, []string{r.text}})
	}
	return h
}

// htmlTable is a table whose lists of percentiles have become columns. A table with such lists is shown in parts beside
// each other, one for each list, that a narrow page can put below each other.
type htmlTable struct {
	Title string
	Parts []htmlPart
}

type htmlPart struct {
	Caption string
	Header  []string
	Rows    []htmlRow
}

type htmlRow struct {
	Label   string
	Cells   []string
	Invalid bool
}

func newHTMLTable(t *table, stages []probe.Stage) htmlTable {
	h := htmlTable{Title: t.title}
	part := newHTMLPart(t, stages) // what comes next, up to and with a list
	for column := 1; column < len(t.header); column++ {
		name, list, unit := cutList(t.header[column])
		if list == nil {
			part.add(t, column, []string{name})
			continue
		}
		if last := len(part.Header) - 1; last > 0 && part.Header[last] == name {
			part.Header[last] = "mean"
		}
		part.Caption = strings.TrimSpace(name + " " + unit)
		part.add(t, column, list)
		h.Parts = append(h.Parts, part)
		part = newHTMLPart(t, stages)
	}
	if last := len(h.Parts) - 1; last >= 0 { // what follows the last list stays with it
		h.Parts[last].join(part)
	} else {
		h.Parts = append(h.Parts, part)
	}
	return h
}

// join appends the columns of o.
func (p *htmlPart) join(o htmlPart) {
	p.Header = append(p.Header, o.Header[1:]...)
	for i := range p.Rows {
		p.Rows[i].Cells = append(p.Rows[i].Cells, o.Rows[i].Cells...)
	}
}

func newHTMLPart(t *table, stages []probe.Stage) htmlPart {
	p := htmlPart{Header: t.header[:1:1], Rows: make([]htmlRow, len(t.rows))}
	for i := range t.rows {
		p.Rows[i] = htmlRow{Label: t.rows[i][0], Invalid: !stages[i].Valid()}
	}
	return p
}

// add appends a column of t under the given headers.
func (p *htmlPart) add(t *table, column int, headers []string) {
	p.Header = append(p.Header, headers...)
	for i, row := range t.rows {
		cells := strings.Split(row[column], ", ")
		for len(cells) < len(headers) { // nothing was observed
			cells = append(cells, nothing)
		}
		p.Rows[i].Cells = append(p.Rows[i].Cells, cells...)
	}
}

// cutList splits a header such as "Request Latency [1%, 5%] (sec)" into its name, the list and what follows. The list
// is nil if there is none.
func cutList(header string) (name string, list []string, rest string) {
	open := strings.IndexAny(header, "[(")
	if open < 0 {
		return header, nil, ""
	}
	end := strings.IndexAny(header, "])")
	return strings.TrimSpace(header[:open]), strings.Split(header[open+1:end], ", "), strings.TrimSpace(header[end+1:])
}
