package kafka

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/snappy/xerial"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"weir/buffer"
)

// compressed is data as a producer would compress it.
func compressed(t testing.TB, codec int16, data []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	var err error
	switch codec {
	case codecNone:
		return data
	case codecGzip:
		w := gzip.NewWriter(&out)
		_, err = w.Write(data)
		_ = w.Close()
	case codecSnappy:
		return xerial.Encode(nil, data)
	case codecLZ4:
		w := lz4.NewWriter(&out)
		_, err = w.Write(data)
		_ = w.Close()
	case codecZstd:
		var w *zstd.Encoder
		if w, err = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1)); err == nil {
			return w.EncodeAll(data, nil)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

var codecs = []string{"none", "gzip", "snappy", "lz4", "zstd"}

// saramas records are what sarama makes of the records of partition 0.
func saramasRecords(t *testing.T, raw []byte) []buffer.Record {
	t.Helper()
	resp := saramas(t, answerOf(raw))
	if resp == nil {
		t.Fatal("sarama cannot read it")
	}
	var all []buffer.Record
	when := func(at time.Time) time.Time {
		if at.IsZero() || at.UnixMilli() < 0 {
			return time.Time{}
		}
		return at.UTC()
	}
	for _, set := range resp.GetBlock("t", 0).RecordsSet {
		if b := set.RecordBatch; b != nil {
			for _, r := range b.Records {
				rec := buffer.Record{Offset: b.FirstOffset + r.OffsetDelta, Time: when(b.FirstTimestamp.Add(r.TimestampDelta)), Key: r.Key, Value: r.Value}
				if b.LogAppendTime {
					rec.Time, rec.Appended = when(b.MaxTimestamp), true
				}
				for _, h := range r.Headers {
					rec.Headers = append(rec.Headers, buffer.Header{Key: string(h.Key), Value: h.Value})
				}
				all = append(all, rec)
			}
		}
		if set.MsgSet == nil {
			continue
		}
		for _, outer := range set.MsgSet.Messages {
			inner := outer.Messages()
			for _, m := range inner {
				rec := buffer.Record{Offset: m.Offset, Time: when(m.Msg.Timestamp), Key: m.Msg.Key, Value: m.Msg.Value}
				rec.Appended = m.Msg.Version >= 1 && (m.Msg.LogAppendTime || outer.Msg.LogAppendTime)
				if m.Msg.Version >= 1 {
					rec.Offset += outer.Offset - inner[len(inner)-1].Offset
				}
				all = append(all, rec)
			}
		}
	}
	return all
}

func wantSame(t *testing.T, got, want []buffer.Record) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d records, want %d", len(got), len(want))
	}
	same := func(a, b []byte) bool { return bytes.Equal(a, b) && (a == nil) == (b == nil) }
	for i, w := range want {
		g := got[i]
		if g.Offset != w.Offset || !g.Time.Equal(w.Time) || g.Appended != w.Appended || !same(g.Key, w.Key) || !same(g.Value, w.Value) || len(g.Headers) != len(w.Headers) {
			t.Fatalf("record %d is at %d, %v, %.40q = %.40q with %d headers\nwant   %d, %v, %.40q = %.40q with %d",
				i, g.Offset, g.Time, g.Key, g.Value, len(g.Headers), w.Offset, w.Time, w.Key, w.Value, len(w.Headers))
		}
		for j, h := range w.Headers {
			if g.Headers[j].Key != h.Key || !same(g.Headers[j].Value, h.Value) {
				t.Fatalf("record %d: header %d is %q, want %q", i, j, g.Headers[j], h)
			}
		}
	}
}

// rawLog is what partition 0 of topic t holds, as it is on the wire.
func rawLog(t *testing.T, cl *kgo.Client) []byte {
	t.Helper()
	req := kmsg.NewPtrFetchRequest()
	req.MaxBytes, req.SessionEpoch, req.MinBytes = 64<<20, -1, 1
	rt, rp := kmsg.NewFetchRequestTopic(), kmsg.NewFetchRequestTopicPartition()
	rt.Topic, rp.PartitionMaxBytes = "t", 64<<20
	rp.CurrentLeaderEpoch = -1
	meta := kmsg.NewPtrMetadataRequest()
	mt := kmsg.NewMetadataRequestTopic()
	mt.Topic = kmsg.StringPtr("t")
	meta.Topics = append(meta.Topics, mt)
	m, err := meta.RequestWith(t.Context(), cl)
	if err != nil {
		t.Fatal(err)
	}
	rt.TopicID = m.Topics[0].TopicID
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	resp, err := req.RequestWith(t.Context(), cl)
	if err != nil || len(resp.Topics) != 1 || resp.Topics[0].Partitions[0].ErrorCode != 0 {
		t.Fatal(resp, err)
	}
	return resp.Topics[0].Partitions[0].RecordBatches
}

// What sarama and franz-go write, in each codec, is read as sarama itself reads
// it.
func TestBatchesAreReadAsSaramaReadsThem(t *testing.T) {
	for codec, name := range codecs {
		t.Run(name, func(t *testing.T) {
			_, o := fakeCluster(t, kfake.SeedTopics(1, "t"))
			cfg, err := o.config()
			if err != nil {
				t.Fatal(err)
			}
			cfg.Producer.Return.Successes = true
			cfg.Producer.Compression = sarama.CompressionCodec(codec)
			cfg.Producer.Partitioner = sarama.NewManualPartitioner
			p, err := sarama.NewSyncProducer(o.Brokers, cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			var messages []*sarama.ProducerMessage
			for i := range 500 {
				m := &sarama.ProducerMessage{Topic: "t", Timestamp: time.UnixMilli(1700000000000 + int64(i*i))}
				if i%3 > 0 {
					m.Key = sarama.StringEncoder(fmt.Sprint("key ", i))
				}
				if i%7 > 0 {
					m.Value = sarama.ByteEncoder(bytes.Repeat([]byte{'v', byte(i)}, i))
				}
				for h := range i % 5 {
					m.Headers = append(m.Headers, sarama.RecordHeader{Key: []byte(fmt.Sprint("h", h)), Value: make([]byte, h)})
				}
				messages = append(messages, m)
			}
			if err := p.SendMessages(messages); err != nil {
				t.Fatal(err)
			}
			compression := []kgo.CompressionCodec{kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression()}
			cl := client(t, o, kgo.ProducerBatchCompression(compression[codec]))
			write(t, cl, numbered("t", 0, 0, 3000)...)
			write(t, cl, &kgo.Record{Topic: "t", Value: bytes.Repeat([]byte("large "), 150_000)})

			raw := rawLog(t, cl)
			blk := unpacked(0, raw, 64<<20, 64<<20)
			if blk.err != nil || blk.wire != int64(len(raw)) {
				t.Fatalf("%d of %d bytes are read: %v", blk.wire, len(raw), blk.err)
			}
			got := handedOut(t, blk)
			if len(got) != 3501 {
				t.Errorf("%d records, 3501 were written", len(got))
			}
			wantSame(t, got, saramasRecords(t, raw))
		})
	}
}

// librdkafka writes snappy without the frame that Java puts around it.
func TestSnappyWithoutItsFrameIsRead(t *testing.T) {
	raw := sealed(kmsg.RecordBatch{Magic: 2, Attributes: codecSnappy, NumRecords: 1, ProducerID: -1, Records: s2.EncodeSnappy(nil, plainRecord(0, 0, "v"))})
	wantSame(t, handedOut(t, unpacked(0, raw, testMax, testMax)), []buffer.Record{{Value: []byte("v"), Time: time.UnixMilli(0)}})
}

// oldMessage is a message as before Kafka 0.11.
func oldMessage(magic int8, attributes int8, offset, at int64, key, value []byte) []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(offset))
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0, byte(magic), byte(attributes))
	if magic == 1 {
		b = binary.BigEndian.AppendUint64(b, uint64(at))
	}
	for _, p := range [][]byte{key, value} {
		if p == nil {
			b = append(b, 0xff, 0xff, 0xff, 0xff)
			continue
		}
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(p))), p...)
	}
	binary.BigEndian.PutUint32(b[8:], uint32(len(b)-12))
	binary.BigEndian.PutUint32(b[12:], crc32.ChecksumIEEE(b[16:]))
	return b
}

// Topics that are older than Kafka 0.11 hold message sets, compressed ones as one
// message that wraps others: with absolute offsets in format 0, relative ones in
// format 1.
func TestMessageSetsAreReadAsSaramaReadsThem(t *testing.T) {
	for codec, name := range codecs[:4] {
		for magic := range int8(2) {
			t.Run(fmt.Sprint(name, magic), func(t *testing.T) {
				var raw []byte
				raw = append(raw, oldMessage(magic, 0, 3, 1700000000000, nil, []byte("alone"))...)
				raw = append(raw, oldMessage(magic, 0, 4, -1, []byte("k"), nil)...)
				var inner []byte
				for i := range int64(50) {
					offset := 5 + i
					if magic == 1 {
						offset = i
					}
					inner = append(inner, oldMessage(magic, 0, offset, 1700000000000+i, fmt.Append(nil, "key", i), bytes.Repeat([]byte("x"), int(i)))...)
				}
				if codec != codecNone {
					raw = append(raw, oldMessage(magic, int8(codec), 54, 1700000000049, nil, compressed(t, int16(codec), inner))...)
				}
				raw = append(raw, oneRecord(60, "new", nil)...)
				raw = append(raw, oldMessage(magic, 0, 61, 0, nil, []byte("cut off"))[:20]...)
				blk := unpacked(3, raw, testMax, testMax)
				if blk.err != nil || blk.next != 61 || blk.cut == 0 {
					t.Fatalf("next %d, cut off %d: %v", blk.next, blk.cut, blk.err)
				}
				got := handedOut(t, blk)
				wantSame(t, got, saramasRecords(t, raw))
				if n := 3 + 50*min(codec, 1); len(got) != n {
					t.Errorf("%d records of %d", len(got), n)
				}
			})
		}
	}
}

// With log append time the broker stamps the wrapper alone.
func TestTheTimeOfAWrapperIsThatOfItsMessages(t *testing.T) {
	inner := append(oldMessage(1, 0, 0, 1, nil, []byte("a")), oldMessage(1, 0, 1, 2, nil, []byte("b"))...)
	raw := oldMessage(1, codecGzip|8, 11, 1700000000000, nil, compressed(t, codecGzip, inner))
	at := time.UnixMilli(1700000000000)
	wantSame(t, handedOut(t, unpacked(0, raw, testMax, testMax)), []buffer.Record{
		{Offset: 10, Time: at, Appended: true, Value: []byte("a")}, {Offset: 11, Time: at, Appended: true, Value: []byte("b")}})
}

// The same of a batch, whose records all get the time of its last.
func TestTheBrokersTimeIsKnownFromTheProducers(t *testing.T) {
	for _, flags := range []int16{0, flagsAppendTime} {
		raw := sealed(kmsg.RecordBatch{Magic: 2, Attributes: flags, NumRecords: 1, ProducerID: -1, FirstTimestamp: 5, MaxTimestamp: 9, Records: plainRecord(0, 0, "v")})
		want := buffer.Record{Value: []byte("v"), Time: time.UnixMilli(5)}
		if flags != 0 {
			want.Time, want.Appended = time.UnixMilli(9), true
		}
		wantSame(t, handedOut(t, unpacked(0, raw, testMax, testMax)), []buffer.Record{want})
		wantSame(t, saramasRecords(t, raw), []buffer.Record{want})
	}
}

// An answer of each version that brokers speak is read.
func TestAnswersOfAllVersionsAreRead(t *testing.T) {
	for version := range int16(13) {
		resp := kmsg.NewPtrFetchResponse()
		resp.Version, resp.ThrottleMillis = version, 70
		for _, name := range []string{"a", "t"} {
			rt := kmsg.NewFetchResponseTopic()
			rt.Topic = name
			for p := range int32(3) {
				rp := kmsg.NewFetchResponseTopicPartition()
				rp.Partition, rp.HighWatermark, rp.LastStableOffset, rp.LogStartOffset, rp.PreferredReadReplica = p, 40, 30, 20, 7
				rp.RecordBatches = oneRecord(int64(p), name, nil)
				if p == 2 {
					rp.ErrorCode = int16(sarama.ErrNotLeaderForPartition)
				}
				tx := kmsg.NewFetchResponseTopicPartitionAbortedTransaction()
				tx.ProducerID, tx.FirstOffset = 5, 6
				rp.AbortedTransactions = append(rp.AbortedTransactions, tx)
				rp.DivergingEpoch.Epoch, rp.DivergingEpoch.EndOffset = p-1, int64(p-1) // -1 is left out
				rt.Partitions = append(rt.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, rt)
		}
		a, err := parseAnswer(resp.AppendTo(nil), version)
		if err != nil || len(a.partitions) != 6 {
			t.Errorf("version %d: %d partitions, %v", version, len(a.partitions), err)
			continue
		}
		p := a.partitions[partitionKey{"t", 1}]
		if (version >= 1) != (a.throttle == 70*time.Millisecond) || p.end != 40 || !bytes.Equal(p.recordData, oneRecord(1, "t", nil)) {
			t.Errorf("version %d: throttled for %v, end %d", version, a.throttle, p.end)
		}
		if want := int64(40); version >= 4 {
			want = 30
			if len(p.aborted) != 1 || p.aborted[0] != (abortedTransaction{producer: 5, first: 6}) {
				t.Errorf("version %d: aborted transactions %v", version, p.aborted)
			}
			if p.stable != want {
				t.Errorf("version %d: stable up to %d", version, p.stable)
			}
		} else if p.stable != want {
			t.Errorf("version %d: stable up to %d", version, p.stable)
		}
		if (version >= 11) != (p.replica == 7) || (version < 11) != (p.replica == -1) {
			t.Errorf("version %d: replica %d", version, p.replica)
		}
		if (version >= 12) != p.diverging || a.partitions[partitionKey{"t", 0}].diverging {
			t.Errorf("version %d: diverging %v", version, p.diverging)
		}
		if a.partitions[partitionKey{"t", 2}].err != sarama.ErrNotLeaderForPartition {
			t.Errorf("version %d: error %v", version, a.partitions[partitionKey{"t", 2}].err)
		}
	}
}
