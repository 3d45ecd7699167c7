package httpsink

import (
	"bytes"
	"encoding/json"
	"io"
	"testing"
	"time"
	"unicode/utf8"

	"weir/buffer"
	"weir/sinks/httpclient"
	"weir/sinks/sinktest"
	"weir/sinks/splice"
)

// No template and no event break the framing: what is sent is as many events of
// valid JSON as there are records, and as long as was said.
func FuzzEncoder(f *testing.F) {
	for _, template := range []string{
		`{event}`, `{"a":{event},"b":"{event_text}","c":{event_base64}}`, `["{time:unix_nano}","{event_text}",{"o":"{offset}"}]`,
		`{"t":{topic},"k":{key},"f":{a.b},"g":"{a}","w":{time:2006 "x"}}`, `{"{key}":1}`, `{{topic}:{partition}}`, `{"a":"\u00{offset}"}`,
		`{"f":{a}}`, `{"w":{time:\2006}}`,
	} {
		f.Add(template, []byte(`{"a":{"b":"c"}}`), []byte("k"), "topic", int64(1), int64(1700000000123), true)
		f.Add(template, []byte("{\"a\":\n\"\\u0000\"}"), []byte(nil), "t\"\n", int64(-5), int64(1<<60), true)
		f.Add(template, []byte("\xff\xe2\x82\"}\n{"), []byte("\xff"), "\xff", int64(1<<62), int64(-1), false)
		f.Add(template, []byte(nil), []byte(nil), "", int64(0), int64(0), false)
	}
	f.Fuzz(func(t *testing.T, template string, value, key []byte, topic string, offset, ms int64, object bool) {
		if len(template) > 1000 {
			return
		}
		r := &buffer.Record{Origin: &buffer.Origin{Topic: topic, Partition: int32(offset)}, Offset: offset, Key: key, Value: value, Time: time.UnixMilli(ms)}
		if len(value) == 0 {
			r.Value = nil
		}
		if object {
			r.Shape = shape(string(value))
		}
		want := bytes.Clone(value)
		for _, framing := range []string{framingArray, framingNDJSON, framingConcatenated} {
			l, faults := newLayout(framing, template, "")
			if len(faults) > 0 {
				return
			}
			e := new(encoder)
			e.start(&l, nil, at)
			size, err := e.measure(r)
			if err != nil {
				return
			}
			items := []item{{r, 0, size}, {r, 1, size}, {r, 2, size}}
			e.start(&l, items, at)
			body, err := io.ReadAll(e)
			if err != nil || !e.done() {
				t.Fatalf("%v, done %v", err, e.done())
			}
			if n := (&Sink{layout: l}).size(items); n != int64(len(body)) {
				t.Fatalf("%d bytes, measured %d: %q", len(body), n, body)
			}
			if !utf8.Valid(body) {
				t.Fatalf("not UTF-8: %q", body)
			}
			read := map[string]func([]byte) ([]json.RawMessage, error){
				framingArray: sinktest.ReadArray, framingNDJSON: sinktest.ReadLines, framingConcatenated: sinktest.ReadConcatenated,
			}[framing]
			events, err := read(body)
			if err != nil || len(events) != 3 {
				t.Fatalf("%s: %d events, %v: %q", framing, len(events), err, body)
			}
			// What was gzipped is the same.
			e.start(&l, items, at)
			c := httpclient.NewCompressor()
			c.Start(e)
			if _, err := io.Copy(io.Discard, c); err != nil || !e.done() {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(value, want) {
			t.Fatal("the record was changed")
		}
	})
}

// Text survives being escaped, but for what is not UTF-8.
func FuzzEscape(f *testing.F) {
	f.Add([]byte("a\"\\\x00\x1f\u2028é\xff\xe2\x82"))
	f.Add(bytes.Repeat([]byte("\xe2\x82\xac"), 2000))
	f.Fuzz(func(t *testing.T, s []byte) {
		b := append(splice.AppendEscaped([]byte{'"'}, s), '"')
		if len(b)-2 != splice.EscapedLen(s) {
			t.Fatalf("%d bytes, said %d", len(b)-2, splice.EscapedLen(s))
		}
		var got string
		if err := json.Unmarshal(b, &got); err != nil {
			t.Fatal(err)
		}
		if want := string(bytes.ToValidUTF8(s, []byte("\uFFFD"))); utf8.Valid(s) && got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	})
}

// Whatever a server answers, it is read without a panic, and only emptiness says
// that nothing was refused.
func FuzzAnswer(f *testing.F) {
	for _, s := range []string{``, `{}`, `{"a":{"b":0}}`, `{"a":{"b":"3"}}`, `{"a":[]}`, `[]`, `null`, `{"a":{"b":1e999}}`, `{"a":null}`, `x`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		refused, err := find(body, []string{"a", "b"})
		if err == nil && !json.Valid(body) {
			t.Fatal("believed what is not JSON")
		}
		if err != nil && refused {
			t.Fatal("both an error and a result")
		}
	})
}
