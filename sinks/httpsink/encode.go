package httpsink

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/bits"
	"strconv"
	"time"
	"unicode/utf8"

	"weir/buffer"
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

	segments []segment // what is left of the record at hand
	piece    []byte    // what is left of a piece of segments[0] that had to be coded

	all          []segment // reused memory
	small, spare []byte
	from         int // of small: where the piece at hand begins
	compacted    bytes.Buffer
}

// A segment is a part of a body.
type segment struct {
	kind segmentKind
	data []byte
}

type segmentKind uint8

const (
	plain  segmentKind = iota // as it is
	quoted                    // the inside of a JSON string
	coded                     // base64
)

// start makes e ready for the events of one request.
func (e *encoder) start(l *layout, items []item, now time.Time) {
	e.layout, e.items, e.now = l, items, now
	e.next, e.opened, e.ended = 0, false, false
	e.segments, e.piece = nil, nil
}

// maxKept bounds the memory that an idle encoder keeps.
const maxKept = 256 << 10

// release drops what e holds of the records.
func (e *encoder) release() {
	e.items, e.segments, e.piece = nil, nil, nil
	clear(e.all[:cap(e.all)])
	if e.compacted.Cap() > maxKept {
		e.compacted = bytes.Buffer{}
	}
}

// done reports whether the whole body was read.
func (e *encoder) done() bool { return e.ended && len(e.segments) == 0 && len(e.piece) == 0 }

// Read fills p.
//
// Errors: io.EOF. That a record cannot be encoded was found out by measure.
func (e *encoder) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		if len(e.piece) > 0 {
			c := copy(p[n:], e.piece)
			e.piece = e.piece[c:]
			n += c
			continue
		}
		if len(e.segments) == 0 {
			if e.ended {
				break
			}
			if err := e.advance(); err != nil {
				return n, err
			}
			continue
		}
		s := &e.segments[0]
		switch s.kind {
		case plain:
			c := copy(p[n:], s.data)
			s.data = s.data[c:]
			n += c
		case quoted:
			var chunk []byte
			chunk, s.data = cutRune(s.data, 4096)
			e.spare = appendEscaped(e.spare[:0], chunk)
			e.piece = e.spare
		case coded:
			chunk := s.data[:min(len(s.data), 3*1024)] // a multiple of 3: no padding but at the end
			s.data = s.data[len(chunk):]
			e.spare = base64.StdEncoding.AppendEncode(e.spare[:0], chunk)
			e.piece = e.spare
		}
		if len(s.data) == 0 {
			e.segments = e.segments[1:]
		}
	}
	if n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return n, nil
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
	e.segments = e.all
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
		switch s.kind {
		case plain:
			n += len(s.data)
		case quoted:
			n += escapedLen(s.data)
		case coded:
			n += base64.StdEncoding.EncodedLen(len(s.data))
		}
	}
	return n, nil
}

// begin, cut and add build the segments of a record: small pieces are gathered
// in small, which cut makes a segment of.
func (e *encoder) begin() { e.all, e.small, e.from = e.all[:0], e.small[:0], 0 }

func (e *encoder) cut() {
	if len(e.small) > e.from {
		e.all = append(e.all, segment{plain, e.small[e.from:]})
		e.from = len(e.small)
	}
}

func (e *encoder) add(kind segmentKind, data []byte) {
	if len(data) > 0 {
		e.cut()
		e.all = append(e.all, segment{kind, data})
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
			e.text(p, quoted, r.Value)
		case partEventBase64:
			e.text(p, coded, r.Value)
		case partKey:
			e.text(p, quoted, r.Key)
		case partTopic:
			e.quote(p)
			e.spare = append(e.spare[:0], r.Topic...)
			e.small = appendEscaped(e.small, e.spare)
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
			e.small = appendEscaped(e.small, e.spare)
			e.quote(p)
		case partField:
			text, err := p.field.Text(r)
			if err != nil && !e.layout.whole {
				return err
			}
			if err == nil && text == nil {
				text = []byte{}
			}
			e.text(p, quoted, text)
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
func (e *encoder) text(p *part, kind segmentKind, data []byte) {
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
	if v, ok := e.object(r); ok {
		e.add(plain, v)
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
		e.add(quoted, r.Value)
		e.small = append(e.small, '"')
		if !utf8.Valid(r.Value) {
			e.small = append(e.small, `,"original_base64":"`...)
			e.add(coded, r.Value)
			e.small = append(e.small, '"')
		}
		e.small = append(e.small, '}')
	}
	e.small = append(e.small, '}')
}

// member adds a name and a text; one that is no text as base64.
func (e *encoder) member(name string, text []byte) {
	kind := quoted
	if !utf8.Valid(text) {
		name, kind = name+"_base64", coded
	}
	e.small = append(append(append(e.small, '"'), name...), `":"`...)
	e.add(kind, text)
	e.small = append(e.small, '"')
}

// object is r's value as it can be put on one line; false when it has to be
// wrapped as text.
func (e *encoder) object(r *buffer.Record) ([]byte, bool) {
	if !r.Shape.Has(buffer.ShapeObject) {
		return nil, false
	}
	v := bytes.Trim(r.Value, " \t\r\n")
	if len(v) < 2 || v[0] != '{' || v[len(v)-1] != '}' {
		return nil, false
	}
	// ShapeLineBreak says the same, but a wrong Shape must not let an event write
	// lines of its own.
	if bytes.IndexByte(v, '\n') < 0 && bytes.IndexByte(v, '\r') < 0 {
		return v, true
	}
	// The same event may stand in the template twice: its bytes are the same then.
	e.compacted.Reset()
	if err := json.Compact(&e.compacted, v); err != nil {
		return nil, false
	}
	return e.compacted.Bytes(), true
}

// cutRune cuts b after at most n bytes, but not inside a rune.
func cutRune(b []byte, n int) (chunk, rest []byte) {
	if len(b) <= n {
		return b, nil
	}
	for i := n; i > n-utf8.UTFMax; i-- {
		if utf8.RuneStart(b[i]) {
			return b[:i], b[i:]
		}
	}
	return b[:n], b[n:] // not UTF-8 anyhow
}

// Eight times the byte 1, and eight times the top bit.
const (
	ones = 0x0101010101010101
	high = 0x8080808080808080
)

// plainLen is how many bytes at the start of s are ASCII that stands for itself in
// a JSON string.
//
// It looks at eight bytes at a time. x-ones&^x has the top bit of a byte set when
// that byte of x is zero; it may be set falsely in bytes above a zero one, so the
// lowest is always right, and only the lowest is used.
func plainLen(s []byte) int {
	i := 0
	for ; len(s)-i >= 8; i += 8 {
		w := binary.LittleEndian.Uint64(s[i:])
		quote, slash := w^ones*'"', w^ones*'\\'
		stop := ((quote-ones)&^quote | (slash-ones)&^slash | (w-ones*' ')&^w | w) & high
		if stop != 0 {
			return i + bits.TrailingZeros64(stop)/8
		}
	}
	for ; i < len(s); i++ {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			break
		}
	}
	return i
}

// escapedLen is how many bytes appendEscaped makes of s.
func escapedLen(s []byte) int {
	n := len(s)
	for {
		s = s[plainLen(s):]
		if len(s) == 0 {
			return n
		}
		size := 1
		switch c := s[0]; {
		case c >= utf8.RuneSelf:
			var r rune
			if r, size = utf8.DecodeRune(s); r == utf8.RuneError && size == 1 {
				n += len("\uFFFD") - 1
			}
		case c == '"', c == '\\', c == '\n', c == '\r', c == '\t':
			n++
		default:
			n += len(`\u0000`) - 1
		}
		s = s[size:]
	}
}

const hexDigits = "0123456789abcdef"

// appendEscaped appends s as the inside of a JSON string. What is not valid
// UTF-8 becomes U+FFFD.
func appendEscaped(dst, s []byte) []byte {
	for {
		n := plainLen(s)
		dst = append(dst, s[:n]...)
		if s = s[n:]; len(s) == 0 {
			return dst
		}
		size := 1
		switch c := s[0]; {
		case c >= utf8.RuneSelf:
			var r rune
			r, size = utf8.DecodeRune(s)
			dst = utf8.AppendRune(dst, r)
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c == '\n':
			dst = append(dst, '\\', 'n')
		case c == '\r':
			dst = append(dst, '\\', 'r')
		case c == '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		s = s[size:]
	}
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
