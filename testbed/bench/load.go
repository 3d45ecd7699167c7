package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"weir/testbed/broker"
)

// load is what lies in the topic before a run.
type load struct {
	Events, Partitions int
	Size               int  // bytes of a value, about
	Real               bool // events of a real network instead, repeated
	Tiered             bool `json:",omitempty"` // most of the topic is in the remote tier only
}

// topic names the load, so that a broker that has it already is not filled again.
func (l load) topic() string {
	size := strconv.Itoa(l.Size)
	if l.Real {
		size = "real"
	}
	name := fmt.Sprintf("weir-bench2-%dx%s-%d", l.Events, size, l.Partitions)
	if l.Tiered {
		name += "-tiered"
	}
	return name
}

func (l load) String() string {
	size := fmt.Sprintf("%d B", l.Size)
	if l.Real {
		size = "real"
	}
	text := fmt.Sprintf("%s x %s, %d p", short(l.Events), size, l.Partitions)
	if l.Tiered {
		text += ", remote"
	}
	return text
}

func short(n int) string {
	switch {
	case n%1_000_000 == 0:
		return fmt.Sprintf("%d M", n/1_000_000)
	case n%1000 == 0:
		return fmt.Sprintf("%d k", n/1000)
	default:
		return strconv.Itoa(n)
	}
}

// Every event begins with its number, by which the endpoint keeps account, and
// may go on with the time it was sent at, in nanoseconds of the Unix clock.
const (
	numberKey = `"bench_seq":`
	sentKey   = `"bench_sent":`
)

// event makes the i-th event: JSON as a sensor writes it, of exactly Size bytes
// where that leaves room for the fields. sent is 0 or when it was sent.
func (l load) event(buf []byte, i int, sent int64) []byte {
	buf = append(buf[:0], '{')
	buf = strconv.AppendInt(append(buf, numberKey...), int64(i), 10)
	if sent != 0 {
		buf = strconv.AppendInt(append(append(buf, ','), sentKey...), sent, 10)
	}
	if l.Real {
		lines, _ := realEvents() // without an error: produce looked
		return append(append(buf, ','), lines[i%len(lines)][1:]...)
	}
	buf = fmt.Appendf(buf, `,"@timestamp":"2026-01-02T03:%02d:%02d.%03dZ","event":{"code":%d},"host":{"name":"ws-%04d"},`,
		i/1000/60%60, i/1000%60, i%1000, 4600+i%100, i%5000)
	if l.Size >= 400 {
		buf = fmt.Appendf(buf, `"source":{"ip":"10.%d.%d.%d"},"user":{"name":"user%d"},"process":{"pid":%d,"executable":"C:\\Windows\\System32\\svchost.exe"},`,
			i>>16&255, i>>8&255, i&255, i%900, i%65536)
	}
	buf = append(buf, `"message":"`...)
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

// errNoEvents: WEIR_TEST_DATA does not name the folder with the real events.
var errNoEvents = errors.New("WEIR_TEST_DATA does not name the folder of windows-aws.jsonl.gz")

// realEvents are those lines of windows-aws.jsonl.gz, in the folder
// WEIR_TEST_DATA, that are objects with a member.
//
// Errors: errNoEvents.
var realEvents = sync.OnceValues(func() ([][]byte, error) {
	dir := os.Getenv("WEIR_TEST_DATA")
	if dir == "" {
		return nil, errNoEvents
	}
	f, err := os.Open(filepath.Join(dir, "windows-aws.jsonl.gz"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errNoEvents
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := gzip.NewReader(f)
	if err != nil {
		return nil, err
	}
	var lines [][]byte
	scan := bufio.NewScanner(text)
	scan.Buffer(nil, 1<<20)
	for scan.Scan() {
		if bytes.HasPrefix(scan.Bytes(), []byte(`{"`)) {
			lines = append(lines, bytes.Clone(scan.Bytes()))
		}
	}
	if err := scan.Err(); err != nil {
		return nil, err
	}
	if len(lines) == 0 {
		return nil, errNoEvents
	}
	return lines, nil
})

// producer is the generator's client.
func producer(addr string, linger time.Duration) (*kgo.Client, error) {
	return kgo.NewClient(
		kgo.SeedBrokers(addr),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerLinger(linger),
		kgo.ProducerBatchMaxBytes(1<<20),
		kgo.ProducerBatchCompression(kgo.Lz4Compression()),
		kgo.MaxBufferedRecords(50_000),
	)
}

// newTopic makes a topic that keeps everything.
func newTopic(ctx context.Context, c *broker.Client, topic string, partitions int, more map[string]string) error {
	settings := map[string]string{"retention.ms": "-1", "max.message.bytes": "104857600"}
	maps.Copy(settings, more)
	return c.CreateTopic(ctx, topic, int32(partitions), settings)
}

// produce fills the load's topic, once.
//
// Errors: errNoEvents.
func produce(ctx context.Context, c *broker.Client, l load) (string, error) {
	if l.Real {
		if _, err := realEvents(); err != nil {
			return "", err
		}
	}
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
	more := map[string]string{}
	if l.Tiered {
		// Segments are copied to the remote tier once they are closed, and go here a
		// second after their last record.
		more = map[string]string{"remote.storage.enable": "true", "segment.bytes": "1048576", "local.retention.ms": "1000"}
	}
	if err := newTopic(ctx, c, topic, l.Partitions, more); err != nil {
		return "", err
	}
	cl, err := producer(c.Addr, 20*time.Millisecond)
	if err != nil {
		return "", err
	}
	defer cl.Close()
	began := time.Now()
	var refused atomic.Pointer[error]
	for i := range l.Events {
		r := &kgo.Record{Topic: topic, Partition: int32(i % l.Partitions), Value: l.event(make([]byte, 0, l.Size), i, 0)}
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
	fmt.Fprintf(os.Stderr, "produced %v in %.1f s\n", l, time.Since(began).Seconds())
	return topic, nil
}
