//go:build e2e_kube

package deploytest

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/inferprobe/inferprobe/internal/sim"
)

// TestKubernetes runs the image and the chart on a real node, with simulators as the endpoints. `make e2e-kube` says
// what it needs. Endpoints are named by the simulators' pods, in order: a, b, c, d.
func TestKubernetes(t *testing.T) {
	version := parse[struct {
		AppVersion string `json:"appVersion"`
	}](t, chart+"/Chart.yaml").AppVersion
	c := startCluster(t, buildImage(t, version))
	history := t.TempDir() // of all pods: a volume of the node

	c.step("simulators", func(*testing.T) { prepare(c, version, history) })
	endpoints := addresses(c)
	c.step("manifests", func(t *testing.T) { admit(t, c) })
	c.step("install", func(t *testing.T) { install(t, c, endpoints) })
	c.step("reload", func(t *testing.T) { reload(t, c, endpoints) })
	c.step("upgrade", func(t *testing.T) { upgrade(t, c, endpoints) })
	c.step("SIGTERM", func(t *testing.T) { terminate(t, c) })
	c.step("three settings", func(t *testing.T) { threeSettings(t, c, endpoints["a"]) })
	c.step("job", func(t *testing.T) { jobs(t, c, endpoints["a"]) })
	began := time.Now()
	c.step("replicas", func(t *testing.T) { share(t, c, endpoints) })
	c.step("replica killed", func(t *testing.T) { killReplica(t, c, endpoints) })
	c.step("replica deleted", func(t *testing.T) { deleteReplica(t, c, endpoints) })
	c.step("rolling update", func(t *testing.T) { roll(t, c, endpoints) })
	c.step("one at a time", func(t *testing.T) { checkTurns(t, c, endpoints, began) })
}

// prepare makes the namespace, which admits restricted pods only, volumes for two releases, and four simulators.
func prepare(c *cluster, version, history string) {
	c.kube("create", "namespace", namespace)
	c.kube("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
	for _, name := range []string{"one", "shared"} {
		dir := filepath.Join(history, name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			c.t.Fatal(err)
		}
		if err := os.Chmod(dir, 0o777); err != nil { // a volume of the node has no fsGroup
			c.t.Fatal(err)
		}
		c.apply(fmt.Sprintf(`{apiVersion: v1, kind: PersistentVolume, metadata: {name: %s}, spec: {capacity: {storage: 10Gi},
  accessModes: [ReadWriteMany], storageClassName: %[1]s, hostPath: {path: %s, type: Directory}}}`, name, dir))
	}
	manifests := read(c.t, root+"/deploy/kubernetes/overlays/simulator/simulator.yaml")
	c.apply(strings.NewReplacer("image: "+image, "image: "+image+":"+version, "replicas: 1", "replicas: 4",
		"cpu: 250m", "cpu: 20m").Replace(manifests))
	c.kube("rollout", "status", "deployment/simulator", "--timeout=3m")
}

// admit lets the API server judge every example of the chart and every overlay, without keeping them.
func admit(t *testing.T, c *cluster) {
	examples, err := filepath.Glob(chart + "/ci/*.yaml")
	if err != nil || len(examples) == 0 {
		t.Fatal(examples, err)
	}
	for _, example := range examples {
		out, err := helm(t, "template", ".", "--namespace", namespace, "--values", "ci/"+filepath.Base(example),
			"--set", "serviceMonitor.enabled=false,podMonitor.enabled=false") // the operator's types are not here
		if err != nil {
			t.Fatal(err)
		}
		c.apply(out, "--dry-run=server")
	}
	for _, overlay := range []string{"simulator", "replicas"} {
		out, err := run(t, root+"/deploy/kubernetes", tool(t, "kustomize"), "build", "overlays/"+overlay)
		if err != nil {
			t.Fatal(err)
		}
		c.apply(out, "--dry-run=server")
	}
}

// endpoint is a simulator.
type endpoint struct{ pod, url string }

// addresses returns the simulators. They are told by their pods' addresses: the node has no DNS.
func addresses(c *cluster) map[string]endpoint {
	endpoints := map[string]endpoint{}
	for i, p := range c.pods("app.kubernetes.io/name=simulator") {
		endpoints[string(rune('a'+i))] = endpoint{p.Name, fmt.Sprintf("http://%s:8000/v1", p.Status.PodIP)}
	}
	if len(endpoints) != 4 {
		c.t.Fatalf("simulators %v, want 4", endpoints)
	}
	return endpoints
}

// values returns values of the chart that measure the named endpoints in cycles of a few seconds, on a volume.
func values(endpoints map[string]endpoint, names, sweep, volume string) string {
	var b strings.Builder
	b.WriteString("endpoints:\n")
	for _, name := range strings.Split(names, "") {
		fmt.Fprintf(&b, "  - {name: %s, url: %q, tokenizer: \"builtin:demo\"}\n", name, endpoints[name].url)
	}
	fmt.Fprintf(&b, "config: {defaults: {sweep: %s, canary: {interval: 0s}}}\n", sweep)
	fmt.Fprintf(&b, "persistence: {enabled: true, accessModes: [ReadWriteMany], storageClassName: %s}\n", volume)
	b.WriteString("resources: {requests: {cpu: 50m, memory: 64Mi}, limits: {memory: 512Mi}}\n")
	return b.String()
}

const (
	one      = "inferprobe" // the release of one replica; its objects have the same name
	oneSweep = "{interval: 1h, output_tokens: 16, max_duration: 4s, max_concurrency: 8, rates: 1}"
)

// install installs the chart and waits for the report of a cycle in the pod's log.
func install(t *testing.T, c *cluster, endpoints map[string]endpoint) {
	began := time.Now()
	c.kube("create", "secret", "generic", "keys", "--from-literal=hosted=first")
	c.deploy("install", one, values(endpoints, "a", oneSweep, "one"), keys[0], "apiKeySecrets={keys}")
	t.Logf("helm install --wait took %s", since(began))
	pod := c.pod(one)
	c.eventually(90*time.Second, func() error {
		if n, _ := value(c.page(pod.Name, "metrics"), `inferprobe_cycles_total{endpoint="a"`); n != 1 {
			return fmt.Errorf("%v cycles are finished", n)
		}
		return nil
	})
	log := c.kube("logs", "deployment/"+one)
	for _, title := range []string{"Requests Data", "Tokens Data", "Performance Stats", "Performance Summary"} {
		if !strings.Contains(log, title) {
			t.Errorf("the log lacks the table %q:\n%s", title, log)
		}
	}
	if c.may("list", "leases", one) {
		t.Error("the ServiceAccount of one replica has rights")
	}
}

// keys is a Secret, and how values have endpoint b use it.
var keys = []string{"--set", "apiKeySecrets={keys},endpoints[1].api_key_file=/etc/inferprobe/keys/hosted"}

// reload adds an endpoint to the values, then changes its key, and waits each time for the running daemon to take it
// over.
func reload(t *testing.T, c *cluster, endpoints map[string]endpoint) {
	before := c.pod(one)
	began := time.Now()
	c.reloaded(before.Name, func() { c.deploy("upgrade", one, values(endpoints, "ab", oneSweep, "one"), keys...) })
	if _, ok := value(c.page(before.Name, "metrics"), `inferprobe_endpoint_info{endpoint="b"`); !ok {
		t.Error("there are no series of the endpoint that was added")
	}
	t.Logf("the change of the ConfigMap was taken over %s after helm upgrade began", since(began))
	began = time.Now()
	c.reloaded(before.Name, func() {
		c.kube("patch", "secret", "keys", "--type=merge", "-p", `{"stringData":{"hosted":"second"}}`)
	})
	t.Logf("the change of the Secret was taken over after %s", since(began))
	after := c.pod(one)
	if after.UID != before.UID || after.Status.ContainerStatuses[0].RestartCount != 0 {
		t.Errorf("the pod was replaced or started again: %s, then %s", before.Name, after.Name)
	}
	if n, _ := value(c.page(after.Name, "metrics"), `inferprobe_cycles_total{endpoint="a"`); n != 1 {
		t.Errorf("the endpoint that did not change has %v cycles, want the one of before", n)
	}
}

// reloaded makes a change and waits until a pod has loaded its configuration anew.
func (c *cluster) reloaded(pod string, change func()) {
	c.t.Helper()
	const loaded = "inferprobe_config_last_reload_success_timestamp_seconds"
	was, ok := value(c.page(pod, "metrics"), loaded)
	if !ok {
		c.t.Fatal("no " + loaded)
	}
	change()
	c.eventually(2*time.Minute, func() error {
		if now, _ := value(c.page(pod, "metrics"), loaded); now <= was {
			return fmt.Errorf("last loaded at %f as before", now)
		}
		return nil
	})
}

var cycleID = regexp.MustCompile(`a-[0-9]{8}T[0-9]{6}\.[0-9]{3}Z`)

// upgrade changes what needs a new pod. That knows the cycles of the one before, and does not measure again what has
// just been measured.
func upgrade(t *testing.T, c *cluster, endpoints map[string]endpoint) {
	const ended = `inferprobe_cycle_last_end_timestamp_seconds{endpoint="a"`
	before := c.pod(one)
	wasEnded, _ := value(c.page(before.Name, "metrics"), ended)
	wasKnown := cycleID.FindString(c.page(before.Name, "api/v1/endpoints/a"))
	c.deploy("upgrade", one, values(endpoints, "ab", oneSweep, "one"), slices.Concat(keys,
		[]string{"--set", "config.history.cycles=7", "--set", "extraArgs={--web.enable-lifecycle}"})...)
	after := c.pod(one)
	if after.UID == before.UID {
		t.Fatal("the pod is the same")
	}
	if known := cycleID.FindString(c.page(after.Name, "api/v1/endpoints/a")); wasKnown == "" || known != wasKnown {
		t.Errorf("the last cycle of the pod before was %q, the new one knows %q", wasKnown, known)
	}
	if now, ok := value(c.page(after.Name, "metrics"), ended); !ok || now != wasEnded {
		t.Errorf("the last cycle ended at %f, now it ended at %f", wasEnded, now)
	}
}

// terminate deletes the pod in the middle of a cycle. A finalizer keeps the object until its exit code has been read.
func terminate(t *testing.T, c *cluster) {
	pod := c.pod(one).Name
	c.kube("create", "--raw", proxied(pod, 9923, "api/v1/endpoints/a/run"), "-f", os.DevNull)
	c.eventually(30*time.Second, func() error {
		if v, _ := value(c.page(pod, "metrics"), `inferprobe_cycle_in_progress{endpoint="a"`); v != 1 {
			return fmt.Errorf("no cycle runs")
		}
		return nil
	})
	time.Sleep(2 * time.Second) // into a stage
	log := c.follow(pod)
	c.kube("patch", "pod", pod, "--type=merge", "-p", `{"metadata":{"finalizers":["inferprobe.test/exit-code"]}}`)
	began := time.Now()
	c.kube("delete", "pod", pod, "--wait=false")
	var state *corev1.ContainerStateTerminated
	c.eventually(time.Minute, func() error {
		p := c.get(pod)
		if state = p.Status.ContainerStatuses[0].State.Terminated; state == nil {
			return fmt.Errorf("the container still runs")
		}
		return nil
	})
	c.kube("patch", "pod", pod, "--type=merge", "-p", `{"metadata":{"finalizers":null}}`)
	text := log()
	if state.ExitCode != 0 {
		t.Errorf("exit code %d (%s)", state.ExitCode, state.Reason)
	}
	for _, want := range []string{"told to stop", "cycle interrupted", "Requests Data"} {
		if !strings.Contains(text, want) {
			t.Errorf("the log lacks %q:\n%s", want, text)
		}
	}
	t.Logf("the container ended with exit code %d, and kubectl knew it %s after the deletion", state.ExitCode, since(began))
	c.helmUninstall(one)
}

// threeSettings pipes the command of the README to kubectl.
func threeSettings(t *testing.T, c *cluster, e endpoint) {
	pipe := func(verb string) {
		command := fmt.Sprintf(`set -o pipefail; %s template . --set env_vars.OPENAI_API_BASE_URL="%s/" `+
			`--set env_vars.TOKENIZER=builtin:demo | %s %s -f -`, tool(t, "helm"), e.url, strings.Join(c.kubectl, " "), verb)
		if _, err := run(t, chart, "bash", "-c", command); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	pipe("apply")
	c.kube("rollout", "status", "deployment/release-name-inferprobe", "--timeout=2m")
	t.Logf("the pod was ready after %s", since(began))
	pod := c.pod("release-name").Name
	c.eventually(30*time.Second, func() error {
		const sent = `inferprobe_time_to_first_token_seconds_count`
		for line := range strings.Lines(c.page(pod, "metrics")) {
			if n, ok := value(line, sent); ok && n >= 3 {
				return nil
			}
		}
		return fmt.Errorf("nothing has been measured")
	})
	log := c.follow(pod)
	pipe("delete --wait")
	if text := log(); !strings.Contains(text, "Performance Summary") {
		t.Errorf("the log lacks the report of what was measured:\n%s", text)
	}
}

// jobs runs a Job that can measure and one that cannot.
func jobs(t *testing.T, c *cluster, e endpoint) {
	for _, j := range []struct {
		name, url, condition string
		code                 int32
		log                  string
	}{
		{"good", e.url, "complete", 0, "Performance Summary"},
		{"bad", strings.Replace(e.url, ":8000", ":1", 1), "failed", 1, "connect"},
	} {
		out, err := helm(t, "template", j.name, ".", "--set", "mode=job", "--set", "extraArgs={--max-seconds=2,--rates=1}",
			"--set", "env_vars.OPENAI_API_BASE_URL="+j.url, "--set", "env_vars.TOKENIZER=builtin:demo")
		if err != nil {
			t.Fatal(err)
		}
		c.apply(out)
		c.kube("wait", "--for=condition="+j.condition, "job/"+j.name+"-inferprobe", "--timeout=2m")
		state := c.pod(j.name).Status.ContainerStatuses[0].State.Terminated
		if state == nil || state.ExitCode != j.code {
			t.Errorf("%s: the container ended as %+v, want exit code %d", j.name, state, j.code)
		}
		if log := c.kube("logs", "job/"+j.name+"-inferprobe"); !strings.Contains(log, j.log) {
			t.Errorf("%s: the log lacks %q:\n%s", j.name, j.log, log)
		}
		c.kube("delete", "job", j.name+"-inferprobe")
	}
}

const (
	many          = "many-inferprobe" // objects of the release of three replicas
	leaseDuration = 6 * time.Second
	// takeover is how long it takes at most until another replica holds what a dead one did: a duration and one and a half
	// of the intervals between renewals, of which a duration has three. A second is for a busy node.
	takeover = leaseDuration + leaseDuration/3*3/2 + time.Second
	// Cycles follow one another, so that two replicas on one endpoint would meet.
	manySweep = "{interval: 5s, profile: synchronous, output_tokens: 8, max_duration: 4s}"
)

func manyValues(endpoints map[string]endpoint) string {
	return values(endpoints, "abcd", manySweep, "shared") +
		fmt.Sprintf("replicas: 3\nlease: {duration: %s}\n", leaseDuration)
}

// share installs three replicas and waits until each endpoint is measured, and shown, by exactly one.
func share(t *testing.T, c *cluster, endpoints map[string]endpoint) {
	began := time.Now()
	c.deploy("install", "many", manyValues(endpoints))
	c.eventually(time.Minute, func() error { return shared(c, endpoints) })
	t.Logf("three replicas shared %d endpoints %s after helm install began", len(endpoints), since(began))
	if !c.may("delete", "leases", many) || c.may("list", "pods", many) || c.may("list", "secrets", many) {
		t.Error("the replicas' ServiceAccount may not do what it must, or may do more")
	}
}

// shared returns nil if each endpoint's series are on exactly one replica, the one that holds its Lease, and no replica
// has two endpoints more than another.
func shared(c *cluster, endpoints map[string]endpoint) error {
	pods := c.pods("app.kubernetes.io/instance=many")
	loads := map[string]int{}
	for _, p := range pods {
		loads[p.Name] = 0
	}
	shown := map[string][]string{}
	for _, p := range pods {
		metrics := c.page(p.Name, "metrics")
		for name := range endpoints {
			if _, ok := value(metrics, fmt.Sprintf(`inferprobe_endpoint_info{endpoint=%q`, name)); ok {
				shown[name] = append(shown[name], p.Name)
				loads[p.Name]++
			}
		}
	}
	leases := c.leases()
	for name := range endpoints {
		holder := leases[name].holder
		if len(shown[name]) != 1 || !strings.HasPrefix(holder, shown[name][0]+"-") {
			return fmt.Errorf("endpoint %s is shown by %v and held by %q", name, shown[name], holder)
		}
	}
	if n := slices.Collect(maps.Values(loads)); len(n) != 3 || slices.Max(n)-slices.Min(n) > 1 {
		return fmt.Errorf("the replicas have %v endpoints", loads)
	}
	return nil
}

// killReplica kills the process of the replica with the most endpoints. The kubelet starts the container again, as
// another holder; who takes the endpoints over is not said, only when.
func killReplica(t *testing.T, c *cluster, endpoints map[string]endpoint) {
	holders := map[string][]string{}
	for name, lease := range c.leases() {
		holders[lease.holder] = append(holders[lease.holder], name)
	}
	victim := slices.MaxFunc(slices.Collect(maps.Keys(holders)), func(a, b string) int {
		return len(holders[a]) - len(holders[b])
	})
	killed := time.Now()
	kill(t, victim[:strings.LastIndexByte(victim, '-')])
	var slowest time.Duration
	c.eventually(takeover+20*time.Second, func() error {
		slowest = 0
		leases := c.leases()
		for _, name := range holders[victim] {
			lease := leases[name]
			if lease.holder == victim || lease.holder == "" {
				return fmt.Errorf("endpoint %s is still held by the dead replica", name)
			}
			slowest = max(slowest, lease.acquired.Sub(killed))
		}
		return nil
	})
	if slowest > takeover {
		t.Errorf("the takeover of %v lasted %s, want %s at most", holders[victim], slowest, takeover)
	}
	t.Logf("%v were taken over %s after the kill, with leases of %s", holders[victim],
		slowest.Round(10*time.Millisecond), leaseDuration)
	c.eventually(time.Minute, func() error { return shared(c, endpoints) })
}

// kill sends SIGKILL to the process of inferprobe in a pod. The node's processes are this machine's.
func kill(t *testing.T, pod string) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		environ, err := os.ReadFile(file)
		if err != nil || !bytes.Contains(environ, []byte("POD_NAME="+pod+"\x00")) {
			continue
		}
		var pid int
		if _, err := fmt.Sscanf(file, "/proc/%d/environ", &pid); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Fatalf("no process has POD_NAME=%s", pod)
}

// deleteReplica deletes a replica in order: what it releases is free at once.
func deleteReplica(t *testing.T, c *cluster, endpoints map[string]endpoint) {
	was := c.leases()["a"].holder
	began := time.Now()
	c.kube("delete", "pod", was[:strings.LastIndexByte(was, '-')], "--wait=false")
	var took time.Duration
	c.eventually(time.Minute, func() error {
		lease := c.leases()["a"]
		if lease.holder == was || lease.holder == "" {
			return fmt.Errorf("endpoint a is held by %q", lease.holder)
		}
		took = lease.acquired.Sub(began)
		return nil
	})
	t.Logf("endpoint a was handed over %s after the deletion", took.Round(10*time.Millisecond))
	c.eventually(time.Minute, func() error { return shared(c, endpoints) })
}

// roll replaces all pods.
func roll(t *testing.T, c *cluster, endpoints map[string]endpoint) {
	before := c.pods("app.kubernetes.io/instance=many")
	began := time.Now()
	c.deploy("upgrade", "many", manyValues(endpoints), "--set-string", "podAnnotations.example\\.com/roll=1")
	c.eventually(time.Minute, func() error { return shared(c, endpoints) })
	t.Logf("all replicas were replaced, and share again, after %s", since(began))
	for _, p := range c.pods("app.kubernetes.io/instance=many") {
		if slices.ContainsFunc(before, func(b corev1.Pod) bool { return b.UID == p.UID }) {
			t.Errorf("%s is not new", p.Name)
		}
	}
}

// turn is the time in which one client sent requests to an endpoint: a cycle.
type turn struct {
	client      string
	first, last time.Time
}

// turns returns the cycles among a simulator's records, in the order in which they began.
func turns(records []sim.Record) []turn {
	by := map[string]*turn{}
	for _, r := range records {
		client := r.RequestID[:strings.LastIndexByte(r.RequestID, '-')+1]
		last := r.Received
		if n := len(r.Writes); n > 0 {
			last = r.Writes[n-1].After
		}
		t := by[client]
		if t == nil {
			t = &turn{client, r.Received, last}
			by[client] = t
		}
		t.first = time.Unix(0, min(t.first.UnixNano(), r.Received.UnixNano()))
		t.last = time.Unix(0, max(t.last.UnixNano(), last.UnixNano()))
	}
	all := make([]turn, 0, len(by))
	for _, t := range by {
		all = append(all, *t)
	}
	slices.SortFunc(all, func(a, b turn) int { return a.first.Compare(b.first) })
	return all
}

// checkTurns holds all that happened against what the simulators saw: no cycle of an endpoint began before the one
// before it had sent its last request and had its last token, whoever ran them; and since there are replicas, no
// endpoint was left alone for longer than a takeover and the time until a cycle is due.
func checkTurns(t *testing.T, c *cluster, endpoints map[string]endpoint, replicated time.Time) {
	const due = 5*time.Second + 3*time.Second // manySweep's interval; and a busy node starts late
	c.helmUninstall("many")
	total, longest := 0, time.Duration(0)
	closest := time.Duration(math.MaxInt64)
	for name, e := range endpoints {
		all := turns(c.truth(e.pod))
		for i, turn := range all[1:] {
			gap := turn.first.Sub(all[i].last)
			if gap < 0 {
				t.Errorf("endpoint %s: %s began %s before %s had ended", name, turn.client, -gap, all[i].client)
			}
			if all[i].first.After(replicated) {
				longest = max(longest, gap)
			}
			closest = min(closest, gap)
		}
		total += len(all)
	}
	if total < 20 {
		t.Errorf("only %d cycles were seen", total)
	}
	if longest > takeover+due {
		t.Errorf("an endpoint was left alone for %s, want %s at most", longest, takeover+due)
	}
	t.Logf("%d cycles never overlapped: the closest were %s apart, and replicas left no endpoint alone for more than %s",
		total, closest.Round(time.Millisecond), longest.Round(time.Millisecond))
}

// get returns a pod.
func (c *cluster) get(pod string) (p corev1.Pod) {
	c.t.Helper()
	c.decode(c.kube("get", "pod", pod, "-o", "json"), &p)
	return p
}

// follow reads a pod's log from now on. What it returns waits for the log's end and returns all of it.
func (c *cluster) follow(pod string) func() string {
	c.t.Helper()
	var log bytes.Buffer
	args := slices.Concat(c.kubectl[1:], []string{"logs", "--follow", pod})
	cmd := exec.Command(c.kubectl[0], args...)
	cmd.Stdout = &log
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	wait := sync.OnceFunc(func() { _ = cmd.Wait() })
	c.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		wait()
	})
	return func() string {
		wait()
		return log.String()
	}
}

func (c *cluster) helmUninstall(release string) {
	c.t.Helper()
	args := slices.Concat(c.helm[1:], []string{"uninstall", release, "--wait"})
	if _, err := run(c.t, chart, c.helm[0], args...); err != nil {
		c.t.Fatal(err)
	}
}

// may reports whether a ServiceAccount has a right in the namespace.
func (c *cluster) may(verb, resource, account string) bool {
	c.t.Helper()
	out, err := c.tryKube("auth", "can-i", verb, resource, "--as", "system:serviceaccount:"+namespace+":"+account)
	answer := strings.TrimSpace(out)
	if answer != "yes" && answer != "no" { // no is an error, too
		c.t.Fatal(out, err)
	}
	return answer == "yes"
}

func since(t time.Time) time.Duration { return time.Since(t).Round(100 * time.Millisecond) }
