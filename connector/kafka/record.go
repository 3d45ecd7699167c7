package kafka

import (
	"encoding/binary"
	"hash/crc32"
)

// record says where in its batch's bytes a record, or a message of the formats
// before it, lies. All that is needed to hand it out is here, so that its bytes
// are not touched again before they are used.
type record struct {
	offset  int64 // to be added to the batch's
	at      int64 // the same, in milliseconds
	key     span
	value   span
	headers span
	count   int32 // of headers
}

// recordCost is what a record takes beside its bytes.
const recordCost = 48

// span is a part of a batch's bytes; from -1: null.
type span struct{ from, to int32 }

func (s span) of(data []byte) []byte {
	if s.from < 0 {
		return nil
	}
	return data[s.from:s.to:s.to]
}

// nextRecord reads the record at a place in data, and says where the next one
// begins (format 2, since Kafka 0.11:
// https://kafka.apache.org/documentation/#record).
func nextRecord(data []byte, at int) (r record, next int, ok bool) {
	size, at, ok := varint(data, at)
	if !ok || size < 1 || size > int64(len(data)-at) {
		return record{}, 0, false
	}
	next = at + int(size)
	data = data[:next]
	at++ // attributes, of which none is used
	if r.at, at, ok = varint(data, at); !ok {
		return record{}, 0, false
	}
	if r.offset, at, ok = varint(data, at); !ok {
		return record{}, 0, false
	}
	if r.key, at, ok = sized(data, at); !ok {
		return record{}, 0, false
	}
	if r.value, at, ok = sized(data, at); !ok {
		return record{}, 0, false
	}
	count, at, ok := varint(data, at)
	// A header takes two bytes at least. Less than none is none, as for other
	// clients.
	if !ok || count > int64(len(data)-at)/2 {
		return record{}, 0, false
	}
	r.count, r.headers = int32(max(count, 0)), span{int32(at), int32(next)}
	return r, next, true
}

// nextHeader reads the header at a place in data, and says where the next one
// begins.
func nextHeader(data []byte, at int) (key, value span, next int, ok bool) {
	if key, at, ok = sized(data, at); !ok {
		return span{}, span{}, 0, false
	}
	value, next, ok = sized(data, at)
	return key, value, next, ok
}

// sized reads bytes with their length before them; length -1 is null.
func sized(data []byte, at int) (s span, next int, ok bool) {
	size, at, ok := varint(data, at)
	if !ok || size < -1 || size > int64(len(data)-at) {
		return span{}, 0, false
	}
	if size < 0 {
		return span{-1, -1}, at, true
	}
	next = at + int(size)
	return span{int32(at), int32(next)}, next, true
}

// varint reads a zigzag varint. Most take a byte or two.
func varint(data []byte, at int) (v int64, next int, ok bool) {
	b := data[at:]
	switch {
	case len(b) > 0 && b[0] < 0x80:
		return int64(b[0]>>1) ^ -int64(b[0]&1), at + 1, true
	case len(b) > 1 && b[1] < 0x80:
		u := int64(b[0]&0x7f) | int64(b[1])<<7
		return u>>1 ^ -(u & 1), at + 2, true
	}
	v, n := binary.Varint(b)
	return v, at + n, n > 0
}

// parseRecords reads the n records that data must hold, and nothing else, in the
// order of their offsets, the last of which is at most end. It reports the most
// headers that one of them has.
func parseRecords(data []byte, n int, end int64) (records []record, headers int, ok bool) {
	records = make([]record, n)
	last, at := int64(-1), 0
	for i := range records {
		r, next, ok := nextRecord(data, at)
		if !ok || r.offset <= last || r.offset > end {
			return nil, 0, false
		}
		at = int(r.headers.from)
		for range r.count {
			if _, _, at, ok = nextHeader(data[:next], at); !ok {
				return nil, 0, false
			}
		}
		if at != next {
			return nil, 0, false
		}
		records[i], last, headers = r, r.offset, max(headers, int(r.count))
	}
	return records, headers, at == len(data)
}

// message is a record of the formats 0 and 1, from before Kafka 0.11
// (https://kafka.apache.org/documentation/#messageset).
type message struct {
	record
	magic      int8
	codec      int8 // its value holds messages, compressed
	appendTime bool // its time is when the broker wrote it
}

// nextMessage reads the message at a place in data, and says where the next one
// begins.
func nextMessage(data []byte, at int) (m message, next int, ok bool) {
	if len(data)-at < entryHead {
		return message{}, 0, false
	}
	size := int64(int32(binary.BigEndian.Uint32(data[at+8:]))) + 12
	if size < entryHead || size > int64(len(data)-at) || data[at+16] > 1 {
		return message{}, 0, false
	}
	next = at + int(size)
	d := fields{b: data[at:next]}
	m.offset = d.int64()
	d.int32() // length
	sum := uint32(d.int32())
	ok = sum == crc32.ChecksumIEEE(d.b)
	flags := uint16(d.int16())
	m.magic, m.codec = int8(flags>>8), int8(flags&7)
	m.appendTime = m.magic == 1 && flags&8 != 0
	m.at = -1
	if m.magic == 1 {
		m.at = d.int64()
	}
	nullable := func() span {
		size := d.int32()
		from := int32(next - len(d.b))
		if size == -1 {
			return span{-1, -1}
		}
		d.take(int(size))
		return span{from, from + size}
	}
	m.key, m.value = nullable(), nullable()
	return m, next, ok && !d.bad && len(d.b) == 0
}
