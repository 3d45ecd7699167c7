package httpsink

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
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

// Whatever a server answers, it is read without a panic, and says what it says when
// it is read as a whole.
func FuzzAnswer(f *testing.F) {
	for _, s := range []string{``, `{}`, `{"a":{"b":0}}`, `{"a":{"b":"3"}}`, `{"a":[]}`, `[]`, `null`, `{"a":{"b":1e999}}`, `{"a":null}`, `x`,
		`{"a":{"b":1},"a":{}}`, `{"a":1,"a":{"b":[0]}}`, `{"a":{"b":{"c":[]}},"x":[[{}],"]"]}`, `{"\u0061":{"b":true}}`, `{"a":{"b":[]}} {}`,
		` null `, `{"a":{"b":false}},`, `{"x":1e999,"a":{"b":1}}`, `{"a":{"b":"\ud800"}}`, `{"x":{"a":{"b":1}}}`, `{"a":[{"b":1}]}`, `{"a":"b"}`,
		strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000), `{"a":` + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000) + `}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, path := range [][]string{{"a"}, {"a", "b"}} {
			refused, err := find(body, path)
			want, wantErr := findInAll(body, path)
			if refused != want || !errors.Is(err, wantErr) {
				t.Fatalf("%v: got %t and error %v, want %t and %v", path, refused, err, want, wantErr)
			}
		}
	})
}

// findInAll is find by way of a value of everything.
func findInAll(body []byte, path []string) (bool, error) {
	var at any
	if err := json.Unmarshal(body, &at); err != nil {
		return false, errNotJSON
	}
	for i, step := range path {
		if at == nil && i > 0 {
			return false, nil
		}
		object, ok := at.(map[string]any)
		if !ok {
			return false, errNotObject
		}
		at = object[step]
	}
	switch v := at.(type) {
	case nil:
		return false, nil
	case bool:
		return v, nil
	case float64:
		return v != 0, nil
	case string:
		return v != "" && v != "0", nil
	case []any:
		return len(v) > 0, nil
	default:
		return len(at.(map[string]any)) > 0, nil
	}
}
