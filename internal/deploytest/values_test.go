//go:build deploy

package deploytest

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"github.com/inferprobe/inferprobe/internal/config"
)

// volumes returns the volumes of a pod by name.
func volumes(pod corev1.PodSpec) map[string]corev1.Volume {
	all := map[string]corev1.Volume{}
	for _, v := range pod.Volumes {
		all[v.Name] = v
	}
	return all
}

// History and tokenizers lie on the one writable volume, whatever it is, since the root is read-only.
func TestPersistence(t *testing.T) {
	url := []string{"--set", "env_vars.OPENAI_API_BASE_URL=http://x/v1"}
	for _, c := range []struct {
		set    string
		claims int
		want   corev1.VolumeSource
	}{
		{"persistence.enabled=false", 0, corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
		{"persistence.enabled=true", 1, corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{
			ClaimName: "release-name-inferprobe"}}},
		{"persistence.enabled=true,persistence.existingClaim=mine", 0, corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "mine"}}},
		{"replicas=2,persistence.enabled=true,persistence.existingClaim=mine", 0, corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "mine"}}},
	} {
		o := render(t, append(url, "--set", c.set)...)
		if got := len(o["PersistentVolumeClaim"]); got != c.claims {
			t.Errorf("%s: %d claims are made, want %d", c.set, got, c.claims)
		}
		pod := o.pods()[0].Spec
		got := volumes(pod)["state"].VolumeSource
		if got.EmptyDir != nil {
			got.EmptyDir.SizeLimit = nil
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: %s", c.set, diff)
		}
		home := environment(pod.Containers[0])["HF_HOME"].Value
		for _, m := range pod.Containers[0].VolumeMounts {
			if m.Name != "state" {
				continue
			}
			if m.MountPath != "/var/lib/inferprobe" || m.ReadOnly || !strings.HasPrefix(home, m.MountPath+"/") {
				t.Errorf("%s: mount %+v, HF_HOME %s", c.set, m, home)
			}
		}
	}
}

// A claim is what the values say.
func TestClaim(t *testing.T) {
	o := render(t, "--values", "ci/full-values.yaml")
	claim := get[*corev1.PersistentVolumeClaim](t, o, "PersistentVolumeClaim").Spec
	if *claim.StorageClassName != "fast" || claim.Resources.Requests.Storage().String() != "20Gi" ||
		!cmp.Equal(claim.AccessModes, []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}) {
		t.Errorf("claim %+v", claim)
	}
}

// Files that the kubelet renews must be mounted by folder: it never renews a subPath.
func TestMountedFilesAreRenewed(t *testing.T) {
	pod := render(t, "--values", "ci/full-values.yaml").pods()[0].Spec
	mounts := map[string]string{}
	for _, m := range pod.Containers[0].VolumeMounts {
		if m.SubPath != "" || m.SubPathExpr != "" {
			t.Errorf("%s is mounted by subPath", m.MountPath)
		}
		mounts[m.MountPath] = m.Name
	}
	if v := volumes(pod)[mounts["/etc/inferprobe/config"]]; v.ConfigMap == nil {
		t.Errorf("the configuration is %+v", v)
	}
	keys := volumes(pod)[mounts["/etc/inferprobe/keys"]].Projected
	if keys == nil || keys.Sources[0].Secret.Name != "inferprobe-keys" {
		t.Errorf("the keys are %+v", keys)
	}
}

// What the values say of the configuration is what inferprobe reads, whatever YAML and templates make of numbers.
func TestConfigurationIsPassedOn(t *testing.T) {
	o := render(t, "--values", "ci/replicas-values.yaml", "--set", "config.limits.concurrent_sweeps=3")
	file := filepath.Join(t.TempDir(), "inferprobe.yaml")
	text := get[*corev1.ConfigMap](t, o, "ConfigMap").Data["inferprobe.yaml"]
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Limits.ConcurrentSweeps; got != 3 {
		t.Errorf("limits.concurrent_sweeps %d", got)
	}
	if got := c.History; got.Cycles != 100 || got.MaxAge != 30*24*time.Hour {
		t.Errorf("history %+v", got)
	}
	a, b := c.Endpoints[0], c.Endpoints[1]
	if a.Canary.Interval != 0 || a.Guards.TokensPerDay != 20_000_000 || a.Timeouts.FirstToken != 90*time.Second {
		t.Errorf("endpoint a: %+v", a)
	}
	if b.Sweep.Cron != "0 3 * * *" || len(b.Sweep.Windows) != 1 || b.Canary.Interval != time.Minute {
		t.Errorf("endpoint b: %+v", b)
	}
}

func TestNetworkPolicy(t *testing.T) {
	url := []string{"--set", "env_vars.OPENAI_API_BASE_URL=http://x/v1"}
	o := render(t, url...)
	if len(o["NetworkPolicy"]) != 0 {
		t.Error("there is a NetworkPolicy that nobody asked for")
	}
	o = render(t, append(url, "--set", "networkPolicy.enabled=true")...)
	open := get[*networkingv1.NetworkPolicy](t, o, "NetworkPolicy").Spec
	if len(open.PolicyTypes) != 1 || open.PolicyTypes[0] != networkingv1.PolicyTypeIngress || len(open.Ingress) != 1 ||
		len(open.Ingress[0].From) != 0 || open.Ingress[0].Ports[0].Port.String() != "http" {
		t.Errorf("without further values: %+v", open)
	}
	o = render(t, "--values", "ci/full-values.yaml")
	strict := get[*networkingv1.NetworkPolicy](t, o, "NetworkPolicy").Spec
	if !selects(strict.PodSelector.MatchLabels, o.pods()[0].Labels) {
		t.Errorf("the policy does not select the pod: %v", strict.PodSelector)
	}
	if len(strict.PolicyTypes) != 2 || len(strict.Ingress[0].From) != 1 || len(strict.Egress) != 2 ||
		strict.Egress[0].Ports[0].Port.IntValue() != 53 || strict.Egress[1].Ports[0].Port.IntValue() != 443 {
		t.Errorf("with all values: %+v", strict)
	}
}

// What decides where and as whom the pod runs is passed on.
func TestPlacement(t *testing.T) {
	o := render(t, "--values", "ci/full-values.yaml")
	pod := o.pods()[0]
	if pod.Annotations["example.com/a"] != "b" || pod.Labels["example.com/c"] != "d" || pod.Labels["team"] != "search" {
		t.Errorf("annotations %v, labels %v", pod.Annotations, pod.Labels)
	}
	s := pod.Spec
	if s.NodeSelector["kubernetes.io/os"] != "linux" || len(s.Tolerations) != 1 || s.Affinity.NodeAffinity == nil ||
		s.PriorityClassName != "low" || s.ImagePullSecrets[0].Name != "registry" {
		t.Errorf("pod %+v", s)
	}
	if got := s.Containers[0].Image; got != "ghcr.io/inferprobe/inferprobe@sha256:"+strings.Repeat("0123456789abcdef", 4) {
		t.Errorf("image %s", got)
	}
	if environment(s.Containers[0])["HTTPS_PROXY"].Value == "" || volumes(s)["tokenizers"].EmptyDir == nil {
		t.Error("extraEnv or extraVolumes are lost")
	}
	account := get[*corev1.ServiceAccount](t, o, "ServiceAccount")
	if s.ServiceAccountName != account.Name || account.Annotations["example.com/owner"] != "search" {
		t.Errorf("ServiceAccount %+v", account)
	}
	o = render(t, "--values", "ci/env-values.yaml", "--set", "serviceAccount.create=false,serviceAccount.name=mine")
	if got := o.pods()[0].Spec.ServiceAccountName; len(o["ServiceAccount"]) != 0 || got != "mine" {
		t.Errorf("ServiceAccount %s", got)
	}
}

// The notes say what the user has now, and what is lost without a volume.
func TestNotes(t *testing.T) {
	for _, c := range []struct {
		args []string
		want []string
		not  string
	}{
		{[]string{"ci/env-values.yaml"}, []string{"logs -f deployment/x-inferprobe", "forgets history"}, "serviceMonitor"},
		{[]string{"ci/simulator-values.yaml"}, []string{"--set serviceMonitor.enabled=true"}, "replicas"},
		{[]string{"ci/full-values.yaml"}, []string{"inferprobe is measuring"}, "forgets history"},
		{[]string{"ci/job-values.yaml"}, []string{"logs -f job/x-inferprobe"}, "port-forward"},
		{[]string{"ci/simulator-values.yaml", "--set", "replicas=0"}, []string{"inferprobe is paused"}, "is measuring"},
		{[]string{"ci/replicas-values.yaml"}, []string{"3 replicas share", "instance=x-inferprobe"}, "forgets history"},
		{[]string{"ci/simulator-values.yaml", "--set", "replicas=2"}, []string{"={ReadWriteMany}"}, "is measuring"},
	} {
		out, err := helm(t, append([]string{"install", "x", ".", "--dry-run=client", "--values"}, c.args...)...)
		if err != nil {
			t.Error(err)
			continue
		}
		_, notes, _ := strings.Cut(out, "\nNOTES:\n")
		for _, want := range c.want {
			if !strings.Contains(notes, want) {
				t.Errorf("%v: the notes lack %q:\n%s", c.args, want, notes)
			}
		}
		if strings.Contains(notes, c.not) {
			t.Errorf("%v: the notes have %q:\n%s", c.args, c.not, notes)
		}
	}
}

// TestWebConfig: with a password the kubelet cannot ask for paths any more.
func TestWebConfig(t *testing.T) {
	o := render(t, "--set", "env_vars.OPENAI_API_BASE_URL=http://a/v1", "--set", "web.configSecret=web",
		"--set", "web.enableLifecycle=true")
	pod := get[*appsv1.Deployment](t, o, "Deployment").Spec.Template.Spec
	c := pod.Containers[0]
	want := []string{"serve", "--web.config.file=/etc/inferprobe/web/web.yaml", "--web.enable-lifecycle"}
	if diff := cmp.Diff(want, c.Args); diff != "" {
		t.Error(diff)
	}
	for _, p := range []*corev1.Probe{c.LivenessProbe, c.ReadinessProbe} {
		if p.HTTPGet != nil || p.TCPSocket == nil || p.TCPSocket.Port.StrVal != "http" {
			t.Errorf("probe %+v", p)
		}
	}
	mounted := slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool {
		return m.Name == "web" && m.MountPath == "/etc/inferprobe/web" && m.ReadOnly
	})
	secret := slices.ContainsFunc(pod.Volumes, func(v corev1.Volume) bool {
		return v.Name == "web" && v.Secret != nil && v.Secret.SecretName == "web"
	})
	if !mounted || !secret {
		t.Errorf("mounts %+v, volumes %+v", c.VolumeMounts, pod.Volumes)
	}
}
