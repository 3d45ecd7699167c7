package replay

import (
	"context"
	"testing"
	"time"

	"weir/buffer"
	"weir/connector"
	"weir/connector/evidence"
)

// canned is a partition of records that are all alike.
type canned struct {
	records []buffer.Record
	at, end int64
}

func (c *canned) Start() int64                         { return 0 }
func (c *canned) End() int64                           { return c.end }
func (c *canned) Commit(connector.Progress)            {}
func (c *canned) Mark() string                         { return "weir1 " + testTopic }
func (c *canned) Note(context.Context) (string, error) { return "", nil }
func (c *canned) CommitNote(int64, string)             {}

func (c *canned) Next(context.Context) (connector.Run, error) {
	for i := range c.records {
		c.records[i].Offset = c.at + int64(i)
	}
	c.at += int64(len(c.records))
	return connector.Run{Records: c.records, Next: c.at}, nil
}

// What a thousand records of 340 bytes cost beyond what a live connector does with
// them: the range, the hashes, the tree, and a snapshot.
func BenchmarkSource(b *testing.B) {
	origin := &buffer.Origin{Cluster: "c", Topic: "t", TopicID: testTopic}
	c := &canned{end: 1 << 60}
	for range 1000 {
		c.records = append(c.records, buffer.Record{Origin: origin, Time: testFrom.Add(time.Minute), Key: []byte("k1234567"), Value: make([]byte, 332)})
	}
	plan := &Plan{Cluster: "c", From: testFrom, To: testTo, Topics: []Topic{{Name: "t", ID: testTopic, Partitions: []Partition{{End: c.end}}}}}
	j := New(Config{Plan: plan, Mark: evidence.PlanMark(evidence.Hash{})})
	defer j.Close()
	s, err := j.open(b.Context(), origin, c)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		run, err := s.Next(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		s.Commit(connector.Progress{Next: run.Next, Mark: run.Next})
	}
}
