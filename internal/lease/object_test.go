package lease

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"
)

func TestNames(t *testing.T) {
	l := &Leases{prefix: "inferprobe"}
	for _, test := range []struct{ endpoint, want string }{
		{"llama-70b", "inferprobe-endpoint-llama-70b"},
		{"Llama-3.3-70B", "inferprobe-endpoint-llama-3.3-70b"},
		{"a_b", "inferprobe-endpoint-a-b-648fa9b3"},
		{"a-b-", "inferprobe-endpoint-a-b-"},
		{"a..b", "inferprobe-endpoint-a-b-"},
		{"___", "inferprobe-endpoint-"},
		{strings.Repeat("x", 63), "inferprobe-endpoint-" + strings.Repeat("x", 63)},
		{strings.Repeat("x", 300), "inferprobe-endpoint-" + strings.Repeat("x", 224) + "-"},
	} {
		got := l.leaseName(subjectOf(test.endpoint, ""))
		if !strings.HasPrefix(got, test.want) || len(validation.IsDNS1123Subdomain(got)) > 0 {
			t.Errorf("%q: %q, want %q and perhaps a hash", test.endpoint, got, test.want)
		}
	}
	seen := make(map[string]string)
	for _, endpoint := range []string{"a_b", "a-b", "a.b", "a__b", "a-b-", "-a-b", "a.-b", "_a_b_", "ab"} {
		name := l.leaseName(subjectOf(endpoint, ""))
		if other, taken := seen[name]; taken {
			t.Errorf("%q and %q share the lease %q", endpoint, other, name)
		}
		seen[name] = endpoint
	}
}

// TestGroupsHaveNamesOfTheirOwn: a group may be called as an endpoint is.
func TestGroupsHaveNamesOfTheirOwn(t *testing.T) {
	l := &Leases{prefix: "inferprobe", identity: "llama"}
	seen := make(map[string]bool)
	for _, name := range []string{
		l.leaseName(subjectOf("llama", "")), l.leaseName(subjectOf("other", "llama")),
		l.leaseName(subjectOf("group-llama", "")), l.leaseName(subjectOf("other", "endpoint-llama")),
		l.leaseName(subjectOf("a_b", "")), l.leaseName(subjectOf("a_b", "a_b")), l.replicaLease(),
	} {
		if seen[name] || len(validation.IsDNS1123Subdomain(name)) > 0 {
			t.Errorf("%q is another's or not valid", name)
		}
		seen[name] = true
	}
	if a, b := l.leaseName(subjectOf("a", "h100")), l.leaseName(subjectOf("b", "h100")); a != b {
		t.Errorf("endpoints of one group have the leases %q and %q", a, b)
	}
}

func TestOptions(t *testing.T) {
	client := newAPIClient(newAPIServer(), 1, 0)
	for _, test := range []struct {
		options Options
		want    string
	}{
		{Options{Identity: "a", Namespace: "n"}, ""},
		{Options{Identity: "a", Namespace: "n", Duration: time.Minute}, ""},
		{Options{Identity: "a", Namespace: "n", Duration: time.Second},
			"the duration of leases is 1s: it must be whole seconds, and 3s at least"},
		{Options{Identity: "a", Namespace: "n", Duration: 4500 * time.Millisecond},
			"the duration of leases is 4.5s: it must be whole seconds, and 3s at least"},
		{Options{Namespace: "n"}, "leases need the name of this pod and its namespace"},
		{Options{Identity: "a"}, "leases need the name of this pod and its namespace"},
	} {
		test.options.Client, test.options.Log = client, slog.New(slog.DiscardHandler)
		_, err := New(test.options)
		if got := errorText(err); got != test.want {
			t.Errorf("%+v: %q, want %q", test.options, got, test.want)
		}
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestIdentitiesDiffer(t *testing.T) {
	o := Options{Client: newAPIClient(newAPIServer(), 1, 0), Namespace: "n", Identity: "pod"}
	a, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	b, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	if a.Identity() == b.Identity() || !strings.HasPrefix(a.Identity(), "pod-") {
		t.Errorf("two processes of one pod are %q and %q", a.Identity(), b.Identity())
	}
}
