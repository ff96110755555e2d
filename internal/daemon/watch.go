package daemon

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"time"
)

const (
	watchEvery = 2 * time.Second
	// retryEvery is how often a configuration that could not be loaded is tried again although nothing has changed: it
	// may name files that did not exist yet.
	retryEvery = 30 * time.Second
)

// Watch reloads the configuration when one of its files has changed, until ctx ends. The files are read every two seconds:
// they are small, and this way nothing is missed, neither the swapped symbolic links of a Kubernetes volume, nor a file
// that was removed and made anew, nor a network's file system. A change counts once it has stood for a period, so that
// a file is not read while it is being written.
func (d *Daemon) Watch(ctx context.Context) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	applied := digest(d.files())
	seen, failedAt := applied, time.Time{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := digest(d.files())
		settled := now == seen
		seen = now
		retry := !failedAt.IsZero() && time.Since(failedAt) >= retryEvery
		if !settled || now == applied && !retry {
			continue
		}
		failedAt = time.Time{}
		if d.Reload(ctx) != nil {
			failedAt = time.Now()
		}
		applied, seen = now, digest(d.files()) // those that the new configuration names
		if failedAt.IsZero() {
			applied = seen
		}
	}
}

// files returns what the configuration was read from.
func (d *Daemon) files() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.config.Files
}

// digest returns what tells any two contents of the files apart. A file that cannot be read has its error for content.
func digest(files []string) [sha256.Size]byte {
	h := sha256.New()
	for _, name := range files {
		fmt.Fprintf(h, "%d %s\n", len(name), name)
		f, err := os.Open(name)
		if err != nil {
			fmt.Fprintln(h, err)
			continue
		}
		const most = 2 << 20 // twice what a configuration may have
		n, err := io.Copy(h, io.LimitReader(f, most))
		fmt.Fprintln(h, n, err)
		f.Close()
	}
	return [sha256.Size]byte(h.Sum(nil))
}
