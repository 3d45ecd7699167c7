package splunk

import (
	"bytes"
	"fmt"
	"strconv"
	"unicode"
	"unicode/utf8"

	"weir/buffer"
	"weir/sinks/splice"
	"weir/sinks/template"
)

// layout is what all bodies of a sink have in common.
type layout struct {
	keys    []key // in the order they are written in
	time    template.Field
	hasTime bool // time is set
	track   bool
	// perRecord: two records of one partition can have different keys.
	perRecord bool
}

// A key is one of the envelope's keys that a template fills. There are no others
// than those that Splunk knows: at one that it does not know it stops indexing,
// and answers 200 all the same.
type key struct {
	name  string
	open  []byte // ,"index":"
	text  *template.Template
	index bool // the text is an index name
}

// set takes over the templates of cfg.
func (l *layout) set(cfg *Config) (faults []error) {
	for _, k := range []struct{ name, text string }{
		{"index", cfg.Index}, {"source", cfg.Source}, {"sourcetype", cfg.Sourcetype}, {"host", cfg.Host},
	} {
		t, err := template.Parse(k.text)
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", k.name, err))
			continue
		}
		if text, constant := t.Constant(); constant && text == "" {
			continue
		}
		l.keys = append(l.keys, key{name: k.name, open: []byte(`,"` + k.name + `":"`), text: t, index: k.name == "index"})
		l.perRecord = l.perRecord || t.PerRecord()
	}
	if cfg.Time != "" {
		f, err := template.ParseField(cfg.Time)
		if err != nil {
			faults = append(faults, fmt.Errorf("time: %w", err))
		}
		l.time, l.hasTime = f, true
	}
	l.track = cfg.Track
	return faults
}

// append appends the key with its text for r, or nothing where there is none.
func (k *key) append(dst []byte, r *buffer.Record, spare []byte) (out, reused []byte) {
	text, err := k.text.Append(spare[:0], r)
	if err != nil || !usable(text, k.index) {
		return dst, text
	}
	dst = append(dst, k.open...)
	dst = splice.AppendEscaped(dst, text)
	return append(dst, '"'), text
}

// maxName is how many bytes an index, source, source type or host may have.
const maxName = 1024

// usable reports whether text can be the value of a key. An index name is
// letters, digits and . _ -, and begins with a letter or digit: that is what
// Splunk and LogScale allow together. Of the others nothing is asked but that
// they can be shown.
func usable(text []byte, index bool) bool {
	if len(text) == 0 || len(text) > maxName || !utf8.Valid(text) {
		return false
	}
	if !index {
		return bytes.IndexFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
	}
	for i, c := range text {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case i > 0 && (c == '.' || c == '_' || c == '-'):
		default:
			return false
		}
	}
	return true
}

// An encoder reads as the body of one request: an envelope a record. It builds
// no body in memory: a value is copied from its record straight to where the
// client writes from.
//
// An event that is a JSON object is spliced in as it came, everything else is
// escaped: the framing holds whatever the records say.
type encoder struct {
	layout  *layout
	records []*buffer.Record
	next    int // of records
	size    int // bytes read so far

	body splice.Reader // what is left of the record at hand

	origins    map[*buffer.Origin]*originText
	lastOrigin *buffer.Origin
	lastText   *originText

	named *buffer.Record // whose keys are in names; nil: none
	names []byte

	head, spare []byte // reused memory
	all         [6]splice.Segment
}

// originText is the constant text of one partition's records.
type originText struct {
	names  []byte // the keys, unless they are per record
	fields []byte // ,"fields":{... up to the offset
}

var (
	closeObject   = []byte("}\n")
	closeText     = []byte("\"}\n")
	originalCoded = []byte(`","original_base64":"`)
	closeOriginal = []byte("\"}}}\n")
	closeKey      = []byte(`"},"event":{"original":null}}}` + "\n")
)

// start makes e ready for records, at least one.
func (e *encoder) start(l *layout, records []*buffer.Record) {
	e.layout, e.records, e.next, e.size = l, records, 0, 0
	e.body.Reset()
	e.lastOrigin, e.lastText, e.named = nil, nil, nil
	clear(e.origins)
}

// release drops what e holds of the records.
func (e *encoder) release() {
	e.records = nil
	e.body.Reset()
	e.all = [6]splice.Segment{}
	e.lastOrigin, e.lastText, e.named = nil, nil, nil
	clear(e.origins)
}

// done reports whether the whole body was read.
func (e *encoder) done() bool {
	return e.next == len(e.records) && e.body.Empty()
}

// Read fills p.
func (e *encoder) Read(p []byte) (int, error) {
	n, err := e.body.Fill(p, func() (bool, error) {
		if e.next == len(e.records) {
			return false, nil
		}
		e.record(e.records[e.next])
		e.next++
		return true, nil
	})
	e.size += n
	return n, err
}

// record makes the segments of r's envelope.
func (e *encoder) record(r *buffer.Record) {
	text := e.lastText
	if r.Origin != e.lastOrigin || text == nil {
		text = e.origin(r)
	}
	// The time comes first, so that every other key can begin with a comma; where
	// there is none, the comma goes.
	h := e.appendTime(append(e.head[:0], '{'), r)
	from := len(h)
	h = append(h, e.keys(r, text)...)
	if e.layout.track {
		h = append(h, text.fields...)
		h = strconv.AppendInt(h, r.Offset, 10)
		h = append(h, `"}`...)
	}
	if from == 1 && len(h) > from {
		h = append(h[:1], h[2:]...)
	}
	if len(h) > 1 {
		h = append(h, ',')
	}
	h = append(h, `"event":`...)

	e.body.Set(e.all[:0])
	value := r.Value
	switch {
	case isObject(r):
		e.body.Add(splice.Plain, h)
		e.body.Add(splice.Plain, value)
		e.body.Add(splice.Plain, closeObject)
	case value == nil && r.Key == nil:
		h = append(h, `{"event":{"original":null}}}`...)
		h = append(h, '\n')
		e.body.Add(splice.Plain, h)
	case value == nil:
		// A tombstone is nothing but its key.
		kind := splice.Quoted
		if utf8.Valid(r.Key) {
			h = append(h, `{"kafka":{"key":"`...)
		} else {
			h, kind = append(h, `{"kafka":{"key_base64":"`...), splice.Coded
		}
		e.body.Add(splice.Plain, h)
		e.body.Add(kind, r.Key)
		e.body.Add(splice.Plain, closeKey)
	case !utf8.Valid(value):
		h = append(h, `{"event":{"original":"`...)
		e.body.Add(splice.Plain, h)
		e.body.Add(splice.Quoted, value)
		e.body.Add(splice.Plain, originalCoded)
		e.body.Add(splice.Coded, value)
		e.body.Add(splice.Plain, closeOriginal)
	case blank(value):
		// Splunk refuses an event that is a blank text.
		h = append(h, `{"event":{"original":"`...)
		e.body.Add(splice.Plain, h)
		e.body.Add(splice.Quoted, value)
		e.body.Add(splice.Plain, closeOriginal)
	default:
		h = append(h, '"')
		e.body.Add(splice.Plain, h)
		e.body.Add(splice.Quoted, value)
		e.body.Add(splice.Plain, closeText)
	}
	e.head = h
}

// isObject reports whether r's value goes into the envelope as it came. An empty
// object goes as text: Splunk may take it for no event at all.
func isObject(r *buffer.Record) bool {
	return r.Shape.Has(buffer.ShapeObject) && !r.Shape.Has(buffer.ShapeEmpty) && len(r.Value) > 0
}

// blank reports whether text is white space only. What begins with another
// ASCII character, which is nearly all, is not looked through.
func blank(text []byte) bool {
	if len(text) > 0 && text[0] > ' ' && text[0] < utf8.RuneSelf {
		return false
	}
	return len(bytes.TrimSpace(text)) == 0
}

// appendTime appends the key "time", or nothing where there is no time to tell.
func (e *encoder) appendTime(h []byte, r *buffer.Record) []byte {
	start := len(h)
	h = append(h, `"time":`...)
	if e.layout.hasTime {
		if text, err := e.layout.time.Text(r); err == nil {
			if out, ok := appendFieldTime(h, text); ok {
				return out
			}
		}
	}
	if r.Time.IsZero() || r.Time.Unix() < 0 || r.Time.Unix() > maxSecond {
		return h[:start]
	}
	return appendTime(h, r.Time)
}

// keys are the keys that templates fill, each with a comma before it.
func (e *encoder) keys(r *buffer.Record, text *originText) []byte {
	switch {
	case !e.layout.perRecord:
		return text.names
	case e.named != nil && e.same(r):
		return e.names
	}
	e.names = e.names[:0]
	for i := range e.layout.keys {
		e.names, e.spare = e.layout.keys[i].append(e.names, r, e.spare)
	}
	e.named = r
	return e.names
}

// same reports whether r has the keys of the record they were last made for.
func (e *encoder) same(r *buffer.Record) bool {
	for i := range e.layout.keys {
		if !e.layout.keys[i].text.Same(e.named, r) {
			return false
		}
	}
	return true
}

// origin is the constant text for r's partition, made once a request.
func (e *encoder) origin(r *buffer.Record) *originText {
	text := e.origins[r.Origin]
	if text == nil {
		text = new(originText)
		for i := range e.layout.keys {
			if !e.layout.perRecord {
				text.names, e.spare = e.layout.keys[i].append(text.names, r, e.spare)
			}
		}
		text.fields = splice.AppendEscaped([]byte(`,"fields":{"kafka_topic":"`), []byte(r.Topic))
		text.fields = append(text.fields, `","kafka_partition":"`...)
		text.fields = strconv.AppendInt(text.fields, int64(r.Partition), 10)
		text.fields = append(text.fields, `","kafka_offset":"`...)
		if e.origins == nil {
			e.origins = make(map[*buffer.Origin]*originText)
		}
		e.origins[r.Origin] = text
	}
	e.lastOrigin, e.lastText = r.Origin, text
	return text
}

// index is the index name in r's envelope, empty when there is none.
func (l *layout) index(r *buffer.Record) string {
	for i := range l.keys {
		if k := &l.keys[i]; k.index {
			text, err := k.text.Append(nil, r)
			if err == nil && usable(text, true) {
				return string(text)
			}
		}
	}
	return ""
}

// routed reports whether two records of one request can have different indices.
func (l *layout) routed() bool {
	for i := range l.keys {
		if k := &l.keys[i]; k.index {
			_, constant := k.text.Constant()
			return !constant
		}
	}
	return false
}
