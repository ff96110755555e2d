package lease

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"regexp"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// Labels and annotations of our Leases.
const (
	labelName      = "app.kubernetes.io/name"
	labelInstance  = "app.kubernetes.io/instance"
	labelComponent = "app.kubernetes.io/component"
	labelManagedBy = "app.kubernetes.io/managed-by"

	componentEndpoint = "endpoint"
	componentGroup    = "group"
	componentReplica  = "replica"

	annotationPrefix = "inferprobe/" // before endpoint or group: its name as configured
)

// subject is what a Lease is for.
type subject struct {
	component string // componentEndpoint or componentGroup
	name      string
}

// subjectOf returns what is held to measure an endpoint: its group, or where that is "" the endpoint itself.
func subjectOf(endpoint, group string) subject {
	if group != "" {
		return subject{componentGroup, group}
	}
	return subject{componentEndpoint, endpoint}
}

// leaseName returns the name of a Lease: its subject's in lower case, since Kubernetes knows no other, after the kind of
// subject, so that an endpoint and a group of one name have two. Endpoints' names are unique without case; groups that
// differ in case alone share a Lease, which does no harm. A name that is still not valid is altered and made unique by a
// hash.
func (l *Leases) leaseName(of subject) string {
	return objectName(l.prefix+"-"+of.component+"-", strings.ToLower(of.name))
}

func (l *Leases) replicaLease() string {
	return objectName(l.prefix+"-"+componentReplica+"-", strings.ToLower(l.identity))
}

var notInNames = regexp.MustCompile(`[^a-z0-9]+`)

func objectName(prefix, name string) string {
	if len(validation.IsDNS1123Subdomain(prefix+name)) == 0 {
		return prefix + name
	}
	sum := sha256.Sum256([]byte(name))
	hash := hex.EncodeToString(sum[:4])
	altered := strings.Trim(notInNames.ReplaceAllString(name, "-"), "-")
	if room := validation.DNS1123SubdomainMaxLength - len(prefix) - len(hash) - 1; len(altered) > room {
		altered = altered[:max(room, 0)]
	}
	if altered == "" {
		return prefix + hash
	}
	return prefix + altered + "-" + hash
}

func (l *Leases) labels(component string) map[string]string {
	return map[string]string{
		labelName: "inferprobe", labelInstance: l.prefix, labelManagedBy: "inferprobe", labelComponent: component,
	}
}

// newSubjectLease returns the Lease of an endpoint or a group, held by this replica.
func (l *Leases) newSubjectLease(name string, of subject) *coordinationv1.Lease {
	lease := l.newLease(name, of.component, l.duration)
	lease.Annotations = map[string]string{annotationPrefix + of.component: of.name}
	return lease
}

// newReplicaLease returns this replica's own Lease. It lasts for half the duration of the others, three times as long
// as it takes to the next renewal: others must know that a replica is gone before they take over its endpoints.
func (l *Leases) newReplicaLease() *coordinationv1.Lease {
	return l.newLease(l.replicaLease(), componentReplica, l.duration/2)
}

func (l *Leases) newLease(name, component string, duration time.Duration) *coordinationv1.Lease {
	now := metav1.NowMicro()
	seconds := int32((duration + time.Second - 1) / time.Second)
	var transitions int32
	return &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: l.namespace, Labels: l.labels(component)},
		Spec: coordinationv1.LeaseSpec{
			HolderIdentity: &l.identity, LeaseDurationSeconds: &seconds, LeaseTransitions: &transitions,
			AcquireTime: &now, RenewTime: &now,
		},
	}
}

// taken returns a known version of a Lease as held by this replica. The labels are set anew, so that a
// Lease without them comes back into everybody's list.
func (l *Leases) taken(known *coordinationv1.Lease, of subject) *coordinationv1.Lease {
	fresh := l.newSubjectLease(known.Name, of)
	lease := known.DeepCopy()
	if lease.Labels == nil {
		lease.Labels = make(map[string]string)
	}
	maps.Copy(lease.Labels, fresh.Labels)
	if lease.Annotations == nil {
		lease.Annotations = make(map[string]string)
	}
	maps.Copy(lease.Annotations, fresh.Annotations)
	if n := known.Spec.LeaseTransitions; n != nil {
		*fresh.Spec.LeaseTransitions = *n
	}
	*fresh.Spec.LeaseTransitions++
	lease.Spec = fresh.Spec
	return lease
}

// renewed returns a Lease that this replica holds with a new time.
func renewed(lease *coordinationv1.Lease) *coordinationv1.Lease {
	now := metav1.NowMicro()
	lease = lease.DeepCopy()
	lease.Spec.RenewTime = &now
	return lease
}

// released returns a Lease that this replica holds without a holder.
func released(lease *coordinationv1.Lease) *coordinationv1.Lease {
	lease = renewed(lease)
	lease.Spec.HolderIdentity = nil
	return lease
}
