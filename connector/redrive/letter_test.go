package redrive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"weir/buffer"
	"weir/connector"
	"weir/sinks"
)

// once is a log of a few records that ends.
type once struct{ records []buffer.Record }

func (o *once) Start() int64              { return 0 }
func (o *once) End() int64                { return int64(len(o.records)) }
func (o *once) Commit(connector.Progress) {}
func (o *once) Next(context.Context) (connector.Run, error) {
	if o.records == nil {
		return connector.Run{}, io.EOF
	}
	run := connector.Run{Records: o.records, Next: int64(len(o.records))}
	o.records = nil
	return run, nil
}

// What the connector writes is what Parse reads: there is one format, and it is
// the connector's.
func TestLettersOfTheConnectorAreRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		records := []buffer.Record{
			{Value: []byte(`{"a":1}`), Key: []byte("k"), Time: time.UnixMilli(1715937693518).UTC()},
			{}, // a tombstone without anything
			{Value: []byte{0, 0xff}, Headers: []buffer.Header{{Key: "weir.offset", Value: []byte("77")}, {Key: "weir.failed_at"}, {Key: "", Value: []byte{}}}},
			{Time: time.UnixMilli(1<<63 - 1).UTC()},
			{Time: time.UnixMilli(-1 << 62).UTC()},
			{Time: time.UnixMilli(-62167219200001).UTC()}, // the last moment of the year -1
			{Time: time.Date(0, 2, 29, 1, 2, 3, 4e6, time.UTC)},
		}
		for i := range records {
			records[i].Offset = int64(i)
		}
		origin := &buffer.Origin{Cluster: "c", Topic: "edr.events", TopicID: topicID, Partition: 7}
		var written []buffer.Record
		c := connector.New(connector.Options{
			Name: ours, BatchRecords: 10, BatchBytes: 1 << 20, InFlightMin: 1, InFlightMax: 1, RetryInitial: time.Millisecond, RetryMax: time.Second,
			Sink: sinkFunc(func(b *buffer.Batch) []sinks.Outcome {
				return slices.Repeat([]sinks.Outcome{{Verdict: sinks.Reject, Status: 413, Reason: "too large: 日本"}}, len(b.Records))
			}),
			DeadLetter: sinkFunc(func(b *buffer.Batch) []sinks.Outcome {
				for _, r := range b.Records {
					written = append(written, buffer.NewChunk([]buffer.Record{*r}, 0).Records[0])
				}
				return slices.Repeat([]sinks.Outcome{{Verdict: sinks.Ack}}, len(b.Records))
			}),
			Budget: buffer.NewBudget(1 << 20), Log: slog.New(slog.DiscardHandler),
		})
		before := time.Now()
		if err := c.Lane(t.Context(), origin, &once{slices.Clone(records)}); err != nil {
			t.Fatal(err)
		}
		c.Close()
		if len(written) != len(records) {
			t.Fatalf("%d letters", len(written))
		}
		for _, w := range written {
			// In Kafka only this much is left of it, and it has another place there.
			l, err := Parse(&buffer.Record{Origin: &buffer.Origin{Cluster: "c", Topic: "weir.dlq"}, Key: w.Key, Value: w.Value, Headers: w.Headers})
			if err != nil {
				t.Errorf("letter of %d: %v", w.Offset, err)
				continue
			}
			want := records[w.Offset]
			r := l.Record
			if l.Connector != ours || l.Status != 413 || l.Reason != "too large: 日本" || l.FailedAt.Before(before.Truncate(time.Millisecond)) {
				t.Errorf("letter %+v", l)
			}
			if *r.Origin != *origin || r.Offset != want.Offset || !r.Time.Equal(want.Time) || r.Time.IsZero() != want.Time.IsZero() ||
				!bytes.Equal(r.Key, want.Key) || !bytes.Equal(r.Value, want.Value) || len(r.Headers) != len(want.Headers) {
				t.Errorf("record %+v, want %+v", r, want)
			}
		}
	})
}

func TestForeignRecordsAreNoLetters(t *testing.T) {
	set := func(i int, value string) func(*buffer.Record) {
		return func(r *buffer.Record) { r.Headers[i].Value = []byte(value) }
	}
	for name, alter := range map[string]func(*buffer.Record){
		"no headers":            func(r *buffer.Record) { r.Headers = nil },
		"the last one missing":  func(r *buffer.Record) { r.Headers = r.Headers[:8] },
		"the first one missing": func(r *buffer.Record) { r.Headers = r.Headers[1:] },
		"one behind":            func(r *buffer.Record) { r.Headers = append(r.Headers, buffer.Header{Key: "x"}) },
		"another order":         func(r *buffer.Record) { r.Headers[0], r.Headers[1] = r.Headers[1], r.Headers[0] },
		"another case":          func(r *buffer.Record) { r.Headers[4].Key = "weir.Offset" },
		"no connector":          set(0, ""),
		"a connector's escape":  set(0, "a\x1b[2J"),
		"no topic":              set(1, ""),
		"a path":                set(1, "../../etc/passwd"),
		"a long topic":          set(1, strings.Repeat("t", 250)),
		"a short id":            set(2, "abc"),
		"an id of others":       set(2, "Jb3KpkzXQ7qFbOQ1Cq9w/A"),
		"partition -1":          set(3, "-1"),
		"partition 2^31":        set(3, "2147483648"),
		"partition 01":          set(3, "01"),
		"offset -1":             set(4, "-1"),
		"offset +1":             set(4, "+1"),
		"offset 1.0":            set(4, "1.0"),
		"offset 2^63":           set(4, "9223372036854775808"),
		"no offset":             set(4, ""),
		"a time in words":       set(5, "yesterday"),
		"30 February":           set(5, "2026-02-30T00:00:00.000Z"),
		"a long year":           set(5, strings.Repeat("9", 30)+"-01-01T00:00:00.000Z"),
		"a zone":                set(5, "2026-02-03T00:00:00.000+01:00"),
		"status 4xx":            set(6, "4xx"),
		"a reason of bytes":     set(7, "\xff"),
		"a reason of 1 MB":      set(7, strings.Repeat("r", 1<<20)),
		"never failed":          set(8, ""),
		"a cluster of bytes": func(r *buffer.Record) {
			r.Headers = append(r.Headers, buffer.Header{Key: clusterMark, Value: []byte{0xff}})
		},
	} {
		r := letterOf(ours, refused(1), 400, "why")
		if _, err := Parse(&r); err != nil {
			t.Fatal(err)
		}
		alter(&r)
		if l, err := Parse(&r); !errors.Is(err, ErrForeign) {
			t.Errorf("%s is taken for letter %+v (%v)", name, l, err)
		} else if strings.Contains(err.Error(), "\x1b") || !utf8.ValidString(err.Error()) || len(err.Error()) > 200 {
			t.Errorf("%s: error %q", name, err)
		}
	}
}

func FuzzLetter(f *testing.F) {
	for _, r := range []buffer.Record{letterOf(ours, refused(1), 400, "why"), letterOf(ours, buffer.Record{Origin: &buffer.Origin{Topic: "t"}, Time: time.UnixMilli(1<<63 - 1)}, 0, "")} {
		h := r.Headers
		f.Add(h[0].Value, h[1].Value, h[2].Value, h[3].Value, h[4].Value, h[5].Value, h[6].Value, h[7].Value, h[8].Value, "x", []byte("c"))
	}
	f.Fuzz(func(t *testing.T, connector, topic, id, partition, offset, at, status, reason, failed []byte, own string, cluster []byte) {
		values := [][]byte{connector, topic, id, partition, offset, at, status, reason, failed}
		r := buffer.Record{Headers: []buffer.Header{{Key: own, Value: cluster}}}
		for i, name := range marks {
			r.Headers = append(r.Headers, buffer.Header{Key: name, Value: values[i]})
		}
		if len(cluster) > 0 {
			r.Headers = append(r.Headers, buffer.Header{Key: clusterMark, Value: cluster})
		}
		l, err := Parse(&r)
		if err != nil {
			return
		}
		// What is taken for a letter is, word for word, what weir writes for it.
		again := letterOf(l.Connector, l.Record, l.Status, l.Reason)
		again.Headers[len(again.Headers)-1].Value = []byte(l.FailedAt.UTC().Format(timeLayout))
		for i, h := range again.Headers {
			if h.Key != r.Headers[i].Key || !bytes.Equal(h.Value, r.Headers[i].Value) {
				t.Errorf("header %d: %q = %q became %q = %q", i, r.Headers[i].Key, r.Headers[i].Value, h.Key, h.Value)
			}
		}
		if len(l.Record.Headers) != 1 || l.Record.Cluster != string(cluster) {
			t.Errorf("record %+v", l.Record)
		}
	})
}

func FuzzNote(f *testing.F) {
	f.Add(int64(10), "done:3+5,1+2")
	f.Add(int64(0), "done:")
	f.Add(int64(10), "done:0+5")
	f.Add(int64(10), "done:3+5,-8+2")
	f.Add(int64(10), "done:3+0")
	f.Add(int64(1<<62), "done:4611686018427387904+4611686018427387904")
	f.Fuzz(func(t *testing.T, from int64, note string) {
		spans := ParseNote(from, note)
		for last := from; len(spans) > 0; spans = spans[1:] {
			if spans[0].From <= last || spans[0].To <= spans[0].From {
				t.Fatalf("%q from %d: %v behind %d", note, from, spans[0], last)
			}
			last = spans[0].To
		}
		spans = ParseNote(from, note)
		if again := ParseNote(from, FormatNote(from, spans)); len(again) < len(spans) && len(FormatNote(from, spans)) < maxNote-50 || !slices.Equal(again, spans[:len(again)]) {
			t.Errorf("%v became %v", spans, again)
		}
	})
}

func TestReasonsAreBounded(t *testing.T) {
	var r Reasons
	for i := range 10_000 {
		r.Add(400, fmt.Sprintf("kind%d: text", i%100))
	}
	all, rest := r.All()
	sum := rest
	for _, n := range all {
		sum += n.Count
	}
	if len(all) != maxReasons || sum != 10_000 || rest == 0 {
		t.Errorf("%d reasons, %d others, %d in all", len(all), rest, sum)
	}
}

func TestKindOfAReason(t *testing.T) {
	for reason, want := range map[string]string{
		"":                        "",
		"mapper_parsing":          "mapper_parsing",
		"mapper_parsing: [1:2] x": "mapper_parsing",
		"request to http://es:9200 answered 413: too large": "request to http://es:9200 answered 413",
		strings.Repeat("日", 100):                            strings.Repeat("日", 40),
		"x:":                                                "x",
	} {
		if got := KindOf(reason); got != want {
			t.Errorf("%q is of kind %q, want %q", reason, got, want)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	r := letterOf(ours, refused(1), 400, "document_parsing_exception")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(&r); err != nil {
			b.Fatal(err)
		}
	}
}
