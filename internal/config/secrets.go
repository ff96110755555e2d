package config

import (
	"fmt"
	"os"
	"regexp"
	"strings"
)

// maxKey is the longest API key in bytes. Tokens of identity providers reach some thousands.
const maxKey = 16 << 10

var variablePattern = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// key reads the endpoint's API key from where the configuration says it is.
func (c *checker) key(e *Endpoint) {
	switch {
	case e.APIKeyFile != "" && e.APIKeyEnv != "":
		c.fail("api_key_env", "is here beside api_key_file; keep one of the two")
	case e.APIKeyFile != "":
		text, err := c.files.read(e.APIKeyFile)
		if err == nil {
			e.APIKey, err = checkSecret(text, e.APIKeyFile)
		}
		if err != nil {
			c.fail("api_key_file", "%v", err)
		}
	case e.APIKeyEnv != "":
		text, err := secretVariable(e.APIKeyEnv)
		if err == nil {
			e.APIKey, err = checkSecret(text, "the variable "+e.APIKeyEnv)
		}
		if err != nil {
			c.fail("api_key_env", "%v", err)
		}
	}
}

func secretVariable(name string) (string, error) {
	if !variablePattern.MatchString(name) {
		// Somebody may have put the key itself here: it is not repeated.
		return "", fmt.Errorf("is not the name of an environment variable; write for example LLAMA_API_KEY")
	}
	value, ok := os.LookupEnv(name)
	if !ok {
		return "", fmt.Errorf("the environment has no variable %s", name)
	}
	return value, nil
}

// checkSecret trims a key and makes sure that it can stand in a request's header.
func checkSecret(text, where string) (Secret, error) {
	key := strings.TrimSpace(text)
	switch {
	case key == "":
		return "", fmt.Errorf("%s is empty", where)
	case len(key) > maxKey:
		return "", fmt.Errorf("%s is longer than 16 KiB; this cannot be a key", where)
	case strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r >= 0x7f }):
		return "", fmt.Errorf("%s has characters that no key has; it must hold the key and nothing else", where)
	}
	return Secret(key), nil
}
