//go:build e2e_kube

package lease

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/client-go/rest"
)

// TestKube runs three replicas against a real kube-apiserver and etcd, both started here on loopback: KUBE_BIN names the
// folder of kube-apiserver; etcd is in it or on the PATH. Nobody needs to be root.
func TestKube(t *testing.T) {
	const duration, endpoints = 6 * time.Second, 6
	k := startKube(t)

	t.Log("without a Role the error says so")
	if err := tryRun(t, k.client(nil)); err == nil || !strings.Contains(err.Error(), "bind it to a Role") {
		t.Fatalf("without a Role: %v", err)
	}
	k.grant()

	f := newFleet(t, endpoints)
	f.duration = duration
	dead := make(map[string]*atomic.Bool)
	for _, pod := range []string{"a", "b", "c"} {
		dead[pod] = new(atomic.Bool)
		f.startWith(pod, k.client(dead[pod]))
	}
	f.eventually(3*duration, f.spread)

	t.Log("a replica is killed, after an operator has paused what it measures")
	f.watcher.forget()
	killed := f.replicas["b"]
	paused := f.pauseAll(killed)
	dead["b"].Store(true)
	f.watcher.killed(killed.name)
	delete(f.replicas, "b")
	killed.cancel()
	killed.done.Wait()
	f.eventually(3*duration, f.spread)
	if gap, _ := f.watcher.forget(); gap > duration*3/2+time.Second {
		t.Errorf("the takeover took %v", gap)
	} else {
		t.Logf("the takeover took %v", gap)
	}
	for _, endpoint := range paused {
		holder := f.holder(endpoint)
		if !holder.leases.Paused(endpoint, "") {
			t.Errorf("%s measures %s, which is paused", holder.name, endpoint)
		}
	}
	f.startWith("b", k.client(nil))
	f.eventually(4*duration, f.spread)

	t.Log("the API server is killed for longer than a lease, then started again")
	f.watcher.forget()
	k.stopServer()
	time.Sleep(duration * 3 / 2)
	if loads := f.watcher.loads(); len(loads) > 0 {
		t.Errorf("%v still run, although no lease can have been renewed", loads)
	}
	k.startServer()
	f.eventually(4*duration, f.spread)

	t.Log("the API server hangs for longer than a lease")
	k.server.Process.Signal(syscall.SIGSTOP)
	time.Sleep(duration * 3 / 2)
	if loads := f.watcher.loads(); len(loads) > 0 {
		t.Errorf("%v still run, although no lease can have been renewed", loads)
	}
	k.server.Process.Signal(syscall.SIGCONT)
	f.eventually(4*duration, f.spread)

	t.Log("one replica is stopped in order, then all")
	f.watcher.forget()
	f.stop("c")
	f.eventually(2*duration, f.spread)
	gap, _ := f.watcher.forget()
	t.Logf("the hand-over took %v", gap)
	for pod := range f.replicas {
		f.stop(pod)
	}
	k.checkReleased(endpoints)
}

// pauseAll pauses all endpoints of a replica, waits until their Leases say so, and returns them.
func (f *fleet) pauseAll(r *replica) (endpoints []string) {
	f.t.Helper()
	for _, endpoint := range f.endpoints {
		if f.holder(endpoint) == r {
			r.leases.SetPaused(endpoint, "", true)
			endpoints = append(endpoints, endpoint)
		}
	}
	if len(endpoints) == 0 {
		f.t.Fatalf("%s holds nothing", r.name)
	}
	f.eventually(5*time.Second, func() error {
		for _, endpoint := range endpoints {
			if !slices.Contains(pausedOn(r.lease(endpoint)), endpoint) {
				return fmt.Errorf("the lease of %s does not say that it is paused", endpoint)
			}
		}
		return nil
	})
	return endpoints
}

// lease returns the Lease of an endpoint as the replica last saw it.
func (r *replica) lease(endpoint string) *coordinationv1.Lease {
	r.leases.mu.Lock()
	defer r.leases.mu.Unlock()
	return r.leases.view.lease(r.leases.leaseName(subjectOf(endpoint, "")))
}

// holder returns the replica that holds the Lease of an endpoint, nil if none does.
func (f *fleet) holder(endpoint string) *replica {
	for _, r := range f.replicas {
		if r.leases.Holder(endpoint, "") == r.leases.Identity() {
			return r
		}
	}
	return nil
}

// spread is like checkSpread, as an error.
func (f *fleet) spread() error {
	loads := f.watcher.loads()
	total := 0
	for _, r := range f.replicas {
		n := loads[r.name]
		total += n
		if n < len(f.endpoints)/len(f.replicas) {
			return fmt.Errorf("spread as %v", loads)
		}
	}
	if total != len(f.endpoints) {
		return fmt.Errorf("only %d of %d run", total, len(f.endpoints))
	}
	return nil
}

func (f *fleet) eventually(within time.Duration, check func() error) {
	f.t.Helper()
	var err error
	for deadline := time.Now().Add(within); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if err = check(); err == nil {
			return
		}
	}
	f.t.Errorf("after %v: %v", within, err)
}

func tryRun(t *testing.T, client Client) error {
	l, err := New(Options{Client: client, Namespace: "ns", Identity: "a", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	return l.Run(ctx)
}

// kube is an API server with its store.
type kube struct {
	t      *testing.T
	bin    string
	dir    string
	etcd   string // address
	port   int
	server *exec.Cmd
}

func startKube(t *testing.T) *kube {
	bin := os.Getenv("KUBE_BIN")
	if bin == "" {
		t.Skip("KUBE_BIN does not name the folder of kube-apiserver")
	}
	k := &kube{t: t, bin: bin, dir: t.TempDir(), port: freePort(t)}
	k.etcd = fmt.Sprintf("http://127.0.0.1:%d", freePort(t))
	peer := fmt.Sprintf("http://127.0.0.1:%d", freePort(t))
	k.command("etcd", "--data-dir", filepath.Join(k.dir, "etcd"), "--listen-client-urls", k.etcd,
		"--advertise-client-urls", k.etcd, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
		"--initial-cluster", "default="+peer)
	k.file("tokens", "admin,admin,1,system:masters\nprobe,system:serviceaccount:ns:inferprobe,2\n")
	for _, command := range []string{"genrsa -out sa.key 2048", "rsa -in sa.key -pubout -out sa.pub"} {
		openssl := exec.Command("openssl", strings.Fields(command)...)
		openssl.Dir = k.dir
		if out, err := openssl.CombinedOutput(); err != nil {
			t.Fatalf("openssl: %v: %s", err, out)
		}
	}
	k.startServer()
	k.post("/api/v1/namespaces", `{"metadata":{"name":"ns"}}`)
	return k
}

func freePort(t *testing.T) int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func (k *kube) file(name, content string) {
	if err := os.WriteFile(filepath.Join(k.dir, name), []byte(content), 0o600); err != nil {
		k.t.Fatal(err)
	}
}

// command starts a program of KUBE_BIN or the PATH and kills it at the end of the test.
func (k *kube) command(name string, args ...string) *exec.Cmd {
	path := filepath.Join(k.bin, name)
	if _, err := os.Stat(path); err != nil {
		path = name
	}
	log, err := os.OpenFile(filepath.Join(k.dir, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		k.t.Fatal(err)
	}
	defer log.Close()
	c := exec.Command(path, args...)
	c.Dir, c.Stdout, c.Stderr = k.dir, log, log
	if err := c.Start(); err != nil {
		k.t.Fatal(err)
	}
	k.t.Cleanup(func() {
		c.Process.Kill()
		c.Wait()
	})
	return c
}

func (k *kube) startServer() {
	k.t.Helper()
	k.server = k.command("kube-apiserver", "--etcd-servers="+k.etcd, "--bind-address=127.0.0.1",
		fmt.Sprint("--secure-port=", k.port), "--cert-dir="+filepath.Join(k.dir, "pki"),
		"--service-cluster-ip-range=10.96.0.0/16", "--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=sa.pub", "--service-account-signing-key-file=sa.key",
		"--token-auth-file=tokens", "--authorization-mode=RBAC")
	for range 600 {
		if code, _ := k.do(http.MethodGet, "/readyz", ""); code == http.StatusOK {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	log, _ := os.ReadFile(filepath.Join(k.dir, "kube-apiserver.log"))
	k.t.Fatalf("the API server did not get ready:\n%s", log)
}

func (k *kube) stopServer() {
	k.server.Process.Kill()
	k.server.Wait()
}

func (k *kube) config(token string) *rest.Config {
	return &rest.Config{
		Host: fmt.Sprintf("https://127.0.0.1:%d", k.port), BearerToken: token,
		TLSClientConfig: rest.TLSClientConfig{Insecure: true},
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// client has the rights that grant gives. While dead is true nothing leaves it.
func (k *kube) client(dead *atomic.Bool) Client {
	config := k.config("probe")
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			if dead != nil && dead.Load() {
				return nil, errors.New("the process is gone")
			}
			return next.RoundTrip(r)
		})
	})
	client, err := NewClient(config, "ns")
	if err != nil {
		k.t.Fatal(err)
	}
	return client
}

// do sends a request as an administrator.
func (k *kube) do(method, path, body string) (int, string) {
	config := k.config("admin")
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		k.t.Fatal(err)
	}
	defer client.CloseIdleConnections()
	request, err := http.NewRequestWithContext(k.t.Context(), method, config.Host+path, strings.NewReader(body))
	if err != nil {
		k.t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return 0, err.Error()
	}
	defer response.Body.Close()
	var b bytes.Buffer
	b.ReadFrom(response.Body)
	return response.StatusCode, b.String()
}

func (k *kube) post(path, body string) {
	k.t.Helper()
	if code, answer := k.do(http.MethodPost, path, body); code != http.StatusCreated {
		k.t.Fatalf("POST %s: %d %s", path, code, answer)
	}
}

// grant gives exactly the rights that the package comment names.
func (k *kube) grant() {
	const rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/ns/"
	k.post(rbac+"roles", `{"metadata":{"name":"inferprobe"},"rules":[{"apiGroups":["coordination.k8s.io"],`+
		`"resources":["leases"],"verbs":["get","list","create","update","delete"]}]}`)
	k.post(rbac+"rolebindings", `{"metadata":{"name":"inferprobe"},"subjects":[{"kind":"ServiceAccount","namespace":"ns",`+
		`"name":"inferprobe"}],"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"Role","name":"inferprobe"}}`)
}

// checkReleased demands one Lease an endpoint, all without a holder.
func (k *kube) checkReleased(endpoints int) {
	k.t.Helper()
	_, list := k.do(http.MethodGet, "/apis/coordination.k8s.io/v1/namespaces/ns/leases"+
		"?labelSelector=app.kubernetes.io/component=endpoint", "")
	if n := strings.Count(list, `"renewTime"`); n != endpoints || strings.Contains(list, `"holderIdentity"`) {
		k.t.Errorf("%d leases of %d endpoints: %s", n, endpoints, list)
	}
}
