package archive

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"unicode/utf8"

	"weir/buffer"
	"weir/sinks/ndjson"
	"weir/sinks/splice"
)

// line is a record as a file holds it.
type line struct {
	ndjson.Line
	// Event is a value that is a JSON object, as it came.
	Event json.RawMessage `json:"event"`
}

// lineStart is how all lines of o's records begin, up to the offset.
func lineStart(o *buffer.Origin) []byte {
	text := func(dst []byte, member, s string) []byte {
		dst = append(dst, member...)
		dst = splice.AppendEscaped(dst, []byte(s))
		return append(dst, '"')
	}
	p := text(nil, `{"topic":"`, o.Topic)
	p = text(p, `,"topic_id":"`, o.TopicID)
	p = text(p, `,"cluster":"`, o.Cluster)
	p = append(p, `,"partition":`...)
	p = strconv.AppendInt(p, int64(o.Partition), 10)
	return append(p, `,"offset":`...)
}

// identity is a short hash of the log that o is a partition of. A topic that is
// deleted and made again has another one.
func identity(o *buffer.Origin) string {
	log := "id:" + o.TopicID
	if o.TopicID == "" {
		log = "name:" + o.Cluster + "\x00" + o.Topic
	}
	sum := sha256.Sum256([]byte(log))
	return hex.EncodeToString(sum[:8])
}

// pieceSize is how much of a text is escaped in one go.
const pieceSize = 24 << 10 // a multiple of 3: no padding in the middle of base64

// lineWriter writes lines to out through a buffer. out does not fail: it is
// memory.
type lineWriter struct {
	buf []byte
	out io.Writer
}

func (w *lineWriter) flush() {
	_, _ = w.out.Write(w.buf)
	w.buf = w.buf[:0]
}

// record writes r as one line that begins with start.
func (w *lineWriter) record(start []byte, r *buffer.Record) {
	w.buf = append(w.buf, start...)
	w.buf = strconv.AppendInt(w.buf, r.Offset, 10)
	if !r.Time.IsZero() {
		w.buf = append(w.buf, `,"timestamp":`...)
		w.buf = strconv.AppendInt(w.buf, r.Time.UnixMilli(), 10)
	}
	if r.Appended {
		w.buf = append(w.buf, `,"timestamp_type":"`+ndjson.LogAppendTime+`"`...)
	}
	if r.Key != nil {
		w.buf = append(w.buf, ',')
		w.bytes("key", r.Key)
	}
	for i := range r.Headers {
		if i == 0 {
			w.buf = append(w.buf, `,"headers":[{`...)
		} else {
			w.buf = append(w.buf, `},{`...)
		}
		w.bytes("key", []byte(r.Headers[i].Key))
		if v := r.Headers[i].Value; v != nil {
			w.buf = append(w.buf, ',')
			w.bytes("value", v)
		}
	}
	if len(r.Headers) > 0 {
		w.buf = append(w.buf, `}]`...)
	}
	switch {
	case r.Value == nil:
	case isEvent(r):
		w.buf = append(w.buf, `,"event":`...)
		w.plain(r.Value)
	default:
		w.buf = append(w.buf, ',')
		w.bytes("value", r.Value)
	}
	w.buf = append(w.buf, "}\n"...)
	if len(w.buf) >= pieceSize {
		w.flush()
	}
}

// isEvent reports whether r's value can stand in the line as it is. One with a
// line break between its tokens, or white space around it, is kept as text: every
// byte counts. The Shape alone is not believed where a line could be smuggled in.
func isEvent(r *buffer.Record) bool {
	v := r.Value
	return r.Shape.Has(buffer.ShapeObject) && len(v) >= 2 && v[0] == '{' && v[len(v)-1] == '}' &&
		bytes.IndexByte(v, '\n') < 0 && bytes.IndexByte(v, '\r') < 0
}

// plain writes b as it is.
func (w *lineWriter) plain(b []byte) {
	if len(b) >= pieceSize {
		w.flush()
		_, _ = w.out.Write(b)
		return
	}
	w.buf = append(w.buf, b...)
}

// bytes writes a member of that name which holds b: as text, or in base64 where b
// is not valid UTF-8.
func (w *lineWriter) bytes(name string, b []byte) {
	text := utf8.Valid(b)
	w.buf = append(w.buf, '"')
	w.buf = append(w.buf, name...)
	if !text {
		w.buf = append(w.buf, "_base64"...)
	}
	w.buf = append(w.buf, `":"`...)
	for len(b) > 0 {
		var piece []byte
		if text {
			piece, b = splice.CutRune(b, pieceSize)
			w.buf = splice.AppendEscaped(w.buf, piece)
		} else {
			piece, b = b[:min(len(b), pieceSize)], b[min(len(b), pieceSize):]
			w.buf = base64.StdEncoding.AppendEncode(w.buf, piece)
		}
		if len(w.buf) >= pieceSize {
			w.flush()
		}
	}
	w.buf = append(w.buf, '"')
}

// parseLine is the record that text, a line without its line break, holds. No
// error quotes the event.
func parseLine(text []byte) (*buffer.Record, error) {
	var l line
	if err := ndjson.Decode(text, &l, "an archive"); err != nil {
		return nil, err
	}
	r, err := l.Record()
	if err != nil {
		return nil, err
	}
	if l.Event != nil {
		if r.Value != nil || l.Event[0] != '{' {
			return nil, errors.New("event: not an object, or beside a value")
		}
		r.Value = l.Event
	}
	return r, nil
}
