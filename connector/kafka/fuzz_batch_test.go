package kafka

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// FuzzBatch: whatever a record batch says of itself, with a right checksum, it
// ends in an error or in records that a lane can take.
func FuzzBatch(f *testing.F) {
	two := append(plainRecord(0, 0, "a", "h"), plainRecord(1, 5, "b")...)
	f.Add(int64(0), int64(0), int16(0), int32(1), int64(1700000000000), int64(1700000000005), int64(-1), int32(2), two, int64(-1), byte(2))
	f.Add(int64(0), int64(0), int16(0x30), int32(0), int64(0), int64(0), int64(7), int32(1), plainRecord(0, 0, ""), int64(0), byte(2))                                      // control
	f.Add(int64(0), int64(0), int16(0x10), int32(1), int64(-1), int64(-1), int64(7), int32(2), two, int64(0), byte(2))                                                      // transactional, aborted
	f.Add(int64(5), int64(0), int16(8), int32(9), int64(1)<<62, int64(1)<<62, int64(7), int32(2), two, int64(-1), byte(2))                                                  // append time
	f.Add(int64(1)<<62, int64(1)<<62, int16(0), int32(1<<30), int64(1)<<62, int64(-9), int64(-1), int32(2), two, int64(1)<<62, byte(2))                                     // far away
	f.Add(int64(0), int64(-5), int16(0), int32(-7), int64(0), int64(0), int64(-1), int32(2), append(plainRecord(9, 0, "x"), plainRecord(3, 0, "y")...), int64(-1), byte(2)) // backwards
	f.Add(int64(0), int64(0), int16(1), int32(0), int64(0), int64(0), int64(-1), int32(1), []byte("\x1f\x8b not gzip"), int64(-1), byte(2))
	f.Add(int64(0), int64(0), int16(4), int32(0), int64(0), int64(0), int64(-1), int32(1), []byte("\x28\xb5\x2f\xfd\x00"), int64(-1), byte(2))
	f.Add(int64(0), int64(0), int16(0), int32(0), int64(0), int64(0), int64(-1), int32(1<<30), two, int64(-1), byte(2))
	f.Add(int64(0), int64(0), int16(0), int32(0), int64(0), int64(0), int64(-1), int32(1), []byte("\x0c\x00\x00\x00\x01\x01\xfe\xff\xff\xff\x0f"), int64(-1), byte(2)) // 2^31 headers
	f.Add(int64(0), int64(0), int16(7), int32(0), int64(0), int64(0), int64(-1), int32(0), []byte{}, int64(-1), byte(1))
	f.Fuzz(func(t *testing.T, from, first int64, attributes int16, last int32, ts, maxTs, producer int64, n int32, records []byte, aborted int64, magic byte) {
		if len(records) > 1<<20 {
			return
		}
		raw := sealed(kmsg.RecordBatch{
			FirstOffset: first, Magic: int8(magic % 4), Attributes: attributes, LastOffsetDelta: last,
			FirstTimestamp: ts, MaxTimestamp: maxTs, ProducerID: producer, NumRecords: n, Records: records,
		})
		var gone []abortedTransaction
		if aborted >= 0 {
			gone = append(gone, abortedTransaction{producer: producer, first: aborted})
		}
		if from < 0 {
			return
		}
		blk := unpacked(from, append(raw, raw...), testMax, testMax, gone...)
		if blk.charge > testMax {
			t.Fatalf("%d bytes are held", blk.charge)
		}
		var size int64
		for _, r := range handedOut(t, blk) {
			size += int64(len(r.Value))
		}
		if size > blk.charge {
			t.Fatalf("%d bytes came of a block that is charged %d", size, blk.charge)
		}
	})
}
