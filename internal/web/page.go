package web

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Pages are rendered for each request, which exporter-toolkit's landing page is not, and with html/template, which that
// one is not either: they show foreign text. Links are relative, since a proxy may add a prefix.
var (
	//go:embed page.html
	pageHTML string
	//go:embed page.css
	pageCSS string
)

// pageData is what page.html shows: what every page has, and what some have.
type pageData struct {
	Title, Version, Root string // Root leads from the page to /
	Style, PartStyle     template.CSS
	Refresh              bool

	Endpoints []EndpointStatus // of the status page

	Endpoint EndpointStatus // of an endpoint's page
	Chart    template.HTML

	ID, EndpointName string // of a cycle's page
	Body             template.HTML
}

// newPage returns the templates of the pages.
func newPage() *template.Template {
	return template.Must(template.New("page").Funcs(template.FuncMap{
		"segment":      url.PathEscape, // of a path
		"join":         strings.Join,
		"when":         when,
		"took":         func(c CycleStatus) string { return c.Ended.Sub(c.Started).Round(time.Second).String() },
		"count":        count,
		"skipped":      skipped,
		"milliseconds": func(seconds float64) string { return fmt.Sprintf("%.1f ms", seconds*1000) },
		"capacity": func(v float64) string {
			if v == 0 {
				return "–" // not measured
			}
			return fmt.Sprintf("%.2f", v)
		},
	}).Parse(pageHTML))
}

// showStatus answers with the status page.
func (s *Server) showStatus(w http.ResponseWriter, _ *http.Request) {
	s.show(w, "status", pageData{Root: "./", Refresh: true, Endpoints: s.endpoints()})
}

// showEndpointPage answers with the page of the endpoint that the path names.
func (s *Server) showEndpointPage(w http.ResponseWriter, r *http.Request) {
	e, ok := s.find(r)
	if !ok {
		plainText(w, http.StatusNotFound, "There is no endpoint of that name.\n")
		return
	}
	s.show(w, "endpoint", pageData{Title: e.Name, Root: "../", Refresh: true, Endpoint: e, Chart: capacityChart(e.Cycles)})
}

// showCyclePage answers with the report of the cycle that the path names.
func (s *Server) showCyclePage(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	page, ok := s.options.State.Page(id)
	if !ok {
		plainText(w, http.StatusNotFound, "There is no cycle of that ID, or no longer.\n")
		return
	}
	data := pageData{Title: page.Title, Root: "../", PartStyle: template.CSS(page.Style), ID: id, //nolint:gosec // internal/report made it
		Body: template.HTML(page.Body)} //nolint:gosec // internal/report has escaped what is in it
	for _, e := range s.endpoints() {
		if slices.ContainsFunc(e.Cycles, func(c CycleStatus) bool { return c.ID == id }) {
			data.EndpointName = e.Name
		}
	}
	w.Header().Set("Content-Security-Policy", policy(pageCSS, page.Style))
	s.show(w, "cycle", data)
}

// show answers with a page.
func (s *Server) show(w http.ResponseWriter, name string, data pageData) {
	data.Version, data.Style = s.options.Version, template.CSS(pageCSS) //nolint:gosec // a constant
	var body bytes.Buffer
	if err := s.page.ExecuteTemplate(&body, name, data); err != nil {
		s.options.Logger.Error("a page could not be made", "page", name, "err", err)
		plainText(w, http.StatusInternalServerError, "The page could not be made; the log says why.\n")
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Write(body.Bytes())
}

// policy is a content security policy under which a browser shows a page with these style sheets, loads nothing, runs
// nothing, sends nothing and puts the page into no frame.
func policy(styles ...string) string {
	var hashes strings.Builder
	for _, style := range styles {
		sum := sha256.Sum256([]byte(style))
		fmt.Fprintf(&hashes, " 'sha256-%s'", base64.StdEncoding.EncodeToString(sum[:]))
	}
	return "default-src 'none'; style-src" + hashes.String() + "; base-uri 'none'; form-action 'none'; " +
		"frame-ancestors 'none'"
}

// when shows a time, a dash for none.
func when(t time.Time) string {
	if t.IsZero() {
		return "–"
	}
	return t.UTC().Format("2006-01-02 15:04:05 UTC")
}

// count shows a number that is not negative by its thousands.
func count(n int64) string {
	digits := strconv.FormatInt(n, 10)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// skipped reports whether the next cycle will find too few tokens left.
func skipped(e EndpointStatus) bool {
	return e.Tokens != nil && !e.Tokens.CoversCycle && !e.NextStart.IsZero() && e.NextStart.Before(e.Tokens.Renewed)
}

// printer lets promhttp log to slog.
type printer struct{ logger *slog.Logger }

// Println logs its operands as a warning.
func (p printer) Println(v ...any) {
	p.logger.Warn("metrics could not be collected", "err", strings.TrimSuffix(fmt.Sprintln(v...), "\n"))
}
