package archive

import (
	"bytes"
	"testing"
	"time"

	"weir/buffer"
)

// A record, whatever it holds, is one line, and comes back as it was.
func FuzzLine(f *testing.F) {
	f.Add("t", []byte(`{"a":1}`), []byte("k"), "h", []byte("v"), int64(5), true)
	f.Add("t\"\n", []byte("{\"a\":1\n}\n{}"), []byte{0xff}, "", []byte(nil), int64(0), true)
	f.Add("", []byte("text\r\n\x00\u2028"), []byte{}, "\xff", []byte("\\"), int64(1)<<62, false)
	f.Fuzz(func(t *testing.T, topic string, value, key []byte, name string, header []byte, offset int64, object bool) {
		if topic == "" || offset < 0 {
			return
		}
		r := &buffer.Record{
			Origin: &buffer.Origin{Cluster: "c", Topic: string(bytes.ToValidUTF8([]byte(topic), nil)), Partition: 1},
			Offset: offset, Time: time.UnixMilli(offset), Key: key, Value: value, Headers: []buffer.Header{{Key: name, Value: header}},
		}
		if r.Topic == "" {
			return
		}
		if object { // as if the decoder had said so
			r.Shape = buffer.ShapeObject
		}
		var out bytes.Buffer
		w := lineWriter{out: &out}
		w.record(lineStart(r.Origin), r)
		w.flush()
		line, ok := bytes.CutSuffix(out.Bytes(), []byte("\n"))
		if !ok || bytes.ContainsAny(line, "\n\r") {
			t.Fatalf("not one line: %q", out.Bytes())
		}
		if o, ok := offsetOf(line, lineStart(r.Origin)); !ok || o != offset {
			t.Errorf("its offset is read as %d, %v", o, ok)
		}
		if start := startOf(line, filePrefix(r.Origin)); !bytes.Equal(start, lineStart(r.Origin)) {
			t.Errorf("it starts with %q", start)
		}
		back, err := parseLine(line)
		if err != nil {
			if r.Shape == 0 {
				t.Errorf("%v: %q", err, line)
			}
			return // a Shape that lied
		}
		if r.Shape == 0 && !same(r, back) {
			t.Errorf("%+v comes back as %+v", r, back)
		}
		if len(line) > longest(r) {
			t.Errorf("%d bytes, and at most %d are read", len(line), longest(r))
		}
	})
}

func FuzzParseLine(f *testing.F) {
	f.Add([]byte(`{"topic":"t","topic_id":"","cluster":"","partition":0,"offset":1,"event":{"a":1}}`))
	f.Add([]byte(`{"topic":"t","partition":0,"offset":1,"key_base64":"/w==","headers":[{"key":"a"}],"value":"x"}`))
	f.Add([]byte(`{"topic":"t","partition":0,"offset":1,"event":null}`))
	f.Fuzz(func(_ *testing.T, line []byte) { _, _ = parseLine(line) })
}

// A file of any bytes is read without harm, and what is called whole is read again
// as such.
func FuzzWalk(f *testing.F) {
	for c := range codec(len(extensions)) {
		e, err := newEncoder(c)
		if err != nil {
			f.Fatal(err)
		}
		var all []byte
		for o := range int64(2) {
			var out bytes.Buffer
			e.start(&out)
			r := record(o)
			e.lines.record(lineStart(r.Origin), r)
			if err := e.finish(); err != nil {
				f.Fatal(err)
			}
			all = append(all, out.Bytes()...)
		}
		f.Add(uint8(c), all)
		f.Add(uint8(c), all[:len(all)-3])
		f.Add(uint8(c), append(bytes.Clone(all), 0, 0, 0))
	}
	f.Add(uint8(zst), []byte("\x50\x2a\x4d\x18\x02\x00\x00\x00xx"))
	f.Fuzz(func(t *testing.T, kind uint8, content []byte) {
		c := codec(kind % uint8(len(extensions)))
		size := int64(len(content))
		frames := 0
		e, err := walk(bytes.NewReader(content), size, c, 1000, func([]byte) error { return nil }, func() { frames++ })
		if err != nil || e.good > size || e.last > e.good || e.why == nil && e.good != size {
			t.Fatalf("%+v of %d bytes, %v", e, size, err)
		}
		again := 0
		e, err = walk(bytes.NewReader(content), e.good, c, 1000, func([]byte) error { return nil }, func() { again++ })
		if err != nil || e.why != nil || again != frames {
			t.Errorf("what is whole is %+v, %v, with %d frames of %d", e, err, again, frames)
		}
	})
}
