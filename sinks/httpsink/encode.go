package httpsink

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"math"
	"strconv"
	"time"
	"unicode/utf8"

	"weir/buffer"
	"weir/sinks/splice"
)

// layout is what all requests of a sink have in common.
type layout struct {
	open, between, end string // around the events of a request
	event              []part
	whole              bool // the event itself is part of what is sent
}

// item is one record that can be sent.
type item struct {
	record *buffer.Record
	at     int // its place in the batch
	size   int // bytes it comes to
}

// An encoder reads as the body of one request. It builds no body in memory: a
// value is copied from its record straight to where the client writes from.
//
// The framing holds whatever the records say of themselves: what is no JSON
// object for certain is escaped, a value with a line break is compacted.
type encoder struct {
	layout *layout
	now    time.Time // of records without a timestamp

	items  []item
	next   int // of items
	opened bool
	ended  bool

	body splice.Reader // what is left of the record at hand

	all          []splice.Segment // reused memory
	small, spare []byte
	from         int // of small: where the piece at hand begins
	compacted    bytes.Buffer
}

// start makes e ready for the events of one request.
func (e *encoder) start(l *layout, items []item, now time.Time) {
	e.layout, e.items, e.now = l, items, now
	e.next, e.opened, e.ended = 0, false, false
	e.body.Reset()
}

// maxKept bounds the memory that an idle encoder keeps.
const maxKept = 256 << 10

// release drops what e holds of the records.
func (e *encoder) release() {
	e.items = nil
	e.body.Reset()
	clear(e.all[:cap(e.all)])
	if e.compacted.Cap() > maxKept {
		e.compacted = bytes.Buffer{}
	}
}

// done reports whether the whole body was read.
func (e *encoder) done() bool { return e.ended && e.body.Empty() }

// Read fills p.
//
// Errors: io.EOF. That a record cannot be encoded was found out by measure.
func (e *encoder) Read(p []byte) (int, error) {
	return e.body.Fill(p, func() (bool, error) {
		if e.ended {
			return false, nil
		}
		return true, e.advance()
	})
}

// advance goes on to the next record, or to the end.
func (e *encoder) advance() error {
	e.begin()
	switch {
	case !e.opened:
		e.opened = true
		e.small = append(e.small, e.layout.open...)
	case e.next < len(e.items):
		e.small = append(e.small, e.layout.between...)
	}
	if e.next < len(e.items) {
		e.next++
		if err := e.record(e.items[e.next-1].record); err != nil {
			return err
		}
	} else {
		e.ended = true
		e.small = append(e.small, e.layout.end...)
	}
	e.cut()
	e.body.Set(e.all)
	return nil
}

// measure is how many bytes r comes to.
//
// Errors: r cannot be sent as the template wants it.
func (e *encoder) measure(r *buffer.Record) (int, error) {
	e.begin()
	if err := e.record(r); err != nil {
		return 0, err
	}
	e.cut()
	n := 0
	for _, s := range e.all {
		switch s.Kind {
		case splice.Plain:
			n += len(s.Data)
		case splice.Quoted:
			n += splice.EscapedLen(s.Data)
		case splice.Coded:
			n += base64.StdEncoding.EncodedLen(len(s.Data))
		}
	}
	return n, nil
}

// begin, cut and add build the segments of a record: small pieces are gathered
// in small, which cut makes a segment of.
func (e *encoder) begin() { e.all, e.small, e.from = e.all[:0], e.small[:0], 0 }

func (e *encoder) cut() {
	if len(e.small) > e.from {
		e.all = append(e.all, splice.Segment{Data: e.small[e.from:]})
		e.from = len(e.small)
	}
}

func (e *encoder) add(kind splice.Kind, data []byte) {
	if len(data) > 0 {
		e.cut()
		e.all = append(e.all, splice.Segment{Kind: kind, Data: data})
	}
}

// record adds r as the template wants it.
//
// Errors: a field that is needed is not there. They do not quote the event.
func (e *encoder) record(r *buffer.Record) error {
	at := r.Time
	if at.IsZero() {
		at = e.now
	}
	for i := range e.layout.event {
		switch p := &e.layout.event[i]; p.kind {
		case partText:
			e.small = append(e.small, p.text...)
		case partEvent:
			e.event(r)
		case partEventText:
			e.text(p, splice.Quoted, r.Value)
		case partEventBase64:
			e.text(p, splice.Coded, r.Value)
		case partKey:
			e.text(p, splice.Quoted, r.Key)
		case partTopic:
			e.quote(p)
			e.spare = append(e.spare[:0], r.Topic...)
			e.small = splice.AppendEscaped(e.small, e.spare)
			e.quote(p)
		case partPartition:
			e.small = strconv.AppendInt(e.small, int64(r.Partition), 10)
		case partOffset:
			e.small = strconv.AppendInt(e.small, r.Offset, 10)
		case partUnix:
			e.small = strconv.AppendInt(e.small, at.Unix(), 10)
		case partUnixMilli:
			e.small = strconv.AppendInt(e.small, at.UnixMilli(), 10)
		case partUnixNano:
			e.small = strconv.AppendInt(e.small, unixNano(at), 10)
		case partLayout:
			e.quote(p)
			e.spare = at.UTC().AppendFormat(e.spare[:0], p.text)
			e.small = splice.AppendEscaped(e.small, e.spare)
			e.quote(p)
		case partField:
			text, err := p.field.Text(r)
			if err != nil && !e.layout.whole {
				return err
			}
			if err == nil && text == nil {
				text = []byte{}
			}
			e.text(p, splice.Quoted, text)
		}
	}
	return nil
}

// unixNano is the nanoseconds of t, or the nearest that there are: a producer may
// write any number of milliseconds.
func unixNano(t time.Time) int64 {
	const most = math.MaxInt64 / int64(time.Second)
	switch s := t.Unix(); {
	case s >= most:
		return math.MaxInt64
	case s <= -most:
		return math.MinInt64
	}
	return t.UnixNano()
}

// text adds what may be long: a string, or, where there is none, null or nothing.
func (e *encoder) text(p *part, kind splice.Kind, data []byte) {
	if data == nil && !p.quoted {
		e.small = append(e.small, "null"...)
		return
	}
	e.quote(p)
	e.add(kind, data)
	e.quote(p)
}

// quote adds a quote where the template has none.
func (e *encoder) quote(p *part) {
	if !p.quoted {
		e.small = append(e.small, '"')
	}
}

// event adds r's value as an object: as it came, or wrapped as text.
func (e *encoder) event(r *buffer.Record) {
	if v, ok := splice.Object(r, &e.compacted); ok {
		e.add(splice.Plain, v)
		return
	}
	e.small = append(e.small, `{"event":{"original":`...)
	if r.Value == nil {
		e.small = append(e.small, "null}"...)
		if r.Key != nil {
			// A tombstone is nothing but its key.
			e.small = append(e.small, `,"kafka":{`...)
			e.member("key", r.Key)
			e.small = append(e.small, '}')
		}
	} else {
		e.small = append(e.small, '"')
		e.add(splice.Quoted, r.Value)
		e.small = append(e.small, '"')
		if !utf8.Valid(r.Value) {
			e.small = append(e.small, `,"original_base64":"`...)
			e.add(splice.Coded, r.Value)
			e.small = append(e.small, '"')
		}
		e.small = append(e.small, '}')
	}
	e.small = append(e.small, '}')
}

// member adds a name and a text; one that is no text as base64.
func (e *encoder) member(name string, text []byte) {
	kind := splice.Quoted
	if !utf8.Valid(text) {
		name, kind = name+"_base64", splice.Coded
	}
	e.small = append(append(append(e.small, '"'), name...), `":"`...)
	e.add(kind, text)
	e.small = append(e.small, '"')
}

// newLayout is the layout of a framing with its templates.
//
// Errors: all faults of the three.
func newLayout(framing, event, body string) (layout, []error) {
	var l layout
	var faults []error
	parts, err := parseEvent(event)
	if err != nil {
		faults = append(faults, fmt.Errorf("event: %w", err))
	}
	l.event, l.whole = parts, holdsEvent(parts)
	switch framing {
	case framingArray:
		l.open, l.between, l.end = "[", ",", "]"
	case framingNDJSON:
		l.between, l.end = "\n", "\n"
	case framingConcatenated, framingSingle:
	default:
		faults = append(faults, fmt.Errorf("framing %q: want %s, %s, %s or %s",
			framing, framingArray, framingNDJSON, framingConcatenated, framingSingle))
	}
	if body == "" {
		return l, faults
	}
	before, after, err := parseBody(body)
	switch {
	case framing != framingArray:
		faults = append(faults, fmt.Errorf("body: is for framing %s only", framingArray))
	case err != nil:
		faults = append(faults, fmt.Errorf("body: %w", err))
	}
	l.open, l.end = before+l.open, l.end+after
	return l, faults
}
