package archive

import (
	"cmp"
	"slices"
)

// span is the offsets from first to last, both included.
type span struct{ first, last int64 }

// offsets is a set of offsets, as spans in order with room between them. A log
// without gaps is one span; every gap costs 16 bytes.
type offsets struct{ spans []span }

// find returns where the first span is that ends at or behind o, and whether it
// holds o.
func (s *offsets) find(o int64) (at int, there bool) {
	at, _ = slices.BinarySearchFunc(s.spans, o, func(p span, o int64) int { return cmp.Compare(p.last, o) })
	return at, at < len(s.spans) && s.spans[at].first <= o
}

// has reports whether o is in the set.
func (s *offsets) has(o int64) bool {
	_, there := s.find(o)
	return there
}

// add puts o into the set. It reports whether it was missing.
func (s *offsets) add(o int64) bool {
	if n := len(s.spans); n > 0 && s.spans[n-1].last == o-1 {
		s.spans[n-1].last = o // as nearly always
		return true
	}
	at, there := s.find(o)
	if there {
		return false
	}
	before := at > 0 && s.spans[at-1].last == o-1
	behind := at < len(s.spans) && s.spans[at].first == o+1
	switch {
	case before && behind:
		s.spans[at-1].last = s.spans[at].last
		s.spans = slices.Delete(s.spans, at, at+1)
	case before:
		s.spans[at-1].last = o
	case behind:
		s.spans[at].first = o
	default:
		s.spans = slices.Insert(s.spans, at, span{o, o})
	}
	return true
}

// lowest and highest are the ends of a set that is not empty.
func (s *offsets) lowest() int64  { return s.spans[0].first }
func (s *offsets) highest() int64 { return s.spans[len(s.spans)-1].last }

// forget drops all but the n highest spans. It returns the lowest offset that is
// left.
func (s *offsets) forget(n int) int64 {
	s.spans = slices.Clone(s.spans[len(s.spans)-n:])
	return s.lowest()
}
