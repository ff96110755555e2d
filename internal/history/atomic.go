package history

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"syscall"
	"time"
)

// temporaryPattern is the form of the names under which files are written: .<name>.<random>.tmp.
var temporaryPattern = regexp.MustCompile(`^\.(.+)\.[A-Z2-7]{8}\.tmp$`)

func temporaryName(name string) string { return "." + name + "." + rand.Text()[:8] + ".tmp" }

// temporaryOf returns the name that a temporary file was to get, "" if name is not that of one.
func temporaryOf(name string) string {
	if m := temporaryPattern.FindStringSubmatch(name); m != nil {
		return m[1]
	}
	return ""
}

// leftoverAge is how long ago a temporary file must have been written to be what an interrupted write left: another
// process may be writing here, too.
const leftoverAge = 10 * time.Minute

// removeLeftovers removes the temporary files in dir that were to get a name of ours. What cannot be removed now can be
// the next time.
func removeLeftovers(dir string, ours func(name string) bool) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		name := temporaryOf(e.Name())
		if name == "" || !ours(name) || !e.Type().IsRegular() {
			continue
		}
		if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > leftoverAge {
			_ = os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}

// writeFile replaces the file by data, all or nothing, and what it has written survives a crash of the machine: the
// data is on disk before the name leads to it, and the name is before writeFile returns.
func writeFile(path string, data []byte) error {
	dir, name := filepath.Split(path)
	temporary := filepath.Join(dir, temporaryName(name))
	err := writeSynced(temporary, data)
	if err == nil {
		err = os.Rename(temporary, path)
	}
	if err != nil {
		_ = os.Remove(temporary)
		return fmt.Errorf("write %s: %w", path, cause(err)) // err names the temporary file
	}
	return syncFolder(dir)
}

func writeSynced(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666) // the umask decides who may read it
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if errClose := f.Close(); err == nil {
		err = errClose
	}
	return err
}

// syncFolder makes the names in dir survive a crash. Some network file systems know no such thing.
func syncFolder(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	return nil
}

// checkWritable makes dir if it is not there, and returns what stops files from being made in it.
func checkWritable(dir string) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	path := filepath.Join(dir, temporaryName("check"))
	err := writeSynced(path, nil)
	if err == nil {
		err = os.Remove(path)
	}
	if err != nil {
		return fmt.Errorf("write in %s: %w", dir, cause(err))
	}
	return nil
}

// openRegular opens the file for reading, and nothing that could block or lead elsewhere.
func openRegular(path string) (*os.File, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "open", Path: path, Err: errors.New("not a regular file")}
	}
	return os.Open(path)
}

// cause returns the innermost error: what went wrong, without the path.
func cause(err error) error {
	for {
		next := errors.Unwrap(err)
		if next == nil {
			return err
		}
		err = next
	}
}

// health is whether something can be written. It logs changes only.
type health struct {
	what string
	log  *slog.Logger
	mu   sync.Mutex
	err  error
}

func (h *health) set(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	was := h.err
	h.err = err
	switch {
	case err == nil && was != nil:
		h.log.Info(h.what + " is kept on disk again")
	case err != nil && (was == nil || cause(err).Error() != cause(was).Error()):
		h.log.Error(h.what+" cannot be kept on disk; it is kept in memory until it can", "err", err)
	}
}

func (h *health) get() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.err
}
