//go:build deploy

package deploytest

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/inferprobe/inferprobe/internal/config"
)

// render returns the chart's objects for helm's arguments.
func render(t *testing.T, args ...string) objects {
	t.Helper()
	out, err := helm(t, append([]string{"template", "."}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	return decode(t, out)
}

func TestExampleValues(t *testing.T) {
	files, err := filepath.Glob(chart + "/ci/*.yaml")
	if err != nil || len(files) < 4 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		file = "ci/" + filepath.Base(file)
		t.Run(file, func(t *testing.T) {
			if _, err := helm(t, "lint", "--strict", ".", "--values", file); err != nil {
				t.Error(err)
			}
			o := render(t, "--values", file)
			pods := o.pods()
			if len(pods) != 1 {
				t.Fatalf("%d pods, want 1", len(pods))
			}
			checkPod(t, pods[0].Spec)
			checkConfiguration(t, o)
		})
	}
}

func TestDefaultValuesPassTheLinter(t *testing.T) {
	if _, err := helm(t, "lint", "--strict", "."); err != nil {
		t.Error(err)
	}
}

// checkConfiguration lets inferprobe itself read the file that its pod would see.
func checkConfiguration(t *testing.T, o objects) {
	t.Helper()
	for _, m := range o["ConfigMap"] {
		text, ok := m.(*corev1.ConfigMap).Data["inferprobe.yaml"]
		if !ok {
			continue
		}
		dir := t.TempDir()
		for _, key := range regexp.MustCompile(`/etc/inferprobe/keys/(\S+)`).FindAllStringSubmatch(text, -1) {
			if err := os.WriteFile(filepath.Join(dir, key[1]), []byte("key"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		text = strings.ReplaceAll(text, "/etc/inferprobe/keys", dir)
		file := filepath.Join(dir, "inferprobe.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := config.Load(file); err != nil {
			t.Error(err)
		}
	}
}

func TestThreeSettings(t *testing.T) {
	o := render(t, "--set", "env_vars.OPENAI_API_BASE_URL=http://your-api-endpoint.com/v1/",
		"--set", "env_vars.TOKENIZER=Qwen/Qwen3-0.6B", "--set", "env_vars.HF_TOKEN=not-a-real-token")
	d := get[*appsv1.Deployment](t, o, "Deployment")
	if *d.Spec.Replicas != 1 || d.Spec.Strategy.Type != appsv1.RecreateDeploymentStrategyType {
		t.Errorf("two pods may measure at once: %d replicas, %s", *d.Spec.Replicas, d.Spec.Strategy.Type)
	}
	c := d.Spec.Template.Spec.Containers[0]
	if diff := cmp.Diff([]string{"serve"}, c.Args); diff != "" {
		t.Error(diff)
	}
	env := environment(c)
	if got := env["OPENAI_API_BASE_URL"].Value; got != "http://your-api-endpoint.com/v1/" {
		t.Errorf("OPENAI_API_BASE_URL %q", got)
	}
	if got := env["TOKENIZER"].Value; got != "Qwen/Qwen3-0.6B" {
		t.Errorf("TOKENIZER %q", got)
	}
	secret := get[*corev1.Secret](t, o, "Secret")
	ref := env["HF_TOKEN"].ValueFrom
	if ref == nil || ref.SecretKeyRef.Name != secret.Name || secret.StringData[ref.SecretKeyRef.Key] != "not-a-real-token" {
		t.Errorf("HF_TOKEN %+v, Secret %v", env["HF_TOKEN"], secret.StringData)
	}
	if got := c.LivenessProbe.HTTPGet.Path + " " + c.ReadinessProbe.HTTPGet.Path; got != "/-/healthy /-/ready" {
		t.Errorf("probes %s", got)
	}
	limit := c.Resources.Limits.Memory().Value()
	if got, err := strconv.ParseInt(env["GOMEMLIMIT"].Value, 10, 64); err != nil || got < limit/2 || got > limit*3/4 {
		t.Errorf("GOMEMLIMIT %q with a limit of %d", env["GOMEMLIMIT"].Value, limit)
	}
}

func environment(c corev1.Container) map[string]corev1.EnvVar {
	env := map[string]corev1.EnvVar{}
	for _, v := range c.Env {
		env[v.Name] = v
	}
	return env
}

func TestSecretReferences(t *testing.T) {
	for _, how := range []string{"", ".secretKeyRef"} {
		o := render(t, "--set", "env_vars.OPENAI_API_BASE_URL=http://x/v1",
			"--set", "env_vars.HF_TOKEN"+how+".name=hub", "--set", "env_vars.HF_TOKEN"+how+".key=token")
		ref := environment(o.pods()[0].Spec.Containers[0])["HF_TOKEN"].ValueFrom
		if ref == nil || ref.SecretKeyRef.Name != "hub" || ref.SecretKeyRef.Key != "token" {
			t.Errorf("HF_TOKEN%s: %+v", how, ref)
		}
		if len(o["Secret"]) != 0 {
			t.Errorf("HF_TOKEN%s: a Secret was made", how)
		}
	}
}

func TestJobMode(t *testing.T) {
	o := render(t, "--values", "ci/job-values.yaml")
	for _, kind := range []string{"Deployment", "Service", "ServiceMonitor"} {
		if len(o[kind]) != 0 {
			t.Errorf("there is a %s", kind)
		}
	}
	job := get[*batchv1.Job](t, o, "Job")
	pod := job.Spec.Template.Spec
	if *job.Spec.BackoffLimit != 0 || pod.RestartPolicy != corev1.RestartPolicyNever {
		t.Errorf("a failure is tried again: %d, %s", *job.Spec.BackoffLimit, pod.RestartPolicy)
	}
	c := pod.Containers[0]
	if len(c.Command) != 0 || c.Args[0] != "run" {
		t.Errorf("the exit code is not that of inferprobe run: %v %v", c.Command, c.Args)
	}
	if c.LivenessProbe != nil || c.ReadinessProbe != nil {
		t.Error("a Job has no pages to probe")
	}
}

// The daemon follows its configuration by itself. Only what it reads once, at its start, may replace the pod.
func TestPodIsReplacedOnlyWhereItMustBe(t *testing.T) {
	full := []string{"--values", "ci/full-values.yaml"}
	env := []string{"--values", "ci/env-values.yaml"}
	for _, c := range []struct {
		base     []string
		set      string
		replaced bool
	}{
		{full, "endpoints[1].url=https://other.example.com/v1", false},
		{full, "config.defaults.sweep.interval=3h", false},
		{full, "config.limits.concurrent_sweeps=2", false},
		{full, "config.history.cycles=7", true},
		{full, "config.metrics.histograms=native", true},
		{full, "image.digest=", true},
		{env, "env_vars.HF_TOKEN=another", true},
		{env, "env_vars.TOKENIZER=another", true},
	} {
		before := render(t, c.base...).pods()[0]
		after := render(t, append(slices.Clone(c.base), "--set", c.set)...).pods()[0]
		if replaced := !cmp.Equal(before, after); replaced != c.replaced {
			t.Errorf("%s: the pod is replaced: %v, want %v", c.set, replaced, c.replaced)
		}
	}
}

// The operator sets a label `endpoint` of its own, which would push inferprobe's aside.
func TestMonitors(t *testing.T) {
	check := func(native, classic *bool, jobLabel, port string, relabelings []monitoringv1.RelabelConfig) {
		t.Helper()
		if native == nil || !*native || classic == nil || !*classic {
			t.Error("not both kinds of histogram are scraped")
		}
		if jobLabel != "app.kubernetes.io/name" || port != "http" {
			t.Errorf("jobLabel %q, port %q", jobLabel, port)
		}
		if !slices.ContainsFunc(relabelings, func(r monitoringv1.RelabelConfig) bool {
			return r.Action == "labeldrop" && r.Regex == "endpoint"
		}) {
			t.Error("the operator's label endpoint is kept")
		}
	}
	s := get[*monitoringv1.ServiceMonitor](t, render(t, "--values", "ci/full-values.yaml"), "ServiceMonitor")
	e := s.Spec.Endpoints[0]
	check(s.Spec.ScrapeNativeHistograms, s.Spec.ScrapeClassicHistograms, s.Spec.JobLabel, e.Port, e.RelabelConfigs)
	if s.Labels["release"] != "kube-prometheus-stack" || e.Interval != "15s" || len(e.RelabelConfigs) != 2 {
		t.Errorf("settings of the ServiceMonitor are lost: %v %+v", s.Labels, e)
	}
	p := get[*monitoringv1.PodMonitor](t, render(t, "--values", "ci/env-values.yaml"), "PodMonitor")
	m := p.Spec.PodMetricsEndpoints[0]
	check(p.Spec.ScrapeNativeHistograms, p.Spec.ScrapeClassicHistograms, p.Spec.JobLabel, *m.Port, m.RelabelConfigs)
}

func TestRefusedValues(t *testing.T) {
	url := "env_vars.OPENAI_API_BASE_URL=http://x/v1"
	for _, c := range []struct {
		set  []string
		want string
	}{
		{nil, "there is nothing to measure"},
		{[]string{url, "replicas=-1"}, "at '/replicas': minimum: got -1, want 0"},
		{[]string{url, "replicas=2", "persistence.enabled=true"}, "set persistence.accessModes={ReadWriteMany}"},
		{[]string{url, "lease.duration=1d"}, "at '/lease/duration': '1d' does not match pattern"},
		{[]string{url, "lease.name=x"}, "additional properties 'name' not allowed"},
		{[]string{url, "replica=1"}, "additional properties 'replica' not allowed"},
		{[]string{url, "mode=cronjob"}, "at '/mode': value must be one of 'deployment', 'job'"},
		{[]string{url, "persistence.sise=1Gi"}, "additional properties 'sise' not allowed"},
		{[]string{"endpoints[0].url=http://x/v1", url}, "keep one of the two"},
		{[]string{"endpoints[0].ulr=http://x/v1"}, "additional properties 'ulr' not allowed"},
		{[]string{"endpoints[0].url=http://x/v1", "config.metrics.histograms=none"}, "value must be one of 'both', 'native', 'classic'"},
		{[]string{url, "config.metrics.histograms=both"}, "config needs endpoints"},
		{[]string{url, "resources.limits.memory=1Xi"}, "resources.limits.memory: 1Xi is not understood"},
		{[]string{url, "env_vars.HF_TOKEN.name=hub"}, "missing property 'key'"},
		{[]string{url, "serviceMonitor.enabled=true", "podMonitor.enabled=true"}, "enable one of the two"},
	} {
		args := []string{"template", "."}
		for _, s := range c.set {
			args = append(args, "--set", s)
		}
		if _, err := helm(t, args...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: error %v, want %q", c.set, err, c.want)
		}
	}
}

// Every helm template command of the documents works as it is written.
func TestDocumentedCommands(t *testing.T) {
	command := regexp.MustCompile(`(?m)^\$ (helm template [^|\n]+)`)
	found := 0
	for _, doc := range []string{"README.md", "deploy/README.md", "deploy/helm/inferprobe/README.md"} {
		for _, c := range command.FindAllStringSubmatch(read(t, filepath.Join(root, doc)), -1) {
			found++
			where := root
			if strings.HasPrefix(c[1], "helm template . ") {
				where = chart
			}
			out, err := run(t, where, "bash", "-c", strings.Replace(c[1], "helm", tool(t, "helm"), 1))
			if err != nil {
				t.Errorf("%s: %v", doc, err)
				continue
			}
			for _, pod := range decode(t, out).pods() {
				checkPod(t, pod.Spec)
			}
		}
	}
	if found < 4 {
		t.Errorf("only %d commands found", found)
	}
}

// The values that the chart's README shows are accepted.
func TestDocumentedValues(t *testing.T) {
	blocks := regexp.MustCompile("(?s)```yaml\n(.+?)```").FindAllStringSubmatch(read(t, chart+"/README.md"), -1)
	if len(blocks) == 0 {
		t.Fatal("the README shows no values")
	}
	for _, b := range blocks {
		file := filepath.Join(t.TempDir(), "values.yaml")
		if err := os.WriteFile(file, []byte(b[1]), 0o600); err != nil {
			t.Fatal(err)
		}
		checkConfiguration(t, render(t, "--values", file))
	}
}

func TestReadmeIsCurrent(t *testing.T) {
	out, err := run(t, chart, tool(t, "helm-docs"), "--dry-run", "--sort-values-order", "file")
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(chart+"/README.md", []byte(strings.TrimRight(out, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(strings.TrimRight(out, "\n"), strings.TrimRight(read(t, chart+"/README.md"), "\n")); diff != "" {
		t.Errorf("the chart's README is behind values.yaml; run make helm-docs: %s", diff)
	}
}
