package daemon

import (
	"github.com/inferprobe/inferprobe/internal/report"
	"github.com/inferprobe/inferprobe/internal/web"
)

// Page returns a cycle's report as a part of a page.
func (d *Daemon) Page(id string) (web.Page, bool) {
	c := d.history.Cycle(id)
	if c == nil {
		return web.Page{}, false
	}
	style, body, err := report.HTMLPart(c)
	if err != nil {
		d.Log.Error("a page could not be made", "cycle", id, "err", err)
		return web.Page{}, false
	}
	return web.Page{Title: c.Endpoint.Name, Style: style, Body: body}, true
}
