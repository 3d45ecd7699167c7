package kafka

import (
	"encoding/binary"
	"hash/crc32"
	"io"
	"math"
	"net"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kmsg"

	"weir/buffer"
	"weir/connector"
)

// liar is a broker that answers everything with body.
type liar struct{ body []byte }

func (l *liar) Dial(string, string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	go func() {
		defer theirs.Close()
		for {
			var head [4]byte
			if _, err := io.ReadFull(theirs, head[:]); err != nil {
				return
			}
			req := make([]byte, binary.BigEndian.Uint32(head[:]))
			if _, err := io.ReadFull(theirs, req); err != nil {
				return
			}
			out := binary.BigEndian.AppendUint32(nil, uint32(len(l.body)+5))
			out = append(out, req[4:8]...) // correlation id
			out = append(out, 0)           // no tagged fields
			if _, err := theirs.Write(append(out, l.body...)); err != nil {
				return
			}
		}
	}()
	return ours, nil
}

// saramas is what sarama makes of a fetch answer with that body, nil when it
// refuses it.
func saramas(t *testing.T, body []byte) *sarama.FetchResponse {
	t.Helper()
	c, err := Options{ClientID: "fuzz"}.config()
	if err != nil {
		t.Fatal(err)
	}
	c.ApiVersionsRequest = false
	c.Net.ReadTimeout, c.Net.WriteTimeout = 2*time.Second, 2*time.Second
	c.Net.Proxy.Enable, c.Net.Proxy.Dialer = true, &liar{body}
	b := sarama.NewBroker("liar:9092")
	if err := b.Open(c); err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	req := &sarama.FetchRequest{Version: 12, MaxBytes: 1 << 20, SessionEpoch: -1}
	req.AddBlock("t", 0, 0, 1<<20, -1)
	resp, err := b.Fetch(req)
	if err != nil {
		return nil
	}
	return resp
}

// answerOf is a fetch answer with raw as the records of partition 0.
func answerOf(raw []byte, aborted ...kmsg.FetchResponseTopicPartitionAbortedTransaction) []byte {
	return answerIn(12, raw, aborted...)
}

// answerIn is answerOf in another version.
func answerIn(version int16, raw []byte, aborted ...kmsg.FetchResponseTopicPartitionAbortedTransaction) []byte {
	rp := kmsg.NewFetchResponseTopicPartition()
	rp.HighWatermark, rp.LastStableOffset, rp.RecordBatches, rp.AbortedTransactions = 1<<40, 1<<40, raw, aborted
	rt := kmsg.NewFetchResponseTopic()
	rt.Topic, rt.TopicID = "t", [16]byte{1, 2, 3}
	rt.Partitions = append(rt.Partitions, rp)
	resp := kmsg.NewPtrFetchResponse()
	resp.Version = version
	resp.Topics = append(resp.Topics, rt)
	return resp.AppendTo(nil)
}

// sealed is b with its length and checksum right.
func sealed(b kmsg.RecordBatch) []byte {
	b.Length = int32(len(b.AppendTo(nil)) - 12)
	raw := b.AppendTo(nil)
	binary.BigEndian.PutUint32(raw[17:], crc32.Checksum(raw[21:], crcTable))
	return raw
}

// plainRecord is one record in its wire form.
func plainRecord(delta, timestamp int64, value string, headers ...string) []byte {
	in := []byte{0}
	in = binary.AppendVarint(in, timestamp)
	in = binary.AppendVarint(in, delta)
	in = binary.AppendVarint(in, -1)
	in = binary.AppendVarint(in, int64(len(value)))
	in = append(in, value...)
	in = binary.AppendVarint(in, int64(len(headers)))
	for _, h := range headers {
		in = binary.AppendVarint(in, int64(len(h)))
		in = append(in, h...)
		in = binary.AppendVarint(in, -1)
	}
	return append(binary.AppendVarint(nil, int64(len(in))), in...)
}

// testMax bounds a batch in tests.
const testMax = 1 << 20

// unpacked is what becomes of raw with room for free bytes, and for no batch
// larger than limit.
func unpacked(from int64, raw []byte, free, limit int64, aborted ...abortedTransaction) *block {
	u := unpacker{batchMax: limit}
	return u.unpack(from, &partitionAnswer{recordData: raw, aborted: aborted}, free, func(int64) bool { return true })
}

// handedOut takes all of a block as a lane does, and checks what the watermark
// relies on: offsets ascend, none is below what was asked for, and the offset
// behind a run is behind its records. It panics otherwise, in a lane. Each offset
// is that of a record or in a gap.
func handedOut(t *testing.T, blk *block) []buffer.Record {
	t.Helper()
	var s scratch
	origin := &buffer.Origin{Topic: "t"}
	next := blk.at
	var all []buffer.Record
	for runs := 0; !blk.taken(); runs++ {
		if runs > 1_000_000 {
			t.Fatal("it never ends")
		}
		run := blk.run(&s, origin)
		records, behind, gaps := run.Records, run.Next, run.Gaps
		explained := func(to int64) {
			for next < to {
				if len(gaps) == 0 || gaps[0].From != next || gaps[0].To <= next || gaps[0].To > to {
					t.Fatalf("offset %d is neither a record nor in a gap: %+v", next, gaps)
				}
				next, gaps = gaps[0].To, gaps[1:]
			}
		}
		for _, r := range records {
			if r.Offset < next {
				t.Fatalf("offset %d behind %d", r.Offset, next)
			}
			explained(r.Offset)
			next = r.Offset + 1
			if r.Time.UnixMilli() < 0 && !r.Time.IsZero() {
				t.Fatalf("time %v", r.Time)
			}
		}
		all = append(all, copied(connector.Run{Records: records})...)
		if behind < next {
			t.Fatalf("next is %d, behind %d", behind, next)
		}
		explained(behind)
		if len(gaps) > 0 {
			t.Fatalf("gaps among the records: %+v", gaps)
		}
	}
	return all
}

// FuzzFetchAnswer: whatever a broker answers, it ends in an error or in records
// that a lane can take.
func FuzzFetchAnswer(f *testing.F) {
	batch := sealed(kmsg.RecordBatch{Magic: 2, LastOffsetDelta: 1, ProducerID: -1, NumRecords: 2, Records: append(plainRecord(0, 0, "a", "h"), plainRecord(1, 5, "b")...)})
	f.Add(answerOf(batch), int16(12))
	f.Add(answerOf(nil), int16(12))
	f.Add(answerOf(batch[:40]), int16(12))
	f.Add(answerOf(append(batch, batch...))[:90], int16(12))
	// A message set as before Kafka 0.11.
	m := kmsg.MessageV1{Offset: 3, Magic: 1, Timestamp: 1700000000000, Key: []byte("k"), Value: []byte("v")}
	m.MessageSize = int32(len(m.AppendTo(nil)) - 12)
	f.Add(answerOf(m.AppendTo(nil)), int16(12))
	f.Add([]byte{}, int16(12))
	f.Add(answerIn(fetchByID, batch), int16(fetchByID))
	f.Add(answerIn(fetchByID, nil), int16(fetchByID))
	f.Add(answerIn(fetchByID, batch)[:30], int16(fetchByID))
	f.Add(answerOf(batch), int16(11))
	f.Add([]byte("\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x7f\xff\xff\xff"), int16(11)) // 2^31 topics
	f.Add([]byte("\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff\x0f"), int16(12))
	f.Fuzz(func(t *testing.T, body []byte, version int16) {
		if len(body) > 1<<20 || version < 0 || version > fetchByID {
			return
		}
		a, err := parseAnswer(body, version)
		if err != nil {
			return
		}
		for _, p := range a.partitions {
			if p.err == sarama.ErrNoError {
				handedOut(t, unpacked(0, p.recordData, testMax, testMax, p.aborted...))
			}
		}
	})
}

// FuzzMark: an offset's metadata is anybody's who may commit for the group. What
// is not ours says nothing, and what is ours is read as it was written.
func FuzzMark(f *testing.F) {
	for _, s := range []string{"", "weir1", "weir1 ", "weir1 abc", "weir1 abc truncated", "weir1 abc truncated x", "weir1  truncated", "weir1\nabc", "other abc truncated"} {
		f.Add(s, "topic-id")
	}
	f.Fuzz(func(t *testing.T, metadata, id string) {
		m := parseMark(metadata)
		if !m.ours && (m.truncated || m.topicID != "" || m.stale(id)) {
			t.Errorf("%q is not ours but says %+v", metadata, m)
		}
		if m.ours && !strings.HasPrefix(metadata, markVersion+" ") {
			t.Errorf("%q is taken for ours", metadata)
		}
		if m.ours {
			if again := parseMark(m.String()); again != m {
				t.Errorf("%+v is read as %+v", m, again)
			}
		}
	})
}

// FuzzPrintable: what a server says cannot move a terminal's cursor or fill a
// screen.
func FuzzPrintable(f *testing.F) {
	for _, s := range []string{"", "plain", "\x1b[2J\x07", "a\nb\r\nlevel=ERROR", "\u202e\u2028\u0085", "\xff\xfe", strings.Repeat("é", 600), `"quoted" \x1b`} {
		f.Add(s, 500)
	}
	f.Fuzz(func(t *testing.T, text string, most int) {
		if most < 0 || most > 1000 {
			return
		}
		got := printable(text, most)
		if i := strings.IndexFunc(got, func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 {
			t.Errorf("%q holds what cannot be printed at byte %d", got, i)
		}
		if len(got) > 10*most+20 {
			t.Errorf("%d bytes of at most %d", len(got), most)
		}
	})
}

// A record's time is its producer's choice; a lane must not be upset by it.
func TestHostileTimestamps(t *testing.T) {
	for _, ms := range []int64{0, -1, math.MinInt64, math.MaxInt64, 253402300800000, 9223372036854775} {
		for _, delta := range []int64{0, 1, -1, 1 << 62, -1 << 62, math.MaxInt64} {
			raw := sealed(kmsg.RecordBatch{Magic: 2, FirstTimestamp: ms, MaxTimestamp: ms, ProducerID: -1, NumRecords: 1, Records: plainRecord(0, delta, "v")})
			blk := unpacked(0, raw, testMax, testMax)
			if blk.err != nil {
				t.Errorf("a batch of %d, %d is not read: %v", ms, delta, blk.err)
				continue
			}
			if n := len(handedOut(t, blk)); n != 1 {
				t.Errorf("%d records of a batch of %d, %d", n, ms, delta)
			}
		}
	}
	if got := utc(-1); !got.IsZero() {
		t.Errorf("a time before the epoch is %v", got)
	}
}
