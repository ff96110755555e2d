// Package deploytest holds what is shipped to run inferprobe: chart, manifests, compose stack, image. The tests with the
// build tag deploy render the manifests by the real helm and kustomize, which `make deploy-test` installs; as libraries
// the two would bring 150 modules into go.mod.
package deploytest

import (
	"encoding/json"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/inferprobe/inferprobe/internal/config"
)

const (
	root  = "../.."
	chart = root + "/deploy/helm/inferprobe"
)

var update = flag.Bool("update", false, "rewrite the generated parts of values.schema.json and the chart's README")

func read(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func parse[T any](t *testing.T, path string) T {
	t.Helper()
	var v T
	if err := yaml.Unmarshal([]byte(read(t, path)), &v); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return v
}

// The chart checks endpoints by the schema of the configuration file itself.
func TestValuesSchemaKnowsTheConfiguration(t *testing.T) {
	path := filepath.Join(chart, "values.schema.json")
	before := read(t, path)
	var values, file struct {
		Schema     string                    `json:"$schema"`
		Title      string                    `json:"title"`
		Type       string                    `json:"type"`
		Additional bool                      `json:"additionalProperties"`
		Properties map[string]map[string]any `json:"properties"`
		Defs       map[string]any            `json:"$defs"`
	}
	if err := json.Unmarshal([]byte(before), &values); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(read(t, root+"/config/inferprobe.schema.json")), &file); err != nil {
		t.Fatal(err)
	}
	maps.Copy(values.Defs, file.Defs)
	endpoints := file.Properties["endpoints"]
	delete(endpoints, "minItems") // without endpoints env_vars says what to measure
	delete(file.Properties, "endpoints")
	values.Properties["endpoints"] = endpoints
	values.Properties["config"] = map[string]any{
		"type": "object", "additionalProperties": false, "properties": file.Properties,
	}
	var after strings.Builder
	encoder := json.NewEncoder(&after)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(values); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(path, []byte(after.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(before, after.String()); diff != "" {
		t.Errorf("values.schema.json is behind config/inferprobe.schema.json; run go test -update: %s", diff)
	}
}

// Every value has a type in the schema, or a misspelled one would pass.
func TestValuesSchemaKnowsEveryValue(t *testing.T) {
	values := parse[map[string]any](t, chart+"/values.yaml")
	schema := parse[struct {
		Additional *bool          `json:"additionalProperties"`
		Properties map[string]any `json:"properties"`
	}](t, chart+"/values.schema.json")
	if schema.Additional == nil || *schema.Additional {
		t.Error("unknown values are not refused")
	}
	for name := range values {
		if _, ok := schema.Properties[name]; !ok {
			t.Errorf("the schema does not know %s", name)
		}
	}
	for name := range schema.Properties {
		if _, ok := values[name]; !ok && name != "global" { // global: helm's own, where the chart is part of another one
			t.Errorf("values.yaml does not show %s", name)
		}
	}
}

// Compose, the kustomize overlay and the chart's example measure the simulator in the same way.
func TestSameConfigurationEverywhere(t *testing.T) {
	want := parse[map[string]any](t, root+"/deploy/compose/config/inferprobe.yaml")
	overlay := parse[map[string]any](t, root+"/deploy/kubernetes/overlays/simulator/inferprobe.yaml")
	if diff := cmp.Diff(want, overlay); diff != "" {
		t.Errorf("kustomize differs from compose: %s", diff)
	}
	values := parse[map[string]any](t, chart+"/ci/simulator-values.yaml")
	if diff := cmp.Diff(want["endpoints"], values["endpoints"]); diff != "" {
		t.Errorf("the chart's example differs from compose: %s", diff)
	}
	for _, path := range []string{"compose/config/inferprobe.yaml", "kubernetes/base/inferprobe.yaml"} {
		if _, err := config.Load(filepath.Join(root, "deploy", path)); err != nil {
			t.Error(err)
		}
	}
}

type compose struct {
	Services map[string]struct {
		Image   string   `json:"image"`
		Command []string `json:"command"`
		Volumes []string `json:"volumes"`
	} `json:"services"`
	Volumes map[string]any `json:"volumes"`
}

func TestComposeStack(t *testing.T) {
	dir := root + "/deploy/compose"
	stack := parse[compose](t, dir+"/compose.yaml")
	want := []string{"grafana", "inferprobe", "prometheus", "simulator"}
	if got := slices.Sorted(maps.Keys(stack.Services)); !slices.Equal(got, want) {
		t.Errorf("services %v, want %v", got, want)
	}
	pinned := regexp.MustCompile(`^[a-z.]+\.[a-z]+/[a-z/]+:v?[0-9]+\.[0-9]+\.[0-9]+$`)
	for name, s := range stack.Services {
		if !pinned.MatchString(s.Image) {
			t.Errorf("%s: image %s is not pinned by registry and full version", name, s.Image)
		}
		for _, v := range s.Volumes {
			source, _, _ := strings.Cut(v, ":")
			if !strings.HasPrefix(source, ".") {
				if _, ok := stack.Volumes[source]; !ok {
					t.Errorf("%s: volume %s is not declared", name, source)
				}
				continue
			}
			if _, err := os.Stat(filepath.Join(dir, source)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// A command replaces the image's own, which says where the configuration and the data are: where they are mounted.
func TestComposeStoresExemplars(t *testing.T) {
	prometheus := parse[compose](t, root+"/deploy/compose/compose.yaml").Services["prometheus"]
	mounted := make(map[string]string)
	for _, v := range prometheus.Volumes {
		parts := strings.Split(v, ":")
		mounted[parts[0]] = parts[1]
	}
	for _, want := range []string{
		"--enable-feature=exemplar-storage", "--config.file=" + mounted["./prometheus.yml"],
		"--storage.tsdb.path=" + mounted["prometheus"],
	} {
		if !slices.Contains(prometheus.Command, want) {
			t.Errorf("command %v lacks %s", prometheus.Command, want)
		}
	}
}

// The scrape configuration is the one that the README gives, and keeps classic histograms beside native ones.
func TestComposeScrapesBothHistograms(t *testing.T) {
	c := parse[struct {
		Jobs []struct {
			Name    string `json:"job_name"`
			Native  bool   `json:"scrape_native_histograms"`
			Classic bool   `json:"always_scrape_classic_histograms"`
		} `json:"scrape_configs"`
	}](t, root+"/deploy/compose/prometheus.yml")
	if len(c.Jobs) != 1 || c.Jobs[0].Name != "inferprobe" || !c.Jobs[0].Native || !c.Jobs[0].Classic {
		t.Errorf("scrape_configs %+v", c.Jobs)
	}
}

// All base images are written in full, with a version, and Go's is the one that go.mod asks for or a newer one.
func TestDockerfileIsPinned(t *testing.T) {
	from := regexp.MustCompile(`(?m)^FROM (\S+)`).FindAllStringSubmatch(read(t, root+"/Dockerfile"), -1)
	if len(from) < 3 {
		t.Fatalf("FROM lines: %v", from)
	}
	pinned := regexp.MustCompile(`^docker\.io/library/(golang|rust):\d+\.\d+\.\d+-bookworm$`)
	for _, f := range from {
		if stage := f[1]; stage != "scratch" && stage != "modules" && !pinned.MatchString(stage) {
			t.Errorf("FROM %s is not pinned", stage)
		}
	}
	wants := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(read(t, root+"/go.mod"))[1]
	if !strings.Contains(from[0][1], "golang:"+wants+".") {
		t.Errorf("%s, but go.mod asks for Go %s", from[0][1], wants)
	}
}

// One version everywhere: chart, manifests, compose.
func TestOneVersion(t *testing.T) {
	version := parse[struct {
		AppVersion string `json:"appVersion"`
	}](t, chart+"/Chart.yaml").AppVersion
	const image = "ghcr.io/inferprobe/inferprobe"
	for name, s := range parse[compose](t, root+"/deploy/compose/compose.yaml").Services {
		if strings.HasPrefix(s.Image, image) && s.Image != image+":"+version {
			t.Errorf("compose: %s has %s, the chart version %s", name, s.Image, version)
		}
	}
	for _, path := range []string{"base", "overlays/simulator", "overlays/replicas"} {
		k := parse[struct {
			Images []struct {
				Tag string `json:"newTag"`
			} `json:"images"`
		}](t, root+"/deploy/kubernetes/"+path+"/kustomization.yaml")
		if len(k.Images) != 1 || k.Images[0].Tag != version {
			t.Errorf("%s has images %v, the chart version %s", path, k.Images, version)
		}
	}
}

// Actions are pinned by commit, with their version in a comment, and every workflow says what its token may do.
func TestWorkflowsArePinned(t *testing.T) {
	rust := regexp.MustCompile(`rust:([0-9.]+)`).FindStringSubmatch(read(t, root+"/Dockerfile"))[1]
	pinned := regexp.MustCompile(`^[\w.-]+/[\w.-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$`)
	files, err := filepath.Glob(root + "/.github/workflows/*.yml")
	if err != nil || len(files) < 2 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		text := read(t, file)
		for _, uses := range regexp.MustCompile(`(?m)uses: (.+)$`).FindAllStringSubmatch(text, -1) {
			local := strings.HasPrefix(uses[1], "./") // a workflow of the same commit
			if !local && !pinned.MatchString(uses[1]) {
				t.Errorf("%s: %s is not pinned by commit and version", filepath.Base(file), uses[1])
			}
		}
		if !strings.Contains(text, "\npermissions:") {
			t.Errorf("%s: the token's permissions are left to the repository's settings", filepath.Base(file))
		}
		if !strings.Contains(text, "RUSTUP_TOOLCHAIN: "+rust+"\n") {
			t.Errorf("%s does not build with the Dockerfile's Rust %s", filepath.Base(file), rust)
		}
	}
}
