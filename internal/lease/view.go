package lease

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"slices"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
)

// staleAfter is how many durations a Lease that nobody here wants must not have changed to be deleted: those of
// replicas that are gone and of endpoints and groups that are no longer configured.
const staleAfter = 10

// view is what this replica knows of the Leases, and when it came to know it by its own clock. Its caller locks it.
type view struct {
	self     string
	duration time.Duration // of a Lease that does not say
	records  map[string]*record
	wanted   map[string]bool // Leases of endpoints and groups that this replica would take
	grace    time.Duration   // that the first in order for a Lease has before the second, and so on
	ranks    map[string]int  // this replica's place in the order for Leases, as dealt after the last list
	from     time.Time       // nobody else's turn began before: since then lists arrive without a gap
	listed   time.Time       // when the last list arrived
}

// record is one version of a Lease.
type record struct {
	lease *coordinationv1.Lease // nil if there is none
	since time.Time             // when this version was first seen, which is not before it was written
}

func newView(self string, duration, interval time.Duration) *view {
	return &view{
		self: self, duration: duration, grace: interval * 3 / 4, // lists are half an interval apart
		records: make(map[string]*record), wanted: make(map[string]bool), ranks: make(map[string]int),
	}
}

func (v *view) want(name string, now time.Time) {
	v.wanted[name] = true
	if v.records[name] == nil {
		v.absent(name, now)
	}
}

func (v *view) unwant(name string) {
	delete(v.wanted, name)
	if r := v.records[name]; r != nil && r.lease == nil {
		delete(v.records, name)
	}
}

// observe notes a Lease as the API server returned it.
func (v *view) observe(lease *coordinationv1.Lease, now time.Time) {
	r := v.records[lease.Name]
	if r == nil || r.lease == nil || r.lease.ResourceVersion != lease.ResourceVersion {
		v.records[lease.Name] = &record{lease: lease, since: now}
	}
}

func (v *view) absent(name string, now time.Time) {
	v.records[name] = &record{since: now}
}

// observeAll notes a list. A wanted Lease that is missing from it counts as before: if it was deleted while it was
// held, its holder still works, and the next claim finds out.
func (v *view) observeAll(leases []coordinationv1.Lease, now time.Time) {
	if now.Sub(v.listed) > v.duration/2 {
		v.from = now
	}
	v.listed = now
	listed := make(map[string]bool, len(leases))
	for i := range leases {
		listed[leases[i].Name] = true
		v.observe(&leases[i], now)
	}
	maps.DeleteFunc(v.records, func(name string, _ *record) bool { return !listed[name] && !v.wanted[name] })
}

func (v *view) lease(name string) *coordinationv1.Lease {
	if r := v.records[name]; r != nil {
		return r.lease
	}
	return nil
}

func (v *view) holder(name string, now time.Time) string {
	r := v.records[name]
	if r == nil || now.After(v.freeAt(r)) {
		return ""
	}
	return r.holder()
}

func (r *record) holder() string {
	if r.lease == nil || r.lease.Spec.HolderIdentity == nil {
		return ""
	}
	return *r.lease.Spec.HolderIdentity
}

// freeAt returns from when on nobody can hold the Lease: its holder has had all of its time without a renewal.
func (v *view) freeAt(r *record) time.Time {
	if r.holder() == "" {
		return r.since
	}
	if seconds := r.lease.Spec.LeaseDurationSeconds; seconds != nil {
		return r.since.Add(time.Duration(*seconds) * time.Second)
	}
	return r.since.Add(v.duration)
}

// turn returns when this replica should try to take a Lease, by what is known now; much later if that was not dealt
// yet.
func (v *view) turn(name string, now time.Time) time.Time {
	r := v.records[name]
	if r.holder() == v.self { // the answer to a claim or a release was lost
		return r.since
	}
	rank, dealt := v.ranks[name]
	if !dealt {
		return now.Add(v.duration)
	}
	free := v.freeAt(r)
	if free.Before(v.from) {
		free = v.from
	}
	return free.Add(v.grace * time.Duration(min(rank, 2)))
}

// deal works out this replica's place in the order for each Lease that is free, or will be before the next list if its
// holder is gone. In the order of their names each goes to the replica that then has the fewest.
func (v *view) deal(now, next time.Time) {
	clear(v.ranks)
	loads := v.loads(now)
	for _, name := range slices.Sorted(maps.Keys(v.wanted)) {
		r := v.records[name]
		if r.holder() == v.self || v.freeAt(r).After(next) {
			continue
		}
		order := slices.SortedFunc(maps.Keys(loads), func(a, b string) int {
			return cmp.Or(cmp.Compare(loads[a], loads[b]), cmp.Compare(affinity(name, a), affinity(name, b)))
		})
		v.ranks[name] = slices.Index(order, v.self)
		loads[order[0]]++
	}
}

// loads returns how many Leases of endpoints and groups each live replica holds. A replica is live while it renews its
// own Lease, which runs out before those do.
func (v *view) loads(now time.Time) map[string]int {
	loads := map[string]int{v.self: 0}
	for _, r := range v.records {
		if r.is(componentReplica) && v.freeAt(r).After(now) {
			loads[r.holder()] = 0
		}
	}
	for _, r := range v.records {
		if _, live := loads[r.holder()]; live && !r.is(componentReplica) && v.freeAt(r).After(now) {
			loads[r.holder()]++
		}
	}
	return loads
}

// excess returns how many Leases this replica should hand over: none while some still wait for a holder.
func (v *view) excess(now time.Time) int {
	for name := range v.wanted {
		if r := v.records[name]; !v.freeAt(r).After(now) {
			return 0
		}
	}
	loads := v.loads(now)
	total, least, mine := 0, loads[v.self], loads[v.self]
	for _, n := range loads {
		total += n
		least = min(least, n)
	}
	if mine < least+2 {
		return 0
	}
	share := (total + len(loads) - 1) / len(loads)
	return max(1, mine-share)
}

// stale returns the Leases that can be deleted.
func (v *view) stale(now time.Time) []*coordinationv1.Lease {
	var stale []*coordinationv1.Lease
	for name, r := range v.records {
		unchanged := now.Sub(r.since)
		if !v.wanted[name] && r.lease != nil && unchanged > staleAfter*v.duration && now.After(v.freeAt(r)) {
			stale = append(stale, r.lease)
		}
	}
	return stale
}

func (r *record) is(component string) bool {
	return r.lease != nil && r.lease.Labels[labelComponent] == component
}

// affinity orders replicas with equal loads, differently for each Lease (rendezvous hashing).
func affinity(name, replica string) uint64 {
	sum := sha256.Sum256([]byte(name + "\x00" + replica))
	return binary.BigEndian.Uint64(sum[:8])
}
