// Package logbook is the judge's own account of a partition's log: what was
// produced at which offset. From it follows what the evidence of a replay has to
// be. It follows docs/evidence.md and RFC 6962, and shares no code with weir.
package logbook

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
)

// Header is a header of a record; a nil value is null.
type Header struct {
	Key   string
	Value []byte
}

// Record is what was produced at an offset.
type Record struct {
	Time     int64  // the producer's, ms since 1970
	Key      []byte // nil: null
	Value    []byte
	Headers  []Header
	Aborted  bool  // in a transaction that was
	Filtered bool  // the filter of the case says no
	Number   int64 // the event's; 0: it is none that may be delivered
}

// Partition is the log of one partition. An offset without a record is the marker
// at the end of a transaction.
type Partition struct {
	Cluster, TopicID, Topic string
	Number                  int32

	records []*Record // by offset
}

// Add notes that Kafka has acknowledged r at offset.
func (p *Partition) Add(offset int64, r *Record) {
	for int64(len(p.records)) <= offset {
		p.records = append(p.records, nil)
	}
	p.records[offset] = r
}

// At is the record at an offset; nil: there is none.
func (p *Partition) At(offset int64) *Record {
	if offset < 0 || offset >= int64(len(p.records)) {
		return nil
	}
	return p.records[offset]
}

// Class says why an offset holds no record, as the leaf of a gap does.
type Class uint8

// The classes that the judge can bring about.
const (
	Control   Class = 1
	Aborted   Class = 2
	Retention Class = 4
)

// Span is a run of offsets; To does not belong to it.
type Span struct{ From, To int64 }

func (s Span) has(offset int64) bool { return offset >= s.From && offset < s.To }

// Range says what is read: offsets, and the times of those that match, To of both
// exclusive.
type Range struct {
	Span
	FromTime, ToTime int64 // ms since 1970
	// Gone are the offsets that retention took before they were read.
	Gone []Span
}

// Head is a tree's size, and its root in hexadecimal.
type Head struct {
	Size uint64
	Root string
}

// Evidence is what has to be said of a partition.
type Evidence struct {
	Read, Matched, Outside, Filtered uint64
	Bytes                            uint64 // of the matched: keys, values, headers
	First, Last                      int64  // times of the matched, ms; -1: there are none
	Records, Gaps                    Head
	Offsets                          map[Class]uint64 // without a record
	Events                           []int64          // numbers of the matched
}

// Evidence computes what is to be said of a range.
func (p *Partition) Evidence(of Range) Evidence {
	e := Evidence{First: -1, Last: -1, Offsets: map[Class]uint64{}}
	var leaves, gaps [][]byte
	var open Span
	var why Class
	shut := func() {
		if open.To > open.From {
			gaps = append(gaps, p.gapLeaf(open, why))
		}
		open = Span{}
	}
	for o := of.From; o < of.To; o++ {
		r := p.At(o)
		class := Class(0)
		switch {
		case of.gone(o):
			class = Retention
		case r == nil:
			class = Control
		case r.Aborted:
			class = Aborted
		}
		if class != 0 {
			e.Offsets[class]++
			if class != why || o != open.To {
				shut()
				open, why = Span{o, o}, class
			}
			open.To = o + 1
			continue
		}
		e.Read++
		switch {
		case r.Time < of.FromTime || r.Time >= of.ToTime:
			e.Outside++
		case r.Filtered:
			e.Filtered++
		default:
			e.Matched++
			e.Bytes += r.bytes()
			if e.First < 0 || r.Time < e.First {
				e.First = r.Time
			}
			e.Last = max(e.Last, r.Time)
			e.Events = append(e.Events, r.Number)
			leaves = append(leaves, p.leaf(o, r))
		}
	}
	shut()
	e.Records, e.Gaps = head(leaves), head(gaps)
	return e
}

func (r Range) gone(offset int64) bool {
	for _, s := range r.Gone {
		if s.has(offset) {
			return true
		}
	}
	return false
}

func (r *Record) bytes() uint64 {
	n := len(r.Key) + len(r.Value)
	for _, h := range r.Headers {
		n += len(h.Key) + len(h.Value)
	}
	return uint64(n)
}

func text(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
}

func nullable(b, v []byte) []byte {
	if v == nil {
		return binary.BigEndian.AppendUint32(b, 0xffffffff)
	}
	return text(b, string(v))
}

func (p *Partition) place(kind byte) []byte {
	b := text(text(text([]byte{kind, 1}, p.Cluster), p.TopicID), p.Topic)
	return binary.BigEndian.AppendUint32(b, uint32(p.Number))
}

func (p *Partition) leaf(offset int64, r *Record) []byte {
	b := binary.BigEndian.AppendUint64(p.place('R'), uint64(offset))
	b = append(b, 0) // the time is the producer's
	b = binary.BigEndian.AppendUint64(b, uint64(r.Time))
	b = nullable(b, r.Key)
	b = binary.BigEndian.AppendUint32(b, uint32(len(r.Headers)))
	for _, h := range r.Headers {
		b = nullable(text(b, h.Key), h.Value)
	}
	return nullable(b, r.Value)
}

func (p *Partition) gapLeaf(s Span, why Class) []byte {
	b := binary.BigEndian.AppendUint64(p.place('G'), uint64(s.From))
	return append(binary.BigEndian.AppendUint64(b, uint64(s.To)), byte(why))
}

// head is the Merkle tree head of RFC 6962, 2.1, written down as it stands there.
func head(leaves [][]byte) Head {
	root := mth(leaves)
	return Head{uint64(len(leaves)), hex.EncodeToString(root[:])}
}

func mth(d [][]byte) [32]byte {
	switch n := len(d); n {
	case 0:
		return sha256.Sum256(nil)
	case 1:
		return sha256.Sum256(append([]byte{0}, d[0]...))
	default:
		k := 1
		for k*2 < n {
			k *= 2
		}
		left, right := mth(d[:k]), mth(d[k:])
		return sha256.Sum256(append(append([]byte{1}, left[:]...), right[:]...))
	}
}
