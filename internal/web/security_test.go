package web_test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/inferprobe/inferprobe/internal/web"
)

// writeCertificate writes a certificate for 127.0.0.1 and its key, and returns what trusts it.
func writeCertificate(t *testing.T, dir string) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: cert},
		"key.pem": {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	parsed, err := x509.ParseCertificate(cert)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return pool
}

// hashOfRight is the bcrypt hash of the password "right", of the least cost.
const hashOfRight = "$2a$04$e7CfLWHuY3uNARZyTTpRqOzzJdPijgVbBgUhNZwk1Icf4EyvIeYzS"

// TestAuthenticationAndTLS: a web configuration protects every path, those that change something too.
func TestAuthenticationAndTLS(t *testing.T) {
	dir := t.TempDir()
	roots := writeCertificate(t, dir)
	file := filepath.Join(dir, "web.yml")
	content := "tls_server_config: {cert_file: cert.pem, key_file: key.pem}\n" +
		"basic_auth_users: {operator: " + hashOfRight + "}\n"
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	c := &control{}
	s := web.NewServer(web.Options{Addresses: []string{"127.0.0.1:0"}, ConfigFile: file,
		Gatherer: prometheus.NewRegistry(), Registerer: prometheus.NewRegistry(), State: example(), Lifecycle: true,
		Control: c, Logger: slog.New(slog.DiscardHandler)})
	s.SetReady(true)
	addrs, stop := run(t, s)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true,
		TLSClientConfig: &tls.Config{RootCAs: roots}}}
	ask := func(method, path, password string) int {
		t.Helper()
		r, err := http.NewRequest(method, "https://"+addrs[0]+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if password != "" {
			r.SetBasicAuth("operator", password)
		}
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp.StatusCode
	}
	paths := map[string]string{"/metrics": "GET", "/": "GET", "/-/healthy": "GET", "/-/ready": "GET",
		"/endpoints/new": "GET", "/cycles/a": "GET", "/api/v1/endpoints": "GET", "/api/v1/cycles/a": "GET"}
	for _, path := range controlPaths {
		paths[path] = "POST"
	}
	for path, method := range paths {
		for _, password := range []string{"", "wrong"} {
			if status := ask(method, path, password); status != http.StatusUnauthorized {
				t.Errorf("%s with password %q: status %d", path, password, status)
			}
		}
		if len(c.told) > 0 {
			t.Fatalf("%s without the password did %v", path, c.told)
		}
		if status := ask(method, path, "right"); status != http.StatusOK && status != http.StatusAccepted {
			t.Errorf("%s: status %d", path, status)
		}
		c.told = nil
	}
	if resp, err := http.Get("http://" + addrs[0] + "/metrics"); err == nil { // net/http answers plain HTTP so
		resp.Body.Close()
		if resp.StatusCode != http.StatusBadRequest {
			t.Errorf("without TLS: %s", resp.Status)
		}
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// TestHeaderLimit: a request with a huge head is refused before it fills the memory.
func TestHeaderLimit(t *testing.T) {
	s := newControlled(t, false, nil)
	addrs, stop := run(t, s)
	conn, err := net.Dial("tcp", addrs[0])
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: a\r\nX-Bomb: %s\r\n\r\n", strings.Repeat("x", 100<<10))
	r, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	if r.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("got %s", r.Status)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}
