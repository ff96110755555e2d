package daemon

import "github.com/inferprobe/inferprobe/internal/web"

// Page returns a cycle's report as a part of a page.
func (d *Daemon) Page(string) (web.Page, bool) { return web.Page{}, false }
