package kafka

import (
	"slices"
	"strconv"
	"time"

	"github.com/IBM/sarama"

	"weir/buffer"
)

// form is how a Sink writes records.
type form struct {
	codec sarama.CompressionCodec
	// ownTime: with the records' own timestamps. Else with the time of writing.
	ownTime bool
	// track: behind the records' headers come those that say where they were read.
	track bool
}

// The headers of a tracked record are called like those of a dead letter.
const (
	trackedHeaders = 5
	// timeLayout is that of weir.timestamp, as in dead letters.
	timeLayout = "2006-01-02T15:04:05.000Z07:00"
)

// lastTime is the end of what is believed of a timestamp. A batch holds its
// times as distances, which sarama counts in nanoseconds: 292 years at most.
var lastTime = time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)

// packed is a copy of records in the form in which sarama takes them. Its memory
// is used again: see Sink.packs.
type packed struct {
	form    form
	records []sarama.Record
	times   []time.Time
	sizes   []int // as buffer.Record.Size

	slab     []byte // keys, values and headers
	headers  []sarama.RecordHeader
	pointers []*sarama.RecordHeader
}

// fill copies the records with the given indexes in the place of what p held.
func (p *packed) fill(records []*buffer.Record, at []int, f form) {
	var n, headers int
	for _, i := range at {
		r := records[i]
		n += len(r.Key) + len(r.Value)
		for j := range r.Headers {
			n += len(r.Headers[j].Key) + len(r.Headers[j].Value)
		}
		headers += len(r.Headers)
		if f.track {
			n += 20 + len(timeLayout)
			headers += trackedHeaders
		}
	}
	p.form = f
	p.records = slices.Grow(p.records[:0], len(at))
	p.times = slices.Grow(p.times[:0], len(at))
	p.sizes = slices.Grow(p.sizes[:0], len(at))
	p.slab = slices.Grow(p.slab[:0], n)
	// No header may move once it is pointed at.
	p.headers = slices.Grow(p.headers[:0], headers)
	p.pointers = slices.Grow(p.pointers[:0], headers)

	var marks tracks
	if f.track {
		marks = newTracks()
	}
	now := time.Now()
	for _, i := range at {
		r := records[i]
		from := len(p.pointers)
		for j := range r.Headers {
			start := len(p.slab)
			p.slab = append(p.slab, r.Headers[j].Key...)
			p.header(p.since(start), p.keep(r.Headers[j].Value))
		}
		if f.track {
			marks.of(r.Origin)
			p.header(marks.keys[0], marks.topic)
			p.header(marks.keys[1], marks.topicID)
			p.header(marks.keys[2], marks.partition)
			start := len(p.slab)
			p.slab = strconv.AppendInt(p.slab, r.Offset, 10)
			p.header(marks.keys[3], p.since(start))
			start = len(p.slab)
			if !r.Time.IsZero() {
				p.slab = r.Time.UTC().AppendFormat(p.slab, timeLayout)
			}
			p.header(marks.keys[4], p.since(start))
		}
		at := now
		if f.ownTime && r.Time.UnixMilli() >= 0 && r.Time.Before(lastTime) {
			at = r.Time
		}
		p.times = append(p.times, at)
		p.sizes = append(p.sizes, int(r.Size()))
		p.records = append(p.records, sarama.Record{
			Key: p.keep(r.Key), Value: p.keep(r.Value), Headers: p.pointers[from:len(p.pointers):len(p.pointers)],
		})
	}
}

// since is what was appended to the slab from start on.
func (p *packed) since(start int) []byte { return p.slab[start:len(p.slab):len(p.slab)] }

// keep copies b, and tells nil from empty.
func (p *packed) keep(b []byte) []byte {
	if b == nil {
		return nil
	}
	start := len(p.slab)
	p.slab = append(p.slab, b...)
	return p.since(start)
}

func (p *packed) header(key, value []byte) {
	p.headers = append(p.headers, sarama.RecordHeader{Key: key, Value: value})
	p.pointers = append(p.pointers, &p.headers[len(p.headers)-1])
}

// tracks are the parts of the tracking headers that the records of one source
// partition have in common.
type tracks struct {
	keys                      [trackedHeaders][]byte
	origin                    *buffer.Origin
	topic, topicID, partition []byte
}

func newTracks() tracks {
	return tracks{keys: [trackedHeaders][]byte{
		[]byte("weir.topic"), []byte("weir.topic_id"), []byte("weir.partition"), []byte("weir.offset"), []byte("weir.timestamp"),
	}}
}

func (t *tracks) of(o *buffer.Origin) {
	if t.origin == o {
		return
	}
	t.origin = o
	t.topic, t.topicID = []byte(o.Topic), []byte(o.TopicID)
	t.partition = strconv.AppendInt(nil, int64(o.Partition), 10)
}

// slice is a part of the packed records.
func (p *packed) slice(from, to int) *packed {
	return &packed{form: p.form, records: p.records[from:to], times: p.times[from:to], sizes: p.sizes[from:to]}
}

// only is the packed records with those indexes.
func (p *packed) only(at []int) *packed {
	q := &packed{form: p.form}
	for _, i := range at {
		q.records = append(q.records, p.records[i])
		q.times = append(q.times, p.times[i])
		q.sizes = append(q.sizes, p.sizes[i])
	}
	return q
}

// batch makes a batch of all of them. sarama keeps its compressed form, so that
// what is sent again is the same to the byte.
func (p *packed) batch() *sarama.RecordBatch {
	b := &sarama.RecordBatch{
		Version:          2,
		Codec:            p.form.codec,
		CompressionLevel: sarama.CompressionLevelDefault,
		FirstTimestamp:   p.times[0],
		MaxTimestamp:     p.times[0],
		LastOffsetDelta:  int32(len(p.records) - 1),
		Records:          make([]*sarama.Record, len(p.records)),
	}
	first := p.times[0].UnixMilli()
	for i := range p.records {
		if p.times[i].After(b.MaxTimestamp) {
			b.MaxTimestamp = p.times[i]
		}
		r := &p.records[i]
		r.OffsetDelta = int64(i)
		// In whole milliseconds, as the first one is.
		r.TimestampDelta = time.Duration(p.times[i].UnixMilli()-first) * time.Millisecond
		b.Records[i] = r
	}
	return b
}
