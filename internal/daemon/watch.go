package daemon

import (
	"context"
	"time"

	"github.com/inferprobe/inferprobe/internal/config"
)

const (
	watchEvery = 2 * time.Second
	// retryEvery is how often a configuration that could not be loaded is tried again although nothing has changed: it
	// may name files that did not exist yet.
	retryEvery = 30 * time.Second
)

// Watch reloads the configuration when its files are not what it was read from, until ctx ends. They are read every two
// seconds: they are small, and this way nothing is missed, neither the swapped symbolic links of a Kubernetes volume, nor
// a file that was removed and made anew, nor a network's file system, nor a change while we started. A change counts once
// it has stood for a period, so that a file is not read while it is being written.
func (d *Daemon) Watch(ctx context.Context) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	var seen, tried config.Digest
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		files, applied, failedAt := d.loaded()
		if len(files) == 0 {
			continue
		}
		now := config.DigestOf(files)
		settled := now == seen
		seen = now
		failing := !failedAt.IsZero()
		if !settled || now == applied && !failing || now == tried && failing && time.Since(failedAt) < retryEvery {
			continue
		}
		tried = now
		_ = d.Reload(ctx) // which logs what is wrong
	}
}

// loaded returns the files that the configuration was read from and their digest as it was then, and when the last
// attempt to read it again failed; the zero time if it did not.
func (d *Daemon) loaded() (files []string, digest config.Digest, failedAt time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.config.Files, d.config.Digest, d.failedAt
}
