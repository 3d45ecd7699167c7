//go:build integration

package integration

import (
	"bufio"
	"compress/gzip"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"
)

// synthetic makes n numbered events of about size bytes, the first with number
// from, evenly over the partitions of topic.
func synthetic(topic string, partitions int32, from, n, size int) []*kgo.Record {
	fill := strings.Repeat("x", max(0, size-60))
	records := make([]*kgo.Record, n)
	for i := range records {
		records[i] = &kgo.Record{
			Topic:     topic,
			Partition: int32(i) % partitions,
			Value:     fmt.Appendf(nil, `{"n":%d,"host":"h%d","message":"%s"}`, from+i, i%100, fill),
		}
	}
	return records
}

// realEvents are the lines of windows-aws.jsonl.gz in the folder WEIR_TEST_DATA.
var realEvents = sync.OnceValues(func() ([][]byte, error) {
	f, err := os.Open(filepath.Join(os.Getenv("WEIR_TEST_DATA"), "windows-aws.jsonl.gz"))
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
		lines = append(lines, []byte(scan.Text()))
	}
	return lines, scan.Err()
})

// realTopic produces the real events into a topic of 6 partitions.
func (b *bed) realTopic() (string, []*kgo.Record) {
	b.Helper()
	if os.Getenv("WEIR_TEST_DATA") == "" {
		b.Skip("WEIR_TEST_DATA does not name the folder of windows-aws.jsonl.gz")
	}
	events, err := realEvents()
	b.must(err)
	topic := b.topic("", 6, nil)
	records := make([]*kgo.Record, len(events))
	for i, e := range events {
		records[i] = &kgo.Record{Topic: topic, Partition: int32(i % 6), Key: strconv.AppendInt(nil, int64(i), 10), Value: e}
	}
	b.must(b.cl.Write(b.ctx, records))
	return topic, records
}
