package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"weir/testbed/broker"
)

// load is what lies in the topic before a run.
type load struct {
	Events, Size, Partitions int
}

// topic names the load, so that a broker that has it already is not filled again.
func (l load) topic() string {
	return fmt.Sprintf("weir-bench-%dx%d-%d", l.Events, l.Size, l.Partitions)
}

// event makes the i-th event: JSON as a sensor writes it, of exactly Size bytes
// where that leaves room for the fields.
func (l load) event(buf []byte, i int) []byte {
	buf = fmt.Appendf(buf[:0], `{"@timestamp":"2026-01-02T03:%02d:%02d.%03dZ","event":{"id":%d,"code":%d,"action":"process-start"},`+
		`"host":{"name":"ws-%04d","ip":"10.%d.%d.%d"},"user":{"name":"user%d"},"process":{"pid":%d,"executable":"C:\\Windows\\System32\\svchost.exe"},"message":"`,
		i/1000/60%60, i/1000%60, i%1000, i, 4600+i%100, i%5000, i>>16&255, i>>8&255, i&255, i%900, i%65536)
	if n := l.Size - len(buf) - len(`"}`); n > 0 {
		start := i % 64
		for n > 0 {
			piece := filler[start:min(len(filler), start+n)]
			buf = append(buf, piece...)
			n -= len(piece)
			start = 0
		}
	}
	return append(buf, `"}`...)
}

// filler compresses about as well as a log line does.
var filler = strings.Repeat("A new process has been created; token elevation type limited; creator S-1-5-21-1004336348-1177238915-682003330-512; ", 8)

// produce fills the load's topic, once.
func produce(ctx context.Context, c *broker.Client, l load) (string, error) {
	topic := l.topic()
	if _, found, err := c.Metadata(ctx, topic); err != nil {
		return "", err
	} else if found {
		n, err := c.Count(ctx, topic)
		if err != nil {
			return "", err
		}
		if n == int64(l.Events) {
			return topic, nil
		}
		// What an interrupted run left.
		if err := c.DeleteTopic(ctx, topic); err != nil {
			return "", err
		}
		for found {
			if _, found, err = c.Metadata(ctx, topic); err != nil {
				return "", err
			}
		}
	}
	err := c.CreateTopic(ctx, topic, int32(l.Partitions), map[string]string{"retention.ms": "-1", "max.message.bytes": "104857600"})
	if err != nil {
		return "", err
	}
	cl, err := kgo.NewClient(
		kgo.SeedBrokers(c.Addr),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerLinger(20*time.Millisecond),
		kgo.ProducerBatchMaxBytes(1<<20),
		kgo.ProducerBatchCompression(kgo.Lz4Compression()),
		kgo.MaxBufferedRecords(50_000),
	)
	if err != nil {
		return "", err
	}
	defer cl.Close()
	began := time.Now()
	var refused atomic.Pointer[error]
	for i := range l.Events {
		r := &kgo.Record{Topic: topic, Partition: int32(i % l.Partitions), Value: l.event(make([]byte, 0, l.Size), i)}
		cl.Produce(ctx, r, func(_ *kgo.Record, err error) {
			if err != nil {
				refused.CompareAndSwap(nil, &err)
			}
		})
		if e := refused.Load(); e != nil {
			return "", *e
		}
	}
	if err := cl.Flush(ctx); err != nil {
		return "", err
	}
	if e := refused.Load(); e != nil {
		return "", *e
	}
	fmt.Fprintf(os.Stderr, "produced %d events of %d bytes in %d partitions in %.1f s\n",
		l.Events, l.Size, l.Partitions, time.Since(began).Seconds())
	return topic, nil
}
