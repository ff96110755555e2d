//go:build deploy

package deploytest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// packaged returns a package of the chart: what users get, without the checkout around it.
func packaged(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if _, err := helm(t, "package", ".", "--destination", dir); err != nil {
		t.Fatal(err)
	}
	found, err := filepath.Glob(dir + "/*.tgz")
	if err != nil || len(found) != 1 {
		t.Fatal(found, err)
	}
	return found[0]
}

func TestPackageCarriesTheDashboards(t *testing.T) {
	out, err := helm(t, "template", packaged(t), "--set", "env_vars.OPENAI_API_BASE_URL=http://x/v1", "--set", "dashboards.enabled=true")
	if err != nil {
		t.Fatal(err)
	}
	want, got := map[string]string{}, map[string]string{}
	files, err := filepath.Glob(root + "/dashboards/*.json")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		want[filepath.Base(file)] = read(t, file)
	}
	for _, m := range decode(t, out)["ConfigMap"] {
		m := m.(*corev1.ConfigMap)
		if m.Labels["grafana_dashboard"] != "1" {
			t.Errorf("%s lacks the label that Grafana's sidecar looks for", m.Name)
		}
		for name, text := range m.Data {
			got[name] = text
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestPackageCarriesTheRules(t *testing.T) {
	var want []monitoringv1.RuleGroup
	files, err := filepath.Glob(root + "/dashboards/rules/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.yaml") {
			continue
		}
		var rules monitoringv1.PrometheusRuleSpec
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := yaml.UnmarshalStrict(content, &rules); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		want = append(want, rules.Groups...)
	}
	out, err := helm(t, "template", packaged(t), "--set", "env_vars.OPENAI_API_BASE_URL=http://x/v1",
		"--set", "prometheusRule.enabled=true", "--set", "prometheusRule.labels.release=x")
	if len(want) == 0 {
		if err == nil || !strings.Contains(err.Error(), "has no rules") {
			t.Errorf("error %v for a chart without rules", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	rule := get[*monitoringv1.PrometheusRule](t, decode(t, out), "PrometheusRule")
	if diff := cmp.Diff(want, rule.Spec.Groups); diff != "" {
		t.Error(diff)
	}
	if rule.Labels["release"] != "x" {
		t.Errorf("labels %v", rule.Labels)
	}
}
