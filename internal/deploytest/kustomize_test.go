//go:build deploy

package deploytest

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
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
	pod := func(o objects) corev1.PodSpec {
		p := get[*appsv1.Deployment](t, o, "Deployment").Spec.Template.Spec
		for i := range p.Volumes {
			if p.Volumes[i].ConfigMap != nil {
				p.Volumes[i].ConfigMap.Name = "" // kustomize adds a hash
			}
		}
		return p
	}
	if diff := cmp.Diff(pod(byHelm), pod(base)); diff != "" {
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
