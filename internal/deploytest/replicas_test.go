//go:build deploy

package deploytest

import (
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
)

// leaseKinds are the objects that only replicas which share endpoints have.
var leaseKinds = []string{"Role", "RoleBinding", "PodDisruptionBudget"}

// Several replicas share the endpoints by Leases, and each object that this takes fits the others.
func TestReplicas(t *testing.T) {
	o := render(t, "--values", "ci/replicas-values.yaml", "--namespace", "probes")
	checkLeases(t, o)
	claim := get[*corev1.PersistentVolumeClaim](t, o, "PersistentVolumeClaim")
	if !slices.Equal(claim.Spec.AccessModes, []corev1.PersistentVolumeAccessMode{corev1.ReadWriteMany}) {
		t.Errorf("replicas cannot share a volume with %v", claim.Spec.AccessModes)
	}
	if args := o.pods()[0].Spec.Containers[0].Args; !slices.Contains(args, "--lease.duration=15s") {
		t.Errorf("lease.duration is lost: %v", args)
	}
}

// checkLeases demands what the replicas of a Deployment need to share endpoints, no more and no less.
func checkLeases(t *testing.T, o objects) {
	t.Helper()
	d := get[*appsv1.Deployment](t, o, "Deployment")
	pod := d.Spec.Template.Spec
	checkPod(t, pod)
	c := pod.Containers[0]
	if name := "--lease.name=" + d.Name; !slices.Contains(c.Args, name) || !slices.Contains(c.Args, "--lease.enable") {
		t.Errorf("arguments %v, want --lease.enable and %s", c.Args, name)
	}
	ref := environment(c)["POD_NAME"].ValueFrom
	if ref == nil || ref.FieldRef == nil || ref.FieldRef.FieldPath != "metadata.name" {
		t.Errorf("POD_NAME is %+v, not the pod's name", ref)
	}
	rolling := d.Spec.Strategy.RollingUpdate
	if rolling == nil || rolling.MaxUnavailable.IntValue() != 0 {
		t.Errorf("an update takes replicas away before there are new ones: %+v", d.Spec.Strategy)
	}

	role := get[*rbacv1.Role](t, o, "Role")
	want := []rbacv1.PolicyRule{{
		APIGroups: []string{"coordination.k8s.io"}, Resources: []string{"leases"},
		Verbs: []string{"get", "list", "create", "update", "delete"},
	}}
	if diff := cmp.Diff(want, role.Rules); diff != "" {
		t.Error(diff)
	}
	account := get[*corev1.ServiceAccount](t, o, "ServiceAccount")
	binding := get[*rbacv1.RoleBinding](t, o, "RoleBinding")
	if binding.RoleRef.Kind != "Role" || binding.RoleRef.Name != role.Name || pod.ServiceAccountName != account.Name ||
		len(binding.Subjects) != 1 || binding.Subjects[0].Name != account.Name || binding.Subjects[0].Namespace == "" {
		t.Errorf("the pod's account %s is not bound to the Role: %+v", pod.ServiceAccountName, binding)
	}

	labels := d.Spec.Template.Labels
	budget := get[*policyv1.PodDisruptionBudget](t, o, "PodDisruptionBudget")
	if !selects(budget.Spec.Selector.MatchLabels, labels) || budget.Spec.MaxUnavailable.IntValue() != 1 {
		t.Errorf("the disruption budget does not keep these pods: %+v", budget.Spec)
	}
	if len(pod.TopologySpreadConstraints) == 0 {
		t.Error("all replicas may be put on one node")
	}
	for _, s := range pod.TopologySpreadConstraints {
		if s.WhenUnsatisfiable != corev1.ScheduleAnyway || !selects(s.LabelSelector.MatchLabels, labels) {
			t.Errorf("replicas are not spread, or not scheduled where they cannot be: %+v", s)
		}
	}
}

// selects reports whether a selector asks for something, and the labels have all that it asks for.
func selects(selector, labels map[string]string) bool {
	for key, value := range selector {
		if labels[key] != value {
			return false
		}
	}
	return len(selector) > 0
}

// One replica, none, and a Job share nothing with anybody: no rights, no token, and never two pods at once.
func TestOneReplicaNeedsNoRights(t *testing.T) {
	for _, args := range [][]string{
		{"--values", "ci/full-values.yaml"},
		{"--values", "ci/simulator-values.yaml", "--set", "replicas=0"},
		{"--values", "ci/job-values.yaml", "--set", "replicas=3"},
	} {
		o := render(t, args...)
		for _, kind := range leaseKinds {
			if len(o[kind]) != 0 {
				t.Errorf("%v: there is a %s", args, kind)
			}
		}
		pod := o.pods()[0].Spec
		checkPod(t, pod)
		c := pod.Containers[0]
		if _, named := environment(c)["POD_NAME"]; named || slices.Contains(c.Args, "--lease.enable") {
			t.Errorf("%v: Leases are used", args)
		}
		for _, d := range o["Deployment"] {
			if s := d.(*appsv1.Deployment).Spec.Strategy.Type; s != appsv1.RecreateDeploymentStrategyType {
				t.Errorf("%v: strategy %s: two pods may measure at once", args, s)
			}
		}
	}
}

// Two installations in one namespace have different names for their Leases.
func TestInstallationsDoNotShareLeases(t *testing.T) {
	names := map[string]bool{}
	for _, release := range []string{"a", "b"} {
		o := render(t, "--set", "env_vars.OPENAI_API_BASE_URL=http://x/v1", "--set", "replicas=2", "--name-template", release)
		for _, arg := range o.pods()[0].Spec.Containers[0].Args {
			if len(arg) > 13 && arg[:13] == "--lease.name=" {
				names[arg] = true
			}
		}
	}
	if len(names) != 2 {
		t.Errorf("two releases have the names %v", slices.Collect(maps.Keys(names)))
	}
}
