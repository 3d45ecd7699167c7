package splunk

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"weir/buffer"
)

// encode is the body for rs.
func encode(t *testing.T, edit func(*Config), rs ...*buffer.Record) string {
	t.Helper()
	cfg := testConfig("http://127.0.0.1:1")
	if edit != nil {
		edit(&cfg)
	}
	s := make1(t, cfg)
	var e encoder
	e.start(&s.layout, rs)
	body, err := io.ReadAll(&e)
	if err != nil || !e.done() || e.size != len(body) {
		t.Fatalf("%v, done %v, size %d of %d", err, e.done(), e.size, len(body))
	}
	return string(body)
}

func TestEnvelope(t *testing.T) {
	plain := func(c *Config) { c.Track = false }
	for _, c := range []struct {
		name string
		edit func(*Config)
		r    *buffer.Record
		want string
	}{
		{"object", nil, record(7, ` {"a": 1}`),
			`{"time":1700000000.13,"fields":{"kafka_topic":"edr.events","kafka_partition":"3","kafka_offset":"7"},"event": {"a": 1}}`},
		{"untracked", plain, record(7, `{"a":1}`), `{"time":1700000000.13,"event":{"a":1}}`},
		{"line breaks", plain, record(7, "{\n\"a\":1\r\n}"), "{\"time\":1700000000.13,\"event\":{\n\"a\":1\r\n}}"},
		{"all keys", func(c *Config) {
			c.Track = false
			c.Index, c.Source, c.Sourcetype, c.Host = "sec-{topic}", "kafka:{topic}:{partition}", "{kind}", "{host.name}"
		}, record(7, `{"kind":"a\"b","host":{"name":"h"}}`),
			`{"time":1700000000.13,"index":"sec-edr.events","source":"kafka:edr.events:3","sourcetype":"a\"b","host":"h","event":{"kind":"a\"b","host":{"name":"h"}}}`},
		{"missing fields", func(c *Config) { c.Index, c.Host, c.Source, c.Track = "{i}", "{h}", "s", false }, record(7, `{"a":1,"i":null,"h":{}}`),
			`{"time":1700000000.13,"source":"s","event":{"a":1,"i":null,"h":{}}}`},
		{"illegal index", func(c *Config) { c.Index, c.Track = "{i}", false }, record(7, `{"i":"_internal"}`),
			`{"time":1700000000.13,"event":{"i":"_internal"}}`},
		{"control characters", func(c *Config) { c.Host, c.Source, c.Track = "{i}", "{i}", false }, record(7, `{"i":"a\u001b[2Jb"}`),
			`{"time":1700000000.13,"event":{"i":"a\u001b[2Jb"}}`},
		{"no time", nil, &buffer.Record{Origin: testOrigin, Offset: 1, Value: []byte(`x`)},
			`{"fields":{"kafka_topic":"edr.events","kafka_partition":"3","kafka_offset":"1"},"event":"x"}`},
		{"no time, no fields", plain, &buffer.Record{Origin: testOrigin, Value: []byte(`x`)}, `{"event":"x"}`},
		{"text", plain, &buffer.Record{Origin: testOrigin, Value: []byte("<13>a \"b\"\n\\\x00é")}, `{"event":"<13>a \"b\"\n\\\u0000é"}`},
		{"empty object", plain, &buffer.Record{Origin: testOrigin, Value: []byte(`{ }`), Shape: buffer.ShapeObject | buffer.ShapeEmpty}, `{"event":"{ }"}`},
		{"empty", plain, &buffer.Record{Origin: testOrigin, Value: []byte{}}, `{"event":{"event":{"original":""}}}`},
		{"blank", plain, &buffer.Record{Origin: testOrigin, Value: []byte(" \t\u00a0")}, "{\"event\":{\"event\":{\"original\":\" \\t\u00a0\"}}}"},
		{"not UTF-8", plain, &buffer.Record{Origin: testOrigin, Value: []byte("a\xff")}, `{"event":{"event":{"original":"a` + "\uFFFD" + `","original_base64":"Yf8="}}}`},
		{"tombstone", plain, &buffer.Record{Origin: testOrigin}, `{"event":{"event":{"original":null}}}`},
		{"tombstone with key", plain, &buffer.Record{Origin: testOrigin, Key: []byte(`k"`)}, `{"event":{"kafka":{"key":"k\""},"event":{"original":null}}}`},
		{"tombstone with bytes", plain, &buffer.Record{Origin: testOrigin, Key: []byte{0xff}}, `{"event":{"kafka":{"key_base64":"/w=="},"event":{"original":null}}}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := encode(t, c.edit, c.r)
			if got != c.want+"\n" {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			if !json.Valid([]byte(got)) {
				t.Error("not JSON")
			}
		})
	}
}

// A record's keys are its own, whatever was made for the one before it.
func TestKeysAreNotMixedUp(t *testing.T) {
	a, b := &buffer.Origin{Topic: "a"}, &buffer.Origin{Topic: "b", Partition: 1}
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	var rs []*buffer.Record
	for i, o := range []*buffer.Origin{a, a, b, a, b, b} {
		rs = append(rs, &buffer.Record{Origin: o, Offset: int64(i), Time: at.AddDate(0, 0, i/3), Value: []byte("x")})
	}
	for template, want := range map[string]string{
		"{topic}":                   "a a b a b b",
		"x{time:20060102}":          "x20260102 x20260102 x20260102 x20260103 x20260103 x20260103",
		"{topic}-{time:0102}":       "a-0102 a-0102 b-0102 a-0103 b-0103 b-0103",
		"{topic}.{partition}-fixed": "a.0-fixed a.0-fixed b.1-fixed a.0-fixed b.1-fixed b.1-fixed",
	} {
		body := encode(t, func(c *Config) { c.Index = template }, rs...)
		var got []string
		for _, e := range envelopes(t, body) {
			got = append(got, e.Index)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %v, want %s", template, got, want)
		}
	}
}

type envelope struct {
	Time                            json.Number
	Index, Source, Sourcetype, Host string
	Fields                          map[string]string
	Event                           json.RawMessage
}

// envelopes reads a body as strictly as can be.
func envelopes(t *testing.T, body string) (all []envelope) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(body))
	d.DisallowUnknownFields()
	for {
		var e envelope
		err := d.Decode(&e)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil || e.Event == nil {
			t.Fatalf("%v in %.1000q", err, body)
		}
		all = append(all, e)
	}
}

func TestTimeOfAField(t *testing.T) {
	for text, want := range map[string]string{
		`1700000000`:                       "1700000000",
		`1700000000.123456789`:             "1700000000.123456789",
		`1700000000.1234567899`:            "1700000000.123456789", // cut, not rounded into the next
		`1700000000.5000`:                  "1700000000.5",
		`1700000000123`:                    "1700000000.123",
		`1700000000123.456789`:             "1700000000.123456789",
		`1700000000123456`:                 "1700000000.123456",
		`1700000000123456789`:              "1700000000.123456789",
		`"1700000000123456789"`:            "1700000000.123456789",
		`1.700000000123456789E9`:           "1700000000.123456789",
		`1.7e12`:                           "1700000000",
		`17000000001234E-4`:                "1700000000.1234",
		`99999999999`:                      "99999999999",
		`100000000000`:                     "100000000",
		`"2023-11-14T22:13:20Z"`:           "1700000000",
		`"2023-11-14T23:13:20.1+01:00"`:    "1700000000.1",
		`"2023-11-14T22:13:20.123456789Z"`: "1700000000.123456789",
		// None of these is a time: the record's is taken.
		`-1`: "r", `0`: "r", `0.5`: "r", `"x"`: "r", `""`: "r", `null`: "r", `true`: "r", `{}`: "r", `"1e999"`: "r", `1e127`: "r", `1e-100`: "r",
		`"1."`: "r", `".5"`: "r", `"1e"`: "r", `"+5"`: "r", `"1700000000,5"`: "r", `"2023-11-14"`: "r", `"1969-12-31T23:59:59Z"`: "r",
		`"` + strings.Repeat("1", 100) + `"`: "r", `123456789012345678901`: "r", `"NaN"`: "r", `"0x10"`: "r", `"000000e02"`: "r", `"1_000"`: "r",
	} {
		if want == "r" {
			want = "1700000000.123"
		}
		got := encode(t, func(c *Config) { c.Time = "at.t" }, record(0, `{"at":{"t":`+text+`}}`))
		if e := envelopes(t, got)[0]; string(e.Time) != want {
			t.Errorf("%s: %s, want %s", text, e.Time, want)
		}
	}
	got := encode(t, func(c *Config) { c.Time = "t" }, record(0, `{}`), record(1, `{"a":1}`), &buffer.Record{Origin: testOrigin, Time: time.Unix(9, 0), Value: []byte("x")})
	for i, want := range []string{"1700000000.123", "1700000000.124", "9"} {
		if e := envelopes(t, got)[i]; string(e.Time) != want {
			t.Errorf("record %d: %s", i, e.Time)
		}
	}
}

func TestTimeOfARecord(t *testing.T) {
	for _, c := range []struct {
		at   time.Time
		want string
	}{
		{time.Time{}, ""}, {time.Unix(-1, 0), ""}, {time.Unix(math.MaxInt32, 1), "2147483647.000000001"}, {time.Unix(0, 0), "0"},
		{time.UnixMilli(1700000000001), "1700000000.001"}, {time.Unix(1<<60, 0), ""}, {time.Unix(5, 120000000), "5.12"},
	} {
		e := envelopes(t, encode(t, nil, &buffer.Record{Origin: testOrigin, Time: c.at, Value: []byte("x")}))[0]
		if string(e.Time) != c.want {
			t.Errorf("%s: %q, want %q", c.at, e.Time, c.want)
		}
	}
}

// FuzzFraming: whatever a record holds, it is one envelope with our keys, and
// its content is in it.
func FuzzFraming(f *testing.F) {
	smuggle := "\n{\"event\":\"x\",\"index\":\"other\"}\n"
	f.Add([]byte("k"), []byte(`{"a":1}`), "topic", int64(1), int64(1700000000000), uint8(0))
	f.Add([]byte(smuggle), []byte(smuggle), smuggle, int64(-1), int64(1)<<62, uint8(1))
	f.Add([]byte("\xff"), []byte(`{"a":"\",\"index\":\"other\"}"}`), "\"}", int64(0), int64(-1)<<62, uint8(2))
	f.Add([]byte(nil), []byte(nil), "t", int64(0), int64(0), uint8(3))
	f.Add([]byte("k"), []byte(`{"a":{"b":"x\",\"_id\":\"y"}}`), "t", int64(0), int64(0), uint8(4))
	f.Add([]byte("k"), []byte(" \u2028"), "\xff", int64(0), int64(0), uint8(0x87))
	f.Add([]byte("k"), []byte(`{"a":{"b":"1700000000123.5"}}`), "t", int64(0), int64(0), uint8(8))
	f.Fuzz(func(t *testing.T, key, value []byte, topic string, offset, ms int64, how uint8) {
		r := &buffer.Record{
			Origin: &buffer.Origin{Topic: topic, Partition: int32(offset)},
			Offset: offset, Time: time.UnixMilli(ms), Key: key, Value: value,
		}
		if len(value) == 0 && how&0x80 != 0 {
			r.Value = nil
		}
		var members map[string]json.RawMessage
		if json.Unmarshal(value, &members) == nil && members != nil && utf8.Valid(value) {
			r.Shape = buffer.ShapeObject
			if len(members) == 0 {
				r.Shape |= buffer.ShapeEmpty
			}
		}
		body := encode(t, func(c *Config) {
			c.Index = []string{"", "events", "{topic}", "{a.b}"}[how&3]
			c.Host = []string{"", "{a.b}", "{a}", "h{time:15:04}"}[how>>2&3]
			c.Time = []string{"", "a.b"}[how>>4&1]
			c.Track = how&0x40 == 0
		}, r, r)
		all := envelopes(t, body)
		if len(all) != 2 || all[0].Index != all[1].Index {
			t.Fatalf("%d envelopes: %q", len(all), body)
		}
		e := all[0]
		if e.Index != "" && !usable([]byte(e.Index), true) || e.Host != "" && !usable([]byte(e.Host), false) {
			t.Fatalf("index %q, host %q", e.Index, e.Host)
		}
		var text string
		switch {
		case r.Shape == buffer.ShapeObject:
			if string(e.Event) != string(bytes.Trim(value, " \t\r\n")) {
				t.Fatalf("%q became %q", value, e.Event)
			}
		case json.Unmarshal(e.Event, &text) == nil:
			if text != string(value) || strings.TrimSpace(text) == "" {
				t.Fatalf("%q became %q", value, e.Event)
			}
		default:
			var wrapped struct {
				Event struct {
					Original *string `json:"original"`
					Coded    *string `json:"original_base64"`
				} `json:"event"`
			}
			if err := json.Unmarshal(e.Event, &wrapped); err != nil {
				t.Fatal(err)
			}
			got := []byte(nil)
			if o := wrapped.Event.Original; o != nil {
				got = []byte(*o)
			}
			if c := wrapped.Event.Coded; c != nil {
				got, _ = base64.StdEncoding.DecodeString(*c)
			}
			if (r.Value == nil) != (wrapped.Event.Original == nil) || string(got) != string(r.Value) {
				t.Fatalf("%q became %q", r.Value, e.Event)
			}
		}
	})
}

// The body is the same however small the pieces are that it is read in.
func FuzzPieces(f *testing.F) {
	f.Add([]byte("text \xff \""), uint16(1))
	f.Add([]byte(`{"a":1}`), uint16(3))
	f.Fuzz(func(t *testing.T, value []byte, size uint16) {
		r := &buffer.Record{Origin: testOrigin, Value: value}
		whole := encode(t, nil, r, r)
		s := make1(t, testConfig("http://127.0.0.1:1"))
		var e encoder
		e.start(&s.layout, []*buffer.Record{r, r})
		var got []byte
		for p := make([]byte, int(size)%100+1); ; {
			n, err := e.Read(p)
			got = append(got, p[:n]...)
			if errors.Is(err, io.EOF) {
				break
			}
		}
		if string(got) != whole {
			t.Fatalf("%q, want %q", got, whole)
		}
	})
}

// FuzzTime: what is written is a JSON number of seconds, and the same number as
// the text.
func FuzzTime(f *testing.F) {
	for _, s := range []string{"1700000000.123456789", "1.7E9", "2023-11-14T22:13:20.5Z", "00", "000000e02", "1e-5", "", "9e18", strings.Repeat("0", 63)} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		got, ok := appendFieldTime([]byte("x"), text)
		if !ok {
			if string(got) != "x" {
				t.Fatalf("%q leaves %q", text, got)
			}
			return
		}
		var n json.Number
		if err := json.Unmarshal(got[1:], &n); err != nil {
			t.Fatalf("%q: %q: %v", text, got, err)
		}
		seconds, err := n.Float64()
		if err != nil || seconds < 0 || seconds > maxSecond {
			t.Fatalf("%q: %s", text, n)
		}
		if want, err := json.Number(text).Float64(); err == nil {
			for want >= 1e11 {
				want /= 1000
			}
			if math.Abs(want-seconds) > 1e-5*math.Max(1, want/1e9) {
				t.Fatalf("%q: %s, want %f", text, n, want)
			}
		}
	})
}
