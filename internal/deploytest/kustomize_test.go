//go:build deploy

package deploytest

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
)

func kustomize(t *testing.T, path string) objects {
	t.Helper()
	out, err := run(t, root+"/deploy/kubernetes", tool(t, "kustomize"), "build", path)
	if err != nil {
		t.Fatal(err)
	}
	return decode(t, out)
}

// Chart and kustomize are two ways to the same pod.
func TestKustomizeMakesTheChartsPod(t *testing.T) {
	base := kustomize(t, "base")
	byHelm := render(t, "--values", "ci/simulator-values.yaml")
	if diff := cmp.Diff(deployment(t, byHelm), deployment(t, base)); diff != "" {
		t.Errorf("kustomize differs from the chart: %s", diff)
	}
	service := get[*corev1.Service](t, base, "Service")
	if diff := cmp.Diff(get[*corev1.Service](t, byHelm, "Service").Spec.Ports, service.Spec.Ports); diff != "" {
		t.Errorf("kustomize differs from the chart: %s", diff)
	}
	for key, value := range service.Spec.Selector {
		if get[*appsv1.Deployment](t, base, "Deployment").Spec.Template.Labels[key] != value {
			t.Errorf("the Service does not select the pod by %s", key)
		}
	}
}

// deployment returns how pods are made and replaced, without what tells one installation from another.
func deployment(t *testing.T, o objects) appsv1.DeploymentSpec {
	d := get[*appsv1.Deployment](t, o, "Deployment").Spec
	d.Selector, d.Template.Labels = nil, nil
	env := d.Template.Spec.Containers[0].Env
	slices.SortFunc(env, func(a, b corev1.EnvVar) int { return strings.Compare(a.Name, b.Name) })
	return d
}

// So are the chart with three replicas and the overlay.
func TestReplicasOverlay(t *testing.T) {
	o := kustomize(t, "overlays/replicas")
	byHelm := render(t, "--values", "ci/simulator-values.yaml", "--set", "replicas=3", "--namespace", "inferprobe",
		"--name-template", "inferprobe")
	if diff := cmp.Diff(deployment(t, byHelm), deployment(t, o)); diff != "" {
		t.Errorf("kustomize differs from the chart: %s", diff)
	}
	want, got := get[*rbacv1.Role](t, byHelm, "Role"), get[*rbacv1.Role](t, o, "Role")
	if diff := cmp.Diff(want.Rules, got.Rules); diff != "" {
		t.Errorf("kustomize differs from the chart: %s", diff)
	}
	checkLeases(t, o)
}

func TestSimulatorOverlay(t *testing.T) {
	o := kustomize(t, "overlays/simulator")
	pods := o.pods()
	if len(pods) != 2 {
		t.Fatalf("%d pods, want inferprobe and the simulator", len(pods))
	}
	for _, pod := range pods {
		checkPod(t, pod.Spec)
		if got := pod.Spec.Containers[0].Image; got != "ghcr.io/inferprobe/inferprobe:0.1.0" {
			t.Errorf("image %s", got)
		}
	}
	checkConfiguration(t, o)
}
