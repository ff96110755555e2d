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
	"strings"
	"time"
)

// The page is rendered for each request, which exporter-toolkit's landing page is not, and with html/template, which
// that one is not either: it shows foreign text.
var (
	//go:embed page.html
	pageHTML string
	//go:embed page.css
	pageCSS string
)

// styleHash names the page's style sheet in a content security policy.
func styleHash() string {
	sum := sha256.Sum256([]byte(pageCSS))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

// pageData is what page.html shows.
type pageData struct {
	Version   string
	Style     template.CSS
	Endpoints []EndpointStatus
}

// newPage returns the template of the status page.
func newPage() *template.Template {
	return template.Must(template.New("page").Funcs(template.FuncMap{
		"when": when,
		"took": func(c CycleStatus) string { return c.Ended.Sub(c.Started).Round(time.Second).String() },
		"capacity": func(v float64) string {
			if v == 0 {
				return "–" // not measured
			}
			return fmt.Sprintf("%.2f", v)
		},
		"report": func(c CycleStatus) string { return "api/v1/cycles/" + url.PathEscape(c.ID) }, // relative: a proxy may add a prefix
	}).Parse(pageHTML))
}

// showPage answers with the status page.
func (s *Server) showPage(w http.ResponseWriter, _ *http.Request) {
	var body bytes.Buffer
	data := pageData{Version: s.options.Version, Style: template.CSS(pageCSS), Endpoints: s.endpoints()}
	if err := s.page.Execute(&body, data); err != nil {
		s.options.Logger.Error("the status page could not be made", "err", err)
		plainText(w, http.StatusInternalServerError, "The status page could not be made; the log says why.\n")
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Write(body.Bytes())
}

// when shows a time, a dash for none.
func when(t time.Time) string {
	if t.IsZero() {
		return "–"
	}
	return t.UTC().Format("2006-01-02 15:04:05 UTC")
}

// printer lets promhttp log to slog.
type printer struct{ logger *slog.Logger }

// Println logs its operands as a warning.
func (p printer) Println(v ...any) {
	p.logger.Warn("metrics could not be collected", "err", strings.TrimSuffix(fmt.Sprintln(v...), "\n"))
}
