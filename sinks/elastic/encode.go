package elastic

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"weir/buffer"
	"weir/sinks"
	"weir/sinks/splice"
	"weir/sinks/template"
)

// An encoder reads as the body of one _bulk request: for every record a line
// with the action and a line with the document. It builds no body in memory: a
// value is copied from its record straight to where the client writes from.
//
// The framing holds whatever the records say of themselves: a value with a line
// break is compacted or wrapped, everything else is escaped or checked.
type encoder struct {
	layout *layout
	now    time.Time

	records  []*buffer.Record
	outcomes []sinks.Outcome // of the records that are refused here
	next     int             // of records
	sent     int             // records that are in the body

	body splice.Reader // what is left of the record at hand

	origins    map[*buffer.Origin]*originText
	lastOrigin *buffer.Origin
	lastText   *originText

	named *buffer.Record // whose name is in index; nil: none

	stamp       []byte // the last timestamp as JSON
	stampMillis int64
	stampSecond int64

	head, index []byte // reused memory
	all         [8]splice.Segment
	compacted   bytes.Buffer
}

// layout is what all bodies of a sink have in common.
type layout struct {
	open        string // {"create":{
	index       name
	id          idKind
	idField     template.Field // with idField
	coordinates bool
	quote       bool // reasons may quote the event
}

type idKind uint8

const (
	idOffset idKind = iota
	idKey
	idNone
	idField
)

// maxID is how many bytes Elasticsearch takes in an _id.
const maxID = 512

// originText is the constant text of one partition's records.
type originText struct {
	index []byte // the index's name, where it is the same for the whole partition
	err   error  // why there is none
	id    []byte // the id up to the offset, as the inside of a JSON string
	kafka []byte // "kafka":{... up to the offset
}

var (
	lineEnd        = []byte("\n")
	closeKey       = []byte(`"}`)
	originalNull   = []byte(`"event":{"original":null}}` + "\n")
	originalOpen   = []byte(`"event":{"original":"`)
	originalCoded  = []byte(`","original_base64":"`)
	originalClosed = []byte(`"}}` + "\n")
)

// start makes e ready for a batch. It reports whether there is anything to send:
// false when every record was refused, which outcomes then says.
func (e *encoder) start(l *layout, records []*buffer.Record, outcomes []sinks.Outcome, now time.Time) bool {
	e.layout, e.records, e.outcomes, e.now = l, records, outcomes, now
	e.next, e.sent = 0, 0
	e.body.Reset()
	e.lastOrigin, e.lastText, e.named = nil, nil, nil
	clear(e.origins)
	return e.advance()
}

// maxKept bounds the memory that an idle encoder keeps.
const maxKept = 256 << 10

// release drops what e holds of the records.
func (e *encoder) release() {
	e.records, e.outcomes = nil, nil
	e.body.Reset()
	e.all = [8]splice.Segment{}
	e.lastOrigin, e.lastText, e.named = nil, nil, nil
	clear(e.origins)
	if e.compacted.Cap() > maxKept {
		e.compacted = bytes.Buffer{}
	}
}

// done reports whether the whole body was read.
func (e *encoder) done() bool {
	return e.next == len(e.records) && e.body.Empty()
}

// Read fills p.
func (e *encoder) Read(p []byte) (int, error) {
	return e.body.Fill(p, func() (bool, error) { return e.advance(), nil })
}

// advance goes on to the next record that can be sent. Those before it that
// cannot are rejected.
func (e *encoder) advance() bool {
	for e.next < len(e.records) {
		r := e.records[e.next]
		e.next++
		if err := e.record(r); err != nil {
			e.outcomes[e.next-1] = sinks.Outcome{Verdict: sinks.Reject, Reason: err.Error()}
			continue
		}
		e.sent++
		return true
	}
	return false
}

// record makes the segments of r.
//
// Errors: there is no legal index name or id for r.
func (e *encoder) record(r *buffer.Record) error {
	text := e.lastText
	if r.Origin != e.lastOrigin || text == nil {
		text = e.origin(r)
	}
	h := append(e.head[:0], e.layout.open...)
	h, err := e.action(h, r, text)
	if err != nil {
		return err
	}
	h = append(h, '{')

	value, object := splice.Object(r, &e.compacted)
	stampAt := r.Time
	if stampAt.IsZero() {
		stampAt = e.now
	}
	members := false
	if !object || !r.Shape.Has(buffer.ShapeTimestamp) {
		h = append(h, `"@timestamp":`...)
		h = append(h, e.timestamp(stampAt)...)
		members = true
	}
	kafka := e.layout.coordinates && !(object && r.Shape.Has(buffer.ShapeKafka))
	tombstoneKey := r.Value == nil && r.Key != nil
	if kafka {
		if members {
			h = append(h, ',')
		}
		members = true
		h = append(h, text.kafka...)
		h = strconv.AppendInt(h, r.Offset, 10)
		if !r.Time.IsZero() {
			h = append(h, `,"timestamp":`...)
			h = append(h, e.timestamp(r.Time)...)
		}
		if !tombstoneKey {
			h = append(h, '}')
		}
	}

	e.body.Set(e.all[:0])
	switch {
	case object:
		// The value without its opening brace; what follows was written by whoever
		// produced the record, up to and with its closing brace.
		if members && !empty(value) {
			h = append(h, ',')
		}
		e.body.Add(splice.Plain, h)
		e.body.Add(splice.Plain, value[1:])
		e.body.Add(splice.Plain, lineEnd)
	case tombstoneKey:
		// A tombstone is nothing but its key, so the key is told even where the
		// coordinates are not.
		if !kafka {
			h = append(h, `,"kafka":{`...)
		} else {
			h = append(h, ',')
		}
		kind := splice.Quoted
		if utf8.Valid(r.Key) {
			h = append(h, `"key":"`...)
		} else {
			h = append(h, `"key_base64":"`...)
			kind = splice.Coded
		}
		e.body.Add(splice.Plain, h)
		e.body.Add(kind, r.Key)
		e.body.Add(splice.Plain, closeKey)
		e.body.Add(splice.Plain, comma)
		e.body.Add(splice.Plain, originalNull)
	default:
		h = append(h, ',')
		e.body.Add(splice.Plain, h)
		if r.Value == nil {
			e.body.Add(splice.Plain, originalNull)
			break
		}
		e.body.Add(splice.Plain, originalOpen)
		e.body.Add(splice.Quoted, r.Value)
		if !utf8.Valid(r.Value) {
			e.body.Add(splice.Plain, originalCoded)
			e.body.Add(splice.Coded, r.Value)
		}
		e.body.Add(splice.Plain, originalClosed)
	}
	e.head = h
	return nil
}

var comma = []byte(",")

func isSpace(c byte) bool { return c == ' ' || c == '\n' || c == '\r' || c == '\t' }

// empty reports whether the object has no members.
func empty(object []byte) bool {
	for _, c := range object[1:] {
		if !isSpace(c) {
			return c == '}'
		}
	}
	return true
}

// action appends the rest of the action's line.
func (e *encoder) action(h []byte, r *buffer.Record, text *originText) ([]byte, error) {
	l := e.layout
	if l.index.fixed == "" {
		index, err := text.index, text.err
		if l.index.text.PerRecord() {
			index, err = e.name(r)
		}
		if err != nil {
			return h, err
		}
		// A legal name needs no escaping.
		h = append(h, `"_index":"`...)
		h = append(h, index...)
		h = append(h, '"')
		if l.id != idNone {
			h = append(h, ',')
		}
	}
	switch l.id {
	case idOffset:
		h = append(h, `"_id":"`...)
		h = append(h, text.id...)
		h = strconv.AppendInt(h, r.Offset, 10)
		h = append(h, '"')
	case idKey:
		switch {
		case len(r.Key) == 0:
			return h, errors.New("no key to make the document id of")
		case len(r.Key) > maxID:
			return h, fmt.Errorf("the key is no document id: longer than %d bytes", maxID)
		case !utf8.Valid(r.Key):
			return h, errors.New("the key is no document id: not valid UTF-8")
		}
		h = appendID(h, r.Key)
	case idField:
		id, err := l.idField.Text(r)
		switch {
		case err != nil:
			return h, fmt.Errorf("document id: %w", err)
		case len(id) == 0:
			return h, errors.New("document id: the field is empty")
		case len(id) > maxID:
			return h, fmt.Errorf("document id: longer than %d bytes", maxID)
		case !utf8.Valid(id):
			return h, errors.New("document id: not valid UTF-8")
		}
		h = appendID(h, id)
	}
	return append(h, "}}\n"...), nil
}

// name is the index name of r where it is not the same for the whole partition.
func (e *encoder) name(r *buffer.Record) ([]byte, error) {
	n := &e.layout.index
	if e.named != nil && n.text.Same(e.named, r) {
		return e.index, nil
	}
	var err error
	e.named = nil
	e.index, err = n.append(e.index[:0], r, e.layout.quote)
	if err == nil {
		e.named = r
	}
	return e.index, err
}

func appendID(h, id []byte) []byte {
	h = append(h, `"_id":"`...)
	h = splice.AppendEscaped(h, id)
	return append(h, '"')
}

// origin is the constant text for r's partition, made once a batch.
func (e *encoder) origin(r *buffer.Record) *originText {
	text := e.origins[r.Origin]
	if text == nil {
		text = &originText{
			id:    splice.AppendEscaped(nil, []byte(idPrefix(r.Origin))),
			kafka: append(splice.AppendEscaped([]byte(`"kafka":{"topic":"`), []byte(r.Topic)), `","partition":`...),
		}
		text.kafka = strconv.AppendInt(text.kafka, int64(r.Partition), 10)
		text.kafka = append(text.kafka, `,"offset":`...)
		if l := e.layout; l.index.fixed == "" && !l.index.text.PerRecord() {
			text.index, text.err = l.index.append(nil, r, l.quote)
		}
		if e.origins == nil {
			e.origins = make(map[*buffer.Origin]*originText)
		}
		e.origins[r.Origin] = text
	}
	e.lastOrigin, e.lastText = r.Origin, text
	return text
}

// idPrefix is the id of a record of o up to its offset:
// CLUSTER:TOPIC ID:PARTITION:, with the topic's name where it has no id. Where
// that would be longer than an id may be, or is not text, a hash takes the place
// of the first two.
func idPrefix(o *buffer.Origin) string {
	topic := o.TopicID
	if topic == "" {
		topic = o.Topic
	}
	source := o.Cluster + ":" + topic
	numbers := ":" + strconv.Itoa(int(o.Partition)) + ":"
	if len(source)+len(numbers)+len("-9223372036854775808") > maxID || !utf8.ValidString(source) {
		sum := sha256.Sum256([]byte(source))
		source = hex.EncodeToString(sum[:])
	}
	return source + numbers
}

// timestamp is t as JSON: RFC 3339 in UTC with milliseconds. Years that this
// form cannot hold (a producer may write any number of milliseconds) are given
// as milliseconds since the epoch. The bytes are valid until the next call.
func (e *encoder) timestamp(t time.Time) []byte {
	ms := t.UnixMilli()
	if ms == e.stampMillis && len(e.stamp) > 0 {
		return e.stamp
	}
	e.stampMillis = ms
	second := t.Unix()
	switch {
	case second < minSecond || second > maxSecond:
		e.stamp = strconv.AppendInt(e.stamp[:0], ms, 10)
		return e.stamp
	case second != e.stampSecond || len(e.stamp) != len(stampLayout):
		e.stamp = t.UTC().AppendFormat(e.stamp[:0], stampLayout)
		e.stampSecond = second
	}
	rest := ms - second*1000
	at := len(`"2006-01-02T15:04:05.`)
	e.stamp[at] = byte('0' + rest/100)
	e.stamp[at+1] = byte('0' + rest/10%10)
	e.stamp[at+2] = byte('0' + rest%10)
	return e.stamp
}

const (
	stampLayout = `"2006-01-02T15:04:05.000Z"`
	minSecond   = -62135596800 // 0001-01-01
	maxSecond   = 253402300799 // 9999-12-31T23:59:59
)
