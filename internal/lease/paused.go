package lease

import (
	"encoding/json"
	"maps"
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

// left is what this replica last said of the pauses of a Lease that it does not hold. The Lease may not have it yet.
type left struct {
	version string          // resource version of the Lease then; "" if there was none
	paused  map[string]bool // by endpoint
}

// Paused reports whether the endpoint is paused, by what this replica knows of its Lease and has said of it. A holder
// knows all.
func (l *Leases) Paused(endpoint, group string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.isPaused(l.leaseName(subjectOf(endpoint, group)), endpoint)
}

// isPaused is Paused by the name of the Lease. The caller has locked l.mu.
func (l *Leases) isPaused(name, endpoint string) bool {
	l.dropOutdated(name)
	said := l.left[name].paused
	if t := l.terms[name]; t != nil {
		said = t.paused
	}
	if paused, ok := said[endpoint]; ok {
		return paused
	}
	return slices.Contains(pausedOn(l.view.lease(name)), endpoint)
}

// SetPaused has the Lease of the endpoint say that it is paused, or that it is not, from the next moment on in which the
// API server answers. It reports false, and does nothing, where this replica does not hold the Lease.
func (l *Leases) SetPaused(endpoint, group string, paused bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.terms[l.leaseName(subjectOf(endpoint, group))]
	if t == nil {
		return false
	}
	t.say(endpoint, paused)
	if !paused { // nor by the Lease of a group in which it was before, where that is ours
		for name, other := range l.terms {
			if other != t && l.isPaused(name, endpoint) {
				other.say(endpoint, false)
			}
		}
	}
	return true
}

// Move takes a pause along when an endpoint changes its group, and with it its Lease. Every replica is to call it, since
// the new Lease may become any one's. If another replica gets it first, that one's word holds.
func (l *Leases) Move(endpoint, from, to string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	paused := l.isPaused(l.leaseName(subjectOf(endpoint, from)), endpoint)
	name := l.leaseName(subjectOf(endpoint, to))
	if t := l.terms[name]; t != nil {
		t.say(endpoint, paused)
		return
	}
	l.dropOutdated(name)
	said, ok := l.left[name]
	if !ok {
		said.paused = make(map[string]bool)
		if known := l.view.lease(name); known != nil {
			said.version = known.ResourceVersion
		}
		l.left[name] = said
	}
	said.paused[endpoint] = paused // an end, too: the endpoint may have been here before, and paused
}

// say notes a pause, or its end, and asks for a renewal that writes it. The caller has locked leases.mu.
func (t *term) say(endpoint string, paused bool) {
	t.paused[endpoint] = paused
	select {
	case t.news <- struct{}{}:
	default:
	}
}

// dropOutdated drops what is left to say of a Lease that another replica has held since: its word is newer. A Lease that
// is gone has nobody's word. The caller has locked l.mu.
func (l *Leases) dropOutdated(name string) {
	known := l.view.lease(name)
	if known == nil || known.ResourceVersion == l.left[name].version {
		return
	}
	if holder := known.Spec.HolderIdentity; holder == nil || *holder != l.identity {
		delete(l.left, name)
	}
}

// takeUp has a term that begins say what the last one could not write. The caller has locked leases.mu.
func (t *term) takeUp() {
	l := t.leases
	for endpoint, paused := range l.left[t.lease.Name].paused {
		t.say(endpoint, paused)
	}
	delete(l.left, t.lease.Name)
}

// leave keeps the pauses of a term that could not write them when it ended.
func (t *term) leave() {
	t.leases.mu.Lock()
	defer t.leases.mu.Unlock()
	paused := make(map[string]bool)
	for _, endpoint := range pausedOn(t.lease) {
		paused[endpoint] = true
	}
	maps.Copy(paused, t.paused)
	t.leases.left[t.lease.Name] = left{t.lease.ResourceVersion, paused}
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
