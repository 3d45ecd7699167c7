// Package connector is the path of a record from one log to one destination:
// lanes take records in, one open batch collects them, a window of requests
// delivers them, and a watermark a lane says what may be committed. It knows no
// Kafka, no HTTP, no YAML and no metrics library.
package connector

import (
	"context"

	"weir/buffer"
)

// Run is what a Source read in one go.
type Run struct {
	// Records are in offset order. They alias memory of the source.
	Records []buffer.Record
	// Next is the offset to read next: everything below it and not in Records of
	// this or an earlier Run holds no record to deliver (a control marker, an
	// aborted or compacted record).
	Next int64
	// Gaps are those offsets, in their order, as far as the source knows of them.
	// They lie between the Next of the Run before and this one's. Their memory is
	// the source's, too.
	Gaps []Gap
}

// Gap is a run of offsets that hold no record to deliver: From belongs to it, To
// does not.
type Gap struct {
	From, To int64
	Why      GapReason
}

// GapReason says why offsets hold no record to deliver.
type GapReason uint8

const (
	// GapHole: there is nothing. Compaction leaves holes. The zero GapReason.
	GapHole GapReason = iota
	// GapControl: the marker at the end of a transaction.
	GapControl
	// GapAborted: records of a transaction that was aborted.
	GapAborted
	// GapRetention: what was there was removed before it was read.
	GapRetention
)

// Source yields one partition in offset order. Next and Commit may be called
// from two goroutines at a time; neither is called twice at a time.
type Source interface {
	// Start is the offset that the first Run begins at, or would if a record were
	// there: everything below it is settled already.
	Start() int64
	// Next waits until there is something to take or ctx is done. The Run and the
	// memory it aliases are the caller's until its following call of Next. io.EOF
	// ends a bounded replay; live reading never ends by itself.
	Next(ctx context.Context) (Run, error)
	// Commit says that everything below p.Next is settled and need not be read
	// again. It returns at once; the source makes it durable soon after.
	Commit(p Progress)
	// End is the offset behind the partition's last record, as last heard; -1
	// while nothing was heard.
	End() int64
}

// Progress says how far a lane is.
type Progress struct {
	// Next is the offset below which everything is settled.
	Next int64
	// Mark is the end of the last Run that is settled as a whole, or the source's
	// Start: never above Next. A source that has something to remember of each Run
	// commits at its Mark.
	Mark int64
	// Tally is what became of the records from Start up to Mark.
	Tally Tally
}

// Tally counts settled records by what became of them.
type Tally struct {
	Delivered    int64 // acknowledged by the sink, Duplicates and Quarantined included
	Duplicates   int64 // of Delivered: the sink held them already
	Quarantined  int64 // of Delivered: stored aside by the sink
	Filtered     int64 // dropped by a transform
	DeadLettered int64 // acknowledged by the dead-letter destination
}

func (t *Tally) add(o Tally) {
	t.Delivered += o.Delivered
	t.Duplicates += o.Duplicates
	t.Quarantined += o.Quarantined
	t.Filtered += o.Filtered
	t.DeadLettered += o.DeadLettered
}

// Transform looks at one record before it is batched. It may set what it found
// out (Shape) but alters neither bytes nor coordinates. keep=false drops the
// record, which settles it; an error sends it to the dead-letter destination.
type Transform func(r *buffer.Record) (keep bool, err error)
