package kafka

import (
	"math"
	"reflect"
	"slices"
	"time"

	"github.com/IBM/sarama"

	"weir/buffer"
)

// block is what one fetch brought of one partition, and how much of it was
// taken.
type block struct {
	at, next int64 // the next offset to hand out, and the one behind what came

	// charge is the number of bytes it holds in memory.
	charge int64
	giant  bool // see fetcher.giant

	sets    []*sarama.Records
	aborted []*sarama.AbortedTransaction // by first offset; those still ahead of the cursor
	open    map[int64]bool               // producers with an aborted transaction at the cursor

	set, rec, sub int // the cursor: batch, record in it, message in a wrapped one
}

// sarama allocates these beside the bytes of the batch: a Record and its pointer,
// a RecordHeader and its pointer.
const (
	recordCost = 136
	headerCost = 56
)

// newBlock takes over what a fetch brought. It reports the bytes of keys, values
// and headers separately, since those are what compression acts upon.
func newBlock(from int64, b *sarama.FetchResponseBlock) (blk *block, payload int64) {
	blk = &block{at: from, next: from, aborted: b.AbortedTransactions}
	slices.SortFunc(blk.aborted, func(x, y *sarama.AbortedTransaction) int {
		return int(min(max(x.FirstOffset-y.FirstOffset, -1), 1))
	})
	for _, set := range b.RecordsSet {
		if batch := set.RecordBatch; batch != nil {
			if batch.PartialTrailingRecord {
				continue // cut off by the size that was asked for
			}
			blk.next = max(blk.next, batch.LastOffset()+1)
			for _, r := range batch.Records {
				payload += int64(len(r.Key)+len(r.Value)) + 12
				blk.charge += recordCost
				for _, h := range r.Headers {
					payload += int64(len(h.Key)+len(h.Value)) + 2
					blk.charge += headerCost
				}
			}
		}
		if set.MsgSet != nil {
			for _, m := range set.MsgSet.Messages {
				blk.next = max(blk.next, m.Offset+1)
				for _, inner := range m.Messages() {
					payload += int64(len(inner.Msg.Key)+len(inner.Msg.Value)) + 26
					blk.charge += recordCost
				}
			}
		}
		blk.sets = append(blk.sets, set)
	}
	if len(b.RecordsSet) == 0 && !b.Partial {
		blk.next = max(blk.next, behindEmptyBatches(b))
	}
	blk.charge += payload
	return blk, payload
}

// behindEmptyBatches is, for an answer without any record, the offset behind the
// batches in it, 0 when there were none. Compaction can leave batches without a
// record. sarama keeps them from us but notes the offset behind them, in a field
// it does not export; without it a reader would ask for the same empty batch for
// ever. In an answer with records the field is of no use: it may be the offset
// behind a batch that was cut off.
func behindEmptyBatches(b *sarama.FetchResponseBlock) int64 {
	f := reflect.ValueOf(b).Elem().FieldByName("recordsNextOffset")
	if !f.IsValid() || f.Kind() != reflect.Pointer || f.IsNil() {
		return 0
	}
	return f.Elem().Int()
}

// detach copies keys, values and headers into memory of the block's own. The
// records of an uncompressed batch alias the whole fetch answer, which would
// otherwise live as long as the slowest partition in it.
func (b *block) detach() {
	for _, set := range b.sets {
		batch := set.RecordBatch
		if batch == nil || batch.Codec != sarama.CompressionNone {
			continue
		}
		n := 0
		for _, r := range batch.Records {
			n += len(r.Key) + len(r.Value)
			for _, h := range r.Headers {
				n += len(h.Key) + len(h.Value)
			}
		}
		slab := make([]byte, 0, n)
		keep := func(p []byte) []byte {
			if p == nil {
				return nil
			}
			at := len(slab)
			slab = append(slab, p...)
			return slab[at:len(slab):len(slab)]
		}
		for _, r := range batch.Records {
			r.Key, r.Value = keep(r.Key), keep(r.Value)
			for _, h := range r.Headers {
				h.Key, h.Value = keep(h.Key), keep(h.Value)
			}
		}
	}
}

func (b *block) taken() bool { return b.set == len(b.sets) }

// runRecords and runBytes bound what is handed out in one go, so that lanes can
// admit it piece by piece.
const (
	runRecords = 1000
	runBytes   = 256 << 10
)

// scratch is memory that one reader uses for each of its runs.
type scratch struct {
	records []buffer.Record
	headers []buffer.Header
	names   map[string]string // header keys seen: there are few, and each is a string of its own otherwise
}

// forget lets go of what the last runs held: they alias whole batches.
func (s *scratch) forget() {
	clear(s.records[:cap(s.records)])
	clear(s.headers[:cap(s.headers)])
}

// run hands out the block's next records, and the offset behind them and behind
// what followed them and is not to be delivered: control records, aborted ones.
func (b *block) run(s *scratch, origin *buffer.Origin) (records []buffer.Record, next int64) {
	s.records, s.headers = s.records[:0], s.headers[:0]
	next = b.at
	size := 0
	for b.set < len(b.sets) {
		set := b.sets[b.set]
		var more bool
		if set.RecordBatch != nil {
			next, more = b.batch(s, origin, set.RecordBatch, next, &size)
		} else {
			next, more = b.messages(s, origin, set.MsgSet, next, &size)
		}
		if more {
			b.at = next
			return s.records, next
		}
		b.set, b.rec, b.sub = b.set+1, 0, 0
	}
	b.at = max(next, b.next)
	return s.records, b.at
}

func full(s *scratch, size int) bool { return len(s.records) >= runRecords || size >= runBytes }

// batch hands out records of one batch from the cursor on; more says that some
// are left.
func (b *block) batch(s *scratch, origin *buffer.Origin, batch *sarama.RecordBatch, next int64, size *int) (int64, bool) {
	end := max(next, batch.LastOffset()+1)
	if b.rec == 0 && !b.delivers(batch) {
		return end, false
	}
	for ; b.rec < len(batch.Records); b.rec++ {
		if full(s, *size) {
			return next, true
		}
		r := batch.Records[b.rec]
		offset := batch.FirstOffset + r.OffsetDelta
		if offset < next || offset == math.MaxInt64 {
			continue // a batch can begin before the offset that was asked for
		}
		at := batch.FirstTimestamp
		if batch.LogAppendTime {
			at = batch.MaxTimestamp
		} else if !at.IsZero() {
			at = at.Add(r.TimestampDelta)
		}
		s.add(buffer.Record{Origin: origin, Offset: offset, Time: utc(at), Key: r.Key, Value: r.Value, Headers: s.header(r.Headers)})
		*size += len(r.Key) + len(r.Value)
		next = offset + 1
	}
	// A batch whose records go beyond the end it gives is damaged; the position
	// falls back for none.
	return max(end, next), false
}

// delivers reports whether a batch holds records to deliver, and keeps account of
// the aborted transactions: the broker lists where each begins, a control batch
// says where it ends.
func (b *block) delivers(batch *sarama.RecordBatch) bool {
	for len(b.aborted) > 0 && b.aborted[0].FirstOffset <= batch.LastOffset() {
		if b.open == nil {
			b.open = make(map[int64]bool)
		}
		b.open[b.aborted[0].ProducerID] = true
		b.aborted = b.aborted[1:]
	}
	if batch.Control {
		if isAbort(batch) {
			delete(b.open, batch.ProducerID)
		}
		return false
	}
	return !batch.IsTransactional || !b.open[batch.ProducerID]
}

// isAbort reads the key of a control record: version and type, two bytes each;
// type 0 is an abort (KIP-98).
func isAbort(batch *sarama.RecordBatch) bool {
	if len(batch.Records) == 0 {
		return false
	}
	key := batch.Records[0].Key
	return len(key) >= 4 && key[2] == 0 && key[3] == 0
}

// messages is batch for the message sets that were written before Kafka 0.11. A
// compressed set is one message that wraps others.
func (b *block) messages(s *scratch, origin *buffer.Origin, set *sarama.MessageSet, next int64, size *int) (int64, bool) {
	for ; b.rec < len(set.Messages); b.rec, b.sub = b.rec+1, 0 {
		outer := set.Messages[b.rec]
		inner := outer.Messages()
		for ; b.sub < len(inner); b.sub++ {
			if full(s, *size) {
				return next, true
			}
			m := inner[b.sub]
			offset, at := m.Offset, m.Msg.Timestamp
			if m.Msg.Version >= 1 {
				// Offsets in a wrapper are relative, and the wrapper has the last one's.
				offset += outer.Offset - inner[len(inner)-1].Offset
				if m.Msg.LogAppendTime {
					at = outer.Msg.Timestamp
				}
			}
			if offset < next || offset == math.MaxInt64 {
				continue
			}
			s.add(buffer.Record{Origin: origin, Offset: offset, Time: utc(at), Key: m.Msg.Key, Value: m.Msg.Value})
			*size += len(m.Msg.Key) + len(m.Msg.Value)
			next = offset + 1
		}
		next = max(next, outer.Offset+1)
	}
	return next, false
}

func utc(t time.Time) time.Time {
	if t.IsZero() || t.UnixMilli() < 0 {
		return time.Time{}
	}
	return t.UTC()
}

func (s *scratch) add(r buffer.Record) { s.records = append(s.records, r) }

// maxNames bounds the header keys that are kept: they are the producers' choice.
const maxNames = 256

func (s *scratch) header(headers []*sarama.RecordHeader) []buffer.Header {
	if len(headers) == 0 {
		return nil
	}
	if s.names == nil {
		s.names = make(map[string]string)
	}
	at := len(s.headers)
	for _, h := range headers {
		name, ok := s.names[string(h.Key)]
		if !ok {
			name = string(h.Key)
			if len(s.names) < maxNames && len(name) <= 256 {
				s.names[name] = name
			}
		}
		s.headers = append(s.headers, buffer.Header{Key: name, Value: h.Value})
	}
	return s.headers[at:len(s.headers):len(s.headers)]
}
