package syslog

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"weir/buffer"
	"weir/sinks/splice"
	"weir/sinks/template"
)

// An encoder makes messages. What it returns is valid until the next one.
//
// A message is one line whatever the record says of itself: no byte below 0x20 but
// a tab, and no 0x7f, is in it.
type encoder struct {
	layout    *layout
	msg, text []byte
	compacted bytes.Buffer
}

// maxKept bounds the memory that an idle encoder keeps.
const maxKept = 256 << 10

func (e *encoder) release() {
	if cap(e.msg) > maxKept {
		e.msg = nil
	}
	if cap(e.text) > maxKept {
		e.text = nil
	}
	if e.compacted.Cap() > maxKept {
		e.compacted = bytes.Buffer{}
	}
}

// message is r's message, without a frame.
//
// Errors: it is longer than it may be.
func (e *encoder) message(r *buffer.Record) ([]byte, error) {
	l := e.layout
	if n := len(r.Value); n > l.max && !r.Shape.Has(buffer.ShapeObject) {
		return nil, tooLong(n, l.max) // a text gets no shorter, and up to six times as long
	}
	at := e.time(r)
	e.msg = append(e.msg[:0], '<')
	e.msg = strconv.AppendInt(e.msg, int64(l.facility*8+e.severity(r)), 10)
	e.msg = append(e.msg, ">1 "...)
	e.msg = appendStamp(e.msg, at)
	// The lengths are those of RFC 5424, 6.
	for _, h := range [...]struct {
		text *template.Template
		most int
	}{{l.hostname, 255}, {l.appName, 48}, {l.procID, 128}, {l.msgID, 32}} {
		e.msg = append(e.msg, ' ')
		e.msg = appendPrintable(e.msg, e.make(h.text, r), h.most)
	}
	e.msg = append(e.msg, ' ')
	if l.track {
		e.coordinates(r)
	} else {
		e.msg = append(e.msg, '-')
	}
	e.msg = append(e.msg, ' ')
	switch l.payload {
	case payloadJSON:
		e.json(r)
	case payloadCEF:
		e.cef(r, at)
	case payloadLEEF:
		e.leef(r, at)
	}
	if len(e.msg) > l.max {
		return nil, tooLong(len(e.msg), l.max)
	}
	return e.msg, nil
}

func tooLong(n, most int) error {
	return fmt.Errorf("the message would be about %d bytes long, more than max_message (%d)", n, most)
}

// make is what t comes to for r, empty where a field of it is missing.
func (e *encoder) make(t *template.Template, r *buffer.Record) []byte {
	var err error
	if e.text, err = t.Append(e.text[:0], r); err != nil {
		return nil
	}
	return e.text
}

// maxSeverity bounds the text of a severity.
const maxSeverity = 64

func (e *encoder) severity(r *buffer.Record) int {
	l := e.layout
	if !l.bySeverity {
		return l.severity
	}
	text, err := l.severityAt.Text(r)
	if err != nil || len(text) > maxSeverity {
		return l.severity
	}
	n, ok := l.severities[strings.ToLower(string(text))]
	if !ok {
		return l.severity
	}
	return n
}

// time is the event's time; the zero time when it has none.
func (e *encoder) time(r *buffer.Record) time.Time {
	if e.layout.byTime {
		if text, err := e.layout.timeAt.Text(r); err == nil {
			if at, ok := parseTime(text); ok {
				return at
			}
		}
	}
	return r.Time
}

// parseTime reads RFC 3339, or a number of seconds or milliseconds since 1970: one
// that would be after the year 5138 in seconds is in milliseconds.
func parseTime(text []byte) (time.Time, bool) {
	if len(text) > 40 {
		return time.Time{}, false
	}
	s := string(text)
	if at, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return at, true
	}
	whole, fraction, _ := strings.Cut(s, ".")
	n, err := strconv.ParseUint(whole, 10, 48)
	if err != nil {
		return time.Time{}, false
	}
	if n > 1e11 {
		return time.UnixMilli(int64(n)), true
	}
	ms, err := strconv.ParseUint((fraction + "000")[:3], 10, 16)
	return time.UnixMilli(int64(n)*1000 + int64(ms)), err == nil
}

// appendStamp appends a TIMESTAMP with milliseconds, in UTC; "-" for a time that
// has none of that form.
func appendStamp(dst []byte, at time.Time) []byte {
	at = at.UTC()
	if at.IsZero() || at.Year() < 0 || at.Year() > 9999 {
		return append(dst, '-')
	}
	return at.AppendFormat(dst, "2006-01-02T15:04:05.000Z")
}

// appendPrintable appends text as PRINTUSASCII, at most most of it: what is no such
// character becomes _, an empty text -.
func appendPrintable(dst, text []byte, most int) []byte {
	if len(text) == 0 {
		return append(dst, '-')
	}
	for i := 0; i < len(text) && most > 0; most-- {
		c, n := text[i], 1
		if c <= ' ' || c >= 0x7f {
			_, n = utf8.DecodeRune(text[i:])
			c = '_'
		}
		dst = append(dst, c)
		i += n
	}
	return dst
}

// coordinates are the SD-ELEMENT that tells duplicates and gaps. 32473 is the
// enterprise number that RFC 5612 sets aside for such names.
func (e *encoder) coordinates(r *buffer.Record) {
	e.msg = append(e.msg, `[kafka@32473 topic="`...)
	for _, c := range []byte(r.Topic) {
		switch {
		case c == '"' || c == '\\' || c == ']':
			e.msg = append(e.msg, '\\', c)
		case c < ' ' || c >= 0x7f:
			e.msg = append(e.msg, '_') // no topic's name holds one
		default:
			e.msg = append(e.msg, c)
		}
	}
	e.msg = append(e.msg, `" partition="`...)
	e.msg = strconv.AppendInt(e.msg, int64(r.Partition), 10)
	e.msg = append(e.msg, `" offset="`...)
	e.msg = strconv.AppendInt(e.msg, r.Offset, 10)
	e.msg = append(e.msg, `"]`...)
}

// json appends the value: an object as it came, on one line; anything else as
// text in event.original, and in base64 beside it where it is not valid UTF-8.
func (e *encoder) json(r *buffer.Record) {
	if v, ok := e.object(r); ok {
		e.msg = append(e.msg, v...)
		return
	}
	if r.Value == nil {
		e.msg = append(e.msg, `{"event":{"original":null}}`...)
		return
	}
	e.msg = append(e.msg, `{"event":{"original":"`...)
	e.msg = appendJSONText(e.msg, r.Value)
	if !utf8.Valid(r.Value) {
		e.msg = append(e.msg, `","original_base64":"`...)
		e.msg = base64.StdEncoding.AppendEncode(e.msg, r.Value)
	}
	e.msg = append(e.msg, `"}}`...)
}

// object is r's value as one line of JSON without control characters but tabs;
// false when it is no object.
func (e *encoder) object(r *buffer.Record) ([]byte, bool) {
	v, ok := splice.Object(r, &e.compacted)
	if !ok {
		return nil, false
	}
	for _, c := range v {
		if c < ' ' && c != '\t' || c == 0x7f {
			return e.withoutControls(v)
		}
	}
	return v, true
}

// withoutControls is v with a DEL, which JSON allows in a string, as an escape; false
// for what JSON allows nowhere.
func (e *encoder) withoutControls(v []byte) ([]byte, bool) {
	if !json.Valid(v) {
		return nil, false
	}
	return bytes.ReplaceAll(v, []byte{0x7f}, []byte(`\u007f`)), true
}

const hexDigits = "0123456789abcdef"

// appendJSONText appends s as the inside of a JSON string. What is not valid UTF-8
// becomes U+FFFD.
func appendJSONText(dst, s []byte) []byte {
	for len(s) > 0 {
		c := s[0]
		switch {
		case c >= utf8.RuneSelf:
			r, n := utf8.DecodeRune(s)
			dst = utf8.AppendRune(dst, r)
			s = s[n:]
			continue
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c == '\n':
			dst = append(dst, `\n`...)
		case c == '\r':
			dst = append(dst, `\r`...)
		case c == '\t':
			dst = append(dst, `\t`...)
		case c < ' ' || c == 0x7f:
			dst = append(dst, `\u00`...)
			dst = append(dst, hexDigits[c>>4], hexDigits[c&15])
		default:
			dst = append(dst, c)
		}
		s = s[1:]
	}
	return dst
}
