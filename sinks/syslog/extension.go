package syslog

import (
	"strconv"
	"time"
	"unicode/utf8"

	"weir/buffer"
)

// cef appends CEF:0|Vendor|Product|Version|EventID|Name|Severity|Extension.
//
// ArcSight Common Event Format, Implementing (version 26): in the header \ and | are
// escaped with \; in the extension \ and =, and a line break is \n or \r.
func (e *encoder) cef(r *buffer.Record, at time.Time) {
	e.msg = append(e.msg, "CEF:0|"...)
	for _, t := range e.layout.head {
		e.msg = appendHead(e.msg, e.make(t, r), true)
		e.msg = append(e.msg, '|')
	}
	e.extension(r, at, "rt", ' ', appendCEFValue)
}

// leef appends LEEF:2.0|Vendor|Product|Version|EventID|x09|Extension: the parts of
// the extension have tabs between them, as most parsers expect. LEEF knows no
// escapes: what would end a part becomes a space, and in the header a /.
//
// https://www.ibm.com/docs/en/dsm?topic=overview-leef-event-components
func (e *encoder) leef(r *buffer.Record, at time.Time) {
	e.msg = append(e.msg, "LEEF:2.0|"...)
	for _, t := range e.layout.head {
		e.msg = appendHead(e.msg, e.make(t, r), false)
		e.msg = append(e.msg, '|')
	}
	e.msg = append(e.msg, "x09|"...)
	e.extension(r, at, "devTime", '\t', appendLEEFValue)
}

// extension appends the fields of the mapping, and the time under the key for it
// unless the mapping has that. A value that is not a JSON object has no fields: it
// is told whole, as msg.
func (e *encoder) extension(r *buffer.Record, at time.Time, timeKey string, between byte, value func(dst, v []byte) []byte) {
	first := true
	key := func(k string) {
		if !first {
			e.msg = append(e.msg, between)
		}
		first = false
		e.msg = append(append(e.msg, k...), '=')
	}
	if !e.layout.stamped && !at.IsZero() {
		key(timeKey)
		e.msg = strconv.AppendInt(e.msg, at.UnixMilli(), 10)
	}
	for i := range e.layout.fields {
		f := &e.layout.fields[i]
		text := f.value
		if !f.fixed {
			var err error
			if text, err = f.at.Text(r); err != nil {
				continue
			}
		}
		key(f.key)
		e.msg = value(e.msg, text)
	}
	if !r.Shape.Has(buffer.ShapeObject) && len(r.Value) > 0 {
		key("msg")
		e.msg = value(e.msg, r.Value)
	}
}

// appendHead appends a part of a header: escaped, or with / in place of what ends
// it. An empty one is -.
func appendHead(dst, text []byte, escape bool) []byte {
	if len(text) == 0 {
		return append(dst, '-')
	}
	return appendClean(dst, text, func(dst []byte, c byte) []byte {
		switch {
		case c == '|' && !escape:
			return append(dst, '/')
		case (c == '|' || c == '\\') && escape:
			return append(dst, '\\', c)
		case c < ' ' || c == 0x7f:
			return append(dst, ' ')
		}
		return append(dst, c)
	})
}

func appendCEFValue(dst, v []byte) []byte {
	return appendClean(dst, v, func(dst []byte, c byte) []byte {
		switch {
		case c == '\\' || c == '=':
			return append(dst, '\\', c)
		case c == '\n':
			return append(dst, `\n`...)
		case c == '\r':
			return append(dst, `\r`...)
		case c < ' ' && c != '\t' || c == 0x7f:
			return append(dst, ' ')
		}
		return append(dst, c)
	})
}

func appendLEEFValue(dst, v []byte) []byte {
	return appendClean(dst, v, func(dst []byte, c byte) []byte {
		if c < ' ' || c == 0x7f {
			c = ' '
		}
		return append(dst, c)
	})
}

// appendClean appends v, each ASCII character by way of ascii, as valid UTF-8.
func appendClean(dst, v []byte, ascii func(dst []byte, c byte) []byte) []byte {
	for i := 0; i < len(v); {
		if v[i] < utf8.RuneSelf {
			dst = ascii(dst, v[i])
			i++
			continue
		}
		r, n := utf8.DecodeRune(v[i:])
		dst = utf8.AppendRune(dst, r)
		i += n
	}
	return dst
}
