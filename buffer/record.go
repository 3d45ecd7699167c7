// Package buffer is the vocabulary of the path a record takes: Record and
// Batch, and the three bookkeepers that keep the contract: Budget (bytes held),
// Window (requests in flight) and Watermark (what may be committed).
//
// Nothing here starts a goroutine, reads a clock it was not given, or knows of
// Kafka or HTTP.
package buffer

import "time"

// Origin says which log a record was read from. All records of one lane share
// one Origin. The topic's id belongs to it because a topic that is deleted and
// made again starts at offset 0 under the same name: only the id tells the new
// offset 0 from the old one.
type Origin struct {
	Cluster   string // cluster id as the brokers report it, "" when they report none
	Topic     string
	TopicID   string // topic UUID in Kafka's own text form (22 characters of URL-safe base64), "" below Kafka 2.8
	Partition int32
}

// Header is one record header. Kafka allows a nil value, which is not the same
// as an empty one.
type Header struct {
	Key   string
	Value []byte
}

// Record is one Kafka record on its way through a lane. Key, Value and Headers
// are as they were read: nothing on the way alters them.
type Record struct {
	*Origin
	Offset int64
	// Time is the record's timestamp (create or append time, as the topic is
	// configured); the zero Time when the record carries none.
	Time time.Time
	// Appended: Time is when the broker wrote the record, not what its producer said
	// (message.timestamp.type).
	Appended bool
	Key      []byte // nil: no key
	Value    []byte // nil: a tombstone
	Headers  []Header
	// Shape is what the decode transform found out about Value, so that no sink
	// has to scan it again.
	Shape Shape

	chunk *Chunk
}

// Shape describes a record's value.
type Shape uint8

const (
	// ShapeObject: Value is one valid JSON object in valid UTF-8, nested no
	// deeper than the decoder allows, with no bytes but white space around it.
	// Without this bit the other bits mean nothing and the value has to be
	// wrapped as text.
	ShapeObject Shape = 1 << iota
	// ShapeLineBreak: the object holds a line break between its tokens (inside a
	// string a raw one would not be valid JSON) and has to be compacted before it
	// may go into a line-framed body.
	ShapeLineBreak
	// ShapeTimestamp: the object has a member "@timestamp" at its top level.
	ShapeTimestamp
	// ShapeKafka: the object has a member "kafka" at its top level.
	ShapeKafka
	// ShapeEmpty: the object has no members.
	ShapeEmpty
)

// Has reports whether all bits of f are set.
func (s Shape) Has(f Shape) bool { return s&f == f }

// RecordOverhead is the number of bytes charged to the budget for a record
// beside its key, value and headers: the Record itself, its place in batches
// and in the watermark.
const RecordOverhead = 224

// Size is the number of bytes the record is charged with.
func (r *Record) Size() int64 {
	n := RecordOverhead + len(r.Key) + len(r.Value)
	for i := range r.Headers {
		n += len(r.Headers[i].Key) + len(r.Headers[i].Value) + 40
	}
	return int64(n)
}

// Batch is what a sink is given: records of any number of partitions, each
// partition's in offset order.
type Batch struct {
	Records []*Record
	Bytes   int64 // sum of the records' Size
}

// Add appends r.
func (b *Batch) Add(r *Record) {
	b.Records = append(b.Records, r)
	b.Bytes += r.Size()
}

// Chunk is a run of records that were admitted together and share their memory:
// one copy of the fetched bytes, so that a record that waits long (a retry, a
// blocked lane) keeps this copy alive and not the whole decompressed fetch
// response it came from. The budget gets a chunk's bytes back when the last of
// its records is released, which is when the memory really is free.
type Chunk struct {
	Records []Record
	Charged int64 // what the budget charged for them
	open    int
}

// NewChunk copies the records of run, which may alias memory that is about to
// be reused, into memory of their own.
func NewChunk(run []Record, charged int64) *Chunk {
	c := &Chunk{Records: make([]Record, len(run)), Charged: charged, open: len(run)}
	var n int
	for i := range run {
		n += len(run[i].Key) + len(run[i].Value)
		for j := range run[i].Headers {
			n += len(run[i].Headers[j].Value)
		}
	}
	slab := make([]byte, 0, n)
	keep := func(b []byte) []byte {
		if b == nil {
			return nil
		}
		at := len(slab)
		slab = append(slab, b...)
		return slab[at:len(slab):len(slab)]
	}
	for i := range run {
		r := &c.Records[i]
		*r = run[i]
		r.chunk = c
		r.Key, r.Value = keep(run[i].Key), keep(run[i].Value)
		if len(run[i].Headers) > 0 {
			r.Headers = make([]Header, len(run[i].Headers))
			for j, h := range run[i].Headers {
				r.Headers[j] = Header{Key: h.Key, Value: keep(h.Value)}
			}
		}
	}
	return c
}

// Release says that r needs its memory no longer. It returns the bytes to give
// back to the budget: those of the whole chunk when r was its last record, else
// 0. Releasing a record twice is a bug of the caller. Not safe for concurrent
// use on records of one chunk.
func (r *Record) Release() int64 {
	if r.chunk == nil {
		return r.Size()
	}
	r.chunk.open--
	if r.chunk.open > 0 {
		return 0
	}
	if r.chunk.open < 0 {
		panic("buffer: record released twice")
	}
	return r.chunk.Charged
}

// Compact moves records that wait to memory of their own, so that what they were
// admitted with can be freed, and returns the bytes to give back to the budget. It
// leaves those of a chunk that others need, too, or that has not become much
// smaller. The records are of one account; a moved one is replaced in waiting, and
// its old address must not be used any more.
func Compact(waiting []*Record) (freed int64) {
	for len(waiting) > 0 {
		n := 1
		for n < len(waiting) && waiting[n].chunk == waiting[0].chunk {
			n++
		}
		freed += waiting[0].chunk.compact(waiting[:n])
		waiting = waiting[n:]
	}
	return freed
}

// compact moves the records of c that are left, if those are all.
func (c *Chunk) compact(left []*Record) (freed int64) {
	if c == nil || c.open != len(left) {
		return 0
	}
	var size int64
	for _, r := range left {
		size += r.Size()
	}
	if 2*size > c.Charged {
		return 0
	}
	run := make([]Record, len(left))
	for i, r := range left {
		run[i] = *r
	}
	own := NewChunk(run, size)
	for i := range left {
		left[i] = &own.Records[i]
	}
	c.open = 0
	return c.Charged - size
}
