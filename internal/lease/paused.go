package lease

import (
	"encoding/json"
	"slices"

	coordinationv1 "k8s.io/api/coordination/v1"
)

// annotationPaused on a Lease names the endpoints that an operator has paused, as a JSON list, so that whichever replica
// holds the Lease next finds them paused.
const annotationPaused = "inferprobe/paused"

// pausedOn returns the endpoints that a Lease says are paused. An annotation that is not ours to read names none.
func pausedOn(lease *coordinationv1.Lease) []string {
	var names []string
	if lease == nil || json.Unmarshal([]byte(lease.Annotations[annotationPaused]), &names) != nil {
		return nil
	}
	return names
}

// Paused reports whether the endpoint is paused, by what this replica knows of its Lease. A holder knows all.
func (l *Leases) Paused(endpoint, group string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Contains(pausedOn(l.view.lease(l.leaseName(subjectOf(endpoint, group)))), endpoint)
}

// SetPaused has the Lease of the endpoint say that it is paused, or that it is not, from the next moment on in which the
// API server answers. It does nothing where this replica does not hold the Lease.
func (l *Leases) SetPaused(endpoint, group string, paused bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.terms[l.leaseName(subjectOf(endpoint, group))]
	if t == nil {
		return
	}
	t.paused[endpoint] = paused
	select {
	case t.news <- struct{}{}:
	default:
	}
}

// current returns the Lease as last known, with the pauses of this term.
func (t *term) current() *coordinationv1.Lease {
	t.leases.mu.Lock()
	defer t.leases.mu.Unlock()
	before := pausedOn(t.lease)
	names := slices.Clone(before)
	for endpoint, paused := range t.paused {
		names = slices.DeleteFunc(names, func(name string) bool { return name == endpoint })
		if paused {
			names = append(names, endpoint)
		}
	}
	slices.Sort(names)
	if slices.Equal(names, before) {
		return t.lease
	}
	lease := t.lease.DeepCopy()
	if len(names) == 0 {
		delete(lease.Annotations, annotationPaused)
		return lease
	}
	if lease.Annotations == nil {
		lease.Annotations = make(map[string]string)
	}
	text, err := json.Marshal(names)
	if err != nil {
		panic(err) // strings always marshal
	}
	lease.Annotations[annotationPaused] = string(text)
	return lease
}
