package kafka

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"weir/buffer"
	"weir/sinks"
)

func newDestination(t *testing.T, c DestinationConfig) *Destination {
	t.Helper()
	d, err := NewDestination(c)
	if err != nil {
		t.Fatal(err)
	}
	d.sink.patience = time.Hour
	t.Cleanup(d.Close)
	return d
}

func TestDestinationStoresRecordsAsTheyAre(t *testing.T) {
	for _, compression := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
		for _, track := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/track=%t", compression, track), func(t *testing.T) {
				_, o := fakeCluster(t, kfake.SeedTopics(1, "archive"))
				from := &buffer.Origin{Cluster: "elsewhere", Topic: "edr.events", TopicID: "AAAAAAAAAAAAAAAAAAAAAA", Partition: 7}
				at := time.UnixMilli(1600000000123)
				sent := []buffer.Record{
					{Origin: from, Offset: 41, Time: at, Key: []byte("k"), Value: []byte("v"), Headers: []buffer.Header{
						{Key: "b", Value: []byte("1")}, {Key: "a", Value: nil}, {Key: "b", Value: []byte{}}, {Key: "", Value: []byte{0, 255}},
					}},
					{Origin: from, Offset: 42, Time: at.Add(-time.Hour)},
					{Origin: from, Offset: 43, Time: at.Add(24 * time.Hour), Key: []byte{}, Value: []byte{}},
					{Origin: from, Offset: 44, Time: at, Value: bytes.Repeat([]byte("x"), 900_000)},
				}
				d := newDestination(t, DestinationConfig{Options: o, Topic: "archive", Compression: compression, Track: track})
				allAcked(t, deliver(t, d.sink, batchOf(sent...)))
				for i, g := range stored(t, o, "archive", len(sent)) {
					w := sent[i]
					if !bytes.Equal(g.Key, w.Key) || (g.Key == nil) != (w.Key == nil) || !bytes.Equal(g.Value, w.Value) || (g.Value == nil) != (w.Value == nil) {
						t.Errorf("record %d: key %#v and a value of %d bytes", i, g.Key, len(g.Value))
					}
					if !g.Timestamp.Equal(w.Time) {
						t.Errorf("record %d: time %v, want %v", i, g.Timestamp, w.Time)
					}
					want := w.Headers
					if track {
						h := func(key, value string) buffer.Header { return buffer.Header{Key: "weir." + key, Value: []byte(value)} }
						want = append(want[:len(want):len(want)], h("topic", "edr.events"), h("topic_id", from.TopicID), h("partition", "7"),
							h("offset", fmt.Sprint(w.Offset)), h("timestamp", w.Time.UTC().Format("2006-01-02T15:04:05.000Z07:00")))
					}
					if len(g.Headers) != len(want) {
						t.Fatalf("record %d: headers %v, want %v", i, g.Headers, want)
					}
					for j, h := range want {
						if g.Headers[j].Key != h.Key || !bytes.Equal(g.Headers[j].Value, h.Value) || (g.Headers[j].Value == nil) != (h.Value == nil) {
							t.Errorf("record %d: header %d is %#v, want %#v", i, j, g.Headers[j], h)
						}
					}
				}
			})
		}
	}
}

// A timestamp that cannot be written must neither stop the records nor become
// another one by overflow.
func TestDestinationWritesStrangeTimestamps(t *testing.T) {
	_, o := fakeCluster(t, kfake.SeedTopics(1, "archive"))
	d := newDestination(t, DestinationConfig{Options: o, Topic: "archive", Track: true})
	times := []time.Time{{}, time.UnixMilli(-1), time.UnixMilli(-1 << 60), time.UnixMilli(1 << 60), time.UnixMilli(0), time.UnixMilli(1), time.Date(2199, 1, 1, 0, 0, 0, 0, time.UTC)}
	b := &buffer.Batch{}
	for _, at := range times {
		b.Add(&buffer.Record{Origin: origin, Time: at, Value: []byte("v")})
	}
	start := time.Now().Truncate(time.Millisecond)
	allAcked(t, deliver(t, d.sink, b))
	for i, g := range stored(t, o, "archive", len(times)) {
		own := i >= 4
		if own && !g.Timestamp.Equal(times[i]) || !own && (g.Timestamp.Before(start) || g.Timestamp.After(time.Now())) {
			t.Errorf("record with time %v was written with %v", times[i], g.Timestamp)
		}
	}
}

func TestDestinationNamesTopicsAfterTheirSources(t *testing.T) {
	c, o := fakeCluster(t, kfake.SeedTopics(1, "copy.a", "copy.b"))
	d := newDestination(t, DestinationConfig{Options: o, Topic: "copy.{topic}"})
	b := &buffer.Batch{}
	for i, topic := range []string{"a", "b", "missing", "a", "b", "missing"} {
		b.Add(&buffer.Record{Origin: &buffer.Origin{Topic: topic}, Offset: int64(i), Value: []byte(topic)})
	}
	for i, out := range deliver(t, d.sink, b) {
		missing := b.Records[i].Topic == "missing"
		if missing != (out.Verdict == sinks.Retry) || missing && (out.Note != sinks.Misconfigured || !strings.Contains(out.Reason, `"copy.missing"`)) {
			t.Errorf("record of %s: %+v", b.Records[i].Topic, out)
		}
	}
	for _, topic := range []string{"a", "b"} {
		for _, r := range stored(t, o, "copy."+topic, 2) {
			if string(r.Value) != topic {
				t.Errorf("copy.%s holds a record of %s", topic, r.Value)
			}
		}
	}
	if c.TopicInfo("copy.missing") != nil {
		t.Error("the missing topic was made")
	}
}

func TestDestinationBlocksLoudlyWhileItsTopicIsMissing(t *testing.T) {
	c, o := fakeCluster(t)
	d := newDestination(t, DestinationConfig{Options: o, Topic: "archive"})
	_, err := d.Deliver(t.Context(), letters(3, 3), func(sinks.Note) {})
	var re *sinks.RequestError
	if !errors.As(err, &re) || !re.Misconfigured || !strings.Contains(err.Error(), `"archive" does not exist`) {
		t.Fatalf("error %v", err)
	}
	if c.TopicInfo("archive") != nil {
		t.Fatal("the topic was made")
	}
	if err := c.CreateTopic("archive", 1, nil); err != nil {
		t.Fatal(err)
	}
	allAcked(t, deliver(t, d.sink, letters(3, 3)))
}

// Two addresses can be one cluster: what is read must not be written where it
// was read from.
func TestDestinationDoesNotWriteToTheTopicItReads(t *testing.T) {
	_, o := fakeCluster(t, kfake.SeedTopics(1, "edr", "copy.edr"), kfake.ClusterID("one"))
	d := newDestination(t, DestinationConfig{Options: o, Topic: "edr"})
	_, err := d.Deliver(t.Context(), batchOf(buffer.Record{Origin: &buffer.Origin{Cluster: "one", Topic: "edr"}}), func(sinks.Note) {})
	var re *sinks.RequestError
	if !errors.As(err, &re) || !re.Misconfigured || !strings.Contains(err.Error(), "round for ever") {
		t.Fatalf("error %v", err)
	}
	allAcked(t, deliver(t, d.sink, batchOf(buffer.Record{Origin: &buffer.Origin{Cluster: "another", Topic: "edr"}})))
	stored(t, o, "edr", 1)
}

// refuseRecords answers a produce request as Kafka does when some of its records
// are not to its taste: it takes none.
func refuseRecords(code int16, named bool, bad func(kmsg.Record) bool) func(kmsg.Request) (kmsg.Response, error, bool) {
	return func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		req := kreq.(*kmsg.ProduceRequest)
		var b kmsg.RecordBatch
		if err := b.ReadFrom(req.Topics[0].Partitions[0].Records); err != nil {
			panic(err)
		}
		p := kmsg.NewProduceResponseTopicPartition()
		p.ErrorCode = code
		wrong := false
		rest := b.Records
		for i := range b.NumRecords {
			var r kmsg.Record
			if err := r.ReadFrom(rest); err != nil {
				panic(err)
			}
			length, n := binary.Varint(rest)
			rest = rest[n+int(length):]
			if bad(r) {
				wrong = true
				if named {
					e := kmsg.NewProduceResponseTopicPartitionErrorRecord()
					e.RelativeOffset = i
					e.ErrorMessage = kmsg.StringPtr("not\nto my taste")
					p.ErrorRecords = append(p.ErrorRecords, e)
				}
			}
		}
		if !wrong {
			return nil, nil, false
		}
		resp := req.ResponseKind().(*kmsg.ProduceResponse)
		topic := kmsg.NewProduceResponseTopic()
		topic.Topic = req.Topics[0].Topic
		p.Partition = req.Topics[0].Partitions[0].Partition
		topic.Partitions = append(topic.Partitions, p)
		resp.Topics = append(resp.Topics, topic)
		return resp, nil, true
	}
}

// One record that the topic refuses must not take the others with it, nor block
// its partition.
func TestRecordThatTheTopicRefusesIsRejectedAlone(t *testing.T) {
	for name, x := range map[string]struct {
		fault *kerr.Error
		named bool
	}{
		"record, named":    {kerr.InvalidRecord, true},
		"record, unnamed":  {kerr.InvalidRecord, false},
		"timestamp, named": {kerr.InvalidTimestamp, true},
	} {
		t.Run(name, func(t *testing.T) {
			c, o := fakeCluster(t, kfake.SeedTopics(1, "archive"))
			c.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
				c.KeepControl()
				return refuseRecords(x.fault.Code, x.named, func(r kmsg.Record) bool { return string(r.Value) == "bad" })(req)
			})
			d := newDestination(t, DestinationConfig{Options: o, Topic: "archive"})
			b := letters(100, 5)
			for _, i := range []int{0, 57, 58, 99} {
				b.Records[i].Value = []byte("bad")
			}
			for i, out := range deliver(t, d.sink, b) {
				bad := string(b.Records[i].Value) == "bad"
				if bad && (out.Verdict != sinks.Reject || out.Status != int(x.fault.Code) || strings.Contains(out.Reason, "\n") ||
					x.named != strings.Contains(out.Reason, "taste")) {
					t.Errorf("bad record %d: %+v", i, out)
				}
				if !bad && out.Verdict != sinks.Ack {
					t.Errorf("record %d: %+v", i, out)
				}
			}
			stored(t, o, "archive", 96)
		})
	}
}

func TestDestinationChecksWithoutWriting(t *testing.T) {
	c, o := fakeCluster(t, kfake.SeedTopics(2, "archive"))
	states := func(topic string, sources ...string) map[string]sinks.Finding {
		found := map[string]sinks.Finding{}
		for _, f := range newDestination(t, DestinationConfig{Options: o, Topic: topic, Sources: sources}).Check(t.Context()) {
			found[f.What] = f
		}
		return found
	}
	f := states("archive")
	if got := f["topic archive"]; got.State != sinks.Doubtful || !strings.Contains(got.Detail, "one replica") {
		t.Errorf("one broker: %+v", got)
	}
	if got := f["idempotent writes"]; got.State != sinks.Good {
		t.Errorf("ids: %+v", got)
	}
	if got := f["broker "+o.Brokers[0]]; got.State != sinks.Good {
		t.Errorf("broker: %+v", got)
	}
	if got := states("copy")["topic copy"]; got.State != sinks.Bad {
		t.Errorf("missing topic: %+v", got)
	}
	if got := states("{topic}-x", "archive")["topic archive-x"]; got.State != sinks.Bad {
		t.Errorf("missing topic of a source: %+v", got)
	}
	if got := states("{topic}-x")["topic {topic}-x"]; got.State != sinks.Doubtful {
		t.Errorf("unknown sources: %+v", got)
	}
	c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.InitProducerID}, Err: kerr.ClusterAuthorizationFailed})
	if got := states("archive")["idempotent writes"]; got.State != sinks.Doubtful || !strings.Contains(got.Detail, "IdempotentWrite") {
		t.Errorf("no right: %+v", got)
	}
	if info := c.PartitionInfo("archive", 0); info.HighWatermark != 0 {
		t.Errorf("something was written: %+v", info)
	}
	o.Brokers = []string{"127.0.0.1:1"}
	if f := states("archive"); len(f) != 1 || f["broker 127.0.0.1:1"].State != sinks.Bad {
		t.Errorf("no broker: %+v", f)
	}
}

func TestDestinationObservesItsRequests(t *testing.T) {
	c, o := fakeCluster(t, kfake.SeedTopics(1, "archive"))
	var mu sync.Mutex
	var seen []int
	d := newDestination(t, DestinationConfig{Options: o, Topic: "archive", Observe: func(status int, _ time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, status)
	}})
	c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) { return nil, errors.New("bang"), true })
	c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.NotLeaderForPartition})
	allAcked(t, deliver(t, d.sink, letters(1, 1)))
	mu.Lock()
	defer mu.Unlock()
	if fmt.Sprint(seen) != "[0 6 200]" {
		t.Errorf("seen %v", seen)
	}
}

func TestNewDestinationRefusesWhatCannotWork(t *testing.T) {
	o := Options{Brokers: []string{"127.0.0.1:1"}}
	for name, c := range map[string]DestinationConfig{
		"no brokers":      {Topic: "t"},
		"no topic":        {Options: o},
		"illegal topic":   {Options: o, Topic: "a b"},
		"other template":  {Options: o, Topic: "{partition}"},
		"half a template": {Options: o, Topic: "{topic"},
		"compression":     {Options: o, Topic: "t", Compression: "brotli"},
	} {
		if _, err := NewDestination(c); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
