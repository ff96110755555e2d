package main

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/inferprobe/inferprobe/internal/probe"
	"github.com/inferprobe/inferprobe/internal/report"
)

// The kinds of output.
const (
	kindText     = "text"
	kindJSON     = "json"
	kindCSV      = "csv"
	kindHTML     = "html"
	kindGuideLLM = "guidellm" // the benchmarks.json of GuideLLM
)

// allKinds names them to people.
const allKinds = "text, json, csv, html or guidellm"

// output is one --output: a kind, and a path or "" for standard output.
type output struct{ kind, path string }

// parseOutputs reads the values of --output, and makes sure that their paths can be written.
func parseOutputs(flags []string) ([]output, error) {
	if len(flags) == 0 {
		flags = []string{kindText}
	}
	var outputs []output
	var wrong []error
	for _, f := range flags {
		o, err := parseOutput(f)
		same := func(other output) bool { return other.path == o.path && (o.path != "" || other.kind == o.kind) }
		if err == nil && slices.ContainsFunc(outputs, same) {
			err = errors.New("two outputs have the same place; write each to a file of its own")
		}
		if err != nil {
			wrong = append(wrong, fmt.Errorf("--output %s: %w", f, err))
		}
		outputs = append(outputs, o)
	}
	return outputs, errors.Join(wrong...)
}

func parseOutput(flag string) (output, error) {
	kind, path, toFile := strings.Cut(flag, "=")
	switch kind {
	case kindText, kindJSON, kindCSV, kindHTML, kindGuideLLM:
	default:
		return output{}, fmt.Errorf("%q is not a kind; write %s, or KIND=PATH", kind, allKinds)
	}
	if !toFile {
		return output{kind: kind}, nil
	}
	if path == "" {
		return output{}, fmt.Errorf("there is no path after the =; write for example %s=report.%s", kind, kind)
	}
	return output{kind, filepath.Clean(path)}, writable(path)
}

// checkOutputs refuses before a long run what could not be written after it.
func checkOutputs(outputs []output, endpoints int) error {
	guide := slices.IndexFunc(outputs, func(o output) bool { return o.kind == kindGuideLLM })
	if guide < 0 || endpoints == 1 {
		return nil
	}
	return fmt.Errorf("--output %s: GuideLLM's benchmarks.json is of one endpoint, and there are %d; write json or csv, or "+
		"measure one endpoint at a time", kindGuideLLM, endpoints)
}

// writable finds out before a long run whether its result can be written, and leaves no trace. A device or a pipe is not
// tried: to open it may wait for its reader, and to close it may end that one.
func writable(path string) error {
	switch info, err := os.Stat(path); {
	case err == nil && info.IsDir():
		return errors.New("is a folder; name a file in it")
	case err == nil && !info.Mode().IsRegular():
		return nil
	case err == nil:
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return reasonOf(err)
		}
		return f.Close()
	}
	folder := filepath.Dir(path)
	f, err := os.CreateTemp(folder, ".inferprobe-*")
	if err != nil {
		return fmt.Errorf("folder %s: %w", folder, reasonOf(err))
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// reasonOf returns what is wrong with a file, without the name that the error gives it: it may be a temporary one.
func reasonOf(err error) error {
	if in := (*fs.PathError)(nil); errors.As(err, &in) {
		return in.Err
	}
	return err
}

// render returns the cycles as a report.
func render(kind string, width int, cycles []*probe.Cycle) ([]byte, error) {
	var b bytes.Buffer
	var err error
	switch kind {
	case kindJSON:
		err = report.WriteJSON(&b, cycles...)
	case kindCSV:
		err = report.WriteCSV(&b, cycles...)
	case kindHTML:
		err = report.WriteHTML(&b, cycles...)
	case kindGuideLLM:
		if len(cycles) != 1 {
			return nil, fmt.Errorf("%s is of one cycle, and there are %d", kindGuideLLM, len(cycles))
		}
		err = report.WriteGuideLLM(&b, cycles[0])
	default:
		for _, c := range cycles {
			err = errors.Join(err, report.Text(&b, c, width))
		}
	}
	return b.Bytes(), err
}

// writeFile writes a file whole or not at all, where its folder allows that. What is no plain file, such as a device or
// a link, is written to and not replaced.
func writeFile(path string, data []byte) error {
	info, err := os.Lstat(path)
	exists := err == nil
	if exists && !info.Mode().IsRegular() {
		return os.WriteFile(path, data, 0o666)
	}
	temporary := filepath.Join(filepath.Dir(path), ".inferprobe-"+rand.Text())
	f, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return os.WriteFile(path, data, 0o666) // the file may be writable where its folder is not
	}
	defer os.Remove(temporary) // no longer there once renamed
	if exists {
		err = f.Chmod(info.Mode().Perm())
	}
	if err == nil {
		_, err = f.Write(data)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}
