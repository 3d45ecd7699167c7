package evidence

import (
	"container/heap"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"

	"weir/buffer"
)

// Stream reads the matched records of one partition again, from wherever they
// are. Each call begins anew and yields the same. They may come in any order: a
// bag holds them in the order in which they were stored. An error stands in the
// place of what cannot be read, and what follows is read if the caller goes on. A
// record is only valid until the next one.
type Stream func() iter.Seq2[*buffer.Record, error]

// leafAt is a leaf, and the offset of its record.
type leafAt struct {
	offset int64
	hash   Hash
}

// inOrder gives add the leaves of a stream of o's records, as InOrder does.
func inOrder(o *buffer.Origin, stream Stream, reset func(), add func(leafAt) error) error {
	return stream.inOrder(NewEncoder(o).Record, reset, add)
}

// InOrder gives add a hash of each record of the stream, in the order of their
// offsets. When it turns out that the stream is not in order, everything begins
// anew: with reset. An offset may come twice.
//
// Nothing but hashes that wait for lower offsets is held: the first reading finds
// out where the offsets go down, and so the lowest offset that is still to come at
// each of these places.
//
// Errors: those of the stream and of add.
func (stream Stream) InOrder(hash func(*buffer.Record) Hash, reset func(), add func(offset int64, h Hash) error) error {
	return stream.inOrder(hash, reset, func(l leafAt) error { return add(l.offset, l.hash) })
}

func (stream Stream) inOrder(hash func(*buffer.Record) Hash, reset func(), add func(leafAt) error) error {
	var firsts []int64 // of each ascending part of the stream
	last := int64(math.MinInt64)
	for r, err := range stream() {
		if err != nil {
			return err
		}
		if r.Offset < last || firsts == nil {
			firsts = append(firsts, r.Offset)
		}
		last = r.Offset
		if len(firsts) > 1 {
			continue // only the offsets are of interest now
		}
		if err := add(leafAt{r.Offset, hash(r)}); err != nil {
			return err
		}
	}
	if len(firsts) < 2 {
		return nil
	}
	reset()
	// rest[i] is the lowest offset behind part i.
	rest := make([]int64, len(firsts))
	low := int64(math.MaxInt64)
	for i := len(firsts) - 1; i >= 0; i-- {
		rest[i] = low
		low = min(low, firsts[i])
	}
	var waiting leafHeap
	part := -1
	last = math.MinInt64
	release := func(below int64) error {
		for len(waiting) > 0 && waiting[0].offset < below {
			if err := add(heap.Pop(&waiting).(leafAt)); err != nil {
				return err
			}
		}
		return nil
	}
	for r, err := range stream() {
		if err != nil {
			return err
		}
		if r.Offset < last || part < 0 {
			part++
		}
		if part >= len(firsts) {
			return errors.New("the stream is not what it was when it was read before")
		}
		last = r.Offset
		heap.Push(&waiting, leafAt{r.Offset, hash(r)})
		// What comes later in this part is higher than r, and behind it nothing is
		// lower than rest.
		if err := release(min(r.Offset, rest[part])); err != nil {
			return err
		}
	}
	return release(math.MaxInt64)
}

type leafHeap []leafAt

func (h leafHeap) Len() int           { return len(h) }
func (h leafHeap) Less(i, j int) bool { return h[i].offset < h[j].offset }
func (h leafHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *leafHeap) Push(l any)        { *h = append(*h, l.(leafAt)) }
func (h *leafHeap) Pop() any {
	l := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return l
}

// Fault is something that does not hold.
type Fault struct {
	// Place is a file, with its line where that is known, or a topic and partition.
	Place string `json:"place"`
	// Problem is what is wrong with it.
	Problem string `json:"problem"`
}

func (f Fault) String() string { return f.Place + ": " + f.Problem }

// maxFaults bounds the faults of one partition that are told one by one.
const maxFaults = 100

// Rescue looks in a stream for records in offsets that m lists as gaps, and has m
// say that they are there. It is called before m is signed.
func (m *Manifest) Rescue(topic string, partition int32, stream Stream) error {
	t, p := m.Find(topic, partition)
	if p == nil || len(p.Gaps.Listed) == 0 {
		return nil
	}
	var tree Tree
	last := int64(-1)
	err := inOrder(m.Origin(t, partition), stream, func() { tree, last = Tree{}, -1 }, func(l leafAt) error {
		if l.offset != last && p.inGap(l.offset) {
			tree.Append(l.hash)
		}
		last = l.offset
		return nil
	})
	if p.Rescued = nil; err == nil && tree.Size() > 0 {
		head := tree.Head()
		p.Rescued = &head
	}
	return err
}

// inGap reports whether an offset lies in a listed gap.
func (p *PartitionSeal) inGap(offset int64) bool {
	return slices.ContainsFunc(p.Gaps.Listed, func(g Gap) bool { return offset >= g.From && offset < g.To })
}

// Check compares what a stream holds with what m says of a partition. seen, if
// there is one, is told of every record once.
func (m *Manifest) Check(topic string, partition int32, stream Stream, seen func(r *buffer.Record)) []Fault {
	t, want := m.Find(topic, partition)
	if want == nil {
		return []Fault{{fmt.Sprintf("topic %q, partition %d", topic, partition), "the manifest does not have it"}}
	}
	c := &check{m: m, origin: m.Origin(t, partition), want: want, seen: seen}
	return c.run(stream)
}

type check struct {
	m      *Manifest
	origin *buffer.Origin
	want   *PartitionSeal
	seen   func(r *buffer.Record)
	faults []Fault
	more   int // faults that are not told
}

func (c *check) fault(format string, args ...any) {
	if len(c.faults) == maxFaults {
		c.more++
		return
	}
	place := fmt.Sprintf("topic %q, partition %d", c.origin.Topic, c.origin.Partition)
	c.faults = append(c.faults, Fault{place, fmt.Sprintf(format, args...)})
}

func (c *check) run(stream Stream) []Fault {
	want := c.want
	sum := Progress{First: -1, Last: -1}
	first := true
	// What the first reading is told is looked at; the second one yields the same.
	looked := func() iter.Seq2[*buffer.Record, error] {
		return func(yield func(*buffer.Record, error) bool) {
			look := first
			first = false
			at := int64(-1)
			for r, err := range stream() {
				if err != nil {
					if look {
						c.fault("%v (%s)", err, behind(at))
					}
					continue
				}
				at = r.Offset
				if look {
					c.look(r)
					if !want.inGap(r.Offset) {
						sum.count(r)
					}
				}
				if !yield(r, nil) {
					return
				}
			}
		}
	}
	var tree, rescued Tree
	last := int64(-1)
	var twice []int64
	err := inOrder(c.origin, looked, func() { tree, rescued, last, twice = Tree{}, Tree{}, -1, nil }, func(l leafAt) error {
		if l.offset == last {
			twice = append(twice[:min(len(twice), maxFaults)], l.offset)
			return nil
		}
		last = l.offset
		if want.inGap(l.offset) {
			rescued.Append(l.hash)
		} else {
			tree.Append(l.hash)
		}
		return nil
	})
	if err != nil {
		c.fault("%v", err)
	}
	is, should := rescued.Head(), Tree{}.Head()
	if want.Rescued != nil {
		should = *want.Rescued
	}
	if is != should {
		c.fault("%d records lie in offsets that the manifest lists as gaps, with the root %s; it says %d and %s", is.Size, is.Root, should.Size, should.Root)
	}
	for _, o := range twice {
		c.fault("offset %d is there twice", o)
	}
	switch {
	case tree.Size() != want.Records.Size:
		c.fault("it has %d records, the manifest says %d", tree.Size(), want.Records.Size)
	case tree.Root() != want.Records.Root:
		c.fault("the root of its %d records is %s, the manifest says %s: a record was changed, or one put in the place of another", tree.Size(), tree.Root(), want.Records.Root)
	case sum.Counts.Bytes != want.Counts.Bytes:
		c.fault("its records have %d bytes, the manifest says %d", sum.Counts.Bytes, want.Counts.Bytes)
	}
	if tree.Head() == want.Records {
		f, l, ok := sum.Times()
		if ok != (want.First != nil) || ok && (!f.Equal(*want.First) || want.Last == nil || !l.Equal(*want.Last)) {
			c.fault("the earliest and latest timestamps are not those in the manifest")
		}
	}
	c.gaps()
	if c.more > 0 {
		c.faults = append(c.faults, Fault{c.faults[0].Place, fmt.Sprintf("and %d more", c.more)})
	}
	return c.faults
}

// behind says where in a stream something is, by the record before it; -1: there
// is none.
func behind(offset int64) string {
	if offset < 0 {
		return "before the first record"
	}
	return fmt.Sprintf("behind the record at offset %d", offset)
}

// look checks a record by itself.
func (c *check) look(r *buffer.Record) {
	if c.seen != nil {
		c.seen(r)
	}
	if *r.Origin != *c.origin {
		c.fault("offset %d is of another log: cluster %q, topic %q (id %q), partition %d", r.Offset, r.Cluster, r.Topic, r.TopicID, r.Partition)
	}
	if r.Offset < c.want.Start || r.Offset >= c.want.End {
		c.fault("offset %d is not in the range from %d to %d that was read", r.Offset, c.want.Start, c.want.End-1)
	}
	if in := c.m.Request; !r.Time.IsZero() && (r.Time.Before(in.From) || !r.Time.Before(in.To)) {
		c.fault("offset %d is of %s, which is not in the time range", r.Offset, r.Time.UTC().Format("2006-01-02T15:04:05.000Z"))
	}
}

// gaps checks the tree of the gaps where the manifest lists them all. Else it can
// be recomputed only where the whole log is read again.
func (c *check) gaps() {
	got, ok := c.want.gapTree(c.origin)
	if ok && got.Head() != c.want.Gaps.TreeHead {
		c.fault("the root of its %d listed gaps is %s, the manifest says %d and %s", got.Size(), got.Root(), c.want.Gaps.Size, c.want.Gaps.Root)
	}
}

// gapTree is the tree of the listed gaps; false: not all are listed.
func (p *PartitionSeal) gapTree(o *buffer.Origin) (Tree, bool) {
	g := p.Gaps
	if g.Unlisted > 0 || g.Offsets[Control]+g.Offsets[Aborted]+g.Offsets[Compacted] > 0 {
		return Tree{}, false
	}
	enc := NewEncoder(o)
	var tree Tree
	for _, gap := range g.Listed {
		tree.Append(enc.Gap(gap))
	}
	return tree, true
}

// GapsListed reports whether the manifest lists all gaps of the partition, so that
// their tree can be recomputed from it.
func (p *PartitionSeal) GapsListed() bool {
	_, ok := p.gapTree(&buffer.Origin{})
	return ok
}
