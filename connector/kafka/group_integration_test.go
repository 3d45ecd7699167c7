//go:build integration

package kafka

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/metrics"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"weir/buffer"
	"weir/connector"
)

// realBroker is the broker in WEIR_TEST_KAFKA.
func realBroker(t *testing.T) Options {
	t.Helper()
	addr := os.Getenv("WEIR_TEST_KAFKA")
	if addr == "" {
		t.Skip("WEIR_TEST_KAFKA is not set")
	}
	return Options{Brokers: strings.Split(addr, ","), ClientID: "weir-test"}
}

// makeTopic makes a topic that is deleted when the test ends.
func makeTopic(t *testing.T, o Options, name string, partitions int32, configs ...string) {
	t.Helper()
	cl := client(t, o)
	req := kmsg.NewPtrCreateTopicsRequest()
	rt := kmsg.NewCreateTopicsRequestTopic()
	rt.Topic, rt.NumPartitions, rt.ReplicationFactor = name, partitions, 1
	for i := 0; i < len(configs); i += 2 {
		rt.Configs = append(rt.Configs, kmsg.CreateTopicsRequestTopicConfig{Name: configs[i], Value: &configs[i+1]})
	}
	req.Topics = append(req.Topics, rt)
	// The name may still be taken by one that is being deleted.
	eventually(t, "the topic is made", func() bool {
		resp, err := req.RequestWith(t.Context(), cl)
		if err != nil {
			t.Fatal(err)
		}
		return resp.Topics[0].ErrorCode == 0
	})
	t.Cleanup(func() { dropTopic(t, o, name) })
}

func dropTopic(t *testing.T, o Options, name string) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(o.Brokers...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	req := kmsg.NewPtrDeleteTopicsRequest()
	rt := kmsg.NewDeleteTopicsRequestTopic()
	rt.Topic = &name
	req.Topics, req.TopicNames = append(req.Topics, rt), []string{name}
	if _, err := req.RequestWith(context.Background(), cl); err != nil {
		t.Error(err)
	}
}

// unique is a name that no other run uses.
func unique(name string) string { return fmt.Sprintf("weir-group-%s-%08x", name, rand.Uint32()) }

func TestIntegrationATopicMadeAgainIsReadFromItsStart(t *testing.T) {
	o, topic := realBroker(t), unique("remade")
	makeTopic(t, o, topic, 2)
	c := newCatch()
	g, stop, _ := join(t, GroupConfig{Options: o, Group: topic, Topics: []string{topic}, Start: Start{Latest: true}, Lane: c.lane})
	eventually(t, "it reads", func() bool { return running(c, topic+"/0") && running(c, topic+"/1") })
	cl := client(t, o)
	write(t, cl, numbered(topic, 0, 0, 500)...)
	write(t, cl, numbered(topic, 1, 500, 500)...)
	eventually(t, "the old topic is read", c.has(1000))
	for round := range 2 {
		dropTopic(t, o, topic)
		makeTopic(t, o, topic, 2)
		fresh := client(t, o)
		write(t, fresh, numbered(topic, 0, 1000+1000*round, 100)...)
		write(t, fresh, numbered(topic, 1, 1500+1000*round, 100)...)
		eventually(t, "the new topic is read", func() bool { return len(c.distinct()) == 1000+200*(round+1) })
	}
	if c.ids() != 3 {
		t.Errorf("%d topic ids, want 3", c.ids())
	}
	t.Logf("status %+v", g.Status())
	stop()
	if offset, _ := committedAt(t, o, topic, topic, 0); offset != 100 {
		t.Errorf("committed %d, want 100", offset)
	}
}

func TestIntegrationTransactions(t *testing.T) {
	o, topic := realBroker(t), unique("tx")
	makeTopic(t, o, topic, 1)
	cl, plain := client(t, o, kgo.TransactionalID(topic)), client(t, o)
	want := 0
	for i := range 20 {
		if err := cl.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		write(t, cl, numbered(topic, 0, 1_000_000*i, 700)...)
		write(t, plain, numbered(topic, 0, 1_000_000*i+10_000, 3)...)
		write(t, cl, numbered(topic, 0, 1_000_000*i+20_000, 300)...)
		commit := kgo.TransactionEndTry(i%3 != 0)
		if err := cl.EndTransaction(t.Context(), commit); err != nil {
			t.Fatal(err)
		}
		want += 3
		if commit {
			want += 1000
		}
	}
	c := newCatch()
	_, stop, _ := join(t, GroupConfig{Options: o, Group: topic, Topics: []string{topic}, Lane: c.lane})
	const end = 20 * (1003 + 1)
	eventually(t, "the end is reached", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.ends[topic+"/0"] == end
	})
	stop()
	if c.count() != want || c.repeats != 0 {
		t.Errorf("%d records, %d twice, want %d", c.count(), c.repeats, want)
	}
	if offset, _ := committedAt(t, o, topic, topic, 0); offset != end {
		t.Errorf("committed %d, want %d", offset, end)
	}
}

func TestIntegrationABigRecordIsRead(t *testing.T) {
	o, topic := realBroker(t), unique("big")
	makeTopic(t, o, topic, 1, "max.message.bytes", "33554432")
	big := make([]byte, 20<<20)
	_, _ = rand.NewChaCha8([32]byte{}).Read(big)
	cl := client(t, o)
	write(t, cl, numbered(topic, 0, 0, 10)...)
	write(t, cl, &kgo.Record{Topic: topic, Value: big})
	write(t, cl, numbered(topic, 0, 10, 10)...)
	c := newCatch()
	_, stop, _ := join(t, GroupConfig{Options: o, Group: topic, Topics: []string{topic}, FetchBytes: 2 << 20, Lane: c.lane})
	eventually(t, "all are read", c.has(21))
	stop()
	for at, v := range c.values {
		if at.offset == 10 && v != string(big) {
			t.Error("the big record is not what was written")
		}
	}
}

// 48 partitions of batches that expand fifty times stay within the limit, by our
// own account and by the heap's.
func TestIntegrationCompressedBatchesStayWithinTheLimit(t *testing.T) {
	const parts, limit = 48, 32 << 20
	o, topic := realBroker(t), unique("zstd")
	makeTopic(t, o, topic, parts, "max.message.bytes", "8388608")
	cl := client(t, o, kgo.ProducerBatchCompression(kgo.ZstdCompression()), kgo.ProducerLinger(50*time.Millisecond))
	const perPart, size = 12_000, 1000
	random := rand.New(rand.NewPCG(1, 2))
	var wg sync.WaitGroup
	for p := range int32(parts) {
		for i := range perPart {
			wg.Add(1)
			v := fmt.Appendf(nil, `{"n":%d,"r":"%x","m":"`, i, random.Uint32())
			v = append(append(v, bytes.Repeat([]byte("an event like all others "), size/25)...), `"}`...)
			cl.Produce(t.Context(), &kgo.Record{Topic: topic, Partition: p, Value: v}, func(_ *kgo.Record, err error) {
				defer wg.Done()
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
	cl.Close()
	runtime.GC()
	var read counter
	peak := watchHeap(t)
	g, stop, _ := join(t, GroupConfig{Options: o, Group: topic, Topics: []string{topic}, FetchBytes: limit, Lane: read.lane})
	eventually(t, "all are read", func() bool { return read.records() == parts*perPart })
	s := g.Status()
	g.fetcher.mu.Lock()
	ratio := g.fetcher.ratio
	g.fetcher.mu.Unlock()
	stop()
	t.Logf("read %d MiB; fetched and not taken: peak %.1f MiB of %d; heap peak %.1f MiB; expansion now %.0f", parts*perPart*size>>20, float64(s.FetchPeak)/(1<<20), limit>>20, float64(peak())/(1<<20), ratio)
	if s.FetchPeak > limit+8<<20 {
		t.Errorf("%d bytes were held, the limit is %d", s.FetchPeak, int64(limit))
	}
}

// counter is a lane that does nothing.
type counter struct {
	mu sync.Mutex
	n  int
}

func (c *counter) records() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

func (c *counter) lane(ctx context.Context, _ *buffer.Origin, src connector.Source) error {
	for {
		run, err := src.Next(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		c.mu.Lock()
		c.n += len(run.Records)
		c.mu.Unlock()
		src.Commit(connector.Progress{Next: run.Next})
	}
}

// watchHeap watches the live heap; the func it returns says the largest size seen.
func watchHeap(t *testing.T) (peak func() uint64) {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	var mu sync.Mutex
	var most uint64
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	go func() {
		for sleep(ctx, 10*time.Millisecond) {
			metrics.Read(sample)
			mu.Lock()
			most = max(most, sample[0].Value.Uint64())
			mu.Unlock()
		}
	}()
	return func() uint64 {
		mu.Lock()
		defer mu.Unlock()
		return most
	}
}

func cpu(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// TestIntegrationSpeed tells what reading costs. It asserts nothing about time.
func TestIntegrationSpeed(t *testing.T) {
	o := realBroker(t)
	for _, codec := range []struct {
		name string
		kgo.CompressionCodec
	}{{"none", kgo.NoCompression()}, {"lz4", kgo.Lz4Compression()}, {"zstd", kgo.ZstdCompression()}} {
		t.Run(codec.name, func(t *testing.T) {
			const total, parts = 1_000_000, 6
			topic := unique("speed")
			makeTopic(t, o, topic, parts)
			fill(t, o, topic, parts, total, codec.CompressionCodec)
			runtime.GC()
			for range 3 {
				var read counter
				heap := watchHeap(t)
				before, began := cpu(t), time.Now()
				g, stop, _ := join(t, GroupConfig{Options: o, Group: unique("speed"), Topics: []string{topic}, FetchBytes: 16 << 20, Lane: read.lane})
				eventually(t, "all are read", func() bool { return read.records() >= total })
				spent, took := cpu(t)-before, time.Since(began)
				s := g.Status()
				stop()
				t.Logf("%.2f CPU-seconds a million records, %.2f s, heap peak %d MiB, fetched and not taken: peak %d MiB",
					spent.Seconds()*1e6/total, took.Seconds(), heap()>>20, s.FetchPeak>>20)
				if read.records() != total {
					t.Errorf("%d records", read.records())
				}
			}
		})
	}
}

// fill writes records of 500 bytes that look like events.
func fill(t *testing.T, o Options, topic string, parts int32, total int, codec kgo.CompressionCodec) {
	t.Helper()
	cl := client(t, o, kgo.ProducerBatchCompression(codec), kgo.ProducerBatchMaxBytes(16_384), kgo.MaxBufferedRecords(20_000))
	defer cl.Close()
	random := rand.New(rand.NewPCG(3, 4))
	var wg sync.WaitGroup
	for i := range total {
		v := fmt.Appendf(make([]byte, 0, 512), `{"@timestamp":"2026-01-02T03:04:05.%06dZ","host":{"name":"srv-%04d"},"user":"u%05d","event":{"code":%d,"id":"%016x%016x"},"message":"`,
			i%1_000_000, random.IntN(5000), random.IntN(20_000), random.IntN(6000), random.Uint64(), random.Uint64())
		for len(v) < 498 {
			v = append(v, "process started with arguments that nobody reads "...)
		}
		v = append(v[:498], `"}`...)
		wg.Add(1)
		cl.Produce(t.Context(), &kgo.Record{Topic: topic, Partition: int32(i) % parts, Value: v}, func(_ *kgo.Record, err error) {
			defer wg.Done()
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}
