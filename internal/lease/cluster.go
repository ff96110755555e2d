package lease

import (
	"context"
	"fmt"
	"os"
	"strings"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/gentype"
	"k8s.io/client-go/rest"
)

const namespaceFile = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"

// Client writes and reads the Leases of one namespace, as client-go's LeaseInterface does.
type Client interface {
	Create(context.Context, *coordinationv1.Lease, metav1.CreateOptions) (*coordinationv1.Lease, error)
	Update(context.Context, *coordinationv1.Lease, metav1.UpdateOptions) (*coordinationv1.Lease, error)
	Delete(ctx context.Context, name string, o metav1.DeleteOptions) error
	Get(ctx context.Context, name string, o metav1.GetOptions) (*coordinationv1.Lease, error)
	List(context.Context, metav1.ListOptions) (*coordinationv1.LeaseList, error)
}

// InCluster returns a client with the rights of this pod's service account, and the pod's namespace. It is an error not
// to run in a pod, or in one without a token (automountServiceAccountToken: false).
func InCluster() (client Client, namespace string, err error) {
	config, err := rest.InClusterConfig()
	if err != nil {
		return nil, "", fmt.Errorf("leases need a Kubernetes pod with its service account's token: %w", err)
	}
	content, err := os.ReadFile(namespaceFile)
	if err != nil {
		return nil, "", fmt.Errorf("cannot read this pod's namespace: %w", err)
	}
	namespace = strings.TrimSpace(string(content))
	client, err = NewClient(config, namespace)
	return client, namespace, err
}

// NewClient returns a client for the Leases of a namespace. It is put together as client-go's own typed clients are, but
// knows no other API group than that of Leases: theirs know all of them, which makes the binary 17 MB larger.
func NewClient(config *rest.Config, namespace string) (Client, error) {
	scheme := runtime.NewScheme()
	if err := coordinationv1.AddToScheme(scheme); err != nil {
		return nil, err
	}
	parameters := runtime.NewParameterCodec(scheme)
	config = rest.CopyConfig(config)
	config.APIPath = "/apis"
	config.GroupVersion = &coordinationv1.SchemeGroupVersion
	config.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	if config.UserAgent == "" {
		config.UserAgent = "inferprobe"
	}
	// A limit on our side would delay renewals when many endpoints are taken over; our load is bounded by design.
	config.QPS = -1
	// On HTTP/2 all requests share one connection. When that one dies silently, client-go notices after 45 s, and every
	// lease would be lost. On HTTP/1.1 each timed-out request takes only its own connection with it.
	config.NextProtos = []string{"http/1.1"}
	client, err := rest.RESTClientFor(config)
	if err != nil {
		return nil, err
	}
	return gentype.NewClientWithList("leases", client, parameters, namespace,
		func() *coordinationv1.Lease { return new(coordinationv1.Lease) },
		func() *coordinationv1.LeaseList { return new(coordinationv1.LeaseList) },
		gentype.PrefersProtobuf[*coordinationv1.Lease](),
	), nil
}
