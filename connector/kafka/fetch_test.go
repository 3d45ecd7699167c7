package kafka

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"weir/buffer"
	"weir/connector"
)

// testLog writes to the test's log, and remembers.
type testLog struct {
	t  *testing.T
	mu sync.Mutex
	b  strings.Builder
}

func (l *testLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b.Write(p)
	return len(p), nil
}

func (l *testLog) has(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.b.String(), text)
}

func (l *testLog) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), text)
}

func newTestLog(t *testing.T) (*testLog, *slog.Logger) {
	l := &testLog{t: t}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(l.b.String())
		}
	})
	return l, slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// client is a franz-go client on the same brokers.
func client(t *testing.T, o Options, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(o.Brokers...),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchMaxBytes(64 << 20), kgo.BrokerMaxWriteBytes(100 << 20),
		kgo.MetadataMinAge(50 * time.Millisecond),
	}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

func write(t *testing.T, cl *kgo.Client, records ...*kgo.Record) {
	t.Helper()
	if err := cl.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// numbered are n records with their number as value.
func numbered(topic string, partition int32, from, n int) []*kgo.Record {
	records := make([]*kgo.Record, n)
	for i := range records {
		records[i] = &kgo.Record{Topic: topic, Partition: partition, Value: fmt.Appendf(nil, "%d", from+i)}
	}
	return records
}

func newTestFetcher(t *testing.T, o Options, limit int64) *fetcher {
	t.Helper()
	_, log := newTestLog(t)
	ctx, cancel := context.WithCancel(context.Background())
	c := newCluster(ctx, o)
	f := newFetcher(ctx, c, limit, log, func(string) {})
	t.Cleanup(func() {
		f.Close()
		cancel()
		c.Close()
	})
	return f
}

func at(topic string, partition int32) *buffer.Origin {
	return &buffer.Origin{Topic: topic, Partition: partition}
}

// copied are a run's records with memory of their own.
func copied(run connector.Run) []buffer.Record {
	var size int64
	for i := range run.Records {
		size += run.Records[i].Size()
	}
	return buffer.NewChunk(run.Records, size).Records
}

// readUntil reads until next is reached.
func readUntil(t *testing.T, r *partitionReader, next int64) []buffer.Record {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var records []buffer.Record
	for {
		run, err := r.Next(ctx)
		if err != nil {
			_, trouble := r.Trouble()
			t.Fatalf("after %d records: %v (trouble: %v)", len(records), err, trouble)
		}
		records = append(records, copied(run)...)
		if run.Next >= next {
			return records
		}
	}
}

func wantNumbers(t *testing.T, records []buffer.Record, from, n int) {
	t.Helper()
	if len(records) != n {
		t.Fatalf("%d records, want %d", len(records), n)
	}
	for i, r := range records {
		if string(r.Value) != fmt.Sprint(from+i) {
			t.Fatalf("record %d at offset %d is %.40q, want %d", i, r.Offset, r.Value, from+i)
		}
	}
}

func TestRecordsAreReadAsTheyWereWritten(t *testing.T) {
	for _, codec := range []struct {
		name string
		kgo.CompressionCodec
	}{{"none", kgo.NoCompression()}, {"gzip", kgo.GzipCompression()}, {"snappy", kgo.SnappyCompression()}, {"lz4", kgo.Lz4Compression()}, {"zstd", kgo.ZstdCompression()}} {
		t.Run(codec.name, func(t *testing.T) {
			_, o := fakeCluster(t, kfake.SeedTopics(1, "t"))
			when := time.UnixMilli(1700000000123).UTC()
			want := []buffer.Record{
				{Key: nil, Value: nil},
				{Key: []byte{}, Value: []byte{}},
				{Key: []byte("k"), Value: []byte("v"), Headers: []buffer.Header{{Key: "a", Value: nil}, {Key: "", Value: []byte{}}, {Key: "a", Value: []byte{0, 255}}}},
				{Value: bytes.Repeat([]byte("x"), 100_000)},
			}
			cl := client(t, o, kgo.ProducerBatchCompression(codec.CompressionCodec))
			for i, w := range want {
				r := &kgo.Record{Topic: "t", Key: w.Key, Value: w.Value, Timestamp: when.Add(time.Duration(i) * time.Millisecond)}
				for _, h := range w.Headers {
					r.Headers = append(r.Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
				}
				write(t, cl, r)
			}
			got := readUntil(t, newTestFetcher(t, o, 8<<20).Add(at("t", 0), 0), int64(len(want)))
			if len(got) != len(want) {
				t.Fatalf("%d records, want %d", len(got), len(want))
			}
			same := func(a, b []byte) bool { return bytes.Equal(a, b) && (a == nil) == (b == nil) }
			for i, w := range want {
				g := got[i]
				if g.Offset != int64(i) || g.Topic != "t" || !g.Time.Equal(when.Add(time.Duration(i)*time.Millisecond)) {
					t.Errorf("record %d: offset %d, topic %q, time %v", i, g.Offset, g.Topic, g.Time)
				}
				if !same(g.Key, w.Key) || !same(g.Value, w.Value) {
					t.Errorf("record %d: key %#v, value %.50q", i, g.Key, g.Value)
				}
				if len(g.Headers) != len(w.Headers) {
					t.Fatalf("record %d: headers %v", i, g.Headers)
				}
				for j, h := range w.Headers {
					if g.Headers[j].Key != h.Key || !same(g.Headers[j].Value, h.Value) {
						t.Errorf("record %d: header %d is %#v", i, j, g.Headers[j])
					}
				}
			}
		})
	}
}

func TestReadingBeginsInTheMiddleOfABatch(t *testing.T) {
	_, o := fakeCluster(t, kfake.SeedTopics(1, "t"))
	write(t, client(t, o), numbered("t", 0, 0, 5000)...)
	f := newTestFetcher(t, o, 8<<20)
	r := f.Add(at("t", 0), 1234)
	wantNumbers(t, readUntil(t, r, 5000), 1234, 5000-1234)
	r.GoTo(4999)
	wantNumbers(t, readUntil(t, r, 5000), 4999, 1)
}

func TestNewRecordsWakeAReaderThatWaits(t *testing.T) {
	_, o := fakeCluster(t, kfake.SeedTopics(2, "t"))
	cl := client(t, o)
	f := newTestFetcher(t, o, 8<<20)
	a, b := f.Add(at("t", 0), 0), f.Add(at("t", 1), 0)
	for i := range 5 {
		write(t, cl, numbered("t", 0, i, 1)...)
		wantNumbers(t, readUntil(t, a, int64(i+1)), i, 1)
	}
	write(t, cl, numbered("t", 1, 0, 1)...)
	wantNumbers(t, readUntil(t, b, 1), 0, 1)
	if a.End() != 5 || b.End() != 1 {
		t.Errorf("ends are %d and %d", a.End(), b.End())
	}
}

// A lane that stands still with all that it may hold fetches nothing, for hours if
// its sink is away: it is then that its lag is looked at.
func TestTheEndIsHeardWhileNothingIsFetched(t *testing.T) {
	t.Parallel()
	_, o := fakeCluster(t, kfake.SeedTopics(1, "t"))
	cl := client(t, o)
	write(t, cl, numbered("t", 0, 0, 3)...)
	r := newTestFetcher(t, o, 8<<20).Add(at("t", 0), 0)
	wantNumbers(t, readUntil(t, r, 3), 0, 3)
	write(t, cl, numbered("t", 0, 3, 2)...) // lie in the box: nobody takes them
	for deadline := time.Now().Add(30 * time.Second); r.End() != 5; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the end is %d, want 5", r.End())
		}
	}
	write(t, cl, numbered("t", 0, 5, 100)...)
	for deadline := time.Now().Add(30 * time.Second); r.End() != 105; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the end is %d, want 105: nothing is fetched, and nobody asks", r.End())
		}
	}
}

func TestAbortedTransactionsAndMarkersAreSkipped(t *testing.T) {
	_, o := fakeCluster(t, kfake.SeedTopics(1, "t"))
	cl := client(t, o, kgo.TransactionalID("tx"))
	plain := client(t, o)
	var want []string
	for i := range 6 {
		if err := cl.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		write(t, cl, numbered("t", 0, 100*i, 3)...)
		write(t, plain, numbered("t", 0, 100*i+50, 1)...)
		write(t, cl, numbered("t", 0, 100*i+10, 1)...)
		commit := kgo.TransactionEndTry(i%2 == 0)
		if err := cl.EndTransaction(t.Context(), commit); err != nil {
			t.Fatal(err)
		}
		if commit {
			want = append(want, fmt.Sprint(100*i), fmt.Sprint(100*i+1), fmt.Sprint(100*i+2), fmt.Sprint(100*i+50), fmt.Sprint(100*i+10))
		} else {
			want = append(want, fmt.Sprint(100*i+50))
		}
	}
	end := int64(6 * 6) // five records and a marker each
	var got []string
	for _, r := range readUntil(t, newTestFetcher(t, o, 8<<20).Add(at("t", 0), 0), end) {
		got = append(got, string(r.Value))
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("read %v\nwant %v", got, want)
	}
	// What is hidden is told, with the reason: a marker each, four records of each
	// that was aborted.
	hidden := map[connector.GapReason]int64{}
	r := newTestFetcher(t, o, 8<<20).Add(at("t", 0), 0)
	for next := int64(0); next < end; {
		run, err := r.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range run.Gaps {
			hidden[g.Why] += g.To - g.From
		}
		next = run.Next
	}
	if hidden[connector.GapControl] != 6 || hidden[connector.GapAborted] != 3*4 || hidden[connector.GapHole] != 0 {
		t.Errorf("hidden: %v, want 6 markers and 12 aborted records", hidden)
	}
}

func TestRecordsOfAnOpenTransactionAreWaitedFor(t *testing.T) {
	_, o := fakeCluster(t, kfake.SeedTopics(1, "t"))
	cl := client(t, o, kgo.TransactionalID("tx"))
	plain := client(t, o)
	write(t, plain, numbered("t", 0, 0, 2)...)
	if err := cl.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	write(t, cl, numbered("t", 0, 2, 1)...)
	write(t, plain, numbered("t", 0, 3, 1)...)
	r := newTestFetcher(t, o, 8<<20).Add(at("t", 0), 0)
	wantNumbers(t, readUntil(t, r, 2), 0, 2)
	if err := cl.EndTransaction(t.Context(), kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	wantNumbers(t, readUntil(t, r, 5), 2, 2)
}

func TestARecordOfTwentyMegabytesIsRead(t *testing.T) {
	_, o := fakeCluster(t, kfake.SeedTopics(2, "t"), kfake.BrokerConfigs(map[string]string{"message.max.bytes": "104857600"}))
	big := make([]byte, 20<<20)
	random := rand.NewChaCha8([32]byte{})
	_, _ = random.Read(big)
	cl := client(t, o)
	write(t, cl, &kgo.Record{Topic: "t", Value: []byte("0")})
	write(t, cl, &kgo.Record{Topic: "t", Value: big})
	write(t, cl, &kgo.Record{Topic: "t", Value: []byte("2")})
	write(t, cl, numbered("t", 1, 0, 100)...)
	f := newTestFetcher(t, o, 1<<20)
	r, other := f.Add(at("t", 0), 0), f.Add(at("t", 1), 0)
	got := readUntil(t, r, 3)
	if len(got) != 3 || !bytes.Equal(got[1].Value, big) || string(got[2].Value) != "2" {
		t.Fatalf("%d records", len(got))
	}
	wantNumbers(t, readUntil(t, other, 100), 0, 100)
}

// A lane that stands still with a batch larger than everything must not keep the
// others from going on.
func TestAGiantBatchThatIsNotTakenDoesNotStopTheOthers(t *testing.T) {
	_, o := fakeCluster(t, kfake.SeedTopics(3, "t"), kfake.BrokerConfigs(map[string]string{"message.max.bytes": "104857600"}))
	cl := client(t, o)
	write(t, cl, &kgo.Record{Topic: "t", Value: make([]byte, 8<<20)})
	for p := int32(1); p < 3; p++ {
		for i := range 200 {
			write(t, cl, &kgo.Record{Topic: "t", Partition: p, Value: bytes.Repeat([]byte{'a' + byte(i%20)}, 20_000)})
		}
	}
	f := newTestFetcher(t, o, 1<<20)
	stuck := f.Add(at("t", 0), 0)
	readUntil(t, stuck, 1)
	for p := int32(1); p < 3; p++ {
		if got := readUntil(t, f.Add(at("t", p), 0), 200); len(got) != 200 {
			t.Errorf("partition %d: %d records", p, len(got))
		}
	}
}

func TestCompressedBatchesStayWithinTheLimit(t *testing.T) {
	const partitions, batches, limit = 48, 6, 16 << 20
	_, o := fakeCluster(t, kfake.SeedTopics(partitions, "t"))
	cl := client(t, o, kgo.ProducerBatchCompression(kgo.ZstdCompression()))
	value := bytes.Repeat([]byte("all the same "), 80) // 1 KB
	var batch int64
	for p := range int32(partitions) {
		for range batches {
			records := make([]*kgo.Record, 800)
			batch = 0
			for i := range records {
				records[i] = &kgo.Record{Topic: "t", Partition: p, Value: value}
				batch += int64(len(value)) + 20
			}
			write(t, cl, records...)
		}
	}
	f := newTestFetcher(t, o, limit)
	var wg sync.WaitGroup
	for p := range int32(partitions) {
		r := f.Add(at("t", p), 0)
		wg.Go(func() {
			defer r.Close()
			if got := readUntil(t, r, 800*batches); len(got) != 800*batches {
				t.Errorf("partition %d: %d records", p, len(got))
			}
		})
	}
	wg.Wait()
	eventually(t, "nothing is held", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.held == 0 && f.giant == 0 && !f.giantAsked
	})
	f.mu.Lock()
	defer f.mu.Unlock()
	t.Logf("peak %d MiB of %d MiB, a batch is %d KiB, expansion %.0f", f.peak>>20, limit>>20, batch>>10, f.ratio)
	if f.peak > limit+batch {
		t.Errorf("%d bytes were held, the limit is %d and a batch has %d", f.peak, int64(limit), batch)
	}
}

// What a reader does not take holds its place; when it is closed all is given
// back.
func TestClosedReadersGiveBackTheirMemory(t *testing.T) {
	_, o := fakeCluster(t, kfake.SeedTopics(4, "t"))
	cl := client(t, o)
	f := newTestFetcher(t, o, 4<<20)
	var readers []*partitionReader
	for p := range int32(4) {
		write(t, cl, numbered("t", p, 0, 3000)...)
		r := f.Add(at("t", p), 0)
		if _, err := r.Next(t.Context()); err != nil {
			t.Fatal(err)
		}
		readers = append(readers, r)
	}
	for _, r := range readers {
		r.Close()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.held != 0 || f.giant != 0 {
		t.Errorf("%d bytes are held by nobody", f.held)
	}
}

func TestOutOfRangeIsToldUntilSentElsewhere(t *testing.T) {
	c, o := fakeCluster(t, kfake.SeedTopics(1, "t"))
	write(t, client(t, o), numbered("t", 0, 0, 10)...)
	if err := c.DeleteRecords("t", 0, 4); err != nil {
		t.Fatal(err)
	}
	f := newTestFetcher(t, o, 8<<20)
	for _, offset := range []int64{2, 11} {
		r := f.Add(at("t", 0), offset)
		for range 2 {
			_, err := r.Next(t.Context())
			var out *OutOfRangeError
			if !errors.As(err, &out) || out.Offset != offset {
				t.Fatalf("reading at %d: %v", offset, err)
			}
		}
		r.GoTo(4)
		wantNumbers(t, readUntil(t, r, 10), 4, 6)
		r.Close()
	}
}

// now is a partition of the topic that there is now.
func now(t *testing.T, f *fetcher, topic string, partition int32) *buffer.Origin {
	t.Helper()
	is, err := f.cluster.topicNow(t.Context(), topic)
	if err != nil || is.id == "" {
		t.Fatalf("topic %q: id %q, %v", topic, is.id, err)
	}
	return &buffer.Origin{Topic: topic, TopicID: is.id, Partition: partition}
}

func TestTopicsAreAskedForByTheirIDs(t *testing.T) {
	c, o := fakeCluster(t, kfake.SeedTopics(2, "a", "b"))
	o.Rack = "near"
	asked := make(chan *kmsg.FetchRequest, 1000)
	c.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		asked <- req.(*kmsg.FetchRequest)
		return nil, nil, false
	})
	cl := client(t, o)
	f := newTestFetcher(t, o, 8<<20)
	var readers []*partitionReader
	for _, topic := range []string{"a", "b"} {
		for p := range int32(2) {
			write(t, cl, numbered(topic, p, 0, 10)...)
			readers = append(readers, f.Add(now(t, f, topic, p), int64(p)))
		}
	}
	for i, r := range readers {
		wantNumbers(t, readUntil(t, r, 10), i%2, 10-i%2)
	}
	in := <-asked
	if in.Version != fetchByID || in.ReplicaID != -1 || in.Rack != "near" || in.IsolationLevel != 1 || in.SessionEpoch != -1 || in.MinBytes != 1 || in.MaxBytes < minWire {
		t.Errorf("asked %+v", in)
	}
}

// The new log is as long as the old one was read, so that nothing in an answer says
// that it is another one's.
func TestATopicThatWasMadeAgainIsNotReadOnFrom(t *testing.T) {
	c, o := fakeCluster(t, kfake.SeedTopics(1, "t"))
	write(t, client(t, o), numbered("t", 0, 0, 5)...)
	suspected := make(chan string, 1000)
	_, log := newTestLog(t)
	f := newFetcher(t.Context(), newCluster(t.Context(), o), 8<<20, log, func(topic string) { suspected <- topic })
	t.Cleanup(func() { f.Close(); f.cluster.Close() })
	old := f.Add(now(t, f, "t", 0), 0)
	wantNumbers(t, readUntil(t, old, 5), 0, 5)
	// It asks for nothing meanwhile: what comes lies in its box.
	write(t, client(t, o), numbered("t", 0, 5, 1)...)
	eventually(t, "the box is full", func() bool { return old.End() == 6 })
	if err := c.DeleteTopic("t"); err != nil {
		t.Fatal(err)
	}
	if err := c.CreateTopic("t", 1, nil); err != nil {
		t.Fatal(err)
	}
	write(t, client(t, o), numbered("t", 0, 100, 20)...)
	wantNumbers(t, readUntil(t, old, 6), 5, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	go func() {
		if topic := <-suspected; topic == "t" {
			cancel()
		}
	}()
	if run, err := old.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("%d records, up to offset %d, of the new log: %v", len(run.Records), run.Next, err)
	}
	wantNumbers(t, readUntil(t, f.Add(now(t, f, "t", 0), 0), 20), 100, 20)
}

// failFetches makes the next n fetches go wrong for the partitions in them.
func failFetches(c *kfake.Cluster, n int, code int16) {
	for range n {
		c.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
			in := req.(*kmsg.FetchRequest)
			resp := in.ResponseKind().(*kmsg.FetchResponse)
			for _, topic := range in.Topics {
				t := kmsg.NewFetchResponseTopic()
				t.Topic, t.TopicID = topic.Topic, topic.TopicID
				for _, p := range topic.Partitions {
					rp := kmsg.NewFetchResponseTopicPartition()
					rp.Partition, rp.ErrorCode = p.Partition, code
					rp.HighWatermark, rp.LastStableOffset, rp.LogStartOffset = -1, -1, -1
					t.Partitions = append(t.Partitions, rp)
				}
				resp.Topics = append(resp.Topics, t)
			}
			return resp, nil, true
		})
	}
}

func TestReadingGoesOnAfterErrors(t *testing.T) {
	for _, e := range []*kerr.Error{
		kerr.NotLeaderForPartition, kerr.FencedLeaderEpoch, kerr.UnknownLeaderEpoch, kerr.LeaderNotAvailable,
		kerr.OffsetNotAvailable, kerr.KafkaStorageError, kerr.UnknownTopicOrPartition, kerr.TopicAuthorizationFailed,
		kerr.CorruptMessage, kerr.UnknownServerError,
	} {
		t.Run(e.Message, func(t *testing.T) {
			c, o := fakeCluster(t, kfake.NumBrokers(2), kfake.SeedTopics(4, "t"))
			cl := client(t, o)
			for p := range int32(4) {
				write(t, cl, numbered("t", p, 0, 100)...)
			}
			failFetches(c, 3, e.Code)
			f := newTestFetcher(t, o, 8<<20)
			for p := range int32(4) {
				r := f.Add(at("t", p), 0)
				wantNumbers(t, readUntil(t, r, 100), 0, 100)
				if since, err := r.Trouble(); err != nil {
					t.Errorf("trouble since %v after all was read: %v", since, err)
				}
			}
		})
	}
}

func TestTroubleIsToldWhileItLasts(t *testing.T) {
	c, o := fakeCluster(t, kfake.SeedTopics(1, "t"))
	failFetches(c, 1, kerr.TopicAuthorizationFailed.Code)
	c.KeepControl()
	r := newTestFetcher(t, o, 8<<20).Add(at("t", 0), 0)
	eventually(t, "trouble is told", func() bool {
		_, err := r.Trouble()
		return errors.Is(err, sarama.ErrTopicAuthorizationFailed)
	})
}

func TestReadingGoesOnAfterDroppedConnections(t *testing.T) {
	c, o := fakeCluster(t, kfake.NumBrokers(2), kfake.SeedTopics(4, "t"))
	cl := client(t, o)
	for p := range int32(4) {
		write(t, cl, numbered("t", p, 0, 3000)...)
	}
	for i := range 5 {
		c.ControlKey(int16(kmsg.Fetch), func(kmsg.Request) (kmsg.Response, error, bool) {
			return nil, fmt.Errorf("drop %d", i), true
		})
	}
	f := newTestFetcher(t, o, 8<<20)
	for p := range int32(4) {
		wantNumbers(t, readUntil(t, f.Add(at("t", p), 0), 3000), 0, 3000)
	}
}

func TestReadingFollowsTheLeader(t *testing.T) {
	c, o := fakeCluster(t, kfake.NumBrokers(3), kfake.SeedTopics(1, "t"))
	cl := client(t, o)
	r := newTestFetcher(t, o, 8<<20).Add(at("t", 0), 0)
	for i := range 3 {
		if err := c.MoveTopicPartition("t", 0, int32(i)); err != nil {
			t.Fatal(err)
		}
		write(t, cl, numbered("t", 0, 10*i, 10)...)
		wantNumbers(t, readUntil(t, r, int64(10*i+10)), 10*i, 10)
	}
}

func TestANearerReplicaIsRead(t *testing.T) {
	c, o := fakeCluster(t, kfake.NumBrokers(2), kfake.SeedTopics(1, "t"))
	write(t, client(t, o), numbered("t", 0, 0, 10)...)
	leader := c.LeaderFor("t", 0)
	near := 1 - leader
	c.SetFollowers("t", 0, []int32{near})
	asked := make(chan int32, 1000)
	c.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		node := c.CurrentNode()
		select {
		case asked <- node:
		default:
		}
		if node != leader {
			return nil, nil, false
		}
		in := req.(*kmsg.FetchRequest)
		if in.Rack != "near" {
			t.Errorf("asked for rack %q", in.Rack)
		}
		resp := in.ResponseKind().(*kmsg.FetchResponse)
		topic, p := kmsg.NewFetchResponseTopic(), kmsg.NewFetchResponseTopicPartition()
		topic.Topic = "t"
		p.PreferredReadReplica, p.HighWatermark, p.LastStableOffset = near, 10, 10
		topic.Partitions = append(topic.Partitions, p)
		resp.Topics = append(resp.Topics, topic)
		return resp, nil, true
	})
	o.Rack = "near"
	wantNumbers(t, readUntil(t, newTestFetcher(t, o, 8<<20).Add(at("t", 0), 0), 10), 0, 10)
	if first, second := <-asked, <-asked; first != leader || second != near {
		t.Errorf("asked broker %d, then %d; %d leads", first, second, leader)
	}
}

// serve answers the next fetch with raw for the partitions in it that raw has
// something for, and with nothing for all others; end is every log's end.
func serve(in *kmsg.FetchRequest, end int64, raw func(partition int32, from int64) []byte) *kmsg.FetchResponse {
	resp := in.ResponseKind().(*kmsg.FetchResponse)
	for _, topic := range in.Topics {
		rt := kmsg.NewFetchResponseTopic()
		rt.Topic, rt.TopicID = topic.Topic, topic.TopicID
		for _, p := range topic.Partitions {
			rp := kmsg.NewFetchResponseTopicPartition()
			rp.Partition, rp.HighWatermark, rp.LastStableOffset, rp.PreferredReadReplica = p.Partition, end, end, -1
			rp.RecordBatches = raw(p.Partition, p.FetchOffset)
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

// One partition holds a batch that cannot be read: it stops there, all others and
// its own batches before that go on, and nothing is skipped.
func TestAnUnreadableBatchStopsItsPartitionAlone(t *testing.T) {
	spoil := map[string]func(raw []byte) []byte{
		"checksum": func(raw []byte) []byte { raw[len(raw)-1] ^= 1; return raw },
		"length":   func(raw []byte) []byte { binary.BigEndian.PutUint32(raw[8:], 3); return raw },
		"format":   func(raw []byte) []byte { raw[16] = 7; return raw },
		"codec":    func([]byte) []byte { return oneRecord(2, "2", func(b *kmsg.RecordBatch) { b.Attributes = 6 }) },
		"not gzip": func([]byte) []byte { return oneRecord(2, "2", func(b *kmsg.RecordBatch) { b.Attributes = 1 }) },
		"too few": func([]byte) []byte {
			return oneRecord(2, "2", func(b *kmsg.RecordBatch) { b.NumRecords, b.LastOffsetDelta = 2, 1 })
		},
		"backwards": func([]byte) []byte { return oneRecord(2, "2", func(b *kmsg.RecordBatch) { b.LastOffsetDelta = -1 }) },
		"overlong": func([]byte) []byte {
			return oneRecord(2, "2", func(b *kmsg.RecordBatch) { b.Records = append(b.Records, 0) })
		},
	}
	for what, spoil := range spoil {
		t.Run(what, func(t *testing.T) {
			c, o := fakeCluster(t, kfake.SeedTopics(3, "t"))
			c.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
				c.KeepControl()
				return serve(req.(*kmsg.FetchRequest), 4, func(partition int32, from int64) (raw []byte) {
					for at := from; at < 4; at++ {
						one := oneRecord(at, fmt.Sprint(at), nil)
						if partition == 1 && at == 2 {
							one = spoil(one)
						}
						raw = append(raw, one...)
					}
					return raw
				}), nil, true
			})
			f := newTestFetcher(t, o, 8<<20)
			bad := f.Add(at("t", 1), 0)
			wantNumbers(t, readUntil(t, f.Add(at("t", 0), 0), 4), 0, 4)
			wantNumbers(t, readUntil(t, f.Add(at("t", 2), 0), 4), 0, 4)
			wantNumbers(t, readUntil(t, bad, 2), 0, 2)
			eventually(t, "the damaged batch is told of", func() bool {
				_, err := bad.Trouble()
				return err != nil && strings.Contains(err.Error(), "the batch at offset 2 cannot be read")
			})
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			if run, err := bad.Next(ctx); err == nil {
				t.Errorf("went on to %d", run.Next)
			}
		})
	}
}

// A batch that would expand beyond what may be expanded is real data: its
// partition stops before it, loudly, and the others go on.
func TestABatchThatExpandsTooFarStopsItsPartitionAlone(t *testing.T) {
	_, o := fakeCluster(t, kfake.SeedTopics(2, "t"))
	cl := client(t, o, kgo.ProducerBatchCompression(kgo.ZstdCompression()))
	write(t, cl, numbered("t", 0, 0, 5)...)
	write(t, cl, &kgo.Record{Topic: "t", Value: make([]byte, 4<<20)})
	write(t, cl, numbered("t", 1, 0, 5)...)
	f := newTestFetcher(t, o, 8<<20)
	f.batchMax = 1 << 20
	r, other := f.Add(at("t", 0), 0), f.Add(at("t", 1), 0)
	wantNumbers(t, readUntil(t, r, 5), 0, 5)
	wantNumbers(t, readUntil(t, other, 5), 0, 5)
	eventually(t, "the batch is told of", func() bool {
		_, err := r.Trouble()
		return errors.As(err, new(*tooLarge)) && strings.Contains(err.Error(), "offset 5")
	})
	write(t, cl, numbered("t", 1, 5, 5)...)
	wantNumbers(t, readUntil(t, other, 10), 5, 5)
}

// Records alias the batch they came in: a reader that waits must not keep the
// last one alive, which is no longer accounted for.
func TestAReaderThatWaitsKeepsNothing(t *testing.T) {
	_, o := fakeCluster(t, kfake.SeedTopics(1, "t"))
	write(t, client(t, o), &kgo.Record{Topic: "t", Value: []byte("v"), Headers: []kgo.RecordHeader{{Key: "k", Value: []byte("h")}}})
	f := newTestFetcher(t, o, 8<<20)
	r := f.Add(at("t", 0), 0)
	run, err := r.Next(t.Context())
	if err != nil || len(run.Records) != 1 {
		t.Fatalf("%d records, %v", len(run.Records), err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := r.Next(ctx); err == nil {
		t.Fatal("there is no second record")
	}
	if run.Records[0].Value != nil || r.scratch.headers[:1][0].Value != nil {
		t.Error("the reader still refers to what it handed out")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.held != 0 {
		t.Errorf("%d bytes are accounted for", f.held)
	}
}

// oneRecord is a batch of one record, altered before it gets its checksum.
func oneRecord(offset int64, value string, alter func(*kmsg.RecordBatch)) []byte {
	b := kmsg.RecordBatch{FirstOffset: offset, Magic: 2, NumRecords: 1, Records: plainRecord(0, 0, value), ProducerID: -1}
	if alter != nil {
		alter(&b)
	}
	return sealed(b)
}

// Compaction leaves batches without records.
func TestBatchesWithoutRecordsArePassed(t *testing.T) {
	c, o := fakeCluster(t, kfake.SeedTopics(1, "t"))
	write(t, client(t, o), numbered("t", 0, 0, 20)...)
	c.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		return serve(req.(*kmsg.FetchRequest), 20, func(int32, int64) []byte {
			return sealed(kmsg.RecordBatch{FirstOffset: 5, Magic: 2, LastOffsetDelta: 9, ProducerID: -1})
		}), nil, true
	})
	r := newTestFetcher(t, o, 8<<20).Add(at("t", 0), 5)
	run, err := r.Next(t.Context())
	if err != nil || len(run.Records) != 0 || run.Next != 15 {
		t.Fatalf("%d records, next %d, %v", len(run.Records), run.Next, err)
	}
	if len(run.Gaps) != 1 || run.Gaps[0] != (connector.Gap{From: 5, To: 15, Why: connector.GapHole}) {
		t.Errorf("gaps %+v", run.Gaps)
	}
	wantNumbers(t, readUntil(t, r, 20), 15, 5)
}

// eventually waits until ok, which must come true.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("it never came true that %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
