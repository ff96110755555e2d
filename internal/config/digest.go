package config

import (
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"os"
)

// Digest tells any two contents of the files of a configuration apart.
type Digest [sha256.Size]byte

// DigestOf returns the digest of the Files of a configuration as they are now. A file that cannot be read has its error
// for content.
func DigestOf(files []string) Digest {
	h := sha256.New()
	for i, name := range files {
		if i == 0 {
			content, failed := readFile(name)
			if failed != nil {
				content = []byte(failed.Error())
			}
			addFile(h, name, string(content))
			continue
		}
		text, err := readText(name)
		if err != nil {
			text = err.Error()
		}
		addFile(h, name, text)
	}
	return Digest(h.Sum(nil))
}

// pointed are the files that a configuration points to, as they were read: each once, so that all endpoints have the
// same of it. The zero value has read none.
type pointed struct {
	names []string // in the order in which they were read
	texts map[string]string
}

// read returns the text of a file.
func (p *pointed) read(name string) (string, error) {
	if text, ok := p.texts[name]; ok {
		return text, nil
	}
	text, err := readText(name)
	if err != nil {
		return "", err // and no valid configuration
	}
	if p.texts == nil {
		p.texts = make(map[string]string)
	}
	p.names, p.texts[name] = append(p.names, name), text
	return text, nil
}

// digest returns that of the configuration at path, with this content, and of the files as they were read with it.
func (p *pointed) digest(path string, content []byte) Digest {
	h := sha256.New()
	addFile(h, path, string(content))
	for _, name := range p.names {
		addFile(h, name, p.texts[name])
	}
	return Digest(h.Sum(nil))
}

// readText reads a file that is no larger than a configuration, or so much of it that it is seen to be larger.
func readText(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("%s cannot be read: %w", path, cause(err))
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return "", fmt.Errorf("%s cannot be read: %w", path, cause(err))
	}
	return string(content), nil
}

func addFile(h hash.Hash, name, text string) {
	fmt.Fprintf(h, "%d %s %d %s\n", len(name), name, len(text), text)
}
