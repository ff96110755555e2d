package config

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strings"
)

// TLS says how to speak TLS with an endpoint. The zero value trusts the system's authorities and shows no certificate.
type TLS struct {
	CAFile             string `mapstructure:"ca_file"`     // absolute, or as the file's folder makes it; in PEM
	CertFile           string `mapstructure:"cert_file"`   // likewise
	KeyFile            string `mapstructure:"key_file"`    // likewise
	ServerName         string `mapstructure:"server_name"` // "" = the URL's host
	InsecureSkipVerify bool   `mapstructure:"insecure_skip_verify"`

	// CA, Cert and Key are what the files held when the configuration was loaded.
	CA   Secret `mapstructure:"-" json:"-"`
	Cert Secret `mapstructure:"-" json:"-"`
	Key  Secret `mapstructure:"-" json:"-"`
}

// Client returns what connections to the endpoint need to know, nil if they need nothing.
func (t TLS) Client() *tls.Config {
	if t == (TLS{}) {
		return nil
	}
	config := &tls.Config{ServerName: t.ServerName}
	config.InsecureSkipVerify = t.InsecureSkipVerify
	if t.CA != "" {
		config.RootCAs = x509.NewCertPool()
		config.RootCAs.AppendCertsFromPEM([]byte(t.CA.Value()))
	}
	if pair, err := t.pair(); err == nil { // else there is none: a valid configuration has no other
		config.Certificates = []tls.Certificate{pair}
	}
	return config
}

func (t TLS) pair() (tls.Certificate, error) {
	return tls.X509KeyPair([]byte(t.Cert.Value()), []byte(t.Key.Value()))
}

var hostPattern = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9])?$`)

// tls reads and checks what TLS with the endpoint needs.
func (c *checker) tls(e *Endpoint) {
	t := &e.TLS
	for _, set := range []struct {
		key string
		is  bool
	}{
		{"ca_file", t.CAFile != ""}, {"cert_file", t.CertFile != ""}, {"key_file", t.KeyFile != ""},
		{"server_name", t.ServerName != ""}, {"insecure_skip_verify", t.InsecureSkipVerify},
	} {
		if set.is && strings.HasPrefix(e.URL, "http://") {
			c.fail("tls."+set.key, "has no meaning with a url that begins with http://; write https:// there if it speaks TLS")
			return
		}
	}
	if t.CA = c.pem("tls.ca_file", t.CAFile); t.CA != "" {
		if err := checkAuthorities(t.CA.Value()); err != nil {
			c.fail("tls.ca_file", "%s %v", t.CAFile, err)
		}
	}
	switch {
	case t.CertFile != "" && t.KeyFile == "":
		c.fail("tls.cert_file", "needs tls.key_file, the file with the private key of the certificate")
	case t.CertFile == "" && t.KeyFile != "":
		c.fail("tls.key_file", "needs tls.cert_file, the file with the certificate that the key is of")
	case t.CertFile != "":
		c.certificate(t)
	}
	if name := t.ServerName; name != "" && net.ParseIP(name) == nil && !hostPattern.MatchString(name) {
		c.fail("tls.server_name", "%s is no name of a host; write it without scheme and port, as llm.example.com",
			quoted(name))
	}
}

// certificate reads the certificate that is shown to the endpoint, and its key.
func (c *checker) certificate(t *TLS) {
	t.Cert, t.Key = c.pem("tls.cert_file", t.CertFile), c.pem("tls.key_file", t.KeyFile)
	if t.Cert == "" || t.Key == "" {
		return
	}
	if _, err := t.pair(); err != nil {
		c.fail("tls.cert_file", "%s and %s cannot be used: %s; the one must hold a certificate in PEM, the other its "+
			"private key", t.CertFile, t.KeyFile, strings.TrimPrefix(err.Error(), "tls: "))
	}
}

// pem returns the content of a file; nothing without a name, or where it cannot be had.
func (c *checker) pem(key, name string) Secret {
	if name == "" {
		return ""
	}
	text, err := c.files.read(name)
	switch {
	case err != nil:
		c.fail(key, "%v", err)
	case text == "":
		c.fail(key, "%s is empty", name)
	case len(text) > maxSize:
		c.fail(key, "%s is larger than 1 MiB; this cannot be what is wanted", name)
	default:
		return Secret(text)
	}
	return ""
}

// checkAuthorities takes one certificate or more in PEM. Package x509 would pass over those that it cannot read.
func checkAuthorities(text string) error {
	n := 0
	for block, rest := pem.Decode([]byte(text)); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" || len(block.Headers) > 0 {
			continue
		}
		n++
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return fmt.Errorf("has a certificate, number %d, that is damaged (%s)", n, strings.TrimPrefix(err.Error(), "x509: "))
		}
	}
	if n == 0 {
		return errors.New("holds no certificate in PEM, which begins with -----BEGIN CERTIFICATE-----")
	}
	return nil
}
