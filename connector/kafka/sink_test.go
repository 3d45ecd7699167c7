package kafka

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"weir/buffer"
	"weir/sinks"
)

// fakeCluster is an in-process broker that speaks Kafka's protocol.
func fakeCluster(t *testing.T, opts ...kfake.Opt) (*kfake.Cluster, Options) {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, Options{Brokers: c.ListenAddrs(), ClientID: "weir-test"}
}

func newTestSink(t *testing.T, o Options, topic string) *Sink {
	t.Helper()
	s := NewSink(o, topic)
	s.patience = time.Hour // so that no test depends on how fast it runs
	t.Cleanup(func() { _ = s.Close() })
	return s
}

var origin = &buffer.Origin{Topic: "edr.events", Partition: 7}

func batchOf(records ...buffer.Record) *buffer.Batch {
	b := &buffer.Batch{}
	for i := range records {
		if records[i].Origin == nil {
			records[i].Origin = origin
		}
		b.Add(&records[i])
	}
	return b
}

// letters is a batch of n records whose keys spread them over the partitions.
func letters(n, size int) *buffer.Batch {
	records := make([]buffer.Record, n)
	for i := range records {
		records[i] = buffer.Record{
			Offset: int64(i),
			Time:   time.UnixMilli(1700000000000 + int64(i)),
			Key:    fmt.Appendf(nil, "key-%d", i),
			Value:  bytes.Repeat([]byte{'v'}, size),
		}
	}
	return batchOf(records...)
}

// stored reads n records of topic, with another library than the one that
// wrote them.
func stored(t *testing.T, o Options, topic string, n int) []*kgo.Record {
	t.Helper()
	return storedWith(t, o, topic, n)
}

// storedAtLeast is the values of all records of topic, by partition and offset.
func storedAtLeast(t *testing.T, o Options, topic string, least int) [][]byte {
	t.Helper()
	end := 0
	m, err := o.Metadata(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	c := newCluster(t.Context(), o)
	defer c.Close()
	for _, p := range m.Topics[topic].Partitions {
		n, err := c.offsetAt(t.Context(), topic, p, sarama.OffsetNewest, sarama.ReadCommitted)
		if err != nil {
			t.Fatal(err)
		}
		end += int(n)
	}
	if end < least {
		t.Fatalf("%s holds %d records, want %d at least", topic, end, least)
	}
	var values [][]byte
	for _, r := range stored(t, o, topic, end) {
		values = append(values, r.Value)
	}
	return values
}

func storedWith(t *testing.T, o Options, topic string, n int, opts ...kgo.Opt) []*kgo.Record {
	t.Helper()
	cl, err := kgo.NewClient(append(opts, kgo.SeedBrokers(o.Brokers...), kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))...)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	var records []*kgo.Record
	for len(records) < n {
		f := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("%s holds %d records, want %d", topic, len(records), n)
		}
		records = append(records, f.Records()...)
	}
	if len(records) > n {
		t.Fatalf("%s holds %d records, want %d", topic, len(records), n)
	}
	return records
}

func deliver(t *testing.T, s *Sink, b *buffer.Batch) []sinks.Outcome {
	t.Helper()
	outcomes, err := s.Deliver(t.Context(), b, func(sinks.Note) {})
	if err != nil {
		t.Fatal(err)
	}
	if len(outcomes) != len(b.Records) {
		t.Fatalf("%d outcomes for %d records", len(outcomes), len(b.Records))
	}
	return outcomes
}

func allAcked(t *testing.T, outcomes []sinks.Outcome) {
	t.Helper()
	for i, o := range outcomes {
		if o.Verdict != sinks.Ack {
			t.Fatalf("record %d: %+v", i, o)
		}
	}
}

func TestSinkStoresRecordsAsTheyAre(t *testing.T) {
	for name, versions := range map[string]*kversion.Versions{"newest": kversion.Stable(), "2.1": kversion.V2_1_0(), "2.8": kversion.V2_8_0()} {
		t.Run(name, func(t *testing.T) {
			_, o := fakeCluster(t, kfake.SeedTopics(1, "dlq"), kfake.MaxVersions(versions))
			at := time.UnixMilli(1600000000123)
			sent := []buffer.Record{
				{Time: at, Key: []byte("k"), Value: []byte("v"), Headers: []buffer.Header{
					{Key: "b", Value: []byte("1")}, {Key: "a", Value: nil}, {Key: "b", Value: []byte{}}, {Key: "", Value: []byte{0, 255}},
				}},
				{Time: at.Add(-time.Hour)},
				{Time: at.Add(time.Hour), Key: []byte{}, Value: []byte{}},
				{Time: at, Value: bytes.Repeat([]byte("x"), 900_000)},
			}
			start := time.Now().Truncate(time.Millisecond)
			s := newTestSink(t, o, "dlq")
			allAcked(t, deliver(t, s, batchOf(sent...)))
			got := stored(t, o, "dlq", len(sent))
			for i, w := range sent {
				g := got[i]
				if !bytes.Equal(g.Key, w.Key) || (g.Key == nil) != (w.Key == nil) {
					t.Errorf("record %d: key %#v, want %#v", i, g.Key, w.Key)
				}
				if !bytes.Equal(g.Value, w.Value) || (g.Value == nil) != (w.Value == nil) {
					t.Errorf("record %d: value of %d bytes (nil: %t), want %d (nil: %t)", i, len(g.Value), g.Value == nil, len(w.Value), w.Value == nil)
				}
				if g.Timestamp.Before(start) || g.Timestamp.After(time.Now()) {
					t.Errorf("record %d: written with time %v: its retention would not begin now", i, g.Timestamp)
				}
				if len(g.Headers) != len(w.Headers) {
					t.Fatalf("record %d: headers %v, want %v", i, g.Headers, w.Headers)
				}
				for j, h := range w.Headers {
					if g.Headers[j].Key != h.Key || !bytes.Equal(g.Headers[j].Value, h.Value) || (g.Headers[j].Value == nil) != (h.Value == nil) {
						t.Errorf("record %d: header %d is %#v, want %#v", i, j, g.Headers[j], h)
					}
				}
			}
		})
	}
}

func TestSinkPartitionsKeysLikeKafkasOwnClients(t *testing.T) {
	_, o := fakeCluster(t, kfake.SeedTopics(7, "dlq", "reference"))
	b := letters(200, 10)
	s := newTestSink(t, o, "dlq")
	allAcked(t, deliver(t, s, b))

	cl, err := kgo.NewClient(kgo.SeedBrokers(o.Brokers...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	want := map[string]int32{}
	for _, r := range b.Records {
		res, err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: "reference", Key: r.Key}).First()
		if err != nil {
			t.Fatal(err)
		}
		want[string(r.Key)] = res.Partition
	}
	for _, r := range stored(t, o, "dlq", 200) {
		if r.Partition != want[string(r.Key)] {
			t.Errorf("%s is in partition %d, want %d", r.Key, r.Partition, want[string(r.Key)])
		}
	}
}

// Records without a key are spread, and those of one source partition stay in
// their order.
func TestSinkSpreadsRecordsWithoutKeyAndKeepsTheirOrder(t *testing.T) {
	_, o := fakeCluster(t, kfake.SeedTopics(3, "dlq"))
	s := newTestSink(t, o, "dlq")
	const each = 50
	for from := 0; from < each; from += 10 {
		var records []buffer.Record
		for i := range 10 {
			for p := range int32(6) {
				records = append(records, buffer.Record{Origin: &buffer.Origin{Topic: "edr", Partition: p}, Value: fmt.Appendf(nil, "%d/%d", p, from+i)})
			}
		}
		allAcked(t, deliver(t, s, batchOf(records...)))
	}
	count := map[int32]int{}
	next := map[string]int{}
	for _, r := range stored(t, o, "dlq", 6*each) {
		count[r.Partition]++
		p, n, _ := strings.Cut(string(r.Value), "/")
		if n != fmt.Sprint(next[p]) {
			t.Fatalf("of source partition %s, record %s comes where %d should", p, n, next[p])
		}
		next[p]++
	}
	for p := range int32(3) {
		if count[p] != 2*each {
			t.Errorf("records a partition: %v, want %d in each", count, 2*each)
		}
	}
}

// Small records must get through even if together they are more than the topic
// takes at once; one that alone is more blocks, and says why.
func TestSinkSplitsWhatIsTooLargeTogether(t *testing.T) {
	c, o := fakeCluster(t)
	if err := c.CreateTopic("dlq", 1, map[string]string{"max.message.bytes": "20000"}); err != nil {
		t.Fatal(err)
	}
	s := newTestSink(t, o, "dlq")
	b := letters(300, 1000)
	b.Records[123].Value = make([]byte, 30_000)
	for i, out := range deliver(t, s, b) {
		if i != 123 && out.Verdict != sinks.Ack {
			t.Fatalf("record %d: %+v", i, out)
		}
		if i == 123 && (out.Verdict != sinks.Retry || out.Note != sinks.Misconfigured || !strings.Contains(out.Reason, "max.message.bytes")) {
			t.Errorf("the large record: %+v", out)
		}
	}
	stored(t, o, "dlq", 299)
}

// An answer that is about one partition must neither touch the others nor be
// taken for a yes.
func TestSinkAcksOnlyWhatThePartitionTook(t *testing.T) {
	for _, fault := range []*kerr.Error{
		kerr.NotEnoughReplicas, kerr.CorruptMessage, kerr.OutOfOrderSequenceNumber, kerr.DuplicateSequenceNumber, kerr.UnknownProducerID,
		kerr.InvalidProducerEpoch, kerr.ProducerFenced, kerr.TopicAuthorizationFailed, kerr.ClusterAuthorizationFailed, kerr.ThrottlingQuotaExceeded,
		kerr.PolicyViolation, kerr.InvalidTopicException,
	} {
		t.Run(fault.Message, func(t *testing.T) {
			c, o := fakeCluster(t, kfake.SeedTopics(2, "dlq"))
			s := newTestSink(t, o, "dlq")
			b := letters(100, 100)
			c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "dlq", Partitions: []int32{1}, Err: fault})
			byKey := sarama.NewMurmur2Partitioner("dlq")
			again := &buffer.Batch{}
			for i, out := range deliver(t, s, b) {
				p, err := byKey.Partition(&sarama.ProducerMessage{Key: sarama.ByteEncoder(b.Records[i].Key)}, 2)
				if err != nil {
					t.Fatal(err)
				}
				switch {
				case p == 0 && out.Verdict != sinks.Ack:
					t.Fatalf("record %d, of the sound partition: %+v", i, out)
				case p == 1 && (out.Verdict != sinks.Retry || out.Status != int(fault.Code) || !strings.Contains(out.Reason, "dlq") && fault != kerr.ThrottlingQuotaExceeded):
					t.Fatalf("record %d, of the failing partition: %+v", i, out)
				case p == 1:
					again.Add(b.Records[i])
				}
			}
			allAcked(t, deliver(t, s, again))
			stored(t, o, "dlq", 100)
		})
	}
}

func TestSinkTakesSilenceForNothing(t *testing.T) {
	for name, answer := range map[string]func(kmsg.Request) (kmsg.Response, error, bool){
		"connection dropped": func(kmsg.Request) (kmsg.Response, error, bool) {
			return nil, errors.New("bang"), true
		},
		"answer without the partition": func(req kmsg.Request) (kmsg.Response, error, bool) {
			return req.ResponseKind(), nil, true
		},
		"answer about another partition": func(req kmsg.Request) (kmsg.Response, error, bool) {
			resp := req.ResponseKind().(*kmsg.ProduceResponse)
			topic := kmsg.NewProduceResponseTopic()
			topic.Topic = "dlq"
			p := kmsg.NewProduceResponseTopicPartition()
			p.Partition = 99
			topic.Partitions = append(topic.Partitions, p)
			resp.Topics = append(resp.Topics, topic)
			return resp, nil, true
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, o := fakeCluster(t, kfake.SeedTopics(1, "dlq"))
			s := newTestSink(t, o, "dlq")
			s.patience = 0
			c.ControlKey(int16(kmsg.Produce), answer)
			b := letters(10, 100)
			outcomes, err := s.Deliver(t.Context(), b, func(sinks.Note) {})
			var re *sinks.RequestError
			if !errors.As(err, &re) || outcomes != nil {
				t.Fatalf("got %v and error %v, want a RequestError", outcomes, err)
			}
			allAcked(t, deliver(t, s, b))
			stored(t, o, "dlq", 10)
		})
	}
}

// Deliver returns when its context ends, and the caller may then reuse the
// records' memory: the race detector watches.
func TestSinkLetsGoOfTheRecordsWhenTheContextEnds(t *testing.T) {
	c, o := fakeCluster(t, kfake.SeedTopics(1, "dlq"))
	s := newTestSink(t, o, "dlq")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		stop()
		return nil, nil, true // never answered
	})
	b := letters(3000, 1000) // more than one request
	_, err := s.Deliver(ctx, b, func(sinks.Note) {})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v, want canceled", err)
	}
	for _, r := range b.Records {
		clear(r.Key)
		clear(r.Value)
		r.Offset = -1
	}
}

func TestSinkCopiesNothingWhileItsRoomIsTaken(t *testing.T) {
	_, o := fakeCluster(t, kfake.SeedTopics(1, "dlq"))
	s := newTestSink(t, o, "dlq")
	if err := s.room.Acquire(t.Context(), roomBytes); err != nil { // by other batches
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer stop()
	b := batchOf(buffer.Record{Value: make([]byte, 500_000)})
	if outcomes, err := s.Deliver(ctx, b, func(sinks.Note) {}); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("outcomes %v, error %v", outcomes, err)
	}
	s.room.Release(roomBytes)
	allAcked(t, deliver(t, s, b))
	if err := s.Close(); err != nil { // waits for everything
		t.Fatal(err)
	}
	if !s.room.TryAcquire(roomBytes) {
		t.Error("room was not given back")
	}
}

func TestSinkGoesOnWhenTheLeaderMoves(t *testing.T) {
	c, o := fakeCluster(t, kfake.NumBrokers(3), kfake.SeedTopics(1, "dlq"))
	s := newTestSink(t, o, "dlq")
	allAcked(t, deliver(t, s, letters(10, 10)))
	if err := c.MoveTopicPartition("dlq", 0, (c.LeaderFor("dlq", 0)+1)%3); err != nil {
		t.Fatal(err)
	}
	allAcked(t, deliver(t, s, letters(10, 10)))
	stored(t, o, "dlq", 20)
}

func TestSinkMakesItsTopicWhenItIsGone(t *testing.T) {
	c, o := fakeCluster(t, kfake.SeedTopics(1, "dlq"))
	s := newTestSink(t, o, "dlq")
	b := letters(10, 10)
	allAcked(t, deliver(t, s, b))
	if err := c.DeleteTopic("dlq"); err != nil {
		t.Fatal(err)
	}
	for try := 0; ; try++ {
		outcomes, err := s.Deliver(t.Context(), b, func(sinks.Note) {})
		if err == nil && outcomes[0].Verdict == sinks.Ack {
			break
		}
		var re *sinks.RequestError
		if try > 5 || err != nil && !errors.As(err, &re) {
			t.Fatalf("try %d: %v %v", try, outcomes, err)
		}
	}
	stored(t, o, "dlq", 10)
}

func TestSinkBlocksLoudlyWhileItsTopicIsMissingAndMayNotBeMade(t *testing.T) {
	c, o := fakeCluster(t)
	c.ControlKey(int16(kmsg.CreateTopics), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		resp := req.ResponseKind().(*kmsg.CreateTopicsResponse)
		topic := kmsg.NewCreateTopicsResponseTopic()
		topic.Topic = "dlq"
		topic.ErrorCode = kerr.TopicAuthorizationFailed.Code
		resp.Topics = append(resp.Topics, topic)
		return resp, nil, true
	})
	s := newTestSink(t, o, "dlq")
	for range 2 {
		_, err := s.Deliver(t.Context(), letters(10, 10), func(sinks.Note) {})
		var re *sinks.RequestError
		if !errors.As(err, &re) || !re.Misconfigured || !strings.Contains(err.Error(), "kafka-acls") {
			t.Fatalf("error %v; want one that says which right is missing", err)
		}
	}
}

func TestSinkWaitsForABrokerThatComesLater(t *testing.T) {
	s := newTestSink(t, Options{Brokers: []string{"127.0.0.1:1"}}, "dlq")
	_, err := s.Deliver(t.Context(), letters(1, 1), func(sinks.Note) {})
	var re *sinks.RequestError
	if !errors.As(err, &re) || re.Misconfigured || !strings.Contains(err.Error(), "nothing listens there") {
		t.Fatalf("error %v", err)
	}
}

func TestSinkTakesUpARotatedPassword(t *testing.T) {
	for _, mechanism := range []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"} {
		t.Run(mechanism, func(t *testing.T) {
			_, o := fakeCluster(t, kfake.SeedTopics(1, "dlq"), kfake.EnableSASL(), kfake.Superuser(mechanism, "weir", "new-secret"))
			var password atomic.Value
			password.Store("old-secret")
			o.SASL = &SASL{Mechanism: mechanism, Username: "weir", Password: func() (string, error) { return password.Load().(string), nil }}
			s := newTestSink(t, o, "dlq")
			_, err := s.Deliver(t.Context(), letters(1, 1), func(sinks.Note) {})
			var re *sinks.RequestError
			if !errors.As(err, &re) || !strings.Contains(err.Error(), "are the user name and the password right?") {
				t.Fatalf("error %v", err)
			}
			if strings.Contains(err.Error(), "old-secret") {
				t.Fatalf("the password is in the error: %v", err)
			}
			password.Store("new-secret")
			allAcked(t, deliver(t, s, letters(1, 1)))
		})
	}
}

func TestSinkSaysWhichSecretItCannotRead(t *testing.T) {
	_, o := fakeCluster(t, kfake.SeedTopics(1, "dlq"), kfake.EnableSASL())
	for _, mechanism := range []string{"PLAIN", "SCRAM-SHA-256"} {
		o.SASL = &SASL{Mechanism: mechanism, Username: "weir", Password: func() (string, error) { return "", errors.New("no such file") }}
		_, err := newTestSink(t, o, "dlq").Deliver(t.Context(), letters(1, 1), func(sinks.Note) {})
		if err == nil || !strings.Contains(err.Error(), `"weir": no such file`) {
			t.Errorf("%s: error %v", mechanism, err)
		}
	}
}

func TestClosedSinkDeliversNothing(t *testing.T) {
	_, o := fakeCluster(t, kfake.SeedTopics(1, "dlq"))
	s := NewSink(o, "dlq")
	allAcked(t, deliver(t, s, letters(1, 1)))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Deliver(t.Context(), letters(1, 1), func(sinks.Note) {}); err == nil {
		t.Error("a closed sink delivered")
	}
}

func TestSharesKeepRequestsSmallAndOrdered(t *testing.T) {
	var sh share
	for i, n := range []int64{3 << 20, 700_000, 700_000, 10} {
		sh.add(i, n)
	}
	var sizes []int
	for _, r := range sh.runs {
		sizes = append(sizes, r.records)
	}
	if !slices.Equal(sizes, []int{1, 1, 2}) || !slices.Equal(sh.at, []int{0, 1, 2, 3}) {
		t.Errorf("runs of %v records, in the order %v", sizes, sh.at)
	}
}
