package lease

import (
	"fmt"
	"os"
	"strings"

	coordination "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/rest"
)

const namespaceFile = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"

// InCluster returns a client with the rights of this pod's service account, and the pod's namespace. It is an error not
// to run in a pod, or in one without a token (automountServiceAccountToken: false).
func InCluster() (client coordination.LeasesGetter, namespace string, err error) {
	config, err := rest.InClusterConfig()
	if err != nil {
		return nil, "", fmt.Errorf("leases need a Kubernetes pod with its service account's token: %w", err)
	}
	content, err := os.ReadFile(namespaceFile)
	if err != nil {
		return nil, "", fmt.Errorf("cannot read this pod's namespace: %w", err)
	}
	client, err = newClient(config)
	return client, strings.TrimSpace(string(content)), err
}

func newClient(config *rest.Config) (coordination.LeasesGetter, error) {
	// A limit on our side would delay renewals when many endpoints are taken over; our load is bounded by design.
	config.QPS = -1
	// On HTTP/2 all requests share one connection. When that one dies silently, client-go notices after 45 s, and every
	// lease would be lost. On HTTP/1.1 each timed-out request takes only its own connection with it.
	config.NextProtos = []string{"http/1.1"}
	return coordination.NewForConfig(config)
}
