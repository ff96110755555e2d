//go:build deploy || e2e_kube

package deploytest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

// tool returns the program that make deploy-test installed.
func tool(t *testing.T, name string) string {
	t.Helper()
	dir := os.Getenv("DEPLOYTEST_TOOLS")
	if dir == "" {
		t.Fatal("DEPLOYTEST_TOOLS is not set; run these tests by `make deploy-test`")
	}
	return filepath.Join(dir, name)
}

// run returns the standard output of a program; a failure comes back with its standard error.
func run(t *testing.T, dir, name string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s %s: %w\n%s", filepath.Base(name), strings.Join(args, " "), err, stderr.String())
	}
	return stdout.String(), nil
}

// helm runs helm in the chart's folder.
func helm(t *testing.T, args ...string) (string, error) {
	t.Helper()
	return run(t, chart, tool(t, "helm"), args...)
}

// objects are decoded manifests by kind.
type objects map[string][]any

// get returns the only object of a kind.
func get[T any](t *testing.T, o objects, kind string) T {
	t.Helper()
	if len(o[kind]) != 1 {
		t.Fatalf("%d objects of kind %s, want 1", len(o[kind]), kind)
	}
	return o[kind][0].(T)
}

func newObject(apiVersion, kind string) any {
	switch apiVersion + " " + kind {
	case "v1 ConfigMap":
		return new(corev1.ConfigMap)
	case "v1 PersistentVolumeClaim":
		return new(corev1.PersistentVolumeClaim)
	case "v1 Secret":
		return new(corev1.Secret)
	case "v1 Service":
		return new(corev1.Service)
	case "v1 ServiceAccount":
		return new(corev1.ServiceAccount)
	case "apps/v1 Deployment":
		return new(appsv1.Deployment)
	case "batch/v1 Job":
		return new(batchv1.Job)
	case "networking.k8s.io/v1 NetworkPolicy":
		return new(networkingv1.NetworkPolicy)
	case "policy/v1 PodDisruptionBudget":
		return new(policyv1.PodDisruptionBudget)
	case "rbac.authorization.k8s.io/v1 Role":
		return new(rbacv1.Role)
	case "rbac.authorization.k8s.io/v1 RoleBinding":
		return new(rbacv1.RoleBinding)
	case "monitoring.coreos.com/v1 ServiceMonitor":
		return new(monitoringv1.ServiceMonitor)
	case "monitoring.coreos.com/v1 PodMonitor":
		return new(monitoringv1.PodMonitor)
	case "monitoring.coreos.com/v1 PrometheusRule":
		return new(monitoringv1.PrometheusRule)
	}
	return nil
}

// decode turns manifests into their Go types. An unknown or a repeated field fails the test.
func decode(t *testing.T, manifests string) objects {
	t.Helper()
	all := objects{}
	reader := utilyaml.NewYAMLReader(bufio.NewReader(strings.NewReader(manifests)))
	for {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		var meta struct {
			APIVersion string `json:"apiVersion"`
			Kind       string `json:"kind"`
		}
		if err := yaml.Unmarshal(document, &meta); err != nil {
			t.Fatalf("%v\n%s", err, document)
		}
		if meta.Kind == "" {
			continue
		}
		object := newObject(meta.APIVersion, meta.Kind)
		if object == nil {
			t.Fatalf("%s %s is not expected", meta.APIVersion, meta.Kind)
		}
		if err := yaml.UnmarshalStrict(document, object); err != nil {
			t.Errorf("%s: %v\n%s", meta.Kind, err, document)
		}
		all[meta.Kind] = append(all[meta.Kind], object)
	}
}

// pods returns the pod templates among the objects.
func (o objects) pods() []corev1.PodTemplateSpec {
	var pods []corev1.PodTemplateSpec
	for _, d := range o["Deployment"] {
		pods = append(pods, d.(*appsv1.Deployment).Spec.Template)
	}
	for _, j := range o["Job"] {
		pods = append(pods, j.(*batchv1.Job).Spec.Template)
	}
	return pods
}

// checkPod demands what Pod Security calls restricted, and our own rules beyond it.
func checkPod(t *testing.T, pod corev1.PodSpec) {
	t.Helper()
	must := func(ok bool, what string) {
		t.Helper()
		if !ok {
			t.Errorf("pod: %s", what)
		}
	}
	is := func(p *bool, want bool) bool { return p != nil && *p == want }
	s := pod.SecurityContext
	must(s != nil && is(s.RunAsNonRoot, true), "runAsNonRoot is not set")
	must(s != nil && s.RunAsUser != nil && *s.RunAsUser == 65532, "runAsUser is not the image's")
	must(s != nil && s.SeccompProfile != nil && s.SeccompProfile.Type == corev1.SeccompProfileTypeRuntimeDefault, "no seccomp profile")
	leases := slices.Contains(pod.Containers[0].Args, "--lease.enable")
	must(is(pod.AutomountServiceAccountToken, leases), "a token is mounted without Leases, or Leases have none")
	must(is(pod.EnableServiceLinks, false), "service links are on")
	must(!pod.HostNetwork && !pod.HostPID && !pod.HostIPC, "a namespace of the host is used")
	for _, v := range pod.Volumes {
		must(v.HostPath == nil, "volume "+v.Name+" is of the host")
	}
	for _, c := range pod.Containers {
		s := c.SecurityContext
		must(s != nil && is(s.AllowPrivilegeEscalation, false), "privilege escalation is allowed")
		must(s != nil && is(s.ReadOnlyRootFilesystem, true), "the root filesystem is writable")
		must(s != nil && s.Capabilities != nil && len(s.Capabilities.Drop) == 1 && s.Capabilities.Drop[0] == "ALL" &&
			len(s.Capabilities.Add) == 0, "capabilities are kept")
		must(c.Resources.Limits.Cpu().IsZero(), "there is a CPU limit")
		must(!c.Resources.Limits.Memory().IsZero() && !c.Resources.Requests.Memory().IsZero(), "memory is not bounded")
	}
}
