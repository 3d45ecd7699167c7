package buffer

import "sort"

// Watermark knows, for one partition, the offset below which every record is
// settled: the only offset that may be committed. Records are tracked in offset
// order when they are taken and settle in any order. Not safe for concurrent
// use.
type Watermark struct {
	offsets []int64 // tracked and at or above the watermark, ascending, from head on
	settled []bool
	head    int
	next    int64 // everything below is tracked or holds no record
	pending int   // tracked and not settled
}

// NewWatermark starts at offset start: everything below it counts as settled.
func NewWatermark(start int64) *Watermark { return &Watermark{next: start} }

// Track notes that the record at offset was taken. Offsets come in ascending
// order; one below the position was taken before, and tracking it again would
// let the watermark fall, so Track panics.
func (w *Watermark) Track(offset int64) {
	if offset < w.next {
		panic("buffer: offset tracked twice or out of order")
	}
	if w.head > 1024 && w.head > len(w.offsets)/2 {
		n := copy(w.offsets, w.offsets[w.head:])
		copy(w.settled, w.settled[w.head:])
		w.offsets, w.settled, w.head = w.offsets[:n], w.settled[:n], 0
	}
	w.offsets = append(w.offsets, offset)
	w.settled = append(w.settled, false)
	w.next = offset + 1
	w.pending++
}

// Advance moves the position to next: what lies between and was not tracked
// holds no record. A next below the position changes nothing.
func (w *Watermark) Advance(next int64) {
	w.next = max(w.next, next)
}

// Retreat forgets what was tracked at or above offset, settled or not, as if it
// had not been taken yet: the position is offset again. It is for records that
// were taken and then not handed on. An offset that is not tracked, or behind the
// position, changes nothing.
func (w *Watermark) Retreat(offset int64) {
	open := w.offsets[w.head:]
	keep := sort.Search(len(open), func(i int) bool { return open[i] >= offset })
	if keep == len(open) || open[keep] != offset {
		return
	}
	for _, settled := range w.settled[w.head+keep:] {
		if !settled {
			w.pending--
		}
	}
	w.offsets, w.settled = w.offsets[:w.head+keep], w.settled[:w.head+keep]
	w.next = offset
}

// Settle notes that the record at offset is settled. It reports false, and
// changes nothing, when that offset was never tracked or is settled already.
func (w *Watermark) Settle(offset int64) bool {
	open := w.offsets[w.head:]
	if len(open) == 0 || offset < open[0] {
		return false
	}
	// Offsets are dense but for gaps, so the record is where it would be without
	// any gap, or before that.
	i := int(min(offset-open[0], int64(len(open)-1)))
	if open[i] != offset {
		i = sort.Search(i, func(i int) bool { return open[i] >= offset })
		if open[i] != offset {
			return false
		}
	}
	i += w.head
	if w.settled[i] {
		return false
	}
	w.settled[i] = true
	w.pending--
	for w.head < len(w.offsets) && w.settled[w.head] {
		w.head++
	}
	if w.head == len(w.offsets) {
		w.offsets, w.settled, w.head = w.offsets[:0], w.settled[:0], 0
	}
	return true
}

// Next is the offset that may be committed: everything below it is settled.
func (w *Watermark) Next() int64 {
	if w.head < len(w.offsets) {
		return w.offsets[w.head]
	}
	return w.next
}

// Position is the offset to take next.
func (w *Watermark) Position() int64 { return w.next }

// Pending is the number of records tracked and not settled.
func (w *Watermark) Pending() int { return w.pending }

// Span is the number of records kept track of: the unsettled ones and the
// settled ones above the first of those. It is what the watermark's memory grows
// with.
func (w *Watermark) Span() int { return len(w.offsets) - w.head }
