package config

import (
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/viper"
)

// Hub says how to reach the HuggingFace Hub and its cache, by the variables of huggingface_hub.
type Hub struct {
	Token    Secret // HF_TOKEN, HUGGING_FACE_HUB_TOKEN, or the file HF_TOKEN_PATH; empty for none
	Endpoint string // HF_ENDPOINT; without a trailing slash
	Cache    string // HF_HUB_CACHE, or "hub" in HF_HOME; empty if there is no home
	Offline  bool   // HF_HUB_OFFLINE, TRANSFORMERS_OFFLINE
}

// hub reads the Hub's variables.
func (c *checker) hub() Hub {
	v := viper.New()
	v.SetDefault("endpoint", "https://huggingface.co")
	for _, names := range [][]string{
		{"token", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"},
		{"token_path", "HF_TOKEN_PATH"},
		{"implicit_token_disabled", "HF_HUB_DISABLE_IMPLICIT_TOKEN"},
		{"home", "HF_HOME"},
		{"xdg_cache", "XDG_CACHE_HOME"},
		{"cache", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"},
		{"endpoint", "HF_ENDPOINT"},
		{"offline", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"},
	} {
		v.MustBindEnv(names...)
	}
	if home, err := os.UserHomeDir(); err == nil {
		v.SetDefault("xdg_cache", filepath.Join(home, ".cache"))
	}
	if cache := v.GetString("xdg_cache"); cache != "" {
		v.SetDefault("home", filepath.Join(cache, "huggingface"))
	}
	if home := v.GetString("home"); home != "" {
		v.SetDefault("cache", filepath.Join(home, "hub"))
		v.SetDefault("token_path", filepath.Join(home, "token"))
	}
	hub := Hub{Cache: v.GetString("cache"), Offline: truthy(v.GetString("offline"))}
	hub.Endpoint = c.hubEndpoint(v.GetString("endpoint"))
	if !truthy(v.GetString("implicit_token_disabled")) {
		hub.Token = c.hubToken(v.GetString("token"), v.GetString("token_path"))
	}
	return hub
}

func (c *checker) hubEndpoint(endpoint string) string {
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil ||
		u.RawQuery != "" {
		c.errors.add(Error{Source: "HF_ENDPOINT",
			Message: "is not a base URL; write for example https://huggingface.co"})
		return ""
	}
	return strings.TrimRight(endpoint, "/")
}

// hubToken returns the token of the variable, else that of the file, which need not be there.
func (c *checker) hubToken(value, path string) Secret {
	read := func() (Secret, error) { return checkSecret(value, "the variable") }
	source := "HF_TOKEN"
	if value == "" {
		if _, err := os.Stat(path); err != nil {
			return ""
		}
		source = "HF_TOKEN_PATH"
		read = func() (Secret, error) { return readSecret(path) }
	}
	token, err := read()
	if err != nil {
		c.errors.add(Error{Source: source, Message: err.Error()})
	}
	return token
}

// truthy reads a switch as huggingface_hub does.
func truthy(s string) bool {
	switch strings.ToUpper(s) {
	case "1", "ON", "YES", "TRUE":
		return true
	}
	return false
}
