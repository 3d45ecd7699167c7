package kafka

import (
	"time"

	"weir/buffer"
	"weir/connector"
)

// block is what one fetch brought of one partition, and how much of it was
// taken.
type block struct {
	at, next int64 // the next offset to hand out, and the one behind what came

	charge int64 // the number of bytes it holds in memory
	giant  bool  // see fetcher.giant

	batches []batch         // those that are left
	hidden  []connector.Gap // what lies between them and is not to be delivered, as far as it was seen

	wire    int64 // the size of its batches as they came
	largest int64 // what its largest batch is charged with
	cut     int64 // the size of the batch behind its last one, as it comes; 0: not known
	short   int64 // that batch needs that much memory at least, and there was none; 0: not known
	err     error // why the batch behind its last one cannot be read
}

// pass moves the end of what came.
func (b *block) pass(end int64) { b.next = max(b.next, end) }

// hide notes that what came from offset from on and below to is not to be
// delivered. Holes are found when records are handed out.
func (b *block) hide(from, to int64, why connector.GapReason) {
	if why != connector.GapHole {
		b.hidden = appendGap(b.hidden, connector.Gap{From: max(from, b.at), To: to, Why: why})
	}
}

func (b *block) taken() bool { return len(b.batches) == 0 }

// runRecords and runBytes bound what is handed out in one go, so that lanes can
// admit it piece by piece.
const (
	runRecords = 1000
	runBytes   = 256 << 10
)

// scratch is memory that one reader uses for each of its runs.
type scratch struct {
	records []buffer.Record
	gaps    []connector.Gap
	headers []buffer.Header
	names   map[string]string // header keys seen: there are few, and each is a string of its own otherwise
}

// forget lets go of what the last runs held: they alias whole batches.
func (s *scratch) forget() {
	clear(s.records[:cap(s.records)])
	clear(s.headers[:cap(s.headers)])
	if cap(s.headers)*headerCost > runBytes {
		s.headers = nil
	}
}

// run hands out the block's next records, and the offset behind them and behind
// what followed them and is not to be delivered.
func (b *block) run(s *scratch, origin *buffer.Origin) connector.Run {
	s.records, s.headers, s.gaps = s.records[:0], s.headers[:0], s.gaps[:0]
	next := b.at
	size := 0
	for len(b.batches) > 0 {
		from := &b.batches[0]
		for i := range from.records {
			if len(s.records) >= runRecords || size >= runBytes {
				from.records = from.records[i:]
				b.at = next
				return connector.Run{Records: s.records, Next: next, Gaps: s.gaps}
			}
			r := &from.records[i]
			offset, at := from.base+r.offset, from.at
			if offset < next {
				continue // a batch can begin before the offset that was asked for
			}
			if offset > next {
				b.gap(s, next, offset)
			}
			if !from.atOnce {
				at += r.at
			}
			key, value := r.key.of(from.data), r.value.of(from.data)
			s.records = append(s.records, buffer.Record{
				Origin: origin, Offset: offset, Time: utc(at), Appended: from.appended, Key: key, Value: value, Headers: s.take(from.data, r),
			})
			size += len(key) + len(value) + int(r.headers.to-r.headers.from) + int(r.count)*headerCost
			next = offset + 1
		}
		if from.end > next {
			b.gap(s, next, from.end)
			next = from.end
		}
		b.batches[0] = batch{}
		b.batches = b.batches[1:]
	}
	if b.next > next {
		b.gap(s, next, b.next)
		next = b.next
	}
	b.at = next
	return connector.Run{Records: s.records, Next: next, Gaps: s.gaps}
}

// gap says why offsets from from on and below to hold nothing to deliver: what
// was hidden there, and else holes.
func (b *block) gap(s *scratch, from, to int64) {
	for from < to {
		g := connector.Gap{From: from, To: to}
		if len(b.hidden) > 0 {
			switch h := &b.hidden[0]; {
			case h.To <= from:
				b.hidden = b.hidden[1:]
				continue
			case h.From <= from:
				g.To, g.Why = min(h.To, to), h.Why
			default:
				g.To = min(h.From, to)
			}
		}
		s.gaps = appendGap(s.gaps, g)
		from = g.To
	}
}

// appendGap makes gaps that touch and have one reason one.
func appendGap(list []connector.Gap, g connector.Gap) []connector.Gap {
	if n := len(list); n > 0 && list[n-1].To == g.From && list[n-1].Why == g.Why {
		list[n-1].To = g.To
		return list
	}
	return append(list, g)
}

// utc is a time in milliseconds of the Unix clock; one before 1970 counts as
// none.
func utc(ms int64) time.Time {
	if ms < 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// maxNames bounds the header keys that are kept: they are the producers' choice.
const maxNames = 256

// take makes a record's headers.
func (s *scratch) take(data []byte, r *record) []buffer.Header {
	if r.count == 0 {
		return nil
	}
	if s.names == nil {
		s.names = make(map[string]string)
	}
	start := len(s.headers)
	if cap(s.headers)-start < int(r.count) {
		// What was handed out before in this run keeps the memory it has.
		s.headers, start = make([]buffer.Header, 0, max(int(r.count), 2*cap(s.headers))), 0
	}
	at := int(r.headers.from)
	for range r.count {
		var key, value span
		key, value, at, _ = nextHeader(data, at) // found whole when it came
		name, ok := s.names[string(key.of(data))]
		if !ok {
			name = string(key.of(data))
			if len(s.names) < maxNames && len(name) <= 256 {
				s.names[name] = name
			}
		}
		s.headers = append(s.headers, buffer.Header{Key: name, Value: value.of(data)})
	}
	return s.headers[start:len(s.headers):len(s.headers)]
}
