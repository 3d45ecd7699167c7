//go:build integration

package kafka

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/IBM/sarama"

	"weir/buffer"
	"weir/sinks"
)

// writerOf is the writer of a topic's first partition, which has written. A topic
// that was just made, and a broker that was just started, need a while.
func writerOf(t *testing.T, s *Sink, topic string) *partitionWriter {
	t.Helper()
	eventually(t, "the topic takes records", func() bool {
		outcomes, err := s.Deliver(t.Context(), letters(5, 10), func(sinks.Note) {})
		return err == nil && outcomes[0].Verdict == sinks.Ack
	})
	return s.target(topic).writer(0)
}

// Everything rests on this: a broker answers a batch that comes again like the
// first time, and stores it once.
func TestIntegrationBrokerKnowsABatchAgain(t *testing.T) {
	o := realBroker(t)
	makeTopic(t, o, "weir-sink-again", 1)
	s := newTestSink(t, o, "weir-sink-again")
	w := writerOf(t, s, "weir-sink-again")
	b := letters(10, 10)
	var p packed
	p.fill(b.Records, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, form{codec: sarama.CompressionZSTD})
	batch := p.batch()
	if err := w.mark(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		block, _, err := w.attempt(t.Context(), batch)
		if err != nil || block.Err != sarama.ErrNoError || block.Offset != 5 {
			t.Fatalf("answer %+v, error %v", block, err)
		}
	}
	w.next += 10
	allAcked(t, deliver(t, s, letters(5, 10)))
	stored(t, o, "weir-sink-again", 20)
}

func TestIntegrationBrokerThatLostCountIsGivenANewOne(t *testing.T) {
	o := realBroker(t)
	makeTopic(t, o, "weir-sink-count", 1)
	s := newTestSink(t, o, "weir-sink-count")
	w := writerOf(t, s, "weir-sink-count")
	first := w.producer
	w.next += 3
	for _, out := range deliver(t, s, letters(5, 10)) {
		if out.Verdict != sinks.Retry || out.Status != int(sarama.ErrOutOfOrderSequenceNumber) {
			t.Fatalf("outcome %+v", out)
		}
	}
	allAcked(t, deliver(t, s, letters(5, 10)))
	if w.producer == first || w.next != 5 {
		t.Errorf("producer %d after %d, next sequence %d", w.producer, first, w.next)
	}
	stored(t, o, "weir-sink-count", 10)
}

func TestIntegrationSinkStoresOnceThoughConnectionsBreak(t *testing.T) {
	o := realBroker(t)
	makeTopic(t, o, "weir-sink-cut", 4)
	s := newTestSink(t, o, "weir-sink-cut")
	writerOf(t, s, "weir-sink-cut")
	// Each batch has its connections cut at some moment.
	const rounds = 60
	var cuts int
	for range rounds {
		var wg sync.WaitGroup
		moment := time.Duration(rand.IntN(12)) * time.Millisecond //nolint:gosec // any will do
		wg.Go(func() {
			time.Sleep(moment)
			s.mu.Lock()
			defer s.mu.Unlock()
			for _, c := range s.conns {
				c.stop()
				cuts++
			}
		})
		open := letters(500, 200)
		for len(open.Records) > 0 {
			outcomes, err := s.Deliver(t.Context(), open, func(sinks.Note) {})
			rest := &buffer.Batch{}
			for i, r := range open.Records {
				if err != nil || outcomes[i].Verdict != sinks.Ack {
					rest.Add(r) // it did not even begin: there was no connection
				}
			}
			open = rest
		}
		wg.Wait()
	}
	stored(t, o, "weir-sink-cut", 5+rounds*500)
	t.Logf("%d connections were cut", cuts)
}

func TestIntegrationTopicRefusesSingleRecords(t *testing.T) {
	o := realBroker(t)
	makeTopic(t, o, "weir-sink-times", 1, "message.timestamp.after.max.ms", "3600000", "retention.ms", "-1") // the records are years old
	makeTopic(t, o, "weir-sink-compact", 1, "cleanup.policy", "compact")
	for topic, bad := range map[string]func(*buffer.Record){
		"weir-sink-times":   func(r *buffer.Record) { r.Time = time.Now().Add(48 * time.Hour) },
		"weir-sink-compact": func(r *buffer.Record) { r.Key = nil },
	} {
		t.Run(topic, func(t *testing.T) {
			d := newDestination(t, DestinationConfig{Options: o, Topic: topic, Track: true, Compression: "lz4"})
			writerOf(t, d.sink, topic)
			b := letters(50, 10)
			bad(b.Records[7])
			bad(b.Records[8])
			for i, out := range deliver(t, d.sink, b) {
				want := sinks.Ack
				if i == 7 || i == 8 {
					want = sinks.Reject
				}
				if out.Verdict != want {
					t.Errorf("record %d: %+v", i, out)
				}
			}
			stored(t, o, topic, 5+48)
		})
	}
}

func TestIntegrationDestinationChecks(t *testing.T) {
	o := realBroker(t)
	makeTopic(t, o, "weir-sink-check", 2)
	writerOf(t, newTestSink(t, o, "weir-sink-check"), "weir-sink-check")
	for _, f := range newDestination(t, DestinationConfig{Options: o, Topic: "weir-sink-check"}).Check(t.Context()) {
		t.Logf("%s: %d %s", f.What, f.State, f.Detail)
		if f.State == sinks.Bad {
			t.Errorf("%s: %s", f.What, f.Detail)
		}
	}
	_, err := newDestination(t, DestinationConfig{Options: o, Topic: "weir-sink-gone"}).Deliver(t.Context(), letters(1, 1), func(sinks.Note) {})
	if re := new(sinks.RequestError); !errors.As(err, &re) || !re.Misconfigured {
		t.Errorf("error %v", err)
	}
}

// BenchmarkIntegrationSink writes events of 500 B in batches of 5000, four at a
// time, to 12 partitions. cpu-s/M: seconds of our CPU a million of them.
func BenchmarkIntegrationSink(b *testing.B) {
	addr := os.Getenv("WEIR_TEST_KAFKA")
	if addr == "" {
		b.Skip("WEIR_TEST_KAFKA is not set")
	}
	o := Options{Brokers: strings.Split(addr, ","), ClientID: "weir-bench"}
	if _, err := EnsureTopic(b.Context(), o, "weir-sink-bench", 12, -1); err != nil {
		b.Fatal(err)
	}
	batch := &buffer.Batch{}
	from := make([]*buffer.Origin, 12)
	for p := range from {
		from[p] = &buffer.Origin{Cluster: "c", Topic: "edr.events", TopicID: "AAAAAAAAAAAAAAAAAAAAAA", Partition: int32(p)}
	}
	for i := range 5000 {
		value := fmt.Sprintf(`{"@timestamp":"2026-01-31T12:%02d:%02d.%03dZ","event":{"kind":"event","category":["process"],"id":"%016x"},"host":{"name":"ws-%04d","ip":["10.%d.%d.%d"]},`+
			`"process":{"pid":%d,"name":"svchost.exe","command_line":"C:\\Windows\\System32\\svchost.exe -k netsvcs -p -s Schedule %08x","parent":{"pid":%d}},"user":{"name":"u%05d","domain":"CORP"},"agent":{"version":"8.14.1"}`,
			i%60, i%59, i%1000, uint64(i)*0x9e3779b97f4a7c15, i%3000, i%256, i%251, i%241, i%32768, uint32(i)*2654435761, i%4096, i%50000)
		for len(value) < 499 {
			value += " "
		}
		batch.Add(&buffer.Record{Origin: from[i%12], Offset: int64(i), Time: time.UnixMilli(1700000000000 + int64(i)), Value: []byte(value + "}")})
	}
	for _, keyed := range []bool{false, true} {
		for _, compression := range []string{"none", "lz4", "snappy", "zstd"} {
			for _, track := range []bool{false, true} {
				b.Run(fmt.Sprintf("%s/track=%t/keyed=%t", compression, track, keyed), func(b *testing.B) {
					for i, r := range batch.Records {
						r.Key = nil
						if keyed {
							r.Key = fmt.Appendf(nil, "host-%d", i%3000)
						}
					}
					d, err := NewDestination(DestinationConfig{Options: o, Topic: "weir-sink-bench", Compression: compression, Track: track})
					if err != nil {
						b.Fatal(err)
					}
					defer d.Close()
					b.SetBytes(batch.Bytes - 5000*buffer.RecordOverhead)
					var before, after syscall.Rusage
					_ = syscall.Getrusage(syscall.RUSAGE_SELF, &before)
					b.SetParallelism(2)
					b.RunParallel(func(pb *testing.PB) {
						for pb.Next() {
							outcomes, err := d.Deliver(b.Context(), batch, func(sinks.Note) {})
							if err != nil || outcomes[0].Verdict != sinks.Ack {
								b.Error(err, outcomes)
								return
							}
						}
					})
					_ = syscall.Getrusage(syscall.RUSAGE_SELF, &after)
					seconds := func(u syscall.Rusage) float64 {
						return float64(u.Utime.Sec+u.Stime.Sec) + float64(u.Utime.Usec+u.Stime.Usec)/1e6
					}
					b.ReportMetric((seconds(after)-seconds(before))/float64(b.N)/5000*1e6, "cpu-s/M")
				})
			}
		}
	}
}
