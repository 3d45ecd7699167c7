package kafka

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"

	"weir/connector"
)

// batch is some records of one partition, decompressed, in memory of its own.
type batch struct {
	data    []byte
	records []record // those that are left
	base    int64    // to be added to each record's offset
	end     int64    // the offset behind it
	at      int64    // to be added to each record's time
	atOnce  bool     // at is the time of all of them; below 0: they have none
	until   int64    // the latest of them, as the batch says it
	// appended: the broker set their times.
	appended bool
}

// unpacker makes blocks of what a broker sent. It is one goroutine's.
type unpacker struct {
	inflater
	batchMax int64 // the most memory that a block may take

	// Those of the block at hand.
	free    int64              // what it may hold
	more    func(n int64) bool // asks for n bytes beyond that
	aborted []abortedTransaction
	open    map[int64]bool // producers with an aborted transaction at the cursor
}

// Bounds and costs in bytes.
const (
	entryHead  = 17 // offset, length, checksum or epoch, and format: alike in all formats
	batchHead  = 61
	batchCost  = 128 // a batch takes beside its records
	headerCost = 40  // a header takes beside its value when it is handed out
)

// damage says what is wrong with a batch.
type damage struct {
	offset int64 // the batch's first
	err    error
}

func (e *damage) Error() string {
	return fmt.Sprintf("the batch at offset %d cannot be read, nothing is skipped: %v", e.offset, e.err)
}

func (e *damage) Unwrap() error { return e.err }

var crcTable = crc32.MakeTable(crc32.Castagnoli)

// unpack takes over what came of a partition from an offset on, in memory of its
// own: as much of it as fits into free bytes. For the first batch alone more is
// asked for if it needs more; one that gets it not is left to the next time.
//
// The block says what ended it before the end of raw: a batch that was cut off
// or left out, or one that is damaged.
func (u *unpacker) unpack(from int64, p *partitionAnswer, free int64, more func(n int64) bool) *block {
	blk := &block{at: from, next: from}
	u.free, u.more, u.aborted, u.open = min(free, u.batchMax), more, p.aborted, nil
	slices.SortFunc(u.aborted, func(x, y abortedTransaction) int { return cmp.Compare(x.first, y.first) })
	for raw := p.recordData; len(raw) > 0; {
		if len(raw) < entryHead {
			break // cut off by the size that was asked for
		}
		offset, size := int64(binary.BigEndian.Uint64(raw)), int64(int32(binary.BigEndian.Uint32(raw[8:])))+12
		if size < entryHead {
			blk.err = &damage{offset, fmt.Errorf("it says that it is %d bytes long", size-12)}
			break
		}
		if size > int64(len(raw)) {
			blk.cut = size
			break
		}
		entry, magic := raw[:size], int8(raw[16])
		var err error
		switch magic {
		case 2:
			err = u.batch(blk, entry)
		case 0, 1:
			err = u.messages(blk, entry)
		default:
			err = fmt.Errorf("its format is %d, which is not known", magic)
		}
		if errors.Is(err, errNoRoom) {
			blk.cut = size
			break
		}
		if err != nil {
			blk.err = &damage{offset, err}
			break
		}
		blk.wire += size
		raw = raw[size:]
	}
	return blk
}

// A batch's attributes.
const (
	flagsCodec         = 7
	flagsAppendTime    = 1 << 3
	flagsTransactional = 1 << 4
	flagsControl       = 1 << 5
)

// batch adds a record batch (format 2).
func (u *unpacker) batch(blk *block, entry []byte) error {
	if len(entry) < batchHead {
		return fmt.Errorf("it is %d bytes long", len(entry))
	}
	d := fields{b: entry}
	first := d.int64()
	d.take(9) // length, leader epoch, format
	if sum, is := uint32(d.int32()), crc32.Checksum(d.b, crcTable); sum != is {
		return fmt.Errorf("its checksum is %08x, it should be %08x", is, sum)
	}
	flags, lastDelta := d.int16(), d.int32()
	firstTime, maxTime, producer := d.int64(), d.int64(), d.int64()
	d.take(6) // producer epoch, first sequence
	count := d.int32()
	end := first + int64(lastDelta) + 1
	if lastDelta < 0 || first < 0 || end < first {
		return fmt.Errorf("its last offset is %d below its first", -int64(lastDelta))
	}
	if count < 0 || int64(count) > int64(lastDelta)+1 {
		return fmt.Errorf("it says that it has %d records, up to offset %d", count, end-1)
	}
	if end <= blk.at {
		return nil // all of it lies before what was asked for
	}
	why, skipped := u.skips(flags, first, end, producer, d.b)
	if skipped || count == 0 {
		blk.hide(first, end, why)
		blk.pass(end)
		return nil
	}
	b := batch{base: first, end: end, at: firstTime, atOnce: firstTime < 0, until: maxTime}
	if flags&flagsAppendTime != 0 {
		b.at, b.atOnce, b.appended = maxTime, true, true
	}
	return u.add(blk, b, int8(flags&flagsCodec), d.b, func(data []byte) (records []record, headers int, err error) {
		// A record takes seven bytes at least.
		ok := int64(count) <= int64(len(data))/7
		if ok {
			if err := u.fit(blk, int64(batchCost+len(data))+int64(count)*recordCost); err != nil {
				return nil, 0, err
			}
			records, headers, ok = parseRecords(data, int(count), int64(lastDelta))
		}
		if !ok {
			return nil, 0, fmt.Errorf("its %d bytes are not the %d records they should be", len(data), count)
		}
		return records, headers, nil
	})
}

// skips reports whether a batch's records are not to be delivered, and why, and
// keeps account of the aborted transactions: the broker lists where each begins, a
// control batch says where it ends.
func (u *unpacker) skips(flags int16, first, end, producer int64, data []byte) (connector.GapReason, bool) {
	for len(u.aborted) > 0 && u.aborted[0].first < end {
		if u.open == nil {
			u.open = make(map[int64]bool)
		}
		u.open[u.aborted[0].producer] = true
		u.aborted = u.aborted[1:]
	}
	if flags&flagsControl != 0 {
		// The key of a control record: version and type, two bytes each; type 0 is an
		// abort (KIP-98).
		if r, _, ok := nextRecord(data, 0); ok {
			if key := r.key.of(data); len(key) >= 4 && key[2] == 0 && key[3] == 0 {
				delete(u.open, producer)
			}
		}
		return connector.GapControl, true
	}
	if flags&flagsTransactional != 0 && u.open[producer] {
		return connector.GapAborted, true
	}
	return connector.GapHole, false // one without records is what compaction left
}

// messages adds a message of the formats 0 and 1: a single one, or one that wraps
// others, compressed.
func (u *unpacker) messages(blk *block, entry []byte) error {
	outer, _, ok := nextMessage(entry, 0)
	if !ok {
		return errors.New("it is not a whole message, or its checksum is wrong")
	}
	b := batch{end: outer.offset + 1, until: outer.at, appended: outer.appendTime}
	if b.end < 1 {
		return errors.New("its offset is below zero")
	}
	if b.end <= blk.at {
		return nil
	}
	if outer.codec == codecNone {
		return u.add(blk, b, codecNone, entry, func([]byte) ([]record, int, error) { return []record{outer.record}, 0, nil })
	}
	if outer.appendTime {
		b.at, b.atOnce = outer.at, true
	}
	err := u.add(blk, b, outer.codec, outer.value.of(entry), func(data []byte) (records []record, headers int, err error) {
		last := int64(-1)
		for at := 0; at < len(data); {
			inner, next, ok := nextMessage(data, at)
			if !ok || inner.codec != codecNone || inner.offset <= last {
				return nil, 0, fmt.Errorf("%d of its bytes are not the messages they should be", len(data)-at)
			}
			records = append(records, inner.record)
			at, last = next, inner.offset
		}
		return records, 0, nil
	})
	if err != nil || outer.magic == 0 || len(blk.batches) == 0 {
		return err
	}
	// Offsets in a wrapper are relative, and the wrapper has the last one's.
	if inside := &blk.batches[len(blk.batches)-1]; len(inside.records) > 0 {
		inside.base = outer.offset - inside.records[len(inside.records)-1].offset
	}
	return nil
}

// add adds b with the records that parse finds in src, once decompressed; parse
// reports the most headers that one of them has, too.
//
// Errors: errNoRoom when it has to wait; *tooLarge; parse's and the codec's.
func (u *unpacker) add(blk *block, b batch, codec int8, src []byte, parse func(data []byte) (records []record, headers int, err error)) error {
	data := src
	for codec != codecNone {
		free := u.free - blk.charge
		var err error
		if data, err = u.inflate(codec, src, max(free-batchCost, 0)); err == nil {
			break
		}
		if !errors.Is(err, errNoRoom) {
			return err
		}
		// How much it needs is not known before it is had.
		want := max(2*free, minOut)
		if free < u.batchMax {
			want = min(want, u.batchMax)
		}
		if err := u.fit(blk, want); err != nil {
			return err
		}
	}
	records, headers, err := parse(data)
	if err != nil {
		return err
	}
	cost := int64(batchCost + len(data) + len(records)*recordCost + headers*headerCost)
	if err := u.fit(blk, cost); err != nil {
		return err
	}
	b.data, b.records = append([]byte(nil), data...), records
	blk.batches = append(blk.batches, b)
	blk.charge += cost
	blk.largest = max(blk.largest, cost)
	blk.pass(b.end)
	return nil
}

// fit makes sure that there is room for n bytes more.
//
// Errors: errNoRoom when it has to wait, *tooLarge when it will never fit.
func (u *unpacker) fit(blk *block, n int64) error {
	switch {
	case blk.charge+n <= u.free:
		return nil
	case blk.charge > 0:
		return errNoRoom // a block that holds a batch is worth handing out
	case n > u.batchMax:
		return &tooLarge{u.batchMax}
	case !u.more(n - u.free):
		blk.short = n
		return errNoRoom
	}
	u.free = n
	return nil
}

// tooLarge: a batch takes more memory than any may.
type tooLarge struct{ limit int64 }

func (e *tooLarge) Error() string {
	return fmt.Sprintf("decompressed and with its headers it takes more than %d MiB of memory, which follows from `memory`", e.limit>>20)
}
