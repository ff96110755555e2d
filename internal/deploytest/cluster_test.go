//go:build e2e_kube

package deploytest

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/inferprobe/inferprobe/internal/sim"
)

const (
	image     = "ghcr.io/inferprobe/inferprobe"
	namespace = "inferprobe"
)

// setting returns what an environment variable says, made absolute if it is a path.
func setting(t *testing.T, name, meaning string) string {
	t.Helper()
	value := os.Getenv(name)
	if value == "" {
		t.Fatalf("%s is not set; run this test by `make e2e-kube`. It names %s", name, meaning)
	}
	path, err := filepath.Abs(value)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// buildImage builds the Dockerfile as it is and returns an archive of the image. A base image that is neither here nor
// to be pulled is replaced by a stand-in. E2E_KUBE_IMAGE names an archive to take instead, while one works on the test.
func buildImage(t *testing.T, version string) string {
	t.Helper()
	if archive := os.Getenv("E2E_KUBE_IMAGE"); archive != "" {
		return archive
	}
	if os.Getenv("STORAGE_DRIVER") == "" {
		t.Setenv("STORAGE_DRIVER", "vfs") // works everywhere
	}
	t.Setenv("BUILDAH_ISOLATION", "chroot")
	buildah := func(args ...string) error {
		_, err := run(t, root, "buildah", args...)
		return err
	}
	for _, from := range regexp.MustCompile(`(?m)^FROM (\S+/\S+)`).FindAllStringSubmatch(read(t, root+"/Dockerfile"), -1) {
		if buildah("inspect", "--type", "image", from[1]) == nil || buildah("pull", "--quiet", from[1]) == nil {
			continue
		}
		t.Logf("%s cannot be pulled: a stand-in is made", from[1])
		if out, err := run(t, ".", "testdata/stand-in.sh", from[1]); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	name, archive := image+":"+version, filepath.Join(t.TempDir(), "image.tar")
	err := buildah("bud", "--layers", "--pull-never", "--build-arg", "VERSION="+version, "--tag", name, ".")
	if err != nil {
		t.Fatal(err)
	}
	if err := buildah("push", "--quiet", name, "oci-archive:"+archive+":"+name); err != nil {
		t.Fatal(err)
	}
	return archive
}

// cluster is a running Kubernetes, and what reaches it.
type cluster struct {
	t       *testing.T // of the step that runs
	kubectl []string   // the program and the arguments that lead to the cluster
	helm    []string
}

// startCluster starts a node with the image until the test ends. E2E_KUBE_TOOL is a folder with two programs:
//
//	build.sh BIN           installs Kubernetes into the folder BIN
//	cluster.sh up DIR      starts a node that keeps everything in DIR, with the images of KUBE_IMAGES, inside the network
//	                       namespace KUBE_NS; leaves DIR/kubeconfig and BIN/kubectl
//	cluster.sh down DIR    ends it and removes DIR
func startCluster(t *testing.T, archive string) *cluster {
	t.Helper()
	tools := setting(t, "E2E_KUBE_TOOL", "a folder with build.sh and cluster.sh, which make a one-node Kubernetes")
	bin := setting(t, "E2E_KUBE_BIN", "the folder that build.sh fills, or has filled")
	if _, err := os.Stat(bin + "/kubelet"); err != nil {
		if _, err := run(t, root, tools+"/build.sh", bin); err != nil {
			t.Fatal(err)
		}
	}
	const network = "inferprobe-e2e"
	dir := filepath.Join(os.TempDir(), network)
	if _, err := os.Stat(dir); err == nil {
		t.Fatalf("a cluster is left over: KUBE_BIN=%s KUBE_NS=%s %s/cluster.sh down %s", bin, network, tools, dir)
	}
	manage := func(verb string) {
		cmd := exec.Command(tools+"/cluster.sh", verb, dir)
		cmd.Env = append(os.Environ(), "KUBE_BIN="+bin, "KUBE_NS="+network, "KUBE_IMAGES="+archive)
		// Into a file: what the command leaves running would keep a pipe open.
		log, err := os.Create(filepath.Join(t.TempDir(), verb+".log"))
		if err != nil {
			t.Fatal(err)
		}
		defer log.Close()
		cmd.Stdout, cmd.Stderr = log, log
		if err := cmd.Run(); err != nil {
			t.Errorf("cluster.sh %s: %v\n%s", verb, err, read(t, log.Name()))
		}
	}
	t.Cleanup(func() { manage("down") })
	manage("up")
	inside := []string{"nsenter", "--net=/var/run/netns/" + network}
	reach := []string{"--kubeconfig", dir + "/kubeconfig", "--namespace", namespace}
	return &cluster{
		t:       t,
		kubectl: slices.Concat(inside, []string{bin + "/kubectl"}, reach),
		helm:    slices.Concat(inside, []string{tool(t, "helm")}, reach),
	}
}

// step runs a part of the test. When it fails, the test ends, since each part builds on those before.
func (c *cluster) step(name string, f func(t *testing.T)) {
	outer := c.t
	defer func() { c.t = outer }()
	ok := outer.Run(name, func(t *testing.T) {
		c.t = t
		defer c.explain()
		f(t)
	})
	if !ok {
		outer.FailNow()
	}
}

// explain shows what the cluster knows if the step has failed.
func (c *cluster) explain() {
	if !c.t.Failed() {
		return
	}
	for _, args := range []string{
		"get pods,deployments,jobs,pvc,leases -o wide", "get events --sort-by=.lastTimestamp",
		"logs --prefix --tail=40 --selector app.kubernetes.io/name=inferprobe",
	} {
		out, _ := c.tryKube(strings.Fields(args)...)
		c.t.Logf("kubectl %s\n%s", args, out)
	}
}

// kube runs kubectl and returns its standard output.
func (c *cluster) kube(args ...string) string {
	c.t.Helper()
	out, err := c.tryKube(args...)
	if err != nil {
		c.t.Fatal(err)
	}
	return out
}

func (c *cluster) tryKube(args ...string) (string, error) {
	return run(c.t, root, c.kubectl[0], slices.Concat(c.kubectl[1:], args)...)
}

// decode reads what kubectl printed as JSON.
func (c *cluster) decode(text string, into any) {
	c.t.Helper()
	if err := json.Unmarshal([]byte(text), into); err != nil {
		c.t.Fatal(err)
	}
}

// apply gives manifests to the cluster.
func (c *cluster) apply(manifests string, args ...string) {
	c.t.Helper()
	file := filepath.Join(c.t.TempDir(), "manifests.yaml")
	if err := os.WriteFile(file, []byte(manifests), 0o600); err != nil {
		c.t.Fatal(err)
	}
	c.kube(slices.Concat([]string{"apply", "-f", file}, args)...)
}

// deploy runs helm install or upgrade with values, and waits until all pods are ready.
func (c *cluster) deploy(verb, release, values string, args ...string) {
	c.t.Helper()
	file := filepath.Join(c.t.TempDir(), "values.yaml")
	if err := os.WriteFile(file, []byte(values), 0o600); err != nil {
		c.t.Fatal(err)
	}
	args = slices.Concat(c.helm[1:], []string{verb, release, ".", "--values", file, "--wait", "--timeout", "3m"}, args)
	if _, err := run(c.t, chart, c.helm[0], args...); err != nil {
		c.t.Fatal(err)
	}
}

// pods returns the pods of a selector that are not being deleted.
func (c *cluster) pods(selector string) []corev1.Pod {
	c.t.Helper()
	var list corev1.PodList
	c.decode(c.kube("get", "pods", "--selector", selector, "-o", "json"), &list)
	var pods []corev1.Pod
	for _, p := range list.Items {
		if p.DeletionTimestamp == nil {
			pods = append(pods, p)
		}
	}
	return pods
}

// pod returns the only pod of a release.
func (c *cluster) pod(release string) corev1.Pod {
	c.t.Helper()
	pods := c.pods("app.kubernetes.io/name=inferprobe,app.kubernetes.io/instance=" + release)
	if len(pods) != 1 {
		c.t.Fatalf("release %s has %d pods, want 1", release, len(pods))
	}
	return pods[0]
}

// proxied is the API's path to a pod's port.
func proxied(pod string, port int, path string) string {
	return fmt.Sprintf("/api/v1/namespaces/%s/pods/%s:%d/proxy/%s", namespace, pod, port, path)
}

// page returns what a pod of inferprobe serves at a path, "" while it serves nothing.
func (c *cluster) page(pod, path string) string {
	out, err := c.tryKube("get", "--raw", proxied(pod, 9923, path))
	if err != nil {
		return ""
	}
	return out
}

// value returns the value of the first sample that begins with a prefix, and whether there is one.
func value(metrics, prefix string) (v float64, ok bool) {
	for line := range strings.Lines(metrics) {
		if strings.HasPrefix(line, prefix) {
			_, err := fmt.Sscan(line[strings.LastIndexByte(strings.TrimSpace(line), ' ')+1:], &v)
			return v, err == nil
		}
	}
	return 0, false
}

// lease says who holds an endpoint, "" for nobody, and since when.
type lease struct {
	holder   string
	acquired time.Time
}

// leases returns the endpoints' Leases by endpoint.
func (c *cluster) leases() map[string]lease {
	c.t.Helper()
	var list coordinationv1.LeaseList
	c.decode(c.kube("get", "leases", "--selector", "app.kubernetes.io/component=endpoint", "-o", "json"), &list)
	leases := map[string]lease{}
	for _, l := range list.Items {
		if l.Spec.HolderIdentity != nil && l.Spec.AcquireTime != nil {
			leases[l.Annotations["inferprobe/endpoint"]] = lease{*l.Spec.HolderIdentity, l.Spec.AcquireTime.Time}
		}
	}
	return leases
}

// truth returns what a simulator has recorded since its start.
func (c *cluster) truth(pod string) []sim.Record {
	c.t.Helper()
	var records []sim.Record
	lines := json.NewDecoder(strings.NewReader(c.kube("get", "--raw", proxied(pod, 8000, "truth"))))
	for lines.More() {
		var r sim.Record
		if err := lines.Decode(&r); err != nil {
			c.t.Fatal(err)
		}
		records = append(records, r)
	}
	return records
}

// eventually tries until check succeeds.
func (c *cluster) eventually(limit time.Duration, check func() error) {
	c.t.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("after %s: %v", limit, err)
		}
		time.Sleep(500 * time.Millisecond)
	}
}
