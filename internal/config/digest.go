package config

import (
	"crypto/sha256"
	"fmt"
	"hash"
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
		key, err := readSecret(name)
		if err != nil {
			key = Secret(err.Error())
		}
		addFile(h, name, key.Value())
	}
	return Digest(h.Sum(nil))
}

// digest returns that of the file with this content and of the keys as they were read with it.
func (c *Config) digest(content []byte) Digest {
	h := sha256.New()
	for i, name := range c.Files {
		if i == 0 {
			addFile(h, name, string(content))
			continue
		}
		for j := range c.Endpoints {
			if e := &c.Endpoints[j]; e.APIKeyFile == name {
				addFile(h, name, e.APIKey.Value())
				break
			}
		}
	}
	return Digest(h.Sum(nil))
}

func addFile(h hash.Hash, name, text string) {
	fmt.Fprintf(h, "%d %s %d %s\n", len(name), name, len(text), text)
}
