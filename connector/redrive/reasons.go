package redrive

import (
	"cmp"
	"slices"
	"strconv"
)

// Reasons counts by status and kind of reason. It holds a bounded number of them:
// the zero Reasons is ready.
type Reasons struct {
	counts map[Reason]int64
	rest   int64
}

// Reason is why letters were refused. Kind is the reason up to its first colon:
// what follows is about one record only.
type Reason struct {
	Status int
	Kind   string
}

const (
	maxReasons = 64
	maxKind    = 120 // bytes
)

// KindOf is the kind of a reason.
func KindOf(reason string) string {
	for i, c := range reason {
		if i >= maxKind || c == ':' && (i+1 == len(reason) || reason[i+1] == ' ') {
			return reason[:i]
		}
	}
	return reason
}

// Add counts one more.
func (r *Reasons) Add(status int, reason string) {
	k := Reason{status, KindOf(reason)}
	if _, known := r.counts[k]; !known && len(r.counts) >= maxReasons {
		r.rest++
		return
	}
	if r.counts == nil {
		r.counts = map[Reason]int64{}
	}
	r.counts[k]++
}

// All are the reasons with their counts, the most frequent first, and how many
// letters had others.
func (r Reasons) All() (all []ReasonCount, rest int64) {
	for k, n := range r.counts {
		all = append(all, ReasonCount{k, n})
	}
	slices.SortFunc(all, func(a, b ReasonCount) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Status, b.Status), cmp.Compare(a.Kind, b.Kind))
	})
	return all, r.rest
}

// ReasonCount is how many letters had a Reason.
type ReasonCount struct {
	Reason
	Count int64
}

func (r Reason) String() string {
	switch {
	case r.Status != 0 && r.Kind != "":
		return "status " + strconv.Itoa(r.Status) + ", " + r.Kind
	case r.Status != 0:
		return "status " + strconv.Itoa(r.Status)
	default:
		return cmp.Or(r.Kind, "no reason given")
	}
}
