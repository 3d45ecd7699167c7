package folder_test

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"weir/buffer"
	"weir/connector/transform"
	"weir/sinks/archive"
	"weir/testbed/torture/folder"
)

// What weir's sink writes is what is read here, and weir's own reader has no part in
// it. The judge's events have neither keys nor headers, and all are objects: this is
// where the rest of the format is compared.
func TestWhatWeirWritesIsRead(t *testing.T) {
	for _, compression := range []string{"zstd", "gzip", "none"} {
		t.Run(compression, func(t *testing.T) {
			dir := t.TempDir()
			s, err := archive.New(archive.Config{
				Dir: dir, Path: "{topic}/{time:2006}", Compression: compression, RotateBytes: 50_000, RotateAfter: time.Hour,
			})
			if err != nil {
				t.Fatal(err)
			}
			random := rand.New(rand.NewPCG(1, 2))
			want := map[string]folder.Record{}
			for range 15 {
				b := &buffer.Batch{}
				for range 10 {
					r := record(origins[random.IntN(len(origins))], random.Int64N(60)) // many come twice
					want[id(r.Origin, r.Offset)] = expected(r)
					b.Add(r)
				}
				if _, err := s.Deliver(t.Context(), b, nil); err != nil {
					t.Fatal(err)
				}
			}
			check(t, dir, want) // with files that are still written to
			s.Close()
			check(t, dir, want)
		})
	}
}

var origins = []*buffer.Origin{
	{Cluster: "c", Topic: "edr.events", TopicID: "Jb3KpkzXQ7qFbOQ1Cq9wMA"},
	{Cluster: "c", Topic: "edr.events", TopicID: "Jb3KpkzXQ7qFbOQ1Cq9wMA", Partition: 12},
	{Cluster: "c", Topic: "edr.events", TopicID: "made again"},
	{Cluster: "\"c\"", Topic: "." + strings.Repeat("t-p1-0/", 30), TopicID: "é"}, // too long for a name
	{Cluster: "c", Topic: "without an id"},
}

// id is what no two records have in common.
func id(o *buffer.Origin, offset int64) string {
	return fmt.Sprintln(o.Topic, o.TopicID, o.Partition, offset)
}

// record is the same whenever it comes.
func record(o *buffer.Origin, offset int64) *buffer.Record {
	own := rand.New(rand.NewPCG(uint64(offset), uint64(len(o.Topic+o.TopicID)+int(o.Partition))))
	texts := []string{
		"", "plain", "<&>\u2028\u2029\ufffd", "line\nbreak\r\t\"quoted\\\"", "\x00\x7f\x1b", "\xff\xfe", "half \xe6\x97", "日本語😀", "\xed\xa0\x80",
		strings.Repeat("long \xff", 5_000), strings.Repeat("long\n日", 5_000),
		`{}`, ` {"a":1}`, "{\"a\":1}\n", "{\n\"a\":1}", `{"a":"<\u003c>","b":1.0e+400,"a":2}`, `{"offset":1,"x":",\"offset\":"}`, "null", "[1]", `"text"`, "{", `{"a":"` + "\xff" + `"}`,
	}
	text := func() []byte {
		if own.IntN(8) == 0 {
			return nil
		}
		return []byte(texts[own.IntN(len(texts))])
	}
	times := []time.Time{{}, time.UnixMilli(0), time.UnixMilli(-1), time.UnixMilli(1715937693518), time.UnixMilli(math.MaxInt64), time.UnixMilli(math.MinInt64)}
	r := &buffer.Record{Origin: o, Offset: offset, Time: times[own.IntN(len(times))], Appended: own.IntN(2) == 0, Key: text(), Value: text()}
	r.Shape = transform.Shape(r.Value)
	for range own.IntN(4) {
		r.Headers = append(r.Headers, buffer.Header{Key: string(text()), Value: text()})
	}
	return r
}

func expected(r *buffer.Record) folder.Record {
	want := folder.Record{
		Topic: r.Topic, TopicID: r.TopicID, Cluster: r.Cluster, Partition: r.Partition, Offset: r.Offset,
		Appended: r.Appended, Key: bytes.Clone(r.Key), Value: bytes.Clone(r.Value),
	}
	if !r.Time.IsZero() {
		ms := r.Time.UnixMilli()
		want.Timestamp = &ms
	}
	for _, h := range r.Headers {
		want.Headers = append(want.Headers, folder.Header{Key: []byte(h.Key), Value: bytes.Clone(h.Value)})
	}
	return want
}

// check checks that dir holds each of them once.
func check(t *testing.T, dir string, want map[string]folder.Record) {
	t.Helper()
	n := 0
	for r, err := range folder.Read(dir) {
		if err != nil {
			t.Fatal(err)
		}
		n++
		if w := want[id(&buffer.Origin{Topic: r.Topic, TopicID: r.TopicID, Partition: r.Partition}, r.Offset)]; !reflect.DeepEqual(*r, w) {
			t.Errorf("read %+v, want %+v", r, w)
		}
	}
	if n != len(want) {
		t.Errorf("%d records, want %d", n, len(want))
	}
}
