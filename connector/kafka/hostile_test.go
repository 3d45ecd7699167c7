package kafka

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"runtime"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// manyHeaders is one record with n headers without a name and a value.
func manyHeaders(n int) []byte {
	in := []byte{0, 0, 0, 1, 2, 'v'}
	in = binary.AppendVarint(in, int64(n))
	for range n {
		in = append(in, 0, 1)
	}
	return append(binary.AppendVarint(nil, int64(len(in))), in...)
}

// allocated is how many bytes do takes, freed ones included.
func allocated(do func()) int64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	do()
	runtime.ReadMemStats(&after)
	return int64(after.TotalAlloc - before.TotalAlloc)
}

// A few kilobytes hold millions of headers. They are not made before there is
// room for them, and without that the partition stands still and says so.
func TestMillionsOfHeadersCostNoGigabytes(t *testing.T) {
	const headers, limit = 4 << 20, 64 << 20
	raw := sealed(kmsg.RecordBatch{Magic: 2, Attributes: codecZstd, NumRecords: 1, ProducerID: -1, Records: compressed(t, codecZstd, manyHeaders(headers))})
	raw = append(oneRecord(0, "before", nil), sealedAt(1, raw)...)
	var blk *block
	if n := allocated(func() { blk = unpacked(1, raw[len(oneRecord(0, "before", nil)):], testMax, limit) }); n > limit {
		t.Errorf("%d MiB were taken for a batch of %d bytes that is not read", n>>20, len(raw))
	}
	if !errors.As(blk.err, new(*tooLarge)) || !strings.Contains(blk.err.Error(), "offset 1 ") || blk.next != 1 {
		t.Errorf("next %d: %v", blk.next, blk.err)
	}
	if blk := unpacked(0, raw, testMax, limit); len(handedOut(t, blk)) != 1 || blk.next != 1 {
		t.Errorf("the record before it does not come: next %d, %v", blk.next, blk.err)
	}

	// With memory for them they are delivered, every one.
	blk = unpacked(1, raw[len(oneRecord(0, "before", nil)):], testMax, 4*limit)
	if blk.err != nil || blk.charge < headers*headerCost {
		t.Fatalf("charged %d: %v", blk.charge, blk.err)
	}
	var s scratch
	records := blk.run(&s, at("t", 0)).Records
	if len(records) != 1 || len(records[0].Headers) != headers {
		t.Fatalf("%d records", len(records))
	}
	s.forget()
	if cap(s.headers) > 0 {
		t.Error("the reader keeps the memory of the headers")
	}
}

// sealedAt is a batch with another first offset, which its checksum leaves out.
func sealedAt(offset int64, raw []byte) []byte {
	binary.BigEndian.PutUint64(raw, uint64(offset))
	return raw
}

// Many records with many headers each: a run holds no more of them than one
// record has, beyond what any run may hold.
func TestARunIsBoundedByHeadersToo(t *testing.T) {
	const records, headers = 100, 10_000
	var data []byte
	for i := range records {
		in := []byte{0, 0}
		in = binary.AppendVarint(in, int64(i))
		in = append(in, 1, 1)
		in = binary.AppendVarint(in, headers)
		for range headers {
			in = append(in, 0, 1)
		}
		data = append(append(data, binary.AppendVarint(nil, int64(len(in)))...), in...)
	}
	blk := unpacked(0, sealed(kmsg.RecordBatch{Magic: 2, NumRecords: records, LastOffsetDelta: records - 1, ProducerID: -1, Records: data}), 8<<20, 8<<20)
	var s scratch
	for !blk.taken() {
		run := blk.run(&s, at("t", 0)).Records
		if n := len(run) * headers * headerCost; n > runBytes+headers*headerCost {
			t.Fatalf("a run of %d records holds %d bytes of headers", len(run), n)
		}
	}
	if blk.at != records {
		t.Errorf("read up to %d: %v", blk.at, blk.err)
	}
}

// A batch that expands a thousandfold takes no more memory than it may, whatever
// it says of its size.
func TestDecompressionBombsTakeNoMoreThanTheyMay(t *testing.T) {
	bomb := plainRecord(0, 0, strings.Repeat("\x00", 64<<20))
	for codec, name := range codecs {
		if codec == codecNone {
			continue
		}
		t.Run(name, func(t *testing.T) {
			raw := sealed(kmsg.RecordBatch{Magic: 2, Attributes: int16(codec), NumRecords: 1, ProducerID: -1, Records: compressed(t, int16(codec), bomb)})
			var blk *block
			// A decoder's own memory, and twice the limit while it grows. The least of
			// some tries: the race detector makes pools forget what they hold.
			least := int64(math.MaxInt64)
			for range 5 {
				least = min(least, allocated(func() { blk = unpacked(0, raw, testMax/8, 2*testMax) }))
			}
			if least > 24*testMax {
				t.Errorf("%d MiB were taken", least>>20)
			}
			if !errors.As(blk.err, new(*tooLarge)) || blk.charge != 0 {
				t.Errorf("charged %d: %v", blk.charge, blk.err)
			}
			// Without more to be had it waits, and the batch before it comes.
			u := unpacker{batchMax: 2 * testMax}
			p := &partitionAnswer{recordData: append(oneRecord(0, "v", nil), sealedAt(1, raw)...)}
			no := func(int64) bool { return false }
			blk = u.unpack(0, p, testMax, no)
			if blk.err != nil || blk.next != 1 || blk.cut != int64(len(raw)) {
				t.Errorf("next %d, left out %d of %d: %v", blk.next, blk.cut, len(raw), blk.err)
			}
			if blk = u.unpack(1, p, testMax, no); blk.err != nil || blk.short <= testMax || blk.next != 1 {
				t.Errorf("next %d, needs %d: %v", blk.next, blk.short, blk.err)
			}
		})
	}
}

// A batch just as large as it may be is read.
func TestABatchOfExactlyTheLimitIsRead(t *testing.T) {
	for codec, name := range codecs {
		t.Run(name, func(t *testing.T) {
			record := plainRecord(0, 0, strings.Repeat("x", 200_000))
			limit := int64(len(record) + batchCost + recordCost)
			raw := sealed(kmsg.RecordBatch{Magic: 2, Attributes: int16(codec), NumRecords: 1, ProducerID: -1, Records: compressed(t, int16(codec), record)})
			if blk := unpacked(0, raw, 1000, limit); blk.err != nil || blk.charge != limit || len(handedOut(t, blk)) != 1 {
				t.Errorf("charged %d of %d: %v", blk.charge, limit, blk.err)
			}
			if blk := unpacked(0, raw, 1000, limit-1); !errors.As(blk.err, new(*tooLarge)) {
				t.Errorf("a byte more than may be is read: charged %d, %v", blk.charge, blk.err)
			}
		})
	}
}

// What is not a record is told, whatever its bytes say: nothing of it is handed
// out, nothing is read beyond it, and no memory is taken on its word.
func TestRecordsThatLieAreRefused(t *testing.T) {
	good := plainRecord(0, 0, "v", "h")
	long := bytes.Repeat([]byte{0xff}, 10)
	length := func(in ...byte) []byte { return append(binary.AppendVarint(nil, int64(len(in))), in...) }
	for what, lie := range map[string]struct {
		records []byte
		count   int32
		last    int32
	}{
		"nothing at all":              {nil, 1, 0},
		"too many promised":           {good, 2, 1},
		"millions promised":           {good, 1 << 30, 1 << 30},
		"less than none promised":     {good, -1, 0},
		"more than there are offsets": {append(good, good...), 2, 0},
		"bytes behind the last":       {append(good[:len(good):len(good)], 0), 1, 0},
		"an endless length":           {long, 1, 0},
		"a length beyond the end":     {[]byte{0x7e, 0, 0}, 1, 0},
		"a negative length":           {[]byte{0x01, 0, 0}, 1, 0},
		"a length of zero":            {[]byte{0}, 1, 0},
		"an endless time":             {length(append([]byte{0}, long...)...), 1, 0},
		"an endless key length":       {length(append([]byte{0, 0, 0}, long...)...), 1, 0},
		"a key length below null":     {length(0, 0, 0, 3, 1, 0), 1, 0},
		"a value beyond the end":      {length(0, 0, 0, 1, 20, 0), 1, 0},
		"2^31 headers":                {length(0, 0, 0, 1, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f), 1, 0},
		"more headers than bytes":     {length(0, 0, 0, 1, 1, 4, 0, 1), 1, 0},
		"a header beyond the end":     {length(0, 0, 0, 1, 1, 2, 0, 60), 1, 0},
		"bytes behind the headers":    {length(0, 0, 0, 1, 1, 0, 9), 1, 0},
		"the same offset twice":       {append(plainRecord(0, 0, "a"), plainRecord(0, 0, "b")...), 2, 1},
		"offsets backwards":           {append(plainRecord(1, 0, "a"), plainRecord(0, 0, "b")...), 2, 1},
		"an offset beyond the end":    {plainRecord(5, 0, "a"), 1, 0},
		"a negative offset":           {plainRecord(-1, 0, "a"), 1, 0},
	} {
		for codec := range codecs {
			raw := sealed(kmsg.RecordBatch{
				Magic: 2, Attributes: int16(codec), NumRecords: lie.count, LastOffsetDelta: lie.last, ProducerID: -1, Records: compressed(t, int16(codec), lie.records),
			})
			blk := unpacked(0, append(raw, oneRecord(int64(lie.last)+1, "behind", nil)...), testMax, testMax)
			if blk.err == nil || blk.next != 0 || len(blk.batches) > 0 {
				t.Errorf("%s, %s: next %d, %d batches", what, codecs[codec], blk.next, len(blk.batches))
			}
		}
	}
	if blk := unpacked(0, sealed(kmsg.RecordBatch{Magic: 2, NumRecords: 1, ProducerID: -1, Records: good}), testMax, testMax); len(handedOut(t, blk)) != 1 {
		t.Errorf("the record that the others are made of is refused: %v", blk.err)
	}
}

// A message in a wrapper that is damaged, cut off, or another wrapper.
func TestWrappersThatLieAreRefused(t *testing.T) {
	one, two := oldMessage(1, 0, 0, 0, nil, []byte("a")), oldMessage(1, 0, 1, 0, nil, []byte("b"))
	spoilt := bytes.Clone(two)
	spoilt[len(spoilt)-1] ^= 1
	for what, inner := range map[string][]byte{
		"cut off":   append(bytes.Clone(one), two[:20]...),
		"damaged":   append(bytes.Clone(one), spoilt...),
		"backwards": append(bytes.Clone(two), one...),
		"wrapped":   oldMessage(1, codecGzip, 0, 0, nil, compressed(t, codecGzip, one)),
	} {
		blk := unpacked(0, oldMessage(1, codecGzip, 1, 0, nil, compressed(t, codecGzip, inner)), testMax, testMax)
		if blk.err == nil || blk.next != 0 {
			t.Errorf("%s: next %d", what, blk.next)
		}
	}
}

// sarama took a batch with more records than compressed bytes for one that is
// cut off, and waited for more.
func TestABatchWithMoreRecordsThanBytesIsRead(t *testing.T) {
	_, o := fakeCluster(t, kfake.SeedTopics(1, "t"))
	cl := client(t, o, kgo.ProducerBatchCompression(kgo.ZstdCompression()))
	records := make([]*kgo.Record, 20_000)
	for i := range records {
		records[i] = &kgo.Record{Topic: "t"}
	}
	write(t, cl, records...)
	if got := readUntil(t, newTestFetcher(t, o, 8<<20).Add(at("t", 0), 0), int64(len(records))); len(got) != len(records) {
		t.Errorf("%d records of %d", len(got), len(records))
	}
}

// A batch that no answer can hold stops its partition, and no other.
func TestAnAnswerThatIsTooLongStopsItsPartitionAlone(t *testing.T) {
	c, o := fakeCluster(t, kfake.SeedTopics(2, "t"))
	huge := make([]byte, maxAnswer+1)
	c.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		return serve(req.(*kmsg.FetchRequest), 4, func(partition int32, from int64) []byte {
			if partition == 1 {
				return huge
			}
			if from == 4 {
				return nil
			}
			return oneRecord(from, fmt.Sprint(from), nil)
		}), nil, true
	})
	f := newTestFetcher(t, o, 8<<20)
	bad, good := f.Add(at("t", 1), 0), f.Add(at("t", 0), 0)
	wantNumbers(t, readUntil(t, good, 4), 0, 4)
	eventually(t, "the batch is told of", func() bool {
		_, err := bad.Trouble()
		return errors.Is(err, errAnswerSize) && strings.Contains(err.Error(), "offset 0 ")
	})
}

// What a producer rolled back is not even decompressed.
func TestAbortedBatchesAreNotDecompressed(t *testing.T) {
	raw := sealed(kmsg.RecordBatch{Magic: 2, Attributes: codecGzip | flagsTransactional, NumRecords: 1, ProducerID: 7, Records: []byte("not gzip")})
	raw = append(raw, oneRecord(1, "v", nil)...)
	blk := unpacked(0, raw, testMax, testMax, abortedTransaction{producer: 7, first: 0})
	if got := handedOut(t, blk); blk.err != nil || len(got) != 1 || got[0].Offset != 1 {
		t.Errorf("%d records: %v", len(got), blk.err)
	}
	if blk := unpacked(0, raw, testMax, testMax); blk.err == nil {
		t.Error("the same batch of a transaction that was not rolled back is passed over")
	}
}
